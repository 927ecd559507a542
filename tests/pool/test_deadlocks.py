"""The warning of a task that waits for itself, alone: who is warned, when, and with what."""

from __future__ import annotations

import traceback
from types import SimpleNamespace
from typing import Any

import pytest

from fsm_conn.pool.leasing.deadlocks import FRAMES, callers_frames, shown_frames, warn_of_deadlock

ME, YOU = "my task", "another one"


class Pool:
    """What the warning reads of a pool: who holds all its slots, and what could be started."""

    def __init__(self, holder: str = ME, to_come: int = 0, watched: Any = (), warned: Any = None) -> None:
        self.asked: list[float] = []
        self.warned, self.watched = warned, watched
        self.slots = SimpleNamespace(are_held_by=lambda who: who == holder, to_come=self._to_come)
        self.coming = to_come

    def _to_come(self, now: float) -> int:
        self.asked.append(now)
        return self.coming

    def __repr__(self) -> str:
        return "<pool>"


def lease(holder: str = ME, is_held: bool = True, where: Any = "here") -> Any:
    return SimpleNamespace(_holder=holder, is_held=is_held, _where=where and [traceback.FrameSummary("a.py", 7, where)])


@pytest.mark.parametrize(
    ("pool", "warns"),
    [
        (Pool(), True),
        (Pool(holder=YOU), False),
        (Pool(to_come=1), False),
        (Pool(warned=ME), False),
        (Pool(warned=YOU), True),
    ],
)
def test_who_is_warned(pool: Pool, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Who holds all there is, when nothing can be started, and once."""
    before = pool.warned
    for _ in range(2):
        warn_of_deadlock(pool, ME, 5.0)  # type: ignore[arg-type]
    assert (len(caplog.records), pool.warned) == (int(warns), ME if warns else before)
    assert set(pool.asked) <= {5.0}


def test_what_a_warning_says(caplog: pytest.LogCaptureFixture) -> None:
    """Where it waits, and where it got its leases, if that was noted."""
    warn_of_deadlock(Pool(), ME, 5.0)  # type: ignore[arg-type]
    head = (
        "<pool>: this task holds all connections, and waits for one more, perhaps for ever: release one first, or use the "
        "one that it has. It waits at\n"
    )
    text = caplog.messages[0]
    assert text.startswith(head)
    assert "in test_what_a_warning_says\n" in text
    assert text.endswith("PoolPolicy(track_leases=True) tells where it got them")
    caplog.clear()
    leases = [
        lease(),
        lease(where="there"),
        lease(YOU, where="no"),
        lease(is_held=False, where="no"),
        lease(where=None),
    ]
    warn_of_deadlock(Pool(watched=leases), ME, 5.0)  # type: ignore[arg-type]
    shown = [f'it holds one since\n  File "a.py", line 7, in {where}\n' for where in ("here", "there")]
    assert caplog.messages[0].endswith("".join(shown))
    assert '"a.py", line 7, in no' not in caplog.messages[0]


def test_the_last_frames_are_shown() -> None:
    """Those of the application."""
    frames = [traceback.FrameSummary("a.py", number, "f") for number in range(20)]
    assert shown_frames(frames) == "".join(traceback.format_list(frames[-FRAMES:]))
    assert shown_frames(frames[:2]) == "".join(traceback.format_list(frames[:2]))
    assert callers_frames()[-1].name == "test_the_last_frames_are_shown"

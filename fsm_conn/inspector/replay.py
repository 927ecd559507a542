"""Replays a recorded life at any speed, from its beginning or from any moment."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from fsm_conn._util.timing import now
from fsm_conn.inspector.hub import TICK, Hub
from fsm_conn.inspector.subject import Subject, Ways
from fsm_conn.inspector.wire import Entry, shown
from fsm_conn.machine.chart_values import Chart

__all__ = ["FASTEST", "Recorded", "Replay"]

FASTEST = 10_000.0
"""Seconds of the record per second."""
MOST_LIVES = 10_000
"""Machines of one trace that are shown. Any beyond these are counted but not shown, as for those of a process."""
DEPTH = 2000
AT_ONCE = 2000
"""Transitions that are replayed in one go before other tasks run."""


class Recorded(Protocol):
    """A transition, as read from a trace."""

    @property
    def trigger(self) -> str:
        """The trigger that was fired."""

    @property
    def source(self) -> str:
        """The state before."""

    @property
    def dest(self) -> str:
        """The state after."""

    @property
    def internal(self) -> bool:
        """Whether the transition was internal: the state was not left."""

    @property
    def reason(self) -> tuple[str, str] | None:
        """The type and the message of the error that caused it."""

    @property
    def attempt(self) -> int:
        """The number of the attempt in the outage."""

    @property
    def dwell(self) -> float:
        """Seconds spent in the state before."""

    @property
    def at(self) -> float:
        """The time, in seconds."""

    @property
    def connection(self) -> str | None:
        """The name of the connection."""

    @property
    def life(self) -> str | None:
        """Which life of the connection, when there were several."""


class Recording(Subject):
    """One machine of a trace, at the current moment of the replay."""

    kind = "replay"

    def __init__(self, name: str, chart: Chart, hub: Hub, first: Entry, ways: Ways) -> None:
        super().__init__(name, chart, hub, DEPTH, ways)
        self._first = first
        self.forget()

    @property
    def state(self) -> str:
        """The state at this moment."""
        return self._state

    @property
    def since(self) -> float | None:
        """When the state was entered, by the clock of the trace."""
        return self._since

    @property
    def attempt(self) -> int:
        """The number of the attempt in this outage."""
        return self._attempt

    def forget(self) -> None:
        """Go back to before the first transition."""
        super().forget()
        self._state, self._attempt = str(self._first.source), 0
        self._since = self._first.at - self._first.dwell

    def live(self, entry: Entry) -> None:
        """Replay a transition."""
        self._state, self._attempt = entry.dest, entry.attempt
        self._since = entry.at - entry.dwell if entry.internal else entry.at
        self.note(entry)


class Replay:
    """A trace, and the moment of it that is shown.

    Args:
        lines: the transitions.
        chart: their table.
        hub: told of each transition when its time comes.
        speed: seconds of the record per second.

    Raises:
        ValueError: there are no transitions.

    Attributes:
        recordings: the machines of the trace.
        left_out: how many machines are not shown, because there are too many.
    """

    def __init__(self, lines: Iterable[Recorded], chart: Chart, hub: Hub, speed: float = 1.0) -> None:
        self.recordings: list[Recording] = []
        self.left_out = 0
        self._hub = hub
        self._ways: Ways = Counter()
        self._steps = self._read(lines, chart)
        if not self._steps:
            raise ValueError("the trace has no transition")
        self._begin = self._steps[0][0].at - self._steps[0][0].dwell
        self._end = self._steps[-1][0].at
        self._next = 0
        self._at = self._begin
        self._speed = speed
        self._is_paused = False

    def _read(self, lines: Iterable[Recorded], chart: Chart) -> Sequence[tuple[Entry, Recording]]:
        lives: dict[tuple[str | None, str | None], Recording | None] = {}
        steps = []
        for line in lines:
            reason = None if line.reason is None else (shown(line.reason[0]), shown(line.reason[1], 500))
            way = line.trigger, line.source, line.dest, line.internal
            entry = Entry(*way, reason, line.dwell, line.at, line.attempt)
            key = line.connection, line.life
            if key not in lives:
                lives[key] = self._begun(line.connection or chart.name, chart, entry)
            if (recording := lives[key]) is not None:
                steps.append((entry, recording))
        return sorted(steps, key=lambda step: step[0].at)

    def _begun(self, name: str, chart: Chart, first: Entry) -> Recording | None:
        if len(self.recordings) >= MOST_LIVES:
            self.left_out += 1
            return None
        recording = Recording(name, chart, self._hub, first, self._ways)
        self.recordings.append(recording)
        return recording

    def clock(self) -> dict[str, Any]:
        """The position of the replay, for the page."""
        return {
            "now": self._at,
            "begin": self._begin,
            "end": self._end,
            "speed": self._speed,
            "rate": 0.0 if self._is_paused or self._at >= self._end else self._speed,
            "paused": self._is_paused,
        }

    def steer(self, wish: dict[str, Any]) -> str | None:
        """Apply a wish of the page: `paused`, `speed`, or `at`, the share of the record, from 0 to 1.

        Returns:
            what is wrong with the wish; None when it was applied.
        """
        speed, at, paused = wish.get("speed", self._speed), wish.get("at"), wish.get("paused", self._is_paused)
        if not _is_number(speed) or not 0 < speed <= FASTEST:
            return f"the speed must be a number above 0, and {FASTEST:g} at most"
        if not isinstance(paused, bool):
            return "paused must be true or false"
        if at is not None and (not _is_number(at) or not 0 <= at <= 1):
            return "at must be a number from 0 to 1"
        self._speed, self._is_paused = float(speed), paused
        if at is not None:
            self._seek(self._begin + at * (self._end - self._begin))
        return None

    async def run(self) -> None:
        """Let time pass, until cancelled."""
        before = now()
        while True:
            await asyncio.sleep(TICK)
            passed, before = now() - before, now()
            if not self._is_paused:
                self._at = min(self._end, self._at + passed * self._speed)
            self._live_up_to_now(AT_ONCE)

    def _live_up_to_now(self, most: float) -> None:
        last = self._next + most
        while self._next < len(self._steps) and self._steps[self._next][0].at <= self._at and self._next < last:
            entry, recording = self._steps[self._next]
            self._next += 1
            recording.live(entry)

    def _seek(self, at: float) -> None:
        """Start anew, and replay at once what happened before `at`."""
        self._at, self._next = at, 0
        self._ways.clear()
        for recording in self.recordings:
            recording.forget()
        self._live_up_to_now(math.inf)
        for window in self._hub.windows:
            if isinstance(window.looking, Recording):
                window.look_again(window.looking)
            window.changed.update(dict.fromkeys(self.recordings))


def _is_number(value: object) -> bool:
    """Whether it is a number that fits a float; some ints are too large."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf

"""Logs a task that waits for a lease which only the task itself could release: it may wait for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import Iterable
from typing import Any, Protocol

from fsm_conn.pool.users import TaskRef

__all__ = ["callers_frames", "shown_frames", "warn_of_deadlock"]

_log = logging.getLogger("fsm_conn.pool")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_ASYNCIO = os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep
FRAMES = 8
"""Lines of a traceback that are shown."""


def callers_frames() -> list[traceback.FrameSummary]:
    """The stack of the application, without the frames of this package and of asyncio."""
    return [frame for frame in traceback.extract_stack() if not frame.filename.startswith((_PACKAGE, _ASYNCIO))]


def shown_frames(frames: list[traceback.FrameSummary]) -> str:
    """The last frames, formatted as in a traceback."""
    return "".join(traceback.format_list(frames[-FRAMES:]))


class Watching(Protocol):
    """An object that knows the slots, which leases are watched, and which task was warned last."""

    warned: TaskRef | None
    slots: Any

    @property
    def watched(self) -> Iterable[Any]:
        """The watched leases."""


def warn_of_deadlock(leases: Watching, me: TaskRef, now: float) -> None:
    """Log when a task that is about to wait holds all connections, and where it acquired them and waits."""
    if leases.warned == me or not leases.slots.are_held_by(me) or leases.slots.to_come(now):
        return  # each task is warned once
    leases.warned = me
    held = [lease for lease in leases.watched if lease._holder == me and lease.is_held and lease._where]
    since = "".join("it holds one since\n" + shown_frames(lease._where) for lease in held)
    _log.warning(
        "%r: this task holds all connections, and waits for one more, perhaps for ever: release one first, or use the "
        "one that it has. It waits at\n%s%s",
        leases,
        shown_frames(callers_frames()),
        since or "PoolPolicy(track_leases=True) tells where it got them",
    )

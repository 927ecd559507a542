"""Finds user code that runs for ever without awaiting: `while True: pass` in an activity, a guard or an effect.

Meanwhile no timer fires, and the turn of the loop does not end. So a separate thread watches the loops. When one turn
has used too much of its thread's CPU time, an exception is raised in that thread, repeatedly if necessary, and the loop
is told where that was. Code that only waits uses no CPU time, so a debugger may stop it for any time.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import attrs

from fsm_conn.testing.lives.culprits import is_foreign, line_of
from fsm_conn.testing.loops.hurry import Hurry
from fsm_conn.testing.loops.lean import InterruptedTurn, LeanLoop

__all__ = ["watch_over"]

LOOKS = 20
"""How many times within the limit a turn is checked; once interrupted, it is interrupted again as often."""
SOONEST, SELDOM = 0.01, 0.5
"""The least and the most seconds between two checks."""

_limits: WeakKeyDictionary[LeanLoop, float] = WeakKeyDictionary()
_watcher: threading.Thread | None = None


def watch_over(loop: LeanLoop, seconds: float) -> None:
    """Interrupt a turn of the loop that uses more CPU time than `seconds`, until the loop is closed."""
    global _watcher
    _limits[loop] = seconds
    if _watcher is None or not _watcher.is_alive():
        _watcher = threading.Thread(target=_watch, name="fsm_conn.testing: looks for endless turns", daemon=True)
        _watcher.start()


@attrs.define
class _Mark:
    """A turn, and the CPU time that its thread had used when the turn was first seen."""

    turn: tuple[int, int]
    cpu: float


def _watch() -> None:
    marks: WeakKeyDictionary[LeanLoop, _Mark] = WeakKeyDictionary()
    while True:
        pause = SELDOM
        for loop, seconds in list(_limits.items()):
            if loop.is_closed():
                del _limits[loop]
                continue
            limit = seconds * Hurry.share
            pause = min(pause, max(limit / LOOKS, SOONEST))
            _look_at(loop, limit, marks)
        loop = None  # type: ignore[assignment]  # otherwise it would never be released
        if not _limits:
            return
        time.sleep(pause)


def _look_at(loop: LeanLoop, limit: float, marks: Any) -> None:
    turn, mark = (loop._busy, loop.turns), marks.get(loop)
    if not turn[0]:
        marks.pop(loop, None)
        return
    try:
        used = loop._cpu_time()
    except OSError:
        return  # the thread has ended within a turn
    if mark is None or mark.turn != turn:
        marks[loop] = _Mark(turn, used)
    elif used - mark.cpu >= limit:
        mark.cpu += limit / LOOKS
        # Not before: each look at the frames of a thread that runs is a risk, and it costs that thread its turn.
        if place := _place(sys._current_frames().get(loop._thread)):
            _interrupt(loop, turn, f"{place} goes on and on and awaits nothing, so nothing else can run")


def _interrupt(loop: LeanLoop, turn: tuple[int, int], told: str) -> None:
    """Raise in the loop's thread, unless the turn has ended.

    Another turn must never be interrupted. The interpreter changes threads only when a function begins, a loop jumps
    back or a call has returned. So between the check and `PyThreadState_SetAsyncExc` nothing may be called; then the
    exception is raised as soon as the loop's thread goes on, and that is within the turn. From Python 3.13 on, it is
    raised at the next such place, so the loop begins no other turn before.
    """
    busy, number = turn
    thread, interrupted = ctypes.c_ulong(loop._thread), ctypes.py_object(InterruptedTurn)
    interrupt = ctypes.pythonapi.PyThreadState_SetAsyncExc
    usual, is_first = sys.unraisablehook, not loop._endless
    told = loop._endless or told
    if is_first:
        loop._unraisable, sys.unraisablehook = usual, _but_interruptions(usual)
    if loop._busy == busy and loop.turns == number:
        loop._endless = told
        interrupt(thread, interrupted)
    elif is_first:
        sys.unraisablehook = usual


def _but_interruptions(usual: Callable[[Any], object]) -> Callable[[Any], object]:
    """A finalizer that is interrupted is part of what runs for ever, which is told in the end."""

    def tell(about: Any) -> None:
        if about.exc_type is not InterruptedTurn:
            usual(about)

    return tell


def _place(frame: Any) -> str:
    """The innermost running function of the user's, with its file, line and source text."""
    while frame is not None:
        if is_foreign(frame.f_code):
            return f"{frame.f_code.co_qualname}(), {line_of(frame.f_code, frame.f_lineno)},"
        frame = frame.f_back
    return ""

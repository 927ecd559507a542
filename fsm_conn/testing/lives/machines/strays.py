"""What user code starts beside the activities: tasks whose errors nobody reads, and those that speak too late.

A task that an activity has started belongs to that visit. If it goes on after the state was left, its trigger is meant
for a visit that is over, and when the same state was entered again meanwhile, nothing refuses it. The same holds for a
timer that an effect has set as the state was entered. But such a timer may be meant for more than one visit, a deadline
of the whole life for instance. So it is late only when the later visit has set the same timer again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary, ref

from fsm_conn.machine.activity import acting_for
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.lives.culprits import blamed, is_foreign, place, where_defined
from fsm_conn.testing.lives.moments.freezing import closed_over_by, is_set_by_user
from fsm_conn.testing.lives.moments.reading import user_functions
from fsm_conn.testing.loops.lean import LeanLoop

__all__ = ["LateSpeech", "has_own_code", "read_all", "unread_error", "whose_error"]

_RUNS = LeanLoop._run_ready.__qualname__, LeanLoop._run_ready.__code__.co_filename
"""Runs the callbacks of a loop, each of which is `handle` there. By name: what counts lines may exchange the code."""
_has_own_code: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


def has_own_code(owner: type) -> bool:
    """Whether a class has functions of the user's own."""
    found = _has_own_code.get(owner)
    if found is None:
        found = _has_own_code[owner] = any(user_functions(owner))
    return found


class _SetTimer:
    """A timer of the user's.

    Attributes:
        visit: the visit that it was set for; None when it was not set as a state was entered.
        does: what it does, by equality: a function, whose it is, what it closes over, and its arguments.
    """

    def __init__(self, timer: Any, visit: int | None) -> None:
        self.timer, self.visit = timer, visit
        self.does = _does(timer._callback, timer._args)

    @property
    def is_set(self) -> bool:
        """Whether it is still to come."""
        return bool(self.timer._scheduled) and not self.timer.cancelled()


def _does(callback: Any, args: Any) -> Any:
    if isinstance(callback, partial):
        return _does(callback.func, (callback.args, callback.keywords, args))
    closed_over = [id(closed_over_by(cell)) for cell in getattr(callback, "__closure__", None) or ()]
    return getattr(callback, "__code__", callback), id(getattr(callback, "__self__", None)), closed_over, args


class LateSpeech:
    """Listens to a machine for triggers that a task or timer of an earlier visit to the same state fires.

    Args:
        machine: the machine.

    Attributes:
        told: what was heard first; None when nothing was.
    """

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self._states: dict[int | None, str] = {machine.visit: machine.state}
        self._timers: dict[int, _SetTimer] = {}
        self._new: list[ref[asyncio.TimerHandle]] | None = None
        self.told: str | None = None
        machine.on_transition(self._heard)

    def remembered(self, now: float) -> Any:
        """What matters later: the timers that are set, each with the state, and whether it is the present visit's."""
        machine = self._machine
        remembered = (
            (round(each.timer.when() - now, 6), self._states.get(each.visit, ""), each.visit == machine.visit)
            for each in self._timers.values()
            if each.is_set and each.visit is not None
        )
        return tuple(sorted(remembered))

    def _heard(self, record: TransitionRecord) -> None:
        machine = self._machine
        if not record.internal:
            self._states[machine.visit] = record.dest
        if self.told is None:
            self.told = self._told(record)
        self._note_timers(None if record.internal else machine.visit)

    def _told(self, record: TransitionRecord) -> str | None:
        machine, state = self._machine, str(record.source)
        present = machine.visit - (not record.internal)
        visit = acting_for(machine._fsm_context)
        if visit is not None and visit != present and state == self._states.get(visit):
            where = _foreign_line() or where_defined(getattr(type(machine), machine.lifecycle.activities[state], None))
            return (
                f"{str(record.trigger)!r} was fired by what an earlier visit to {state!r} had started"
                f"{where and ', '}{where}, and ended this visit, too; end it with its activity, by "
                "'async with asyncio.TaskGroup()' or in a 'finally'"
            )
        if record.internal or not self._timers:
            return None
        mine = self._timers.get(id(_running_timer()))
        if mine is None or mine.visit in (None, present) or state != self._states.get(mine.visit):
            return None
        if not any(each.visit == present and each.does == mine.does and each.is_set for each in self._timers.values()):
            return None
        where = _foreign_line()
        return (
            f"{str(record.trigger)!r} was fired by a timer that was set when {state!r} was entered for an earlier visit"
            f"{where and ', '}{where}, and ended this visit, which has its own; cancel the timer when the state is left"
        )

    def _note_timers(self, visit: int | None) -> None:
        """Those that were set since the last transition were set for this visit, as its state was entered."""
        timers = self._new_timers()
        if not timers and not self._timers:
            return
        now = asyncio.get_running_loop().time()
        self._timers = {key: each for key, each in self._timers.items() if each.is_set or each.timer.when() >= now}
        for timer in timers:
            if timer._scheduled and not timer.cancelled() and is_set_by_user(timer._callback):
                self._timers[id(timer)] = _SetTimer(timer, visit)

    def _new_timers(self) -> list[Any]:
        """Those that were set since it was asked before. To look through all of them each time would take the longest
        where attempts follow one another in no time, for each leaves the timer of its limit behind.
        """
        loop: Any = asyncio.get_running_loop()
        if self._new is None:
            self._new = []
            loop.told_of_timers.append(self._new)
            return [*loop._scheduled]
        timers = [timer for each in self._new if (timer := each()) is not None]
        self._new.clear()
        return timers


def _runs_callbacks(code: CodeType) -> bool:
    return (code.co_qualname, code.co_filename) == _RUNS


def _foreign_line() -> str:
    """The innermost line of the user's own code that the loop runs; empty when there is none."""
    frame: Any = sys._getframe(1)
    while frame is not None and not _runs_callbacks(frame.f_code):
        if is_foreign(frame.f_code):
            return place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


def _running_timer() -> Any:
    """The callback that the loop runs."""
    frame: Any = sys._getframe(1)
    while frame is not None and not _runs_callbacks(frame.f_code):
        frame = frame.f_back
    return None if frame is None else frame.f_locals["handle"]


def whose_error(machine: Any, future: Any, error: BaseException) -> str:
    """The function of the user's that an unread error comes from, with its file and line; empty if there is none."""
    code = getattr(getattr(future, "get_coro", lambda: None)(), "cr_code", None)
    named = (
        ""
        if code is None or not is_foreign(code)
        else f"{code.co_qualname}(), {place(code.co_filename, code.co_firstlineno)},"
    )
    return blamed(machine, error) or named


def unread_error(machine: Any, loop: LeanLoop) -> tuple[str, BaseException] | None:
    """Whose error nobody has read until the end, and the error; None when there is none."""
    for future in (*loop.unread(), *_unread_in(vars(machine).values())):
        error = future.exception()
        whose = whose_error(machine, future, error) if isinstance(error, Exception) else ""
        if error is not None and whose:
            return whose, error
    return None


def read_all(machine: Any, loop: LeanLoop) -> None:
    """Read the errors that are left, so that the next life is not told of them."""
    for future in (*loop.unread(), *_unread_in(vars(machine).values())):
        future.exception()


def _unread_in(values: Iterable[Any]) -> Iterator[asyncio.Future[Any]]:
    """The futures among attributes, or in lists of them, which have ended with an error that nobody has read."""
    for value in values:
        for each in value if type(value) in (list, set, tuple) else (value,):
            if isinstance(each, asyncio.Future) and each._log_traceback:
                yield each

"""What user code starts beside the activities: tasks whose errors nobody reads, and those that speak too late.

A task that an activity has started belongs to that visit. If it goes on after the state was left, its trigger is meant
for a visit that is over, and when the same state was entered again meanwhile, nothing refuses it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from fsm_conn.machine.activity import acting_for
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.lives.culprits import blamed, is_foreign, place, where_defined
from fsm_conn.testing.lives.moments.fingerprint import user_functions
from fsm_conn.testing.loops.lean import LeanLoop

__all__ = ["LateSpeech", "has_own_code", "read_all", "unread_error", "whose_error"]

_has_own_code: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


def has_own_code(owner: type) -> bool:
    """Whether a class has functions of the user's own."""
    found = _has_own_code.get(owner)
    if found is None:
        found = _has_own_code[owner] = any(user_functions(owner))
    return found


class LateSpeech:
    """Listens to a machine for triggers that a task or timer of an earlier visit to the same state fires.

    Args:
        machine: the machine.

    Attributes:
        told: what was heard first; None when nothing was.
    """

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self._states = {machine.visit: machine.state}
        self.told: str | None = None
        machine.on_transition(self._heard)

    def _heard(self, record: TransitionRecord) -> None:
        machine = self._machine
        if not record.internal:
            self._states[machine.visit] = record.dest
        visit, state = acting_for(machine._fsm_context), record.source
        if visit is None or self.told is not None:
            return
        if state == self._states.get(visit) and visit != machine.visit - (not record.internal):
            where = _foreign_line() or where_defined(getattr(type(machine), machine.lifecycle.activities[state], None))
            self.told = (
                f"{str(record.trigger)!r} was fired by what an earlier visit to {str(state)!r} had started"
                f"{where and ', '}{where}, and ended this visit, too; end it with its activity, by "
                "'async with asyncio.TaskGroup()' or in a 'finally'"
            )


def _foreign_line() -> str:
    """The innermost line of the user's own code that runs; empty when there is none."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if is_foreign(frame.f_code):
            return place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


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

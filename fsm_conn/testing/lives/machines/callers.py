"""Callers of a machine's async methods, who may be cancelled at any moment.

They wait for a state, or call an async method of the class's own that needs no arguments. A cancelled caller must end,
and no other caller may be told of a cancellation. A method that raises an unexpected error has a bug.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

import attrs

from fsm_conn.machine.errors import is_expected
from fsm_conn.machine.machine import StateMachine
from fsm_conn.testing.lives.checks import AT_REST, Finding, invariant
from fsm_conn.testing.lives.culprits import blamed, is_foreign, where_defined
from fsm_conn.testing.lives.evidence import Evidence

__all__ = ["MOST_CALLERS", "Caller", "Callers", "cancelled_callers_go", "methods_of"]

MOST_CALLERS = 4
"""The most callers at a time."""


@attrs.define(eq=False)
class Caller:
    """A caller that awaits a method."""

    method: str
    task: asyncio.Task[Any]
    states: tuple[str, ...] = ()
    """The states that the caller waits for."""
    cancelled: bool = False


class Callers:
    """The callers of a life's machine.

    Attributes:
        waiting: the callers, oldest first.
    """

    def __init__(self, life: Evidence) -> None:
        self._life = life
        self.waiting: list[Caller] = []

    def call(self, method: str, function: Callable[[], Coroutine[Any, Any, Any]], states: tuple[str, ...] = ()) -> None:
        """Add a caller, unless there are enough."""
        if len(self.waiting) < MOST_CALLERS:
            task = self._life.loop.create_task(function(), name=f"caller of {method}")
            self.waiting.append(Caller(method, task, states))

    def cancel(self, number: int) -> None:
        """Cancel the caller with that number."""
        if number < len(self.waiting):
            self.waiting[number].cancelled = True
            self.waiting[number].task.cancel()

    def ended(self) -> Finding | None:
        """Remove the callers that have ended. Return the first thing that is wrong with one of them."""
        done = [each for each in self.waiting if each.task.done()]
        if not done:
            return None
        self.waiting = [each for each in self.waiting if not each.task.done()]
        return next(filter(None, [self._wrong(each) for each in done]), None)

    def _wrong(self, caller: Caller) -> Finding | None:
        if caller.task.cancelled():
            told = f"{self._named(caller)} was cancelled, and nobody had cancelled it"
            return None if caller.cancelled else Finding("cancellation_is_honest", told)
        error = caller.task.exception()
        if error is None:
            state = caller.task.result()
            lie = caller.states and state not in caller.states
            return Finding("cancellation_is_honest", f"{self._named(caller)} returned {state!r}") if lie else None
        if is_expected(error):
            return None
        whose = blamed(self._life.machine, error) or self._named(caller)
        return Finding("faults_have_a_cause", f"{whose} has a bug: {error!r}", error)

    def _named(self, caller: Caller) -> str:
        where = where_defined(getattr(type(self._life.machine), caller.method, None)) if not caller.states else ""
        return f"{caller.method}()" + (f", {where}," if where else "")

    def still_there(self) -> str | None:
        """The first caller that was cancelled and did not end."""
        caller = next((each for each in self.waiting if each.cancelled), None)
        if caller is None:
            return None
        return f"{self._named(caller)} was cancelled, and goes on; let CancelledError pass in it"

    def fingerprint(self) -> Any:
        """The waiting callers, for the fingerprint."""
        return tuple((each.method, each.states, each.cancelled) for each in self.waiting)


@invariant(AT_REST)
def cancelled_callers_go(life: Any) -> str | None:
    """A caller of an async method that was cancelled is gone, unless it cleans up for a time."""
    callers: Callers = life.callers
    return callers.still_there() if callers.waiting and life.next_timer() is None else None


def methods_of(owner: type[StateMachine]) -> tuple[str, ...]:
    """The async methods of the class's own that callers may use and that need no arguments."""
    found = _methods.get(owner)
    if found is None:
        not_for_callers = {*dir(StateMachine), *owner.lifecycle.activities.values()}
        names = [name for name in dir(owner) if not name.startswith("_") and name not in not_for_callers]
        found = _methods[owner] = tuple(name for name in names if _is_called_so(getattr(owner, name)))
    return found


_methods: WeakKeyDictionary[type[StateMachine], tuple[str, ...]] = WeakKeyDictionary()


def _is_called_so(function: Any) -> bool:
    if not inspect.iscoroutinefunction(function) or not is_foreign(function.__code__):
        return False
    parameters = list(inspect.signature(function).parameters.values())[1:]
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(each.default is not each.empty or each.kind in optional for each in parameters)

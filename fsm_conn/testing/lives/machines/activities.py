"""What the activities of a machine may do: which triggers they fire, and which come from outside; and how they are
simulated, so that each ends in every way that it can.
"""

from __future__ import annotations

import asyncio
import inspect
import types
import typing
from collections.abc import Callable, Coroutine
from typing import Any

from fsm_conn.checks.returns import returned_texts
from fsm_conn.machine.chart import fired_by
from fsm_conn.machine.table import FAULT
from fsm_conn.testing.lives.evidence import Evidence
from fsm_conn.testing.lives.machine_rules import SIMULATED_BUG

__all__ = ["Role", "Roles", "SimulatedActivities", "SimulatedBugError", "SimulatedError"]

LINGERING = 2.0
"""Seconds that an activity goes on after its cancellation, once it lingers."""


class SimulatedError(OSError):
    """An error of the world outside, raised in place of an activity."""


class SimulatedBugError(RuntimeError):
    """A bug, raised in place of an activity."""


class Role:
    """What one activity says of itself.

    Attributes:
        fires: the triggers that it may return; None when nothing tells.
        may_return_none: whether it may end without one; None when nothing tells.
    """

    def __init__(self, function: Any, handled: frozenset[str]) -> None:
        fires = fired_by(function)
        if fires is None:
            texts = tuple(each for each in returned_texts(function) if each in handled)
            fires = texts or None
        self.fires = fires
        self.may_return_none = _may_return_none(function, fires)


def _may_return_none(function: Any, fires: tuple[str, ...] | None) -> bool | None:
    """What the annotation says; without one, nothing is known."""
    try:
        hint = typing.get_type_hints(function).get("return", inspect.Parameter.empty)
    except (NameError, TypeError, AttributeError):
        return None
    if hint is inspect.Parameter.empty or hint is Any or hint is object:
        return None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return type(None) in typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return None in typing.get_args(hint)
    return hint in (None, type(None))


class Roles:
    """Who fires what, by the table and by what the activities say.

    Attributes:
        triggers: all triggers of the table.
        of: the role of each state's activity.
        internal: triggers that activities, errors or timeouts fire.
    """

    def __init__(self, evidence: Evidence) -> None:
        owner, table = type(evidence.machine), evidence.machine.lifecycle
        self._table = table
        handled = {str(state): frozenset(table.allowed(state)) for state in table.states}
        self.triggers = tuple(sorted(set().union(*handled.values())))
        self.of = {
            str(state): Role(getattr(owner, name), handled[str(state)]) for state, name in table.activities.items()
        }
        internal = {FAULT} if self.of else set()
        self._inside: dict[str, set[str]] = {}
        for name, state in table.states.items():
            mine = self._inside[str(name)] = {FAULT} if self.of else set()
            if str(name) in self.of:
                mine |= {str(state.on_error), *(self.of[str(name)].fires or ())}
            on_timeout = getattr(state, "on_timeout", None)
            if on_timeout is not None:
                mine.add(str(on_timeout))
            internal |= mine
        self.internal = frozenset(internal)
        self._outside = {state: tuple(sorted(triggers - self._inside[state])) for state, triggers in handled.items()}
        self.leading_out = {
            str(state): tuple(
                sorted(trigger for trigger in handled[str(state)] if self._leads_out(str(state), trigger))
            )
            for state in table.states
        }

    def from_outside(self, state: str) -> tuple[str, ...]:
        """The triggers which that state handles, and which neither its activity nor its time limit fires."""
        return self._outside.get(state, ())

    def _leads_out(self, state: str, trigger: str) -> bool:
        return any(
            str(row.trigger) == trigger
            and row.dest not in (None, state)
            and state in map(str, row.sources(self._table.states))
            for row in self._table.transitions
        )


class SimulatedActivities:
    """The activities of one machine, in place of its own.

    Attributes:
        lingering: whether they go on for a while after they were cancelled.
    """

    def __init__(self, machine: Any, roles: Roles) -> None:
        self._machine = machine
        self._roles = roles
        self._pending: list[tuple[str, asyncio.Future[str | None]]] = []
        self.lingering = False
        for state, name in machine.lifecycle.activities.items():
            vars(machine)[name] = self._simulated(str(state))

    @property
    def running(self) -> bool:
        """Whether one waits to be told how to end."""
        return any(not future.done() for _, future in self._pending)

    def outcomes(self) -> list[str | None]:
        """What the one that runs may return."""
        state = self._pending[-1][0]
        role = self._roles.of[state]
        fires: list[str | None] = list(role.fires if role.fires is not None else self._machine.lifecycle.allowed(state))
        return [*fires, None] if role.may_return_none else fires

    def end(self, trigger: str | None) -> None:
        """Have the one that runs return that."""
        if self.running:
            self._pending[-1][1].set_result(trigger)

    def fail(self, kind: str) -> None:
        """Have the one that runs raise an `error` of the world, or a `bug`."""
        if self.running:
            bug = SimulatedBugError(f"{SIMULATED_BUG} activity")
            self._pending[-1][1].set_exception(bug if kind == "bug" else SimulatedError("the simulated world refused"))

    def fingerprint(self) -> Any:
        """What is pending."""
        return tuple((state, future.done()) for state, future in self._pending), self.lingering

    def _simulated(self, state: str) -> Callable[[], Coroutine[Any, Any, Any]]:
        async def activity() -> Any:
            pending = state, asyncio.get_running_loop().create_future()
            self._pending.append(pending)
            try:
                return await pending[1]
            except asyncio.CancelledError:
                if self.lingering:
                    await asyncio.sleep(LINGERING)
                raise
            finally:
                self._pending.remove(pending)

        return activity

"""The activities of a machine: which triggers they fire and which come from outside. Also simulates them, so that each
ends in every possible way.
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
"""Seconds for which a lingering activity continues after its cancellation."""
MOST_FAILURES = 1000
"""Failures at one time after which they count as endless."""
PAUSE = 1.0
"""Seconds after which an activity that waits fails on its own."""
_WAITS = frozenset({"sleep", "wait", "wait_for", "timeout", "timeout_at", "call_later", "call_at"})


class SimulatedError(OSError):
    """An error of the outside world, raised in place of an activity."""


class SimulatedBugError(RuntimeError):
    """A bug, raised in place of an activity."""


class Role:
    """What one activity declares.

    Attributes:
        fires: the triggers that it may return; None when that is unknown.
        may_return_none: whether it may end without a trigger; None when that is unknown.
        waits: whether it, or a method that it calls, lets time pass.
    """

    def __init__(self, owner: type, function: Any, handled: frozenset[str]) -> None:
        fires = fired_by(function)
        if fires is None:
            texts = tuple(each for each in returned_texts(function) if each in handled)
            fires = texts or None
        self.fires = fires
        self.may_return_none = _may_return_none(function, fires)
        self.waits = _waits(owner, function, set())


def _waits(owner: type, function: Any, known: set[Any]) -> bool:
    code = getattr(function, "__code__", None)
    if code is None or code in known:
        return code is None
    known.add(code)
    if not _WAITS.isdisjoint(code.co_names):
        return True
    called = [getattr(owner, name, None) for name in code.co_names]
    return any(_waits(owner, each, known) for each in called if inspect.isfunction(each))


def _may_return_none(function: Any, fires: tuple[str, ...] | None) -> bool | None:
    """Whether the annotation permits None; None without an annotation."""
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
    """The sources of triggers, according to the table and the declarations of the activities.

    Attributes:
        triggers: all triggers of the table.
        of: the role of each state's activity.
        internal: triggers that activities, errors or timeouts fire.
        retrying: states whose errors may lead to a state with an activity, such as the same one.
    """

    def __init__(self, evidence: Evidence) -> None:
        owner, table = type(evidence.machine), evidence.machine.lifecycle
        self._table = table
        handled = {str(state): frozenset(table.allowed(state)) for state in table.states}
        self.triggers = tuple(sorted(set().union(*handled.values())))
        self.of = {
            str(state): Role(owner, getattr(owner, name), handled[str(state)])
            for state, name in table.activities.items()
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

        self.retrying = frozenset(
            state
            for state in self.of
            for row in table.transitions
            if str(row.trigger) == str(table.states[state].on_error)
            and state in map(str, row.sources(table.states))
            and row.dest is not None
            and str(row.dest) in self.of
        )

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
    """Simulated activities that replace those of one machine.

    Attributes:
        lingering: whether they continue for a while after they were cancelled.
        is_refusing: whether they fail on their own from now on.
        spinning: the state whose activity fails repeatedly while no time passes; empty if there is none.
    """

    def __init__(self, machine: Any, roles: Roles) -> None:
        self._machine = machine
        self._roles = roles
        self._pending: list[tuple[str, asyncio.Future[str | None]]] = []
        self.lingering = self.is_refusing = False
        self.spinning = ""
        self._failed_at, self._failures = -1.0, 0
        for state, name in machine.lifecycle.activities.items():
            vars(machine)[name] = self._simulated(str(state))

    @property
    def running(self) -> bool:
        """Whether an activity waits to be told how to end."""
        return any(not future.done() for _, future in self._pending)

    @property
    def may_spin(self) -> bool:
        """Whether failures on their own could reveal anything."""
        return not self.is_refusing and self.running and self._pending[-1][0] in self._roles.retrying

    def outcomes(self) -> list[str | None]:
        """The results that the running activity may return."""
        state = self._pending[-1][0]
        role = self._roles.of[state]
        fires: list[str | None] = list(role.fires if role.fires is not None else self._machine.lifecycle.allowed(state))
        return [*fires, None] if role.may_return_none else fires

    def end(self, trigger: str | None) -> None:
        """Make the running activity return that trigger, or None."""
        if self.running:
            self._pending[-1][1].set_result(trigger)

    def fail(self, kind: str) -> None:
        """Make the running activity raise an `error` of the outside world, or a `bug`."""
        if self.running:
            bug = SimulatedBugError(f"{SIMULATED_BUG} activity")
            self._pending[-1][1].set_exception(bug if kind == "bug" else SimulatedError("the simulated world refused"))

    def refuse(self) -> None:
        """From now on activities fail on their own, the running one included."""
        self.is_refusing = True
        self.fail("error")

    def fingerprint(self) -> Any:
        """The pending outcome, for the fingerprint."""
        return tuple((state, future.done()) for state, future in self._pending), self.lingering, self.is_refusing

    def _simulated(self, state: str) -> Callable[[], Coroutine[Any, Any, Any]]:
        async def activity() -> Any:
            pending = state, asyncio.get_running_loop().create_future()
            self._pending.append(pending)
            try:
                if self.is_refusing and not self.spinning:
                    await self._fail_by_itself(state)
                return await pending[1]
            except asyncio.CancelledError:
                if self.lingering:
                    await asyncio.sleep(LINGERING)
                raise
            finally:
                self._pending.remove(pending)

        return activity

    async def _fail_by_itself(self, state: str) -> None:
        now = asyncio.get_running_loop().time()
        self._failures = self._failures + 1 if now == self._failed_at else 1
        self._failed_at = now
        if self._failures > MOST_FAILURES:
            self.spinning = state
            return
        if self._roles.of[state].waits:
            await asyncio.sleep(PAUSE)
        raise SimulatedError("the simulated world refused")

"""Rules of progress: a machine must not be stuck in a state that is not meant to last."""

from __future__ import annotations

from typing import Any

from fsm_conn.testing.lives.checks import AT_REST, invariant
from fsm_conn.testing.lives.culprits import is_foreign, where_defined
from fsm_conn.testing.lives.evidence import Evidence, activity_in
from fsm_conn.testing.lives.machines.activities import Roles
from fsm_conn.testing.virtual import waiting_place

__all__ = ["failures_let_time_pass", "nobody_waits_in_vain", "something_follows"]


@invariant(AT_REST)
def something_follows(life: Evidence) -> str | None:
    """An activity fires what it says, and where only its activity leads out of a state, it ends at some time."""
    machine, state = life.machine, life.state
    table = machine.lifecycle
    if life.ended or machine._fsm_is_closed or table.states[state].final or state not in table.activities:
        return None
    roles = life.part(Roles)
    if activity_in(life) is None:
        return _returned_nothing(life, roles, state)
    if getattr(life, "activities", None) is not None or life.next_timer() is not None:
        return None  # a simulated activity ends when a step tells it to
    if any(trigger not in roles.internal for trigger in roles.leading_out[state]):
        return None
    place = waiting_place(life.loop, f".{table.activities[state]}", is_foreign)
    return (
        f"{_named(machine, state)} waits for ever at {place}, and nothing else leads out of {state!r}; set a limit "
        f"there, or give the state a timeout"
    )


@invariant(AT_REST)
def failures_let_time_pass(life: Evidence) -> str | None:
    """An activity whose world refuses at once is not begun again for ever while no time passes."""
    activities = getattr(life, "activities", None)
    if activities is None or not activities.spinning:
        return None
    return (
        f"{_named(life.machine, activities.spinning)} fails at once, and begins again and again while no time passes; "
        "count attempts in a guard, or wait in a state, or in the activity, before the next one"
    )


@invariant(AT_REST)
def nobody_waits_in_vain(life: Evidence) -> str | None:
    """No method of the class's own waits, without a limit, for a state to which no way leads any more."""
    machine, callers = life.machine, getattr(life, "callers", None)
    if callers is None or not machine._fsm_waiters or life.ended or life.next_timer() is not None:
        return None
    for caller in callers.waiting:
        states = None if caller.states else machine._fsm_waiters.get(caller.task._fut_waiter)
        if states and _ahead(machine.lifecycle, life.state).isdisjoint(map(str, states)):
            where = where_defined(getattr(type(machine), caller.method, None))
            named = " or ".join(repr(str(each)) for each in states)
            return (
                f"{caller.method}(), {where}, waits for {named}, and no way leads there from {life.state!r}; "
                "wait for every state in which it may end"
            )
    return None


def _ahead(table: Any, state: str) -> set[str]:
    """The states to which any way leads."""
    found, todo = set[str](), [state]
    while todo:
        source = todo.pop()
        rows = (row for row in table.transitions if row.dest is not None)
        dests = {str(row.dest) for row in rows if source in map(str, row.sources(table.states))}
        todo += dests - found
        found |= dests
    return found


def _returned_nothing(life: Evidence, roles: Roles, state: str) -> str | None:
    """The activity of the present visit has ended, and its result has changed nothing."""
    role = roles.of[state]
    if not life.records and life.machine._fsm_since is None:
        return None  # it has not begun
    last = life.records[-1] if life.records else None
    if last is not None and last.internal and str(last.trigger) in roles.internal:
        return None
    if role.may_return_none is False:
        fires = ", ".join(map(repr, role.fires or ())) or "a trigger"
        return f"{_named(life.machine, state)} returned None, and its annotation says that it fires {fires}"
    if life.next_timer() is not None or any(trigger not in roles.internal for trigger in roles.leading_out[state]):
        return None
    return (
        f"{_named(life.machine, state)} returned None, and nothing else leads out of {state!r}; return a trigger, "
        "or declare the state with final=True"
    )


def _named(machine: Any, state: str) -> str:
    name = machine.lifecycle.activities[state]
    return f"{name}(), {where_defined(getattr(type(machine), name, None))},"

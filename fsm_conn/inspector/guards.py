"""Predicts what each trigger would do if it were fired now: the results of the guards, and the row that would be taken.

Guards only read, so they can be called at any time. A guard that needs data of the trigger cannot be called before the
trigger is fired. When a guard raises, its error is shown.
"""

from __future__ import annotations

from typing import Any

from fsm_conn.inspector.wire import reason_of, shown
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.signature import Takes, takes
from fsm_conn.machine.table import Transition

__all__ = ["verdicts"]


def verdicts(machine: StateMachine) -> list[dict[str, Any]]:
    """For each trigger that the present state handles: its rows, their guards, and the row that would be taken."""
    table, state = machine.lifecycle, machine.state
    asked: dict[str, dict[str, Any]] = {}
    found = []
    for trigger in table.allowed(state):
        rows = [
            (place, [_answer(machine, name, asked) for name in row.guards])
            for place, row in zip(table.places(state, trigger), table.rows(state, trigger), strict=True)
        ]
        found.append(
            {
                "trigger": shown(trigger),
                "rows": [{"row": place, "guards": guards} for place, guards in rows],
                "taken": _taken(rows),
                "needs": sorted({shown(name) for row in table.rows(state, trigger) for name in _needs(machine, row)}),
            }
        )
    return found


def _taken(rows: list[tuple[int, list[dict[str, Any]]]]) -> int | None:
    """The row that would be taken; None when that depends on a guard that cannot be called now."""
    for place, guards in rows:
        refused = False
        for guard in guards:  # in order: once a guard says no, those after it are not called
            if guard["says"] is False:
                refused = True
                break
            if guard["says"] is None:
                return None
        if not refused:
            return place
    return None


def _answer(machine: StateMachine, name: str, asked: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if name not in asked:
        asked[name] = {"guard": shown(name), **_asked(machine, name)}
    return asked[name]


def _asked(machine: StateMachine, name: str) -> dict[str, Any]:
    how = takes(type(machine), name)
    if how is None or how.needed:
        needed = () if how is None else how.needed
        return {"says": None, "why": f"needs {', '.join(map(shown, needed)) or 'what is not known'}"}
    try:
        return {"says": bool(_call(machine, name, how)), "why": None}
    except Exception as error:
        return {"says": None, "why": "raises " + ": ".join(reason_of(error))}


def _call(machine: StateMachine, name: str, how: Takes) -> Any:
    """Call it without a reason and without data."""
    if not how.reason:
        return getattr(machine, name)()
    by_name = how.reason.partition("=")[0]
    return getattr(machine, name)(None) if by_name == how.reason else getattr(machine, name)(**{by_name: None})


def _needs(machine: StateMachine, row: Transition) -> set[str]:
    """The trigger's data that the row's guards and effects need."""
    states = machine.lifecycle.states
    names = [*row.guards, *row.effects]
    if row.dest is not None:
        names += [*states[machine.state].exit, *states[row.dest].entry]
    known = [takes(type(machine), name) for name in names]
    return {each for how in known if how is not None for each in how.needed}

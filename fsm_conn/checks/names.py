"""Checks of names: those of a plain machine that stand for nothing, and those of ours that miss what they stand for.

`transitions` looks its callbacks up when they are called, and its states when they are entered; a class of ours is
refused when it is made. All that is known about the inside of `transitions` here stands in `_callbacks`.
"""

from __future__ import annotations

import difflib
import dis
import importlib
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from transitions import Machine

from fsm_conn._util.hints import did_you_mean
from fsm_conn.checks.answers import never_answers
from fsm_conn.checks.reach import names_in
from fsm_conn.checks.subject import Problem, Subject, quoted, shown

__all__ = [
    "callbacks_nearly_named",
    "guards_without_answer",
    "time_limits_unset",
    "unknown_states",
    "unresolved_callbacks",
]

_OF_MACHINES = (
    "prepare_event",
    "before_state_change",
    "after_state_change",
    "finalize_event",
    "on_exception",
    "on_final",
)
_OF_STATES = ("on_enter", "on_exit", "on_timeout", "on_final")
_OF_ROWS = ("prepare", "before", "after")
NEAR = 0.8
"""How much of two names must agree, by difflib's measure, for one to be taken for a slip in writing the other."""


def unresolved_callbacks(subject: Subject) -> Iterator[Problem]:
    """FSM110. Of a machine without models nothing is known."""
    if not isinstance(subject.machine, Machine):
        return
    places: dict[str, list[str]] = {}
    for name, place in _callbacks(subject.machine):
        places.setdefault(name, []).append(place)
    for name, found in places.items():
        without = [model for model in subject.machine.models if not _is_known(model, name)]
        if without:
            known = [each for each in dir(without[0]) if not each.startswith("__")]
            owner = type(without[0]).__name__
            message = (
                f"{owner} has no {name!r}{did_you_mean(name, known)}, the callback of {'; '.join(dict.fromkeys(found))}"
            )
            yield Problem("FSM110", name, message)


def _callbacks(machine: Any) -> Iterator[tuple[str, str]]:
    """Each callback that is given by name, and where."""
    yield from _named(machine, _OF_MACHINES, "the machine")
    yield from _within(machine.states, machine.events)


def _within(states: Mapping[str, Any], events: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for trigger, event in events.items():
        for source, rows in event.transitions.items():
            for row in rows:
                place = f"{trigger} in {source}"
                yield from _named(row, _OF_ROWS, place)
                yield from ((each.func, place) for each in row.conditions if isinstance(each.func, str))
    for name, state in states.items():
        yield from _named(state, _OF_STATES, f"state {name!r}")
        yield from _within(getattr(state, "states", {}), getattr(state, "events", {}))


def _named(thing: Any, attributes: tuple[str, ...], place: str) -> Iterator[tuple[str, str]]:
    for attribute in attributes:
        yield from ((each, place) for each in getattr(thing, attribute, None) or () if isinstance(each, str))


def _is_known(model: Any, name: str) -> bool:
    """Whether a callback of this name will be found; without calling the model's properties."""
    missing = object()
    if inspect.getattr_static(model, name, missing) is not missing:
        return True
    if isinstance(model, Machine):
        return hasattr(model, name)
    if hasattr(type(model), "__getattr__"):
        return True  # it may know any name
    return _is_importable(name)


def _is_importable(path: str) -> bool:
    """As the machine itself would find it: by importing the module."""
    module, _, name = path.rpartition(".")
    try:
        return bool(module) and hasattr(importlib.import_module(module), name)
    except (ImportError, TypeError, ValueError):
        return False


def guards_without_answer(subject: Subject) -> Iterator[Problem]:
    """FSM118. Once for each guard."""
    told: dict[str, Any] = {}
    for name, function in _guards(subject):
        if name not in told and never_answers(function):
            told[name] = function
    for name, function in told.items():
        yield Problem("FSM118", name, f"{name}() returns nothing, which means no", function)


def _guards(subject: Subject) -> Iterator[tuple[str, Any]]:
    """Each guard that can be looked into, and its function."""
    owner = subject.chart.owner
    if owner is not None:
        names = (name for row in subject.chart.rows for name in row.guards)
        yield from ((name, inspect.getattr_static(owner, name, None)) for name in names)
    elif isinstance(subject.machine, Machine):
        for func in _conditions(subject.machine.states, subject.machine.events):
            if isinstance(func, str):
                yield from ((func, inspect.getattr_static(model, func, None)) for model in subject.machine.models)
            else:
                yield getattr(func, "__name__", "guard"), func


def _conditions(states: Mapping[str, Any], events: Mapping[str, Any]) -> Iterator[Any]:
    for event in events.values():
        for rows in event.transitions.values():
            yield from (each.func for row in rows for each in row.conditions)
    for state in states.values():
        yield from _conditions(getattr(state, "states", {}), getattr(state, "events", {}))


def time_limits_unset(subject: Subject) -> Iterator[Problem]:
    """FSM120. Of attributes that the class neither has nor declares, and that no code of its classes sets."""
    owner = subject.chart.owner
    for state in subject.chart.states if owner is not None else ():
        limit = state.timeout
        if isinstance(limit, str) and not any(_has(each, limit) for each in getattr(owner, "__mro__", ())):
            near = did_you_mean(limit, [name for name in dir(owner) if not name.startswith("_")])
            message = f"the time limit of {state.name!r} is {limit!r}, which nothing sets{near}"
            yield Problem("FSM120", state.name, message, owner)


def _has(owner: type, name: str) -> bool:
    """Whether a class has the attribute, declares it, or sets it on its instances."""
    if name in vars(owner) or name in inspect.get_annotations(owner):
        return True
    codes = (getattr(each, "__code__", None) for each in vars(owner).values())
    steps = (step for code in codes if isinstance(code, CodeType) for step in dis.get_instructions(code))
    return any(step.opname == "STORE_ATTR" and step.argval == name for step in steps)


def unknown_states(subject: Subject) -> Iterator[Problem]:
    """FSM116."""
    for row in subject.graph.strays:
        hint = did_you_mean(row.dest, subject.graph.states)
        yield Problem("FSM116", shown(row), f"there is no state {row.dest!r}{hint}")


def callbacks_nearly_named(subject: Subject) -> Iterator[Problem]:
    """FSM115. Of functions `(self, reason)` outside this package that override nothing and that no method names."""
    owner = subject.chart.owner
    if owner is None:
        return
    known = {name for row in subject.chart.rows for name in (*row.guards, *row.effects)}
    known |= {name for state in subject.chart.states for name in (*state.entry, *state.exit)}
    own = [each for each in owner.__mro__ if each.__module__.partition(".")[0] not in ("fsm_conn", "builtins")]
    used = {name for each in own for found in vars(each).values() for name in names_in(found)}
    for each in own:
        for name, found in vars(each).items():
            if name in known or name in used or not _takes_reason(found):
                continue
            near = difflib.get_close_matches(name, known, 1, NEAR)
            if near and not any(name in vars(base) for base in owner.__mro__ if base is not each):
                message = f"nothing calls {each.__name__}.{name}(); did you mean {quoted(near)}?"
                yield Problem("FSM115", name, message, found)


def _takes_reason(found: Any) -> bool:
    if not isinstance(found, FunctionType):
        return False
    return tuple(inspect.signature(found).parameters)[1:] == ("reason",)

"""Points to the user's code that may have broken a rule, when no error names the line.

The code of the last transition is named first: its guards and effects, and the activities of its states. If none of
these are the user's, other methods of the user's class are named, or at least the place where the class is defined.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from fsm_conn.testing.lives.culprits import place, where_defined
from fsm_conn.testing.lives.moments.reading import functions_within, user_functions

__all__ = ["suspects", "suspects_in_class"]

MOST = 4
"""The most suspects that are named."""


def suspects(owner: type, trigger: str, source: str, state: str) -> tuple[str, ...]:
    """The user's own methods that took part in the last transition, each with its file and line.

    Args:
        owner: the class of the machine.
        trigger: the trigger of the last transition; empty when there was none.
        source: the state before that transition.
        state: the present state.
    """
    table: Any = owner.lifecycle  # type: ignore[attr-defined]
    names: list[str] = []
    for row in table.transitions:
        if str(row.trigger) == trigger and source in map(str, row.sources(table.states)):
            names += [*row.guards, *row.effects]
            names += [] if row.dest is None else [*table.states[source].exit, *table.states[row.dest].entry]
    names += [table.activities[each] for each in (state, source) if each in table.activities]
    found = list(_named(getattr(owner, name, None) for name in dict.fromkeys(names)))
    return tuple(found[:MOST]) or suspects_in_class(owner)


def suspects_in_class(owner: type) -> tuple[str, ...]:
    """The user's own methods of a class; the class's own place if it has none; nothing for a class of this package."""
    found = list(_named(user_functions(owner)))
    return tuple(found[:MOST]) or tuple(_definition(owner))


def _named(functions: Any) -> Iterator[str]:
    for function in functions:
        for each in functions_within(function):
            yield f"{each.__code__.co_qualname}(), {where_defined(each)}"


def _definition(owner: type) -> Iterator[str]:
    for base in owner.__mro__:
        if base.__module__.partition(".")[0] in ("fsm_conn", "builtins"):
            return
        try:
            file, (_, line) = inspect.getfile(base), inspect.findsource(base)
        except (OSError, TypeError):
            continue
        yield f"class {base.__qualname__}, {place(file, line + 1)}"
        return

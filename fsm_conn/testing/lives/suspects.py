"""Where to look in the user's own code when a rule was broken, and no error tells the line.

What had a part in the last transition is named first: its guards and effects, and the activities of its states. A class
in which none of that is the user's own has other methods of the user's, or at least a place where it is defined.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from fsm_conn.testing.lives.culprits import is_foreign, place, where_defined
from fsm_conn.testing.lives.fingerprint import user_functions

__all__ = ["suspects", "suspects_in_class"]

MOST = 4
"""So many are named."""


def suspects(owner: type, trigger: str, source: str, state: str) -> tuple[str, ...]:
    """The user's own methods that had a part in the last transition, each with its file and line.

    Args:
        owner: the class of the machine.
        trigger: that of the last transition; empty when there was none.
        source: the state that it left.
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
    """The user's own methods in a class; one without any, by the place where it is defined; nothing for one of ours."""
    found = list(_named(user_functions(owner)))
    return tuple(found[:MOST]) or tuple(_definition(owner))


def _named(functions: Any) -> Iterator[str]:
    for function in functions:
        code = getattr(function, "__code__", None)
        if code is not None and is_foreign(code):
            yield f"{code.co_qualname}(), {where_defined(function)}"


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

"""The data that triggers are fired with: a few values for each parameter of their guards and effects."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from fsm_conn.machine.signature import takes
from fsm_conn.testing._extra import needed
from fsm_conn.testing.lives.domain import Domain

hypothesis = needed("hypothesis")
st = needed("hypothesis.strategies")

__all__ = ["Data", "Values", "parameters_of", "values_for"]

Data = Mapping[str, Mapping[str, Any]]
"""For a trigger and a parameter: a strategy of Hypothesis, or a sequence of values."""
Values = Mapping[tuple[str, str], Mapping[str, Domain]]
"""For a state and a trigger: the values of each parameter."""

MOST = 12
"""Values of each parameter that are tried, the simplest first."""


def parameters_of(owner: type, name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a guard or an effect beside the reason."""
    found = takes(owner, name)
    if found is None or not (found.needed or found.optional):
        return {}
    known = inspect.signature(getattr(owner, name)).parameters
    return {each: known[each] for each in (*found.needed, *found.optional)}


def values_for(owner: type, data: Data | None) -> Values:
    """Some values for every parameter of any trigger of a class.

    Raises:
        TypeError: the values of a parameter are unknown; the message says what to give.
    """
    given = {(trigger, name): each for trigger, names in (data or {}).items() for name, each in names.items()}
    found: dict[tuple[str, str], dict[str, Domain]] = {}
    for state, trigger, function, parameter in _needs(owner):
        known = found.setdefault((state, trigger), {})
        if parameter.name not in known:
            asked = given.get((trigger, parameter.name))
            known[parameter.name] = _values(owner, trigger, function, parameter, asked)
    return found


def _needs(owner: type) -> Iterator[tuple[str, str, Callable[..., Any], inspect.Parameter]]:
    table: Any = owner.lifecycle  # type: ignore[attr-defined]
    for row in table.transitions:
        for source in map(str, row.sources(table.states)):
            names = [*row.guards, *row.effects]
            if row.dest is not None:
                names += [*table.states[source].exit, *table.states[row.dest].entry]
            for name in names:
                for parameter in parameters_of(owner, name).values():
                    yield source, str(row.trigger), getattr(owner, name), parameter


def _values(owner: type, trigger: str, function: Any, parameter: inspect.Parameter, given: Any) -> Domain:
    if isinstance(given, (list, tuple)):
        return Domain(given, True)
    if given is None:
        hint = _hint(function, parameter.name)
        if hint is None and parameter.default is not parameter.empty:
            return Domain([parameter.default], False)
        if hint is None:
            remedy = f"data={{{trigger!r}: {{{parameter.name!r}: <a strategy of Hypothesis, or a list of values>}}}}"
            raise TypeError(
                f"{owner.__name__}: {trigger!r} is fired with {parameter.name!r}, of which no annotation tells the "
                f"kind; give {remedy}"
            )
        given = st.from_type(hint)
    return _examples(given)


def _hint(function: Any, name: str) -> Any:
    try:
        return typing.get_type_hints(function).get(name)
    except (NameError, TypeError):
        return None


@lru_cache(maxsize=256)
def _examples(strategy: Any) -> Domain:
    """Examples of a strategy, the simplest first. Deterministic; fewer if Hypothesis finds no more."""
    found: list[Any] = []
    asked = 0

    @hypothesis.settings(
        max_examples=4 * MOST,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(strategy)
    def collect(value: Any) -> None:
        nonlocal asked
        asked += 1
        if not any(_same(value, each) for each in found):
            found.append(value)

    collect()
    return Domain(tuple(found[:MOST]), asked < 4 * MOST and len(found) <= MOST)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other or repr(one) == repr(other))

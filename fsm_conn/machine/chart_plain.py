"""A `transitions.Machine` as a chart: flat, asynchronous, with timeouts, or hierarchical.

All that is known about the inside of `transitions` beside `fsm_conn.machine.binding` stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MethodType
from typing import Any

from fsm_conn.machine.chart_values import Chart, ChartRow, ChartState

__all__ = ["plain_chart"]


def plain_chart(machine: Any) -> Chart:
    """Read a `transitions.Machine` of any kind."""
    return _Plain(machine).chart()


class _Plain:
    """Reads a `transitions.Machine`: flat, asynchronous or hierarchical."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.separator: str = getattr(machine.state_cls, "separator", "_")
        self.named: dict[str, list[Any]] = {}

    def chart(self) -> Chart:
        states = tuple(self.states(self.machine.states, None, self.machine.initial))
        return Chart(self.machine.name.rstrip(": ") or type(self.machine).__name__, states, self.rows(states))

    def states(self, states: Mapping[str, Any], parent: str | None, initial: Any) -> Iterator[ChartState]:
        entered = {str(getattr(each, "name", each)) for each in _listed(initial)}
        for name, state in states.items():
            path = name if parent is None else f"{parent}{self.separator}{name}"
            timeout = getattr(state, "timeout", 0)
            yield ChartState(
                path,
                any(each == name or each.startswith(f"{name}{self.separator}") for each in entered),
                bool(getattr(state, "final", False)),
                parent,
                entry=self.names(state.on_enter),
                exit=self.names(state.on_exit),
                timeout=timeout or None,
                on_timeout=self.names(getattr(state, "on_timeout", ()) or ()) if timeout else (),
                inner_name=None if parent is None else name,
            )
            yield from self.states(getattr(state, "states", {}), path, getattr(state, "initial", None))

    def rows(self, states: tuple[ChartState, ...]) -> tuple[ChartRow, ...]:
        """One for all sources for which a row was declared alike."""
        order = [state.name for state in states]
        found: dict[tuple[Any, ...], list[str]] = {}
        for scope, events in self.events(self.machine.states, "", self.machine.events):
            for trigger, event in events.items():
                if self.is_automatic(trigger, order):
                    continue
                for source, alternatives in event.transitions.items():
                    for place, row in enumerate(alternatives):
                        found.setdefault((trigger, place, *self.row(scope, row)), []).append(scope + source)
        place_of = {name: place for place, name in enumerate(order)}
        # `*` of a hierarchical machine is all outer states, and those inside do as the one around them does.
        whole = sorted(order), sorted(state.name for state in states if state.parent is None)
        return tuple(
            ChartRow(
                index,
                trigger,
                tuple(sorted(sources, key=lambda name: place_of.get(name, len(order)))),
                dest,
                guards,
                effects,
                () if len(sources) > 2 and sorted(sources) in whole else None,
            )
            for index, ((trigger, _, dest, guards, effects), sources) in enumerate(found.items())
        )

    def events(self, states: Mapping[str, Any], scope: str, events: Any) -> Iterator[tuple[str, Any]]:
        """The events of the machine, and those that nested states declare for themselves."""
        yield scope, events
        for name, state in states.items():
            if getattr(state, "events", None):
                yield from self.events(state.states, f"{scope}{name}{self.separator}", state.events)

    def row(self, scope: str, row: Any) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
        guards = tuple(("" if each.target else "not ") + self.name(each.func) for each in row.conditions)
        dest = None if row.dest is None else f"{scope}{getattr(row.dest, 'name', row.dest)}"
        return dest, guards, self.names((*row.prepare, *row.before, *row.after))

    def is_automatic(self, trigger: str, order: list[str]) -> bool:
        """`to_<state>`, which `transitions` adds for every state."""
        return bool(self.machine.auto_transitions) and trigger.startswith("to_") and trigger[3:] in order

    def names(self, callbacks: Iterable[Any]) -> tuple[str, ...]:
        return tuple(map(self.name, callbacks))

    def name(self, callback: Any) -> str:
        """Two callbacks of one name, such as two lambdas, are not the same: the second is called `<lambda> 2`."""
        name, identity = _name(callback), _identity(callback)
        known = self.named.setdefault(name, [])
        if identity not in known:
            known.append(identity)
        number = known.index(identity) + 1
        return name if number == 1 else f"{name} {number}"


def _identity(callback: Any) -> Any:
    """What tells it from others; a bound method is made anew whenever it is looked up."""
    if isinstance(callback, MethodType):
        return id(callback.__func__), id(callback.__self__)
    return callback if isinstance(callback, str) else id(callback)


def _name(callback: Any) -> str:
    if isinstance(callback, str):
        return callback
    return str(getattr(callback, "__name__", None) or getattr(getattr(callback, "func", None), "__name__", "…"))


def _listed(value: Any) -> tuple[Any, ...]:
    return () if value is None else tuple(value) if isinstance(value, (list, tuple)) else (value,)

"""A `transitions.Machine` as a chart: flat, asynchronous, with timeouts, or hierarchical.

This module and `fsm_conn.machine.binding` are the only ones that know the internals of `transitions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import EnumMeta
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
        self.separator: str | None = getattr(machine.state_cls, "separator", None)
        """The separator between the name of a state and that of its substate; None for a flat machine."""
        self.named: dict[str, list[Any]] = {}

    def chart(self) -> Chart:
        begun = list(self.paths(self.machine.initial, self.machine.states))
        states = tuple(self.states(self.machine.states, None, begun))
        name = self.machine.name.rstrip(": ") or type(self.machine).__name__
        return Chart(name, states, self.rows(states), begins=tuple(self.full(None, path) for path in begun))

    def paths(self, value: Any, states: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
        """The initial states, each as its path from the outermost state."""
        if isinstance(value, (list, tuple, EnumMeta)):
            for each in value:
                yield from self.paths(each, states)
        elif value is not None:
            found = self.path(value, states) or self.path(getattr(value, "name", value), states)
            yield from [found] if found else []

    def path(self, value: Any, states: Mapping[str, Any]) -> tuple[str, ...]:
        """The path to one state; empty if there is none. A state of that very name comes before a combined name."""
        for name, state in states.items():
            if value is state or value is state.value or (isinstance(value, str) and value == name):
                return (name,)
        for name, state in states.items():
            rest = value
            if isinstance(value, str):
                if self.separator is None or not value.startswith(name + self.separator):
                    continue
                rest = value.removeprefix(name + self.separator)
            inner = self.path(rest, getattr(state, "states", {}))
            if inner:
                return (name, *inner)
        return ()

    def full(self, parent: str | None, path: Iterable[str]) -> str:
        return str(self.separator).join([parent, *path] if parent is not None else path)

    def states(
        self, states: Mapping[str, Any], parent: str | None, begun: Sequence[tuple[str, ...]]
    ) -> Iterator[ChartState]:
        for name, state in states.items():
            full, timeout = self.full(parent, [name]), getattr(state, "timeout", 0)
            inner = getattr(state, "states", {})
            within = list(self.paths(getattr(state, "initial", None), inner))
            yield ChartState(
                full,
                any(path[0] == name for path in begun),
                bool(getattr(state, "final", False)),
                parent,
                entry=self.names(state.on_enter),
                exit=self.names(state.on_exit),
                timeout=timeout or None,
                on_timeout=self.names(getattr(state, "on_timeout", ()) or ()) if timeout else (),
                inner_name=None if parent is None else name,
                begins=tuple(self.full(full, path) for path in within),
                aliases=(state, *([] if isinstance(state.value, str) and state.value == name else [state.value])),
            )
            yield from self.states(inner, full, within)

    def rows(self, states: tuple[ChartState, ...]) -> tuple[ChartRow, ...]:
        """One row for all the sources for which the same row was declared."""
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
        # In a hierarchical machine `*` means all outer states; the inner ones inherit the row from them.
        whole = sorted(order), sorted(state.name for state in states if state.parent is None)
        return tuple(
            ChartRow(
                index,
                trigger,
                tuple(sorted(sources, key=lambda name: place_of.get(name, len(order)))),
                dest,
                guards,
                effects,
                every_but=() if len(sources) > 2 and sorted(sources) in whole else None,
                prepares=prepares,
            )
            for index, ((trigger, _, dest, guards, effects, prepares), sources) in enumerate(found.items())
        )

    def events(self, states: Mapping[str, Any], scope: str, events: Any) -> Iterator[tuple[str, Any]]:
        """The events of the machine, and those that nested states declare."""
        yield scope, events
        for name, state in states.items():
            if getattr(state, "events", None) or getattr(state, "states", None):
                yield from self.events(state.states, f"{scope}{name}{self.separator}", state.events)

    def row(self, scope: str, row: Any) -> tuple[str | None, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        guards = tuple(("" if each.target else "not ") + self.name(each.func) for each in row.conditions)
        dest = None if row.dest is None else f"{scope}{getattr(row.dest, 'name', row.dest)}"
        return dest, guards, self.names((*row.before, *row.after)), self.names(row.prepare)

    def is_automatic(self, trigger: str, order: list[str]) -> bool:
        """Whether it is a `to_<state>` trigger, which `transitions` adds for every state."""
        return bool(self.machine.auto_transitions) and trigger.startswith("to_") and trigger[3:] in order

    def names(self, callbacks: Iterable[Any]) -> tuple[str, ...]:
        return tuple(map(self.name, callbacks))

    def name(self, callback: Any) -> str:
        """A unique name: of two callbacks with the same name, such as two lambdas, the second is `<lambda> 2`."""
        name, identity = _name(callback), _identity(callback)
        known = self.named.setdefault(name, [])
        if identity not in known:
            known.append(identity)
        number = known.index(identity) + 1
        return name if number == 1 else f"{name} {number}"


def _identity(callback: Any) -> Any:
    """The identity of a callback; of a bound method, which is a new object at each look-up, its parts."""
    if isinstance(callback, MethodType):
        return id(callback.__func__), id(callback.__self__)
    return callback if isinstance(callback, str) else id(callback)


def _name(callback: Any) -> str:
    if isinstance(callback, str):
        return callback
    return str(getattr(callback, "__name__", None) or getattr(getattr(callback, "func", None), "__name__", "…"))

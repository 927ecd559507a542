"""Which way leads where, in a chart: the ways that can be taken, whatever the guards say.

In a hierarchical machine, what holds for a state holds for all its parts, and entering it leads on to those that are
initial. Where it cannot be known which part of a state is entered, all are taken to be: so nothing is called
unreachable that can be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from fsm_conn.chart import Chart, ChartRow, ChartState
from fsm_conn.checks.guards import is_covered, term_of
from fsm_conn.lifecycle import Trigger

__all__ = ["Graph"]


class Graph:
    """The ways of one chart."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.states = {state.name: state for state in chart.states}
        self.alternatives = chart.alternatives

    @cached_property
    def dead(self) -> dict[int, list[str]]:
        """By the index of each row that can never be taken from some of its sources: those sources."""
        found: dict[int, list[str]] = {}
        for (_, source), rows in self.alternatives.items():
            terms = [term_of(row) for row in rows]
            for place, row in enumerate(rows):
                if is_covered(terms[place], terms[:place]):
                    found.setdefault(row.index, []).append(source)
        return found

    @cached_property
    def rows(self) -> dict[str, tuple[ChartRow, ...]]:
        """For each state, the rows of its own that can be taken there."""
        return {
            name: tuple(
                row for row in self.chart.rows if name in row.sources and name not in self.dead.get(row.index, ())
            )
            for name in self.states
        }

    @cached_property
    def reachable(self) -> frozenset[str]:
        """Where life can lead; every state, where it is not said how it begins."""
        initial = self.chart.initial
        if initial is None:
            return frozenset(self.states)
        parts = (state.name for state in self.chart.states if initial in self.family(state))
        return self.spread(parts, lambda name: (dest for _, dest in self.ways(name)))

    def spread(self, begin: Iterable[str], onward: Callable[[str], Iterable[str]]) -> frozenset[str]:
        """What can be reached from `begin`, itself included, where `onward` says what can be reached from each."""
        found: set[str] = set()
        fresh = set(begin)
        while fresh:
            found |= fresh
            fresh = {dest for name in fresh for dest in onward(name)} - found
        return frozenset(found)

    def ways(self, name: str, *, by_fault: bool = True) -> Iterator[tuple[ChartRow, str]]:
        """Each row that can be taken in the state, with every state that it enters."""
        for each in self.family(self.states[name]):
            for row in self.rows[each.name]:
                if row.dest is not None and (by_fault or not self.is_fault(row)):
                    yield from ((row, dest) for dest in self.entered(row.dest))

    def leads_on(self, name: str) -> list[ChartRow]:
        """The rows that lead from the state to another, without a fault."""
        return list({row.index: row for row, dest in self.ways(name, by_fault=False) if dest != name}.values())

    def is_fault(self, row: ChartRow) -> bool:
        """Whether it is there for bugs: nobody is to count on one."""
        return self.chart.owner is not None and row.trigger == Trigger.FAULT

    def family(self, state: ChartState) -> Iterator[ChartState]:
        """The state, and all that it is a part of."""
        yield state
        if state.parent is not None:
            yield from self.family(self.states[state.parent])

    def entered(self, name: str) -> frozenset[str]:
        """What is entered with a state: what it is a part of, and its initial parts."""
        whole = frozenset(each.name for each in self.family(self.states[name]))
        return whole | self.spread((name,), self.initial_parts)

    def initial_parts(self, name: str) -> list[str]:
        """The parts of a state in which it begins."""
        return [state.name for state in self.chart.states if state.parent == name and state.initial]

    @cached_property
    def leaves(self) -> tuple[ChartState, ...]:
        """The reachable states that have no parts."""
        whole = {state.parent for state in self.chart.states}
        return tuple(each for each in self.chart.states if each.name in self.reachable and each.name not in whole)

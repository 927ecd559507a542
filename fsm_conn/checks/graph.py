"""Which way leads where, in a chart: the ways that can be taken, whatever the guards say.

In a hierarchical machine, what holds for a state holds for all its parts, and entering it leads on to those that are
initial. Where it cannot be known which part of a state is entered, all are taken to be: so nothing is called
unreachable that can be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import takewhile

from fsm_conn.checks.guards import is_covered, term_of
from fsm_conn.machine.chart import Chart, ChartRow, ChartState
from fsm_conn.machine.table import FAULT

__all__ = ["Graph"]


class Graph:
    """The ways of one chart."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.states = {state.name: state for state in chart.states}
        self.alternatives = chart.alternatives
        self._entered: dict[str, frozenset[str]] = {}

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
    def rows(self) -> dict[str, list[ChartRow]]:
        """For each state, the rows of its own that can be taken there."""
        found: dict[str, list[ChartRow]] = {name: [] for name in self.states}
        for row in self.chart.rows:
            dead = self.dead.get(row.index, ())
            for source in row.sources:
                if source not in dead:
                    found[source].append(row)
        return found

    @cached_property
    def reachable(self) -> frozenset[str]:
        """Where life can lead; every state, where it is not known how it begins or goes on."""
        if not self.beginning or self.strays:
            return frozenset(self.states)
        return self.spread(self.beginning, self.onward)

    @cached_property
    def beginning(self) -> frozenset[str]:
        """The states that are entered when life begins; none, where it is not known."""
        return frozenset[str]().union(*map(self.entered, self.chart.begins))

    @cached_property
    def strays(self) -> tuple[ChartRow, ...]:
        """Rows that lead to states which do not exist. With one of them, nothing is concluded from where ways lead."""
        return tuple(row for row in self.chart.rows if row.dest is not None and row.dest not in self.states)

    def spread(self, begin: Iterable[str], onward: Callable[[str], Iterable[str]]) -> frozenset[str]:
        """What can be reached from `begin`, itself included, where `onward` says what can be reached from each."""
        found: set[str] = set()
        fresh = set(begin)
        while fresh:
            found |= fresh
            fresh = {dest for name in fresh for dest in onward(name)} - found
        return frozenset(found)

    def onward(self, name: str) -> frozenset[str]:
        """The states that can follow this one, by a fault too."""
        return self._led(name, by_fault=True)

    def ahead(self, name: str) -> frozenset[str]:
        """The states that can follow this one when there is no fault."""
        return self._led(name, by_fault=False)

    def coming_from(self) -> Callable[[str], Iterable[str]]:
        """For each state, those from which it can follow without a fault."""
        found: dict[str, list[str]] = {}
        for name in self.states:
            for dest in self.ahead(name):
                found.setdefault(dest, []).append(name)
        return lambda name: found.get(name, ())

    def leads_on(self, name: str) -> list[ChartRow]:
        """The rows that lead from the state to another, without a fault."""
        return [
            row
            for each in self.family(self.states[name])
            for row in self.rows[each.name]
            if row.dest in self.states and not self.is_fault(row) and self.entered(row.dest) != {name}
        ]

    def _led(self, name: str, *, by_fault: bool) -> frozenset[str]:
        rows = (row for each in self.family(self.states[name]) for row in self.rows[each.name])
        dests = {row.dest for row in rows if row.dest in self.states and (by_fault or not self.is_fault(row))}
        return frozenset[str]().union(*map(self.entered, dests))

    def is_fault(self, row: ChartRow) -> bool:
        """Whether it is there for bugs: nobody is to count on one."""
        return self.chart.owner is not None and row.trigger == FAULT

    def family(self, state: ChartState) -> Iterator[ChartState]:
        """The state, and all that it is a part of."""
        yield state
        if state.parent is not None:
            yield from self.family(self.states[state.parent])

    def entered(self, name: str) -> frozenset[str]:
        """What is entered with a state: what it is a part of, and its initial parts."""
        found = self._entered.get(name)
        if found is None:
            whole = frozenset(each.name for each in self.family(self.states[name]))
            found = self._entered[name] = whole | self.spread((name,), self.initial_parts)
        return found

    def initial_parts(self, name: str) -> list[str]:
        """The parts that are entered with a state."""
        ways = (self.family(self.states[part]) for part in self.states[name].begins)
        return [each.name for way in ways for each in takewhile(lambda state: state.name != name, way)]

    @cached_property
    def leaves(self) -> tuple[ChartState, ...]:
        """The reachable states that have no parts."""
        whole = {state.parent for state in self.chart.states}
        return tuple(each for each in self.chart.states if each.name in self.reachable and each.name not in whole)

"""The way that life takes when all goes well, as far as a table says: it stands out in pictures.

From where life begins, each state is left by a trigger that its own activity fires, if it fires one without a guard;
otherwise by the first row of the table that names the state. Left out are what errors, faults and time limits fire,
and, as long as there is another way, what leads where those lead, or where there is nothing to do but to come back. The
way ends in a final state, or where it would meet itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm_conn.machine.chart import Chart, ChartRow, ChartState
from fsm_conn.machine.table import FAULT

__all__ = ["expected_rows"]


def expected_rows(chart: Chart) -> frozenset[tuple[int, str]]:
    """The rows of the expected way, each by its index and the state that it is taken from. None of a machine with
    states in states, or that is in several at once.
    """
    if len(chart.begins) != 1 or any(state.parent is not None for state in chart.states):
        return frozenset()
    return frozenset(_Way(chart).steps())


class _Way:
    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.states = {state.name: state for state in chart.states}
        self.rows: dict[str, list[ChartRow]] = {name: [] for name in self.states}
        for row in chart.rows:
            for source in row.sources:
                self.rows.setdefault(source, []).append(row)
        self.detours = {row.dest for row in chart.rows for source in row.sources if self.is_exceptional(row, source)}

    def steps(self) -> Iterator[tuple[int, str]]:
        (name,) = self.chart.begins
        seen = {name}
        while row := self.next(self.states[name], seen):
            yield row.index, name
            if row.dest is None or row.dest in seen or self.states[row.dest].final:
                return
            name = row.dest
            seen.add(name)

    def next(self, state: ChartState, seen: set[str]) -> ChartRow | None:
        """The row that is taken: to what was not seen yet, if possible."""
        rows = [
            row
            for row in self.rows[state.name]
            if row.dest in self.states and row.dest != state.name
            if not self.is_exceptional(row, state.name)
        ]
        fresh = [row for row in rows if row.dest not in seen]
        onward = [row for row in fresh if not self.is_aside(str(row.dest), state.name)]
        ways = (
            [row for row in onward if self._is_own(row, state)],
            [row for row in onward if row.every_but is None],
            onward,
            [row for row in fresh if self._is_own(row, state)],
            [row for row in fresh if row.every_but is None and row.trigger not in (state.fires or ())],
            [row for row in rows if row.dest in seen and (row.dest not in self.detours or self._is_own(row, state))],
        )
        return next((way[0] for way in ways if way), None)

    def is_aside(self, dest: str, source: str, *, through: bool = True) -> bool:
        """Whether a state is where what went wrong leads, or there is nothing to do in it but to come back, at once or
        through another such state.
        """
        ways = {
            row.dest
            for row in self.rows[dest]
            if row.every_but is None and row.dest is not None
            if not self.is_exceptional(row, dest)
        }
        onward = ways - {source, dest, *self.detours}
        come_back = not onward or (through and all(self.is_aside(each, source, through=False) for each in onward))
        return dest in self.detours or (source in ways and come_back)

    @staticmethod
    def _is_own(row: ChartRow, state: ChartState) -> bool:
        return row.trigger in (state.fires or ()) and not row.guards

    def is_exceptional(self, row: ChartRow, source: str) -> bool:
        """Whether the row is for what goes wrong."""
        state = self.states.get(source)
        if state is None or (row.trigger == FAULT and self.chart.owner is not None):
            return True
        fires = state.fires or ()
        if row.trigger == state.on_error:  # what ends an activity that ends but in one way is no exception
            return fires != (row.trigger,)
        return state.timeout is not None and row.trigger in state.on_timeout and row.trigger not in fires

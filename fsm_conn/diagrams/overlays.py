"""What is laid over a diagram: the current state, what a run has gone through, what tests have covered, and, from
`differences`, what a subclass has of its own.

Each is checked against the table it is laid over before anything is drawn: what is about another is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import attrs

from fsm_conn._util.hints import did_you_mean
from fsm_conn.diagrams.differences import differences
from fsm_conn.diagrams.drawing import Line, Overlay
from fsm_conn.diagrams.errors import DiagramError
from fsm_conn.diagrams.themes import Tone
from fsm_conn.diagrams.words import seconds, visible, wrapped
from fsm_conn.machine.chart import Chart, ChartRow, chart_of
from fsm_conn.machine.records import TransitionRecord

__all__ = ["Count", "Coverage", "RowCoverage", "covered", "current", "overlays_of"]

STEPS = 3
"""How many of its steps an edge names before it only counts them."""


class Count(Protocol):
    """How often a row was taken from one of its states, and refused by its guards."""

    @property
    def taken(self) -> int: ...  # noqa: D102
    @property
    def refused(self) -> int: ...  # noqa: D102


class RowCoverage(Protocol):
    """How often a row of a table ran. `owner` is the qualified name of the class; `sources` has a count for each."""

    @property
    def owner(self) -> str: ...  # noqa: D102
    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def trigger(self) -> str: ...  # noqa: D102
    @property
    def dest(self) -> str | None: ...  # noqa: D102
    @property
    def guards(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def sources(self) -> Mapping[str, Count]: ...  # noqa: D102


class Coverage(Protocol):
    """The rows that tests have covered, such as a `fsm_conn.testing.Report`."""

    @property
    def rows(self) -> Sequence[RowCoverage]: ...  # noqa: D102
    @property
    def owners(self) -> Iterable[str]: ...  # noqa: D102


def overlays_of(
    chart: Chart, state: Any, history: Iterable[TransitionRecord] | None, coverage: Coverage | None, base: Any = None
) -> list[Overlay]:
    """What was asked for, checked. Where no state was given, a history lights the one in which it ended. What differs
    from the base comes first, so that the edges have its colours.

    Raises:
        DiagramError: it is about another table, or names a state that there is not.
        ChartError: the base has no table.
    """
    ran = None if history is None else _Run(chart, history)
    found = [] if base is None else [differences(chart, chart_of(base))]
    found.append(current(chart, ran.ends_in if state is None and ran is not None else _state_names(chart, state)))
    if coverage is not None:
        found.append(covered(chart, coverage))
    return found if ran is None else [*found, ran.overlay()]


def _state_names(chart: Chart, state: Any) -> tuple[str, ...]:
    """A name, or what a state was declared by; several, of a machine in several at once; or what an object is in."""
    if state is None:
        return ()
    if isinstance(state, (list, tuple)):
        return tuple(name for each in state for name in _state_names(chart, each))
    with suppress(KeyError):
        return (chart.state(state).name,)
    if isinstance(state, str):
        return (str(state),)
    if hasattr(state, "state"):
        return _state_names(chart, state.state)
    if isinstance(name := getattr(state, "name", None), str):
        return (name,)
    raise DiagramError(f"{state!r} is no state; give its name, or an object with the attribute 'state'")


def current(chart: Chart, names: Sequence[str]) -> Overlay:
    """Light states."""
    known = [state.name for state in chart.states]
    for name in names:
        if name not in known:
            raise DiagramError(
                f"{chart.name} has no state {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"
            )
    return Overlay(lit=frozenset(names))


@attrs.define
class _Visits:
    seconds: float = 0.0
    count: int = 0


class _Run:
    """A run: at which steps each row was taken, and how long each state lasted."""

    def __init__(self, chart: Chart, history: Iterable[TransitionRecord]) -> None:
        self._rows: dict[tuple[str, str, str, bool], list[ChartRow]] = {}
        for row in chart.rows:
            for source in row.sources:
                self._rows.setdefault((row.trigger, source, row.dest or source, row.internal), []).append(row)
        self._steps: dict[tuple[int, str], list[int]] = {}
        self._counts: dict[tuple[int, str], int] = {}
        self._visits: dict[str, _Visits] = {}
        self.ends_in: tuple[str, ...] = ()
        for number, record in enumerate(history, 1):
            self._take(chart, number, record)

    def _take(self, chart: Chart, number: int, record: TransitionRecord) -> None:
        trigger, source, dest = str(record.trigger), str(record.source), str(record.dest)
        rows = self._rows.get((trigger, source, dest, record.internal))
        if rows is None:
            raise DiagramError(
                f"the history is not one of {chart.name}, which has no row for its step {number}: {record}"
            )
        for row in rows:
            key = row.index, source
            self._counts[key] = self._counts.get(key, 0) + 1
            steps = self._steps.setdefault(key, [])
            if len(steps) < STEPS:
                steps.append(number)
        visits = self._visits.setdefault(source, _Visits())
        visits.seconds += record.dwell
        visits.count += not record.internal
        self.ends_in = (dest,)

    def overlay(self) -> Overlay:
        return Overlay(states={name: (_stay(visits),) for name, visits in self._visits.items()}, row=self._steps_of)

    def _steps_of(self, row: ChartRow, sources: Sequence[str]) -> Sequence[Line]:
        steps = sorted(step for source in sources for step in self._steps.get((row.index, source), ()))
        if not steps:
            return ()
        count = sum(self._counts.get((row.index, source), 0) for source in sources)
        shown = ", ".join(f"#{step}" for step in steps[:STEPS])
        return (Line(shown if count <= STEPS else f"{shown} … ({count} times)", Tone.GOOD),)


def _stay(visits: _Visits) -> Line:
    times = "once" if visits.count == 1 else f"{visits.count} times" if visits.count else "not left"
    return Line(f"{seconds(visits.seconds)}, {times}", Tone.GOOD)


def covered(chart: Chart, report: Coverage) -> Overlay:
    """What tests have covered: how often each row was taken, and refused by its guards."""
    name = _owner(chart)
    rows = {row.index: row for row in report.rows if row.owner == name}
    if not rows:
        raise DiagramError(f"the coverage report is about {', '.join(report.owners) or 'nothing'}, not about {name}")
    for row in chart.rows:
        if row.index not in rows or not _is_same(row, rows[row.index]):
            raise DiagramError(
                f"the coverage report is about another version of {name}, whose row {row.index} is "
                f"{rows.get(row.index, 'missing')}; measure again"
            )
    return Overlay(row=partial(_counted, {index: row.sources for index, row in rows.items()}))


def _is_same(row: ChartRow, counted: RowCoverage) -> bool:
    return (row.trigger, row.dest, row.guards, set(row.sources)) == (
        counted.trigger,
        counted.dest,
        tuple(counted.guards),
        set(counted.sources),
    )


def _counted(counts: Mapping[int, Mapping[str, Count]], row: ChartRow, sources: Sequence[str]) -> Sequence[Line]:
    here = {source: counts[row.index][source] for source in sources}
    taken = sum(count.taken for count in here.values())
    refused = sum(count.refused for count in here.values())
    if not taken:
        return (Line("never taken", Tone.BAD),)
    missed = [visible(source) for source, count in here.items() if not count.taken]
    told = [Line(f"taken {taken}", Tone.WARN if missed or (row.guards and not refused) else Tone.GOOD)]
    if missed:
        told += [
            Line(text, Tone.WARN)
            for text in wrapped([f"never from {missed[0]}", *(f"or {name}" for name in missed[1:])])
        ]
    if row.guards:
        told.append(Line(f"refused {refused}", Tone.GOOD) if refused else Line("never refused", Tone.WARN))
    return told


def _owner(chart: Chart) -> str:
    if chart.owner is None:
        raise DiagramError(f"{chart.name} is a machine without a class of ours, and no coverage is measured of those")
    return f"{chart.owner.__module__}.{chart.owner.__qualname__}"

"""The regions of parallel states: what runs at once, each in a part of its own."""

from __future__ import annotations

from collections.abc import Iterator

from fsm_conn.machine.chart import Chart, ChartState

__all__ = ["regions_of"]


def regions_of(chart: Chart) -> dict[str, int]:
    """The number of the region in which each part of a parallel state lies.

    A part that is entered with its state begins a region. Any other lies where a row leads to it from first; where
    none does, in the first.
    """
    return {name: number for state in chart.states if state.is_parallel for name, number in _within(chart, state)}


def _within(chart: Chart, state: ChartState) -> Iterator[tuple[str, int]]:
    parts = [each.name for each in chart.states if each.parent == state.name]
    parents = {each.name: each.parent for each in chart.states}

    def part_of(name: str | None) -> str | None:
        while name is not None and parents.get(name) != state.name:
            name = parents.get(name)
        return name

    begun = dict.fromkeys(part_of(name) for name in state.begins)
    found = {name: number for number, name in enumerate(begun)}
    steps = [(part_of(source), part_of(row.dest)) for row in chart.rows for source in row.sources]
    for _ in parts:  # as far as one row after another may lead
        for source, dest in steps:
            if source in found and dest is not None:
                found.setdefault(dest, found[source])
    return ((name, found.get(name, 0)) for name in parts)

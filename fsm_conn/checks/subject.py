"""What is checked, and what a check says of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from fsm_conn.checks.graph import Graph
from fsm_conn.connection.linked import LinkedMachine
from fsm_conn.machine.chart import Chart, ChartRow, chart_of

__all__ = ["Problem", "Subject", "quoted", "shown"]


@attrs.frozen
class Problem:
    """What a check has found, and where."""

    code: str
    place: str
    message: str
    source: Any = None
    """The function it is about; None for the class."""
    remedy: str | None = None
    """What to do about this one, where that is not what the rule says."""


@attrs.frozen(eq=False)
class Subject:
    """A machine, as given, with all that checks read of it."""

    machine: Any
    chart: Chart
    graph: Graph

    @classmethod
    def of(cls, machine: Any) -> Subject:
        """Read a machine.

        Raises:
            ChartError: it has no table.
        """
        chart = chart_of(machine)
        return cls(machine, chart, Graph(chart))

    @property
    def holder(self) -> type[LinkedMachine] | None:
        """The class, when it is one that holds a link."""
        owner = self.chart.owner
        return owner if owner is not None and issubclass(owner, LinkedMachine) else None

    def activity(self, state: str) -> Any:
        """The function that is the state's activity; None when it has none."""
        name = self.graph.states[state].activity
        return None if name is None else getattr(self.chart.owner, name)


def shown(row: ChartRow, sources: Iterable[str] | None = None) -> str:
    """A row in one line: `lost: connected -> failed [is_old]`; of its sources, only those given."""
    source = "|".join(row.sources if sources is None else sources)
    if sources is None and row.every_but is not None:
        source = f"others({', '.join(row.every_but)})" if row.every_but else "*"
    guards = f" [{', '.join(row.guards)}]" if row.guards else ""
    return f"{row.trigger}: {source} -> {'(stays)' if row.dest is None else row.dest}{guards}"


def quoted(names: Iterable[str]) -> str:
    """Names in a message."""
    return ", ".join(repr(str(name)) for name in names)

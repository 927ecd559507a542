"""A diagram of twenty states: what it costs as text and as a picture.

The machine has twenty states in a ring and sixty rows, a third of them guarded alternatives, and one for all states;
each repeat reads the machine, too. The picture is an SVG, laid out by Graphviz in this process; it is left out where
pygraphviz is not installed. The same for the table of `Connection`, without a goal, for comparison.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any

from transitions import Machine

from benchmarks.core import Progress, Row, row_of, turns
from fsm_conn import Connection
from fsm_conn.diagrams import Format, diagram

STATES = 20
GOALS = {Format.MERMAID: 100.0, Format.SVG: 1000.0}
"""Milliseconds."""


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    formats = [format for format in GOALS if format is not Format.SVG or find_spec("pygraphviz")]
    machines = {f"{STATES} states": twenty(), "Connection": Connection}
    parts = [(name, format) for name in machines for format in formats]
    times: dict[tuple[str, Format], list[float]] = {part: [] for part in parts}
    for _, (name, format) in turns(parts, 6 if quick else 40, progress):
        times[name, format].append(_taken(machines[name], format))
    return [
        row_of(
            taken[1:],
            name=f"diagram of {name}, {format}",
            work="reading the machine and drawing it; the first, which imports, left out",
            unit="ms",
            goal=None if name == "Connection" else GOALS[format],
            strict=True,
            detail=f"the first {taken[0]:.1f} ms",
        )
        for (name, format), taken in times.items()
    ]


def twenty() -> Machine:
    """The machine."""
    names = [f"state_{number}" for number in range(STATES)]
    machine = Machine(None, names, initial=names[0], auto_transitions=False)
    for number, name in enumerate(names):
        following = names[(number + 1) % STATES]
        machine.add_transition("advance", name, following, conditions="is_ready", before="count")
        machine.add_transition("advance", name, names[number - 1])
        machine.add_transition("look", name, None, after="note")
    machine.add_transition("stop", "*", names[0])
    return machine


def _taken(machine: Any, format: Format) -> float:
    began = time.perf_counter()
    diagram(machine, format)
    return (time.perf_counter() - began) * 1e3

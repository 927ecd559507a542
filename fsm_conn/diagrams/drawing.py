"""What is drawn, as values: nodes and edges with their lines of text, and the dots where life begins.

`drafting` makes them from a chart and what is laid over it; the formats write them down and decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum

import attrs

from fsm_conn.diagrams.themes import Tone
from fsm_conn.diagrams.words import visible
from fsm_conn.machine.chart import ChartRow

__all__ = ["Begin", "Detail", "Drawing", "Edge", "Kind", "Line", "Node", "Overlay"]


class Detail(StrEnum):
    """How much a diagram tells."""

    STATES = "states"
    """Which state can follow which."""
    TRIGGERS = "triggers"
    """And by which triggers."""
    FULL = "full"
    """Everything: guards, effects, activities, time limits."""


@attrs.frozen
class Line:
    """A line of text."""

    text: str
    tone: Tone = Tone.PLAIN


class Kind(StrEnum):
    """What a node stands for."""

    STATE = "state"
    COMPOSITE = "composite"
    """A state that has others inside."""
    ANY = "any"
    """Every state, or every state but some."""
    LEGEND = "legend"
    """What marks mean that are laid over the diagram."""


@attrs.frozen
class Node:
    """A state, or what stands for many."""

    key: str
    """Unlike that of any other node; of a state, its name."""
    title: tuple[str, ...]
    lines: tuple[Line, ...] = ()
    kind: Kind = Kind.STATE
    parent: str | None = None
    region: int | None = None
    """Of a part of a parallel state, in which of the regions it lies that run at once; the first is 0."""
    final: bool = False
    lit: bool = False
    tone: Tone = Tone.PLAIN
    """Of its border."""


@attrs.frozen
class Begin:
    """A dot, and what it leads to."""

    parent: str | None
    """The state that begins so; None for the whole."""
    dest: str


@attrs.frozen
class Edge:
    """A row of the table, from one state or from a node that stands for many; or, with less detail, several rows."""

    rows: tuple[ChartRow, ...]
    source: str
    dest: str
    lines: tuple[Line, ...]
    tone: Tone = Tone.PLAIN
    expected: bool = False
    """Whether life takes it when all goes well."""


@attrs.frozen
class Drawing:
    """A diagram before it has a format."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    begins: tuple[Begin, ...] = ()
    has_title: bool = False
    """Whether the title is to be seen."""

    def inside(self, parent: str | None) -> Iterator[Node]:
        """The nodes that are parts of `parent`; those of the whole for None."""
        return (node for node in self.nodes if node.parent == parent)

    def regions(self, parent: str | None) -> list[tuple[list[Node], list[Begin]]]:
        """The same, by the regions that run at once, each with what it begins with; but one, if nothing is parallel."""
        nodes = list(self.inside(parent))
        begins = [each for each in self.begins if each.parent == parent]
        count = 1 + max((node.region or 0 for node in nodes), default=0)
        lies_in = {each: self._region(each) if count > 1 else 0 for each in begins}
        return [
            ([node for node in nodes if (node.region or 0) == number], [b for b in begins if lies_in[b] == number])
            for number in range(count)
        ]

    def around(self, key: str) -> Iterator[tuple[str | None, int]]:
        """What a node is in, from the innermost to the whole, and in which region of that; itself first, if it has
        parts.
        """
        by_key = {node.key: node for node in self.nodes}
        node: Node | None = by_key[key]
        if node is not None and node.kind is Kind.COMPOSITE:
            yield node.key, 0
        while node is not None:
            yield node.parent, node.region or 0
            node = None if node.parent is None else by_key[node.parent]

    def _region(self, begin: Begin) -> int:
        return dict(self.around(begin.dest)).get(begin.parent, 0)

    @property
    def summary(self) -> str:
        """What is to be seen, for those who cannot see it."""
        states = [node for node in self.nodes if node.kind not in (Kind.ANY, Kind.LEGEND)]
        told = [f"State machine of {len(states)} states."]
        for mark, found in (
            ("Begins in", [each.dest for each in self.begins if each.parent is None]),
            ("May stay for ever in", [node.key for node in states if node.final]),
            ("Is now in", [node.key for node in states if node.lit]),
        ):
            if found:
                told.append(f"{mark} {', '.join(map(visible, found))}.")
        told += [
            f"Marked {node.title[0]}: {', '.join(line.text for line in node.lines)}."
            for node in self.nodes
            if node.kind is Kind.LEGEND
        ]
        return " ".join(told)


@attrs.frozen(kw_only=True)
class Overlay:
    """Something told about a table on top of it."""

    lit: frozenset[str] = frozenset()
    """The current states."""
    states: Mapping[str, Sequence[Line]] = attrs.field(factory=dict)
    """What there is to say about states."""
    row: Callable[[ChartRow, Sequence[str]], Sequence[Line]] = lambda row, sources: ()
    """What there is to say about a row from those of its sources. The first line gives the edge its tone."""
    tones: Mapping[str, Tone] = attrs.field(factory=dict)
    """The borders of states."""
    legend: tuple[str, Sequence[Line]] | None = None
    """What the marks mean: a title, and a line for each."""

"""What is drawn: nodes and edges with their lines of text, made from a chart and what is laid over it.

All that makes a diagram right is decided here, once for all formats. The rules that hold:

- One edge for each row and source; but a row declared for every state, or for every state but some, is drawn once,
  from a node of its own that says so. Rows for the same trigger and source are numbered in the order in which they
  are asked, and the last of them without a guard says `[else]`.
- An internal transition stands inside its state, as UML has it; a self transition is an edge.
- The same chart gives the same drawing: nothing depends on hashes, on time, or on what state an object is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

import attrs

from fsm_conn.connection.table import Trigger
from fsm_conn.diagrams.themes import Tone
from fsm_conn.diagrams.words import guard_words, seconds, visible, wrapped
from fsm_conn.machine.chart import Chart, ChartRow, ChartState

__all__ = ["Drawing", "Edge", "Kind", "Line", "Node", "Overlay", "drawing_of"]


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
    initial: bool = False
    final: bool = False
    lit: bool = False
    tone: Tone = Tone.PLAIN
    """Of its border."""


@attrs.frozen
class Edge:
    """A row of the table, from one state or from a node that stands for many."""

    row: ChartRow
    source: str
    dest: str
    lines: tuple[Line, ...]
    tone: Tone = Tone.PLAIN


@attrs.frozen
class Drawing:
    """A diagram before it has a format."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def inside(self, parent: str | None) -> Iterator[Node]:
        """The nodes that are parts of `parent`; those of the whole for None."""
        return (node for node in self.nodes if node.parent == parent)

    @property
    def summary(self) -> str:
        """What is to be seen, for those who cannot see it."""
        states = [node for node in self.nodes if node.kind not in (Kind.ANY, Kind.LEGEND)]
        told = [f"State machine of {len(states)} states."]
        for mark, found in (
            ("Begins in", [node for node in states if node.initial and node.parent is None]),
            ("May stay for ever in", [node for node in states if node.final]),
            ("Is now in", [node for node in states if node.lit]),
        ):
            if found:
                told.append(f"{mark} {', '.join(visible(node.key) for node in found)}.")
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


def drawing_of(chart: Chart, overlays: Iterable[Overlay] = ()) -> Drawing:
    """Decide what is to be drawn and what it says; not where it stands on the page."""
    return _Drafting(chart, tuple(overlays)).drawing()


class _Drafting:
    def __init__(self, chart: Chart, overlays: tuple[Overlay, ...]) -> None:
        self.chart = chart
        self.overlays = overlays
        self.names = {state.name for state in chart.states}
        self.composites = {state.parent for state in chart.states}
        self.places = {
            (row.index, source): (place, len(rows))
            for (_, source), rows in chart.alternatives.items()
            for place, row in enumerate(rows, 1)
        }
        self.any: dict[tuple[str, ...], Node] = {}
        """The nodes that stand for many, by the states that they do not stand for."""
        self.inside: dict[str, list[Line]] = {}
        """The internal transitions of each node."""

    def drawing(self) -> Drawing:
        edges = tuple(self.edges())
        nodes = [self.node(state) for state in self.chart.states]
        many = [attrs.evolve(node, lines=tuple(self.inside.get(node.key, ()))) for node in self.any.values()]
        return Drawing(visible(self.chart.name), (*nodes, *many, *self.legends()), edges)

    def legends(self) -> Iterator[Node]:
        for title, lines in (overlay.legend for overlay in self.overlays if overlay.legend is not None):
            yield Node(self.unused(title), (title,), tuple(lines), Kind.LEGEND)

    def edges(self) -> Iterator[Edge]:
        for row in self.chart.rows:
            for key, sources in self.sources(row):
                lines = self.row_lines(row, sources)
                if row.dest is None:
                    self.inside.setdefault(key, []).extend(lines)
                else:
                    yield Edge(row, key, row.dest, tuple(lines), self.tone(row, sources))

    def sources(self, row: ChartRow) -> Iterator[tuple[str, tuple[str, ...]]]:
        """From where the row is drawn, and for which states that stands."""
        if row.every_but is not None and len(row.sources) > 1:
            yield self.many(row.every_but), row.sources
        else:
            for source in row.sources:
                yield source, (source,)

    def many(self, but: tuple[str, ...]) -> str:
        if but not in self.any:
            words = [f"{visible(name)}{',' * (name != but[-1])}" for name in but]
            title = wrapped(["*", "but", *words] if but else ["*"])
            self.any[but] = Node(self.unused(" ".join(title)), tuple(title), kind=Kind.ANY)
        return self.any[but].key

    def unused(self, key: str) -> str:
        """The key, or one like it that nothing else has."""
        while key in self.names or any(key == node.key for node in self.any.values()):
            key += "'"
        return key

    def row_lines(self, row: ChartRow, sources: Sequence[str]) -> list[Line]:
        """`(1) trigger [guard]`, then when, then `/ effect`, then what is laid over it."""
        places = [self.places[row.index, source] for source in sources]
        number = "/".join(map(str, sorted({place for place, _ in places}))) if any(of > 1 for _, of in places) else ""
        trigger = f"({number}) {visible(row.trigger)}" if number else visible(row.trigger)
        guards = guard_words(row.guards) or (["[else]"] if self.is_else(places) else [])
        lines = [Line(text) for text in wrapped([trigger, *guards])]
        if row.timer is not None:
            lines.append(Line(f"after {visible(row.timer)}", Tone.MUTED))
        lines += _called("/", row.effects)
        return lines + [line for overlay in self.overlays for line in overlay.row(row, sources)]

    @staticmethod
    def is_else(places: Sequence[tuple[int, int]]) -> bool:
        return all(place == of for place, of in places) and any(of > 1 for _, of in places)

    def tone(self, row: ChartRow, sources: Sequence[str]) -> Tone:
        said = [line.tone for overlay in self.overlays for line in list(overlay.row(row, sources))[:1]]
        return said[0] if said else Tone.PLAIN

    def node(self, state: ChartState) -> Node:
        said = (line for overlay in self.overlays for line in overlay.states.get(state.name, ()))
        return Node(
            state.name,
            (visible(state.inner_name or state.name),),
            (*_state_lines(state), *self.inside.get(state.name, ()), *said),
            Kind.COMPOSITE if state.name in self.composites else Kind.STATE,
            state.parent,
            state.initial,
            state.final,
            any(state.name in overlay.lit for overlay in self.overlays),
            next((overlay.tones[state.name] for overlay in self.overlays if state.name in overlay.tones), Tone.PLAIN),
        )


def _state_lines(state: ChartState) -> Iterator[Line]:
    if state.final:
        yield Line("«final»", Tone.MUTED)
    yield from _called("entry /", state.entry)
    if state.activity is not None:
        yield Line(f"do / {visible(state.activity)}", Tone.MUTED)
        if state.on_error not in (None, Trigger.FAULT):
            yield Line(f"on error / {visible(state.on_error)}", Tone.MUTED)
    if state.timeout is not None:
        yield from _called(f"after {seconds(state.timeout)} /", state.on_timeout)
    yield from _called("exit /", state.exit)


def _called(head: str, names: Sequence[str]) -> list[Line]:
    if not names:
        return []
    words = [visible(name) + "," * (number < len(names)) for number, name in enumerate(names, 1)]
    return [Line(text, Tone.MUTED) for text in wrapped([f"{head} {words[0]}", *words[1:]])]

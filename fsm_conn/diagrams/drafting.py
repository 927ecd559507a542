"""Decides what is drawn of a chart and what it says; not where it stands on the page.

All that makes a diagram right is decided here, once for all formats. The rules that hold:

- One edge for each row and source; but a row declared for every state, or for every state but some, is drawn once,
  from a node of its own that says so. Rows for the same trigger and source are numbered in the order in which they
  are asked, and the last of them without a guard says `[else]`. With less detail, one edge for all rows that lead
  from one node to another.
- An internal transition stands inside its state, as UML has it; a self transition is an edge. A row between a state
  and a part of it stands inside its source: Mermaid would hide it, and others with it.
- The same chart gives the same drawing: nothing depends on hashes, on time, or on what state an object is in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from fsm_conn.diagrams.drawing import Begin, Detail, Drawing, Edge, Kind, Line, Node, Overlay
from fsm_conn.diagrams.expected import expected_rows
from fsm_conn.diagrams.regions import regions_of
from fsm_conn.diagrams.themes import Tone
from fsm_conn.diagrams.words import guard_words, seconds, visible, wrapped
from fsm_conn.machine.chart import Chart, ChartRow, ChartState
from fsm_conn.machine.table import FAULT

__all__ = ["drawing_of"]


def drawing_of(
    chart: Chart, overlays: Iterable[Overlay] = (), detail: Detail = Detail.FULL, title: str | None = None
) -> Drawing:
    """Decide what is to be drawn. A title that is given is to be seen; the name of the machine is only read aloud."""
    drafting = _Drafting(chart, tuple(overlays))
    drawing = drafting.drawing() if detail is Detail.FULL else _Brief(chart, tuple(overlays), detail).drawing()
    return drawing if title is None else attrs.evolve(drawing, title=visible(title), has_title=True)


class _Drafting:
    def __init__(self, chart: Chart, overlays: tuple[Overlay, ...]) -> None:
        self.chart = chart
        self.overlays = overlays
        self.parents = {state.name: state.parent for state in chart.states}
        self.composites = {state.parent for state in chart.states}
        self.regions = regions_of(chart)
        self.expected = expected_rows(chart)
        self.places = {
            (row.index, source): (place, len(rows))
            for (_, source), rows in chart.alternatives.items()
            for place, row in enumerate(rows, 1)
        }
        self.any: dict[tuple[str, ...], Node] = {}
        """The nodes that stand for many, by the states that they do not stand for."""
        self.inside: dict[str, list[Line]] = {}
        """What happens in each node without leading to another."""

    def drawing(self) -> Drawing:
        edges = tuple(self.edges())
        nodes = [self.node(state) for state in self.chart.states]
        many = [attrs.evolve(node, lines=tuple(self.inside.get(node.key, ()))) for node in self.any.values()]
        return Drawing(visible(self.chart.name), (*nodes, *many, *self.legends()), edges, tuple(self.begins()))

    def begins(self) -> Iterator[Begin]:
        yield from (Begin(None, name) for name in self.chart.begins)
        for state in self.chart.states:
            yield from (Begin(state.name, name) for name in state.begins)

    def legends(self) -> Iterator[Node]:
        for title, lines in (overlay.legend for overlay in self.overlays if overlay.legend is not None):
            yield Node(self.unused(title), (title,), tuple(lines), Kind.LEGEND)

    def edges(self) -> Iterator[Edge]:
        for row in self.chart.rows:
            for key, sources in self.sources(row):
                if row.dest is None or self.is_within(key, row.dest):
                    self.inside.setdefault(key, []).extend(self.row_lines(row, sources, stays=True))
                else:
                    expected = any((row.index, source) in self.expected for source in sources)
                    lines = tuple(self.row_lines(row, sources))
                    yield Edge((row,), key, row.dest, lines, self.tone(row, sources), expected)

    def is_within(self, source: str, dest: str) -> bool:
        """Whether one is a part of the other, or a state with parts leads to itself."""
        return source in self.around(dest) or dest in self.around(source)

    def around(self, name: str) -> Iterator[str]:
        """The states that this one is a part of, and itself if it has parts."""
        if name in self.composites:
            yield name
        parent = self.parents.get(name)
        while parent is not None:
            yield parent
            parent = self.parents[parent]

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
        while key in self.parents or any(key == node.key for node in self.any.values()):
            key += "'"
        return key

    def row_lines(self, row: ChartRow, sources: Sequence[str], *, stays: bool = False) -> list[Line]:
        """`(1) trigger [guard]`, then when, then `/ effect`, then what is laid over it."""
        places = [self.places[row.index, source] for source in sources]
        number = "/".join(map(str, sorted({place for place, _ in places}))) if any(of > 1 for _, of in places) else ""
        trigger = f"({number}) {visible(row.trigger)}" if number else visible(row.trigger)
        guards = guard_words(row.guards) or (["[else]"] if self.is_else(places) else [])
        dest = [f"→ {visible(row.dest)}"] if stays and row.dest is not None else []
        lines = [Line(text) for text in wrapped([trigger, *guards, *dest])]
        if row.timer is not None:
            lines.append(Line(f"after {visible(row.timer)}", Tone.MUTED))
        lines += [*_called("prepare /", row.prepares), *_called("/", row.effects)]
        return lines + self.said_of(row, sources)

    def said_of(self, row: ChartRow, sources: Sequence[str]) -> list[Line]:
        """What is laid over a row."""
        return [line for overlay in self.overlays for line in overlay.row(row, sources)]

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
            (*self.own_lines(state), *self.inside.get(state.name, ()), *said),
            Kind.COMPOSITE if state.name in self.composites else Kind.STATE,
            state.parent,
            self.regions.get(state.name),
            state.final,
            any(state.name in overlay.lit for overlay in self.overlays),
            next((overlay.tones[state.name] for overlay in self.overlays if state.name in overlay.tones), Tone.PLAIN),
        )

    def own_lines(self, state: ChartState) -> Iterator[Line]:
        """What a state says of itself."""
        return _state_lines(state)


class _Brief(_Drafting):
    """With less detail: what is left out is left out of states, too."""

    def __init__(self, chart: Chart, overlays: tuple[Overlay, ...], detail: Detail) -> None:
        super().__init__(chart, overlays)
        self.detail = detail

    def edges(self) -> Iterator[Edge]:
        """One for all rows that lead from one node to another; where triggers are told, one more for the expected."""
        found: dict[tuple[str, str, bool], list[Edge]] = {}
        for edge in super().edges():
            apart = edge.expected and self.detail is Detail.TRIGGERS
            found.setdefault((edge.source, edge.dest, apart), []).append(edge)
        for (source, dest, _), edges in found.items():
            lines = tuple(dict.fromkeys(line for edge in edges for line in edge.lines))
            tones = {edge.tone for edge in edges}
            tone = next((each for each in (Tone.BAD, Tone.WARN, Tone.GOOD) if each in tones), Tone.PLAIN)
            rows, expected = tuple(row for edge in edges for row in edge.rows), any(edge.expected for edge in edges)
            yield Edge(rows, source, dest, lines, tone, expected)

    def row_lines(self, row: ChartRow, sources: Sequence[str], *, stays: bool = False) -> list[Line]:
        dest = [f"→ {visible(row.dest)}"] if stays and row.dest is not None else []
        if self.detail is Detail.STATES:
            return [Line(text) for text in dest]
        return [Line(text) for text in wrapped([visible(row.trigger), *dest])] + self.said_of(row, sources)

    def own_lines(self, state: ChartState) -> Iterator[Line]:
        return iter(())


def _state_lines(state: ChartState) -> Iterator[Line]:
    if state.final:
        yield Line("«final»", Tone.MUTED)
    yield from _called("entry /", state.entry)
    if state.activity is not None:
        yield from _called(f"do / {visible(state.activity)}:", state.steps) or [
            Line(f"do / {visible(state.activity)}", Tone.MUTED)
        ]
        if state.on_error not in (None, FAULT):
            yield Line(f"on error / {visible(state.on_error)}", Tone.MUTED)
    if state.timeout is not None:
        limit = state.timeout if isinstance(state.timeout, str) else seconds(state.timeout)
        yield from _called(f"after {visible(limit)} /", state.on_timeout)
    yield from _called("exit /", state.exit)


def _called(head: str, names: Sequence[str]) -> list[Line]:
    if not names:
        return []
    words = [visible(name) + "," * (number < len(names)) for number, name in enumerate(names, 1)]
    return [Line(text, Tone.MUTED) for text in wrapped([f"{head} {words[0]}", *words[1:]])]

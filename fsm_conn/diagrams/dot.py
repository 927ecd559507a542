"""A drawing as DOT, for Graphviz.

For other tools each row is an edge with a label. For a picture each label is a stop, a node without a border that its
edge leads through: Graphviz keeps nodes apart, so no line crosses a text and no text strays from its line; neither does
it promise of the labels of edges, least of all of loops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fsm_conn.diagrams.drawing import Drawing, Edge, Kind, Node
from fsm_conn.diagrams.labels import BODY, FONT, Labels
from fsm_conn.diagrams.themes import PALETTES, Palette, Theme, Tone
from fsm_conn.diagrams.words import visible

__all__ = ["picture_dot", "to_dot"]

_DOT = "\0"
"""Before the name of a state, which has no such character in front: the key of the dot that leads to it."""


def to_dot(drawing: Drawing, theme: Theme) -> str:
    """Write an edge for each row."""
    return "\n".join(_Writing(drawing, PALETTES[theme]).lines()) + "\n"


def picture_dot(drawing: Drawing, theme: Theme) -> str:
    """Write what is best looked at."""
    return "\n".join(_Picture(drawing, PALETTES[theme]).lines()) + "\n"


class _Writing:
    def __init__(self, drawing: Drawing, palette: Palette) -> None:
        self.drawing = drawing
        self.palette = palette
        self.labels = Labels(palette)
        self.nodes = {node.key: node for node in drawing.nodes}
        begun = [node.key for node in drawing.nodes if node.initial]
        names = [*self.nodes, *(f"begin → {key}" for key in begun)]
        self.ids = dict(zip([*self.nodes, *(_DOT + key for key in begun)], _distinct(names), strict=True))

    def lines(self) -> Iterator[str]:
        plain = self.palette.tones[Tone.PLAIN]
        text = f'fontname="{FONT}", fontsize={BODY}, fontcolor="{plain}"'
        yield f"digraph {_quoted(self.drawing.title)} {{"
        yield (
            f'    graph [{text}, bgcolor="{self.palette.ground}", compound=true, nodesep=0.25, pad=0.2, ranksep=0.35]'
        )
        yield f"    node [{text}, margin=0, shape=plain]"
        yield f"    edge [{text}, arrowsize=0.7]"
        yield from self.inside(None, "    ")
        for edge in self.drawing.edges:
            yield from self.edge(edge)
        yield "}"

    def inside(self, parent: str | None, indent: str) -> Iterator[str]:
        for node in self.drawing.inside(parent):
            if node.kind is Kind.COMPOSITE:
                yield from self.composite(node, indent)
            else:
                yield f"{indent}{self.node(node)}"
            if node.initial:
                yield from self.initial(node, indent)
            if node.kind is Kind.LEGEND:
                yield f"{indent}{{ rank=source; {self.ids[node.key]} }}"

    def composite(self, node: Node, indent: str) -> Iterator[str]:
        border = self.labels.border(node)
        yield f"{indent}subgraph {self.cluster(node.key)} {{"
        yield f'{indent}    graph [color="{border}", margin=12, style=rounded]'
        yield f"{indent}    {self.node(node)}"
        yield from self.inside(node.key, indent + "    ")
        yield f"{indent}}}"

    def cluster(self, key: str) -> str:
        return f'"cluster {self.ids[key][1:]}'

    def node(self, node: Node) -> str:
        return f"{self.ids[node.key]} [label=<{self.labels.of_node(node)}>]"

    def initial(self, node: Node, indent: str) -> Iterator[str]:
        ink, dot, state = self.palette.tones[Tone.PLAIN], self.ids[_DOT + node.key], self.ids[node.key]
        look = f'color="{ink}", fixedsize=true, height=0.16, label="", shape=circle, style=filled, width=0.16'
        yield f"{indent}{dot} [{look}]"
        if node.kind is Kind.COMPOSITE:
            yield f'{indent}{dot} -> {state} [color="{ink}", lhead={self.cluster(node.key)}]'
            return
        yield f'{indent}{dot} -> {state} [color="{ink}"]'
        if node.parent is None:
            yield f"{indent}{{ rank=source; {dot}; {state} }}"

    def edge(self, edge: Edge) -> Iterator[str]:
        look = [*self.look(edge), *self.tail(edge), *self.head(edge), f"label=<{self.labels.of_edge(edge.lines)}>"]
        yield f"    {self.ids[edge.source]} -> {self.ids[edge.dest]} [{', '.join(look)}]"

    def look(self, edge: Edge) -> Iterator[str]:
        yield f'color="{self.palette.border if edge.tone is Tone.PLAIN else self.palette.tones[edge.tone]}"'
        if edge.tone is not Tone.PLAIN:
            yield "penwidth=1.8"

    def tail(self, edge: Edge) -> Iterator[str]:
        """At the border of a composite state, for an edge that leaves it."""
        if self.is_outside(edge.dest, edge.source):
            yield f"ltail={self.cluster(edge.source)}"

    def head(self, edge: Edge) -> Iterator[str]:
        if self.is_outside(edge.source, edge.dest):
            yield f"lhead={self.cluster(edge.dest)}"

    def is_outside(self, key: str, composite: str) -> bool:
        return self.nodes[composite].kind is Kind.COMPOSITE and composite not in self.around(key)

    def around(self, key: str) -> list[str | None]:
        """The composite states that a node is in, itself included if it is one, from the innermost to the whole."""
        node = self.nodes[key]
        found: list[str | None] = [key] if node.kind is Kind.COMPOSITE else []
        while node.parent is not None:
            found.append(node.parent)
            node = self.nodes[node.parent]
        return [*found, None]


class _Picture(_Writing):
    def __init__(self, drawing: Drawing, palette: Palette) -> None:
        super().__init__(drawing, palette)
        self.depths = _depths(drawing)
        titles = [_title(edge) for edge in drawing.edges]
        self.stops = dict(zip(map(id, drawing.edges), _distinct(titles, self.ids.values()), strict=True))

    def inside(self, parent: str | None, indent: str) -> Iterator[str]:
        yield from super().inside(parent, indent)
        for edge in self.drawing.edges:
            around = self.around(edge.dest)
            if next(each for each in self.around(edge.source) if each in around) == parent:
                yield f"{indent}{self.stops[id(edge)]} [label=<{self.labels.of_edge(edge.lines)}>]"

    def edge(self, edge: Edge) -> Iterator[str]:
        """Written from the upper end to the lower one, so that the stop comes to lie between them."""
        stop, look = self.stops[id(edge)], list(self.look(edge))
        source, dest = self.ids[edge.source], self.ids[edge.dest]
        tail, head = list(self.tail(edge)), list(self.head(edge))
        if self.depths[edge.dest] >= self.depths[edge.source]:
            yield f"    {source} -> {stop} [{', '.join([*look, *tail, 'dir=none'])}]"
            yield f"    {stop} -> {dest} [{', '.join([*look, *head])}]"
        else:
            yield f"    {dest} -> {stop} [{', '.join([*look, *map(_turned, head), 'dir=back'])}]"
            yield f"    {stop} -> {source} [{', '.join([*look, *map(_turned, tail), 'dir=none'])}]"


def _depths(drawing: Drawing) -> dict[str, int]:
    """Where each node stands when they are listed as life goes, what leads on before what it leads to.

    In reverse postorder from the initial states, so that only an edge that closes a circle leads back.
    """
    nexts: dict[str, list[str]] = {node.key: [] for node in drawing.nodes}
    for edge in drawing.edges:
        nexts[edge.source].append(edge.dest)
    seen: set[str] = set()
    left: list[str] = []
    for start in sorted(drawing.nodes, key=lambda node: not node.initial):
        if start.key not in seen:
            _walk(start.key, nexts, seen, left)
    return {key: depth for depth, key in enumerate(reversed(left))} | {
        node.key: -1 for node in drawing.nodes if node.initial or node.kind is Kind.ANY
    }


def _walk(start: str, nexts: Mapping[str, Sequence[str]], seen: set[str], left: list[str]) -> None:
    """Depth first, without recursion: a machine may be a long chain."""
    seen.add(start)
    path = [(start, iter(nexts[start]))]
    while path:
        key, following = path[-1]
        unseen = next((each for each in following if each not in seen), None)
        if unseen is None:
            left.append(key)
            path.pop()
        else:
            seen.add(unseen)
            path.append((unseen, iter(nexts[unseen])))


def _turned(end: str) -> str:
    return end.replace("lhead=", "ltail=", 1) if end.startswith("lhead=") else end.replace("ltail=", "lhead=", 1)


def _title(edge: Edge) -> str:
    """What is read aloud, or shown beside the pointer."""
    return f"{edge.source} → {edge.dest}: {' '.join(line.text for line in edge.lines)}"


def _distinct(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names as strings of DOT, no two the same."""
    found = dict.fromkeys(taken)
    many: list[str] = []
    for name in names:
        shown = visible(name)
        while _quoted(shown) in found:
            shown += "'"
        found[_quoted(shown)] = None
        many.append(_quoted(shown))
    return many


def _quoted(text: str) -> str:
    """A name in DOT. It keeps both of two backslashes; one alone would hide the quote after it.

    What begins with `%` is no name to Graphviz, but one of those it makes for what has none.
    """
    return '"' + " " * text.startswith("%") + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

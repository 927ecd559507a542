"""A drawing as DOT, for Graphviz.

For other tools each row is an edge with a label. For a picture each label is a stop, a node without a border that its
edge leads through: Graphviz keeps nodes apart, so no line crosses a text and no text strays from its line; neither does
it promise of the labels of edges, least of all of loops.

What stands in a picture can be found there: a state by the identifier `state-<name>` and the class `fsm-state`, a row
by `row-<number>-<source>`, its line by that with `-from` and `-to`, all three by the classes `fsm-row` and
`row-<number>`. The number is the row's place in the table. A name with other characters than letters, digits, `_`, `.`
and `-` is replaced by the number of its state.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fsm_conn.diagrams.drawing import Begin, Drawing, Edge, Kind, Node
from fsm_conn.diagrams.labels import BODY, FONT, Labels
from fsm_conn.diagrams.themes import PALETTES, Palette, Theme, Tone
from fsm_conn.diagrams.words import visible

__all__ = ["picture_dot", "to_dot"]


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
        ids = _distinct([*self.nodes, *(f"begin → {begin.dest}" for begin in drawing.begins)])
        self.ids = dict(zip(self.nodes, ids, strict=False))
        self.dots = dict(zip(drawing.begins, ids[len(self.nodes) :], strict=True))

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
        if self.drawing.has_title:  # here, so that clusters have no part of it
            yield f"    label=<{self.labels.of_title(self.drawing.title)}>"
            yield "    labelloc=t"
        yield "}"

    def inside(self, parent: str | None, indent: str) -> Iterator[str]:
        regions = self.drawing.regions(parent)
        for number, (nodes, begins) in enumerate(regions):
            if len(regions) == 1:
                yield from self.region(nodes, begins, indent)
                continue
            yield f'{indent}subgraph "cluster {number} {self.ids[str(parent)][1:]} {{'
            marks = ", ".join([*self.marks(f"region-{number}-{self.slug(str(parent))}", "fsm-region"), "style=dashed"])
            yield f'{indent}    graph [color="{self.palette.border}", {marks}, margin=8]'
            yield from self.region(nodes, begins, indent + "    ")
            yield f"{indent}}}"

    def region(self, nodes: Iterable[Node], begins: Iterable[Begin], indent: str) -> Iterator[str]:
        for node in nodes:
            if node.kind is Kind.COMPOSITE:
                yield from self.composite(node, indent)
            else:
                yield f"{indent}{self.node(node)}"
            if node.kind is Kind.LEGEND:
                yield f"{indent}{{ rank=source; {self.ids[node.key]} }}"
        for begin in begins:
            yield from self.initial(begin, indent)

    def composite(self, node: Node, indent: str) -> Iterator[str]:
        """With a point to which edges lead that end at its border."""
        look = [f'color="{self.labels.border(node)}"', "labeljust=l", "margin=12", "style=rounded"]
        yield f"{indent}subgraph {self.cluster(node.key)} {{"
        yield f"{indent}    graph [{', '.join([*look, *self.marks_of(node)])}]"
        yield f'{indent}    {self.ids[node.key]} [height=0, label="", shape=point, style=invis, width=0]'
        yield from self.inside(node.key, indent + "    ")
        yield f"{indent}    label=<{self.labels.of_node(node)}>"
        yield f"{indent}}}"

    def cluster(self, key: str) -> str:
        return f'"cluster {self.ids[key][1:]}'

    def node(self, node: Node) -> str:
        look = [f"label=<{self.labels.of_node(node)}>", *self.marks_of(node)]
        return f"{self.ids[node.key]} [{', '.join(look)}]"

    def marks_of(self, node: Node) -> list[str]:
        """By what a state is found in a picture."""
        kind = {Kind.ANY: "any", Kind.LEGEND: "legend"}.get(node.kind, "state")
        return self.marks(f"{kind}-{self.slug(node.key)}", f"fsm-{kind}")

    def marks(self, id: str, kind: str) -> list[str]:
        """An identifier and classes, for pictures alone."""
        return []

    def slug(self, key: str) -> str:
        """The name of a state in an identifier: itself, or its number where it has other characters."""
        return key if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", key) else str(list(self.nodes).index(key))

    def initial(self, begin: Begin, indent: str) -> Iterator[str]:
        ink, dot, state = self.palette.tones[Tone.PLAIN], self.dots[begin], self.ids[begin.dest]
        look = f'color="{ink}", fixedsize=true, height=0.16, label="", shape=circle, style=filled, width=0.16'
        marks = self.marks(f"begin-{self.slug(begin.dest)}", "fsm-begin")
        yield f"{indent}{dot} [{', '.join([look, *marks])}]"
        if self.nodes[begin.dest].kind is Kind.COMPOSITE:
            yield f'{indent}{dot} -> {state} [color="{ink}", lhead={self.cluster(begin.dest)}, minlen=2]'
            return
        yield f'{indent}{dot} -> {state} [color="{ink}"]'
        if self.nodes[begin.dest].parent is None:
            yield f"{indent}{{ rank=source; {dot}; {state} }}"

    def edge(self, edge: Edge) -> Iterator[str]:
        look = [*self.look(edge), *self.tail(edge), *self.head(edge), *self.marks_of_row(edge)]
        look += [f"label=<{self.labels.of_edge(edge)}>"] if edge.lines else []
        yield f"    {self.ids[edge.source]} -> {self.ids[edge.dest]} [{', '.join(look)}]"

    def look(self, edge: Edge) -> Iterator[str]:
        stands_out = edge.expected or edge.tone is not Tone.PLAIN
        yield f'color="{self.palette.tones[edge.tone] if stands_out else self.palette.border}"'
        if stands_out:
            yield "penwidth=1.8"

    def marks_of_row(self, edge: Edge, end: str = "") -> list[str]:
        """By what a row is found in a picture."""
        return []

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
        told = [edge for edge in drawing.edges if edge.lines]
        titles = _distinct(map(_title, told), [*self.ids.values(), *self.dots.values()])
        self.stops = dict(zip(map(id, told), titles, strict=True))

    def inside(self, parent: str | None, indent: str) -> Iterator[str]:
        yield from super().inside(parent, indent)
        for edge in self.drawing.edges:
            around = self.around(edge.dest)
            if edge.lines and next(each for each in self.around(edge.source) if each in around) == parent:
                look = [f"label=<{self.labels.of_edge(edge)}>", *self.marks_of_row(edge)]
                yield f"{indent}{self.stops[id(edge)]} [{', '.join(look)}]"

    def marks(self, id: str, kind: str) -> list[str]:
        return [f'id="{id}"', f'class="{kind}"']

    def marks_of_row(self, edge: Edge, end: str = "") -> list[str]:
        """Of a row its number in the table, and the state that it leads from."""
        numbers = [row.index for row in edge.rows]
        rows = " ".join(f"row-{number}" for number in numbers)
        return self.marks(f"row-{numbers[0]}-{self.slug(edge.source)}{end}", f"fsm-row {rows}")

    def edge(self, edge: Edge) -> Iterator[str]:
        """Written from the upper end to the lower one, so that the stop comes to lie between them."""
        if not edge.lines:
            yield from super().edge(edge)
            return
        stop = self.stops[id(edge)]
        begun, ended = ([*self.look(edge), *self.marks_of_row(edge, end)] for end in ("-from", "-to"))
        source, dest = self.ids[edge.source], self.ids[edge.dest]
        tail, head = list(self.tail(edge)), list(self.head(edge))
        if self.depths[edge.dest] >= self.depths[edge.source]:
            yield f"    {source} -> {stop} [{', '.join([*begun, *tail, 'dir=none'])}]"
            yield f"    {stop} -> {dest} [{', '.join([*ended, *head])}]"
        else:
            yield f"    {dest} -> {stop} [{', '.join([*ended, *map(_turned, head), 'dir=back'])}]"
            yield f"    {stop} -> {source} [{', '.join([*begun, *map(_turned, tail), 'dir=none'])}]"


def _depths(drawing: Drawing) -> dict[str, int]:
    """Where each node stands when they are listed as life goes, what leads on before what it leads to.

    In reverse postorder from the initial states, so that only an edge that closes a circle leads back.
    """
    nexts: dict[str, list[str]] = {node.key: [] for node in drawing.nodes}
    for edge in drawing.edges:
        nexts[edge.source].append(edge.dest)
    seen: set[str] = set()
    left: list[str] = []
    begun = {begin.dest for begin in drawing.begins}
    for start in sorted(drawing.nodes, key=lambda node: node.key not in begun):
        if start.key not in seen:
            _walk(start.key, nexts, seen, left)
    return {key: depth for depth, key in enumerate(reversed(left))} | {
        node.key: -1 for node in drawing.nodes if node.key in begun or node.kind is Kind.ANY
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

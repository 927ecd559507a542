"""A drawing as Mermaid, `stateDiagram-v2`, which code hosts and Sphinx render.

Every name is written as text, never as an identifier unless it is a plain word; in texts, all that could mean something
to Mermaid is written by number (`#59;`). In the light theme no theme is named, so that the page's own holds, which may
be a dark one.

Mermaid lays labels over edges and over one another, but keeps nodes apart. So what a row says is a node of its own,
with no border, that its edge leads through. Only a diagram which would be too large so has labels.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence

from fsm_conn.diagrams.drawing import Drawing, Edge, Kind, Line, Node
from fsm_conn.diagrams.errors import DiagramWarning
from fsm_conn.diagrams.themes import PALETTES, Theme, Tone

__all__ = ["MOST_CHARACTERS", "MOST_EDGES", "to_mermaid"]

MOST_CHARACTERS, MOST_EDGES = 50_000, 500
"""What Mermaid draws by default: its `maxTextSize` and `maxEdges`."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SPECIAL = re.compile(
    r"[^\w ./,()=+!?'«»…\u2400-\u2421-]|(?<=direction) |(?<![^\W_])_|_(?![^\W_])",
    re.IGNORECASE,
)
"""What means something to Mermaid, `direction TB` even in the middle of a text; `_` where Markdown would see it."""
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        "accdescr acctitle as call class classdef click constructor default direction end fork hide href join left "
        "note of over prototype right root scale state statediagram style title "
        # what every object of JavaScript has, by which Mermaid would take a state for a known one
        "hasownproperty isprototypeof propertyisenumerable tolocalestring tostring valueof",
    )
)


def to_mermaid(drawing: Drawing, theme: Theme) -> str:
    """Write it; with a warning, if it is more than Mermaid draws."""
    text = _Writing(drawing, theme, drawing.edges).text()
    if _excess(text):
        text = _Writing(drawing, theme).text()
    if excess := _excess(text):
        warnings.warn(
            f"{drawing.title}: {excess}, and Mermaid draws {MOST_CHARACTERS:,} characters and {MOST_EDGES} edges by "
            "default; draw it as svg, png or dot, or with less detail",
            DiagramWarning,
            stacklevel=4,
        )
    return text


def _excess(text: str) -> str:
    edges = text.count(" --> ")
    if edges > MOST_EDGES:
        return f"it has {edges} edges"
    return f"it has {len(text):,} characters" if len(text) > MOST_CHARACTERS else ""


class _Writing:
    def __init__(self, drawing: Drawing, theme: Theme, told_apart: Iterable[Edge] = ()) -> None:
        self.drawing = drawing
        self.theme = theme
        self.stops = [edge for edge in told_apart if edge.lines]
        """The edges that lead through a node which says what they say."""
        ids = _ids([*(node.key for node in drawing.nodes), *("\0" for _ in self.stops)])
        self.ids = dict(zip((node.key for node in drawing.nodes), ids, strict=False))
        self.through = dict(zip(map(id, self.stops), ids[len(drawing.nodes) :], strict=True))

    def text(self) -> str:
        return "\n".join(self.lines()) + "\n"

    def lines(self) -> Iterator[str]:
        if self.drawing.has_title:
            yield from ("---", f"title: {json.dumps(self.drawing.title, ensure_ascii=False)}", "---")
        if self.theme is Theme.DARK:
            yield '%%{init: {"theme": "dark"}}%%'
        yield "stateDiagram-v2"
        yield f"    accTitle: {_text(self.drawing.title)}"
        yield f"    accDescr: {_text(self.drawing.summary)}"
        yield from self.inside(None, "    ")
        for edge in self.drawing.edges:
            yield from self.edge(edge)
        yield from self.classes()

    def edge(self, edge: Edge) -> Iterator[str]:
        source, dest = self.ids[edge.source], self.ids[edge.dest]
        through = self.through.get(id(edge))
        if through is not None:
            yield f"    {source} --> {through}"
            yield f"    {through} --> {dest}"
        else:
            yield f"    {source} --> {dest}" + (f" : {_joined(edge.lines)}" if edge.lines else "")

    def inside(self, parent: str | None, indent: str) -> Iterator[str]:
        for number, (nodes, begins) in enumerate(self.drawing.regions(parent)):
            if number:
                yield f"{indent}--"
            for node in nodes:
                yield from self.node(node, indent)
            for edge in self.stops:
                if self.place(edge) == (parent, number):
                    yield f'{indent}state "{_joined(edge.lines)}" as {self.through[id(edge)]}'
            for begin in begins:
                yield f"{indent}[*] --> {self.ids[begin.dest]}"

    def place(self, edge: Edge) -> tuple[str | None, int]:
        """Where what an edge says has its place: inside the innermost state that holds both ends, in which region."""
        outer = [parent for parent, _ in self.drawing.around(edge.dest)]
        return next(each for each in self.drawing.around(edge.source) if each[0] in outer)

    def node(self, node: Node, indent: str) -> Iterator[str]:
        id = self.ids[node.key]
        declared = f'{indent}state "{_text(" ".join(node.title))}" as {id}'
        if node.kind is Kind.COMPOSITE:
            yield declared + " {"
            yield from self.inside(node.key, indent + "    ")
            yield indent + "}"
            if node.lines:
                yield f"{indent}note right of {id} : {_joined(node.lines)}"
            return
        yield declared
        for line in node.lines:
            yield f"{indent}{id} : {_text(line.text)}"

    def classes(self) -> Iterator[str]:
        """What marks a state beside its words."""
        palette = PALETTES[self.theme]
        ink, border = palette.tones[Tone.PLAIN], palette.lit_border
        looks = {
            "final": "stroke-width:4px",
            "lit": f"fill:{palette.lit},color:{ink},stroke:{border},stroke-width:3px",
            "row": "fill:transparent,stroke:transparent",
            "expected": "font-weight:bold",
            "any": "stroke-dasharray:5 4",
            "legend": "stroke-dasharray:1 3",
            "added": f"stroke:{palette.tones[Tone.GOOD]},stroke-width:3px",
            "changed": f"stroke:{palette.tones[Tone.WARN]},stroke-width:3px",
        }
        for name, look in looks.items():
            marked = [self.ids[node.key] for node in self.drawing.nodes if _is(node, name)]
            marked += [
                self.through[id(edge)] for edge in self.stops if name == "row" or (name == "expected" and edge.expected)
            ]
            if marked:
                yield f"    classDef {name}Mark {look}"
                yield f"    class {','.join(marked)} {name}Mark"


def _is(node: Node, look: str) -> bool:
    return {
        "final": node.final,
        "lit": node.lit,
        "any": node.kind is Kind.ANY,
        "legend": node.kind is Kind.LEGEND,
        "added": node.tone is Tone.GOOD,
        "changed": node.tone is Tone.WARN,
    }.get(look, False)


def _ids(keys: Sequence[str]) -> list[str]:
    """A plain word is its own identifier; all else gets a number, and no two are the same, in whatever case."""
    found: dict[int, str] = {}
    taken: set[str] = set()
    for plain in (True, False):
        for number, key in enumerate(keys):
            if _is_plain(key) is plain:
                id = key if plain else f"s{number}"
                while id in taken:
                    id += "_"
                taken.add(id)
                found[number] = id
    return [found[number] for number in range(len(keys))]


def _is_plain(name: str) -> bool:
    return _PLAIN.fullmatch(name) is not None and name.lower() not in _RESERVED


def _joined(lines: Sequence[Line]) -> str:
    return "<br>".join(_text(line.text) for line in lines)


def _text(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", text)

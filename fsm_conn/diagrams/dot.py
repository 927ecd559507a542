"""A drawing as DOT, for Graphviz.

Every label is a table whose cells have a size that is computed here. So the layout does not depend on the fonts of the
machine that draws: the same Graphviz gives the same SVG everywhere.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from html import escape

from fsm_conn.diagrams.drawing import Drawing, Edge, Kind, Line, Node
from fsm_conn.diagrams.themes import PALETTES, Palette, Theme, Tone
from fsm_conn.diagrams.words import visible

__all__ = ["FONT", "to_dot"]

FONT = "DejaVu Sans"
_DOT = "\0initial "
TITLE, BODY = 13, 10
"""Sizes of text, in points."""
_LEADING = 1.5
"""Height of a line over the size of its text."""
_BOLD = 1.13
"""Width of a bold text over that of a plain one, at most."""

_WIDTHS = {
    char: width
    for width, chars in {
        0.30: "'IJijl",
        0.35: " ,./:;\\|",
        0.40: "()-[]ft",
        0.45: "!r",
        0.50: '"*_`',
        0.55: "?csz",
        0.60: "FLkvxy",
        0.65: "$0123456789EPSTYabdeghnopqu{}",
        0.70: "ABCKRVXZ",
        0.75: "NU",
        0.80: "&DGHOQ",
        0.85: "#+<=>^w~",
        0.90: "M",
        0.95: "%",
        1.00: "@Wm",
    }.items()
    for char in chars
}
"""Widths of the characters of DejaVu Sans, and so of Verdana, over the size, rounded up."""


def to_dot(drawing: Drawing, theme: Theme) -> str:
    """Write it."""
    return "\n".join(_Writing(drawing, PALETTES[theme]).lines()) + "\n"


class _Writing:
    def __init__(self, drawing: Drawing, palette: Palette) -> None:
        self.drawing = drawing
        self.palette = palette
        self.nodes = {node.key: node for node in drawing.nodes}
        self.ids = _ids(drawing)

    def lines(self) -> Iterator[str]:
        plain = self.palette.tones[Tone.PLAIN]
        yield f"digraph {_quoted(self.drawing.title)} {{"
        yield (
            f'    graph [bgcolor="{self.palette.ground}", compound=true, fontname="{FONT}", '
            "nodesep=0.45, pad=0.2, rankdir=TB, ranksep=0.5]"
        )
        yield f'    node [fontname="{FONT}", fontsize={BODY}, fontcolor="{plain}", margin=0, shape=plain]'
        yield f'    edge [fontname="{FONT}", fontsize={BODY}, fontcolor="{plain}", arrowsize=0.7]'
        yield from self.inside(None, "    ")
        for edge in self.drawing.edges:
            yield self.edge(edge)
        yield "}"

    def inside(self, parent: str | None, indent: str) -> Iterator[str]:
        for node in self.drawing.inside(parent):
            if node.kind is Kind.COMPOSITE:
                border = self.border(node)
                yield f"{indent}subgraph {self.cluster(node.key)} {{"
                yield f'{indent}    graph [color="{border}", style="rounded", margin=12]'
                yield f"{indent}    {self.node(node)}"
                yield from self.inside(node.key, indent + "    ")
                yield indent + "}"
            else:
                yield indent + self.node(node)
            if node.initial:
                yield from self.initial(node, indent)

    def initial(self, node: Node, indent: str) -> Iterator[str]:
        ink = self.palette.tones[Tone.PLAIN]
        dot = self.ids[_DOT + node.key]
        look = f'shape=circle, style=filled, color="{ink}", fillcolor="{ink}"'
        yield f'{indent}{dot} [{look}, width=0.16, height=0.16, fixedsize=true, label=""]'
        lead = f", lhead={self.cluster(node.key)}" if node.kind is Kind.COMPOSITE else ""
        yield f'{indent}{dot} -> {self.ids[node.key]} [color="{ink}", weight=4{lead}]'

    def cluster(self, key: str) -> str:
        return f'"cluster {self.ids[key][1:]}'

    def node(self, node: Node) -> str:
        return f"{self.ids[node.key]} [label=<{self.node_label(node)}>]"

    def node_label(self, node: Node) -> str:
        widths = [_width(text, TITLE, bold=True) for text in node.title]
        width = max(widths + [_width(line.text, BODY) for line in node.lines])
        cells = [self.title(text, width) for text in node.title]
        if node.lines and node.kind is not Kind.COMPOSITE:
            cells.append("<HR/>")
        cells += [self.cell(line, width) for line in node.lines]
        look = {
            Kind.STATE: f'BORDER="{2.5 if node.lit else 1}" STYLE="ROUNDED"',
            Kind.COMPOSITE: 'BORDER="0"',
            Kind.ANY: 'BORDER="1" STYLE="ROUNDED,DASHED"',
        }[node.kind]
        fill = (
            self.palette.lit if node.lit else self.palette.ground if node.kind is not Kind.STATE else self.palette.state
        )
        inner = (
            f'<TABLE {look} CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" COLOR="{self.border(node)}" '
            f'BGCOLOR="{fill}">{"".join(cells)}</TABLE>'
        )
        if not node.final:
            return inner
        return (
            f'<TABLE BORDER="1" STYLE="ROUNDED" CELLBORDER="0" CELLSPACING="0" CELLPADDING="3" '
            f'COLOR="{self.border(node)}"><TR><TD>{inner}</TD></TR></TABLE>'
        )

    def title(self, text: str, width: int) -> str:
        return _cell(f'<FONT POINT-SIZE="{TITLE}"><B>{_text(text)}</B></FONT>', width, TITLE)

    def cell(self, line: Line, width: int) -> str:
        return _cell(f'<FONT COLOR="{self.palette.tones[line.tone]}">{_text(line.text)}</FONT>', width, BODY)

    def border(self, node: Node) -> str:
        return self.palette.lit_border if node.lit else self.palette.border

    def edge(self, edge: Edge) -> str:
        width = max(_width(line.text, BODY) for line in edge.lines)
        cells = "".join(self.cell(line, width) for line in edge.lines)
        label = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0">{cells}</TABLE>'
        colour = self.palette.border if edge.tone is Tone.PLAIN else self.palette.tones[edge.tone]
        look = [f'color="{colour}"', f"label=<{label}>", *self.ends(edge)]
        if edge.tone is not Tone.PLAIN:
            look.append("penwidth=1.8")
        return f"    {self.ids[edge.source]} -> {self.ids[edge.dest]} [{', '.join(look)}]"

    def ends(self, edge: Edge) -> Iterator[str]:
        """At the border of a composite state, for an edge that crosses it."""
        for key, other, name in ((edge.source, edge.dest, "ltail"), (edge.dest, edge.source, "lhead")):
            if self.nodes[key].kind is Kind.COMPOSITE and not self.is_inside(other, key):
                yield f"{name}={self.cluster(key)}"

    def is_inside(self, key: str | None, parent: str) -> bool:
        while key is not None and key != parent:
            key = self.nodes[key].parent
        return key == parent


def _cell(html: str, width: int, size: int) -> str:
    height = math.ceil(size * _LEADING)
    return f'<TR><TD ALIGN="LEFT" FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="{height}">{html}</TD></TR>'


def _width(text: str, size: int, bold: bool = False) -> int:
    """Points that hold the text in the font, and in narrower ones."""
    return math.ceil(sum(map(_of_char, text)) * size * (_BOLD if bold else 1)) + 8


def _of_char(char: str) -> float:
    return _WIDTHS.get(char) or (0.0 if unicodedata.combining(char) else 1.2 if char > "\u1100" else 0.9)


def _text(text: str) -> str:
    """For a label: spaces stay, however many."""
    return escape(text).replace("  ", " &#160;") or " "


def _ids(drawing: Drawing) -> dict[str, str]:
    """The names of all nodes in DOT, quoted, no two the same; those of initial dots under `_DOT` and their state's."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for key in [node.key for node in drawing.nodes] + [_DOT + node.key for node in drawing.nodes if node.initial]:
        id = visible(key)
        while id in taken:
            id += "'"
        taken.add(id)
        found[key] = _quoted(id)
    return found


def _quoted(text: str) -> str:
    """A string of DOT. It keeps both of two backslashes; one alone would hide the quote after it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

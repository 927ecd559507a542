"""Labels for Graphviz: tables whose cells have a size that is computed here, with all text beginning at the left.

So the layout does not depend on the fonts of the machine that draws: the same Graphviz gives the same SVG everywhere.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from html import escape

from fsm_conn.diagrams.drawing import Edge, Kind, Line, Node
from fsm_conn.diagrams.themes import Palette, Tone

__all__ = ["BODY", "FONT", "Labels"]

FONT = "DejaVu Sans"
HEAD, TITLE, BODY = 16, 13, 10
"""Sizes of text, in points."""
_LEADING = 1.5
"""Height of a line over the size of its text."""
_GAP = 6
"""Points between a border, or an edge, and the text at its right."""
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
_WIDE = "\u0900"
"""From here on are the scripts whose characters are as wide as they are high, and stand higher than Latin ones."""
_HIGH = 1.3
"""Height of a line with such characters over that of others."""


class Labels:
    """Writes labels in the colours of a palette, without the `<` and `>` around them."""

    def __init__(self, palette: Palette) -> None:
        self._palette = palette

    def of_node(self, node: Node) -> str:
        """The name, a line, and what there is to say. A final state has a second border."""
        widths = [_width(text, TITLE) * _BOLD for text in node.title] + [_width(line.text, BODY) for line in node.lines]
        width = math.ceil(max(widths)) + _GAP
        cells = [_cell(f'<FONT POINT-SIZE="{TITLE}"><B>{_text(text)}</B></FONT>', width, TITLE) for text in node.title]
        if node.lines and node.kind is not Kind.COMPOSITE:
            cells.append("<HR/>")
        cells += self._cells(node.lines, width)
        border = self.border(node)
        look = f'STYLE="{self._style(node)}" COLOR="{border}" BGCOLOR="{self._fill(node)}"'
        marked = node.lit or node.tone is not Tone.PLAIN
        label = _table("".join(cells), f'BORDER="{0 if node.kind is Kind.COMPOSITE else 3 if marked else 1}" {look}')
        if not node.final:
            return label
        return _table(f"<TR><TD>{label}</TD></TR>", f'BORDER="1" STYLE="ROUNDED" COLOR="{border}"', 3)

    def of_edge(self, edge: Edge) -> str:
        """What an edge says: one that is expected, in bold letters."""
        bold = _BOLD if edge.expected else 1.0
        width = math.ceil(max(_width(line.text, BODY) for line in edge.lines) * bold) + _GAP
        return _table("".join(self._cells(edge.lines, width, bold=edge.expected)), 'BORDER="0"')

    def of_title(self, title: str) -> str:
        """What stands above the whole."""
        width = math.ceil(_width(title, HEAD) * _BOLD) + _GAP
        head = f'<FONT COLOR="{self._palette.tones[Tone.PLAIN]}" POINT-SIZE="{HEAD}"><B>{_text(title)}</B></FONT>'
        return _table(_cell(head, width, HEAD) + '<TR><TD HEIGHT="8"></TD></TR>', 'BORDER="0"')

    def border(self, node: Node) -> str:
        """The colour of its border."""
        if node.lit:
            return self._palette.lit_border
        return self._palette.border if node.tone is Tone.PLAIN else self._palette.tones[node.tone]

    @staticmethod
    def _style(node: Node) -> str:
        return {Kind.ANY: "ROUNDED,DASHED", Kind.LEGEND: "DOTTED"}.get(node.kind, "ROUNDED")

    def _fill(self, node: Node) -> str:
        if node.lit:
            return self._palette.lit
        return self._palette.state if node.kind is Kind.STATE else self._palette.ground

    def _cells(self, lines: Sequence[Line], width: int, *, bold: bool = False) -> list[str]:
        return [_cell(self._line(line, bold and line.tone is Tone.PLAIN), width, BODY) for line in lines]

    def _line(self, line: Line, bold: bool) -> str:
        text = f"<B>{_text(line.text)}</B>" if bold else _text(line.text)
        return f'<FONT COLOR="{self._palette.tones[line.tone]}">{text}</FONT>'


def _table(rows: str, look: str, padding: int = 0) -> str:
    return f'<TABLE {look} CELLBORDER="0" CELLSPACING="0" CELLPADDING="{padding}">{rows}</TABLE>'


def _cell(html: str, width: int, size: int) -> str:
    height = math.ceil(size * _LEADING * (_HIGH if max(html) >= _WIDE else 1.0))
    gap = f'<TD FIXEDSIZE="TRUE" WIDTH="{_GAP}" HEIGHT="{height}"></TD>'
    return f'<TR>{gap}<TD ALIGN="LEFT" FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="{height}">{html}</TD></TR>'


def _width(text: str, size: int) -> float:
    """Points that hold the text in the font, and in narrower ones."""
    return math.fsum(map(_of_char, text)) * size  # which is exact: `sum` differs between versions of Python


def _of_char(char: str) -> float:
    return _WIDTHS.get(char) or (0.0 if _is_mark(char) else 1.2 if char >= _WIDE else 0.9)


def _is_mark(char: str) -> bool:
    """Whether it has no width of its own: an accent, or what joins or selects emoji."""
    return unicodedata.category(char) in ("Mn", "Me", "Cf")


def _text(text: str) -> str:
    r"""Spaces stay, however many; so do backslashes: one alone Graphviz would take for a command, such as `\N`."""
    return escape(text).replace("\\", r"\\").replace("  ", " &#160;")

"""A drawing as Mermaid, `stateDiagram-v2`, which code hosts and Sphinx render.

Every name is written as text, never as an identifier unless it is a plain word; in texts, all that could mean something
to Mermaid is written by number (`#59;`). In the light theme no theme is named, so that the page's own holds, which may
be a dark one.

Mermaid draws all loops of a state on top of one another, so those of one state share a line, on which they are told one
below the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fsm_conn.diagrams.drawing import Drawing, Kind, Line, Node
from fsm_conn.diagrams.themes import PALETTES, Theme, Tone

__all__ = ["OR", "to_mermaid"]

OR = "— or —"
"""Between the rows that share a line."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SPECIAL = re.compile(
    r"[^\w ./,()=+!?'«»…\u2400-\u2421-]|(?<=direction) |(?<![^\W_])_|_(?![^\W_])",
    re.IGNORECASE,
)
"""What means something to Mermaid, `direction TB` even in the middle of a text; `_` where Markdown would see it; the
dash of `OR`."""
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
    """Write it."""
    return "\n".join(_Writing(drawing, theme).lines()) + "\n"


class _Writing:
    def __init__(self, drawing: Drawing, theme: Theme) -> None:
        self.drawing = drawing
        self.theme = theme
        self.ids = _ids(drawing.nodes)

    def lines(self) -> Iterator[str]:
        if self.theme is Theme.DARK:
            yield '%%{init: {"theme": "dark"}}%%'
        yield "stateDiagram-v2"
        yield f"    accTitle: {_text(self.drawing.title)}"
        yield f"    accDescr: {_text(self.drawing.summary)}"
        yield from self.inside(None, "    ")
        for source, dest, text in self.edges():
            yield f"    {self.ids[source]} --> {self.ids[dest]} : {text}"
        yield from self.classes()

    def edges(self) -> Iterator[tuple[str, str, str]]:
        loops: dict[str, list[str]] = {}
        for edge in self.drawing.edges:
            if edge.source == edge.dest:
                loops.setdefault(edge.source, []).append(_joined(edge.lines))
            else:
                yield edge.source, edge.dest, _joined(edge.lines)
        for state, texts in loops.items():
            yield state, state, f"<br>{OR}<br>".join(texts)

    def inside(self, parent: str | None, indent: str) -> Iterator[str]:
        for node in self.drawing.inside(parent):
            yield from self.node(node, indent)
        for node in self.drawing.inside(parent):
            if node.initial:
                yield f"{indent}[*] --> {self.ids[node.key]}"

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
            "any": "stroke-dasharray:5 4",
            "legend": "stroke-dasharray:1 3",
            "added": f"stroke:{palette.tones[Tone.GOOD]},stroke-width:3px",
            "changed": f"stroke:{palette.tones[Tone.WARN]},stroke-width:3px",
        }
        for name, look in looks.items():
            marked = [self.ids[node.key] for node in self.drawing.nodes if _is(node, name)]
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
    }[look]


def _ids(nodes: Sequence[Node]) -> dict[str, str]:
    """A plain word is its own identifier; all else gets a number, and no two are the same, in whatever case."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for plain in (True, False):
        for number, node in enumerate(nodes):
            if _is_plain(node.key) is plain:
                id = node.key if plain else f"s{number}"
                while id in taken:
                    id += "_"
                taken.add(id)
                found[node.key] = id
    return found


def _is_plain(name: str) -> bool:
    return _PLAIN.fullmatch(name) is not None and name.lower() not in _RESERVED


def _joined(lines: Sequence[Line]) -> str:
    return "<br>".join(_text(line.text) for line in lines)


def _text(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", text)

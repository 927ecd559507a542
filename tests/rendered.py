"""What Mermaid and Graphviz have really drawn: read from the places of boxes and lines, not from what was written.

A line leads from the box that its one end touches to the box that its arrow touches; nothing else says so here.
"""

from __future__ import annotations

import atexit
import re
from collections import Counter
from functools import cache
from typing import Any
from xml.etree import ElementTree

import attrs
from mermaidx.engines.quickjs_engine import Engine

from fsm_conn.diagrams import diagram

SVG = "{http://www.w3.org/2000/svg}"
XHTML = "{http://www.w3.org/1999/xhtml}"
_NUMBER = r"(-?[\d.]+(?:e-?\d+)?)"
NEAR = 9.0
"""How far an end of a line may be from its box: Mermaid's arrows stop short of it."""


@attrs.frozen
class Box:
    """What a line may lead to."""

    kind: str
    """`state`, `row` or `begin`."""
    text: str
    left: float
    top: float
    right: float
    bottom: float

    def distance(self, x: float, y: float) -> float:
        """From a point to its border, from inside or outside."""
        if self.left <= x <= self.right and self.top <= y <= self.bottom:
            return min(x - self.left, self.right - x, y - self.top, self.bottom - y)
        return float(max(self.left - x, x - self.right, 0.0) + max(self.top - y, y - self.bottom, 0.0))

    def overlaps(self, other: Box) -> bool:
        """Whether the two cover one another."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )  # fmt: skip

    def holds(self, other: Box) -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left
            and self.right >= other.right
            and self.top <= other.top
            and self.bottom >= other.bottom
        )  # fmt: skip


@attrs.frozen
class Line:
    """From one point to another; an arrow is at its end, unless it has none."""

    begin: tuple[float, float]
    end: tuple[float, float]
    has_arrow: bool = True


@attrs.define
class Seen:
    """A drawing as an eye sees it."""

    boxes: list[Box]
    lines: list[Line]
    texts: list[str] = attrs.field(factory=list)

    def at(self, point: tuple[float, float]) -> Box:
        """The box that a line touches there."""
        found = min(self.boxes, key=lambda box: (round(box.distance(*point)), box.kind != "row"))
        assert found.distance(*point) < NEAR, (point, found)
        return found

    @property
    def begins(self) -> Counter[str]:
        """What the dots lead to."""
        ends = ((self.at(line.begin), self.at(line.end)) for line in self.lines if line.has_arrow)
        return Counter(dest.text for source, dest in ends if source.kind == "begin")

    @property
    def rows(self) -> Counter[tuple[str, str, str]]:
        """Source, destination and what is said on the way."""
        into: dict[Box, str] = {}
        out: dict[Box, str] = {}
        for line in self.lines:
            source, dest = self.at(line.begin), self.at(line.end)
            if source.kind == "row" and line.has_arrow:
                out[source] = dest.text
            elif dest.kind == "row":
                into[dest] = source.text
            elif source.kind == "row":  # a line without an arrow may be drawn from either end
                into[source] = dest.text
        assert into.keys() == out.keys() == {box for box in self.boxes if box.kind == "row"}
        return Counter((into[box], out[box], box.text) for box in into)

    def covered(self) -> list[tuple[str, str]]:
        """Texts of rows that lie on one another, or on a state that they are not inside of."""
        rows = [box for box in self.boxes if box.kind == "row"]
        others = [box for box in self.boxes if box.kind != "row"]
        return [
            (one.text, other.text)
            for place, one in enumerate(rows)
            for other in (*rows[place + 1 :], *others)
            if one.overlaps(other) and not other.holds(one)
        ]


class _OnePage(Engine):  # type: ignore[misc]
    """Draws all pictures on one page: to load Mermaid anew takes as long as to draw a small one, and only ids differ."""

    def _ensure_fresh_context(self) -> None:
        """The first is kept."""


@cache
def _page() -> _OnePage:
    page = _OnePage()
    page.start()
    atexit.register(page.close)
    return page


@cache
def _drawn_by_mermaid(source: str) -> str:
    """Kept, for it takes seconds to draw a connection."""
    picture: str = _page().render_svg(source, "default", None, None)
    return picture


def by_mermaid(machine: Any, **options: Any) -> Seen:
    """As Mermaid draws it."""
    root = ElementTree.fromstring(_drawn_by_mermaid(diagram(machine, **options)))
    seen = Seen([], [], [_words(each) for each in root.iter(f"{XHTML}div")])
    _see(root, 0.0, 0.0, seen)
    return seen


def _see(element: Any, x: float, y: float, seen: Seen) -> None:
    """Everything is drawn in the place of what it is in."""
    dx, dy = _shift(element)
    x, y, classes = x + dx, y + dy, (element.get("class") or "").split()
    if "statediagram-note" in classes or "note-edge" in classes:
        return
    if element.tag == f"{SVG}path" and element.get("data-edge"):
        begin, end = _ends(element.get("d", ""))
        seen.lines.append(Line((begin[0] + x, begin[1] + y), (end[0] + x, end[1] + y)))
    elif "divider" in [each.get("class") for each in element.iter(f"{SVG}rect")] and "statediagram-cluster" in classes:
        return
    elif "node" in classes or "statediagram-cluster" in classes:
        seen.boxes.append(_mermaid_box(element, x, y, classes))
        return
    for each in element:
        _see(each, x, y, seen)


def _mermaid_box(element: Any, x: float, y: float, classes: list[str]) -> Box:
    """Of a state that says something, its name comes first."""
    rects = [each for each in element.iter(f"{SVG}rect") if each.get("width")]
    if not rects:
        return Box("begin", "●", x - 7, y - 7, x + 7, y + 7)
    told = [_words(each) for each in element.iter(f"{XHTML}div")]
    text = " ".join(told) if "rowMark" in classes else told[0]
    sizes = [tuple(float(each.get(name, "0")) for name in ("x", "y", "width", "height")) for each in rects]
    left, top, width, height = max(sizes, key=lambda size: size[2] * size[3])
    kind = "row" if "rowMark" in classes else "state"
    return Box(kind, text, x + left, y + top, x + left + width, y + top + height)


def _shift(element: Any) -> tuple[float, float]:
    found = re.match(rf"translate\({_NUMBER}[ ,]+{_NUMBER}\)", element.get("transform") or "")
    return (float(found[1]), float(found[2])) if found else (0.0, 0.0)


def _words(element: Any) -> str:
    for each in element.iter():
        if each.tag == f"{XHTML}br":
            each.tail = " " + (each.tail or "")
    return " ".join("".join(element.itertext()).split())


def by_graphviz(machine: Any, **options: Any) -> Seen:
    """As Graphviz draws it."""
    root = ElementTree.fromstring(diagram(machine, "svg", **options))
    seen = Seen([], [])
    for group in root.iter(f"{SVG}g"):
        classes = (group.get("class") or "").split()
        texts = ["".join(each.itertext()).replace("\N{NO-BREAK SPACE}", " ") for each in group.iter(f"{SVG}text")]
        if "edge" in classes:
            seen.lines.append(_graphviz_line(group))
        elif ("node" in classes or "cluster" in classes) and "fsm-region" not in classes:
            kind = next((each for each in ("begin", "row") if f"fsm-{each}" in classes), "state")
            seen.boxes.append(_graphviz_box(group, kind, " ".join(texts) if kind == "row" else (texts or ["●"])[0]))
            seen.texts += texts
    return seen


def _graphviz_line(group: Any) -> Line:
    """Its arrow points where the line alone does not reach to."""
    begin, end = _ends(next(each.get("d", "") for each in group.iter(f"{SVG}path")))
    arrows = [_points(each.get("points", "")) for each in group.iter(f"{SVG}polygon")]
    if not arrows:
        return Line(begin, end, has_arrow=False)
    (tip,) = (max(each, key=lambda point: min(_far(point, begin), _far(point, end))) for each in arrows)
    return Line(end, tip) if _far(tip, begin) < _far(tip, end) else Line(begin, tip)


def _graphviz_box(group: Any, kind: str, text: str) -> Box:
    points = [point for each in group.iter() for point in _points(each.get("d") or each.get("points") or "")]
    for each in group.iter(f"{SVG}ellipse"):
        x, y, radius = (float(each.get(name, "0")) for name in ("cx", "cy", "rx"))
        points += [(x - radius, y - radius), (x + radius, y + radius)]
    for each in group.iter(f"{SVG}text") if kind == "row" else ():
        x, y, size = (float(each.get(name, "0")) for name in ("x", "y", "font-size"))
        points += [(x - 6, y - size), (x + 0.6 * size * len("".join(each.itertext())), y + size / 2)]
    across, down = zip(*points, strict=True)
    return Box(kind, text, min(across), min(down), max(across), max(down))


def _points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(rf"{_NUMBER},{_NUMBER}", text)]


def _ends(path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    points = _points(path)
    return points[0], points[-1]


def _far(one: tuple[float, float], other: tuple[float, float]) -> float:
    return float(((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) ** 0.5)

"""DOT to SVG and PNG, by the Graphviz that comes with pygraphviz: no program `dot` is needed.

The SVG stands alone and can be read aloud: it has a role, a title and a description, and refers to nothing outside.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any

from fsm_conn.diagrams.dot import FONT
from fsm_conn.diagrams.errors import needed

__all__ = ["to_png", "to_svg"]

_FAMILY = f"{FONT}, Verdana, Geneva, sans-serif"
"""Fonts as wide as the one that the cells were measured for, wherever the picture is looked at."""
_HEAD = re.compile(r"\A.*?<svg ", re.DOTALL)
_ROOT_TITLE = re.compile(r'(<g id="graph0".*?>)\s*<title>.*?</title>', re.DOTALL)
DPI = 144
"""Dots per inch of a PNG: twice those of a plain screen."""


def to_svg(dot: str, title: str, summary: str) -> str:
    """Draw.

    Raises:
        ImportError: pygraphviz is not installed.
    """
    drawn: bytes = _graph(dot).draw(None, format="svg", prog="dot")
    return _accessible(drawn.decode(), title, summary)


def to_png(dot: str) -> bytes:
    """Draw. The bytes depend on the fonts of this machine, the layout does not.

    Raises:
        ImportError: pygraphviz is not installed.
    """
    graph = _graph(dot)
    graph.graph_attr["dpi"] = str(DPI)
    drawn: bytes = graph.draw(None, format="png", prog="dot")
    return drawn


def _graph(dot: str) -> Any:
    return needed("pygraphviz", "diagrams", "drawing SVG or PNG").AGraph(string=dot)


def _accessible(svg: str, title: str, summary: str) -> str:
    svg = _HEAD.sub('<svg role="img" aria-labelledby="title desc" ', svg, count=1)
    svg = svg.replace(f'font-family="{FONT}"', f'font-family="{_FAMILY}"')
    told = f'<title id="title">{escape(title)}</title>\n<desc id="desc">{escape(summary)}</desc>\n'
    return _ROOT_TITLE.sub(lambda found: found[1], svg, count=1).replace('<g id="graph0"', told + '<g id="graph0"', 1)

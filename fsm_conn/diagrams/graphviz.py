"""DOT to SVG and PNG, by the Graphviz that comes with pygraphviz: no program `dot` is needed.

The SVG stands alone and can be read aloud: it has a role, a title and a description, and refers to nothing outside.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from fsm_conn._util.extras import needed
from fsm_conn.diagrams.labels import FONT

__all__ = ["to_png", "to_svg"]

_FAMILY = f"{FONT}, Verdana, Geneva, sans-serif"
"""Fonts as wide as the one that the cells were measured for, wherever the picture is looked at."""
_HEAD = re.compile(r"\A.*?graphviz version (\S+).*?<svg ", re.DOTALL)
_COMMENT = re.compile(r"<!-- .*? -->\n", re.DOTALL)
_TITLE = re.compile(r'(<g id="[^"]*" class="([^"]*)"[^>]*>)\n<title>(.*?)</title>', re.DOTALL)
_OURS = re.compile(rb"Fontconfig warning: |Warning: cell size too small for content|in label of (?:node|edge|graph) ")
DPI = 144
"""Dots per inch of a PNG: twice those of a plain screen."""


def to_svg(dot: str, title: str, summary: str) -> str:
    """Draw.

    Raises:
        ImportError: pygraphviz is not installed.
    """
    graph = _graph(dot)
    with _quiet_fonts():
        drawn: bytes = graph.draw(None, format="svg", prog="dot")
    return _accessible(drawn.decode(), title, summary)


def to_png(dot: str) -> bytes:
    """Draw. The bytes depend on the fonts of this machine, the layout does not.

    Raises:
        ImportError: pygraphviz is not installed.
    """
    graph = _graph(dot)
    graph.graph_attr["dpi"] = str(DPI)
    with _quiet_fonts():
        drawn: bytes = graph.draw(None, format="png", prog="dot")
    return drawn


def _graph(dot: str) -> Any:
    return needed("pygraphviz", "diagrams", "drawing SVG or PNG").AGraph(string=dot)


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Keep from stderr what the bundled font library says of a system's configuration that is newer than itself, and
    what Graphviz says of cells whose size we have given, where a font of this system is larger than ours.

    It writes to the descriptor, past Python; what else is written there meanwhile comes out a moment later.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr that could be spoilt
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            others = [line for line in said if not _OURS.match(line)]
            if others:
                os.write(2, b"".join(others))


def _accessible(svg: str, title: str, summary: str) -> str:
    drawn_by = _HEAD.match(svg)
    svg = _COMMENT.sub("", _HEAD.sub('<svg role="img" aria-labelledby="title desc" ', svg, count=1))
    svg = svg.replace("&#45;", "-").replace(f'font-family="{FONT}"', f'font-family="{_FAMILY}"')
    told = f"<!-- Graphviz {drawn_by[1]} -->\n" if drawn_by is not None else ""
    told += f'<title id="title">{escape(title)}</title>\n<desc id="desc">{escape(summary)}</desc>\n'
    return _TITLE.sub(_titled, svg).replace('<g id="graph0"', f'{told}<g id="graph0"', 1)


def _titled(found: re.Match[str]) -> str:
    """States and rows keep their titles; others would say the names that Graphviz goes by."""
    tag, kinds, title = found[1], found[2].split(), found[3]
    if "cluster" in kinds and "fsm-state" in kinds:
        title = title.removeprefix("cluster ")
    elif "node" not in kinds or "fsm-begin" in kinds:
        return tag
    return f"{tag}\n<title>{title}</title>"

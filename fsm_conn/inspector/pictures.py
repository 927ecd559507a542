"""Draws the diagram of a table once for each theme, in a separate process: Graphviz would block the event loop."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections import OrderedDict

from fsm_conn.diagrams.dot import picture_dot
from fsm_conn.diagrams.drafting import drawing_of
from fsm_conn.diagrams.drawing import Detail
from fsm_conn.diagrams.errors import DiagramError
from fsm_conn.diagrams.overlays import overlays_of
from fsm_conn.diagrams.themes import Theme
from fsm_conn.machine.chart_values import Chart

__all__ = ["Pictures"]

KEPT = 64
PATIENCE = 60.0
"""Seconds allowed for one picture."""
LARGEST = 200
"""States and rows of the largest table that is drawn; a larger table is shown as a board."""

_DRAW = """
import json, sys
from fsm_conn.diagrams.graphviz import to_svg
sys.stdout.buffer.write(to_svg(*json.load(sys.stdin)).encode())
"""


class Pictures:
    """Pictures, cached by what they show."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._turn = asyncio.Lock()

    async def of(self, chart: Chart, theme: str, detail: str) -> str:
        """The picture as SVG. Its parts have stable identifiers, see `fsm_conn.diagrams.dot`.

        Raises:
            DiagramError: the table cannot be drawn; the message says why.
            ValueError: there is no such theme or detail.
        """
        colours, much = Theme(theme), Detail(detail)
        if importlib.util.find_spec("pygraphviz") is None:
            raise DiagramError("pygraphviz is not installed; it comes with: pip install 'fsm_conn[diagrams]'")
        if len(chart.states) > LARGEST or len(chart.rows) > LARGEST:
            raise DiagramError(f"a table of more than {LARGEST} states or rows is too large for a picture")
        drawing = drawing_of(chart, overlays_of(chart, None, None, None, None), much, None)
        asked = json.dumps([picture_dot(drawing, colours), drawing.title, drawing.summary])
        async with self._turn:
            if asked not in self._kept:
                self._kept[asked] = await asyncio.to_thread(_drawn, asked)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return self._kept[asked]


def _drawn(asked: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-c", _DRAW], input=asked.encode(), capture_output=True, timeout=PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DiagramError(f"the picture could not be drawn: {type(error).__name__}") from error
    return done.stdout.decode()

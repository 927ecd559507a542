"""`fsm-conn demo`: a tour, on a terminal with the states drawn below it."""

from __future__ import annotations

import click
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from fsm_conn.cli.drawing import INDENT, draw, first_line, transition_line
from fsm_conn.cli.ending import run_to_end
from fsm_conn.cli.terminal import Console, drawing, output
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.demo.tour import tour

__all__ = ["command"]

PAUSE = 0.8
"""Seconds between two steps on a terminal. The tour pauses, not the plugin: every time shown is real."""
MARGIN = 4
"""Columns to the left of the drawing."""


class LinePage:
    """The tour as lines, for pipes and files."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._unwritten: OSError | None = None

    def title(self, text: str) -> None:
        """Print a title."""
        self._write(Text(text, "bold"))

    def did(self, text: str) -> None:
        """Print what was done between transitions."""
        self._write(Text(" " * INDENT + text))

    def moved(self, at: float, record: ConnectionRecord) -> None:
        """Print a transition. An observer cannot raise: if the line cannot be written, the next one ends the tour."""
        if self._unwritten is None:
            try:
                self._write(self._line(at, record))
            except OSError as error:
                self._unwritten = error

    def _line(self, at: float, record: ConnectionRecord) -> Text:
        why = first_line(record.reason)
        return transition_line(f"{at:8.3f} s", record.source, record.dest, why, width=self.console.room)

    def _write(self, text: Text) -> None:
        if self._unwritten is not None:
            raise self._unwritten
        self.console.say(text)


class LivePage(LinePage):
    """The same lines, with the states drawn below them, and the present one highlighted."""

    def __init__(self, console: Console, live: Live) -> None:
        super().__init__(console)
        self._live = live
        self._draw("disconnected", None)

    def moved(self, at: float, record: ConnectionRecord) -> None:
        """Print a transition, and redraw."""
        super().moved(at, record)
        self._draw(record.dest, (record.source, record.dest))

    def _draw(self, state: str, last: tuple[str, str] | None) -> None:
        ascii_only = not self.console.encoding.startswith("utf")
        drawn = draw(state, last, ascii_only=ascii_only, room=self.console.width - MARGIN)
        self._live.update(Padding(drawn, (1, 0, 0, MARGIN)), refresh=True)


@click.command(epilog="Example: fsm-conn demo")
@click.option("--pause", type=click.FloatRange(0, 60), metavar="SECONDS", help="The pause between two steps.")
def command(pause: float | None) -> None:
    """Start the packaged calculator plugin, call it, kill it with -9 under way, show every transition with its time as
    it happens, and disconnect.
    """
    console = output()
    if not console.is_terminal:
        run_to_end(tour(LinePage(console), pause or 0.0))
        return
    with drawing(console) as live:
        run_to_end(tour(LivePage(console, live), PAUSE if pause is None else pause))

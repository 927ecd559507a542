"""The consoles for output: a terminal that can be drawn on, or a file or pipe that receives plain lines.

Only styles that are readable on light and dark backgrounds are used. Markup is always off: text is shown as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from fsm_conn._util.text import plain
from fsm_conn.cli.streams import PlainStream, stream_below
from fsm_conn.cli.system import sent_output_kept

__all__ = ["STATE_STYLES", "Console", "drawing", "output", "progress_output", "state_text"]

STATE_STYLES = {"connected": "bold green", "failed": "bold red", "reconnecting": "bold magenta"}
"""The styles of state names; all other names are bold."""


class Console(rich.console.Console):
    """As rich's console, with four differences. All printed or drawn text is made plain, so that only styles become
    escapes. A closed reader is reported to the caller. Lines are wrapped only on a terminal. The cursor is never
    hidden, because nobody could show it again after this process was killed.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render as usual, with all text made plain."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise the error, instead of ending the process."""
        raise

    def show_cursor(self, show: bool = True) -> bool:
        """Do nothing: the cursor stays visible."""
        return False

    @property
    def room(self) -> int | None:
        """Columns of the terminal; None: lines may have any length."""
        return self.width if self.is_terminal else None

    def say(self, text: Text | str = "", style: str = "") -> None:
        """Print the text as it is, and end the line."""
        shown = text if isinstance(text, Text) else Text(plain(text), style)
        self.print(shown, soft_wrap=not self.is_terminal)


@contextmanager
def drawing(console: Console) -> Iterator[Live]:
    """A drawing that is redrawn in place, below the lines that are printed meanwhile.

    On Ctrl-C a terminal discards output that it has not shown yet. Half a drawing would remain, and the next one would
    erase too many lines. So the terminal is told not to discard output. The echo of keys is left on: they appear
    at the end of the drawing until the next redraw, and Enter moves the drawing down by a line. If the echo were turned
    off and this process killed, nothing would turn it on again.
    """
    # The output of others is printed above the drawing, and rich would interpret escapes in it. There must be none.
    with sent_output_kept(console.file), Live(console=console, auto_refresh=False) as live:
        sys.stdout, sys.stderr = PlainStream(sys.stdout), PlainStream(sys.stderr)
        yield live  # at its end rich restores the streams


def output() -> Console:
    """A console on stdout."""
    return _console(sys.stdout)


def progress_output() -> Console:
    """A console on stderr, for output that is not the result."""
    return _console(sys.stderr)


def _console(stream: Any) -> Console:
    drawable = stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return Console(
        file=stream_below(stream),
        force_terminal=drawable,
        force_interactive=drawable,
        color_system="auto" if drawable else None,
        markup=False,
        emoji=False,
        highlight=False,
    )


def state_text(name: str) -> Text:
    """The name of a state, in its style."""
    return Text(plain(name), STATE_STYLES.get(name, "bold"))

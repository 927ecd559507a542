"""Where output goes: a terminal that can be drawn on, or a file or pipe that gets plain lines.

Only styles that can be read on a light and on a dark ground are used. Markup is off everywhere: text is text.
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
"""How the names of states are shown; all others bold."""


class Console(rich.console.Console):
    """As rich's, with four differences: whatever is printed or drawn is made plain, and only styles become escapes; a
    reader that has gone is the caller's business; lines are wrapped on a terminal alone; and the cursor is never
    hidden, for nobody would bring it back when this is killed.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As it is rendered, with all text plain."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Pass it on, instead of ending the process."""
        raise

    def show_cursor(self, show: bool = True) -> bool:
        """Leave it as it is."""
        return False

    @property
    def room(self) -> int | None:
        """Columns of the terminal; None: a line may be as long as it likes."""
        return self.width if self.is_terminal else None

    def say(self, text: Text | str = "", style: str = "") -> None:
        """Print text as it is, and end the line."""
        shown = text if isinstance(text, Text) else Text(plain(text), style)
        self.print(shown, soft_wrap=not self.is_terminal)


@contextmanager
def drawing(console: Console) -> Iterator[Live]:
    """Something that is drawn anew in its place, below the lines that are printed meanwhile.

    On Ctrl-C a terminal forgets what it was sent and has not shown yet: half a drawing would be left, and the next
    would erase too much. It is asked not to. That it shows what keys are pressed is left as it is: they stand at the
    end of the drawing until that is made anew, and it moves on by a line on Enter. A process that is killed could not
    turn it on again.
    """
    # What others write is drawn above it, for which rich would read escapes in it: there must be none.
    with sent_output_kept(console.file), Live(console=console, auto_refresh=False) as live:
        sys.stdout, sys.stderr = PlainStream(sys.stdout), PlainStream(sys.stderr)
        yield live  # at its end rich puts the streams back


def output() -> Console:
    """A console on stdout."""
    return _console(sys.stdout)


def progress_output() -> Console:
    """A console on stderr, for what is not the result."""
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

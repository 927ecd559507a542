"""Draws a connection's states for a terminal, with the present one highlighted, and formats transitions as lines.

Boxes and arrows have fixed places, because a computed layout is never as easy to read. Each arrow names the row of the
table that it represents. `disconnect` leads from everywhere to `disconnecting`, so only one arrow is drawn for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

import attrs
from rich.cells import cell_len
from rich.text import Text

from fsm_conn._util.text import plain_line, said
from fsm_conn.cli.own_words import in_options
from fsm_conn.cli.terminal import STATE_STYLES
from fsm_conn.connection.table import ConnectionState

__all__ = ["ARROWS", "HEIGHT", "INDENT", "WIDTH", "Arrow", "draw", "first_line", "last_words", "transition_line"]

_S = ConnectionState
WIDTH, HEIGHT = 68, 8
INDENT = 12
"""Columns of indentation for lines that belong to the line above."""
LIT = {
    "connected": "black on green",
    "connecting": "black on yellow",
    "reconnecting": "black on yellow",
    "renewing": "black on yellow",
    "failed": "bold white on red",
}
_ELSE = "bold reverse"
_BOXES = {
    _S.DISCONNECTED: (0, 0, 17),
    _S.CONNECTING: (0, 21, 18),
    _S.CONNECTED: (0, 43, 25),
    _S.DISCONNECTING: (5, 0, 17),
    _S.FAILED: (5, 20, 10),
    _S.RECONNECTING: (5, 33, 18),
    _S.RENEWING: (5, 54, 14),
}
"""Row, column and width of each box."""


@attrs.frozen
class Arrow:
    """An arrow from one state to another."""

    source: str
    dest: str
    row: int
    column: int
    shape: str
    """The characters of the arrow, from the top or from the left."""

    def cells(self) -> Iterator[tuple[int, int, str]]:
        """Row, column and character of each part of the arrow."""
        upright = self.shape[0] in "│▲" or self.shape[-1] in "│▼"
        for index, character in enumerate(self.shape):
            yield (self.row + index, self.column, character) if upright else (self.row, self.column + index, character)


ARROWS = (
    Arrow(_S.DISCONNECTED, _S.CONNECTING, 1, 17, "───▶"),
    Arrow(_S.CONNECTING, _S.CONNECTED, 1, 39, "───▶"),
    Arrow(_S.CONNECTING, _S.FAILED, 3, 25, "│▼"),
    Arrow(_S.CONNECTING, _S.RECONNECTING, 3, 36, "│▼"),
    Arrow(_S.CONNECTED, _S.RECONNECTING, 3, 45, "│▼"),
    Arrow(_S.RECONNECTING, _S.CONNECTED, 3, 48, "▲│"),
    Arrow(_S.CONNECTED, _S.RENEWING, 3, 58, "│▼"),
    Arrow(_S.RENEWING, _S.CONNECTED, 3, 63, "▲│"),
    Arrow(_S.RENEWING, _S.RECONNECTING, 6, 51, "◀──"),
    Arrow(_S.RECONNECTING, _S.FAILED, 6, 30, "◀──"),
    Arrow(_S.FAILED, _S.DISCONNECTING, 6, 17, "◀──"),
    Arrow(_S.DISCONNECTING, _S.DISCONNECTED, 3, 8, "▲│"),
)
_ASCII = str.maketrans("─│╭╮╰╯▶◀▲▼", "-|++++><^v")


def draw(state: str, last: tuple[str, str] | None = None, *, ascii_only: bool = False, room: int = WIDTH) -> Text:
    """The drawing: `WIDTH` columns, `HEIGHT` lines; only the name of the state where that does not fit.

    Args:
        state: the state to highlight.
        last: source and dest of the transition that led to it; its arrow, if there is one, is highlighted too.
        ascii_only: for terminals with ASCII characters only.
        room: the available columns.
    """
    if room < WIDTH:
        return Text(f" {state} ", LIT.get(state, _ELSE), no_wrap=True, overflow="crop")
    grid = [[(" ", "")] * WIDTH for _ in range(HEIGHT)]
    for name, (row, column, width) in _BOXES.items():
        for offset, line in enumerate(_box(name, width)):
            style = LIT.get(name, _ELSE) if name == state else "dim"
            grid[row + offset][column : column + width] = [(character, style) for character in line]
    for arrow in ARROWS:
        style = "bold" if (arrow.source, arrow.dest) == last else "dim"
        for row, column, character in arrow.cells():
            grid[row][column] = (character, style)
    return _text(grid, ascii_only)


def _box(name: str, width: int) -> tuple[str, str, str]:
    line = "─" * (width - 2)
    return f"╭{line}╮", f"│{name:^{width - 2}}│", f"╰{line}╯"


def _text(grid: list[list[tuple[str, str]]], ascii_only: bool) -> Text:
    text = Text(no_wrap=True, overflow="crop")
    for row in grid:
        for style, cells in groupby(row, key=itemgetter(1)):
            part = "".join(character for character, _ in cells)
            text.append(part.translate(_ASCII) if ascii_only else part, style)
        text.append("\n")
    text.right_crop()
    return text


def first_line(reason: object) -> str:
    """The first line of a reason; empty for None. The lines below are evidence, of any length."""
    if reason is None:
        return ""
    return in_options(said(reason) if isinstance(reason, BaseException) else str(reason)).partition("\n")[0]


LAST_WORDS = 5
"""Lines of a plugin's last output that are shown."""


def last_words(reason: object) -> list[str]:
    """The last lines that a lost plugin printed, safe to show."""
    evidence = getattr(reason, "evidence", "")
    lines = [line for line in str(evidence).splitlines() if line.strip()] if isinstance(reason, BaseException) else []
    return [plain_line(line.strip()) for line in lines[-LAST_WORDS:]]


def transition_line(when: str, source: str, dest: str, why: str, *, note: str = "", width: int | None = None) -> Text:
    """One transition as text.

    Args:
        when: the formatted time.
        source: the state before.
        dest: the state after; the same as `source` for an internal transition.
        why: the reason, or empty.
        note: further information, such as the trigger.
        width: columns; a reason that does not fit gets lines of its own. None: everything on one line.
    """
    text = Text()
    text.append(f"{when}  ", "dim")
    text.append(f"{plain_line(source):>13} ", "dim")
    text.append("-> ", "dim")
    text.append(f"{plain_line(dest):13}", STATE_STYLES.get(dest, "bold"))
    if note:
        text.append(f"  {plain_line(note)}", "dim")
    if why:
        room = None if width is None else width - text.cell_len - 2
        between = "  " if room is None or cell_len(plain_line(why)) <= room else "\n" + " " * INDENT
        text.append(between + plain_line(why), "red" if dest == "failed" else "magenta")
    text.rstrip()
    return text

"""Transitions as lines: when, from where to where, and why."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from fsm_conn.cli.plain import plain_line
from fsm_conn.cli.terminal import STATE_STYLES

__all__ = ["INDENT", "first_line", "transition_line"]


def first_line(reason: object) -> str:
    """What a reason says first; nothing for None. What comes below is evidence, of any length."""
    return "" if reason is None else str(reason).partition("\n")[0]


INDENT = 12
"""Columns in front of what belongs to the line above."""


def transition_line(when: str, source: str, dest: str, why: str, *, note: str = "", width: int | None = None) -> Text:
    """One transition.

    Args:
        when: the time, as it is to be shown.
        source: the state before.
        dest: the state after; the same for one that stays.
        why: the reason, or nothing.
        note: what else there is to say, such as the trigger.
        width: columns; a reason that would not fit stands on lines of its own. None: everything on one line.
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

"""What stands in a diagram about a name, a row or a time, whatever the format. Formats escape; nobody else does."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from fsm_conn._util.text import RISKY
from fsm_conn.machine.chart import Chart, ChartState

__all__ = ["WIDTH", "guard_words", "seconds", "state_marks", "visible", "wrapped"]

WIDTH = 24
"""Characters after which a line of a label is broken, where it can be."""
_UNSEEN = frozenset({"Cf", "Co", "Cn"})
"""Besides `RISKY`: in the name of a state even a joiner hides something."""


def visible(name: object) -> str:
    """`name` on one line, with a sign or a number for each character that would not be seen, or would hide others."""
    text = "".join(map(_visible, str(name)))
    begins, ends = (len(text) - len(each) for each in (text.lstrip(), text.rstrip()))
    if begins == len(text):
        return "\N{SYMBOL FOR SPACE}" * begins or "''"
    return "\N{SYMBOL FOR SPACE}" * begins + text.strip() + "\N{SYMBOL FOR SPACE}" * ends


def _visible(char: str) -> str:
    if char < " ":
        return chr(0x2400 + ord(char))
    return f"<U+{ord(char):04X}>" if RISKY.match(char) or unicodedata.category(char) in _UNSEEN else char


def guard_words(guards: Sequence[str]) -> list[str]:
    """The guards of a row as one condition, in pieces between which a line may be broken."""
    words = [("and " if number else "") + visible(guard) for number, guard in enumerate(guards)]
    return [("[" if not n else "") + word + ("]" if n == len(words) - 1 else "") for n, word in enumerate(words)]


def wrapped(pieces: Iterable[str], width: int = WIDTH) -> list[str]:
    """The pieces, with spaces between, in as few lines as `width` allows; no piece is broken."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + 1 + len(piece) <= width:
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
    return lines


def seconds(value: float) -> str:
    """A time with three digits, in seconds."""
    return f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def state_marks(chart: Chart, state: ChartState, lit: bool) -> list[str]:
    """What a state is, in words: where life begins, where another state begins, where it may end, where it is."""
    marks = ["initial"] if state.name in chart.begins else []
    marks += [f"initial in {visible(each.name)}" for each in chart.states if state.name in each.begins]
    return [*marks, *(["final"] if state.final else []), *state.marks, *(["now"] if lit else [])]

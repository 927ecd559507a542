"""The drawing of the states tells the truth."""

from __future__ import annotations

import pytest

from fsm_conn.cli.drawing import ARROWS, HEIGHT, WIDTH, draw
from fsm_conn.connection.table import STATES, TRANSITIONS, ConnectionState

MOVES = {
    (str(source), str(row.dest))
    for row in TRANSITIONS
    for source in row.sources([state.name for state in STATES])
    if row.dest is not None
}


def lit(state: str, last: tuple[str, str] | None = None) -> str:
    """What is drawn in a bright style, in the order of the drawing."""
    text = draw(state, last)
    bright = {index for span in text.spans if span.style != "dim" for index in range(span.start, span.end)}
    return "".join(text.plain[index] for index in sorted(bright) if text.plain[index] not in " \n")


@pytest.mark.parametrize("arrow", ARROWS, ids=lambda arrow: f"{arrow.source}-{arrow.dest}")
def test_every_arrow_is_a_row_of_the_table(arrow: object) -> None:
    """And is lit when that row was taken, and its dest with it."""
    assert (str(arrow.source), str(arrow.dest)) in MOVES  # type: ignore[attr-defined]
    shape = arrow.shape  # type: ignore[attr-defined]
    move = (arrow.source, arrow.dest)  # type: ignore[attr-defined]
    gained = lit(move[1], move).replace("─", "").replace("│", "")
    assert any(head in gained for head in shape if head in "▲▼▶◀")
    assert not any(head in lit(move[1]) for head in "▲▼▶◀")


@pytest.mark.parametrize("state", ConnectionState)
def test_the_present_state_alone_is_lit(state: str) -> None:
    """Its box, with its name in it, and no other."""
    drawn = lit(state)
    assert state in drawn
    assert [name for name in ConnectionState if f"│{name}│" in drawn] == [state]


@pytest.mark.parametrize("ascii_only", [False, True])
def test_it_has_the_size_that_it_says_and_all_states(ascii_only: bool) -> None:
    """In ASCII alone, where a terminal has nothing else."""
    lines = draw("connected", ascii_only=ascii_only).plain.split("\n")
    assert {len(line) for line in lines} == {WIDTH}
    assert len(lines) == HEIGHT
    assert all(str(state.name) in "".join(lines) for state in STATES)
    assert "".join(lines).isascii() == ascii_only


def test_a_state_that_is_not_drawn_lights_nothing() -> None:
    """There is none in a plain connection; it must not break the drawing."""
    assert lit("elsewhere") == ""


def test_without_room_the_state_is_lit_by_its_name_alone() -> None:
    """One column too few is too few."""
    assert draw("failed", room=WIDTH).plain == draw("failed").plain
    text = draw("failed", room=WIDTH - 1)
    assert (text.plain, str(text.style)) == (" failed ", "bold white on red")

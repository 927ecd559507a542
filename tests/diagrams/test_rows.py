"""Whatever the table, and whatever its names: a diagram read again says exactly what the table says."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from drawn import expected, read_dot, read_mermaid
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transitions import Machine

from fsm_conn import Connection, ConnectionPool
from fsm_conn.diagrams import diagram
from fsm_conn.diagrams.words import visible
from fsm_conn.machine.chart import chart_of

READERS = {"mermaid": read_mermaid, "dot": read_dot}
NASTY = ["end", "state", "note", "default", "valueOf", "[*]", "a|b", 'q"q', "a:b", "{x}", "<b>", "&amp;", "#35;", "é", "日本",
         "back\\", "\\n", "a;b", "%% c", "%3", "--> x", "direction TB", "_u_", "**b**", "two  spaces", "S0", "s0", "s1", "s1_",
         "begin → s0", "cluster s0", "</TABLE>", "and", "1. one"]  # fmt: skip
LETTERS = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
TEXTS = st.text(LETTERS, min_size=1, max_size=12).map(str.strip)
NAMES = st.sampled_from(NASTY) | TEXTS.filter(lambda name: name not in ("", "*", "="))


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """A plain machine: their names are free."""
    states = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    machine = Machine(None, states, initial=states[0], auto_transitions=False, name="random")
    triggers = draw(st.lists(NAMES.filter(lambda name: name != "state"), min_size=1, max_size=3, unique=True))
    for _ in range(draw(st.integers(0, 8))):
        machine.add_transition(
            draw(st.sampled_from(triggers)),
            draw(st.just("*") | st.lists(st.sampled_from(states), min_size=1, unique=True)),
            draw(st.none() | st.sampled_from(["=", *states])),
            conditions=draw(st.lists(NAMES, max_size=2)),
            unless=draw(st.lists(NAMES, max_size=1)),
            before=draw(st.lists(NAMES, max_size=3)),
        )
    return machine


def check(machine: Any, format: str) -> None:
    chart = chart_of(machine)
    seen = READERS[format](str(diagram(machine, format)))
    edges, inside = expected(chart)
    assert seen.edges == edges
    assert seen.begins == [state.name for state in chart.states if state.initial]
    told = {name: " ".join(lines) for name, lines in seen.inside.items()}
    assert told.keys() == inside.keys()
    for name, text in inside.items():
        assert told[name].endswith(text)


@pytest.mark.parametrize("format", READERS)
@given(machine=machines())
@settings(deadline=None)
def test_any_table_is_read_again_as_it_is(format: str, machine: Machine) -> None:
    check(machine, format)


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("owner", [Connection, ConnectionPool])
def test_our_own_tables(format: str, owner: Any) -> None:
    check(owner, format)


@given(st.text())
@example("\u202e\u2028\x00\ud800\x7f\ue000")
def test_no_name_hides_anything(name: str) -> None:
    shown = visible(name)
    assert shown
    assert all(char.isprintable() or unicodedata.category(char) == "Zs" for char in shown)


@pytest.mark.parametrize(("name", "shown"), [(" a b ", "␠a b␠"), ("  ", "␠␠"), ("", "''"), ("\u00a0a", "␠a")])
def test_spaces_at_the_ends_of_a_name_are_seen(name: str, shown: str) -> None:
    assert visible(name) == shown


@pytest.mark.parametrize("format", ["mermaid", "dot", "markdown", "rst"])
def test_characters_that_would_break_a_line_are_shown_as_signs(format: str) -> None:
    machine = Machine(None, ["a\nb", "c\rd"], initial="a\nb", auto_transitions=False)
    machine.add_transition("go\0\x1b", "a\nb", "c\rd")
    text = str(diagram(machine, format))
    assert all(sign in text for sign in ("a␊b", "c␍d", "go␀␛"))
    assert not set(text) & set("\r\0\x1b")

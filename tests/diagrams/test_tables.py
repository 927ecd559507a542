"""The tables say every state and every row, in Markdown and in reStructuredText, whatever the names."""

from __future__ import annotations

import html
import re
from typing import Any

import docutils.core
import docutils.nodes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transitions import Machine
from transitions.extensions import HierarchicalMachine
from transitions.extensions.states import Timeout, add_state_features

from fsm_conn import Connection, ConnectionPool
from fsm_conn.diagrams import diagram
from fsm_conn.machine.chart import chart_of

NASTY = [
    "a|b",
    "`tick`",
    "``two``",
    "end`",
    "*star*",
    "under_",
    "|sub|",
    "_a",
    "\\",
    "back\\",
    ":role:`x`",
    "<b>",
    "[x](y)",
    "#1",
    "é",
    "1.",
    "(a)",
    "..",
]


def rst(text: str) -> list[list[str]]:
    """The cells of all tables, as docutils reads them; a warning is an error."""
    tree = docutils.core.publish_doctree(text, settings_overrides={"report_level": 2, "halt_level": 2})
    rows = tree.findall(docutils.nodes.row)
    return [[cell.astext() for cell in row.findall(docutils.nodes.entry)] for row in rows]


def markdown(text: str) -> list[list[str]]:
    """The cells of all tables, as GitHub reads them."""
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[_code(cell.strip()) for cell in re.split(r"(?<!\\)\|", line[1:-1])] for line in lines]


def _code(cell: str) -> str:
    cell = cell.replace("\\|", "|")
    spans = re.sub(r"(?<!`)(`+)(?!`) ?(.+?) ?(?<!`)\1(?!`)", lambda found: found[2], cell)
    return html.unescape(spans)


READERS = {"rst": rst, "markdown": markdown}


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("owner", [Connection, ConnectionPool])
def test_every_state_and_every_row(owner: Any, format: str) -> None:
    chart = chart_of(owner)
    lines = READERS[format](str(diagram(owner, format)))
    states, rows = lines[1 : len(chart.states) + 1], lines[len(chart.states) + 2 :]
    assert [line[0] for line in states] == [state.name for state in chart.states]
    assert [line[:3] for line in rows] == [
        [
            str(row.index),
            ", ".join(row.sources) if row.every_but is None else f"every state but {', '.join(row.every_but)}",
            row.trigger,
        ]
        for row in chart.rows
    ]
    assert all(len(line) == len(rows[0]) for line in rows)
    for line, row in zip(rows, chart.rows, strict=True):
        assert (row.dest or "(stays)") in line
        assert not row.effects or ", ".join(row.effects) in line
        assert not row.guards or " and ".join(row.guards) in line


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("name", NASTY)
def test_no_name_breaks_a_table(format: str, name: str) -> None:
    machine = Machine(None, ["plain", name], initial="plain", auto_transitions=False)
    machine.add_transition(f"{name}!", "plain", name, conditions=name, before=[name, "x"])
    lines = READERS[format](str(diagram(machine, format)))
    assert lines[2][0] == name
    assert lines[-1] == ["0", "plain", f"{name}!", name, name, f"{name}, x"]


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8))
def test_any_name_is_read_again_from_restructuredtext(name: str) -> None:
    machine = Machine(None, [name, f"{name}2"], initial=name, auto_transitions=False)
    assert [line[0] for line in rst(diagram(machine, "rst"))][1:3] == [name, f"{name}2"]


@pytest.mark.parametrize("format", READERS)
def test_marks_and_time_limits(format: str) -> None:
    @add_state_features(Timeout)
    class Impatient(Machine):
        pass

    waiting = {"name": "waiting", "timeout": 5, "on_timeout": "give_up", "on_enter": "sit", "final": True}
    machine = Impatient(None, ["idle", waiting, "gone"], initial="idle", auto_transitions=False)
    machine.add_transition("go", "*", "gone")
    lines = READERS[format](str(diagram(machine, format, state="waiting")))
    assert lines[0] == ["State", "Marks", "Entry", "Time limit"]
    assert lines[1:4] == [
        ["idle", "initial", "", ""],
        ["waiting", "final, now", "sit", "5 s: give_up"],
        ["gone", "", "", ""],
    ]
    assert lines[5] == ["0", "every state", "go", "gone"]


def test_plain_text_has_a_line_for_each_state_and_each_row() -> None:
    @add_state_features(Timeout)
    class Impatient(Machine):
        pass

    waiting = {"name": "waiting", "timeout": 2, "on_timeout": "give_up", "on_enter": ["sit", "look"], "on_exit": "rise"}
    machine = Impatient(
        None, ["idle", waiting, {"name": "gone", "final": True}], initial="idle", auto_transitions=False
    )
    machine.add_transition("wait", "idle", "waiting", conditions="may", unless="late", prepare="ask", before="count")
    machine.add_transition("wait", "idle", None)
    machine.add_transition("stop", "*", "gone")
    assert diagram(machine, "text", title="Wait\n", state="waiting") == (
        "Wait␊\n"
        "  idle (initial)\n"
        "  waiting (now): entry / sit, look; after 2 s / give_up; exit / rise\n"
        "  gone (final)\n"
        "  idle --(1) wait [may and not late] prepare / ask / count--> waiting\n"
        "  idle --(2) wait--> (stays)\n"
        "  * --stop--> gone\n"
    )


def test_plain_text_tells_of_our_own_tables_what_they_say() -> None:
    lines = diagram(Connection, "text", base=Connection).splitlines()
    assert (
        "  failed --(1) recover [may_recover] after recover_after / begin_half_open, count_attempt--> reconnecting"
        in lines
    )
    assert "  * but disconnected, disconnecting --disconnect--> disconnecting" in lines
    assert "  connected (link open, serves calls): do / while_connected; on error / lost" in lines
    assert len(lines) == 1 + len(chart_of(Connection).states) + len(chart_of(Connection).rows)


@pytest.mark.parametrize("format", ["text", "markdown", "rst"])
def test_where_life_begins_is_told_from_where_a_state_begins(format: str) -> None:
    states = ["idle", {"name": "run", "initial": "slow", "children": ["slow", "fast"]}]
    machine = HierarchicalMachine(None, states, initial="run_fast", auto_transitions=False)
    told = str(diagram(machine, format)).replace("\\", "").replace("``", "").replace("`", "")
    lines = told.splitlines() if format != "rst" else [" ".join(row) for row in rst(str(diagram(machine, format)))]
    marked = [line for line in lines if "initial" in line]
    assert len(marked) == 2
    assert "run_slow" in marked[0]
    assert "initial in run" in marked[0]
    assert "run_fast" in marked[1]
    assert "initial in" not in marked[1]

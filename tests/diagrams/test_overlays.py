"""What is laid over a diagram says what was, and is refused where it is about another table."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from drawn import read_mermaid
from transitions import Machine
from transitions.extensions import HierarchicalMachine

from fsm_conn import Connection, ConnectionPool, ConnectionRecord, ConnectionState
from fsm_conn.diagrams import DiagramError, diagram
from fsm_conn.diagrams.themes import PALETTES, Theme, Tone
from fsm_conn.testing import Life, TransitionCoverage
from fsm_conn.testing.report import Count, Report

LIGHT = PALETTES[Theme.LIGHT]


@pytest.fixture(scope="module")
def lived() -> tuple[Report, list[ConnectionRecord]]:
    """A connection that fails once, comes up, and is closed."""
    with TransitionCoverage() as coverage:
        life = Life(Connection)
        life.connect()
        life.answer("open", "refuse")
        life.advance(1.5)
        life.answer("open")
        life.advance(40)
        life.disconnect()
        life.answer("close")
        records = list(life.records)
        life.close()
    return coverage.report(), records


def test_coverage_counts_on_each_row(lived: Any) -> None:
    edges = read_mermaid(diagram(Connection, coverage=lived[0])).edges
    assert ("connecting", "reconnecting", "(1) open_failed [may_retry] / count_attempt taken 1 never refused") in edges
    assert ("connecting", "connected", "opened / note_opened, forget_probes never taken") in edges
    assert ("reconnecting", "connected", "opened / note_opened, forget_probes taken 1") in edges
    assert (
        "* but disconnected, disconnecting",
        "disconnecting",
        "disconnect taken 1 never from connecting or renewing or reconnecting or failed",
    ) in edges


def test_coverage_stands_beside_internal_rows_too(lived: Any) -> None:
    inside = read_mermaid(diagram(Connection, coverage=lived[0])).inside["connected"]
    assert " ".join(inside).endswith("(3) probe_failed [else] / note_failed_probe never taken")


def test_a_row_that_was_refused_and_taken_is_whole(lived: Any) -> None:
    report = Report({edge: Count(3, 4) for edge in lived[0].counts})
    edges = read_mermaid(diagram(Connection, coverage=report)).edges
    assert (
        "failed",
        "reconnecting",
        "(1) recover [may_recover] after recover_after / begin_half_open, count_attempt taken 3 refused 4",
    ) in edges
    assert LIGHT.tones[Tone.BAD] not in diagram(Connection, "dot", coverage=report)
    assert LIGHT.tones[Tone.WARN] not in diagram(Connection, "dot", coverage=report)


def test_what_was_never_taken_is_red_and_only_that(lived: Any) -> None:
    lines = diagram(Connection, "dot", coverage=lived[0]).splitlines()
    edges = [line for line in lines if " -> " in line and "label=" in line]
    red = [line for line in edges if f'color="{LIGHT.tones[Tone.BAD]}"' in line.split("label=")[0]]
    assert red
    assert red == [line for line in edges if "never taken" in line]
    assert LIGHT.tones[Tone.BAD] in diagram(Connection, "svg", coverage=lived[0])


def test_coverage_stands_in_the_tables(lived: Any) -> None:
    (line,) = (each for each in diagram(Connection, "markdown", coverage=lived[0]).splitlines() if "| 0 |" in each)
    assert line.endswith("| taken 1, never from failed |")


def test_coverage_of_others_is_refused(lived: Any) -> None:
    with pytest.raises(DiagramError, match=r"is about nothing, not about fsm_conn\.connection\.connection\.Connection"):
        diagram(Connection, coverage=Report())
    only = lived[0].only(["fsm_conn.connection.connection.Connection"])
    with pytest.raises(
        DiagramError, match=r"is about fsm_conn\.connection\.connection\.Connection, not about fsm_conn\.pool"
    ):
        diagram(ConnectionPool, coverage=only)
    with pytest.raises(DiagramError, match="Machine is a machine without a class of ours"):
        diagram(Machine(None, ["a"], initial="a"), coverage=only)


def test_coverage_of_another_version_is_refused(lived: Any) -> None:
    counts = {edge: count for edge, count in lived[0].counts.items() if edge.index != 3}
    with pytest.raises(DiagramError, match=r"another version of .*row 3 is missing; measure again"):
        diagram(Connection, coverage=Report(counts))
    counts = {edge: count for edge, count in lived[0].counts.items() if edge.source != "failed"}
    with pytest.raises(DiagramError, match=r"another version of .*row 0 is connect: disconnected -> connecting"):
        diagram(Connection, coverage=Report(counts))


def test_a_history_numbers_its_steps_and_sums_its_times(lived: Any) -> None:
    text = diagram(Connection, history=lived[1])
    drawn = read_mermaid(text)
    steps = sorted((each for each in drawn.edges if "#" in each[2]), key=lambda each: each[2].partition("#")[2])
    assert steps == [
        ("disconnected", "connecting", "connect / begin_outage, forget_losses, count_attempt #1"),
        ("connecting", "reconnecting", "(1) open_failed [may_retry] / count_attempt #2"),
        ("reconnecting", "connected", "opened / note_opened, forget_probes #3"),
        ("* but disconnected, disconnecting", "disconnecting", "disconnect #4"),
        ("disconnecting", "disconnected", "closed #5"),
    ]
    assert drawn.inside["reconnecting"][-1] == "1.5 s, once"
    assert drawn.inside["connected"][-1] == "40 s, once"
    assert "class disconnected litMark" in text


def records(*steps: tuple[str, str, str]) -> list[ConnectionRecord]:
    return [ConnectionRecord(t, s, d, internal=False, reason=None, dwell=0.25, at=0.0, attempt=0) for t, s, d in steps]


def test_many_steps_are_counted() -> None:
    around = [("open_failed", "reconnecting", "reconnecting")] * 7
    drawn = read_mermaid(diagram(Connection, history=iter(records(*around)), state="failed"))
    assert (
        "reconnecting",
        "reconnecting",
        "(1) open_failed [may_retry] / count_attempt #1, #2, #3 … (7 times)",
    ) in drawn.edges
    assert drawn.inside["reconnecting"][-1] == "1.75 s, 7 times"


def test_an_internal_step_leaves_no_state() -> None:
    step = ConnectionRecord("probe_passed", "connected", "connected", True, None, 2.0, 2.0, attempt=1)
    inside = read_mermaid(diagram(Connection, history=[step])).inside["connected"]
    assert inside[-1] == "2 s, not left"
    assert "#1" in inside


def test_a_history_of_others_is_refused() -> None:
    with pytest.raises(
        DiagramError, match=r"history is not one of ConnectionPool, which .*step 2: closed -> gone on go"
    ):
        diagram(ConnectionPool, history=records(("open", "closed", "opening"), ("go", "closed", "gone")))


def test_an_empty_history_lights_nothing() -> None:
    assert diagram(Connection, history=[]) == diagram(Connection)


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    "state", ["connected", ConnectionState.CONNECTED, SimpleNamespace(state="connected"), ["connected"]]
)
@pytest.mark.parametrize("format", ["mermaid", "dot", "svg", "markdown", "rst"])
def test_the_current_state_is_lit(format: str, state: Any) -> None:
    lit = str(diagram(Connection, format, state=state))
    plain = str(diagram(Connection, format))
    assert lit != plain
    assert lit == diagram(Connection, format, state="connected")


def test_states_of_machines_with_enums_and_in_several_states_at_once() -> None:
    assert "class RED litMark" in diagram(Machine(None, Colour, initial=Colour.RED), state=Colour.RED)
    nested = HierarchicalMachine(
        None, [{"name": "p", "parallel": ["a", "b"]}, "c"], initial="p", auto_transitions=False
    )
    assert "class p_a,p_b litMark" in diagram(nested, state=["p_a", "p_b"])


def test_a_state_that_there_is_not() -> None:
    with pytest.raises(
        DiagramError, match=r"no state 'conected' \(did you mean 'connected'\?\); it has disconnected, "
    ):
        diagram(Connection, state="conected")
    with pytest.raises(DiagramError, match="3 is no state; give its name, or an object with the attribute 'state'"):
        diagram(Connection, state=3)


class Gait(Enum):
    SLOW = 1
    FAST = 2


class Moving(Enum):
    STANDING = 0
    WALKING = Gait


def test_a_state_may_be_given_as_it_was_declared() -> None:
    """By the member of an enumeration, also of one inside another, and as an object of `transitions`."""
    machine = HierarchicalMachine(SimpleNamespace(), Moving, initial=Moving.WALKING, auto_transitions=False)
    for given, lit in (
        (Gait.FAST, "WALKING_FAST"),
        (Moving.STANDING, "STANDING"),
        (machine.states["WALKING"].states["SLOW"], "WALKING_SLOW"),
        ([Moving.STANDING, Gait.SLOW], ["STANDING", "WALKING_SLOW"]),
        (machine.models[0], "WALKING"),
    ):
        assert diagram(machine, "svg", state=given) == diagram(machine, "svg", state=lit)
        assert diagram(machine, "svg", state=given) != diagram(machine, "svg")

"""Levels of detail, a title, the expected way, Mermaid's limits, and identifiers in pictures."""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any
from xml.etree import ElementTree

import pytest
from drawn import read_dot, read_mermaid
from shown_examples import example
from transitions import Machine

from fsm_conn import Connection, ConnectionPool, Fires, State, StateMachine, Transition
from fsm_conn.diagrams import Detail, DiagramError, DiagramWarning, diagram
from fsm_conn.diagrams.expected import expected_rows
from fsm_conn.diagrams.mermaid import MOST_CHARACTERS, MOST_EDGES
from fsm_conn.machine.chart import chart_of

READERS = {"mermaid": read_mermaid, "dot": read_dot}
PAUSED = example("paused").Pausable
SVG = "{http://www.w3.org/2000/svg}"


class Order(StateMachine):
    """Nothing goes wrong on the way that was meant."""

    states = (State("placed", initial=True), State("paid", on_error="refund"), "packed",
              State("sent", final=True), State("cancelled", final=True))  # fmt: skip
    transitions = (
        Transition("cancel", "placed", "cancelled"),
        Transition("refund", "paid", "cancelled"),
        Transition("pay", "placed", "paid", effects="count"),
        Transition("pay_again", "placed", "paid"),
        Transition("look", "paid", None),
        Transition("pack", "paid", "packed"),
        Transition("send", "packed", "sent"),
        Transition("fault", "*", "cancelled"),
    )

    async def while_paid(self) -> Annotated[str, Fires("pack")]:
        return "pack"

    def count(self, reason: object) -> None: ...


@pytest.mark.parametrize("format", READERS)
class TestDetail:
    def test_states_tell_which_can_follow_which(self, format: str) -> None:
        seen = READERS[format](str(diagram(Order, format, detail="states")))
        assert seen.edges == {
            ("placed", "cancelled", ""): 1,
            ("paid", "cancelled", ""): 1,
            ("placed", "paid", ""): 1,
            ("paid", "packed", ""): 1,
            ("packed", "sent", ""): 1,
            ("*", "cancelled", ""): 1,
        }
        assert set(map(tuple, seen.inside.values())) == {()}

    def test_triggers_tell_by_what(self, format: str) -> None:
        """What is expected is told apart from what leads the same way."""
        seen = READERS[format](str(diagram(Order, format, detail=Detail.TRIGGERS)))
        assert seen.edges.keys() == {
            ("placed", "cancelled", "cancel"),
            ("paid", "cancelled", "refund"),
            ("placed", "paid", "pay"),
            ("placed", "paid", "pay_again"),
            ("paid", "packed", "pack"),
            ("packed", "sent", "send"),
            ("*", "cancelled", "fault"),
        }
        assert seen.inside["paid"] == ["look"]

    def test_rows_that_lead_the_same_way_share_an_edge(self, format: str) -> None:
        edges = READERS[format](str(diagram(Connection, format, detail="triggers"))).edges
        assert ("connected", "failed", "lost probe_failed") in edges
        assert ("connected", "reconnecting", "lost probe_failed reconnect") in edges

    def test_coverage_and_differences_are_told_with_triggers_too(self, format: str) -> None:
        class Late(Order):
            transitions = (*Order.transitions, Transition("return", "sent", "cancelled"))

        edges = READERS[format](str(diagram(Late, format, detail="triggers", base=Order))).edges
        assert ("sent", "cancelled", "return added") in edges


def test_there_is_no_other_detail() -> None:
    with pytest.raises(DiagramError, match=r"'trigger' is no detail .did you mean 'triggers'.*; there are states, "):
        diagram(Order, detail="trigger")


@pytest.mark.parametrize("title", ["The life of an order", 'of "quotes" and \\ more', "注文 🚀: # 1"])
def test_a_title_is_to_be_seen_and_read_aloud(title: str) -> None:
    svg = ElementTree.fromstring(diagram(Order, "svg", title=title))
    shown = ["".join(each.itertext()).replace("\N{NO-BREAK SPACE}", " ") for each in svg.iter(f"{SVG}text")]
    assert shown.count(title) == 1
    assert svg.findtext(f"{SVG}title") == title
    head = diagram(Order, title=title).splitlines()[:4]
    assert (head[0], head[2], head[3]) == ("---", "---", "stateDiagram-v2")
    assert head[1] == "title: " + '"' + title.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert diagram(Order, "markdown", title="Mine").startswith("# Mine\n")
    assert diagram(Order, "rst", title="Mine").startswith("Mine\n====")


def taken(owner: Any) -> list[str]:
    chart = chart_of(owner)
    ways = {(chart.rows[index].trigger, source) for index, source in expected_rows(chart)}
    return sorted(f"{source}: {trigger}" for trigger, source in ways)


def test_the_expected_way_is_the_one_that_was_meant() -> None:
    assert taken(Order) == ["packed: send", "paid: pack", "placed: pay"]
    assert taken(Connection) == [
        "connected: disconnect",
        "connecting: opened",
        "disconnected: connect",
        "disconnecting: closed",
    ]
    assert taken(PAUSED) == taken(Connection)
    assert taken(ConnectionPool) == ["closed: open", "draining: drained", "open: close", "opening: opened"]


def test_the_expected_way_stands_out() -> None:
    dot = diagram(Connection, "dot")
    assert [line for line in dot.splitlines() if "->" in line and "<B>opened</B>" in line and "penwidth=1.8" in line]
    assert not [line for line in dot.splitlines() if "->" in line and "<B>lost" in line]
    assert re.search(r"class s\d+(,s\d+){3} expectedMark", diagram(Connection))


def chain(length: int, rows: int = 1) -> Machine:
    machine = Machine(None, [f"s{number}" for number in range(length)], initial="s0", auto_transitions=False)
    for number in range(length - 1):
        for row in range(rows):
            machine.add_transition(f"go{row}", f"s{number}", f"s{number + 1}")
    return machine


def test_what_mermaid_draws_is_written_without_a_warning() -> None:
    """As labels, where nodes of their own would be too much for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert diagram(chain(200)).count("rowMark") == 2
        text = diagram(chain(400))
    assert "rowMark" not in text
    assert read_mermaid(text).edges["s3", "s4", "go0"] == 1


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (chain(MOST_EDGES + 3), f"it has {MOST_EDGES + 3} edges"),
        (Machine(None, ["x" * MOST_CHARACTERS], initial=None), r"it has \d+,\d\d\d characters"),
    ],
)
def test_what_mermaid_does_not_draw_is_written_with_a_warning(machine: Machine, said: str) -> None:
    with pytest.warns(DiagramWarning, match=f"Machine: {said}, and Mermaid draws 50,000 .* svg, png or dot") as caught:
        diagram(machine)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diagram(machine, "dot")


def identifiers(svg: str) -> dict[str, list[str]]:
    groups = list(ElementTree.fromstring(svg).iter(f"{SVG}g"))
    return {each.get("id", ""): (each.get("class") or "").split() for each in groups}


def test_states_and_rows_are_found_in_a_picture_by_what_they_are() -> None:
    """Three parts of each row: what it says, and the lines before and after that."""
    found = identifiers(diagram(Connection, "svg"))
    chart = chart_of(Connection)
    assert all("fsm-state" in found[f"state-{state.name}"] for state in chart.states)
    for row in chart.rows:
        for source in row.sources if row.dest is not None and row.every_but is None else ():
            parts = [found[f"row-{row.index}-{source}{end}"] for end in ("", "-from", "-to")]
            assert all({"fsm-row", f"row-{row.index}"} <= set(part) for part in parts)
    assert "fsm-begin" in found["begin-disconnected"]
    assert len([part for part in found.values() if "fsm-any" in part]) == 2


def test_identifiers_stay_whatever_is_laid_over_the_picture() -> None:
    plain, dark = (
        {id for id, parts in identifiers(svg).items() if any(part.startswith("fsm-") for part in parts)}
        for svg in (diagram(Connection, "svg"), diagram(Connection, "svg", theme="dark", state="connected"))
    )
    assert plain == dark


def test_names_that_are_no_identifiers_have_numbers() -> None:
    machine = Machine(None, ["a b", "ü", "plain"], initial="a b", auto_transitions=False)
    machine.add_transition("go", "ü", "plain")
    found = identifiers(diagram(machine, "svg"))
    assert {"state-0", "state-1", "state-plain", "row-0-1", "begin-0"} <= found.keys()


def test_with_less_detail_an_edge_has_all_its_rows() -> None:
    found = identifiers(diagram(Connection, "svg", detail="states"))
    rows = [row.index for row in chart_of(Connection).rows if "connected" in row.sources and row.dest == "reconnecting"]
    assert {f"row-{index}" for index in rows} <= set(found[f"row-{rows[0]}-connected"])
    assert len(rows) > 2


def test_names_in_any_script_are_drawn_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    names = ["待機中", "接続済み🚀", "ожидание", "नमस्ते", "한국어 상태", "العربية", "👩‍👩‍👧"]
    machine = Machine(None, names, initial=names[0], auto_transitions=False)
    for name in names[1:]:
        machine.add_transition("接続する🔌", names[0], name, conditions="許可", before="数える📈")
    diagram(machine, "svg", title="状態 🚀")
    diagram(machine, "png", title="状態 🚀")
    assert capfd.readouterr().err == ""

"""What a diagram says of a subclass against its base is what differs between the tables, and nothing else."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest
from drawn import read_dot, read_mermaid
from hypothesis import given, settings
from hypothesis import strategies as st
from transitions import Machine

from fsm_conn import Connection, State, Transition, insert_state
from fsm_conn.connection.derive import add_state
from fsm_conn.diagrams import diagram, write
from fsm_conn.diagrams.themes import PALETTES, Theme, Tone
from fsm_conn.machine.chart import ChartError
from fsm_conn.machine.machine import StateMachine

READERS = {"mermaid": read_mermaid, "dot": read_dot}
MARKS = ("added", "changed", "asked in another order", "its own")


class Paused(Connection):
    states, transitions = add_state(Connection, "paused", beside="connected", trigger="pause", back="resume")

    async def while_paused(self) -> str:
        return str(await self.while_connected())


class Authenticated(Connection):
    states, transitions = insert_state(
        Connection, "authenticating", trigger="opened", before="connected", then="authenticated", like="connecting"
    )


class Careful(Connection):
    """The same table, and other methods."""

    def may_restart(self, reason: BaseException | None) -> bool:
        return super().may_restart(reason)

    async def while_failed(self) -> str | None:
        return await super().while_failed()


def marked(seen: Any) -> dict[tuple[str, str, str], str]:
    """The edges that say more than a row does, by source, destination and trigger: what they say more."""
    found = {}
    for source, dest, text in seen.edges:
        mark = re.search(rf" ((?:{'|'.join(MARKS)})\b.*)", text)
        if mark:
            trigger = re.sub(r"^\(\S+\) ", "", text).split()[0]
            found[source, dest, trigger] = mark[1]
    return found


@pytest.mark.parametrize("format", READERS)
def test_a_state_that_was_added_is_marked_with_its_rows(format: str) -> None:
    seen = READERS[format](str(diagram(Paused, format, base=Connection)))
    assert marked(seen) == {
        ("connected", "paused", "pause"): "added",
        ("paused", "connected", "resume"): "added",
        ("paused", "reconnecting", "lost"): "added",
        ("paused", "failed", "lost"): "added",
        ("paused", "reconnecting", "probe_failed"): "added",
        ("paused", "failed", "probe_failed"): "added",
        ("paused", "reconnecting", "reconnect"): "added",
        ("paused", "renewing", "going_away"): "added",
    }
    assert {name for name, lines in seen.inside.items() if any("added" in line for line in lines)} == {
        "paused",
        "against Connection",
    }
    assert seen.inside["paused"][-1] == "state added"
    assert seen.inside["against Connection"] == ["added"]


@pytest.mark.parametrize("format", READERS)
def test_a_row_that_leads_elsewhere_says_where_it_led(format: str) -> None:
    seen = READERS[format](str(diagram(Authenticated, format, base=Connection)))
    marks = marked(seen)
    for source in ("connecting", "reconnecting"):
        assert marks[source, "authenticating", "opened"] == ("changed was → connected was / note_opened, forget_probes")
    assert {key for key, mark in marks.items() if mark == "added"} == {
        ("authenticating", "connected", "authenticated"),
        ("authenticating", "reconnecting", "open_failed"),
        ("authenticating", "failed", "open_failed"),
    }
    assert seen.inside["against Connection"] == ["added", "changed"]


@pytest.mark.parametrize("format", READERS)
def test_what_is_gone_is_named(format: str) -> None:
    """In the state that a row was of; a state, in the legend."""
    seen = READERS[format](str(diagram(Connection, format, base=Paused)))
    assert seen.inside["connected"][-1] == "gone: pause → paused"
    assert seen.inside["against Paused"] == ["gone", "gone: state paused"]
    assert marked(seen) == {}


@pytest.mark.parametrize("format", READERS)
def test_methods_of_its_own_are_named_where_they_are_called(format: str) -> None:
    """Though the table is the same."""
    seen = READERS[format](str(diagram(Careful, format, base=Connection)))
    assert marked(seen) == {
        ("connected", "reconnecting", "lost"): "its own may_restart",
        ("connected", "reconnecting", "probe_failed"): "its own may_restart",
        ("renewing", "reconnecting", "lost"): "its own may_restart",
    }
    assert seen.inside["failed"][-3:] == ["fault", "state changed", "its own while_failed"]
    assert seen.inside["against Connection"] == ["changed"]


@pytest.mark.parametrize("format", READERS)
def test_of_the_same_table_nothing_is_marked(format: str) -> None:
    seen = READERS[format](str(diagram(Connection, format, base=Connection)))
    plain = READERS[format](str(diagram(Connection, format)))
    assert (seen.edges, seen.begins) == (plain.edges, plain.begins)
    assert seen.inside == plain.inside | {"against Connection": ["nothing differs"]}


class Shop(StateMachine):
    states: Any = (State("closed", initial=True, final=True), "open", "shut")
    transitions: Any = (
        Transition("go", "closed", "open", "is_day", "ring"),
        Transition("go", "closed", "shut", "is_cold", timer="night"),
        Transition("go", "closed", None),
        Transition("leave", ("open", "shut"), "closed"),
        Transition("fault", "*", "closed"),
    )

    def is_day(self, reason: BaseException | None) -> bool:
        return True

    is_cold = is_day

    def ring(self, reason: BaseException | None) -> None: ...


def shop(*rows: Transition, states: Any = Shop.states) -> type[Shop]:
    return type("Mine", (Shop,), {"states": states, "transitions": rows})


def test_each_part_of_a_row_that_differs_is_told() -> None:
    day, cold, stay, leave, fault = Shop.transitions
    mine = shop(
        attrs.evolve(day, guards=("is_day", "is_cold"), effects=()),
        attrs.evolve(cold, timer=None),
        stay,
        attrs.evolve(leave, effects="ring"),
        fault,
    )
    assert marked(read_mermaid(diagram(mine, base=Shop))) == {
        ("closed", "open", "go"): "changed was [is_day] was / ring",
        ("closed", "shut", "go"): "changed was after night",
        ("open", "closed", "leave"): "changed was / (nothing)",
        ("shut", "closed", "leave"): "changed was / (nothing)",
    }


def test_another_order_of_the_same_rows_is_told() -> None:
    day, cold, *others = Shop.transitions
    mine = shop(cold, day, *others)
    seen = read_mermaid(diagram(mine, base=Shop))
    assert marked(seen) == {("closed", to, "go"): "asked in another order" for to in ("open", "shut")}
    assert seen.inside["closed"][-1] == "asked in another order"  # of the internal row, whose number may differ too


def test_a_row_for_every_state_that_differs_says_so_once() -> None:
    """And a row for all states that the base has too is the same, though there are more of them."""
    *rows, fault = Shop.transitions
    more = (*Shop.states, "busy")
    way = (Transition("work", "open", "busy"), Transition("leave", "busy", "closed"))
    assert ("*", "closed", "fault") not in marked(
        read_mermaid(diagram(shop(*rows, *way, fault, states=more), base=Shop))
    )
    changed = shop(*rows, attrs.evolve(fault, effects="ring"))
    assert marked(read_mermaid(diagram(changed, base=Shop)))["*", "closed", "fault"] == "changed was / (nothing)"
    assert sum("fault" in text for _, _, text in read_mermaid(diagram(changed, base=Shop)).edges) == 1


def test_a_state_that_is_otherwise_marked_says_what_it_was() -> None:
    mine = shop(*Shop.transitions, states=(State("closed", initial=True), State("open", final=True), "shut"))
    inside = read_mermaid(diagram(mine, base=Shop)).inside
    assert inside["closed"][-2:] == ["state changed", "final was True"]
    assert inside["open"][-2:] == ["state changed", "final was False"]
    assert "state changed" not in inside["shut"]


# --- at random ----------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d")
rows = st.lists(
    st.tuples(st.sampled_from(("go", "come")), st.integers(0, 2), st.integers(0, 3), st.sampled_from((None, "g", "h"))),
    max_size=6,
    unique=True,
)
Row = tuple[str, int, int, str | None]


def machine_of(drawn: list[Row]) -> Machine:
    machine = Machine(None, list(NAMES), initial="a", auto_transitions=False, name="random")
    for trigger, source, dest, guard in drawn:
        machine.add_transition(trigger, NAMES[source], NAMES[dest], conditions=guard)
    return machine


def label(row: Row) -> tuple[str, str, str, str | None]:
    trigger, source, dest, guard = row
    return NAMES[source], NAMES[dest], trigger, guard


def label_in(edge: tuple[str, str, str]) -> tuple[str, str, str, str | None]:
    source, dest, text = edge
    found = re.match(r"(?:\(\d\) )?(\w+)(?: \[(\w+)\])?", text)
    assert found is not None
    return source, dest, found[1], None if found[2] in (None, "else") else found[2]


@pytest.mark.parametrize("format", READERS)
@settings(deadline=None)
@given(mine=rows, base=rows)
def test_marked_is_what_differs(format: str, mine: list[Row], base: list[Row]) -> None:
    """As read from the rows that were declared, whatever they are."""
    seen = READERS[format](str(diagram(machine_of(mine), format, base=machine_of(base))))
    assert Counter(map(label_in, seen.edges)) == Counter(map(label, mine))
    new = {label_in(edge) for edge in seen.edges if re.search(" (added|changed)", edge[2])}
    assert new == {label(row) for row in mine if row not in base}
    changed = Counter((edge[0], label_in(edge)[2]) for edge in seen.edges if " changed" in edge[2])
    gone = Counter((name, line.split()[1]) for name in NAMES for line in seen.inside[name] if line.startswith("gone: "))
    old = Counter((NAMES[row[1]], row[0]) for row in base if row not in mine)
    assert changed + gone == old


# --- the look -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", Theme)
def test_marks_have_words_and_colours_and_a_legend(theme: Theme) -> None:
    """In pictures as in Mermaid; and those who cannot see them are told."""
    tones = PALETTES[theme].tones
    svg = diagram(Authenticated, "svg", theme=theme, base=Connection)
    root = ElementTree.fromstring(svg)
    texts = [("".join(each.itertext()), each.get("fill")) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert ("against Connection", tones[Tone.PLAIN]) in texts
    assert texts.count(("added", tones[Tone.GOOD])) == 4  # three rows and the legend
    assert texts.count(("changed", tones[Tone.WARN])) == 4  # what is opened from three states, and the legend
    assert ("state added", tones[Tone.GOOD]) in texts
    assert "Marked against Connection: added, changed." in svg
    mermaid = diagram(Authenticated, theme=theme, base=Connection)
    assert f"classDef addedMark stroke:{tones[Tone.GOOD]},stroke-width:3px" in mermaid
    assert "class authenticating addedMark" in mermaid


def test_the_border_of_a_state_has_the_tone_and_the_current_state_stays_lit() -> None:
    light = PALETTES[Theme.LIGHT]
    (node,) = (
        line for line in diagram(Paused, "dot", base=Connection).splitlines() if line.startswith('    "paused" [')
    )
    assert f'BORDER="3" STYLE="ROUNDED" COLOR="{light.tones[Tone.GOOD]}"' in node
    dot = diagram(Paused, "dot", base=Connection, state="paused")
    (node,) = (line for line in dot.splitlines() if line.startswith('    "paused" ['))
    assert f'BORDER="3" STYLE="ROUNDED" COLOR="{light.lit_border}"' in node


def test_tables_tell_it_too() -> None:
    table = diagram(Authenticated, "markdown", base=Connection)
    (row,) = (line for line in table.splitlines() if "changed" in line)
    assert "| `opened` |" in row
    assert row.endswith(r"| changed, was → connected, was / note\_opened, forget\_probes |")
    (row,) = (
        line
        for line in table.splitlines()
        if "`connecting`, `reconnecting`, `authenticating` | `open_failed` | `may" in line
    )
    assert row.endswith("| added, for authenticating |")


def test_a_state_of_the_legends_name_is_not_taken_for_it() -> None:
    machine = Machine(None, ["against m", "b"], initial="b", auto_transitions=False, name="m")
    inside = read_dot(diagram(machine, "dot", base=machine)).inside
    assert set(inside) == {"against m", "b"}
    assert diagram(machine, "dot", base=machine).count("nothing differs") == 1


def test_a_base_without_a_table_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ChartError, match="has no table"):
        diagram(Connection, base=object())
    write(Paused, tmp_path / "x.mmd", base=Connection)
    assert (tmp_path / "x.mmd").read_text() == diagram(Paused, base=Connection)

"""What is to be seen is what `transitions` and our tables do: read from the lines and boxes of the finished pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum
from itertools import count, pairwise
from typing import Any

import pytest
from extent import far
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rendered import Seen, by_graphviz, by_mermaid
from transitions import Machine
from transitions.extensions import HierarchicalMachine

from fsm_conn import Connection, ConnectionPool
from fsm_conn.diagrams import Detail

RENDERERS = {"mermaid": by_mermaid, "graphviz": by_graphviz}
Renderer = Callable[..., Seen]


@pytest.fixture(params=RENDERERS)
def render(request: pytest.FixtureRequest) -> Renderer:
    return RENDERERS[request.param]


class Light(Enum):
    RED = 1
    RED_BLINKING = 2


@pytest.mark.parametrize(
    ("states", "initial", "seen"),
    [
        (["red", "red_blinking"], "red_blinking", "red_blinking"),
        (["red", "red_blinking"], "red", "red"),
        (Light, Light.RED_BLINKING, "RED_BLINKING"),
        (Light, "RED", "RED"),
    ],
)
def test_a_flat_machine_begins_in_one_state(render: Renderer, states: Any, initial: Any, seen: str) -> None:
    """Also where its name begins with another's."""
    machine = Machine(None, states, initial=initial, auto_transitions=False)
    first, last = machine.states
    machine.add_transition("go", first, last, before="x")
    machine.add_transition("back", last, first)
    assert render(machine).begins == {seen: 1}


def nested(initial: str) -> HierarchicalMachine:
    states = ["idle", {"name": "run", "initial": "slow", "children": ["slow", "fast"]}]
    machine = HierarchicalMachine(None, states, initial=initial, auto_transitions=False)
    machine.add_transition("go", "idle", "run")
    machine.add_transition("hurry", "run_slow", "run_fast")
    machine.add_transition("stop", "run", "idle")
    return machine


@pytest.mark.parametrize(
    ("initial", "begins"), [("idle", ["idle", "slow"]), ("run_fast", ["fast", "slow"]), ("run", ["run", "slow"])]
)
def test_a_machine_may_begin_in_a_part_of_a_state(render: Renderer, initial: str, begins: list[str]) -> None:
    """The dot outside leads to that, and the one inside to where the state itself begins."""
    seen = render(nested(initial))
    assert sorted(seen.begins.elements()) == begins
    assert seen.rows == {("idle", "run", "go"): 1, ("slow", "fast", "hurry"): 1, ("run", "idle", "stop"): 1}


def test_parallel_parts_each_begin_and_all_rows_are_seen(render: Renderer) -> None:
    """And a row between a state and its own part, which hides all others in Mermaid, does not."""
    left = {"name": "left", "initial": "up", "children": ["up", "down"]}
    states = ["idle", {"name": "run", "parallel": [left, {"name": "right", "initial": "on", "children": ["on"]}]}]
    machine = HierarchicalMachine(None, states, initial="idle", auto_transitions=False)
    machine.add_transition("go", "idle", "run")
    machine.add_transition("flip", "run_left_up", "run_left_down")
    machine.add_transition("stop", "run", "idle")
    machine.add_transition("out", "run_right_on", "idle")
    machine.add_transition("choose", "run", "run_left_down")
    machine.add_transition("reset", "run_left_down", "run_left")
    machine.add_transition("again", "run", "=")
    seen = render(machine)
    assert sorted(seen.begins.elements()) == ["idle", "left", "on", "right", "up"]
    assert seen.rows == {
        ("idle", "run", "go"): 1,
        ("up", "down", "flip"): 1,
        ("run", "idle", "stop"): 1,
        ("on", "idle", "out"): 1,
    }
    told = " ".join(seen.texts)
    assert all(text in told for text in ("choose → run_left_down", "reset → run_left", "again → run"))


NAMES = ("a", "a_b", "b", "ab", "Zustand 7", "end")


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=True))
    machine = Machine(None, names, initial=draw(st.sampled_from(names)), auto_transitions=False)
    for trigger in draw(st.lists(st.sampled_from(("go", "come back", "go on")), min_size=1, max_size=3, unique=True)):
        # Not from all states: that would be drawn once for all.
        for source in draw(st.lists(st.sampled_from(names), max_size=min(2, len(names) - 1), unique=True)):
            machine.add_transition(trigger, source, draw(st.sampled_from(names)))
    return machine


@settings(deadline=None, max_examples=far(3), suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", RENDERERS)
@given(machine=machines())
def test_any_flat_machine_is_drawn_as_transitions_has_it(name: str, machine: Machine) -> None:
    seen = RENDERERS[name](machine)
    assert seen.begins == {machine.initial: 1}
    assert seen.rows == Counter(
        (each.source, each.dest, trigger)
        for trigger, event in machine.events.items()
        for each in machine.get_transitions(trigger)
        if event
    )
    assert seen.covered() == []


@pytest.mark.parametrize("detail", [Detail.FULL, Detail.TRIGGERS])
@pytest.mark.parametrize("owner", [Connection, ConnectionPool])
def test_no_text_covers_another(render: Renderer, owner: Any, detail: Detail) -> None:
    seen = render(owner, detail=detail)
    assert seen.covered() == []
    assert sum(seen.begins.values()) == 1
    assert len(seen.rows) >= 5


def test_what_a_reader_of_the_readme_could_not_read(render: Renderer) -> None:
    """`recover` lay under `reconnect`, for both lead from `failed` to `reconnecting`."""
    told = [text for source, dest, text in render(Connection).rows if (source, dest) == ("failed", "reconnecting")]
    assert sorted(text.split(" /")[0] for text in told) == [
        "(1) recover [may_recover] after recover_after",
        "reconnect",
    ]


NASTY = ("end", "state", "note", "default", "valueOf", "[*]", "a|b", 'q"q', "a:b", "{x}", "<b>", "&amp;", "#35;", "é", "日本",
         "back\\", "\\n", "a;b", "%% c", "%3", "--> x", "direction TB", "_u_", "**b**", "s0", "s1_", "</TABLE>", "1. one",
         "- x", "`code`", "~~~", "$x$", "# head", "rowMark", "class a b", "---")  # fmt: skip


@pytest.mark.parametrize(
    "names", [NASTY[place : place + 9] for place in range(0, len(NASTY), 9)], ids=lambda names: names[0]
)
def test_mermaid_shows_every_name_as_it_is(names: tuple[str, ...]) -> None:
    """Of states, of rows, and of what happens inside a state."""
    machine = Machine(None, names, initial=names[0], auto_transitions=False, name='of "quotes"')
    for name, following in pairwise(names):
        machine.add_transition(f"t {name}", name, following, conditions=name)
        machine.add_transition(f"u {name}", name, None)
    seen = by_mermaid(machine)
    assert set(names) | {f"t {name} [{name}]" for name in names[:-1]} <= {box.text for box in seen.boxes}
    assert {f"u {name}" for name in names[:-1]} <= set(seen.texts)


@st.composite
def nested_machines(draw: st.DrawFn) -> HierarchicalMachine:
    """With parts of parts, some of them parallel, and rows between any two states."""
    numbers = count(1)

    def inside(depth: int) -> list[Any]:
        found: list[Any] = []
        for _ in range(draw(st.integers(1, 3))):
            name = f"n{next(numbers)}"
            parts = inside(depth - 1) if depth and draw(st.booleans()) else []
            names = [part if isinstance(part, str) else part["name"] for part in parts]
            if not parts:
                found.append(name)
            elif len(parts) > 1 and draw(st.booleans()):
                found.append({"name": name, "parallel": parts})
            else:
                found.append({"name": name, "children": parts, "initial": draw(st.sampled_from([None, *names]))})
        return found

    machine = HierarchicalMachine(None, inside(2), initial=None, auto_transitions=False)
    names = machine.get_nested_state_names()
    machine.initial = draw(st.sampled_from(names))
    for number in range(draw(st.integers(0, 6))):
        machine.add_transition(f"t{number}", draw(st.sampled_from(names)), draw(st.sampled_from(names)))
    return machine


@settings(deadline=None, max_examples=far(2), suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", RENDERERS)
@given(machine=nested_machines())
def test_any_nested_machine_is_drawn_as_transitions_has_it(name: str, machine: HierarchicalMachine) -> None:
    """But for rows between a state and a part of it, which are told inside."""
    seen = RENDERERS[name](machine)
    rows = [(trigger, each) for trigger in machine.events for each in machine.get_transitions(trigger)]
    apart = {(each.source, each.dest, trigger) for trigger, each in rows if not _is_within(machine, each)}
    inner = [each.rpartition("_")[2] for each in machine.get_nested_state_names()]
    assert {box.text for box in seen.boxes if box.kind == "state"} == set(inner)
    assert seen.rows == Counter((source.split("_")[-1], dest.split("_")[-1], text) for source, dest, text in apart)
    assert machine.initial.split("_")[-1] in seen.begins
    for trigger, each in rows:
        if _is_within(machine, each):
            assert f"{trigger} → {each.dest}" in " ".join(seen.texts)


def _is_within(machine: HierarchicalMachine, row: Any) -> bool:
    parts = machine.get_state(row.source).states if row.source == row.dest else True
    return bool(parts) and (f"{row.source}_".startswith(f"{row.dest}_") or f"{row.dest}_".startswith(f"{row.source}_"))

"""Plain machines are read as `transitions` itself means them, whatever a state was given as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transitions import Machine
from transitions import State as PlainState
from transitions.extensions import HierarchicalMachine
from transitions.extensions.nesting import NestedState

from fsm_conn.machine.chart import Chart, chart_of


class Light(Enum):
    RED = 1
    RED_BLINKING = 2


class Gait(Enum):
    SLOW = 1
    FAST = 2


class Moving(Enum):
    STANDING = 0
    WALKING = Gait


class Dotted(NestedState):
    separator = "."


class DottedMachine(HierarchicalMachine):
    state_cls = Dotted


def leaves(chart: Chart) -> set[str]:
    """The states in which a machine is that has just been begun."""
    return {end for name in chart.begins for end in _ends(chart, name)}


def _ends(chart: Chart, name: str) -> Iterator[str]:
    begins = chart.state(name).begins
    if not begins:
        yield name
    for part in begins:
        yield from _ends(chart, part)


def living(machine: Any) -> set[str]:
    """The same, as a model of the machine says."""
    model = type("Model", (), {})()
    machine.add_model(model)
    return set(_told(machine, model.state))


def _told(machine: Any, state: Any) -> Iterator[str]:
    if isinstance(state, list):
        for each in state:
            yield from _told(machine, each)
    elif isinstance(state, Enum) and isinstance(machine, HierarchicalMachine):
        yield machine.state_cls.separator.join(machine._get_enum_path(state))
    else:
        yield getattr(state, "name", state)


@pytest.mark.parametrize(
    ("states", "initial"),
    [
        (["red", "red_blinking"], "red_blinking"),
        (["red_blinking", "red"], "red"),
        (Light, Light.RED_BLINKING),
        (Light, "RED_BLINKING"),
        ([PlainState("red"), PlainState("red_blinking")], PlainState("late")),
        (["red", "red.blinking"], "red.blinking"),
    ],
)
def test_a_flat_machine_begins_in_one_state_whatever_its_name(states: Any, initial: Any) -> None:
    machine = Machine(None, states, initial=initial, auto_transitions=False)
    chart = chart_of(machine)
    assert set(chart.begins) == living(machine)
    assert [state.name for state in chart.states if state.initial] == list(chart.begins)


def test_a_state_object_may_be_the_initial_state() -> None:
    begun = PlainState("red_blinking")
    assert chart_of(Machine(None, [PlainState("red"), begun], initial=begun)).begins == ("red_blinking",)


NAMES = ("a", "b", "ab", "a1", "é")


@st.composite
def trees(draw: st.DrawFn, depth: int = 2) -> list[Any]:
    """States of a hierarchical machine, in the forms that it takes."""
    found: list[Any] = []
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)):
        children = draw(trees(depth - 1)) if depth and draw(st.booleans()) else []
        if not children:
            found.append(draw(st.sampled_from([name, {"name": name}])))
            continue
        names = [each if isinstance(each, str) else each["name"] for each in children]
        kind = draw(st.sampled_from(["none", "one", "list", "parallel"]))
        state: dict[str, Any] = {"name": name, "parallel" if kind == "parallel" else "children": children}
        if kind == "one":
            state["initial"] = draw(st.sampled_from(names))
        elif kind == "list":
            state["initial"] = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        found.append(state)
    return found


def _paths(states: list[Any], separator: str) -> Iterator[str]:
    for each in states:
        name = each if isinstance(each, str) else each["name"]
        yield name
        inner = [] if isinstance(each, str) else each.get("children", each.get("parallel", []))
        yield from (f"{name}{separator}{path}" for path in _paths(inner, separator))


@settings(deadline=None)
@given(trees(), st.sampled_from([HierarchicalMachine, DottedMachine]), st.data())
def test_a_hierarchical_machine_begins_where_its_models_do(states: list[Any], kind: Any, data: st.DataObject) -> None:
    paths = list(_paths(states, kind.state_cls.separator))
    initial = data.draw(st.sampled_from(paths))
    machine = kind(None, states, initial=initial, auto_transitions=False)
    chart = chart_of(machine)
    assert chart.begins == (initial,)
    assert leaves(chart) == living(machine)
    assert [state.name for state in chart.states] == machine.get_nested_state_names()


@pytest.mark.parametrize("initial", ["WALKING", Moving.STANDING, Moving.WALKING])
def test_nested_enumerations(initial: Any) -> None:
    machine = DottedMachine(None, Moving, initial=initial, auto_transitions=False)
    chart = chart_of(machine)
    assert leaves(chart) == living(machine)
    assert chart_of(DottedMachine(None, Moving, initial="WALKING.SLOW")).begins == ("WALKING.SLOW",)
    assert chart.state(Gait.FAST).name == "WALKING.FAST"
    assert chart.state(Moving.STANDING).name == "STANDING"
    assert chart.state(machine.states["WALKING"].states["SLOW"]).name == "WALKING.SLOW"


def test_several_states_at_once() -> None:
    states = ["idle", {"name": "run", "parallel": [{"name": "left", "initial": "up", "children": ["up"]}, "right"]}]
    machine = HierarchicalMachine(None, states, initial="run", auto_transitions=False)
    chart = chart_of(machine)
    assert leaves(chart) == living(machine) == {"run_left_up", "run_right"}
    assert [state.name for state in chart.states if state.is_parallel] == ["run"]


def test_events_of_states_two_levels_down_are_read() -> None:
    inner: Mapping[str, Any] = {"name": "b", "children": ["c", "d"], "transitions": [["go", "c", "d"]]}
    machine = HierarchicalMachine(None, [{"name": "a", "children": [inner]}], initial="a", auto_transitions=False)
    assert [(row.sources, row.dest) for row in chart_of(machine).rows] == [(("a_b_c",), "a_b_d")]


def test_what_prepares_a_row_is_no_effect_of_it() -> None:
    """It is called when the guards are about to be asked, and so although the row is not taken."""
    machine = Machine(None, ["a", "b"], initial="a", auto_transitions=False)
    machine.add_transition("go", "a", "b", prepare="look", before="leap", after="land")
    (row,) = chart_of(machine).rows
    assert (row.prepares, row.effects) == (("look",), ("leap", "land"))

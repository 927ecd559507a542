"""A chart shows the table that runs: nothing more, nothing less, whatever it was declared with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from transitions import Machine
from transitions.extensions import HierarchicalMachine
from transitions.extensions.asyncio import AsyncMachine
from transitions.extensions.states import Timeout, add_state_features

from fsm_conn import Connection, ConnectionPool, ConnectionState, State, StatefulConnection, Transition
from fsm_conn.diagrams import to_markdown, to_text
from fsm_conn.machine.chart import ChartError, ChartRow, chart_of, fired_by
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Fires


@pytest.mark.parametrize("owner", [Connection, ConnectionPool, StatefulConnection])
def test_what_runs_is_what_is_shown(owner: Any) -> None:
    chart = chart_of(owner)
    lifecycle = owner.lifecycle
    assert chart.name == owner.__name__
    assert chart.owner is owner
    assert [state.name for state in chart.states] == list(lifecycle.states)
    assert chart.begins == (lifecycle.initial,)
    for (trigger, source), rows in chart.alternatives.items():
        made = lifecycle.machine.events[trigger].transitions[source]
        assert [(row.dest, row.guards, row.effects) for row in rows] == [
            (each.dest, tuple(c.func for c in each.conditions), tuple(each.before)) for each in made
        ]
    assert sum(len(rows) for rows in chart.alternatives.values()) == sum(
        len(rows) for event in lifecycle.machine.events.values() for rows in event.transitions.values()
    )


def test_a_row_for_all_states_stands_there_once_and_says_for_which_it_is_not() -> None:
    (disconnect,) = (row for row in chart_of(Connection).rows if row.trigger == "disconnect")
    assert disconnect.every_but == ("disconnected", "disconnecting")
    assert disconnect.sources == ("connecting", "connected", "renewing", "reconnecting", "failed")


def test_an_instance_shows_the_table_of_its_class() -> None:
    assert chart_of(Connection(["true"])) == chart_of(Connection)


def test_what_the_activities_of_a_connection_fire_is_known_and_handled() -> None:
    chart = chart_of(Connection)
    fired = {state.name: state.fires for state in chart.states}
    assert fired == {
        "disconnected": None,
        "connecting": ("opened",),
        "connected": ("going_away", "probe_passed", "probe_failed"),
        "renewing": ("opened",),
        "reconnecting": ("opened",),
        "disconnecting": ("closed",),
        "failed": ("recover",),
    }
    assert all((trigger, name) in chart.alternatives for name, fires in fired.items() for trigger in fires or ())
    assert {row.timer for row in chart.rows if row.trigger == "recover"} == {"recover_after"}


async def _unsaid() -> str:
    return ""


async def _nothing() -> None: ...


async def _literal() -> Literal["a", "b"] | None:
    return None


async def _fires() -> Annotated[str | None, Fires(ConnectionState.FAILED, "x")]:
    return None


async def _half() -> Literal["a"] | str:
    return "a"


async def _unknown() -> NoSuchName:  # type: ignore[name-defined]  # noqa: F821
    ...


@pytest.mark.parametrize(
    ("activity", "expected"),
    [
        (_unsaid, None),
        (_nothing, ()),
        (_literal, ("a", "b")),
        (_fires, ("failed", "x")),
        (_half, None),
        (_unknown, None),
    ],
)
def test_annotations_are_read(activity: Any, expected: Any) -> None:
    assert fired_by(activity) == expected


def test_a_class_of_ones_own() -> None:
    class Door(StateMachine):
        states = (State("shut", initial=True), "open")
        transitions = (
            Transition("knock", "*", None),
            Transition("push", "shut", "open", effects="creak"),
            Transition("fault", "*", "shut"),
        )

        def creak(self, reason: object) -> None: ...

    chart = chart_of(Door)
    assert chart.rows[0] == ChartRow(0, "knock", ("shut", "open"), None, every_but=())
    assert chart.rows[1] == ChartRow(1, "push", ("shut",), "open", effects=("creak",))


class Matter:
    def is_hot(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [Machine, AsyncMachine])
def test_a_plain_machine(kind: type[Machine]) -> None:
    machine = kind(Matter(), ["solid", "liquid", "gas"], initial="solid", name="matter")
    machine.add_transition("melt", "solid", "liquid", conditions="is_hot", before="sweat")
    machine.add_transition("melt", "solid", None, unless=["is_hot"])
    machine.add_transition("shake", "*", "=", after=print)
    machine.add_transition("vanish", "*", "gas")
    chart = chart_of(machine)
    assert chart.name == "matter"
    assert chart.owner is None
    assert [(s.name, s.initial) for s in chart.states] == [("solid", True), ("liquid", False), ("gas", False)]
    assert chart.rows == (
        ChartRow(0, "melt", ("solid",), "liquid", ("is_hot",), ("sweat",)),
        ChartRow(1, "melt", ("solid",), None, ("not is_hot",)),
        ChartRow(2, "shake", ("solid",), "solid", (), ("print",)),
        ChartRow(3, "shake", ("liquid",), "liquid", (), ("print",)),
        ChartRow(4, "shake", ("gas",), "gas", (), ("print",)),
        ChartRow(5, "vanish", ("solid", "liquid", "gas"), "gas", every_but=()),
    )


def test_a_source_that_there_is_not_is_shown_as_it_was_declared() -> None:
    """`transitions` lets it pass; who reads the machine is to see it."""
    machine = Machine(None, ["a", "b"], initial="a", auto_transitions=False)
    machine.add_transition("go", ["zz", "b", "a"], "b")
    assert chart_of(machine).rows == (ChartRow(0, "go", ("a", "b", "zz"), "b"),)


def test_time_limits_of_a_plain_machine() -> None:
    @add_state_features(Timeout)
    class Impatient(Machine):
        pass

    states = ["idle", {"name": "waiting", "timeout": 5, "on_timeout": "give_up", "on_enter": "sit"}]
    waiting = chart_of(Impatient(None, states, initial="idle")).state("waiting")
    assert (waiting.timeout, waiting.on_timeout, waiting.entry) == (5, ("give_up",), ("sit",))


def test_a_hierarchical_machine() -> None:
    states = [
        "standing",
        {
            "name": "walking",
            "initial": "slow",
            "children": ["slow", {"name": "fast", "final": True}],
            "transitions": [["hurry", "slow", "fast"]],
        },
    ]
    machine = HierarchicalMachine(None, states, initial="standing", auto_transitions=True)
    machine.add_transition("go", "standing", "walking")
    machine.add_transition("stop", "walking_fast", "standing")
    chart = chart_of(machine)
    assert [(s.name, s.parent, s.initial, s.final) for s in chart.states] == [
        ("standing", None, True, False),
        ("walking", None, False, False),
        ("walking_slow", "walking", True, False),
        ("walking_fast", "walking", False, True),
    ]
    assert {(row.trigger, row.sources, row.dest) for row in chart.rows} == {
        ("hurry", ("walking_slow",), "walking_fast"),
        ("go", ("standing",), "walking"),
        ("stop", ("walking_fast",), "standing"),
    }
    with pytest.raises(KeyError):
        chart.state("running")


@pytest.mark.parametrize("nothing", [None, 3, int, Machine, "fsm_conn:Connection"])
def test_what_has_no_table_is_refused(nothing: Any) -> None:
    with pytest.raises(ChartError, match="has no table; give a subclass of Connection"):
        chart_of(nothing)


def test_callbacks_of_one_name_are_told_apart() -> None:
    """Two lambdas are two guards; one function given twice, and a method looked up twice, are one."""
    calm, stormy, whole = (lambda: True), (lambda: False), {"start": "pause"}
    machine = Machine(states=["fair", "foul"], initial="fair", auto_transitions=False)
    for guard in (calm, stormy, calm, whole.get, machine.get_state, machine.get_state):
        machine.add_transition("turn", "fair", "foul", conditions=guard)
    machine.add_transition("turn", "foul", "fair", conditions="get_state")
    guards = [row.guards[0] for row in chart_of(machine).rows]
    assert guards == ["<lambda>", "<lambda> 2", "<lambda>", "get", "get_state", "get_state", "get_state 2"]


def test_the_steps_of_an_activity_are_read() -> None:
    """From the same annotation; a subclass that overrides the activity says its own, or none."""

    class Dialler(StateMachine):
        states = (State("idle", initial=True, final=True), State("busy"))
        transitions = (
            Transition("dial", "idle", "busy"),
            Transition("done", "busy", "idle"),
            Transition("fault", "busy", "idle"),
        )

        async def while_busy(self) -> Annotated[str, Fires("done", steps=("ring", "talk"))]:
            return "done"

    class Quick(Dialler):
        async def while_busy(self) -> Annotated[str, Fires("done")]:
            return "done"

    assert [state.steps for state in chart_of(Dialler).states] == [(), ("ring", "talk")]
    assert not any(state.steps for state in chart_of(Quick).states)
    assert "while_busy, ring, talk" in to_text(chart_of(Dialler))
    assert "`while_busy`: `ring`, `talk`" in to_markdown(chart_of(Dialler))

"""A table that is walked by hand, and a life that is lived again."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest
from browsing import Browser
from hypothesis import given
from hypothesis import strategies as st
from transitions import Machine

from fsm_conn import Connection, State, StateMachine, Transition
from fsm_conn.inspector import Inspector
from fsm_conn.inspector import replay as replay_room
from fsm_conn.inspector import subject as subject_room
from fsm_conn.machine.chart import ChartError
from fsm_conn.testing import SimulatedLink, read_trace
from fsm_conn.testing.tracefile import write_record


class Order(StateMachine):
    """Nothing of it may ever run."""

    states = (State("new", initial=True), State("paid"), State("odd"))
    transitions = (
        Transition("pay", "new", "paid", guards=("may_pay", "is_open")),
        Transition("pay", "new", "odd", guards=("is_odd",)),
        Transition("pay", "new", None, effects=("note",)),
        Transition("refund", ("paid", "odd"), "new"),
        Transition("fault", "paid", "odd"),
    )

    def __init__(self) -> None:
        raise AssertionError

    def may_pay(self) -> bool:
        raise AssertionError

    is_open = is_odd = may_pay

    def note(self) -> None:
        raise AssertionError

    async def while_paid(self) -> None:
        raise AssertionError


@given(answers=st.fixed_dictionaries({}, optional=dict.fromkeys(("may_pay", "is_open", "is_odd"), st.booleans())))
def test_a_step_is_the_first_row_whose_guards_agree(answers: dict[str, bool]) -> None:
    """As the machine would do it, with the answers that were given; nothing of the class is run."""
    walk = Inspector(token=False).walk(Order)
    for guard, says in answers.items():
        assert walk.answer(guard, says) is None
    says = {"may_pay": True, "is_open": True, "is_odd": True} | answers
    (verdict,) = walk.details(guards=True)["guards"]
    assert walk.fire("pay") is None
    expected = "paid" if says["may_pay"] and says["is_open"] else "odd" if says["is_odd"] else "new"
    assert walk.state == expected
    assert verdict["taken"] == {"paid": 0, "odd": 1, "new": 2}[expected]


def test_what_cannot_happen_is_refused_with_the_reason() -> None:
    """And changes nothing."""
    walk = Inspector(token=False).walk(Order)
    assert walk.fire("refund") == "'refund' cannot happen in state 'new'"
    assert walk.answer("nobody", True) == "the table has no guard 'nobody'"
    assert (walk.state, walk.count) == ("new", 0)


def test_a_machine_of_transitions_is_walked_too() -> None:
    """With its `unless` as a guard that must refuse; where every row refuses, the trigger does."""
    machine = Machine(states=["a", "b"], initial="a", auto_transitions=False)
    machine.add_transition("go", "a", "b", unless=["is_late"])
    walk = Inspector(token=False).walk(machine)
    walk.answer("is_late", True)
    assert walk.fire("go") == "no row of 'go' is taken: of each, a guard says no"
    walk.answer("is_late", False)
    assert walk.fire("go") is None
    assert walk.state == "b"


def test_what_has_no_table_cannot_be_walked() -> None:
    """The error of charts."""
    with pytest.raises(ChartError):
        Inspector(token=False).walk(object)


async def test_the_page_walks() -> None:
    """It fires, answers, is told of each step, and begins again."""
    inspector = Inspector(token=False)
    inspector.walk(Order)
    browser = Browser(inspector.app)
    async with browser.feed() as feed:
        await feed.look("Order, by hand")
        key = feed.named("Order, by hand")[0]
        assert (await browser.post("/api/answer", {"of": key, "guard": "may_pay", "says": False})).json["error"] is None
        assert (await browser.post("/api/act", {"of": key, "act": "fire", "trigger": "pay"})).json["error"] is None
        await feed.until(lambda: feed.entries and feed.entries[-1][3] == "odd")
        wrong = await browser.post("/api/act", {"of": key, "act": "fire", "trigger": "pay"})
        assert "cannot happen" in wrong.json["error"]
        feed.look_told = None
        await browser.post("/api/answer", {"of": key, "again": True})
        await feed.until(lambda: feed.look_told is not None)
        assert (feed.entries, feed.named("Order, by hand")[4]) == ([], "new")
        assert (await browser.post("/api/answer", {"of": key, "guard": 7, "says": False})).status == 400


async def recorded() -> list[str]:
    """The life of a connection: two attempts, and an end after a minute."""
    conn = Connection(SimulatedLink.script(opens=["refuse", "ok"]), name="peer")
    lines: list[str] = []
    conn.on_transition(lambda record: lines.append(write_record(record, connection="peer")))
    async with conn:
        await asyncio.sleep(60)
    return lines


async def test_a_recorded_life_is_lived_again() -> None:
    """In its order, at the speed that was asked for."""
    lines = await recorded()
    inspector = Inspector(token=False)
    replay = inspector.replay(read_trace(lines), Connection, speed=10)
    with pytest.raises(ValueError, match="a replay already"):
        inspector.replay(read_trace(lines), Connection)
    began = asyncio.get_running_loop().time()
    task = asyncio.create_task(replay.run())
    async with Browser(inspector.app).feed() as feed:
        await feed.look("peer")
        await feed.until(lambda: len(feed.entries) == len(lines))
        assert [entry[3] for entry in feed.entries][-1] == "disconnected"
        assert 5.9 < asyncio.get_running_loop().time() - began < 8
        assert feed.named("peer")[4] == "disconnected"
    task.cancel()


async def test_a_trace_of_many_machines_and_names_is_shown_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wrote it: so many machines, so many ways between states, and the rest is counted."""
    monkeypatch.setattr(replay_room, "MOST_LIVES", 3)
    monkeypatch.setattr(subject_room, "MOST_WAYS", 5)
    (line, *_) = read_trace(await recorded())
    lines = [
        attrs.evolve(line, trigger=f"t{number}", connection=f"c{number % 4}", at=float(number)) for number in range(80)
    ]
    inspector = Inspector(token=False)
    replay = inspector.replay(lines, Connection)
    replay._seek(80.0)
    assert [(each.name, each.count) for each in replay.recordings] == [("c0", 20), ("c1", 20), ("c2", 20)]
    assert (replay.left_out, inspector._registry.left_out) == (1, 1)
    told = replay.recordings[0].details(guards=False)["ways"]
    assert [each[0] for each in told] == ["t0", "t1", "t2", "t4", "t5"]


async def test_a_replay_is_steered() -> None:
    """Paused, sent to a moment, forwards and back, and made faster."""
    lines = await recorded()
    inspector = Inspector(token=False)
    replay = inspector.replay(read_trace(lines), Connection)
    (subject,) = replay.recordings
    task = asyncio.create_task(replay.run())
    browser = Browser(inspector.app)
    steer: Any = lambda wish: browser.post("/api/steer", wish)  # noqa: E731
    assert (await steer({"paused": True})).json["error"] is None
    assert (await steer({"at": 1})).json["error"] is None
    assert (subject.state, subject.count) == ("disconnected", len(lines))
    assert (await steer({"at": 0.5})).json["error"] is None
    assert subject.state == "connected"
    assert (await steer({"at": 0})).json["error"] is None
    await asyncio.sleep(100)
    assert (subject.state, subject.count) == ("reconnecting", 2)  # what happened in its first moment
    assert replay.clock()["rate"] == 0
    await steer({"paused": False, "speed": 1000})
    await asyncio.sleep(1)
    assert subject.count == len(lines)
    for wrong in (
        {"speed": 0},
        {"speed": "fast"},
        {"speed": 1e9},
        {"speed": True},
        {"speed": 10**400},
        {"at": 2},
        {"at": "x"},
        {"paused": 1},
    ):
        assert (await steer(wrong)).json["error"]
    task.cancel()
    assert (await Browser(Inspector(token=False).app).post("/api/steer", {})).status == 400


def test_an_empty_trace_is_refused() -> None:
    """There would be nothing to see."""
    with pytest.raises(ValueError, match="has no transition"):
        Inspector(token=False).replay([], Connection)

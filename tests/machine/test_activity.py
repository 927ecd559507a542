"""What a machine does by itself: in whose context, for whom, and what it says when that goes wrong."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from fsm_conn import State, StateMachine, Transition
from fsm_conn.machine.activity import acting_for

WHO: ContextVar[str] = ContextVar("who", default="nobody")
HANG = "hang"


class Work(StateMachine):
    """A machine that works for five seconds at most, and then tells in whose context it was done."""

    states = (
        State("idle", initial=True),
        State("working", timeout=5.0, on_timeout="late", on_error="failed"),
        State("done"),
    )
    transitions = (
        Transition("work", ("idle", "done"), "working"),
        Transition("worked", "working", "done", effects="note"),
        Transition("late", "working", "done", effects="note"),
        Transition("failed", "working", "done", effects="note"),
        Transition("fault", "*", "done", effects="note"),
    )

    def __init__(self, outcome: Any = "worked") -> None:
        self.outcome = outcome
        self.heard: list[str] = []

    def note(self) -> None:
        self.heard.append(WHO.get())

    async def while_working(self) -> Any:
        self.note()
        WHO.set("the activity")
        await asyncio.sleep(1)
        if callable(self.outcome):
            return await self.outcome()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        await asyncio.sleep(9 if self.outcome == HANG else 0)
        return self.outcome


async def done(machine: Work) -> Work:
    async with machine:
        machine.fire("work")
        await machine.wait_for_state("done")
    return machine


@pytest.mark.parametrize("outcome", ["worked", HANG, OSError("refused"), KeyError("x")], ids=str)
async def test_all_is_done_in_the_context_in_which_the_machine_began(outcome: Any) -> None:
    """Neither in that of whoever fired a trigger, nor in that of the activity."""
    WHO.set("who began")
    async with Work(outcome) as machine:
        machine.keep_context()
        WHO.set("who fired")
        machine.fire("work")
        await machine.wait_for_state("done")
    assert machine.heard == ["who began", "who began"]


async def test_a_late_activity_ends_in_that_context_too() -> None:
    """And what is begun then."""
    WHO.set("who began")
    async with Work(HANG) as machine:
        machine.fire("work")
        await asyncio.sleep(0)
        WHO.set("who fired")
        machine.fire("late")
        machine.fire("work")
        await asyncio.sleep(0.1)
    assert machine.heard == ["who began", "who fired", "who began"]


async def test_a_task_knows_for_which_visit_it_acts() -> None:
    """The activity, and whatever it has started, even when the state was left since."""
    told: list[tuple[str, int | None, bool]] = []
    helpers: list[asyncio.Task[None]] = []

    class Helped(Work):
        async def while_working(self) -> Any:
            self.tell("activity")
            helpers.append(asyncio.create_task(self.help()))
            await asyncio.sleep(1)
            return "worked"

        async def help(self) -> None:
            self.tell("helper")
            await asyncio.sleep(2)
            self.tell("late helper")

        def tell(self, who: str) -> None:
            told.append((who, acting_for(self._fsm_context), self.in_activity()))
            assert acting_for(other._fsm_context) is None
            assert not other.in_activity()

    async with Helped() as machine, Work() as other:
        other.keep_context()
        for visit in (1, 3):
            told.clear()
            machine.fire("work")
            assert not machine.in_activity()
            await asyncio.gather(machine.wait_for_state("done"), *helpers)
            await helpers[-1]
            assert told == [("activity", visit, True), ("helper", visit, True), ("late helper", visit, False)]
        assert acting_for(machine._fsm_context) is acting_for(None) is None


def during(machine: StateMachine) -> tuple[str | None, bool, float | None]:
    now = machine.snapshot()
    return now.activity, now.is_resting, now.time_left


async def test_who_waits_for_rest_waits_for_that_of_this_visit() -> None:
    """Whichever it is; meanwhile the time limit runs."""

    class Waits(Work):
        async def while_working(self) -> Any:
            await asyncio.sleep(1)
            self.rest()
            await asyncio.sleep(1)
            return "worked"

    async with Waits() as machine:
        for _ in range(3):
            assert not machine.snapshot().is_resting
            machine.fire("work")
            assert during(machine) == ("while_working", False, 5.0)
            began = asyncio.get_running_loop().time()
            await machine.wait_for_rest()
            assert asyncio.get_running_loop().time() - began == 1.0
            assert during(machine) == ("while_working", True, 4.0)
            await machine.wait_for_state("done")
            await machine.wait_for_rest()
            assert during(machine) == (None, False, None)


# --- what is said ---------------------------------------------------------------------------------------------------------


def line(function: Any, number: int) -> str:
    return f"in {function.__name__}, test_activity.py:{function.__code__.co_firstlineno + number}"


async def test_who_awaits_what_was_cancelled_is_told() -> None:
    """It is no cancellation of the activity, which would end silently."""

    class Awaits(Work):
        async def while_working(self) -> Any:
            task = asyncio.create_task(asyncio.sleep(9))
            task.cancel()
            await task

    machine = await done(Awaits())
    assert machine.reason is not None
    assert (
        str(machine.reason) == "while_working() awaited a task that was cancelled, and did not catch the CancelledError"
    )
    assert isinstance(machine.reason.__cause__, asyncio.CancelledError)
    assert machine.reason.__notes__ == [line(Awaits.while_working, 3)]


async def test_who_cancels_an_activity_from_outside_is_told() -> None:
    async with Work(HANG) as machine:
        machine.fire("work")
        await asyncio.sleep(0)
        assert machine.activity_task is not None
        assert machine.activity_task.get_name() == "<Work working>.while_working"
        machine.activity_task.cancel()
        await machine.wait_for_state("done")
    assert str(machine.reason) == "<Work working>.while_working was cancelled from outside"
    assert machine.heard[1:] == ["nobody"]


async def test_a_state_that_lasted_too_long_is_named() -> None:
    machine = await done(Work(HANG))
    assert str(machine.reason) == "working has lasted longer than 5 s"


async def test_a_bug_that_comes_up_again_is_told_once() -> None:
    """It may be one error object, kept and raised again; its own notes stay."""
    error = KeyError("x")
    error.add_note("by the application")
    async with Work(error) as machine:
        for _ in range(2):
            machine.fire("work")
            await machine.wait_for_state("done")
    assert machine.reason is error
    assert error.__notes__ == ["by the application", line(Work.while_working, 7)]


async def test_an_error_that_takes_no_notes_is_told_without() -> None:
    class Mute(Exception):
        def add_note(self, note: str) -> None:
            raise TypeError("no notes")

    machine = await done(Work(Mute("odd")))
    assert (str(machine.reason), machine.state) == ("odd", "done")


async def test_an_activity_may_be_anything_that_is_called() -> None:
    """Then nothing says in which line a bug came up."""

    async def raises(error: Exception) -> None:
        raise error

    machine = Work()
    machine.while_working = partial(raises, KeyError("x"))  # type: ignore[method-assign]
    await done(machine)
    assert isinstance(machine.reason, KeyError)
    assert not hasattr(machine.reason, "__notes__")


async def test_a_trigger_that_does_not_exist_breaks_a_rule() -> None:
    """So does one that the state does not handle."""
    for wrong in ("wroked", "work"):
        machine = await done(Work(wrong))
        assert f"{wrong!r}" in str(machine.reason)
        assert str(machine.last_record.trigger) == "fault"  # type: ignore[union-attr]

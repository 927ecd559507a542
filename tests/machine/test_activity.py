"""What a machine does by itself: in whose context, for whom, and what it says when that goes wrong."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from fsm_conn import IllegalTriggerError, State, StateMachine, Transition
from fsm_conn.machine.activity import acting_for
from fsm_conn.testing import run_virtually

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


async def test_nobody_need_wait_for_rest() -> None:
    """It may be told again, too."""

    class Rests(Work):
        async def while_working(self) -> Any:
            for _ in range(2):
                self.rest()
                await asyncio.sleep(1)
            waiter = asyncio.create_task(self.wait_for_rest())
            await asyncio.sleep(0)
            assert waiter.done()
            return "worked"

    machine = await done(Rests())
    assert machine.reason is None


# --- how long it runs -----------------------------------------------------------------------------------------------------


class Deaf(Work):
    """Its activity ignores its cancellation for so many seconds."""

    deaf = 1000.0

    async def while_working(self) -> Any:
        until = asyncio.get_running_loop().time() + self.deaf
        while (left := until - asyncio.get_running_loop().time()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(left)
        return "worked"


async def test_what_ignores_its_cancellation_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Ten seconds after its state was left, each time; and who waits for rest waits no longer."""
    async with Deaf() as machine:
        for number in (1, 2):
            machine.fire("work")
            await asyncio.sleep(1)
            waiter = asyncio.create_task(machine.wait_for_rest())
            await asyncio.sleep(1)
            machine.fire("late")
            await asyncio.sleep(9.9)
            assert (machine.abandoned_activities, machine.snapshot().activity) == (number - 1, "while_working")
            await asyncio.sleep(0.2)
            assert (machine.abandoned_activities, machine.snapshot().activity) == (number, None)
            assert machine.activity_task is None
            await asyncio.sleep(10)
            assert waiter.done()
    told = "<Deaf done>: <Deaf working>.while_working ignores its cancellation and is left behind; let CancelledError pass in it"
    assert said(caplog) == [told] * 2


async def test_so_is_each_of_several_in_a_row() -> None:
    """The next one begins when the one before it has been left behind."""
    async with Deaf() as machine:
        machine.fire("work")
        await asyncio.sleep(1)
        for number in (1, 2):
            machine.fire("late")
            await asyncio.sleep(9.9)
            machine.fire("work")
            assert machine.abandoned_activities == number - 1
            await asyncio.sleep(0.2)
            assert (machine.abandoned_activities, machine.snapshot().activity) == (number, "while_working")


async def test_what_ends_in_time_is_not_left_behind() -> None:
    """Its state was left, so what it returned does not count. The ten seconds are those of each activity."""
    async with Deaf() as machine:
        machine.deaf = 8.0
        for _ in range(2):
            machine.fire("work")
            await asyncio.sleep(1)
            machine.fire("late")
            machine.fire("work")
            machine.fire("late")
            await asyncio.sleep(7.5)
            assert machine.activity_task is None
        machine.deaf = 0.0
        machine.fire("work")
        await machine.wait_for_state("done")
        await asyncio.sleep(20)
    assert machine.abandoned_activities == 0


async def test_a_machine_that_has_nothing_to_do_has_no_loop() -> None:
    """While it has a time limit, it has one, and no task."""

    class Silent(Work):
        async def while_working(self) -> None:
            await asyncio.sleep(1)

    async with Silent() as machine:
        machine.fire("work")
        assert machine.loop is asyncio.get_running_loop()
        assert len(asyncio.all_tasks()) > 1
        await asyncio.sleep(2)
        assert during(machine) == (None, False, 3.0)
        assert machine.loop is asyncio.get_running_loop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(4)
        assert (machine.state, machine.loop, machine.is_ending()) == ("done", None, False)


async def test_a_limit_that_passes_and_leaves_the_state_does_not_end_the_activity() -> None:
    class Reminded(StateMachine):
        states = (State("idle", initial=True), State("working", timeout=5.0, on_timeout="late"), State("done"))
        transitions = (
            Transition("work", "idle", "working"),
            Transition("late", "working", None),
            Transition("worked", "working", "done"),
            Transition("fault", "*", "done"),
        )

        async def while_working(self) -> str:
            await asyncio.sleep(8)
            return "worked"

    async with Reminded() as machine:
        machine.fire("work")
        await asyncio.sleep(6)
        assert machine.activity_task in asyncio.all_tasks()
        await asyncio.sleep(3)
        assert [str(record.trigger) for record in machine.history] == ["work", "late", "worked"]


async def test_a_state_with_a_limit_alone_has_no_activity() -> None:
    class Waits(StateMachine):
        states = (State("waiting", initial=True, timeout=5.0, on_timeout="late"), State("done"))
        transitions = (Transition("late", "waiting", "done"), Transition("fault", "*", "done"))

    async with Waits() as machine:
        machine.rest()
        assert (machine.snapshot().activity, machine.snapshot().time_left, machine.activity_task) == (None, 5.0, None)
        await machine.wait_for_rest()


def test_no_limit_passes_while_the_loop_ends() -> None:
    """However long the activity cleans up: what ends it is not its time limit."""

    class CleansUp(Work):
        async def while_working(self) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(6)
                self.heard.append("cleaned up")

    async def main() -> CleansUp:
        machine = CleansUp()
        machine.fire("work")
        await asyncio.sleep(1)
        return machine

    machine = run_virtually(main())
    assert (machine.heard[0], machine.loop) == ("cleaned up", None)
    assert "late" not in [record.trigger for record in machine.history]


# --- what is said ---------------------------------------------------------------------------------------------------------


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """As it was when it was logged."""
    return [record.message for record in caplog.records]


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


@pytest.mark.parametrize(
    ("outcome", "message", "error"),
    [
        (KeyError("x"), "<Work working>: the activity of working failed", KeyError),
        ("work", "<Work working>: the activity of working broke a rule", IllegalTriggerError),
        (OSError("refused"), None, None),
        ("worked", None, None),
    ],
)
async def test_a_mistake_is_logged_and_an_error_of_the_world_is_not(
    outcome: Any, message: str | None, error: type[BaseException] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """With where it came up. An expected error keeps no frames alive."""
    machine = await done(Work(outcome))
    assert said(caplog) == [message] * (message is not None)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [error] * (error is not None)
    if isinstance(outcome, OSError):
        assert machine.reason is outcome
        assert outcome.__traceback__ is None


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [(KeyError("x"), True), (OSError("refused"), False), (asyncio.CancelledError(), False)],
    ids=repr,
)
async def test_a_mistake_of_a_late_activity_is_logged(
    error: BaseException, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its state was left, so no trigger tells of it."""

    class Late(Work):
        async def while_working(self) -> Any:
            try:
                await asyncio.sleep(9)
            finally:
                raise error

    async with Late() as machine:
        machine.fire("work")
        await asyncio.sleep(1)
        machine.fire("late")
        await asyncio.sleep(1)
    assert said(caplog) == ["<Late done>: an activity failed after its state was left"] * is_logged
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error] * is_logged

"""Machines as users write them, each with one fault of a kind that users make; the line that is to be told ends in `# bug`."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Annotated, Any, ClassVar

from fsm_conn import Fires, State, StateMachine, Transition
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing import Evidence, invariant

__all__ = ["CLEAN", "FAULTY"]

FAULTY: dict[type[StateMachine], tuple[str, dict[str, Any]]] = {}
"""Each class, the invariant that finds its fault, and what it is explored with."""


def found_by(name: str, **options: Any) -> Any:
    """Put a class on the list; with `real=True` its activities run as they are."""

    def decorate(faulty: type[StateMachine]) -> type[StateMachine]:
        if options.pop("real", False):
            options["make"] = faulty
        FAULTY[faulty] = name, dict(options)
        return faulty

    return decorate


class Upload(StateMachine):
    """As it should be."""

    states = (
        State("idle", initial=True),
        State("sending", on_error="broken", timeout=30, on_timeout="expired"),
        State("done", final=True),
        State("failed", final=True),
    )
    transitions = (
        Transition("send", ("idle", "failed"), "sending", effects="count"),
        Transition("sent", "sending", "done"),
        Transition("broken", "sending", "sending", guards="may_retry", effects="count"),
        Transition("broken", "sending", "failed", effects="give_up"),
        Transition("expired", "sending", "failed", effects="give_up"),
        Transition("cancel", "sending", "idle"),
        Transition("fault", "*", "failed"),
    )

    def __init__(self) -> None:
        self.tries = 0
        self.parts: list[int] = []

    def may_retry(self) -> bool:
        """Three times."""
        return self.tries < 3

    def count(self) -> None:
        """One more."""
        self.tries += 1

    def give_up(self) -> None:
        """From the beginning the next time."""
        self.tries = 0

    async def while_sending(self) -> Annotated[str, Fires("sent")]:
        """Send."""
        await asyncio.sleep(1)
        return "sent"


class Door(StateMachine):
    """As it should be."""

    states = (State("closed", initial=True), State("open"), State("locked"))
    transitions = (
        Transition("push", "closed", "open"),
        Transition("pull", "open", "closed"),
        Transition("lock", "closed", "locked"),
        Transition("unlock", "locked", "closed", guards="is_right", effects="forget"),
        Transition("unlock", "locked", None, effects="refuse"),
    )

    def __init__(self) -> None:
        self.refusals = 0

    def is_right(self, code: int) -> bool:
        """One code opens."""
        return code == 7

    def refuse(self) -> None:
        """One more."""
        self.refusals += 1

    def forget(self) -> None:
        """All is well."""
        self.refusals = 0


CODES = {"unlock": {"code": [1, 7]}}

CLEAN: dict[type[StateMachine], dict[str, Any]] = {Upload: {}, Door: {"data": CODES}}
"""Machines without a fault, and what they are explored with."""


@found_by("faults_have_a_cause")
class LooksUpWhatIsNotThere(Upload):
    """An effect that works the first time."""

    def count(self) -> None:
        super().count()
        if self.tries == 2:
            {}["second"]  # bug


@found_by("faults_have_a_cause")
class GuardDivides(Upload):
    """A guard that divides by what may be zero."""

    def give_up(self) -> None:
        self.tries = -1

    def may_retry(self) -> bool:
        return 6 / self.tries > 2  # bug


@found_by("guards_are_pure")
class GuardForgetsItsReturn(Upload):
    def may_retry(self) -> bool:  # type: ignore[return]  # bug
        self.tries < 3  # noqa: B015


@found_by("guards_are_pure")
class GuardCounts(Upload):
    def may_retry(self) -> bool:  # bug
        self.tries += 1
        return self.tries < 3


@found_by("guards_are_pure")
class GuardKeepsAList(Upload):
    def may_retry(self) -> bool:  # bug
        self.parts.append(self.tries)
        return self.tries < 3


@found_by("guards_are_pure|lives_can_be_repeated")
class GuardThrowsDice(Upload):
    def may_retry(self) -> bool:  # bug
        return random.random() < 0.5


@found_by("no_livelock")
class Circle(Upload):
    """Triggers that fire one another for ever."""

    transitions = (
        *Upload.transitions,
        Transition("ping", "idle", None, effects="fire_pong"),
        Transition("pong", "idle", None, effects="fire_ping"),
    )

    def fire_pong(self) -> None:
        self.fire("pong")

    def fire_ping(self) -> None:
        self.fire("ping")


@found_by("observers_raised_nothing")
class ObserverRaises(Upload):
    def __init__(self) -> None:
        super().__init__()
        self.on_transition(self.note)

    def note(self, record: TransitionRecord) -> None:
        if record.dest == "done":
            raise LookupError("nobody listens")  # bug


@found_by("observers_raised_nothing")
class AsyncObserverRaises(Upload):
    def __init__(self) -> None:
        super().__init__()
        self.on_transition(self.note)

    async def note(self, record: TransitionRecord) -> None:
        await asyncio.sleep(0)
        if record.dest == "failed":
            raise LookupError("nobody listens")  # bug


@found_by("faults_have_a_cause", real=True)
class ActivityHasABug(Upload):
    async def while_sending(self) -> Annotated[str, Fires("sent")]:
        await asyncio.sleep(1)
        return str(self.parts[0])  # bug


@found_by("something_follows", real=True)
class ActivityReturnsNothing(Upload):
    async def while_sending(self) -> Annotated[str, Fires("sent")]:  # type: ignore[return]  # bug
        await asyncio.sleep(1)


@found_by("faults_have_a_cause", real=True)
class ActivityMisspells(Upload):
    async def while_sending(self) -> str:  # bug
        await asyncio.sleep(1)
        return "snet"


class Endless(StateMachine):
    """Nothing but its activity leads out of a state."""

    states = (State("idle", initial=True), State("working"), State("done", final=True))
    transitions = (
        Transition("work", "idle", "working", effects="note"),
        Transition("worked", "working", "done"),
        Transition("fault", "*", "done"),
    )

    def __init__(self) -> None:
        self.notes = 0

    def note(self) -> None:
        """One more."""
        self.notes += 1


@found_by("something_follows", real=True)
class ActivityWaitsForEver(Endless):
    async def while_working(self) -> str:
        await asyncio.Event().wait()  # bug
        return "worked"


@found_by("something_follows", real=True)
class ActivityForgetsItsTrigger(Endless):
    async def while_working(self):  # type: ignore[no-untyped-def]  # bug  # noqa: RET503 - that is the fault
        await asyncio.sleep(1)
        if self.notes > 1:
            return "worked"


@found_by("faults_have_a_cause", real=True)
class WaitsForItself(Endless):
    async def while_working(self) -> str:
        await self.wait_for_state("done")  # bug
        return "worked"


@found_by("activities_let_go", real=True)
class IgnoresItsCancellation(Upload):
    async def while_sending(self) -> Annotated[str, Fires("sent")]:  # bug
        for _ in range(40):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
        return "sent"


@found_by("activities_let_go", real=True)
class CleansUpForEver(Upload):
    async def while_sending(self) -> Annotated[str, Fires("sent")]:  # bug
        try:
            await asyncio.sleep(5)
        finally:
            await asyncio.sleep(1000)
        return "sent"


@found_by("no_livelock", real=True)
class Spins(Upload):
    async def while_sending(self) -> Annotated[str, Fires("sent")]:
        while not self.parts:
            await asyncio.sleep(0)  # bug
        return "sent"


@invariant()
def no_more_than_three(life: Evidence) -> str | None:
    """There are three tries."""
    return f"{life.machine.tries} tries" if life.machine.tries > 3 else None


@found_by("no_more_than_three", invariants=[no_more_than_three])
class OneTryTooMany(Upload):
    def may_retry(self) -> bool:
        return self.tries <= 3


@found_by("no_more_than_three", invariants=[no_more_than_three])
class ForgetsToCount(Upload):
    """Whoever cancels and sends again has as many tries as before, and more."""

    def give_up(self) -> None:
        """Nothing: the next one begins where this one ended."""


@found_by("faults_have_a_cause")
class EntryRaises(Upload):
    states = (*Upload.states[:2], State("done", final=True, entry="celebrate"), Upload.states[3])

    def celebrate(self) -> None:
        assert self.tries > 1, "too easy"  # bug


@found_by("faults_have_a_cause")
class ExitRaises(Upload):
    states = (
        Upload.states[0],
        State("sending", on_error="broken", timeout=30, on_timeout="expired", exit="put_away"),
        *Upload.states[2:],
    )

    def put_away(self) -> None:
        self.parts.remove(1)  # bug


@found_by("faults_have_a_cause")
class TimeLimitRaises(Upload):
    def give_up(self) -> None:
        if self.tries == 1:
            raise AttributeError("the first time is another")  # bug
        super().give_up()


@found_by("faults_have_a_cause", data=CODES)
class ThirdRefusal(Door):
    """A lock that opens on the third refusal, and then goes wrong."""

    def is_right(self, code: int) -> bool:
        return code == 7 or self.refusals == 3

    def forget(self) -> None:
        if self.refusals == 3:
            raise PermissionError("who are you?")  # bug
        super().forget()


@found_by("faults_have_a_cause", data=CODES)
class TooSoonAgain(Door):
    """Goes wrong when it is opened within five seconds after it was locked."""

    transitions = (
        Transition("lock", "closed", "locked", effects="note_time"),
        *(row for row in Door.transitions if row.trigger != "lock"),
    )
    locked_at = 0.0

    def note_time(self) -> None:
        self.locked_at = asyncio.get_running_loop().time()

    def forget(self) -> None:
        if asyncio.get_running_loop().time() - self.locked_at > 5:
            raise OverflowError("too late")  # bug


@found_by("faults_have_a_cause")
class Account(StateMachine):
    """A trigger with data."""

    states = (State("open", initial=True), State("closed", final=True))
    transitions = (
        Transition("pay", "open", None, effects="add"),
        Transition("draw", "open", None, effects="take"),
        Transition("close", "open", "closed", guards="is_even"),
        Transition("close", "open", None),
    )

    def __init__(self) -> None:
        self.balance = 0

    def add(self, amount: int) -> None:
        """More."""
        self.balance += abs(amount)

    def take(self, amount: int) -> None:
        """Less."""
        self.balance -= abs(amount)
        if self.balance < 0:
            raise ValueError("overdrawn")  # bug

    def is_even(self) -> bool:
        """Nothing is owed."""
        return self.balance == 0


@found_by("faults_have_a_cause")
class ShareOut(StateMachine):
    """Divides by what it is given."""

    states = (State("open", initial=True), State("shared", final=True))
    transitions = (Transition("share", "open", "shared", effects="divide"),)

    def divide(self, heads: int) -> None:
        """Everybody gets as much."""
        self.each = 100 / heads  # bug


@found_by("moves_are_rows", real=True)
class AssignsItsState(Upload):
    async def while_sending(self) -> Annotated[str, Fires("sent")]:
        await asyncio.sleep(1)
        self._state = "done"
        return "sent"


@found_by("no_task_is_left")
class LeavesATask(Upload):
    def give_up(self) -> None:
        self._reporting = asyncio.ensure_future(self.report())

    async def report(self) -> None:
        await asyncio.Event().wait()  # bug


@found_by("lives_can_be_repeated")
class CountsInItsClass(Upload):
    """What one object does changes what another may."""

    made = 0

    def count(self) -> None:
        super().count()
        type(self).made += 1

    def may_retry(self) -> bool:
        return self.made % 3 != 0


@found_by("lives_can_be_repeated")
class SharesAList(Upload):
    names: ClassVar[list[str]] = []

    def count(self) -> None:
        super().count()
        self.names.append("x")

    def may_retry(self) -> bool:
        return len(self.names) % 4 != 1


@found_by("faults_have_a_cause", real=True)
class ActivityFiresWithoutData(Upload):
    transitions = (
        Transition("sent", "sending", "done", effects="note_size"),
        *(row for row in Upload.transitions if row.trigger != "sent"),
    )

    def note_size(self, size: int) -> None:
        self.parts.append(size)


@invariant()
def stock_is_right(life: Evidence) -> str | None:
    """What is reserved is not sold to another."""
    return None if 0 <= life.machine.stock <= 2 else f"the stock is {life.machine.stock}"


@found_by("stock_is_right", invariants=[stock_is_right])
class Order(StateMachine):
    """Two ways lead to a return of what was reserved, and one goes both."""

    states = (State("new", initial=True), State("reserved"), State("paid"), State("cancelled"))
    transitions = (
        Transition("reserve", "new", "reserved", effects="take"),
        Transition("pay", "reserved", "paid"),
        Transition("cancel", ("reserved", "paid"), "cancelled", effects="give_back"),
        Transition("refund", ("paid", "cancelled"), "new", effects="give_back"),
    )

    def __init__(self) -> None:
        self.stock = 2

    def take(self) -> None:
        """One less."""
        self.stock -= 1

    def give_back(self) -> None:
        """One more."""
        self.stock += 1


class Client:
    """A fake that fails as often as it is told to."""

    def __init__(self, *outcomes: Exception | int) -> None:
        self.outcomes = list(outcomes)

    async def send(self) -> int:
        """The next outcome."""
        await asyncio.sleep(0.1)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@found_by("faults_have_a_cause", real=True)
class FailsOnItsFake(Upload):
    """The third part of what is sent is not what it expects."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client(OSError("away"), OSError("away"), -1)

    async def while_sending(self) -> Annotated[str, Fires("sent")]:
        if await self.client.send() < 0:
            raise ArithmeticError("less than nothing")  # bug
        return "sent"

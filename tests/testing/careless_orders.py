"""Machines with one mistake each, of the kinds that business is made of: order of effects, resets, timers, keys, spending."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fsm_conn import Connection, Fires, State, StateMachine, Transition
from fsm_conn.testing import Evidence, invariant

from .careless import careless


@careless("charge", "Checkout")
class Checkout(StateMachine):
    """The effects stand in the wrong order: what is charged has been cleared before."""

    states = (State("shopping", initial=True), State("paid"))
    transitions = (
        Transition("add", "shopping", None, effects="put"),
        Transition("pay", "shopping", "paid", guards="has_items", effects=("clear", "charge")),
        Transition("pay", "shopping", None),
        Transition("again", "paid", "shopping"),
    )

    def __init__(self) -> None:
        self.prices: list[int] = []
        self.charged = 0

    def has_items(self) -> bool:
        return bool(self.prices)

    def put(self) -> None:
        self.prices.append(5)

    def clear(self) -> None:
        self.prices.clear()

    def charge(self) -> None:
        self.charged += max(self.prices)


@invariant()
def begins_afresh(life: Evidence) -> str | None:
    """An idle one remembers no attempt."""
    return "attempts are left of the last one" if life.state == "idle" and life.machine.attempts else None


@careless("drop", "Dispatcher", invariants=[begins_afresh])
class Dispatcher(StateMachine):
    """One of two ways back forgets the reset."""

    states = (State("idle", initial=True), State("trying"))
    transitions = (
        Transition("begin", "idle", "trying", effects="count"),
        Transition("fail", "trying", "trying", effects="count"),
        Transition("done", "trying", "idle", effects="reset"),
        Transition("drop", "trying", "idle", effects="drop"),
    )
    attempts = 0

    def count(self) -> None:
        self.attempts += 1

    def reset(self) -> None:
        self.attempts = 0

    def drop(self) -> None:
        self.dropped = True


@careless("remind", "Reminder")
class Reminder(StateMachine):
    """Its timer is kept when the state is left, and fires what nobody expects any more."""

    states = (State("idle", initial=True), State("waiting"), State("late"))
    transitions = (
        Transition("ask", "idle", "waiting", effects="remind"),
        Transition("answer", "waiting", "idle"),
        Transition("remind", "waiting", "late"),
        Transition("answer", "late", "idle"),
    )

    def remind(self) -> None:
        asyncio.get_running_loop().call_later(30, self.fire, "remind")


@careless("_mail", "Mailer")
class Mailer(StateMachine):
    """An async observer that takes longer than observers may."""

    states = (State("off", initial=True), State("on"))
    transitions = (Transition("switch", "off", "on"), Transition("switch", "on", "off"))

    def __init__(self) -> None:
        self.on_transition(self._mail)

    async def _mail(self, record: Any) -> None:
        if record.dest == "off":
            await asyncio.sleep(3600)


@careless("publish", "Article")
class Article(StateMachine):
    """What is published is there only by one of two ways."""

    states = (State("empty", initial=True), State("draft"), State("review"), State("public"))
    transitions = (
        Transition("write", "empty", "draft", effects="write"),
        Transition("submit", ("draft", "empty"), "review"),
        Transition("accept", "review", "public", effects="publish"),
        Transition("withdraw", "public", "empty"),
    )

    def write(self) -> None:
        self.text = "words"

    def publish(self) -> None:
        self.length = len(self.text)


@invariant()
def gives_back_no_more_than_it_got(life: Evidence) -> str | None:
    """An account is never below zero."""
    return f"the balance is {life.machine.balance}" if life.machine.balance < 0 else None


@careless("refund", "Purchase", invariants=[gives_back_no_more_than_it_got])
class Purchase(StateMachine):
    """Whoever complains after a return is given the money back twice."""

    states = (State("open", initial=True), State("paid"), State("returned"), State("closed", final=True))
    transitions = (
        Transition("pay", "open", "paid", effects="receive"),
        Transition("return", "paid", "returned", effects="refund"),
        Transition("complain", ("paid", "returned"), "closed", effects="refund"),
    )
    balance = 0

    def receive(self) -> None:
        self.balance += 10

    def refund(self) -> None:
        self.balance -= 10


class Bank:
    """Executes, and does not answer the first time."""

    def __init__(self) -> None:
        self.charges: dict[str, int] = {}
        self.asked = 0

    async def charge(self, key: str) -> None:
        """By a key: the same one is charged once."""
        self.charges[key] = 10
        self.asked += 1
        await asyncio.sleep(0.1)
        if self.asked == 1:
            raise ConnectionResetError("no answer")


@invariant()
def charged_once(life: Evidence) -> str | None:
    """However often it is tried, one order is charged once."""
    many = len(life.machine.bank.charges)
    return f"charged {many} times" if many > 1 else None


class Payment(StateMachine):
    """The key is made anew for each attempt, and not for each payment."""

    states = (
        State("due", initial=True),
        State("paying", on_error="broken"),
        State("paid", final=True),
        State("given_up", final=True),
    )
    transitions = (
        Transition("pay", "due", "paying"),
        Transition("paid", "paying", "paid"),
        Transition("broken", "paying", "paying", guards="may_retry"),
        Transition("broken", "paying", "given_up"),
        Transition("fault", "paying", "given_up"),
    )

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.tries = 0

    def may_retry(self) -> bool:
        return self.tries < 3

    async def while_paying(self) -> Annotated[str, Fires("paid")]:
        self.tries += 1
        await self.bank.charge(f"payment-{self.tries}")
        return "paid"


careless("while_paying", "Payment", make=lambda: Payment(Bank()), invariants=[charged_once])(Payment)


@careless("_go_on", "Chain")
class Chain(StateMachine):
    """An observer fires on and on, also where that is over."""

    states = (State("one", initial=True), State("two"), State("three"))
    transitions = (
        Transition("next", "one", "two"),
        Transition("next", "two", "three"),
        Transition("back", "three", "one"),
    )

    def __init__(self) -> None:
        self.on_transition(self._go_on)

    def _go_on(self, record: Any) -> None:
        if record.trigger == "next":
            self.fire("next")


@careless("Hopper", "while_working")
class Hopper(StateMachine):
    """A row for all states swallows the fault, and nothing leads out of where it happened."""

    states = (State("idle", initial=True), State("working"), State("done"))
    transitions = (
        Transition("work", "idle", "working"),
        Transition("worked", "working", "done"),
        Transition("again", "done", "idle"),
        Transition("fault", "*", None),
    )

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        await asyncio.sleep(1)
        return "worked"


class Courier(StateMachine):
    """The time limit stands at the state before the one that takes long."""

    states = (
        State("called", initial=True, timeout=10, on_timeout="too_late"),
        State("riding"),
        State("there", final=True),
        State("lost", final=True),
    )
    transitions = (
        Transition("ride", "called", "riding"),
        Transition("too_late", ("called", "riding"), "lost"),
        Transition("arrived", "riding", "there"),
        Transition("fault", "riding", "lost"),
    )

    def __init__(self) -> None:
        self.bell = asyncio.Event()

    async def while_riding(self) -> Annotated[str, Fires("arrived")]:
        await self.bell.wait()
        return "arrived"


careless("Courier", "while_riding", make=Courier)(Courier)


class Workshop(StateMachine):
    """A lock that is taken and, when the work is cancelled, never given back."""

    states = (State("idle", initial=True), State("working", on_error="broken"))
    transitions = (
        Transition("work", "idle", "working"),
        Transition("stop", "working", "idle"),
        Transition("worked", "working", "idle"),
        Transition("broken", "working", "idle"),
        Transition("fault", "working", "idle"),
    )

    def __init__(self) -> None:
        self.tool = asyncio.Lock()

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        await self.tool.acquire()
        await asyncio.sleep(1)
        self.tool.release()
        return "worked"


@invariant()
def work_ends(life: Evidence) -> str | None:
    """Nobody works for a minute."""
    lasts = life.machine.snapshot().elapsed
    return f"it has worked for {lasts:g} s" if life.state == "working" and lasts > 60 else None


careless("while_working", "Workshop", make=Workshop, invariants=[work_ends])(Workshop)


class Race(StateMachine):
    """Two begin, one fails, and the other runs on."""

    states = (State("ready", initial=True), State("running", on_error="fallen"), State("over", final=True))
    transitions = (
        Transition("go", "ready", "running"),
        Transition("fallen", "running", "over"),
        Transition("won", "running", "over"),
        Transition("fault", "running", "over"),
    )

    async def _run(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if seconds < 2:
            raise OSError("fallen")

    async def while_running(self) -> Annotated[str, Fires("won")]:
        await asyncio.gather(self._run(1), self._run(3600))
        return "won"


careless("while_running", "_run", "Race", make=Race)(Race)


@careless("explain", "Complaint")
class Complaint(StateMachine):
    """There is not always an error behind it."""

    states = (State("fine", initial=True), State("bad"))
    transitions = (
        Transition("fail", "fine", "bad", effects="explain"),
        Transition("mend", "bad", "fine"),
    )

    def explain(self, reason: BaseException | None) -> None:
        self.said = str(reason.args[0])  # type: ignore[union-attr]


class Stats:
    """An object of the user's own."""

    def __init__(self) -> None:
        self.left = 3


@careless("has_left", "Coupons")
class Coupons(StateMachine):
    """The guard takes what it is to look at, from an object that the machine has."""

    states = (State("open", initial=True), State("used"))
    transitions = (
        Transition("use", "open", "used", guards="has_left"),
        Transition("use", "open", None),
        Transition("again", "used", "open"),
    )

    def __init__(self) -> None:
        self.stats = Stats()

    def has_left(self) -> bool:
        self.stats.left -= 1
        return self.stats.left > -1000


@careless("stop_clock", "Match")
class Match(StateMachine):
    """What is ended at the exit was not begun on every way in."""

    states = (State("before", initial=True), State("playing", exit="stop_clock"), State("after"))
    transitions = (
        Transition("kick_off", "before", "playing", effects="start_clock"),
        Transition("whistle", "playing", "after"),
        Transition("overtime", "after", "playing"),
    )
    clock: list[str] | None = None

    def start_clock(self) -> None:
        self.clock = ["running"]

    def stop_clock(self) -> None:
        self.clock.append("stopped")  # type: ignore[union-attr]
        self.clock = None


@careless("while_connected", "Follower")
class Follower(Connection):
    """Each new link has a task of its own, and no link takes it along."""

    async def while_connected(self) -> str:
        self._following = asyncio.create_task(self._follow())
        return await super().while_connected()

    async def _follow(self) -> None:
        await asyncio.sleep(1e6)


@careless("disconnect", "SaysSo")
class SaysSo(Connection):
    """Says that it is disconnected before it is."""

    async def disconnect(self) -> None:
        self._ending = asyncio.ensure_future(super().disconnect())

"""Plain machines with one mistake each, such as people make who have read the pages about machines and about tests."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any

from fsm_conn import Fires, State, StateMachine, Transition
from fsm_conn.testing import invariant
from tests.testing.careless import careless

__all__: list[str] = []


# --- guards -----------------------------------------------------------------------------------------------------------


@careless("has_stock")
class Vending(StateMachine):
    """The guard takes from the stock what it is only to look at."""

    states = (State("idle", initial=True), State("paid"), State("empty", final=True))
    transitions = (
        Transition("coin", "idle", "paid"),
        Transition("choose", "paid", "idle", guards="has_stock"),
        Transition("choose", "paid", "empty"),
    )

    def __init__(self) -> None:
        self.stock = ["cola", "water", "tea"]

    def has_stock(self) -> bool:
        return bool(self.stock and self.stock.pop())


@careless("is_adult")
class Registration(StateMachine):
    """One branch of the guard returns nothing."""

    states = (State("form", initial=True), State("open"), State("refused", final=True))
    transitions = (
        Transition("submit", "form", "open", guards="is_adult"),
        Transition("submit", "form", "refused"),
        Transition("edit", "open", "form"),
    )

    def is_adult(self, age: int) -> bool:  # type: ignore[return]  # noqa: RET503 - that is the mistake
        if age >= 18:
            return True
        if age < 0:
            return False


@careless("is_known")
class Router(StateMachine):
    """The guard looks up what need not be there."""

    states = (State("waiting", initial=True), State("routed"), State("dropped"))
    transitions = (
        Transition("packet", "waiting", "routed", guards="is_known"),
        Transition("packet", "waiting", "dropped"),
        Transition("next", ("routed", "dropped"), "waiting"),
    )

    def __init__(self) -> None:
        self.routes = {"a": True, "b": False}

    def is_known(self, address: str) -> bool:
        return self.routes[address]


@careless("wins")
class Lottery(StateMachine):
    """The guard rolls dice."""

    states = (State("bought", initial=True), State("won", final=True), State("lost"))
    transitions = (
        Transition("draw", "bought", "won", guards="wins"),
        Transition("draw", "bought", "lost"),
        Transition("again", "lost", "bought"),
    )

    def wins(self) -> bool:
        return random.random() < 0.1


@careless("may_pass")
class Throttle(StateMachine):
    """The guard remembers when it was asked."""

    states = (State("idle", initial=True), State("busy"))
    transitions = (
        Transition("work", "idle", "busy", guards="may_pass"),
        Transition("work", "idle", None),
        Transition("done", "busy", "idle"),
    )

    def __init__(self) -> None:
        self.last: float | None = None

    def may_pass(self) -> bool:
        now = asyncio.get_running_loop().time()
        passes = self.last is None or now - self.last >= 1
        self.last = now
        return passes


@careless("has_more")
class Reader(StateMachine):
    """The guard takes from an iterator."""

    states = (State("reading", initial=True), State("page"), State("end", final=True))
    transitions = (
        Transition("turn", "reading", "page", guards="has_more"),
        Transition("turn", "reading", "end"),
        Transition("read", "page", "reading"),
    )

    def __init__(self) -> None:
        self.pages: Iterator[int] = iter(range(7))

    def has_more(self) -> bool:
        return next(self.pages, None) is not None


@careless("is_free")
class Booking(StateMachine):
    """The guard fires a trigger of its own."""

    states = (State("open", initial=True), State("held"), State("booked"))
    transitions = (
        Transition("hold", "open", "held", guards="is_free"),
        Transition("hold", "open", None),
        Transition("book", "held", "booked"),
        Transition("cancel", ("held", "booked"), "open"),
    )

    def is_free(self, seats: int) -> bool:
        if seats > 4:
            self.fire("cancel")
            return False
        return True


# --- effects ----------------------------------------------------------------------------------------------------------


@careless("rate")
class Survey(StateMachine):
    """Nothing was counted yet, and it is divided by."""

    states = (State("asking", initial=True), State("closed"), State("published", final=True))
    transitions = (
        Transition("answer", "asking", None, effects="add"),
        Transition("close", "asking", "closed"),
        Transition("reopen", "closed", "asking"),
        Transition("publish", "closed", "published", effects="rate"),
    )

    def __init__(self) -> None:
        self.points = self.answers = 0

    def add(self) -> None:
        self.points += 3
        self.answers += 1

    def rate(self) -> None:
        self.mean = self.points / self.answers


@careless("leave")
class Session(StateMachine):
    """A misspelt attribute, three steps away."""

    states = (State("out", initial=True), State("code"), State("in"), State("locked", final=True))
    transitions = (
        Transition("login", "out", "code"),
        Transition("code", "code", "in"),
        Transition("logout", "in", "out", effects="leave"),
        Transition("lock", ("out", "code", "in"), "locked"),
    )

    def __init__(self) -> None:
        self.visitors = 0

    def leave(self) -> None:
        self.visitors -= self.visiters  # type: ignore[attr-defined]


@careless("notify")
class Ticket(StateMachine):
    """An effect fires what the state that follows does not handle."""

    states = (State("new", initial=True), State("assigned"), State("closed", final=True))
    transitions = (
        Transition("assign", "new", "assigned", effects="notify"),
        Transition("acknowledge", "new", None),
        Transition("close", "assigned", "closed"),
    )

    def notify(self) -> None:
        self.fire("acknowledge")


@careless("heat_up", "cool_down")
class Thermostat(StateMachine):
    """Two states whose entry leads to the other one for ever."""

    states = (State("off", initial=True), State("heating", entry="heat_up"), State("cooling", entry="cool_down"))
    transitions = (
        Transition("on", "off", "heating"),
        Transition("too_warm", "heating", "cooling"),
        Transition("too_cold", "cooling", "heating"),
        Transition("stop", ("heating", "cooling"), "off"),
    )

    def heat_up(self) -> None:
        self.fire("too_warm")

    def cool_down(self) -> None:
        self.fire("too_cold")


@careless("undo")
class Editor(StateMachine):
    """More is undone than was done."""

    states = (State("clean", initial=True), State("dirty"))
    transitions = (
        Transition("edit", ("clean", "dirty"), "dirty", effects="push"),
        Transition("undo", "dirty", None, effects="undo"),
        Transition("save", "dirty", "clean"),
    )

    def __init__(self) -> None:
        self.stack: deque[str] = deque()

    def push(self) -> None:
        self.stack.append("text")

    def undo(self) -> None:
        self.stack.pop()


@careless("drop")
class Badge(StateMachine):
    """What was deleted is deleted again: an exit effect of a state that can be left twice."""

    states = (State("outside", initial=True), State("inside", exit="drop"))
    transitions = (
        Transition("enter", "outside", "inside", effects="take"),
        Transition("leave", "inside", "outside"),
        Transition("return_", "outside", "inside"),
    )

    def take(self) -> None:
        self.token = "t"

    def drop(self) -> None:
        del self.token


@careless("parse")
class Transfer(StateMachine):
    """Not every text is a number."""

    states = (State("open", initial=True), State("booked", final=True))
    transitions = (Transition("book", "open", "booked", effects="parse"),)

    def parse(self, amount: str) -> None:
        self.amount = int(amount)


@careless("refuse")
class CodeLock(StateMachine):
    """The fourth refusal of a row is one for which there is no name."""

    states = (State("locked", initial=True), State("open"))
    transitions = (
        Transition("wrong", "locked", None, effects="refuse"),
        Transition("right", "locked", "open", effects="reset"),
        Transition("lock", "open", "locked"),
    )

    def __init__(self) -> None:
        self.refusals = 0
        self.warning = "none"

    def refuse(self) -> None:
        self.warning = ("once", "twice", "last time")[self.refusals]
        self.refusals += 1

    def reset(self) -> None:
        self.refusals = 0


@careless("receipt")
class Till(StateMachine):
    """The effect needs data that one of the two ways to it does not bring."""

    states = (State("open", initial=True), State("paid"))
    transitions = (
        Transition("cash", "open", "paid", effects=("receipt",)),
        Transition("voucher", "open", "paid", guards="is_valid", effects=("receipt",)),
        Transition("voucher", "open", None),
        Transition("next", "paid", "open"),
    )

    def __init__(self) -> None:
        self.rates = {0: 1.0}

    def is_valid(self, code: str) -> bool:
        return code.startswith("V") or not code

    def receipt(self, amount: int | None = None) -> None:
        self.total = 100 / (amount or 0)


# --- counters, by an invariant of the user's ------------------------------------------------------------------------


@invariant()
def never_more_than_three(life: Any) -> str | None:
    """At most three attempts are made in a row."""
    if life.machine.attempts > 3:
        return f"{life.machine.attempts} attempts"
    return None


@careless("count", invariants=[never_more_than_three])
class Sender(StateMachine):
    """Attempts are counted, and never from zero again."""

    states = (State("idle", initial=True), State("sending", on_error="broken", timeout=5, on_timeout="broken"))
    transitions = (
        Transition("send", "idle", "sending", effects="count"),
        Transition("sent", "sending", "idle"),
        Transition("broken", "sending", "sending", guards="may_retry", effects="count"),
        Transition("broken", "sending", "idle"),
        Transition("fault", "*", "idle"),
    )

    def __init__(self) -> None:
        self.attempts = 0

    def may_retry(self) -> bool:
        return self.attempts < 3

    def count(self) -> None:
        self.attempts += 1

    async def while_sending(self) -> Annotated[str, Fires("sent")]:
        await asyncio.sleep(1)
        return "sent"


@invariant()
def nobody_is_counted_twice(life: Any) -> str | None:
    """As many are in as have come and not gone."""
    gate = life.machine
    inside = sum({"come": 1, "go": -1}.get(record.trigger, 0) for record in gate.history)
    return None if len(gate.history) >= gate.history_size or gate.inside == inside else f"{gate.inside} of {inside}"


@careless("entered_one", "Gate", invariants=[nobody_is_counted_twice])
class Gate(StateMachine):
    """Counted by the row, and by the entry of the state once more."""

    history_size = 64
    states = (State("empty", initial=True), State("used", entry="entered_one"))
    transitions = (
        Transition("come", ("empty", "used"), "used", effects="come_in"),
        Transition("go", "used", "empty", guards="is_last", effects="go_out"),
        Transition("go", "used", None, effects="go_out"),
    )

    def __init__(self) -> None:
        self.inside = 0

    def is_last(self) -> bool:
        return self.inside == 1

    def come_in(self) -> None:
        self.inside += 1

    def entered_one(self) -> None:
        if self.inside > 2:
            self.inside += 1

    def go_out(self) -> None:
        self.inside -= 1

"""`StateMachine`: a life with or without an event loop, its beginning and end, time limits, data, effects of states."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn import (
    ConnectFailedError,
    Connection,
    ConnectionPool,
    DeclarationError,
    EndlessDispatchError,
    Fires,
    IllegalTriggerError,
    MachineClosedError,
    MissingDataError,
    State,
    StateMachine,
    StateTimeoutError,
    Transition,
)
from fsm_conn._util.text import named, said
from fsm_conn.machine.records import NO_DATA, History


class Door(StateMachine):
    """A machine without activities."""

    states = (State("shut", initial=True), State("open", entry="creak", exit="slam"))
    transitions = (
        Transition("push", "shut", "open", "may_open", "greet"),
        Transition("push", "shut", None),
        Transition("pull", "open", "shut"),
        Transition("pull", "shut", None),
    )
    locked = False
    breaks = ""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def may_open(self) -> bool:
        return not self.locked

    def _tell(self, what: str) -> None:
        self.told.append((what, self.state))
        if what == self.breaks:
            raise ZeroDivisionError(what)

    def greet(self) -> None:
        self._tell("greet")

    def creak(self) -> None:
        self._tell("creak")

    def slam(self) -> None:
        self._tell("slam")


class Upload(StateMachine):
    """A machine with an activity, a time limit and an end."""

    states = (
        State("idle", initial=True),
        State("sending", on_error="broken", timeout="patience", on_timeout="expired"),
        State("done", final=True),
        State("failed", final=True),
    )
    transitions = (
        Transition("send", ("idle", "failed"), "sending", effects="count"),
        Transition("progress", "sending", None),
        Transition("sent", "sending", "done"),
        Transition("broken", "sending", "sending", guards="may_retry", effects="count"),
        Transition("broken", "sending", "failed"),
        Transition("expired", "sending", "failed"),
        Transition("fault", "*", "failed"),
    )
    patience: float | None = 30.0

    def __init__(self, *pieces: Any) -> None:
        self.pieces = list(pieces)
        self.attempts = self.ended = 0

    def count(self) -> None:
        self.attempts += 1

    def may_retry(self) -> bool:
        return self.attempts < 3

    async def while_sending(self) -> Annotated[str, Fires("sent")]:
        try:
            piece = self.pieces.pop(0) if self.pieces else 0.0
            if isinstance(piece, BaseException):
                raise piece
            await asyncio.sleep(piece)
        finally:
            self.ended += 1
        return "sent"


class Clock(StateMachine):
    """A machine whose first state has an activity."""

    states = (State("running", initial=True), State("stopped"))
    transitions = (
        Transition("tick", "running", None, effects="count"),
        Transition("look", "running", None),
        Transition("stop", "running", "stopped"),
        Transition("start_again", "stopped", "running"),
        Transition("fault", "*", "stopped"),
    )
    ticks = begun = ended = 0

    def count(self) -> None:
        self.ticks += 1

    async def while_running(self) -> Annotated[None, Fires("tick")]:
        self.begun += 1
        try:
            while True:
                await asyncio.sleep(1)
                self.fire("tick")
        finally:
            self.ended += 1


def told(machine: StateMachine) -> list[str]:
    return [str(each) for each in machine.history]


# --- without a loop ------------------------------------------------------------------------------------------


def test_a_machine_without_activities_needs_no_loop() -> None:
    """It is fired from plain code, observed by plain functions, and knows how long it was where."""
    door, seen = Door(), []
    door.on_transition(lambda record: seen.append(record.dest))
    began = time.monotonic()
    door.fire("push")
    time.sleep(0.01)
    door.fire("pull")
    assert (door.state, seen) == ("shut", ["open", "shut"])
    first, second = door.history
    assert (first.dwell, first.at >= began) == (0.0, True)
    assert second.dwell == second.at - first.at >= 0.01
    door.start()
    assert door.snapshot().elapsed >= 0


def test_one_with_activities_says_what_it_needs() -> None:
    """And nothing has changed."""
    job = Upload()
    for use in (lambda: job.fire("send"), job.start):
        with pytest.raises(RuntimeError, match=r"has while_sending, which needs an event loop, and none runs here"):
            use()
    assert (job.state, job.history, job.attempts) == ("idle", (), 0)


class Toaster(StateMachine):
    states = (State("off", initial=True), State("hot", timeout=60, on_timeout="pop"))
    transitions = (Transition("heat", "off", "hot"), Transition("pop", "hot", "off"))


def test_so_does_one_with_a_time_limit() -> None:
    """A limit is kept by a loop."""
    with pytest.raises(RuntimeError, match="has a time limit, which needs an event loop"):
        Toaster().fire("heat")


# --- beginning and end ---------------------------------------------------------------------------------------


async def test_the_first_state_s_activity_runs_from_async_with_on_and_ends_with_it() -> None:
    """Waited for at the end; the state stays."""
    async with Clock() as clock:
        await asyncio.sleep(2.5)
        assert (clock.begun, clock.ended, clock.ticks) == (1, 0, 2)
    assert (clock.ended, clock.state, clock.activity_task) == (1, "running", None)


def test_a_plain_with_is_refused_with_the_remedy() -> None:
    """By machines, connections, pools and leases."""
    pool = ConnectionPool(["x"])
    for wrong, told in (
        (Clock(), "use 'async with', in a coroutine$"),
        (Connection(["x"]), r"use 'async with', in a coroutine; fsm_conn\.blocking\.Connection needs no await$"),
        (pool, r"use 'async with', in a coroutine; fsm_conn\.blocking\.ConnectionPool needs no await$"),
        (pool.acquire(), r"use 'async with pool\.acquire\(\)'; fsm_conn\.blocking\.ConnectionPool needs no await$"),
    ):
        with pytest.raises(TypeError, match=told), cast("Any", wrong):
            pass


@pytest.mark.parametrize("begin", ["start", "fire", "wait", "async with"])
async def test_whatever_is_done_first_begins_it(begin: str) -> None:
    """It is never silently dropped, and never begun twice."""
    clock = Clock()
    if begin == "start":
        clock.start()
    elif begin == "fire":
        clock.fire("look")
    elif begin == "wait":
        waiting = asyncio.ensure_future(clock.wait_for_state("stopped"))
    else:
        await clock.__aenter__()
    clock.start()
    await asyncio.sleep(1.5)
    assert (clock.begun, clock.ticks) == (1, 1)
    clock.fire("stop")
    if begin == "wait":
        assert await waiting == "stopped"
    await asyncio.sleep(0)
    assert clock.ended == 1
    clock.fire("start_again")
    await asyncio.sleep(0.1)
    assert clock.begun == 2
    await clock.aclose()


async def test_who_was_cancelled_while_it_waited_is_forgotten() -> None:
    """However often it asks, a machine that lives long does not grow."""
    async with Clock() as clock:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(clock.wait_for_state("stopped"), 0.1)
        assert not clock._fsm_waiters


async def test_a_closed_machine_takes_no_trigger_until_it_is_started_again() -> None:
    """The error says so, who waits is told, and nothing has changed."""
    clock = Clock()
    clock.start()
    waiting = asyncio.ensure_future(clock.wait_for_state("stopped"))
    await asyncio.sleep(1.5)
    await clock.aclose()
    await clock.aclose()
    with pytest.raises(MachineClosedError, match=r"<Clock running> is closed; start\(\) or another"):
        clock.fire("stop")
    with pytest.raises(MachineClosedError):
        await waiting
    with pytest.raises(MachineClosedError):
        await clock.wait_for_state("stopped")
    assert (clock.state, clock.ticks) == ("running", 1)
    async with clock:
        await asyncio.sleep(1.5)
        clock.fire("stop")
    assert (clock.state, clock.begun, clock.ticks) == ("stopped", 2, 2)


async def test_an_activity_that_cleans_up_is_waited_for_and_one_that_never_ends_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After ten seconds, with a word about it."""

    class Slow(Clock):
        seconds = 3.0

        async def while_running(self) -> None:
            try:
                await asyncio.sleep(1e6)
            finally:
                self.ended += 1
                until = asyncio.get_running_loop().time() + self.seconds
                while asyncio.get_running_loop().time() < until:
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(self.seconds)

    loop = asyncio.get_running_loop()
    for seconds, waited in ((3.0, 3.0), (100.0, 10.0)):
        slow = Slow()
        slow.seconds = seconds
        slow.start()
        await asyncio.sleep(0)
        began = loop.time()
        await slow.aclose()
        assert loop.time() - began == pytest.approx(waited)
        assert (slow.abandoned_activities, slow.ended) == (int(seconds > 10), 1)
    assert "ignores its cancellation" in caplog.text


async def test_a_machine_is_not_closed_by_its_own_activity() -> None:
    """It would wait for itself."""

    class Closing(Clock):
        async def while_running(self) -> None:
            await self.aclose()

    async with Closing() as closing:
        assert await closing.wait_for_state("stopped") == "stopped"
    assert "aclose() was called from an activity of the same machine" in str(closing.reason)


async def test_what_is_at_rest_or_closed_is_freed_when_it_is_dropped() -> None:
    """By reference counting alone."""
    gc.collect()
    gc.disable()
    try:
        job = Upload(0.5)
        async with job:
            job.fire("send")
            await job.wait_for_state("done")
        closed = Clock()
        async with closed:
            await asyncio.sleep(1.5)
        await asyncio.sleep(1)
        dropped = [weakref.ref(job), weakref.ref(closed)]
        del job, closed
        await asyncio.sleep(0.1)
        assert [each() for each in dropped] == [None, None]
    finally:
        gc.enable()


async def test_the_upload_of_the_documentation() -> None:
    """Sent at the third attempt."""
    async with Upload(OSError("once"), OSError("twice"), 0.5) as job:
        job.fire("send")
        assert await job.wait_for_state("done", "failed") == "done"
    assert told(job) == [
        "idle -> sending on send",
        "sending -> sending on broken: OSError",
        "sending -> sending on broken: OSError",
        "sending -> done on sent",
    ]


# --- time limits ---------------------------------------------------------------------------------------------


async def test_a_state_that_lasts_too_long_is_left_by_its_trigger() -> None:
    """In the loop's time, with the reason, and its activity is cancelled and awaited."""
    async with Upload(3600) as job:
        job.fire("send")
        job.fire("progress")
        await asyncio.sleep(29)
        job.fire("progress")
        left = job.snapshot().time_left
        assert (job.state, left) == ("sending", pytest.approx(1.0))
        assert await job.wait_for_state("failed") == "failed"
        assert job.history[-1].dwell == pytest.approx(30)
        await asyncio.sleep(0)
        assert (job.ended, job.snapshot().time_left) == (1, None)
    assert isinstance(job.reason, StateTimeoutError)
    assert str(job.reason) == "sending has lasted longer than 30 s"


async def test_a_self_transition_begins_the_time_anew_and_leaving_ends_it() -> None:
    """Each visit has its own."""
    async with Upload(29, 29) as job:
        job.pieces = [OSError("x"), 29.0]
        job.fire("send")
        await job.wait_for_state("done")
        await asyncio.sleep(100)
        assert job.state == "done"
    async with Upload() as job:
        job.pieces = [100.0, 100.0]
        job.fire("send")
        await asyncio.sleep(20)
        job.fire("broken")
        await asyncio.sleep(20)
        assert job.state == "sending"
        await asyncio.sleep(10.5)
        assert job.state == "failed"


@pytest.mark.parametrize("patience", [None, float("inf")])
async def test_an_attribute_may_say_that_there_is_no_limit(patience: float | None) -> None:
    """At the moment in which the state is entered."""
    async with Upload(3600) as job:
        job.patience = patience
        job.fire("send")
        assert job.snapshot().time_left is None
        await asyncio.sleep(3500)
        assert job.state == "sending"


@pytest.mark.parametrize("patience", [0, -1, "soon", float("nan"), True])
async def test_an_attribute_that_says_nonsense_changes_nothing(patience: Any) -> None:
    """The error names it."""
    job = Upload()
    job.patience = patience
    with pytest.raises(ValueError, match=r"patience is .*: give a positive number of seconds, or None"):
        job.fire("send")
    assert (job.state, job.history) == ("idle", ())


async def test_a_first_state_may_have_a_limit_and_no_activity() -> None:
    """It runs from the start on."""

    class Offer(StateMachine):
        states = (State("open", initial=True, timeout=60, on_timeout="lapse"), State("over"))
        transitions = (Transition("lapse", "open", "over"), Transition("look", "open", None))

    for begin in (lambda offer: offer.start(), lambda offer: offer.fire("look")):
        offer = Offer()
        begin(offer)
        await asyncio.sleep(59)
        assert offer.state == "open"
        await asyncio.sleep(2)
        assert offer.state == "over"
        assert offer.loop is None


# --- data ----------------------------------------------------------------------------------------------------


class Order(StateMachine):
    """A machine whose triggers come with data."""

    states = (State("placed", initial=True), State("paid", entry="thank"), State("shipped"))
    transitions = (
        Transition("pay", "placed", "paid", "is_enough", "take"),
        Transition("pay", "placed", None, effects="take"),
        Transition("ship", "paid", "shipped", effects="keep_all"),
    )

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def is_enough(self, amount: float) -> bool:
        return sum(each[0] for each in self.taken) + amount >= 10

    def take(self, amount: float, currency: str = "EUR", *, reason: BaseException | None) -> None:
        self.taken.append((amount, currency, reason))

    def thank(self, _reason: object, **data: Any) -> None:
        self.thanked = data

    @staticmethod
    def keep_all(reason: BaseException | None, /, carrier: str) -> None:
        assert carrier


def test_guards_and_effects_get_what_they_name() -> None:
    """By name, with their own defaults; the record has all of it."""
    order = Order()
    order.fire("pay", amount=4)
    late = TimeoutError()
    order.fire("pay", late, amount=6, currency="USD", by="card")
    assert order.taken == [(4, "EUR", None), (6, "USD", late)]
    assert order.thanked == {"amount": 6, "currency": "USD", "by": "card"}
    assert [each.data for each in order.history] == [
        {"amount": 4},
        {"amount": 6, "currency": "USD", "by": "card"},
    ]
    order.fire("ship", carrier="mail")
    assert order.state == "shipped"


def test_what_is_missing_is_named_and_nothing_has_changed() -> None:
    """Whether a guard needs it or an effect."""
    order = Order()
    with pytest.raises(MissingDataError, match=r"the guard is_enough\(\) needs 'amount', .* fire\('pay', amount=...\)"):
        order.fire("pay", currency="USD")
    order.fire("pay", amount=10)
    with pytest.raises(MissingDataError, match=r"the effect keep_all\(\) needs 'carrier'") as caught:
        order.fire("ship")
    assert (caught.value.trigger, caught.value.missing) == ("ship", "carrier")
    assert (order.state, len(order.history)) == ("paid", 1)


def test_no_data_is_one_thing_for_all_records() -> None:
    """It costs nothing, cannot be changed, and stays what it is when a record is pickled."""
    door = Door()
    door.fire("push")
    assert door.history[0].data is NO_DATA
    assert pickle.loads(pickle.dumps(door.history[0])).data is NO_DATA
    assert (dict(NO_DATA), len(NO_DATA), repr(NO_DATA), NO_DATA.get("x")) == ({}, 0, "{}", None)


def test_data_goes_with_a_trigger_that_waits_for_another() -> None:
    """What an effect fires is dispatched afterwards, with its data."""

    class Eager(Order):
        def take(self, amount: float, currency: str = "EUR", *, reason: BaseException | None) -> None:
            super().take(amount, currency, reason=reason)
            if len(self.taken) == 1:
                self.fire("pay", amount=amount)

    order = Eager()
    order.fire("pay", amount=5)
    assert (order.state, [each[0] for each in order.taken]) == ("paid", [5, 5])


@given(st.dictionaries(st.sampled_from(["amount", "currency", "by", "carrier"]), st.integers(1, 20)))
def test_a_trigger_never_changes_anything_without_its_data(data: dict[str, int]) -> None:
    """Either all that is needed was given, or all is as before."""
    order = Order()
    if "amount" not in data:
        with pytest.raises(MissingDataError):
            order.fire("pay", **data)
        assert (order.state, order.taken, order.history, order.last_record) == ("placed", [], (), None)
    else:
        order.fire("pay", **data)
        assert [each[0] for each in order.taken] == [data["amount"]]
        assert order.last_record is not None
        assert order.last_record.data == data


# --- effects of states ---------------------------------------------------------------------------------------


def test_states_have_effects_of_their_own() -> None:
    """After those of the row: exit in the state that is left, entry in the one that is entered."""
    door = Door()
    door.fire("push")
    door.fire("pull")
    assert door.told == [("greet", "shut"), ("creak", "open"), ("slam", "open")]


@pytest.mark.parametrize("broken", ["greet", "creak", "slam"])
def test_an_effect_that_raises_changes_nothing(broken: str) -> None:
    """Not even one of the state that is being entered."""
    door = Door()
    if broken == "slam":
        door.fire("push")
    before = door.state, door.visit, door.history
    door.breaks = broken
    with pytest.raises(ZeroDivisionError):
        door.fire("pull" if broken == "slam" else "push")
    assert (door.state, door.visit, door.history) == before


# --- run to completion ---------------------------------------------------------------------------------------


class Pinging(StateMachine):
    states = (State("here", initial=True), State("there"))
    transitions = (
        Transition("ping", "here", "there", effects="pong_it"),
        Transition("pong", "there", "here", effects="ping_it"),
        Transition("count", "*", None, effects="once_more"),
    )
    left = 0

    def pong_it(self) -> None:
        self.fire("pong")

    def ping_it(self) -> None:
        self.fire("ping")

    def once_more(self) -> None:
        if self.left:
            self.left -= 1
            self.fire("count")


def test_triggers_that_fire_one_another_for_ever_end_in_an_error() -> None:
    """Which names the circle; and the machine is of use afterwards."""
    machine = Pinging()
    with pytest.raises(EndlessDispatchError, match=r"for ever: (ping -> pong -> ping|pong -> ping -> pong);") as caught:
        machine.fire("ping")
    assert set(caught.value.circle) == {"ping", "pong"}
    machine.left = 5
    machine.fire("count")
    assert machine.left == 0


def test_many_that_come_to_an_end_are_no_circle() -> None:
    """A thousand follow from one."""
    machine = Pinging()
    machine.left = 1000
    machine.fire("count")
    assert machine.left == 0
    machine.left = 1001
    with pytest.raises(EndlessDispatchError, match=r"count -> count"):
        machine.fire("count")


async def test_a_circle_in_an_activity_is_a_fault() -> None:
    """It ends as any other bug does, and the loop goes on."""

    class Spinning(Pinging):
        transitions = (*Pinging.transitions, Transition("fault", "*", "there"))
        left = 10**9

        async def while_here(self) -> None:
            self.fire("count")

    async with Spinning() as machine:
        assert await machine.wait_for_state("there") == "there"
        assert isinstance(machine.reason, EndlessDispatchError)


# --- to store, to restore, to copy ---------------------------------------------------------------------------


async def test_a_stored_machine_goes_on_where_it_was() -> None:
    """Its activity begins anew, and its time limit goes on."""
    async with Upload(3600) as job:
        job.fire("send")
        await asyncio.sleep(20)
        stored = pickle.loads(pickle.dumps(attrs.asdict(job.snapshot())))
    snapshot = type(job.snapshot())(**stored)
    again = Upload.restored(snapshot, 3600)
    assert (again.state, again.visit, again.ended, again.attempts) == ("sending", 0, 0, 0)
    async with again:
        await asyncio.sleep(9)
        assert again.state == "sending"
        assert await again.wait_for_state("failed") == "failed"
        assert again.history[-1].dwell == pytest.approx(30)


def test_a_machine_without_a_loop_is_restored_by_the_name_of_its_state() -> None:
    """And goes on."""
    door = Door.restored("open")
    door.fire("pull")
    assert (door.state, door.told) == ("shut", [("slam", "open")])
    with pytest.raises(ValueError, match=r"Door has no state 'opne' \(did you mean 'open'\?\)"):
        Door.restored("opne")


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_machine_is_not_copied_and_says_what_to_do(take: Any) -> None:
    """Whatever one tries."""
    with pytest.raises(TypeError, match=r"store its snapshot\(\), and make another one by Door.restored\(snapshot"):
        take(Door())


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 12))
def test_a_history_can_be_copied_and_pickled(kinds: list[bool], size: int) -> None:
    """And keeps the same as before."""
    door = Door()
    door.history_size = size
    for internal in kinds:
        if internal:
            door.locked = True
            door.fire("push" if door.state == "shut" else "pull")
            door.locked = False
        else:
            door.fire("push" if door.state == "shut" else "pull")
    history = door.records or History(size)
    assert isinstance(history, History)
    for other in (pickle.loads(pickle.dumps(history)), copy.copy(history), copy.deepcopy(history)):
        assert (type(other), list(other), other.maxlen) == (History, list(history), size)
        last = door.last_record
        if last is not None:
            for _ in range(20):
                other.note(((*last[:3], True), *last[4:]))
            assert sum(each.internal for each in other) <= max(size // 4, 0)


# --- classes that are refused --------------------------------------------------------------------------------


def test_a_class_without_a_table_is_refused() -> None:
    """Unless it says that only its subclasses are machines."""
    with pytest.raises(
        DeclarationError, match=r"Bare: no states are declared; write 'states = \(...\)' into the class"
    ):

        class Bare(StateMachine): ...

    with pytest.raises(DeclarationError, match=r"Half: no transitions are declared"):

        class Half(StateMachine):
            states = (State("a", initial=True),)

    class Base(StateMachine, abstract=True):
        def shared(self) -> bool:
            return True

    class Sound(Base):
        states = (State("a", initial=True), State("b"))
        transitions = (Transition("go", "a", "b", "shared"), Transition("go", "a", None))

    Sound().fire("go")


def test_a_diamond_of_two_tables_is_refused() -> None:
    """Which one would it be?"""

    class Wide(Door):
        states = (*Door.states, State("wide"))

    class Tall(Door):
        transitions = (*Door.transitions, Transition("fall", "*", "shut"))

    with pytest.raises(DeclarationError, match=r"Both: it inherits two tables, that of Wide and that of Tall; declare"):

        class Both(Wide, Tall): ...

    class Mixed(Wide, Door): ...

    class Own(Wide, Tall):
        states = Wide.states
        transitions = Tall.transitions

    assert (Mixed.lifecycle.states.keys(), len(Own.lifecycle.transitions)) == ({"shut", "open", "wide"}, 5)


def declared(**members: Any) -> None:
    rows = (Transition("go", "a", "b"), Transition("late", "b", "a"), Transition("fault", "*", "a"))
    type("Wrong", (StateMachine,), {"states": (State("a", initial=True), State("b")), "transitions": rows, **members})


async def activity(self: Any) -> None: ...


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"states": (State("a", initial=True), State("b", timeout=5))}, "is incomplete; add on_timeout=<trigger>"),
        ({"states": (State("a", initial=True), State("b", on_timeout="late"))}, "incomplete; add timeout=<seconds>"),
        (
            {"states": (State("a", initial=True), State("b", timeout=5, on_timeout="lat"))},
            "the time limit of 'b' fires 'lat', which that state does not handle; add a row",
        ),
        (
            {"states": (State("a", initial=True), State("b", timeout=0, on_timeout="late"))},
            "the timeout of 'b' is 0; give a positive number of seconds, or the name",
        ),
        (
            {"states": (State("a", initial=True), State("b", timeout="5 s", on_timeout="late"))},
            "the timeout of 'b' is '5 s'; give a positive",
        ),
        ({"states": (State("a", initial=True), State("b", entry="go_in"))}, "'b' names the entry effect 'go_in', but"),
        (
            {"states": (State("a", initial=True, exit="x"), State("b")), "x": activity},
            "exit effect 'x', which is async",
        ),
        (
            {
                "states": (State("a", initial=True, entry="take"), State("b")),
                "while_b": activity,
                "take": lambda self, amount: None,
            },
            "is fired by the machine itself, which gives no 'amount', and take() needs it; give the parameter a default",
        ),
    ],
)
def test_a_wrong_state_is_refused_with_the_remedy(members: dict[str, Any], message: str) -> None:
    """When the class is made."""
    with pytest.raises(DeclarationError) as caught:
        declared(**members)
    assert message in str(caught.value)


def test_a_machine_may_be_a_dataclass_or_of_attrs() -> None:
    """For it needs no `__init__`."""

    @dataclass
    class Plain(Door):
        locked: bool = True
        told: list[tuple[str, str]] = field(default_factory=list)

    @attrs.define
    class Slotted(Door):
        locked: bool = True
        told: list[tuple[str, str]] = attrs.field(factory=list)

    for door in (Plain(), Slotted()):
        door.fire("push")
        assert door.state == "shut"
        door.locked = False
        door.fire("push")
        assert door.state == "open"


def test_a_kind_that_begins_at_rest_has_no_activity_there_and_is_not_restored() -> None:
    """For nothing would begin it: a connection, a pool."""
    with pytest.raises(
        DeclarationError, match=r"Idle: a machine of this kind begins idle in 'disconnected', so that state can"
    ):

        class Idle(Connection):
            async def while_disconnected(self) -> None: ...

    with pytest.raises(TypeError, match="Connection cannot be restored"):
        Connection.restored("connected", ["x"])


def test_a_connection_is_no_dataclass_unless_it_is_made_as_a_connection() -> None:
    """Or it would have no target."""

    @dataclass
    class Data(Connection):
        extra: int = 0

    @attrs.define
    class Slotted(Connection):
        extra: int = 0

    for made in (Data, Slotted):
        with pytest.raises(DeclarationError, match=rf"{made.__name__}: a dataclass or attrs has replaced the __init__"):
            made()

    @dataclass(repr=False)
    class Sound(Connection):
        extra: int = 0

        def __post_init__(self) -> None:
            Connection.__init__(self, ["x"], name="sound")

    assert (Sound(5).extra, repr(Sound())) == (5, "<Sound 'sound' disconnected attempt=0>")


def test_who_assigns_the_attribute_of_the_state_is_told() -> None:
    """It is the machine's own."""
    door = Door()
    door._state = "ajar"
    with pytest.raises(IllegalTriggerError, match=r"'ajar' was assigned to _state, where a machine keeps its state's"):
        door.fire("push")


def test_attributes_of_usual_names_are_the_user_s_own() -> None:
    """A machine keeps its own out of the way."""
    door = Door()
    names = ("_run", "_queue", "_last", "_records", "_since", "_reason", "_context", "_observers", "_waiters", "_steps")
    for name in names:
        setattr(door, name, object())
    door.on_transition(lambda record: None)
    door.fire("push")
    assert door.state == "open"


# --- what errors say -----------------------------------------------------------------------------------------


async def test_a_bug_in_an_activity_is_told_as_what_it_is_and_where(caplog: pytest.LogCaptureFixture) -> None:
    """`KeyError: 'x'`, and the line of the activity, however deep it came up."""

    class Buggy(Upload):
        async def while_sending(self) -> str:
            return self.deeper()["x"]

        def deeper(self) -> dict[str, str]:
            return {"y": ""}

    caplog.set_level(logging.ERROR)
    async with Buggy() as job:
        job.fire("send")
        await job.wait_for_state("failed")
    line = Buggy.while_sending.__code__.co_firstlineno + 1
    assert isinstance(job.reason, KeyError)
    assert job.reason.__notes__ == [f"in while_sending, test_machine.py:{line}"]
    assert f"in while_sending, test_machine.py:{line}" in caplog.text
    assert said(job.reason) == named(job.reason) == f"KeyError: 'x' in while_sending, test_machine.py:{line}"
    assert (said(KeyError("x")), named(KeyError("x"))) == ("'x'", "KeyError: 'x'")


async def test_so_it_is_beside_a_tool_that_exchanges_code_while_it_runs() -> None:
    """As counters of lines do: a frame keeps the code that it began with, and the function has another."""

    class Buggy(Upload):
        async def while_sending(self) -> str:
            Buggy.while_sending.__code__ = Buggy.while_sending.__code__.replace()
            raise KeyError("x")

    begun_with = Buggy.while_sending.__code__
    async with Buggy() as job:
        job.fire("send")
        await job.wait_for_state("failed")
    assert Buggy.while_sending.__code__ is not begun_with
    assert job.reason is not None
    assert job.reason.__notes__ == [f"in while_sending, test_machine.py:{begun_with.co_firstlineno + 2}"]


async def test_so_is_one_of_a_connection() -> None:
    """Whoever waits for it learns which bug it was, and where."""

    class Buggy(Connection):
        async def while_connecting(self) -> str:
            raise KeyError("x")

    conn = Buggy(["nothing"])
    line = Buggy.while_connecting.__code__.co_firstlineno + 1
    with pytest.raises(ConnectFailedError, match=rf"KeyError: 'x' in while_connecting, test_machine.py:{line}"):
        await conn.connect()


async def test_to_wait_for_a_closed_machine_does_not_begin_it() -> None:
    """Nor is it left waiting."""
    clock = Clock()
    await clock.aclose()
    with pytest.raises(MachineClosedError):
        await clock.wait_for_state("stopped")
    assert await clock.wait_for_state("running") == "running"
    assert (clock.begun, clock.loop) == (0, None)

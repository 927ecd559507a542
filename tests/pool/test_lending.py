"""How slots are handed out and taken back, each decision alone: slots without connections, in virtual time."""

from __future__ import annotations

import asyncio
import random
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from fsm_conn import PoolTimeoutError
from fsm_conn.pool.hooks import Hooks
from fsm_conn.pool.leasing.leases import Leases
from fsm_conn.pool.leasing.waiters import CALL, LEASE, PATIENT
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.generation import Generation
from fsm_conn.pool.slots.table import SlotTrigger
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.supervisor import Supervisor
from fsm_conn.pool.targets.target import PoolTarget
from fsm_conn.pool.targets.targets import Targets

from .conftest import settled
from .members import PLAIN, Member

ME: Any = "my task"
YOU: Any = "another one"


class Counter:
    """Leases of slots without connections; the lookout always thinks that the loop had its turns."""

    def __init__(self, names: str = "a", hook: Any = None, release: Any = None, **policy: Any) -> None:
        rng = random.Random(1)
        self.counts = PoolStats()
        self.policy = PoolPolicy(replacement=PLAIN, **{"max_overflow": 0, "size": 3, **policy})
        targets = Targets(lambda name: PoolTarget(name, str(name), lambda _: None, rng), names)
        self.targets = list(targets)
        self.keeper = Supervisor("<pool>", self.policy, targets, lambda *_: None, self.counts)  # type: ignore[arg-type]
        self.admitted = 0
        gate: Any = SimpleNamespace(admit=self._admit)
        self.leases = Leases(gate, self.keeper, Hooks(None, hook, release), self.counts)
        self.keeper.is_open = self.keeper.is_serving = True
        self.fresh = self.leases
        self.leases.begin()
        self.leases.lookout.due = self.leases.due = float("inf")

    def _admit(self) -> asyncio.AbstractEventLoop:
        self.admitted += 1
        return asyncio.get_running_loop()

    def put(self, state: str = "ready", name: str = "a", **attributes: Any) -> Any:
        """A slot, free if it can be leased."""
        target = next(each for each in self.targets if each.name == name)
        slot: Any = Member(target, state, **{"policy": self.policy, "is_clean": True, "has_reset": False, **attributes})
        slot.conn.link = None
        slot.generation = Generation(self.leases, slot)
        self.keeper.slots.add(slot)
        if slot.is_ready and slot.room:
            self.leases.free.append(slot)
        return slot

    def call(self, *, is_patient: bool = False, avoided: Any = ()) -> asyncio.Task[Any]:
        return asyncio.create_task(self.leases.slot_for_call(ME, is_patient=is_patient, avoided=avoided))

    def lease(self, timeout: float | None = None) -> Any:
        async def taken() -> Any:
            return await self.leases.slot_for(ME, timeout)

        return asyncio.create_task(taken())


# --- what is quick --------------------------------------------------------------------------------------------------------


async def test_it_begins_slowly_and_without_a_loop() -> None:
    """Until the pool is open: nobody gets a slot by the quick way."""
    leases = Counter().leases
    assert (leases.is_slow, leases.warned, leases.lease_class) == (True, None, None)
    assert leases.loop is asyncio.get_running_loop()
    assert leases.clock() == asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("options", "is_slow"),
    [
        ({}, False),
        ({"leases_per_connection": 2}, True),
        ({"max_idle": 5.0}, True),
        ({"hook": print}, True),
        ({"release": print}, True),
        ({"names": "ab"}, True),
        ({"max_lifetime": 5.0}, False),
        ({"max_waiters": 5}, False),
    ],
)
async def test_leases_are_quick_where_nothing_else_is_to_be_done_for_them(options: Any, is_slow: bool) -> None:
    """No hook, no choice, no count; and the pool is open."""
    counter = Counter(**options)
    counter.leases.hurry()
    assert counter.leases.is_slow is is_slow
    counter.keeper.is_open = False
    counter.leases.hurry()
    assert counter.leases.is_slow


# --- calls without a lease ------------------------------------------------------------------------------------------------


async def test_a_call_takes_the_least_busy_slot_at_once() -> None:
    """Which is then no longer free for a lease; others come back through the same one when it is the only one."""
    counter = Counter()
    slot, busy = counter.put(), counter.put(holders=[YOU])
    assert counter.leases.free == [slot]
    assert await counter.call() is slot
    assert (slot.callers, busy.callers, counter.leases.free) == ([ME], [], [])
    assert await counter.call() is slot
    assert slot.callers == [ME, ME]


async def test_a_call_leaves_a_slot_free_that_has_room_for_leases() -> None:
    """Where several share one."""
    counter = Counter(leases_per_connection=2)
    slot = counter.put()
    assert await counter.call() is slot
    assert counter.leases.free == [slot]


@pytest.mark.parametrize(("each", "overtakes"), [(1, False), (2, True), (3, True)])
async def test_a_call_overtakes_nobody_who_waits_unless_slots_are_shared(each: int, overtakes: bool) -> None:
    """A caller waits in the order in which it came, where leases are exclusive."""
    counter = Counter(leases_per_connection=each)
    counter.leases.waiters.join(YOU, asyncio.get_running_loop(), LEASE)
    counter.put()
    task = counter.call()
    await settled()
    assert task.done() is overtakes
    task.cancel()


async def test_a_call_prefers_slots_through_which_it_has_not_failed() -> None:
    """If there is another."""
    counter = Counter()
    slots = [counter.put(), counter.put()]
    assert [await counter.call(avoided=[each]) for each in slots] == slots[::-1]


@pytest.mark.parametrize("is_patient", [False, True])
async def test_a_call_that_waits_is_one_and_is_served_in_its_turn(is_patient: bool) -> None:
    """By a slot that others lease no more; it waits through an outage only if it says so."""
    counter = Counter()
    slot = counter.put(holders=[YOU])
    counter.put("asleep")
    task = counter.call(is_patient=is_patient)
    await settled()
    assert [each.fired for each in counter.keeper.slots] == [[], [SlotTrigger.WAKE]]
    assert counter.keeper.waiters.refuse(lambda: ZeroDivisionError(), patient_too=False) == (0 if is_patient else 1)
    if is_patient:
        counter.leases.returned(slot, YOU, slot.generation)
        assert await task is slot
        assert (slot.callers, slot.holders) == ([ME], [])
    else:
        with pytest.raises(ZeroDivisionError):
            await task


@pytest.mark.parametrize("served", [False, True])
async def test_a_call_that_is_cancelled_leaves_nothing(served: bool) -> None:
    """Also in the moment in which it is served: then the slot is free again."""
    counter = Counter()
    slot = counter.put(holders=[YOU])
    task = counter.call(is_patient=True)
    await settled()
    if served:
        counter.leases.returned(slot, YOU, slot.generation)
        assert slot.callers == [ME]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (slot.callers, counter.leases.free) == ([], [slot] if served else [])
    assert not counter.leases.waiters
    slot.holders.clear()
    other = counter.leases.waiters.join(YOU, asyncio.get_running_loop(), LEASE)
    counter.keeper.put(slot)
    assert await other is slot


async def test_a_call_whose_slot_is_lost_on_the_way_comes_back_in_front() -> None:
    """Of those who came after it; and it does not count as a user of the lost one."""
    counter = Counter()
    slot, next_one = counter.put(holders=[YOU]), counter.put(holders=[YOU])
    task = counter.call(is_patient=True)
    await settled()
    later = [counter.leases.waiters.join(YOU, asyncio.get_running_loop(), LEASE) for _ in range(2)]
    counter.leases.returned(slot, YOU, slot.generation)
    slot.is_clean, slot.state = False, "opening"
    await settled()
    assert (slot.callers, task.done()) == ([], False)
    counter.leases.returned(next_one, YOU, next_one.generation)
    assert await task is next_one
    assert (next_one.callers, next_one.holders) == ([ME], [])
    for each in later:
        each.cancel()


# --- leases ---------------------------------------------------------------------------------------------------------------


async def test_who_does_not_wait_gets_a_free_slot_or_is_told_so() -> None:
    """Each one is counted."""
    counter = Counter()
    slot = counter.put()
    assert await counter.lease(0) is slot
    assert (slot.holders, counter.leases.free) == ([ME], [])
    for number in (1, 2):
        with pytest.raises(PoolTimeoutError, match=r"no connection is free, and the caller does not wait"):
            await counter.lease(0)
        assert counter.counts.timeouts == number


async def test_who_does_not_wait_goes_on_to_the_next_when_a_slot_is_refused() -> None:
    """To the last one; each that was refused is given back by this task, and replaced."""
    asked: list[Any] = []

    def refuse(conn: Any) -> None:
        asked.append(conn)
        raise ZeroDivisionError

    counter = Counter(hook=refuse)
    slots = [counter.put(leases=1) for _ in range(2)]
    for slot in slots:
        slot.try_to_fire = lambda trigger, slot=slot: (slot.fired.append(trigger), setattr(slot, "state", "stale"))
        counter.keeper.hook_failed = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(PoolTimeoutError):
        await counter.lease(0)
    assert asked == [slot.conn for slot in reversed(slots)]
    assert [slot.holders for slot in slots] == [[], []]
    assert [slot.fired for slot in slots] == [[SlotTrigger.SPOIL, SlotTrigger.REPLACE]] * 2


@pytest.mark.parametrize(
    ("slots", "taken"),
    [
        ([{}, {}], 1),
        ([{}, {"is_doubtful": True}], 0),
        ([{}, {"is_old": True}], 0),
        ([{"is_doubtful": True}, {"is_old": True}], 1),
        ([{"is_old": True}, {"is_old": True, "is_doubtful": True}], 1),
        ([{}, {"holders": [YOU]}], 0),
        ([{"holders": [YOU]}, {"is_old": True}], 0),
    ],
)
async def test_the_slot_that_is_leased_first(slots: Any, taken: int) -> None:
    """The one that came back last, unless it is old, doubtful or busier."""
    counter = Counter(leases_per_connection=2)
    there = [counter.put(**{**each, "holders": list(each.get("holders", ()))}) for each in slots]
    assert await counter.lease() is there[taken]


async def test_a_slot_with_room_stays_free() -> None:
    """Until all its leases are out."""
    counter = Counter(leases_per_connection=2)
    slot = counter.put()
    assert [await counter.lease(), counter.leases.free] == [slot, [slot]]
    assert [await counter.lease(), counter.leases.free] == [slot, []]


@pytest.mark.parametrize("wants", [LEASE, CALL | PATIENT])
async def test_who_leaves_in_the_moment_in_which_it_was_served_gives_the_slot_back(wants: int) -> None:
    """As what it wanted it for."""
    counter = Counter()
    slot, waiters = counter.put(), counter.leases.waiters
    counter.leases.free.clear()
    waiter = waiters.join(ME, asyncio.get_running_loop(), wants)
    counter.keeper.put(slot)
    assert (slot.holders, slot.callers) == (([], [ME]) if wants & CALL else ([ME], []))
    counter.leases.leave(waiter, ME, wants)
    assert (slot.holders, slot.callers, counter.leases.free) == ([], [], [slot])
    other = waiters.join(ME, asyncio.get_running_loop(), wants)
    counter.leases.leave(other, ME, wants)
    assert not waiters
    assert waiters.leases == 0


# --- giving back ----------------------------------------------------------------------------------------------------------


async def test_a_slot_goes_to_who_has_waited_longest() -> None:
    """Or it is free; within the time in which the loop certainly has had its turns."""
    counter = Counter()
    counter.leases.hurry()
    slot = counter.put(holders=[ME])
    slot.generation.is_plain = True
    waiter = counter.leases.waiters.join(YOU, asyncio.get_running_loop(), LEASE)
    counter.leases.returned(slot, ME, slot.generation)
    assert (await waiter, slot.holders, counter.leases.free) == (slot, [YOU], [])
    counter.leases.returned(slot, YOU, slot.generation)
    assert (slot.holders, counter.leases.free) == ([], [slot])


@pytest.mark.parametrize(("late", "looked"), [(-0.01, False), (0.0, True), (0.01, True)])
async def test_a_slot_is_looked_at_first_when_that_is_due(late: float, looked: bool) -> None:
    """Then it is set aside, and handed out some turns later."""
    counter = Counter()
    slot = counter.put()
    counter.leases.free.clear()
    waiter = counter.leases.waiters.join(YOU, asyncio.get_running_loop(), LEASE)
    counter.leases.due = counter.leases.clock() - late
    counter.leases.pass_on(slot)
    assert waiter.done() is not looked
    assert counter.keeper.slots.set_aside == ([slot] if looked else [])
    assert await waiter is slot


def test_nothing_is_looked_at_when_the_loop_was_closed() -> None:
    """There are no turns to wait for: the slot is free at once."""
    made: list[Any] = []

    async def life() -> None:
        made.append(Counter())

    asyncio.run(life())
    counter = made[0]
    slot = counter.put()
    counter.leases.free.clear()
    counter.leases.due = 0.0
    counter.leases.pass_on(slot)
    assert (counter.leases.free, counter.keeper.slots.set_aside) == ([slot], [])


async def test_a_slot_that_calls_share_serves_the_next_of_them_as_well() -> None:
    """When the one who has waited longest is a call."""
    counter = Counter()
    slot = counter.put()
    counter.leases.free.clear()
    waiters = [counter.leases.waiters.join(who, asyncio.get_running_loop(), CALL) for who in (ME, YOU)]
    counter.leases.pass_on(slot)
    assert [waiter.done() for waiter in waiters] == [True, True]
    assert slot.callers == [ME, YOU]


@pytest.mark.parametrize("where", ["here", "elsewhere", "before", "afterwards"])
async def test_a_slot_is_spoiled_in_its_loop(where: str) -> None:
    """From another thread by way of the loop; nothing is done when there is none, or none any more."""
    counter = Counter()
    slot = counter.put()
    if where == "here":
        counter.leases.spoil(slot)
        assert slot.fired == [SlotTrigger.SPOIL]
        return
    if where == "before":
        counter.leases.loop = None
    elif where == "afterwards":
        counter.leases.loop = asyncio.new_event_loop()
        counter.leases.loop.close()
    failed: list[Any] = []

    def spoil() -> None:
        try:
            counter.leases.spoil(slot)
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=spoil)
    thread.start()
    thread.join()
    assert (slot.fired, failed) == ([], [])
    await settled()
    assert slot.fired == ([SlotTrigger.SPOIL] if where == "elsewhere" else [])


@pytest.mark.parametrize("where", ["elsewhere", "before", "afterwards"])
async def test_a_slot_comes_back_from_another_thread_by_way_of_its_loop(where: str) -> None:
    """If there is one."""
    counter = Counter()
    slot = counter.put(holders=[ME])
    if where == "before":
        counter.leases.loop = None
    elif where == "afterwards":
        counter.leases.loop = asyncio.new_event_loop()
        counter.leases.loop.close()
    failed: list[Any] = []

    def give_back() -> None:
        try:
            counter.leases.returned(slot, ME, slot.generation)
        except BaseException as error:
            failed.append(error)

    thread = Thread(target=give_back)
    thread.start()
    thread.join()
    assert (slot.holders, failed) == ([ME], [])
    await settled()
    assert slot.holders == ([] if where == "elsewhere" else [ME])


# --- leases that are not released -----------------------------------------------------------------------------------------


async def test_a_lease_that_is_held_too_long_is_named_with_its_limit(caplog: pytest.LogCaptureFixture) -> None:
    """And where it was got, if that is known."""
    Counter(lease_limit=7.0).leases.overdue("a lease", ", since there")
    assert caplog.messages == ["'a lease' has been held for 7 s, and is perhaps forgotten, since there"]


async def test_a_lease_that_was_dropped_gives_back_its_slot(caplog: pytest.LogCaptureFixture) -> None:
    """In the loop, and is counted, unless its link was lost before."""
    counter = Counter()
    for number in (1, 2):
        slot = counter.put(holders=[ME])
        counter.leases.forgotten(slot, ME, slot.generation, "100 % forgotten")
        assert slot.holders == [ME]
        await settled()
        assert (slot.holders, counter.counts.leaked) == ([], number)
    slot = counter.put(holders=[ME])
    slot.generation.end(None)
    counter.leases.forgotten(slot, ME, slot.generation, "lost")
    await settled()
    assert (slot.holders, counter.counts.leaked) == ([ME], 2)
    assert caplog.messages == ["100 % forgotten"] * 2

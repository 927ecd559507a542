"""The lookout, alone: when a check is due, what is set aside, for how many turns of the loop, and what comes back."""

from __future__ import annotations

import asyncio
import math
import time
from types import SimpleNamespace
from typing import Any

import pytest

from fsm_conn._util.timing import NEWS
from fsm_conn.pool.leasing.lookout import FRESH, Lookout
from fsm_conn.testing import run_virtually


class Keeper:
    """What the lookout reads of a pool, and a diary of what it was told."""

    def __init__(self, *free: Any) -> None:
        self.slots = SimpleNamespace(free=list(free), set_aside=[])
        self.waiters = SimpleNamespace(counted_before=math.inf)
        self.is_serving = True
        self.diary: list[Any] = []

    def put(self, slot: Any) -> None:
        self.diary.append(("put", slot.name, self.waiters.counted_before))

    def settle(self, slot: Any) -> None:
        self.diary.append(("settle", slot.name, self.waiters.counted_before))


class Slot:
    def __init__(self, name: str, is_ready: bool = True, room: int = 1) -> None:
        self.name, self.is_ready, self.room = name, is_ready, room


def lookout(keeper: Keeper, now: float = 100.0) -> Any:
    """One whose clock stands still until it is set."""
    found: Any = Lookout(keeper)  # type: ignore[arg-type]
    found.fast = SimpleNamespace(due=0.0)
    moment = SimpleNamespace(now=now)
    found.clock = lambda: moment.now
    return found, moment


def test_before_a_pool_is_open_a_check_is_due_and_nobody_is_told() -> None:
    """The clock is that of the process."""
    new = Lookout(Keeper())  # type: ignore[arg-type]
    assert (new.due, new.fast, new.clock) == (0.0, None, time.monotonic)
    assert new.is_due()
    new.doubt()
    assert new.due == -math.inf


async def test_it_begins_with_the_clock_of_its_loop() -> None:
    """And a check is due `FRESH` seconds later."""
    looks, _ = lookout(Keeper())
    loop = asyncio.get_running_loop()
    clock = looks.begin()
    assert clock == looks.clock == loop.time
    assert looks.due == looks.fast.due == loop.time() + FRESH
    assert not looks.is_due()


def test_a_usual_loop_has_the_clock_of_the_process() -> None:
    """It costs less than to ask the loop."""
    looks, _ = lookout(Keeper())

    async def begin() -> Any:
        return looks.begin()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        before = time.monotonic()
        assert runner.run(begin()) is time.monotonic
    assert before + FRESH <= looks.due <= time.monotonic() + FRESH


def test_it_begins_anew_in_another_loop() -> None:
    """What was looked at in a loop that is gone is forgotten: it is closed."""
    keeper = Keeper(Slot("a"))
    looks, _ = lookout(keeper)

    async def broken_off() -> None:
        looks.look(Slot("given back"))

    async def anew() -> None:
        looks.begin()
        keeper.slots.set_aside.clear()
        keeper.slots.free = [Slot("b")]
        looks.look()
        for _ in range(NEWS):
            await asyncio.sleep(0)

    run_virtually(broken_off())
    run_virtually(anew())
    assert [(what, name) for what, name, _ in keeper.diary] == [("put", "b")]


@pytest.mark.parametrize(("now", "is_due"), [(9.9, False), (10.0, True), (10.1, True)])
def test_when_a_check_is_due(now: float, is_due: bool) -> None:
    looks, moment = lookout(Keeper())
    looks.due, moment.now = 10.0, now
    assert looks.is_due() is is_due


def test_a_doubt_is_a_reason_to_look_at_once() -> None:
    """The fast path of leases is told."""
    looks, moment = lookout(Keeper())
    looks.due, moment.now = 200.0, -1e9
    looks.doubt()
    assert (looks.due, looks.fast.due) == (-math.inf, -math.inf)
    assert looks.is_due()


async def test_what_is_free_is_set_aside_for_some_turns() -> None:
    """The slot that is to be taken first comes last in the list, and is served first."""
    a, b, back = Slot("a"), Slot("b"), Slot("back")
    keeper = Keeper(a, b)
    looks, moment = lookout(keeper)
    looks.look(back)
    assert (keeper.slots.free, keeper.slots.set_aside) == ([], [a, b, back])
    assert (looks.due, looks.fast.due) == (100.0, 100.0)
    moment.now = 107.0
    for _ in range(NEWS - 1):
        await asyncio.sleep(0)
    assert keeper.diary == []
    await asyncio.sleep(0)
    assert keeper.slots.set_aside == []
    assert keeper.slots.free == [a, b, back]
    puts = [("put", name, 100.0) for name in ("back", "b", "a")]
    assert keeper.diary == [*puts, ("settle", "back", math.inf)]
    assert keeper.waiters.counted_before == math.inf
    assert looks.due == looks.fast.due == 107.0 + FRESH


async def test_what_comes_meanwhile_waits_with_the_others() -> None:
    """The turns are counted from the first; it is given back in the order in which it came."""
    a, b = Slot("a"), Slot("b")
    keeper = Keeper()
    looks, moment = lookout(keeper)
    looks.look(a)
    await asyncio.sleep(0)
    moment.now, looks.due = 105.0, 99.0
    looks.look(b)
    assert looks.due == 99.0
    for _ in range(NEWS - 1):
        await asyncio.sleep(0)
    settled = [("settle", name, math.inf) for name in ("a", "b")]
    assert keeper.diary == [("put", "b", 100.0), ("put", "a", 100.0), *settled]
    keeper.diary.clear()
    for _ in range(2 * NEWS):
        await asyncio.sleep(0)
    assert keeper.diary == []


async def test_the_next_look_settles_only_what_it_was_given() -> None:
    """Nothing is settled twice."""
    keeper = Keeper()
    looks, _ = lookout(keeper)
    for name in ("a", "b"):
        looks.look(Slot(name))
        for _ in range(NEWS):
            await asyncio.sleep(0)
    assert [name for what, name, _ in keeper.diary if what == "settle"] == ["a", "b"]


async def test_only_what_can_still_be_leased_is_free_again() -> None:
    """Not what was lost or filled meanwhile, nor anything twice."""
    lost, full, well, again = Slot("lost", is_ready=False), Slot("full", room=0), Slot("well"), Slot("again")
    keeper = Keeper(lost, full, well, well, again)
    looks, _ = lookout(keeper)
    looks.look()
    keeper.slots.free.append(again)
    for _ in range(NEWS):
        await asyncio.sleep(0)
    assert keeper.slots.free == [again, well]


async def test_a_doubt_meanwhile_takes_as_many_turns_again() -> None:
    """The first of them is the one that noticed it."""
    keeper = Keeper(Slot("a"))
    looks, moment = lookout(keeper)
    looks.look()
    await asyncio.sleep(0)
    looks.doubt()
    moment.now = 103.0
    for _ in range(NEWS - 1):
        await asyncio.sleep(0)
    assert (looks.due, looks.fast.due) == (103.0, 103.0)
    for _ in range(NEWS):
        await asyncio.sleep(0)
    assert keeper.diary == []
    await asyncio.sleep(0)
    assert keeper.diary == [("put", "a", 100.0)]


async def test_a_pool_that_has_closed_gets_nothing_back() -> None:
    """And the next look is not taken for one that goes on."""
    keeper = Keeper(Slot("a"))
    looks, _ = lookout(keeper)
    looks.look(Slot("b"))
    keeper.is_serving = False
    for _ in range(NEWS):
        await asyncio.sleep(0)
    assert (keeper.slots.free, keeper.slots.set_aside, keeper.diary) == ([], [], [])
    await asyncio.wait_for(looks.heard(), 1000)


@pytest.mark.parametrize("is_due", [True, False])
async def test_who_wants_to_hear_the_news_waits_for_them(is_due: bool) -> None:
    """If a check is due, or one goes on; and no longer."""
    keeper, loop = Keeper(Slot("a")), asyncio.get_running_loop()
    before = loop.time()
    looks, moment = lookout(keeper)
    looks.due = moment.now if is_due else moment.now + 1
    await looks.heard()
    assert [name for _, name, _ in keeper.diary] == ["a"] * is_due
    keeper.slots.free, looks.due = [Slot("b")], math.inf
    looks.look()
    looks.due = math.inf
    await looks.heard()
    assert [name for _, name, _ in keeper.diary] == [*["a"] * is_due, "b"]
    assert loop.time() == before

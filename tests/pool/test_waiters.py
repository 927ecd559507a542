"""The queue of a pool: how many wait is known at any time, and joining it costs the same however many do."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import Peer

from fsm_conn import Connection, Link, PoolClosed, PoolPolicy
from fsm_conn.pool.leasing.waiters import Waiters
from fsm_conn.pool.stats import PoolStats
from fsm_conn.testing.lives.pools.life import PoolLife

from .conftest import begun, make, settled

POLICIES = {
    "plain": PoolPolicy(),
    "idle": PoolPolicy(max_idle=5),
    "lifetime": PoolPolicy(max_lifetime=60),
    "full": PoolPolicy(max_waiters=100_000),
    "shared": PoolPolicy(leases_per_connection=2),
}


def steps_of(work: Any) -> int:
    """How many functions are called, and generators resumed, until `work` waits for the first time."""
    steps = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # what is told of each collection, Hypothesis for one, would be counted, too
    sys.setprofile(count)
    try:
        work.send(None)
    finally:
        sys.setprofile(before)
        gc.enable()
    return steps


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
async def test_waiting_costs_the_same_however_many_wait(policy: PoolPolicy) -> None:
    """Whatever the policy has the pool decide about whoever comes."""
    async with make(Peer(), 1, 0, policy=policy) as pool:
        # by another task, for one that waits for itself is warned
        held = await asyncio.gather(*begun(*(pool.acquire() for _ in range(policy.leases_per_connection))))
        costs = []
        for others in (10, 1000):
            waiting = begun(*(pool.acquire() for _ in range(others)))
            await settled(2)
            assert pool.get_pool_stats()["waiting"] == others
            entering = pool.acquire().__aenter__()
            costs.append(steps_of(entering))
            entering.close()
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            assert pool.get_pool_stats()["waiting"] == 0
        assert costs[0] == costs[1]
        for lease in held:
            lease.release()


class Book:
    """What the queue must know: who is in it, those who were cancelled and have not left yet included."""

    def __init__(self) -> None:
        self.line = Waiters(PoolStats())
        self.slot: Any = SimpleNamespace(holders=[], callers=[])
        self.here: list[asyncio.Future[Any]] = []
        self.back: dict[asyncio.Future[Any], int] = {}
        """Who came back, and when his turn was taken."""
        self.away = [self.line.turn() for _ in range(3)]
        """The turns of those who may come back."""

    @property
    def alive(self) -> list[asyncio.Future[Any]]:
        return [each for each in self.here if not each.cancelled()]

    def join(self, draw: Any) -> None:
        holder: Any = None
        waiter: Any = self.line.join(holder, asyncio.get_running_loop())
        self.here.append(waiter)

    def take_turn(self, draw: Any) -> None:
        """As who was served, and finds that it was of no use, or may find it later."""
        self.away.append(self.line.turn())

    def come_back(self, draw: Any) -> None:
        """In any order; and again, with the same turn, when he was served once more."""
        if self.away:
            turn = self.away.pop(draw(st.integers(0, len(self.away) - 1)))
            holder: Any = None
            waiter: Any = self.line.join(holder, asyncio.get_running_loop(), turn=turn)
            self.back[waiter] = turn
            ahead = [each for each in self.here if each in self.back and self.back[each] < turn]
            self.here.insert(len(ahead), waiter)

    def serve(self, draw: Any) -> None:
        alive = self.alive
        assert self.line.serve(self.slot) == bool(alive)
        if alive:
            assert alive[0].result() is self.slot
            self.here.remove(alive[0])
            if alive[0] in self.back:
                self.away.append(self.back[alive[0]])

    def refuse(self, draw: Any) -> None:
        alive = self.alive
        assert self.line.refuse(lambda: PoolClosed("closed")) == len(alive)
        for each in alive:
            assert isinstance(each.exception(), PoolClosed)
            self.here.remove(each)
            self.line.leave(each)  # as who was refused does

    def cancel(self, draw: Any) -> None:
        """As the loop does it, before the task can leave."""
        if self.here:
            draw(st.sampled_from(self.here)).cancel()

    def leave(self, draw: Any) -> None:
        if self.here:
            one = draw(st.sampled_from(self.here))
            self.here.remove(one)
            self.line.leave(one)


@pytest.mark.once
@given(
    st.lists(
        st.sampled_from(
            [Book.join, Book.take_turn, Book.come_back, Book.serve, Book.refuse, Book.cancel, Book.leave],
        )
    ),
    st.data(),
)
@settings(max_examples=200)
def test_the_count_and_the_order_are_right(steps: list[Callable[[Book, Any], None]], data: st.DataObject) -> None:
    """Those who have joined, and were neither served nor refused, nor have left. Who was cancelled is not served, and
    who came back is served first, in the order of turns.
    """

    async def play() -> None:
        book = Book()
        for step in steps:
            step(book, data.draw)
            assert (len(book.line), bool(book.line)) == (len(book.here), bool(book.here))

    asyncio.run(play())


def test_who_comes_back_keeps_his_place_among_those_who_do() -> None:
    """Two are given one link that is lost before they have looked at it: the first of them is served first again."""
    life = PoolLife(policy=PoolPolicy(size=2, max_overflow=1, leases_per_connection=2))
    life.open()
    for _ in range(4):
        life.acquire()
    life.lose(0)
    life.acquire()
    life.acquire()
    life.answer("close")
    life.answer("open", "half")
    life.release(0)
    life.end()


async def test_turns_count_and_not_who_comes_back_first() -> None:
    """And who was not served yet comes after them."""
    line, slot, holder = Waiters(PoolStats()), SimpleNamespace(holders=[], callers=[]), None
    loop, turns = asyncio.get_running_loop(), [0, 0]
    turns = [line.turn() for _ in turns]
    new: Any = line.join(holder, loop)  # type: ignore[arg-type]
    second: Any = line.join(holder, loop, turn=turns[1])  # type: ignore[arg-type]
    first: Any = line.join(holder, loop, turn=turns[0])  # type: ignore[arg-type]
    for waiter in (first, second, new):
        assert not waiter.done()
        assert line.serve(slot)  # type: ignore[arg-type]
        assert waiter.done()


class Replaced(Link):
    """The links after the first two take five seconds to open."""

    made = 0

    async def open(self) -> None:
        type(self).made += 1
        await asyncio.sleep(5 if self.made > 2 else 0)

    async def close(self) -> None:
        """Nothing to be done."""

    async def lost(self) -> Exception:
        return await asyncio.get_running_loop().create_future()


async def test_a_hook_that_takes_longer_for_some_does_not_change_the_order() -> None:
    """Both are refused, the one who came later at once; the first fresh link is for who came first."""
    asked: list[Connection] = []
    served: list[str] = []

    async def check(conn: Connection) -> None:
        asked.append(conn)
        if len(asked) <= 2:
            await asyncio.sleep(2 if len(asked) == 1 else 1)
            raise OSError("refused")

    async def use(name: str) -> None:
        async with pool.acquire():
            served.append(name)

    Replaced.made = 0
    async with make(Replaced, 2, 0, on_acquire=check) as pool:
        await asyncio.gather(*begun(use("first"), use("second")))
        assert served == ["first", "second"]

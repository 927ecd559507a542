"""While a task computes, the loop hears nothing; what was lost meanwhile is not handed out as if it were well."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from peer import Peer

from fsm_conn import ConnectionPool, PoolClosed, PoolPolicy, PoolTimeoutError
from fsm_conn.pool.leasing.lookout import FRESH

from .conftest import begun, now, settled

RESTART = 5.0


def compute(seconds: float) -> None:
    """As `time.sleep` does: time passes, and the loop has no turn."""
    asyncio.get_running_loop()._clock.advance(seconds)  # type: ignore[attr-defined]


def lose(peer: Peer, number: int) -> None:
    """As the news of a process that has ended: told to the loop, some turns before the link says so."""
    loop, link = asyncio.get_running_loop(), peer.made[number]

    def turn(left: int) -> None:
        if left:
            loop.call_soon(turn, left - 1)
        else:
            link.gone.set_result(OSError("the peer went away"))

    turn(3)


async def test_a_link_that_was_lost_while_the_loop_was_blocked_is_not_handed_out(opened: Any) -> None:
    """Neither at once, nor to those who come behind."""
    pool, peer = await opened(3)
    lose(peer, 2)
    lose(peer, 1)
    compute(RESTART)
    async with pool.acquire() as one:
        assert one.connection.link is peer.made[0]
        async with pool.acquire() as two:
            assert two.connection.link not in peer.made[:3]


async def test_it_is_not_handed_to_who_waits_either(opened: Any) -> None:
    """When its holder blocks the loop, and gives it back as the link is lost."""
    pool, peer = await opened(1)
    lease = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire(timeout=20).__aenter__())
    await settled()
    lose(peer, 0)
    compute(RESTART)
    lease.release()
    got = await waiter
    assert got.connection.link is peer.made[1]
    got.release()


@pytest.mark.parametrize("change", ["resize", "remove_target", "expire"])
async def test_nothing_else_hands_it_out_meanwhile(opened: Any, change: str) -> None:
    """A change of the pool by which waiting callers are served is made while the lookout still looks."""
    pool, peer = await opened(1)
    await asyncio.sleep(RESTART)
    lose(peer, 0)
    compute(RESTART)
    waiter = asyncio.create_task(pool.acquire(timeout=20).__aenter__())
    await asyncio.sleep(0)
    if change == "resize":
        pool.resize(2)
    elif change == "expire":
        pool.expire()
    else:
        pool.add_target(Peer())
        await pool.remove_target(pool.targets[1])
    got = await waiter
    assert got.connection.link is not peer.made[0]
    got.release()


async def test_a_standby_that_was_lost_as_well_does_not_take_the_place(opened: Any) -> None:
    """Its loss is told some turns after that of the one which it is to replace."""
    pool, peer = await opened(1, policy=PoolPolicy(max_overflow=0, standby=1))
    lease = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire(timeout=20).__aenter__())
    await settled()
    held = peer.made.index(lease.connection.link)
    compute(RESTART)
    peer.made[held].gone.set_result(OSError("the peer went away"))
    lose(peer, 1 - held)
    got = await waiter
    assert got.connection.link not in peer.made[:2]
    got.release()


async def test_what_was_cleaned_up_is_looked_at_too(opened: Any) -> None:
    """`on_release` has ended while the loop was blocked, and the link was lost."""
    ended = asyncio.Event()

    async def on_release(conn: Any) -> None:
        await ended.wait()

    pool, peer = await opened(1, on_release=on_release)
    (await pool.acquire()).release()
    waiter = asyncio.create_task(pool.acquire(timeout=20).__aenter__())
    await settled()
    compute(RESTART)
    ended.set()
    lose(peer, 0)
    got = await waiter
    assert got.connection.link is peer.made[1]
    got.release()


async def test_a_call_and_an_acquire_that_does_not_wait_look_too(opened: Any) -> None:
    """They take the link that is left."""
    pool, peer = await opened(2)
    lose(peer, 1)
    compute(RESTART)
    assert await pool.call("some.Call") == "reply"
    async with pool.acquire(timeout=0) as client:
        assert client.connection.link is not peer.made[1]
    pool, peer = await opened(1)
    lose(peer, 0)
    compute(RESTART)
    with pytest.raises(PoolTimeoutError):
        await pool.acquire(timeout=0)


async def test_who_comes_first_is_served_first_while_it_looks(opened: Any) -> None:
    """In whichever turn of the loop they come."""
    pool, _ = await opened(1)
    order: list[int] = []

    async def use(number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)
        async with pool.acquire():
            order.append(number)
            await asyncio.sleep(0)

    compute(RESTART)
    await asyncio.gather(*(use(number) for number in range(20)))
    assert order == list(range(20))


async def test_nothing_is_opened_for_who_waits_for_a_look(opened: Any) -> None:
    """What is looked at counts as what is about to be free."""
    pool, peer = await opened(2, 2)
    compute(RESTART)
    leases = [await each for each in begun(pool.acquire(), pool.acquire())]
    assert peer.tried == 2
    for lease in leases:
        lease.release()


async def test_there_is_one_look_in_a_while(opened: Any) -> None:
    """Between them a lease is had without a turn of the loop."""
    pool, _ = await opened(1)

    async def turns() -> int:
        loop = asyncio.get_running_loop()
        before = loop.turns  # type: ignore[attr-defined]
        async with pool.acquire():
            return int(loop.turns - before)  # type: ignore[attr-defined]

    compute(RESTART)
    assert await turns() > 0
    assert await turns() == 0
    compute(0.9 * FRESH)
    assert await turns() == 0


async def test_a_pool_that_is_closed_while_it_looks_serves_nobody(opened: Any) -> None:
    """Who waits for the look is told so; and it can be opened again."""
    pool, _ = await opened(1)
    compute(RESTART)
    waiter = asyncio.create_task(pool.acquire().__aenter__())
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close_all())
    with pytest.raises(PoolClosed):
        await waiter
    await closing
    await pool.initialize()
    async with pool.acquire(timeout=1):
        pass


async def test_a_waiter_that_is_cancelled_while_it_looks_keeps_nothing(opened: Any) -> None:
    """Whenever that is."""
    pool, _ = await opened(1)
    for turns in range(14):
        compute(RESTART)
        waiter = asyncio.create_task(pool.acquire().__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        if waiter.done():
            waiter.result().release()
        waiter.cancel()
        await settled()
        assert pool.get_pool_stats()["available_in_pool"] == 1


def test_a_pool_in_the_next_loop_looks_anew() -> None:
    """What was set aside in a loop that ended meanwhile is not."""
    pool = ConnectionPool(Peer(), 1, 0)

    async def first() -> None:
        await pool.initialize()
        compute_for_real(pool)
        asyncio.get_running_loop().call_soon(begun, pool.acquire())
        await asyncio.sleep(0)

    async def second() -> None:
        async with pool, pool.acquire(timeout=10):
            assert now()

    asyncio.run(first())
    asyncio.run(second())


def compute_for_real(pool: ConnectionPool) -> None:
    """As if it had been long ago."""
    pool._leases.lookout.due = 0.0

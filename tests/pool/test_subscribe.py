"""Subscriptions through a pool: they go on through another connection, and never hold up what the pool is to do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from peer import TRANSIENT

from fsm_conn import (
    CallOptions,
    CallTimeoutError,
    ConnectionPool,
    Gap,
    GoingAwayError,
    LinkLostError,
    PoolClosed,
    PoolPolicy,
)

from ..connection.test_subscribe import Feed, Reader
from .conftest import now, settled


async def subscribed(pool: ConnectionPool, *args: Any) -> Reader:
    reader = Reader(pool.subscribe("feed.Watch", *args))
    await settled()
    return reader


def the_one_with_calls(pool: ConnectionPool) -> Any:
    return next(slot for slot in pool.slots if slot.callers).conn.link


async def test_it_goes_on_through_another_connection_with_a_gap(opened: Any) -> None:
    """At once, when one is there."""
    peer = Feed(delay=5)
    pool, _ = await opened(2, peer=peer)
    reader = await subscribed(pool)
    peer.publish(1)
    await settled()
    began, link = now(), the_one_with_calls(pool)
    link.gone.set_result(LinkLostError("gone"))
    await settled()
    peer.publish(2)
    await settled()
    assert [reader.got[0], reader.got[2]] == [1, 2]
    assert (now() - began, reader.gaps[0].number) == (0, 1)
    assert the_one_with_calls(pool) is not link
    reader.task.cancel()


async def test_it_waits_through_an_outage_however_long(opened: Any) -> None:
    """Also where acquiring has a limit, and nothing that waits without a time is told that all is hopeless."""
    peer = Feed()
    pool, _ = await opened(1, peer=peer, policy=PoolPolicy(acquire_timeout=3))
    reader = await subscribed(pool)
    peer.then = TRANSIENT
    peer.link.gone.set_result(LinkLostError("gone"))
    await asyncio.sleep(600)
    assert not reader.task.done()
    peer.then = None
    await asyncio.sleep(120)
    peer.publish("after")
    await settled()
    assert reader.got[-1] == "after"
    assert reader.gaps[0].seconds >= 600
    reader.task.cancel()


async def test_its_deadline_covers_the_waits(opened: Any) -> None:
    """As for any call."""
    pool, _ = await opened(1, peer=Feed())
    lease = await pool.acquire()
    with pytest.raises(CallTimeoutError):
        await anext(aiter(pool.subscribe("feed.Watch", CallOptions(timeout=2))))
    lease.release()


async def test_closing_ends_it_at_once(opened: Any) -> None:
    """It is no call that will end by itself."""
    pool, _ = await opened(1, peer=Feed())
    reader = await subscribed(pool)
    began = now()
    await pool.close_all()
    assert now() - began < 1
    with pytest.raises(PoolClosed):
        await reader.task
    with pytest.raises(PoolClosed):
        await anext(aiter(pool.subscribe("feed.Watch")))


@pytest.mark.parametrize("size", [1, 2])
async def test_a_link_that_is_to_be_replaced_is_left(opened: Any, size: int) -> None:
    """So credentials can be rotated under it."""
    peer = Feed()
    pool, _ = await opened(size, peer=peer)
    reader = await subscribed(pool)
    old = list(peer.made)
    pool.expire()
    await asyncio.sleep(60)
    assert [link.closes for link in old] == [1] * size
    peer.publish("after")
    await settled()
    assert reader.got[-1] == "after"
    assert all(isinstance(gap.reason, GoingAwayError) for gap in reader.gaps)
    reader.task.cancel()


async def test_a_target_that_is_removed_is_left(opened: Any) -> None:
    """Without waiting for the time that its leases have."""
    one, other = Feed(), Feed()
    pool = ConnectionPool([one, other], 2, 0)
    await pool.initialize()
    reader = await subscribed(pool)
    used, left = (one, other) if one.streams else (other, one)
    began = now()
    await pool.remove_target(used)
    assert now() - began < 1
    await settled()
    assert (len(used.streams), len(left.streams)) == (0, 1)
    reader.task.cancel()
    await pool.close_all()


async def test_nobody_leases_the_connection_meanwhile(opened: Any) -> None:
    """And when the subscriber leaves, it can be leased again."""
    pool, _ = await opened(1, peer=Feed())
    reader = await subscribed(pool)
    assert pool.get_pool_stats()["available_in_pool"] == 0
    assert (await pool.call("some.Call"), await pool.call("some.Call")) == ("reply", "reply")
    reader.task.cancel()
    await settled()
    async with pool.acquire(timeout=0):
        pass


async def test_a_subscriber_that_is_busy_leaves_when_it_comes_back(opened: Any) -> None:
    """It is told by the next thing that it asks for."""
    peer = Feed()
    pool, _ = await opened(2, peer=peer)
    items = pool.subscribe("feed.Watch")
    first = asyncio.ensure_future(anext(items))
    await settled()
    peer.publish(1)
    assert await first == 1
    pool.expire()
    await asyncio.sleep(1)
    assert isinstance(await anext(items), Gap)
    await items.aclose()


async def test_the_connections_can_be_looked_at(opened: Any) -> None:
    """Those that are open, as they are."""
    pool, peer = await opened(2)
    assert [conn.link for conn in pool.connections] == peer.made
    peer.then = TRANSIENT
    peer.lose()
    await settled()
    assert [conn.name for conn in pool.connections] == ["pool#1"]

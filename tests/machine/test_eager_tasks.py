"""Tasks that begin inside the dispatch which made them, as those of an eager task factory do (Python 3.12 and later)."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from peer import Peer

from fsm_conn import Connection, ConnectionPool, ConnectionState, PoolState, RetryPolicy

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 has no eager tasks")


@pytest.fixture(autouse=True)
async def _eager() -> None:
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    asyncio.get_running_loop().set_task_factory(factory)


async def test_connect_from_an_observer_waits_for_what_it_has_begun() -> None:
    """It is not told of the state in which it was called."""
    peer = Peer()
    conn = Connection(peer, name="plug")
    again: list[asyncio.Task[None]] = []

    def ended(old: Any, new: Any) -> None:
        if not again:
            again.append(asyncio.create_task(conn.connect()))

    conn.on_state_change("disconnected", ended)
    await conn.connect()
    await conn.disconnect()
    await again[0]
    assert conn.state is ConnectionState.CONNECTED
    await conn.disconnect()
    assert (conn.state, peer.open_now) == (ConnectionState.DISCONNECTED, 0)


async def test_disconnect_from_an_observer_returns_when_disconnected() -> None:
    """And not because `failed` is an end too."""
    peer = Peer()
    conn = Connection(peer, retry=RetryPolicy(max_attempts=1), name="plug")
    ends: list[asyncio.Task[None]] = []
    conn.on_state_change("failed", lambda old, new: ends.append(asyncio.create_task(conn.disconnect())))
    await conn.connect()
    peer.lose()
    await conn.wait_for_state("failed")
    await ends[0]
    assert conn.state is ConnectionState.DISCONNECTED


async def test_a_pool_is_opened_closed_and_used() -> None:
    """By tasks that begin at once."""
    peer = Peer()
    pool = ConnectionPool(peer, 2, 0, name="pool")
    reopened: list[asyncio.Task[None]] = []

    def ended(old: Any, new: Any) -> None:
        if not reopened:
            reopened.append(asyncio.create_task(pool.initialize()))

    async def use() -> Any:
        async with pool.acquire() as client:
            await asyncio.sleep(1)
            return await client.call("a.B")

    pool.on_state_change("closed", ended)
    await pool.initialize()
    assert await asyncio.gather(*(asyncio.create_task(use()) for _ in range(10))) == ["reply"] * 10
    await pool.close_all()
    await reopened[0]
    assert pool.state is PoolState.OPEN
    await pool.close_all()
    assert (pool.state, peer.open_now) == (PoolState.CLOSED, 0)

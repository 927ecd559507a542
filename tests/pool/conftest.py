"""What tests of pools share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from peer import Peer

from fsm_conn import ConnectionPool, PoolState, RetryPolicy

PLAIN = RetryPolicy(max_attempts=2, initial_delay=1.0, jitter="none", stable_after=10.0)


def now() -> float:
    return asyncio.get_running_loop().time()


def make(peer: Any, size: int | None = 2, overflow: int | None = 0, **options: Any) -> ConnectionPool:
    return ConnectionPool(peer, size, overflow, **{"retry": PLAIN, "name": "pool", **options})


async def settled(rounds: int = 30) -> None:
    """Let everything run that can run now."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def begun(*works: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(_awaited(work)) for work in works]


async def _awaited(work: Any) -> Any:
    return await work


def nothing_is_left(pool: ConnectionPool, peer: Peer) -> None:
    """No slot, no link, no task but the test's own."""
    assert pool.state is PoolState.CLOSED
    assert pool.slots == ()
    assert peer.open_now == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@asynccontextmanager
async def opening() -> AsyncIterator[Callable[..., Any]]:
    """Makes a pool, opens it, and closes it at the end; then nothing must be left."""
    pools: list[tuple[ConnectionPool, Peer]] = []

    async def open_one(size: int = 2, overflow: int = 0, *, peer: Peer | None = None, **options: Any) -> Any:
        peer = peer or Peer()
        pool = make(peer, size, overflow, **options)
        pools.append((pool, peer))
        await pool.initialize()
        return pool, peer

    yield open_one
    for pool, peer in pools:
        await pool.close_all(timeout=0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert pool.slots == ()
        assert peer.open_now == 0


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Any]]:
    """As `opening`."""
    async with opening() as open_one:
        yield open_one

"""A loop that is closed with everything still open, as no program should: what is used afterwards begins at rest.

Each test makes its own loops, in virtual time.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from peer import HANG, Peer

from fsm_conn import Connection, ConnectionPool, ConnectionState, Lease, NotConnectedError, PoolPolicy
from fsm_conn.testing import VirtualLoop

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture
def abandoned() -> Run:
    """Runs in a loop that is then closed, with no farewell."""

    def run(work: Awaitable[Any]) -> Any:
        loop = VirtualLoop()
        try:
            return loop.run_until_complete(work)
        finally:
            loop.close()

    return run


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is raised where nobody can be told of it, as in a coroutine whose memory is freed."""
    gc.collect()  # of what others have left, pytest is told
    found: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: found.append(repr(about.exc_value)))
    yield found
    gc.collect()
    assert found == []


def connected(abandoned: Run) -> Connection:
    conn = Connection(Peer(), name="plug")
    abandoned(conn.connect())
    return conn


def test_disconnect_finds_nothing_to_do(abandoned: Run) -> None:
    """The state was still that of the loop that is gone."""
    conn = connected(abandoned)
    abandoned(conn.disconnect())
    assert conn.state is ConnectionState.DISCONNECTED


def test_no_state_of_the_old_loop_is_waited_for(abandoned: Run) -> None:
    """It is `disconnected`, whatever it was."""
    conn = connected(abandoned)
    assert abandoned(conn.wait_for_state("connected", "disconnected")) == "disconnected"


@pytest.mark.parametrize("use", [lambda conn: conn.call("a.B"), lambda conn: conn.probe()], ids=["call", "probe"])
def test_what_needs_the_link_is_refused(abandoned: Run, use: Callable[[Connection], Awaitable[Any]]) -> None:
    """It is gone with its loop."""
    conn = connected(abandoned)

    async def refused() -> None:
        with pytest.raises(NotConnectedError, match="disconnected"):
            await use(conn)

    abandoned(refused())


def test_who_waited_in_the_old_loop_is_freed_quietly(abandoned: Run, complaints: list[str]) -> None:
    """Also when the connection has forgotten him long ago."""
    conn = Connection(Peer(HANG), name="plug")

    async def wait() -> list[asyncio.Task[Any]]:
        waits = [asyncio.create_task(wait) for wait in (conn.connect(), conn.wait_for_state("failed"))]
        await asyncio.sleep(1)
        return waits

    waits = abandoned(wait())
    abandoned(conn.connect())
    del waits


HOOKED: list[dict[str, Any]] = [{}, {"on_release": lambda conn: None}, {"policy": PoolPolicy(max_idle=5)}]


@pytest.mark.parametrize("options", HOOKED, ids=["plain", "hooked", "idle"])
def test_a_lease_of_a_closed_loop_can_be_released(abandoned: Run, options: dict[str, Any]) -> None:
    """Regular and overflow; and the pool can be opened again."""
    pool = ConnectionPool(Peer(), 1, 1, name="pool", **options)

    async def acquire() -> list[Lease]:
        await pool.initialize()
        return [await pool.acquire(), await pool.acquire()]

    async def again() -> int:
        async with pool, pool.acquire():
            leased: int = pool.get_pool_stats()["leased"]
            return leased

    for lease in abandoned(acquire()):
        lease.release()
    assert abandoned(again()) == 1


@pytest.mark.parametrize("options", HOOKED, ids=["plain", "hooked", "idle"])
@pytest.mark.parametrize("others", [0, 3])
def test_users_of_a_closed_loop_are_freed_quietly(
    abandoned: Run, complaints: list[str], options: dict[str, Any], others: int
) -> None:
    """Those who hold a lease, those who wait for one, and those whose calls are under way without one."""
    peer = Peer()
    pool = ConnectionPool(peer, 1, 1, name="pool", **options)

    async def hold() -> None:
        async with pool.acquire(), pool.acquire():
            await asyncio.sleep(1000)

    async def wait() -> None:
        async with pool.acquire():
            pass

    async def call() -> None:
        await pool.call("a.B")

    async def use() -> None:
        await pool.initialize()
        held = asyncio.create_task(hold())
        await asyncio.sleep(1)
        peer.link.call = hang  # type: ignore[method-assign]
        peer.made[0].call = hang  # type: ignore[method-assign]
        waits = [asyncio.create_task(work()) for work in (wait, call) for _ in range(others)]
        await asyncio.sleep(1)
        assert not any(task.done() for task in (held, *waits))

    abandoned(use())


async def hang(*args: Any) -> None:
    await asyncio.get_running_loop().create_future()

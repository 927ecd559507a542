"""Errors of an application whose own words fail: whoever waits is told all the same, and nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from peer import TRANSIENT, Peer

from fsm_conn import (
    CallOptions,
    CallTimeoutError,
    ConnectFailedError,
    Connection,
    ConnectionPool,
    HealthMonitoredClient,
    LinkError,
    NotConnectedError,
    PoolClosed,
    PoolState,
    PoolUnavailableError,
    RetryPolicy,
)
from fsm_conn._util.text import named, said
from fsm_conn.telemetry.reading import error_text, error_type

ONCE = RetryPolicy(max_attempts=1)


class Mute(LinkError):
    """Of the world outside."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")


class MuteBug(Exception):
    """Of nobody's."""

    __str__ = __repr__ = Mute.__str__


class Asked(Exception):
    """Has what a gRPC error has, and means something else by it."""

    def code(self, page: int) -> int:
        return page

    def details(self) -> str:
        raise LookupError("none kept")


MUTE = [Mute("x"), MuteBug("x")]


@pytest.mark.parametrize("error", MUTE, ids=["expected", "bug"])
async def test_a_connection_tells_of_it(error: Exception) -> None:
    """By its class, which is all there is."""
    conn = HealthMonitoredClient(Peer(error), retry=ONCE, name="plug")
    with pytest.raises(ConnectFailedError, match=f"{type(error).__name__}, whose text cannot be read"):
        await conn.connect()
    with pytest.raises(NotConnectedError, match=type(error).__name__):
        await conn.call("a.B")
    assert type(error).__name__ in str(conn.health_report().last_error)
    await conn.disconnect()


async def test_a_bug_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Also one that is not true, as errors that count something may be."""

    class Empty(Exception):
        def __len__(self) -> int:
            return 0

    conn = Connection(Peer(Empty("of what it counts")), name="plug")
    with pytest.raises(ConnectFailedError, match="of what it counts"):
        await conn.connect()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Empty]


async def test_a_loss_is_told_of() -> None:
    """Also when the link's reason is none that a link should have."""
    peer = Peer()
    conn = Connection(peer, retry=RetryPolicy(initial_delay=60, jitter="none"), name="plug")
    await conn.connect()
    peer.then = TRANSIENT
    peer.lose(MuteBug("x"))
    await conn.wait_for_state("reconnecting")
    assert "MuteBug" in str(conn.reason)
    await conn.disconnect()


async def test_a_call_that_runs_out_of_time_is_told_of() -> None:
    """It waits for a connection, and says why there is none."""
    conn = Connection(Peer(then=Mute("x")), retry=RetryPolicy(max_attempts=None, jitter="none"), name="plug")
    caller = asyncio.create_task(conn.connect())
    await conn.wait_for_state("reconnecting")
    with pytest.raises(CallTimeoutError, match="Mute, whose"):
        await conn.call("a.B", CallOptions(wait_for_ready=True, timeout=1))
    await conn.disconnect()
    assert isinstance((await asyncio.gather(caller, return_exceptions=True))[0], Exception)


@pytest.mark.parametrize("error", MUTE, ids=["expected", "bug"])
async def test_a_pool_that_cannot_be_opened_tells_of_it(error: Exception) -> None:
    """Those who wait for a lease included."""
    pool = ConnectionPool(Peer(then=error, delay=1), 1, 0, retry=ONCE, name="pool")
    opening = asyncio.create_task(pool.initialize())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(leased(pool))
    outcomes = await asyncio.wait_for(asyncio.gather(opening, waiting, return_exceptions=True), 60)
    assert [type(each) for each in outcomes] == [PoolUnavailableError] * 2
    assert pool.state is PoolState.CLOSED


async def leased(pool: ConnectionPool) -> None:
    async with pool.acquire():
        pass


@pytest.mark.parametrize("error", MUTE, ids=["expected", "bug"])
async def test_nobody_who_waits_for_a_lease_is_left_without_an_answer(error: Exception) -> None:
    """The only connection is lost while it is leased, and cannot be had again."""
    peer = Peer(None, then=error)
    async with ConnectionPool(peer, 1, 0, retry=ONCE, name="pool") as pool:
        lease = await pool.acquire()
        waiting = [asyncio.create_task(leased(pool)) for _ in range(3)]
        await asyncio.sleep(0)
        peer.lose()
        outcomes: list[Any] = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
        assert [type(each) for each in outcomes] == [PoolUnavailableError] * 3
        lease.release()


async def test_a_bug_in_a_pool_ends_it() -> None:
    """And those who wait are told, each by an error of his own."""

    class Buggy(ConnectionPool):
        async def while_open(self) -> None:
            await asyncio.sleep(1)
            raise MuteBug("x")

    pool = Buggy(Peer(), 1, 0, name="pool")
    await pool.initialize()
    lease = await pool.acquire()
    waiting = [asyncio.create_task(leased(pool)) for _ in range(2)]
    outcomes: list[Any] = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
    assert [type(each) for each in outcomes] == [PoolClosed] * 2
    lease.release()
    await pool.close_all()
    assert pool.state is PoolState.CLOSED


def test_what_is_said_of_an_error() -> None:
    """Its text, or else what it is; for telemetry what gRPC's errors tell, and nothing that another has by that name."""
    assert [said(KeyError("a")), said(ValueError()), named(KeyError("a"))] == ["'a'", "ValueError()", "KeyError: 'a'"]
    assert error_text(Mute("x")) == said(Mute("x"))
    assert (error_text(Asked("text")), error_type(Asked("text"))) == ("text", f"{__name__}.Asked")

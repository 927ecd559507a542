"""Somebody cancels the activity of a state, which nobody but the driver may do: in each state it is known what follows.

In virtual time, against a peer that does as the test says.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from peer import HANG, TRANSIENT, Peer

from fsm_conn import ConnectFailedError, Connection, ConnectionState, RetryPolicy, Trigger

S = ConnectionState
RETRY = RetryPolicy(max_attempts=2, initial_delay=60.0, jitter="none")


def meddle(conn: Connection) -> None:
    """What a program does that cancels every task whose name it does not know, and what the driver never does."""
    assert conn._fsm_run is not None
    conn._fsm_run.task.cancel()  # type: ignore[union-attr]


async def reach(state: ConnectionState, peer: Peer) -> tuple[Connection, asyncio.Task[Any]]:
    """A connection in `state`, whose activity is under way, and the task of a caller that led it there."""
    conn = Connection(peer, retry=RETRY, name="plug")
    caller = asyncio.create_task(conn.connect())
    if state in (S.DISCONNECTING, S.FAILED):
        await caller
    if state is S.DISCONNECTING:
        caller = asyncio.create_task(conn.disconnect())
    if state is S.FAILED:
        conn.retry = RetryPolicy(max_attempts=1)
        peer.lose()
    await conn.wait_for_state(state)
    await asyncio.sleep(1)
    assert conn.state is state
    return conn, caller


def last(conn: Connection) -> tuple[str, str, str, bool]:
    record = conn.history[-1]
    return str(record.trigger), str(record.source), str(record.dest), record.internal


async def ended(conn: Connection, peer: Peer) -> None:
    """Nothing of it is left: no link, no task but the test's own."""
    assert conn.state is S.DISCONNECTED
    assert (peer.open_now, conn.link, conn.snapshot().activity) == (0, None, None)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(("state", "first"), [(S.CONNECTING, HANG), (S.RECONNECTING, TRANSIENT)])
async def test_on_the_way_it_fails_and_who_waits_is_told(state: ConnectionState, first: Any) -> None:
    """It is no outage, so it is not tried again; a new `connect()` begins anew."""
    peer = Peer(first)
    conn, caller = await reach(state, peer)
    meddle(conn)
    with pytest.raises(ConnectFailedError, match="was cancelled from outside"):
        await caller
    assert last(conn) == (Trigger.FAULT, state, S.FAILED, False)
    await conn.connect()
    await conn.disconnect()
    await ended(conn, peer)


async def test_in_connected_the_link_is_given_back() -> None:
    """Nobody would watch it any more."""
    peer = Peer()
    conn, _ = await reach(S.CONNECTED, peer)
    meddle(conn)
    await conn.wait_for_state("failed")
    assert last(conn) == (Trigger.FAULT, S.CONNECTED, S.FAILED, False)
    await asyncio.sleep(1)
    assert peer.open_now == 0
    await conn.disconnect()
    await ended(conn, peer)


async def test_in_disconnecting_the_link_is_closed_all_the_same() -> None:
    """Closing goes on to its end, and to end is still what was asked for: `disconnect()` keeps its promise."""
    peer = Peer(close_delay=5)
    conn, caller = await reach(S.DISCONNECTING, peer)
    meddle(conn)
    await caller
    assert last(conn) == (Trigger.FAULT, S.DISCONNECTING, S.DISCONNECTED, False)
    assert conn.history[-1].dwell == pytest.approx(5)
    assert peer.link.closes == 1
    await ended(conn, peer)


async def test_in_failed_it_stays_and_is_put_on_record() -> None:
    """It has failed already; the lost link is closed once, whoever disturbs that, and then there is a way out."""
    peer = Peer(close_delay=5)
    conn, _ = await reach(S.FAILED, peer)
    meddle(conn)
    await asyncio.sleep(5)
    assert last(conn) == (Trigger.FAULT, S.FAILED, S.FAILED, True)
    assert "was cancelled from outside" in str(conn.reason)
    assert (conn.state, peer.link.closes) == (S.FAILED, 1)
    await conn.connect()
    await conn.disconnect()
    await ended(conn, peer)

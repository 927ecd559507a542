"""What a connection does that was given no policy, and for how long callers wait. In virtual time."""

from __future__ import annotations

import asyncio

import pytest
from peer import TRANSIENT, Peer, Permanent

from fsm_conn import (
    CallOptions,
    CallTimeoutError,
    ConnectFailedError,
    Connection,
    ConnectionState,
    NotConnectedError,
    RetryPolicy,
)

S = ConnectionState
WAITS = CallOptions(wait_for_ready=True)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("away", [1, 8, 20, 3600, 86400])
async def test_a_peer_that_was_away_is_connected_again_within_five_seconds_of_its_return(away: int) -> None:
    """By default, however long it was away, and nobody asking; meanwhile callers without a wait are told at once."""
    peer = Peer()
    async with Connection(peer) as conn:
        await asyncio.sleep(60)
        peer.then = TRANSIENT
        peer.lose()
        await asyncio.sleep(away)
        since = now()
        with pytest.raises(NotConnectedError):
            await conn.call("a.B")
        assert now() == since
        peer.then = None
        await conn.wait_for_state(S.CONNECTED)
        assert now() - since <= 5


async def test_a_connect_that_fails_leaves_nothing_behind() -> None:
    """Nobody uses the connection: it rests, and whoever drops it need not disconnect it."""
    peer = Peer(then=TRANSIENT)
    conn = Connection(peer)
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    assert now() < 5
    tried = peer.tried
    await asyncio.sleep(60)
    assert (conn.state, peer.tried) == (S.FAILED, tried)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_deadline_is_what_those_who_wait_have_while_the_policy_tries() -> None:
    """In `failed` too, as long as it comes back from there by itself."""
    peer = Peer()
    async with Connection(peer) as conn:
        await asyncio.sleep(60)
        peer.then = TRANSIENT
        peer.lose()
        await conn.wait_for_state(S.FAILED)
        since = now()
        with pytest.raises(CallTimeoutError):
            await conn.call("a.B", CallOptions(wait_for_ready=True, timeout=30))
        assert now() - since == pytest.approx(30)
        call = asyncio.create_task(conn.call("a.B", WAITS))
        await asyncio.sleep(100)
        peer.then = None
        assert await call == "reply"
        call = asyncio.create_task(conn.call("a.B", WAITS))
        call.cancel()
        await asyncio.sleep(1)
        assert conn.connected


async def test_nobody_waits_for_what_does_not_come_back() -> None:
    """An error that cannot get better, and a policy that gives up for good."""
    for options, error in (({}, Permanent("for good")), ({"retry": RetryPolicy(max_attempts=1)}, TRANSIENT)):
        peer = Peer()
        conn = Connection(peer, **options)  # type: ignore[arg-type]
        await conn.connect()
        await asyncio.sleep(60)
        peer.then = error
        peer.lose()
        await conn.wait_for_state(S.FAILED)
        with pytest.raises(NotConnectedError):
            await conn.call("a.B", WAITS)
        await conn.disconnect()


async def test_a_start_may_take_a_minute() -> None:
    """By default, as in go-plugin: real plugins take 16 seconds on a cold machine."""
    async with Connection(Peer(delay=59)) as conn:
        assert conn.connected
    with pytest.raises(ConnectFailedError, match=r"did not open within 60 s"):
        await Connection(Peer(delay=61), retry=RetryPolicy(max_attempts=1)).connect()

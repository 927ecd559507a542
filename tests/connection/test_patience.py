"""What a connection does that was given no policy, and for how long callers wait. In virtual time."""

from __future__ import annotations

import asyncio

import pytest
from peer import HANG, TRANSIENT, Peer, Permanent

from fsm_conn import (
    CallOptions,
    CallTimeoutError,
    ConnectFailedError,
    Connection,
    ConnectionState,
    HealthPolicy,
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


WARMING = HealthPolicy(interval=10, timeout=1, failure_threshold=1, ready_timeout=20)


@pytest.mark.parametrize("answers", [["warming up"] * 24, [HANG] * 3 + ["warming up"] * 10])
async def test_a_peer_that_warms_up_is_connected_when_it_is_ready(answers: list[str]) -> None:
    """It says that it is not well, or says nothing, for six seconds: one start."""
    peer = Peer()
    peer.probe_outcomes = list(answers)
    async with Connection(peer, health=WARMING) as conn:
        assert 5 <= now() <= 8
        assert (conn.attempt, len(peer.made)) == (1, 1)


async def test_warming_up_has_a_limit_and_ends_with_the_link() -> None:
    """Then the attempt has failed, and its link is closed."""
    peer = Peer()
    peer.probe_outcomes = ["not ready"] * 1000
    conn = Connection(peer, health=WARMING, retry=RetryPolicy(max_attempts=1))
    with pytest.raises(ConnectFailedError, match=r"did not report that it serves within 20 s \(ready_timeout\)"):
        await conn.connect()
    assert (now(), peer.open_now) == (20, 0)
    connecting = asyncio.create_task(conn.connect())
    await asyncio.sleep(1)
    peer.lose()
    with pytest.raises(ConnectFailedError, match="the peer went away"):
        await connecting
    assert (now(), peer.open_now) == (21, 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_peer_without_a_health_service_is_ready_at_once() -> None:
    """It has no way to tell."""
    peer = Peer()
    peer.has_health = False
    async with Connection(peer, health=WARMING):
        assert now() == 0

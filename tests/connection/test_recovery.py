"""Restart intensity, and the way back from `failed`. In virtual time."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import TRANSIENT, Peer, Permanent

from fsm_conn import ConnectFailedError, Connection, ConnectionState, NotConnectedError, RetryPolicy, Transition

S = ConnectionState


def now() -> float:
    return asyncio.get_running_loop().time()


def connection(peer: Peer, **policy: Any) -> Connection:
    return Connection(peer, retry=RetryPolicy(**{"jitter": "none", **policy}), name="plug")


async def lose_after(conn: Connection, peer: Peer, seconds: float) -> ConnectionState:
    """The state that follows when a link that was up for so long is lost."""
    await conn.wait_for_state(S.CONNECTED)
    await asyncio.sleep(seconds)
    peer.lose()
    found: ConnectionState = await conn.wait_for_state(S.RECONNECTING, S.FAILED)
    return found


# --- restart intensity -------------------------------------------------------------------------------------------


async def test_more_losses_than_allowed_within_the_window_end_in_failed() -> None:
    """However well each recovery went: here each link lasts longer than stable_after."""
    peer = Peer()
    conn = connection(peer, max_restarts=2, restart_window=100, stable_after=10)
    await conn.connect()
    assert [await lose_after(conn, peer, 20) for _ in range(3)] == [S.RECONNECTING, S.RECONNECTING, S.FAILED]
    await asyncio.sleep(1)
    assert peer.open_now == 0
    with pytest.raises(NotConnectedError, match="the peer went away"):
        await conn.call("x.Y")
    await conn.disconnect()


async def test_losses_that_are_old_are_forgotten() -> None:
    """A plugin that is lost twice a window for ever is restarted for ever."""
    peer = Peer()
    conn = connection(peer, max_restarts=2, restart_window=100)
    await conn.connect()
    assert [await lose_after(conn, peer, 50) for _ in range(50)] == [S.RECONNECTING] * 50
    await conn.disconnect()


async def test_without_a_limit_a_link_is_replaced_for_ever() -> None:
    """The default."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    assert [await lose_after(conn, peer, 10) for _ in range(100)] == [S.RECONNECTING] * 100
    await conn.disconnect()


async def test_a_limit_may_be_as_high_as_any() -> None:
    """And no more is remembered than lies in the window."""
    peer = Peer()
    conn = connection(peer, max_restarts=sys.maxsize, restart_window=100)
    await conn.connect()
    assert [await lose_after(conn, peer, 30) for _ in range(50)] == [S.RECONNECTING] * 50
    assert len(conn._losses) == 4
    await conn.disconnect()


async def test_the_loss_that_led_to_failed_counts() -> None:
    """After the way back, it is one of those in the window."""
    peer = Peer()
    conn = connection(peer, max_restarts=1, restart_window=60, recover_after=5, stable_after=1)
    await conn.connect()
    assert await lose_after(conn, peer, 2) is S.RECONNECTING
    assert await lose_after(conn, peer, 28) is S.FAILED
    assert await lose_after(conn, peer, 28) is S.FAILED, "two within 60 s: this one, and the one before"
    assert await lose_after(conn, peer, 58) is S.RECONNECTING
    await conn.disconnect()


@pytest.mark.parametrize("ask", ["connect", "reconnect"])
async def test_asking_for_the_connection_forgets_the_losses(ask: str) -> None:
    """Whoever asks knows what has been."""
    peer = Peer()
    conn = connection(peer, max_restarts=0, restart_window=100)
    await conn.connect()
    for _ in range(3):
        assert await lose_after(conn, peer, 20) is S.FAILED
        await getattr(conn, ask)()
    await conn.disconnect()


@given(st.integers(0, 4), st.floats(1, 100), st.lists(st.floats(0.1, 50).map(lambda x: round(x, 2)), max_size=12))
def test_intensity_as_erlang_has_it(limit: int, window: float, ups: list[float]) -> None:
    """`failed` exactly at the first loss that is one too many within the window before it."""
    from fsm_conn.testing import VirtualLoop

    async def run() -> list[bool]:
        peer = Peer()
        conn = connection(peer, max_restarts=limit, restart_window=window, max_attempts=None, initial_delay=0)
        await conn.connect()
        lost_at: list[float] = []
        for up in ups:
            state = await lose_after(conn, peer, up)
            lost_at.append(now())
            many = sum(at > now() - window for at in lost_at) > limit
            assert state is (S.FAILED if many else S.RECONNECTING)
            if many:
                break
        await conn.disconnect()
        return []

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


# --- the way back from failed --------------------------------------------------------------------------------------


async def test_one_careful_attempt_after_each_pause() -> None:
    """Half-open: it fails once and is back in `failed`; when it comes up and stays up, the outage is over."""
    peer = Peer(*[TRANSIENT] * 5)
    conn = connection(peer, max_attempts=3, initial_delay=1, recover_after=60)
    since = now()
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    assert now() - since == 3, "whoever waits is told at once, not after the pause"
    with pytest.raises(NotConnectedError, match=r"tries again now, or wait: it tries by itself after 60 s$"):
        await conn.call("a.B")
    await conn.wait_for_state(S.CONNECTED)
    assert [at - since for at in peer.open_times] == [0, 1, 3, 63, 123, 183]
    moves = [(str(record.trigger), str(record.dest)) for record in conn.history][-6:]
    assert moves[:4] == [
        ("recover", "reconnecting"),
        ("open_failed", "failed"),
        ("recover", "reconnecting"),
        ("open_failed", "failed"),
    ]
    await asyncio.sleep(10)
    peer.lose()
    assert await conn.wait_for_state(S.RECONNECTING, S.FAILED) is S.RECONNECTING, "it had been stable"
    await conn.disconnect()
    assert len(asyncio.all_tasks()) == 1


async def test_a_trial_that_does_not_last_has_failed() -> None:
    """Its link comes up and goes away before stable_after: no second attempt."""
    peer = Peer(TRANSIENT)
    conn = connection(peer, max_attempts=1, recover_after=60, stable_after=10)
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    assert await lose_after(conn, peer, 9) is S.FAILED
    assert await lose_after(conn, peer, 10) is S.RECONNECTING, "this one did: its loss begins a new outage"
    await conn.disconnect()


async def test_an_attempt_by_hand_is_no_trial() -> None:
    """It has all the attempts that the policy allows; and after it, the pause begins anew."""
    peer = Peer(then=TRANSIENT)
    conn = connection(peer, max_attempts=2, initial_delay=1, recover_after=60)
    since = now()
    for _ in range(2):
        with pytest.raises(ConnectFailedError, match="after 2 attempts"):
            await conn.connect()
        await asyncio.sleep(30)
    await asyncio.sleep(40)
    assert [at - since for at in peer.open_times] == [0, 1, 31, 32, 92]
    await conn.disconnect()


@pytest.mark.parametrize("error", [Permanent("not there"), ZeroDivisionError("a bug")])
async def test_nothing_recovers_by_itself_from_what_cannot_get_better(error: Exception) -> None:
    """The table says so; the state stays, and nothing is left running."""
    peer = Peer(error)
    conn = connection(peer, recover_after=60)
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    await asyncio.sleep(1000)
    assert (peer.tried, conn.state) == (1, S.FAILED)
    assert (conn.history[-1].trigger, conn.history[-1].internal) == ("recover", True)
    assert len(asyncio.all_tasks()) == 1


class Expires(Connection):
    """May be given up by a trigger of its own."""

    transitions = (
        *Connection.transitions,
        Transition("expired", S.CONNECTED, S.FAILED),
        Transition("noted", S.FAILED, None),
    )


@pytest.mark.parametrize(
    ("before", "reason", "after", "recovers"),
    [
        (None, None, None, True),
        (Permanent("long ago"), None, None, True),
        (None, TRANSIENT, Permanent("noted, and no cause"), True),
        (TRANSIENT, Permanent("not there"), TRANSIENT, False),
        (None, ZeroDivisionError("a bug"), None, False),
    ],
)
async def test_what_counts_is_why_it_was_given_up(
    before: Exception | None, reason: Exception | None, after: Exception | None, recovers: bool
) -> None:
    """And not what happened before or after that; who gives no reason says nothing against another attempt."""
    peer = Peer(before)
    conn = Expires(peer, retry=RetryPolicy(max_attempts=1, recover_after=5))
    if before is not None:
        with pytest.raises(ConnectFailedError):
            await conn.connect()
    await conn.connect()
    conn.fire("expired", reason)
    conn.fire("noted", after)
    await asyncio.sleep(100)
    assert conn.state is (S.CONNECTED if recovers else S.FAILED)
    await conn.disconnect()


async def test_disconnect_ends_the_pause() -> None:
    """And nothing comes back after it."""
    peer = Peer(then=TRANSIENT)
    conn = connection(peer, max_attempts=1, recover_after=60)
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    await conn.disconnect()
    assert conn.state is S.DISCONNECTED
    await asyncio.sleep(1000)
    assert peer.tried == 1


def test_a_loop_that_ends_during_the_pause_leaves_nothing() -> None:
    """As in any state."""
    from fsm_conn.testing import VirtualLoop

    peer = Peer(then=TRANSIENT)
    conns = []

    async def main() -> None:
        conns.append(connection(peer, max_attempts=1, recover_after=60))
        with pytest.raises(ConnectFailedError):
            await conns[0].connect()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert conns[0].state is S.DISCONNECTED


@given(st.floats(0.1, 1e4), st.sampled_from(["none", "equal", "full", "decorrelated"]), st.integers())
def test_recovery_never_comes_early_and_is_spread(after: float, jitter: Any, seed: int) -> None:
    """Between the pause and half as much again; exactly the pause without jitter."""
    pause = RetryPolicy(recover_after=after, jitter=jitter).recovery_pause(random.Random(seed))
    assert pause == after if jitter == "none" else after <= pause <= after * 1.5


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"max_restarts": -1}, "max_restarts=-1.*give 0 or more"),
        ({"max_restarts": 1.5}, "max_restarts=1.5.*a whole number, or None"),
        ({"restart_window": 0}, "restart_window=0.*more than zero"),
        ({"recover_after": 0}, "recover_after=0.*more than zero"),
        ({"recover_after": "1"}, "recover_after='1'.*a number of seconds"),
    ],
)
def test_wrong_policies_say_what_to_give(wrong: dict[str, Any], told: str) -> None:
    """Named as they were given."""
    with pytest.raises((TypeError, ValueError), match=rf"RetryPolicy\({told}"):
        RetryPolicy(**wrong)

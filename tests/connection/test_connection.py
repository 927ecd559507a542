"""The driver and the public methods, in virtual time, against a peer that does as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import weakref
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from peer import HANG, TRANSIENT, Peer, Permanent

from fsm_conn import (
    CallOptions,
    CallTimeoutError,
    ConnectAbandonedError,
    ConnectFailedError,
    Connection,
    ConnectionLostError,
    ConnectionState,
    HealthPolicy,
    IllegalTriggerError,
    LinkError,
    LinkLostError,
    NotConnectedError,
    ProbeError,
    RequestError,
    RetryPolicy,
    StartTimeoutError,
    State,
    Transition,
    Trigger,
    insert_state,
    others,
)
from fsm_conn.connection.calling.route import present_channel
from fsm_conn.connection.table import LinkState
from fsm_conn.links.base import Link
from fsm_conn.machine.machine import StateMachine
from fsm_conn.testing import run_virtually

PLAIN = RetryPolicy(max_attempts=3, initial_delay=1.0, jitter="none", stable_after=10.0)
S = ConnectionState


def now() -> float:
    return asyncio.get_running_loop().time()


def connection(peer: Any, **options: Any) -> Connection:
    return Connection(peer, **{"retry": PLAIN, "name": "plug", **options})


def states(conn: Connection) -> list[str]:
    return [str(record.dest) for record in conn.history]


def nothing_is_left(conn: Connection, peer: Peer) -> None:
    """No link, no task but the test's own."""
    assert peer.open_now == 0
    assert len(asyncio.all_tasks()) == 1
    assert conn.link is None
    assert conn.snapshot().activity is None


# --- connecting -----------------------------------------------------------------------------------------------


async def test_a_whole_life() -> None:
    """Connect, lose the link, reconnect by itself, disconnect; each state entered once, and nothing left."""
    peer = Peer(delay=0.5)
    conn = connection(peer)
    assert conn.state is S.DISCONNECTED
    await conn.connect()
    assert conn.state is S.CONNECTED
    peer.lose()
    assert await conn.wait_for_state("reconnecting") is S.RECONNECTING
    await conn.ensure_connected()
    await conn.disconnect()
    assert states(conn) == ["connecting", "connected", "reconnecting", "connected", "disconnecting", "disconnected"]
    assert (peer.opened, peer.closed) == (2, 2)
    nothing_is_left(conn, peer)


async def test_async_with_connects_and_disconnects_also_on_an_error() -> None:
    """Leaving the block closes the link, whatever happened in it."""
    peer = Peer()
    with pytest.raises(ZeroDivisionError):
        async with connection(peer) as conn:
            assert conn.state is S.CONNECTED
            raise ZeroDivisionError
    assert conn.state is S.DISCONNECTED
    nothing_is_left(conn, peer)


async def test_callers_share_one_attempt() -> None:
    """A hundred callers of connect() open one link, and all return."""
    peer = Peer(delay=1)
    conn = connection(peer)
    await asyncio.gather(*(conn.connect() for _ in range(100)))
    assert peer.tried == 1
    await conn.disconnect()


async def test_retries_wait_as_the_policy_says() -> None:
    """Attempts at 0, 1 and 3 seconds; then it has failed, with the reason and the count."""
    peer = Peer(then=TRANSIENT)
    conn = connection(peer)
    with pytest.raises(
        ConnectFailedError, match=r"plug: could not connect, given up after 3 attempts: try again"
    ) as caught:
        await conn.connect()
    assert caught.value.attempts == 3
    assert caught.value.reason is TRANSIENT
    assert caught.value.__cause__ is TRANSIENT
    assert [time - peer.open_times[0] for time in peer.open_times] == [0, 1, 3]
    assert conn.state is S.FAILED
    nothing_is_left(conn, peer)


async def test_every_caller_is_told_of_a_failure() -> None:
    """Coalesced callers each get an error of their own."""
    conn = connection(Peer(then=TRANSIENT))
    errors = await asyncio.gather(*(conn.connect() for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [ConnectFailedError] * 3
    assert len(set(map(id, errors))) == 3


async def test_what_cannot_get_better_is_not_retried() -> None:
    """A permanent error ends in failed at the first attempt."""
    peer = Peer(Permanent("no such command"))
    conn = connection(peer)
    with pytest.raises(ConnectFailedError, match="given up at the first attempt: no such command") as caught:
        await conn.connect()
    assert (peer.tried, caught.value.attempts) == (1, 1)


async def test_a_hanging_open_ends_by_its_start_timeout() -> None:
    """Each attempt has start_timeout seconds, and the error says so."""
    peer = Peer(then=HANG)
    conn = connection(peer, start_timeout=2, retry=RetryPolicy(max_attempts=2, initial_delay=1, jitter="none"))
    with pytest.raises(ConnectFailedError, match="did not open within 2 s") as caught:
        await conn.connect()
    assert isinstance(caught.value.reason, StartTimeoutError)
    assert peer.open_times[1] - peer.open_times[0] == 3
    nothing_is_left(conn, peer)


async def test_the_total_deadline_bounds_attempts_and_delays() -> None:
    """No attempt starts after the deadline, and none runs past it."""
    begin = now()
    peer = Peer(TRANSIENT, TRANSIENT, HANG)
    conn = connection(peer, retry=RetryPolicy(max_attempts=None, deadline=5, initial_delay=1, jitter="none"))
    with pytest.raises(ConnectFailedError, match="did not open within 2 s"):
        await conn.connect()
    assert now() - begin == 5
    assert peer.tried == 3


async def test_a_delay_that_would_pass_the_deadline_is_not_waited_out() -> None:
    """When the next attempt could only start too late, failing now is the honest answer."""
    begin = now()
    conn = connection(
        Peer(then=TRANSIENT), retry=RetryPolicy(max_attempts=None, deadline=2.5, initial_delay=1, jitter="none")
    )
    with pytest.raises(ConnectFailedError) as caught:
        await conn.connect()
    assert (now() - begin, caught.value.attempts) == (1, 2)


async def test_failed_can_be_tried_again() -> None:
    """connect() after failed begins a new outage with all its attempts."""
    peer = Peer(TRANSIENT, TRANSIENT, TRANSIENT, TRANSIENT)
    conn = connection(peer)
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    await conn.connect()
    assert (peer.tried, conn.attempt) == (5, 2)
    await conn.disconnect()


async def test_a_crash_loop_ends_in_failed() -> None:
    """A peer that comes up and dies at once has not recovered: attempts run out."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    for _ in range(2):
        peer.lose()
        await conn.wait_for_state("reconnecting")
        await conn.ensure_connected()
    peer.lose()
    await conn.wait_for_state("failed")
    assert (peer.tried, conn.attempt) == (3, 3)
    assert isinstance(conn.reason, LinkLostError)
    await conn.disconnect()
    nothing_is_left(conn, peer)


async def test_the_first_link_that_came_up_is_replaced_at_once_and_later_ones_after_their_delay() -> None:
    """A first crash costs no delay; a crash loop does."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    for _ in range(2):
        peer.lose()
        await conn.wait_for_state("reconnecting")
        await conn.ensure_connected()
    first, second, third = peer.open_times
    assert (second - first, third - second) == (0, 2)
    await conn.disconnect()


async def test_attempts_reset_only_after_stable_after() -> None:
    """Just under it, the attempt goes on counting; at it, an outage begins anew."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    await asyncio.sleep(9.99)
    peer.lose()
    await conn.wait_for_state("reconnecting")
    assert conn.attempt == 2
    await conn.ensure_connected()
    await asyncio.sleep(10.01)
    peer.lose()
    await conn.wait_for_state("reconnecting")
    assert conn.attempt == 1
    await conn.disconnect()


async def test_a_link_that_was_up_long_enough_is_replaced_even_after_the_last_attempt() -> None:
    """It took all attempts to come up, but then it stayed: its loss begins a new outage."""
    peer = Peer(TRANSIENT, TRANSIENT)
    conn = connection(peer)
    await conn.connect()
    assert conn.attempt == 3
    await asyncio.sleep(10.01)
    peer.lose()
    await conn.wait_for_state("reconnecting")
    await conn.ensure_connected()
    assert conn.attempt == 1
    await conn.disconnect()


async def test_a_flap_that_is_always_forgiven_never_fails() -> None:
    """A link that lasts each time is replaced without end: a simulated day of it."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    for _ in range(2000):
        await asyncio.sleep(40)
        peer.lose()
        await conn.wait_for_state("reconnecting")
        await conn.ensure_connected()
    assert (conn.attempt, len(conn.history)) == (1, 64)
    await conn.disconnect()
    assert (peer.opened, peer.closed) == (2001, 2001)


# --- what each public call does in each state -------------------------------------------------------------------


async def in_state(state: str) -> tuple[Connection, Peer]:
    """A connection brought to `state`, there to stay unless something is done."""
    peer = Peer(delay=1, close_delay=1)
    conn = connection(peer, start_timeout=100)
    if state == "connecting":
        peer.script = [HANG]
        keep(swallow(conn.connect()))
    elif state == "failed":
        peer.script = [Permanent("broken")]
        await swallow(conn.connect())
    elif state != "disconnected":
        await conn.connect()
    if state == "reconnecting":
        peer.script = [HANG]
        peer.lose()
    elif state == "disconnecting":
        keep(conn.disconnect())
    await conn.wait_for_state(state)
    await asyncio.sleep(0.5)
    return conn, peer


async def swallow(coroutine: Any) -> None:
    with contextlib.suppress(ConnectFailedError, ConnectAbandonedError):
        await coroutine


KEPT: set[asyncio.Task[Any]] = set()


def keep(coroutine: Any) -> None:
    """Let it run beside the test."""
    task = asyncio.create_task(coroutine)
    KEPT.add(task)
    task.add_done_callback(KEPT.discard)


BLOCKED = "still waiting"
OUTCOMES: dict[str, dict[str, Any]] = {
    #                    disconnected  connecting    connected     reconnecting  disconnecting failed
    "connect":          {"d": "connected", "c": BLOCKED, "C": "connected", "r": BLOCKED, "D": "connected", "f": "connected"},
    "ensure_connected": {"d": "connected", "c": BLOCKED, "C": "connected", "r": BLOCKED, "D": "connected", "f": "connected"},
    "reconnect":        {"d": "connected", "c": BLOCKED, "C": "connected", "r": "connected", "D": "connected", "f": "connected"},
    "disconnect":       dict.fromkeys("dcCrDf", "disconnected"),
    "aclose":           dict.fromkeys("dcCrDf", "disconnected"),
    "call":             {**dict.fromkeys("dcrDf", NotConnectedError), "C": "connected"},
    "stream":           {**dict.fromkeys("dcrDf", NotConnectedError), "C": "connected"},
    "patient_call":     {**dict.fromkeys("dDf", NotConnectedError), "C": "connected", "c": BLOCKED, "r": BLOCKED},
    "idempotent_call":  {**dict.fromkeys("dDf", NotConnectedError), "C": "connected", "c": BLOCKED, "r": BLOCKED},
    "probe":            {**dict.fromkeys("dcrDf", NotConnectedError), "C": "connected"},
    "channel":          {**dict.fromkeys("dcrDf", NotConnectedError), "C": TypeError},
}  # fmt: skip
LETTERS = dict(
    zip("dcCrDf", ("disconnected", "connecting", "connected", "reconnecting", "disconnecting", "failed"), strict=True)
)


async def do(conn: Connection, action: str) -> None:
    if action == "call":
        await conn.call("s.M")
    elif action == "patient_call":
        await conn.call("s.M", CallOptions(wait_for_ready=True))
    elif action == "idempotent_call":
        await conn.call("s.M", CallOptions(idempotent=True))
    elif action == "stream":
        assert [item async for item in conn.stream("s.M")] == [1, 2, 3]
    elif action == "channel":
        present_channel(conn)
    else:
        await getattr(conn, action)()


@pytest.mark.parametrize(
    ("action", "state", "expected"),
    [(action, LETTERS[letter], outcome) for action, row in OUTCOMES.items() for letter, outcome in row.items()],
)
async def test_what_each_call_does_in_each_state(action: str, state: str, expected: Any) -> None:
    """The table of the class's docstring, cell by cell."""
    conn, peer = await in_state(state)
    before = now()
    if expected is BLOCKED:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50):
                await do(conn, action)
        assert conn.state == state
    elif isinstance(expected, str):
        await do(conn, action)
        assert conn.state == expected
        if state == expected and action != "reconnect":
            assert now() == before, "nothing was to be done, so nothing was to be waited for"
    else:
        with pytest.raises(expected):
            await do(conn, action)
        assert conn.state == state
    await conn.disconnect()
    assert conn.state is S.DISCONNECTED
    assert peer.open_now == 0


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("disconnected", r"plug: no calls in state 'disconnected': call 'await conn.connect\(\)' first"),
        (
            "connecting",
            r"in state 'connecting': 'await conn.ensure_connected\(\)' first, or pass CallOptions\(wait_for_ready",
        ),
        ("reconnecting", r"in state 'reconnecting': 'await conn.ensure_connected\(\)' first"),
        ("disconnecting", r"in state 'disconnecting': it is being closed"),
        ("failed", r"in state 'failed' \(broken\): it has given up; 'await conn.connect\(\)' tries again"),
    ],
)
async def test_a_refused_call_says_what_to_do(state: str, message: str) -> None:
    """The error names the connection, its state and the remedy."""
    conn, _ = await in_state(state)
    with pytest.raises(NotConnectedError, match=message) as caught:
        await conn.call("s.M")
    assert caught.value.state == state
    await conn.disconnect()


async def test_connect_while_disconnecting_waits_for_the_close_and_then_connects() -> None:
    """Two links never overlap."""
    conn, peer = await in_state("disconnecting")
    await conn.connect()
    assert (peer.opened, peer.closed) == (2, 1)
    assert states(conn)[-4:] == ["disconnecting", "disconnected", "connecting", "connected"]
    await conn.disconnect()


async def test_disconnect_twice_is_one() -> None:
    """Callers of disconnect() share one close."""
    peer = Peer(close_delay=1)
    conn = connection(peer)
    await conn.connect()
    await asyncio.gather(conn.disconnect(), conn.disconnect(), conn.aclose())
    await conn.disconnect()
    assert peer.closed == 1
    assert states(conn).count("disconnecting") == 1


async def test_disconnect_has_the_last_word_over_a_waiting_connect() -> None:
    """connect() that waits for a close gives way to a later disconnect()."""
    conn, peer = await in_state("disconnecting")
    waiting = asyncio.create_task(conn.connect())
    await asyncio.sleep(0)
    await conn.disconnect()
    with pytest.raises(ConnectAbandonedError, match="disconnect"):
        await waiting
    assert (conn.state, peer.opened) == (S.DISCONNECTED, 1)


@pytest.mark.parametrize("state", ["connecting", "reconnecting"])
async def test_disconnect_ends_the_wait_of_connect(state: str) -> None:
    """Whoever waits for a connection is told that there will be none."""
    conn, peer = await in_state(state)
    waiting = asyncio.create_task(conn.connect())
    await asyncio.sleep(0)
    await conn.disconnect()
    with pytest.raises(ConnectAbandonedError, match=r"disconnect\(\) was called while connect\(\) was waiting"):
        await waiting
    nothing_is_left(conn, peer)


async def test_disconnect_during_a_delay_is_immediate_and_final() -> None:
    """Nothing is waited out, and nothing reconnects afterwards."""
    peer = Peer(TRANSIENT)
    conn = connection(peer, retry=RetryPolicy(initial_delay=100, max_delay=100, jitter="none"))
    waiting = asyncio.create_task(swallow(conn.connect()))
    await conn.wait_for_state("reconnecting")
    begin = now()
    await conn.disconnect()
    assert now() == begin
    await waiting
    await asyncio.sleep(1000)
    assert (conn.state, peer.tried) == (S.DISCONNECTED, 1)
    nothing_is_left(conn, peer)


async def test_reconnect_by_hand_skips_the_delay_and_counts_anew() -> None:
    """Whoever asks by hand is served now."""
    peer = Peer(TRANSIENT, TRANSIENT)
    conn = connection(peer, retry=RetryPolicy(initial_delay=100, max_delay=100, jitter="none"))
    waiting = asyncio.create_task(conn.connect())
    await conn.wait_for_state("reconnecting")
    assert conn.attempt == 2
    again = asyncio.create_task(conn.reconnect())
    await asyncio.sleep(1)
    assert (peer.tried, conn.attempt) == (2, 2)
    await asyncio.gather(waiting, again)
    await conn.disconnect()


async def test_reconnect_replaces_the_link() -> None:
    """The old link is closed before the new one is opened."""
    peer = Peer(close_delay=1)
    conn = connection(peer)
    await conn.connect()
    old = peer.link
    await conn.reconnect()
    assert (old.closes, peer.open_now, conn.state) == (1, 1, S.CONNECTED)
    await conn.disconnect()


# --- cancellation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0, 0.001, 0.5, 0.999, 1, 1.001, 1.5, 2, 2.5])
async def test_connect_cancelled_at_any_moment_leaves_nothing(moment: float) -> None:
    """The last caller is cancelled: the attempt is abandoned, and all is as before."""
    peer = Peer(TRANSIENT, delay=1)
    conn = connection(peer)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(moment):
            await conn.connect()
    assert conn.state is S.DISCONNECTED
    nothing_is_left(conn, peer)


async def test_a_later_connect_is_abandoned_like_the_first() -> None:
    """What an earlier life was told is no claim on this one."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    await conn.disconnect()
    peer.delay = 5
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await conn.connect()
    assert conn.state is S.DISCONNECTED
    nothing_is_left(conn, peer)


async def test_waiters_that_were_cancelled_are_forgotten() -> None:
    """Waiting in vain, again and again, costs no memory."""
    conn = connection(Peer())
    for _ in range(100):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await conn.wait_for_state("failed")
    assert not conn._fsm_waiters


async def test_leaving_costs_the_same_however_many_wait() -> None:
    """Nobody who waits is looked at when others leave, as many do at once when one timeout ends them all."""
    looks = 0

    class Watched(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal looks
            looks += 1
            return str.__eq__(self, other)

    conn = connection(Peer())
    waiting = [asyncio.create_task(conn.wait_for_state(Watched("failed"))) for _ in range(100)]
    await asyncio.sleep(0)
    looks = 0
    for task in reversed(waiting):
        task.cancel()
    await asyncio.wait(waiting)
    assert looks == 0
    assert not conn._fsm_waiters


async def test_wait_for_times_out_honestly() -> None:
    """asyncio.wait_for and asyncio.timeout behave as the standard library says."""
    conn = connection(Peer(then=HANG))
    begin = now()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(conn.connect(), 5)
    assert now() - begin == 5
    assert conn.state is S.DISCONNECTED


async def test_cancelling_one_caller_of_two_cancels_only_that_one() -> None:
    """The attempt goes on for whoever still waits."""
    peer = Peer(delay=2)
    conn = connection(peer)
    first, second = asyncio.create_task(conn.connect()), asyncio.create_task(conn.connect())
    await asyncio.sleep(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert (conn.state, peer.tried) == (S.CONNECTED, 1)
    await conn.disconnect()


async def test_cancelling_at_the_moment_of_success_leaves_no_link() -> None:
    """Connected, but nobody was told: then nobody will disconnect, so the connection is given back."""
    peer = Peer()
    conn = connection(peer)
    task = asyncio.create_task(conn.connect())
    conn.on_transition(lambda record: task.cancel() if record.dest == "connected" else None)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (conn.state, peer.opened) == (S.DISCONNECTED, 1)
    nothing_is_left(conn, peer)


async def test_cancelling_a_waiter_does_not_end_an_established_connection() -> None:
    """A connection that lost its link recovers for its owner's sake, not for that of a waiter."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    peer.delay = 2
    peer.lose()
    await conn.wait_for_state("reconnecting")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await conn.connect()
    assert conn.state is S.RECONNECTING
    await conn.wait_for_state("connected")
    await conn.disconnect()


async def test_a_cancelled_disconnect_goes_on_closing() -> None:
    """The caller is cancelled at once; the link is closed all the same."""
    peer = Peer(close_delay=2)
    conn = connection(peer)
    await conn.connect()
    begin = now()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await conn.disconnect()
    assert now() - begin == 1
    assert conn.state is S.DISCONNECTING
    await conn.wait_for_state("disconnected")
    nothing_is_left(conn, peer)


async def test_a_link_that_never_closes_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """disconnect() is bounded by close_timeout."""
    peer = Peer(close_delay=1e4)
    conn = connection(peer)
    await conn.connect()
    begin = now()
    await conn.disconnect()
    assert now() - begin == conn.close_timeout
    assert conn.state is S.DISCONNECTED
    assert f"closing the link did not end within {conn.close_timeout:g} s" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_link_that_closes_with_an_error_ends_in_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged; the life goes on."""
    peer = Peer()
    peer.close_error = OSError("cannot")
    conn = connection(peer)
    await conn.connect()
    await conn.disconnect()
    assert conn.state is S.DISCONNECTED
    assert "closing the link failed" in caplog.text


class Abort(BaseException):
    """What no handler of errors should stop."""


async def test_what_a_close_raises_that_is_no_error_is_seen() -> None:
    """It is the reason of a fault, in which nothing is tried again; a disconnect() ends all the same."""
    peer = Peer()
    peer.close_error = Abort("now")
    conn = connection(peer)
    await conn.connect()
    peer.lose()
    await conn.wait_for_state(S.FAILED)
    assert conn.reason is peer.close_error
    assert peer.opened == 1
    await conn.connect()
    await conn.disconnect()
    assert conn.state is S.DISCONNECTED
    assert conn.history[-1].reason is peer.close_error


# --- the driver -------------------------------------------------------------------------------------------------


async def test_a_stale_activity_cannot_speak() -> None:
    """What an activity returns after its state was left is not fired."""

    class Slow(Connection):
        async def while_connecting(self) -> str:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                return "opened"
            return "opened"

    conn = Slow(Peer())
    task = asyncio.create_task(swallow(conn.connect()))
    await conn.wait_for_state("connecting")
    await conn.disconnect()
    await task
    assert states(conn) == ["connecting", "disconnecting", "disconnected"]


async def test_activities_never_overlap() -> None:
    """The next activity waits for the one before to clean up, however long that takes."""
    running: list[str] = []

    class Careful(Connection):
        async def while_connecting(self) -> str:
            running.append("connecting")
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(5)
                running.remove("connecting")
            return "opened"

        async def while_disconnecting(self) -> str:
            assert running == []
            return "closed"

    conn = Careful(Peer())
    task = asyncio.create_task(swallow(conn.connect()))
    await conn.wait_for_state("connecting")
    await asyncio.sleep(1)
    await conn.disconnect()
    await task
    assert conn.state is S.DISCONNECTED


async def test_an_activity_that_ignores_its_cancellation_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """A connection never hangs on one; the error says what to mend."""

    class Deaf(Connection):
        async def while_connecting(self) -> str:
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    continue

    conn = Deaf(Peer())
    task = asyncio.create_task(swallow(conn.connect()))
    await conn.wait_for_state("connecting")
    deaf = conn._fsm_run.task  # type: ignore[union-attr]
    assert deaf is not None
    await conn.disconnect()
    await task
    assert conn.state is S.DISCONNECTED
    assert "while_connecting ignores its cancellation and is left behind; let CancelledError pass" in caplog.text
    deaf.get_coro().close()  # type: ignore[union-attr]


async def test_a_bug_in_an_activity_ends_in_failed_with_the_bug_as_reason(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is not an outage: it is not retried, and it is logged with its traceback."""

    class Buggy(Connection):
        async def while_connected(self) -> str:
            raise ZeroDivisionError("bug")

    peer = Peer()
    conn = Buggy(peer)
    await conn.connect()
    await conn.wait_for_state("failed")
    assert isinstance(conn.reason, ZeroDivisionError)
    assert conn.history[-1].trigger == Trigger.FAULT
    assert "Traceback" in caplog.text
    await conn.disconnect()
    nothing_is_left(conn, peer)


async def test_an_activity_that_returns_nonsense_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    """A trigger that the state does not handle ends in failed, and the reason says what it does handle."""

    class Wrong(Connection):
        async def while_connecting(self) -> str:
            return "closed"

    with pytest.raises(
        ConnectFailedError, match="'closed' cannot happen in state 'connecting'; what can: disconnect, fault"
    ) as caught:
        await Wrong(Peer()).connect()
    assert isinstance(caught.value.reason, IllegalTriggerError)


async def test_an_activity_that_lets_a_foreign_cancellation_pass_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Awaiting something cancelled is not being cancelled."""

    class Confused(Connection):
        async def while_connecting(self) -> str:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
            return "opened"

    with pytest.raises(ConnectFailedError, match="awaited a task that was cancelled"):
        await Confused(Peer()).connect()


async def test_a_broken_guard_is_a_fault_and_no_hang(caplog: pytest.LogCaptureFixture) -> None:
    """A guard that raises ends in failed instead of leaving the connection without an activity."""

    class Broken(Connection):
        def may_retry(self, reason: BaseException | None) -> bool:
            raise ZeroDivisionError

    with pytest.raises(ConnectFailedError):
        await Broken(Peer(TRANSIENT)).connect()


async def test_a_link_that_raises_what_it_should_not_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Only errors of the world outside are retried."""
    with pytest.raises(ConnectFailedError) as caught:
        await connection(Peer(KeyError("bug in the link"))).connect()
    assert isinstance(caught.value.reason, KeyError)


@pytest.mark.parametrize("method", ["connect", "reconnect", "ensure_connected"])
async def test_an_activity_may_not_wait_for_its_own_connection(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """It would wait for itself: an error at once, not a deadlock."""

    class Selfish(Connection):
        async def while_connecting(self) -> str:
            await getattr(self, method)()
            return "opened"

    with pytest.raises(ConnectFailedError, match="was called from an activity of the same connection"):
        await Selfish(Peer()).connect()


async def test_a_trigger_fired_while_deciding_waits_its_turn() -> None:
    """Dispatch runs to completion: what an observer fires comes after, not in between."""
    conn = connection(Peer())
    seen: list[str] = []

    def at_once(record: Any) -> None:
        seen.append(str(record.dest))
        if record.dest == "connecting":
            conn.fire("disconnect")
            assert conn.state is S.CONNECTING

    conn.on_transition(at_once)
    with pytest.raises(ConnectAbandonedError):
        await conn.connect()
    await conn.wait_for_state("disconnected")
    assert seen == ["connecting", "disconnecting", "disconnected"]


class Chain(StateMachine):
    """Each effect fires the next trigger: one that was queued queues another."""

    states = (State("first", initial=True), "second", "third", "fourth")
    transitions = (
        Transition("go", "first", "second", effects="ask_for_third"),
        Transition("on", "second", "third", effects="ask_for_fourth"),
        Transition("end", "third", "fourth"),
    )

    def ask_for_third(self, reason: object) -> None:
        """Queued while `go` is under way."""
        self.fire("on")

    def ask_for_fourth(self, reason: object) -> None:
        """Queued while what was queued is under way."""
        self.fire("end")


async def test_what_a_queued_trigger_fires_is_taken_right_after_it() -> None:
    """However deep: nothing is left in the queue for a later moment, in which it may be refused."""
    chain = Chain()
    chain.fire("go")
    assert [record.trigger for record in chain.history] == ["go", "on", "end"]
    assert chain.state == "fourth"


async def test_a_queued_trigger_that_is_refused_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for it, so nobody can be told but the log."""
    conn = connection(Peer())
    conn.on_state_change("connecting", lambda old, new: conn.fire("closed"))
    await conn.connect()
    assert "the queued trigger 'closed' was refused" in caplog.text
    await conn.disconnect()


async def test_an_illegal_trigger_raises_and_changes_nothing() -> None:
    """fire() refuses what the state does not handle."""
    conn = connection(Peer())
    with pytest.raises(IllegalTriggerError, match=r"<Connection 'plug' disconnected attempt=0>: 'lost' cannot happen"):
        conn.fire("lost")
    assert (conn.state, conn.history) == (S.DISCONNECTED, ())


def test_the_end_of_the_loop_closes_the_link() -> None:
    """asyncio.run returns, and nothing is left, also when nobody disconnected."""
    peer = Peer(close_delay=0.01)
    conn = connection(peer)

    async def main() -> None:
        await conn.connect()

    asyncio.run(main())
    assert peer.open_now == 0
    assert conn.state is S.DISCONNECTED
    asyncio.run(main())
    assert (peer.opened, peer.closed) == (2, 2)


def test_the_end_of_the_loop_during_an_attempt_and_a_delay() -> None:
    """The same at every other moment of a life."""
    for opens in ([HANG], [TRANSIENT]):
        peer = Peer(*opens)
        conn = connection(peer, retry=RetryPolicy(initial_delay=100, max_delay=100))

        async def main(conn: Connection = conn) -> None:
            keep(swallow(conn.connect()))
            await asyncio.sleep(0.01)

        asyncio.run(main())
        assert conn.state is S.DISCONNECTED
        assert peer.open_now == 0


async def just_connected(conn: Connection) -> None:
    await conn.connect()


async def disconnecting(conn: Connection) -> None:
    await conn.connect()
    keep(conn.disconnect())


async def connecting(conn: Connection) -> None:
    keep(swallow(conn.connect()))


async def losing(conn: Connection) -> None:
    await conn.connect()
    conn._make_link.lose()  # type: ignore[attr-defined]


async def reconnecting_by_hand(conn: Connection) -> None:
    await conn.connect()
    keep(swallow(conn.reconnect()))


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("begin", [just_connected, connecting, disconnecting, losing, reconnecting_by_hand])
def test_the_end_of_the_loop_at_any_moment_leaves_nothing(
    begin: Any, observed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Each link that was opened is closed once, the state is at rest, no task is left, and the next loop works."""

    async def audit(record: Any) -> None:
        await asyncio.sleep(0)

    for rounds in range(14):
        for close_delay in (0, 0.001):
            peer = Peer(close_delay=close_delay)
            conn = connection(peer)
            seen: list[Any] = []
            if observed:
                conn.on_transition(audit)
            conn.on_transition(seen.append)

            async def main(conn: Connection = conn, rounds: int = rounds) -> None:
                await begin(conn)
                for _ in range(rounds):
                    await asyncio.sleep(0)

            asyncio.run(main())
            assert (conn.state, peer.open_now) == (S.DISCONNECTED, 0), f"after {rounds} rounds"
            asyncio.run(main())
            assert (conn.state, peer.open_now) == (S.DISCONNECTED, 0), f"after {rounds} rounds, again"
            assert seen == list(conn.history), "plain observers are told to the end, in order"
    gc.collect()
    assert [record for record in caplog.records if record.name != "fsm_conn.status"] == []


def test_a_loop_that_was_closed_under_a_connection_does_not_hang_the_next() -> None:
    """Nobody cancelled anything: the life begins anew, at rest."""
    peer = Peer()
    conn = connection(peer)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(conn.connect())
    tasks = asyncio.all_tasks(loop)
    loop.close()
    for task in tasks:
        task.get_coro().close()  # type: ignore[union-attr]
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def again() -> None:
        await conn.connect()
        await conn.disconnect()

    asyncio.run(again())
    assert conn.state is S.DISCONNECTED


def test_a_connection_cannot_be_used_from_a_second_loop_at_a_time() -> None:
    """The loop in which it lives has the say."""
    conn = connection(Peer())
    first = asyncio.new_event_loop()
    first.run_until_complete(conn.connect())
    with pytest.raises(RuntimeError, match=r"lives in another event loop: use it there \(from a thread, by"):
        asyncio.run(conn.disconnect())
    with pytest.raises(RuntimeError, match="lives in another event loop: use it there"):
        conn.fire("lost")  # where no loop runs, as in a thread
    assert conn.state is S.CONNECTED
    first.run_until_complete(conn.disconnect())
    first.close()


def test_firing_outside_a_loop_changes_nothing() -> None:
    """A thread without a loop cannot leave a connection in a state whose activity never began."""
    conn = connection(Peer())
    with pytest.raises(RuntimeError, match="needs an event loop, and none runs here"):
        conn.fire("connect")
    assert (conn.state, conn.history) == (S.DISCONNECTED, ())


class Weird(BaseException):
    """As pytest.fail() raises in a fake link."""


async def test_an_activity_that_raises_no_exception_but_something_worse_is_a_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The life goes on; nobody hangs."""
    with pytest.raises(ConnectFailedError) as caught:
        await connection(Peer(Weird())).connect()
    assert isinstance(caught.value.reason, Weird)


async def test_an_observer_that_raises_something_worse_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The others are told, before and after."""
    conn = connection(Peer())
    seen: list[str] = []

    def worse(record: Any) -> None:
        raise Weird

    conn.on_transition(worse)
    conn.on_transition(lambda record: seen.append(str(record.dest)))
    await conn.connect()
    await conn.disconnect()
    assert seen == states(conn)
    assert conn.observer_errors == 4


async def test_a_group_of_expected_errors_is_expected() -> None:
    """A TaskGroup in an activity wraps what is worth another attempt."""
    peer = Peer(ExceptionGroup("several", [ConnectionResetError(), TRANSIENT]))
    conn = connection(peer)
    await conn.connect()
    assert [str(record.trigger) for record in conn.history] == ["connect", "open_failed", "opened"]
    await conn.disconnect()


async def test_a_maker_that_makes_no_link_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    """By its name, and by what it made."""
    with pytest.raises(ConnectFailedError, match=r"plug: .*the target made None, which is not a Link"):
        await connection(lambda: None).connect()


@pytest.mark.parametrize("method", ["open", "lost"])
async def test_a_link_whose_method_is_no_coroutine_function_is_told_so(method: str) -> None:
    """By name: such a method returns nothing that can be awaited."""

    class Plain(Link):
        async def open(self) -> None: ...

        async def close(self) -> None: ...

        async def lost(self) -> Exception:
            return ConnectionError("gone")

    setattr(Plain, method, lambda self: None)
    conn = connection(Plain)
    with contextlib.suppress(ConnectFailedError):
        await conn.connect()
    assert await conn.wait_for_state("failed")
    assert f"Plain.{method}() returned None: make it an 'async def'" in str(conn.reason)
    assert connection(lambda: Plain()).name == "plug"
    assert Connection(lambda: Plain()).name == "link"


async def test_a_second_cancel_does_not_end_the_wait_for_the_cleaning_up() -> None:
    """When the cancellation goes on, the state is disconnected, however often it was asked for."""

    class Slow(Connection):
        async def while_connecting(self) -> str:
            try:
                return await super().while_connecting()
            finally:
                await asyncio.sleep(2)

    conn = Slow(Peer(then=HANG))
    task = asyncio.create_task(conn.connect())
    await asyncio.sleep(1)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.5)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert conn.state is S.DISCONNECTED


async def test_a_cancelled_reconnect_out_of_failed_is_abandoned() -> None:
    """Nobody else wanted it, and it was not going on before."""
    peer = Peer(None, Permanent("gone"))
    conn = connection(peer)
    await conn.connect()
    peer.lose()
    await conn.wait_for_state("failed")
    peer.then = HANG
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await conn.reconnect()
    assert conn.state is S.DISCONNECTED
    nothing_is_left(conn, peer)


async def test_an_open_that_comes_too_late_is_closed_and_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    """A link that ignored its cancellation, and was left behind, must not replace the one that is open by then."""

    class Deaf(type(Peer()())):  # type: ignore[misc]
        async def open(self) -> None:
            end = now() + 30
            while now() < end:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(end - now())
            await super().open()

    peer = Peer()
    made: list[Any] = []

    def make() -> Any:
        link = (Deaf if not made else type(peer.made[0]))(peer) if made else Deaf(peer)
        made.append(link)
        peer.made.append(link)
        return link

    conn = connection(make, start_timeout=100)
    first = asyncio.create_task(swallow(conn.connect()))
    await asyncio.sleep(1)
    await conn.disconnect()
    await first
    made[:] = [None]
    conn._make_link = peer
    await conn.connect()
    live = conn.link
    await asyncio.sleep(60)
    assert conn.link is live
    assert peer.open_now == 1
    await conn.disconnect()
    assert peer.open_now == 0
    assert "left behind" in caplog.text


async def test_activities_and_observers_run_in_the_context_the_connection_was_made_in() -> None:
    """Not in that of whoever happened to call first."""
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")
    seen: list[str] = []

    class Looks(Connection):
        async def while_connected(self) -> str:
            seen.append(var.get())
            return await super().while_connected()

    async def observe(record: Any) -> None:
        seen.append(var.get())

    var.set("made here")
    conn = Looks(Peer())
    conn.on_state_change("connected", lambda old, new: observe(None))
    var.set("called here")
    await conn.connect()
    assert seen == ["made here"] * 2
    await conn.disconnect()


async def test_an_observer_that_reconnects_does_not_spoil_later_activities() -> None:
    """What it calls runs as if anybody else had called it."""
    peer = Peer()
    conn = Authenticated(peer, retry=RetryPolicy(max_attempts=2))
    await conn.connect()

    async def again(old: Any, new: Any) -> None:
        await conn.reconnect()

    conn.on_state_change("failed", again)
    peer.script = [Permanent("gone")]
    peer.lose()
    await conn.wait_for_state("failed")
    await conn.wait_for_state("connected")
    assert states(conn)[-2:] == ["authenticating", "connected"]
    await conn.disconnect()


def test_a_connection_cannot_be_copied_or_pickled() -> None:
    """Two of them would share a link."""
    import copy
    import pickle

    conn = connection(Peer())
    for use in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled; create another connection"):
            use(conn)


# --- watching ---------------------------------------------------------------------------------------------------


async def test_observers_see_every_transition_once_and_in_order() -> None:
    """Plain and async ones, and all of them before connect() and disconnect() return."""
    conn = connection(Peer(TRANSIENT))
    plain: list[Any] = []
    slow: list[Any] = []

    async def observe(record: Any) -> None:
        await asyncio.sleep(0.1)
        slow.append(record)

    conn.on_transition(plain.append)
    conn.on_transition(observe)
    await conn.connect()
    assert plain == slow == list(conn.history)
    await conn.disconnect()
    assert plain == slow == list(conn.history)


async def test_on_state_change_has_the_documented_form() -> None:
    """callback(old, new) for entering the named state, plain or async; unsubscribing works, twice too."""
    conn = connection(Peer())
    seen: list[tuple[str, str]] = []

    async def on_connected(old: ConnectionState, new: ConnectionState) -> None:
        seen.append((old.value, new.value))

    unsubscribe = conn.on_state_change(S.CONNECTED, on_connected)
    conn.on_state_change(S.DISCONNECTED, lambda old, new: seen.append((old.value, new.value)))
    await conn.connect()
    await conn.disconnect()
    unsubscribe()
    unsubscribe()
    await conn.connect()
    assert seen == [("connecting", "connected"), ("disconnecting", "disconnected")]
    await conn.disconnect()


async def test_an_observer_that_was_unsubscribed_by_another_is_told_nothing_more() -> None:
    """Not even of the transition that is just being told."""
    conn = connection(Peer())
    seen: list[str] = []
    conn.on_transition(lambda record: unsubscribe())
    unsubscribe = conn.on_transition(lambda record: seen.append(str(record.dest)))
    await conn.connect()
    assert seen == []
    await conn.disconnect()


@pytest.mark.once
async def test_a_slow_observer_of_a_flapping_link_delays_nobody_without_bound(caplog: pytest.LogCaptureFixture) -> None:
    """connect() waits for what has happened so far, and the backlog is bounded."""

    class Flapping(type(Peer()())):  # type: ignore[misc]
        async def lost(self) -> Exception:
            await asyncio.sleep(0.1)
            return LinkLostError("flap")

    peer = Peer()
    conn = connection(lambda: Flapping(peer), retry=RetryPolicy(max_attempts=None, initial_delay=0))

    async def slow(record: Any) -> None:
        await asyncio.sleep(1)

    conn.on_transition(slow)
    begin = now()
    await conn.connect()
    assert now() - begin < 5
    await asyncio.sleep(600)
    assert conn._fsm_observers is not None
    assert len(conn._fsm_observers._pending) <= 1000
    assert "1000 transitions are waiting already" in caplog.text
    begin = now()
    await conn.disconnect()
    assert now() - begin <= 31


async def test_observers_cannot_hurt(caplog: pytest.LogCaptureFixture) -> None:
    """One raises, one hangs, one ignores its cancellation: the rest are told, and the connection connects."""
    conn = connection(Peer())
    seen: list[str] = []
    release = asyncio.Event()

    def broken(record: Any) -> None:
        raise ZeroDivisionError

    async def hanging(record: Any) -> None:
        await asyncio.sleep(1000)

    async def deaf(record: Any) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    for observer in (broken, hanging, deaf, lambda record: seen.append(str(record.dest))):
        conn.on_transition(observer)
    begin = now()
    await conn.connect()
    assert seen == ["connecting", "connected"]
    assert now() - begin == 20
    assert conn.observer_errors == 6
    assert "took longer than 5 s" in caplog.text
    release.set()
    await conn.disconnect()


async def test_an_observer_may_use_the_connection() -> None:
    """Awaiting the connection's own methods from an async observer does not deadlock."""
    conn = connection(Peer())

    async def undo(old: Any, new: Any) -> None:
        await conn.disconnect()

    conn.on_state_change("connected", undo)
    with pytest.raises(ConnectAbandonedError):
        await conn.connect()
    assert conn.state is S.DISCONNECTED
    assert conn.observer_errors == 0


@pytest.mark.parametrize("register", ["on_transition", "on_state_change"])
def test_an_observer_must_be_callable(register: str) -> None:
    """Refused when registered, not when told."""
    conn = connection(Peer())
    args = (3,) if register == "on_transition" else ("connected", 3)
    with pytest.raises(TypeError, match="an observer must be callable, not 3"):
        getattr(conn, register)(*args)


async def test_unknown_states_are_refused_with_the_nearest() -> None:
    """A misspelt state would otherwise be waited for without end."""
    conn = connection(Peer())
    with pytest.raises(ValueError, match=r"has no state 'conected' \(did you mean 'connected'\?\)"):
        await conn.wait_for_state("conected")
    with pytest.raises(ValueError, match="has no state 'up'"):
        conn.on_state_change("up", print)
    with pytest.raises(ValueError, match="name at least one state"):
        await conn.wait_for_state()


async def test_history_records_what_happened() -> None:
    """Trigger, source, dest, reason, attempt and the time in the state left."""
    peer = Peer(TRANSIENT, delay=0.5)
    conn = connection(peer, history=3)
    await conn.connect()
    last = [(r.trigger, r.source, r.dest, r.reason, r.attempt, r.dwell) for r in conn.history]
    assert last == [
        (Trigger.CONNECT, S.DISCONNECTED, S.CONNECTING, None, 1, 0.0),
        (Trigger.OPEN_FAILED, S.CONNECTING, S.RECONNECTING, TRANSIENT, 2, 0.5),
        (Trigger.OPENED, S.RECONNECTING, S.CONNECTED, None, 2, 1.5),
    ]
    await conn.disconnect()
    assert len(conn.history) == 3
    assert str(conn.history[-1]) == "disconnecting -> disconnected on closed"


async def test_repr_shows_name_state_and_attempt() -> None:
    """And nothing that could be secret."""
    conn = Connection(["python", "calculator.py", "--token", "hunter2"], env={"KEY": "hunter2"})
    assert repr(conn) == "<Connection 'calculator.py' disconnected attempt=0>"
    assert "hunter2" not in repr(conn) + repr(vars(conn))


# --- calls ------------------------------------------------------------------------------------------------------


async def test_calls_reach_the_link_by_name_and_by_attribute() -> None:
    """service.Method, fields by keyword whatever their names; the same by attribute and by item."""
    peer = Peer()
    async with connection(peer) as conn:
        await conn.call("calculator.Add", a=5, b=3)
        await conn.calculator.Add(a=5, b=3)
        await conn.services["calculator"].Add(a=5, b=3)
        await conn.services["probe"]["call"](a=5, b=3)
        await conn.call("s.M", self=1, method=2, timeout=3, request=4, options=5)
        await conn.s.M(self=1, method=2)
        await conn.call("s.M", "whole request", CallOptions(timeout=3))
        assert [item async for item in conn.calculator.Count(up_to=3)] == [1, 2, 3]
    assert peer.calls == [
        ("calculator.Add", None, {"a": 5, "b": 3}),
        ("calculator.Add", None, {"a": 5, "b": 3}),
        ("calculator.Add", None, {"a": 5, "b": 3}),
        ("probe.call", None, {"a": 5, "b": 3}),
        ("s.M", None, {"self": 1, "method": 2, "timeout": 3, "request": 4, "options": 5}),
        ("s.M", None, {"self": 1, "method": 2}),
        ("s.M", "whole request", {}),
    ]


async def test_two_requests_are_one_too_many() -> None:
    """At most one request and one CallOptions by position."""
    async with connection(Peer()) as conn:
        with pytest.raises(RequestError, match=r"s\.M: give at most one whole request and one CallOptions"):
            await conn.call("s.M", "one", "two")


async def test_a_misspelt_method_is_not_taken_for_a_service() -> None:
    """conn.conect() says that there is no such method, and which one was meant."""
    conn = connection(Peer())
    with pytest.raises(AttributeError, match=r"has no method 'conect' \(did you mean 'connect'\?\)"):
        conn.conect()
    with pytest.raises(AttributeError, match="no attribute '_private'"):
        conn._private
    with pytest.raises(AttributeError):
        conn.calculator.__wrapped__
    for use in (bool, len, list, aiter, lambda service: service == 1, lambda service: service < 1, lambda s: 1 in s):
        with pytest.raises(
            TypeError, match=r"a service cannot be .*: .*no attribute.*called as \.calculator\.<Method>"
        ):
            use(conn.calculator)
    with pytest.raises(TypeError, match="a service cannot be awaited"):
        await conn.calculator
    with pytest.raises(TypeError, match="give the name of a service"):
        conn.services[3]
    for shown in (conn.services, conn.calculator, conn.calculator.Add, conn.calculator.Add(a=1)):
        assert repr(shown).startswith("<")


async def test_a_lost_call_is_not_repeated_unless_it_is_idempotent() -> None:
    """The caller is told that it may have been executed, and decides."""
    peer = Peer()
    async with connection(peer) as conn:
        peer.call_outcomes = ["lost"]
        with pytest.raises(ConnectionLostError) as caught:
            await conn.call("s.M", CallOptions(wait_for_ready=True))
        assert caught.value.maybe_executed
        assert len(peer.calls) == 1


async def test_an_idempotent_call_survives_the_loss_of_its_link() -> None:
    """It waits for the reconnect and is sent again."""
    peer = Peer(delay=1)
    async with connection(peer) as conn:
        peer.call_outcomes = ["lost", "lost", "answer"]
        assert await conn.call("s.M", CallOptions(idempotent=True), a=1) == "answer"
        assert peer.calls == [("s.M", None, {"a": 1})] * 3
        assert peer.opened == 3


async def test_a_request_that_was_provably_not_sent_is_sent_again() -> None:
    """Never having arrived, it cannot be executed twice."""
    peer = Peer()
    async with connection(peer) as conn:
        peer.call_outcomes = ["unsent", "answer"]
        assert await conn.call("s.M", CallOptions(wait_for_ready=True)) == "answer"
        peer.call_outcomes = ["unsent"]
        with pytest.raises(ConnectionLostError):
            await conn.call("s.M")


async def test_a_request_that_is_used_up_is_not_sent_again() -> None:
    """An iterator gives its items once."""
    peer = Peer()
    async with connection(peer) as conn:
        peer.call_outcomes = ["lost"]
        with pytest.raises(ConnectionLostError):
            await conn.call("s.M", iter([1, 2]), CallOptions(idempotent=True))
        assert len(peer.calls) == 1


async def test_a_repeatable_call_in_an_activity_is_not_repeated() -> None:
    """The activity must end before there can be another link to repeat it on."""
    peer = Peer()
    peer.call_outcomes = ["lost"]

    class Patient(Authenticated):
        async def while_authenticating(self) -> str:
            await self.call("auth.Login", CallOptions(idempotent=True, timeout=3))
            return "authenticated"

    conn = Patient(peer, retry=PLAIN)
    await conn.connect()
    assert states(conn) == ["connecting", "authenticating", "reconnecting", "authenticating", "connected"]
    assert len(peer.calls) == 2
    await conn.disconnect()


async def test_a_call_that_cannot_be_repeated_any_more_does_not_deny_that_it_was_sent() -> None:
    """Once it may have been executed, no later failure makes it unsent."""
    for last, options in ((Permanent("gone"), {}), (HANG, {"timeout": 2})):
        peer = Peer()
        conn = connection(peer)
        await conn.connect()
        peer.call_outcomes = ["lost"]
        peer.script = [last]
        with pytest.raises(ConnectionLostError, match="then there was no connection to repeat it on") as caught:
            await conn.call("x.Pay", CallOptions(idempotent=True, **options))
        assert caught.value.maybe_executed
        await conn.disconnect()


async def test_the_time_spent_waiting_is_taken_from_the_calls_own() -> None:
    """The link is told what is left of the timeout."""
    peer = Peer(delay=3)
    conn = connection(peer)
    waiting = asyncio.create_task(conn.connect())
    call = asyncio.create_task(conn.call("s.M", CallOptions(wait_for_ready=True, timeout=10)))
    await asyncio.gather(waiting, call)
    assert peer.options == [CallOptions(wait_for_ready=True, timeout=7)]
    await conn.disconnect()


async def test_a_stream_waits_for_the_connection_when_it_is_asked_to() -> None:
    """Before it is sent; and not beyond its timeout."""
    conn, peer = await in_state("connecting")
    with pytest.raises(CallTimeoutError, match=r"s\.M waited 3 s for a connection"):
        await anext(conn.stream("s.M", CallOptions(wait_for_ready=True, timeout=3)))
    task = asyncio.create_task(collected(conn.stream("s.M", CallOptions(wait_for_ready=True))))
    await asyncio.sleep(1)
    await conn.disconnect()
    with pytest.raises(NotConnectedError):
        await task
    task = asyncio.create_task(collected(conn.stream("s.M", CallOptions(wait_for_ready=True))))
    peer.script = []
    connecting = asyncio.create_task(conn.connect())
    with pytest.raises(NotConnectedError):
        await task
    assert await collected(conn.stream("s.M", CallOptions(wait_for_ready=True))) == [1, 2, 3]
    await connecting
    await conn.disconnect()


@pytest.mark.parametrize("options", [(), (CallOptions(),), (CallOptions(wait_for_ready=True),)])
async def test_a_stream_is_sent_as_it_was_asked_for(options: tuple[CallOptions, ...]) -> None:
    """With its method, its request and its fields, whether or not it may wait."""
    conn, peer = await in_state("connected")
    assert await collected(conn.stream("s.M", *options, n=1)) == [1, 2, 3]
    assert await collected(conn.stream("s.M", {"a": 2}, *options)) == [1, 2, 3]
    assert peer.streams == [("s.M", None, {"n": 1}), ("s.M", {"a": 2}, {})]
    await conn.disconnect()


async def collected(stream: Any) -> list[Any]:
    return [item async for item in stream]


async def test_an_open_waits_for_its_admission_without_using_up_its_time() -> None:
    """start_timeout begins when the link is let in."""
    begin = now()

    class Queue(type(Peer()())):  # type: ignore[misc]
        @contextlib.asynccontextmanager
        async def start_slot(self) -> Any:
            await asyncio.sleep(100)
            yield

    peer = Peer()
    conn = connection(lambda: Queue(peer), start_timeout=1)
    await conn.connect()
    assert now() - begin == 100
    await conn.disconnect()


async def test_an_application_error_is_never_repeated() -> None:
    """What the peer answers arrives as it is, once."""
    peer = Peer()
    async with connection(peer) as conn:
        peer.call_outcomes = [ZeroDivisionError()]
        with pytest.raises(ZeroDivisionError):
            await conn.call("s.M", CallOptions(idempotent=True))
        assert len(peer.calls) == 1


async def test_the_timeout_of_a_call_covers_the_wait_for_a_connection() -> None:
    """A deadline over everything, with an error that says where the time went."""
    conn, _ = await in_state("reconnecting")
    begin = now()
    with pytest.raises(
        CallTimeoutError,
        match=r"s.M waited 3 s for a connection, which is its timeout; the last error was: the peer went away",
    ):
        await conn.call("s.M", CallOptions(wait_for_ready=True, timeout=3))
    assert now() - begin == 3
    await conn.disconnect()


async def test_a_waiting_call_is_told_when_the_connection_fails() -> None:
    """It does not wait out its timeout when there is nothing to wait for."""
    peer = Peer(delay=1)
    conn = connection(peer)
    await conn.connect()
    peer.then = Permanent("gone for good")
    peer.lose()
    await conn.wait_for_state("reconnecting")
    with pytest.raises(NotConnectedError, match=r"in state 'failed' \(gone for good\)"):
        await conn.call("s.M", CallOptions(idempotent=True, timeout=1000))
    await conn.disconnect()


# --- probes -----------------------------------------------------------------------------------------------------


async def test_probes_in_a_row_decide() -> None:
    """Two failures are noted, a success forgets them, three in a row count as a lost link."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    peer.probe_outcomes = ["bad", "bad", None, "bad", HANG]
    for expected in (ProbeError, ProbeError, None, ProbeError, ProbeError):
        if expected is None:
            assert await conn.probe() == 0
        else:
            with pytest.raises(expected):
                await conn.probe(timeout=2)
        assert conn.state is S.CONNECTED
    assert [record.internal for record in conn.history[2:]] == [True] * 5
    peer.probe_outcomes = ["bad"]
    with pytest.raises(ProbeError, match="bad"):
        await conn.probe()
    assert conn.state is S.RECONNECTING
    await conn.ensure_connected()
    assert (peer.opened, peer.closed) == (2, 1)
    await conn.disconnect()


async def test_enough_failed_probes_end_in_failed_when_no_retry_is_allowed() -> None:
    """The table's second alternative."""
    peer = Peer()
    conn = connection(peer, retry=RetryPolicy(max_attempts=1))
    conn.health = HealthPolicy(interval=None, failure_threshold=1)
    await conn.connect()
    peer.probe_outcomes = ["bad"]
    with pytest.raises(ProbeError):
        await conn.probe()
    await asyncio.sleep(1)
    assert (conn.state, peer.open_now) == (S.FAILED, 0)
    await conn.disconnect()


async def test_a_late_probe_says_nothing_about_the_next_link() -> None:
    """A probe of a link that was replaced meanwhile fires nothing."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    peer.probe_outcomes = [HANG]
    probe = asyncio.create_task(conn.probe(timeout=10))
    await asyncio.sleep(1)
    await conn.reconnect()
    with pytest.raises(ProbeError):
        await probe
    assert conn.history[-1].trigger == Trigger.OPENED
    await conn.disconnect()


# --- subclasses -------------------------------------------------------------------------------------------------


class Authenticated(Connection):
    states, transitions = insert_state(
        Connection, "authenticating", trigger="opened", before="connected", then="authenticated", like="connecting"
    )

    async def while_authenticating(self) -> str:
        await self.call("auth.Login", token="t")
        return "authenticated"


async def test_an_inserted_state_is_lived_through_after_every_open() -> None:
    """Its activity may call; others may not until it is over."""
    peer = Peer()
    conn = Authenticated(peer, retry=PLAIN)
    refused: list[Any] = []
    call = conn.stub(lambda channel: channel.unary_unary("/s/M"))

    def too_early(old: Any, new: Any) -> None:
        refused.append(call())

    conn.on_state_change("authenticating", too_early)
    await conn.connect()
    peer.lose()
    await conn.wait_for_state("reconnecting")
    await conn.ensure_connected()
    assert states(conn) == ["connecting", "authenticating", "connected", "reconnecting", "authenticating", "connected"]
    assert [call[0] for call in peer.calls] == ["auth.Login"] * 2
    assert len(refused) == 2
    for each in refused:
        with pytest.raises(NotConnectedError, match="authenticating"):
            await each
    await conn.disconnect()
    nothing_is_left(conn, peer)


async def test_a_failure_in_an_inserted_state_is_retried_as_an_open_is() -> None:
    """The link is given back, and the next attempt begins with a new one."""
    peer = Peer()
    peer.call_outcomes = [LinkError("not yet"), "welcome"]
    conn = Authenticated(peer, retry=PLAIN)
    await conn.connect()
    assert states(conn) == ["connecting", "authenticating", "reconnecting", "authenticating", "connected"]
    assert (peer.opened, peer.closed) == (2, 1)
    await conn.disconnect()


# --- cost -------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_gc() -> Iterator[None]:
    """What is freed in the test is freed by reference counting."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_connections_are_freed_by_reference_counting_alone(no_gc: None) -> None:
    """New ones, ones that have lived, and ones that have failed: no garbage collector needed."""
    fresh = connection(Peer())
    lived = connection(Peer(TRANSIENT))
    await lived.connect()
    await lived.disconnect()
    failed = connection(Peer(then=HANG), start_timeout=1)
    await swallow(failed.connect())
    await asyncio.sleep(1)
    references = [weakref.ref(conn) for conn in (fresh, lived, failed)]
    del fresh, lived, failed
    assert [reference() for reference in references] == [None] * 3


async def test_a_cancelled_attempt_holds_nothing(no_gc: None) -> None:
    """Its link is freed without the garbage collector: a real one holds a channel, and with it descriptors."""
    peer = Peer(then=HANG)
    conn = connection(peer)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await conn.connect()
    reference = weakref.ref(peer.made.pop())
    await asyncio.sleep(1)
    assert reference() is None


async def test_jitter_comes_from_the_injected_source() -> None:
    """The same seed gives the same life."""

    async def life(seed: int) -> list[float]:
        peer = Peer(then=TRANSIENT)
        conn = Connection(peer, retry=RetryPolicy(max_attempts=6, jitter="full"), rng=random.Random(seed))
        await swallow(conn.connect())
        return [time - peer.open_times[0] for time in peer.open_times]

    assert [round(x, 6) for x in await life(1)] == [round(x, 6) for x in await life(1)]
    assert await life(1) != await life(2)


# --- a subclass with a state on the way to disconnecting ------------------------------------------------------


class Draining(Connection):
    """Takes its leave before it closes its link."""

    states = (*Connection.states, LinkState("draining", on_error="drained"))
    transitions = (
        Transition("disconnect", "connected", "draining"),
        *(
            attrs.evolve(row, source=others("disconnected", "disconnecting", "connected", "draining"))
            if row.trigger == "disconnect"
            else row
            for row in Connection.transitions
        ),
        Transition("drained", "draining", "disconnecting"),
    )

    async def while_draining(self) -> str:
        await asyncio.sleep(0.1)
        return "drained"


def test_a_state_on_the_way_to_disconnecting_is_not_where_the_end_of_the_loop_leaves_it() -> None:
    """It comes to rest, and can be connected in another loop."""
    peer, conns = Peer(), []

    async def connect_and_leave() -> None:
        conns.append(Draining(peer))
        await conns[0].connect()

    async def connect_again() -> None:
        async with asyncio.timeout(1), conns[0]:
            assert conns[0].state is S.CONNECTED

    run_virtually(connect_and_leave())
    assert (conns[0].state, peer.open_now) == (S.DISCONNECTED, 0)
    run_virtually(connect_again())
    assert (conns[0].state, peer.open_now) == (S.DISCONNECTED, 0)


async def test_a_group_of_errors_is_kept_without_their_tracebacks() -> None:
    """They hold the frames of what was tried, and all that is in them."""

    async def refuse() -> None:
        raise OSError("refused")

    def make() -> Any:
        link = Peer()()

        async def open_() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(refuse())

        link.open = open_  # type: ignore[method-assign]
        return link

    conn = Connection(make, retry=RetryPolicy(max_attempts=1), name="plug")
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    reason = conn.reason
    assert isinstance(reason, ExceptionGroup)
    assert [error.__traceback__ for error in (reason, *reason.exceptions)] == [None, None]


async def test_a_reason_that_is_no_exception_is_refused() -> None:
    """Before anything is changed: it would be the cause of what callers are told later."""
    conn = Connection(Peer(), name="plug")
    await conn.connect()
    wrong: Any = "the network is down"
    with pytest.raises(TypeError, match=r"fire\('lost', 'the network is down'\): give an exception"):
        conn.fire("lost", wrong)
    assert (conn.state, conn.reason) == (S.CONNECTED, None)
    await conn.disconnect()

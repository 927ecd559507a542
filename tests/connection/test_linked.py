"""The guards and effects of a connection, each alone: what they read, and what they count."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
from peer import HANG, TRANSIENT, Peer, Permanent

from fsm_conn import (
    Connection,
    ConnectionState,
    HealthPolicy,
    HealthStatus,
    LinkError,
    LinkLostError,
    RetryPolicy,
    StateMachine,
)
from fsm_conn.connection.options import shared_rng
from fsm_conn.links.errors import ProbeError, ProbeTimeoutError, StartTimeoutError

PLAIN = RetryPolicy(
    max_attempts=2, initial_delay=2.0, jitter="none", stable_after=10.0, max_restarts=1, restart_window=60.0
)


class Conclusive(ProbeError):
    conclusive = True


def now() -> float:
    return asyncio.get_running_loop().time()


def connection(kind: Callable[..., Any] = Connection, retry: RetryPolicy = PLAIN, **options: Any) -> Any:
    return kind(Peer(), retry=retry, name="plug", **options)


async def up_for(conn: Any, seconds: float) -> None:
    conn._holder.up_since = now()
    await asyncio.sleep(seconds)


# --- guards ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [None, TRANSIENT, OSError("refused"), Permanent("wrong key")])
async def test_attempts_are_made_until_there_were_enough(reason: BaseException | None) -> None:
    """None at all after a permanent error; and as many again when a link has been stable."""
    conn = connection()
    may = not isinstance(reason, Permanent)
    await asyncio.sleep(5)
    for _ in range(2):
        assert conn.may_retry(reason) is may
        conn.count_attempt(reason)
    assert not conn.may_retry(reason)
    await up_for(conn, 9.9)
    assert not conn.may_retry(reason)
    await asyncio.sleep(0.1)
    assert conn.may_retry(reason) is may


async def test_attempts_are_made_until_the_deadline() -> None:
    """Which runs from the beginning of the outage."""
    conn = connection(retry=RetryPolicy(max_attempts=None, initial_delay=0.0, jitter="none", deadline=10.0))
    await asyncio.sleep(50)
    for begin in (conn.begin_outage, conn.begin_outage):
        begin(None)
        conn.count_attempt(None)
        await asyncio.sleep(9)
        assert conn.may_retry(None)
        assert conn._time_left() == 1.0
        await asyncio.sleep(1)
        with pytest.raises(StartTimeoutError):
            conn._time_left()
        await asyncio.sleep(0.1)
        assert not conn.may_retry(None)


async def test_a_lost_link_is_replaced_as_often_as_the_policy_says() -> None:
    """Within its window, and anew when a caller asks."""
    conn = connection()
    assert conn.may_restart(None)
    conn.note_loss(None)
    assert not conn.may_restart(None)
    await asyncio.sleep(60)
    assert conn.may_restart(None)
    conn.note_loss(None)
    conn.forget_losses(None)
    assert conn.may_restart(None)


@pytest.mark.parametrize(
    ("cause", "may"),
    [
        (None, True),
        (TRANSIENT, True),
        (OSError("refused"), True),
        (Permanent("wrong key"), False),
        (KeyError("x"), False),
    ],
)
@pytest.mark.parametrize(
    ("recover_after", "unused", "is_used", "plans"),
    [(None, True, True, False), (5.0, True, False, True), (5.0, False, True, True), (5.0, False, False, False)],
)
async def test_it_comes_back_from_what_may_pass(
    cause: BaseException | None, may: bool, recover_after: float | None, unused: bool, is_used: bool, plans: bool
) -> None:
    """If the policy plans that, and somebody uses the connection, or it need not be used."""
    conn = connection(retry=RetryPolicy(recover_after=recover_after, recover_unused=unused))
    conn._demand.is_used = is_used
    conn._entry_reason = cause
    assert conn.may_recover(None) is (plans and may)


async def test_failed_probes_in_a_row_are_counted() -> None:
    """From the beginning again after one that passed; a conclusive one is enough."""
    conn = connection(health=HealthPolicy(interval=None, failure_threshold=3))
    for _ in range(2):
        for number in range(3):
            for reason in (ProbeTimeoutError("late"), OSError("of another kind"), None):
                assert conn.is_unhealthy(reason) is (number == 2)
            assert conn.is_unhealthy(Conclusive("it says so"))
            assert conn._probes.failed == number
            conn.note_failed_probe(None)
        conn.forget_probes(None)
        assert conn._probes.failed == 0


async def test_probes_that_fail_together_count_once() -> None:
    """Each time; and what they raised keeps no frames alive."""
    peer = Peer()
    conn = Connection(peer, health=HealthPolicy(interval=None, failure_threshold=9))
    await conn.connect()
    for number in (1, 2, 3):
        peer.probe_outcomes = [HANG] * 2
        await asyncio.gather(*(conn._probe(peer.link, 1.0) for _ in range(2)))
        assert (conn._probes.failed, conn._probes.status) == (number, HealthStatus.NO_ANSWER)
    peer.probe_outcomes = ["it is ill"]
    failure = await conn._probe(peer.link, 1.0)
    assert (str(failure), failure.__traceback__) == ("it is ill", None)
    assert (conn._probes.failed, conn._probes.status) == (4, HealthStatus.NOT_SERVING)
    await conn._probe(peer.link, 1.0)
    assert (conn._probes.failed, conn._probes.status) == (0, HealthStatus.SERVING)
    await conn.disconnect()


# --- effects --------------------------------------------------------------------------------------------------------------


async def test_an_outage_begins_with_no_attempt() -> None:
    conn = connection()
    await asyncio.sleep(5)
    conn.count_attempt(None)
    conn.count_attempt(None)
    assert conn.attempt == 2
    for begin, is_half_open in ((conn.begin_half_open, True), (conn.begin_outage, False)):
        begin(None)
        outage = conn._outage
        assert (outage.since, outage.is_half_open, outage.attempts, conn.attempt) == (5.0, is_half_open, 0, 0)
        assert conn.may_retry(None) is not is_half_open


async def test_after_a_careful_attempt_the_connection_is_wanted() -> None:
    conn = connection()
    conn.begin_outage(None)
    assert not conn._demand.is_used
    conn.begin_half_open(None)
    assert conn._demand.is_used is True


async def test_attempts_after_a_stable_link_are_counted_from_one() -> None:
    """And whoever overrides the beginning of an outage learns why."""

    class Told(Connection):
        def begin_outage(self, reason: BaseException | None) -> None:
            super().begin_outage(reason)
            reasons.append(reason)

    reasons: list[Any] = []
    conn = connection(Told)
    assert [conn.count_attempt(TRANSIENT) or conn.attempt for _ in range(3)] == [1, 2, 3]
    await up_for(conn, 10)
    conn.count_attempt(TRANSIENT)
    assert (conn.attempt, reasons, conn._outage.since) == (1, [TRANSIENT], 10.0)


async def test_pauses_are_drawn_from_the_source_that_is_given() -> None:
    """Or from the one that all share."""
    policy = RetryPolicy(initial_delay=2.0, jitter="full")
    conn = connection(retry=policy, rng=random.Random(3))
    conn.count_attempt(None)
    assert conn._outage.next_pause == policy.delay(1, 0.0, random.Random(3))
    assert conn._random() is conn._random() is not shared_rng()
    assert connection()._random() is shared_rng()


async def test_the_first_link_of_an_outage_is_counted() -> None:
    conn = connection()
    conn.count_attempt(None)
    assert conn._outage.next_pause == 2.0
    conn.note_opened(None)
    assert (conn._outage.opened, conn._outage.next_pause) == (1, 0.0)


async def test_a_peer_that_does_not_answer_is_not_waited_for() -> None:
    """When its link is closed; one that says that it is ill is."""
    peer = Peer()
    conn = Connection(peer)
    conn.mark_unresponsive(ProbeTimeoutError("late"))
    await conn.connect()
    conn.mark_unresponsive(None)
    conn.mark_unresponsive(LinkError("ill"))
    assert peer.condemned == 0
    conn.mark_unresponsive(ProbeTimeoutError("late"))
    assert peer.condemned == 1
    await conn.disconnect()


async def test_a_link_that_is_lost_for_no_known_reason_is_lost_all_the_same() -> None:
    """What its kind says is told as the cause."""
    peer = Peer()
    conn = Connection(peer)
    await conn.connect()
    cause = KeyError("x")
    peer.lose(cause)
    await conn.wait_for_state(ConnectionState.RECONNECTING)
    assert isinstance(conn.reason, LinkLostError)
    assert (str(conn.reason), conn.reason.__cause__) == ("the link was lost: KeyError: 'x'", cause)
    await conn.disconnect()


async def test_a_class_of_ones_own_prepares_its_links(caplog: pytest.LogCaptureFixture) -> None:
    """When the peer is ready, as the log tells."""
    caplog.set_level(logging.INFO, "fsm_conn")
    prepared: list[float] = []

    class Prepared(Connection):
        async def on_open(self) -> None:
            prepared.append(now())

    peer = Peer()
    peer.probe_outcomes = ["it is warming up"]
    conn = Prepared(peer, name="plug", health=HealthPolicy(interval=None, ready_timeout=5.0))
    await conn.connect()
    assert len(prepared) == 1
    assert prepared[0] > 0
    assert "plug: not ready yet (it is warming up): waiting for 5 s at most (ready_timeout)" in caplog.messages
    await conn.disconnect()


# --- what it remembers, and what others may ask ---------------------------------------------------------------------------


async def test_two_moments_that_differ_in_anything_remembered_are_two() -> None:
    """Each of these tells one moment from the other."""
    health = HealthPolicy(interval=50.0, timeout=5.0)
    conn = connection(health=health)
    memory = conn.memory(0.0)
    assert (memory.attempt, memory.attempts, memory.failed_probes, memory.is_used) == (0, 0, 0, False)
    assert (memory.up_for, memory.time_left, memory.losses) == (None, None, ())
    assert (conn.retry, conn.health) == (PLAIN, health)
    conn.count_attempt(None)
    conn.attempt = 7
    conn.note_loss(None)
    conn.note_failed_probe(None)
    conn._demand.is_used = True
    await up_for(conn, 4)
    memory = conn.memory(now())
    assert (memory.attempt, memory.attempts, memory.next_pause) == (7, 1, 2.0)
    assert (memory.losses, memory.failed_probes, memory.is_used, memory.up_for) == ((4.0,), 1, True, 4.0)
    assert (memory.silent_for, conn.memory(now() + 99).silent_for, conn.memory(now() + 99).up_for) == (4.0, 65.0, 10.0)


async def test_a_connection_tells_since_when_it_is_up_and_why_it_is_not() -> None:
    peer = Peer()
    conn = Connection(peer)
    assert conn.health_status is HealthStatus.UNKNOWN
    await asyncio.sleep(3)
    await conn.connect()
    assert (conn._holder.up_since, conn._entry_reason) == (3.0, None)
    conn._probes.status = HealthStatus.SERVING
    assert conn.health_status is HealthStatus.SERVING
    peer.then = Permanent("wrong key")
    peer.lose(LinkError("gone"))
    await conn.wait_for_state(ConnectionState.FAILED)
    assert (conn._holder.up_since, str(conn._entry_reason)) == (None, "wrong key")
    assert conn.health_status is HealthStatus.UNKNOWN
    await conn.disconnect()


async def test_connect_waits_for_a_state_that_serves_or_rests() -> None:
    conn = connection()
    assert conn._settled() == {"connected", "disconnected", "disconnecting", "failed"}
    assert (conn.serving_states, conn.linked_states) == ({"connected"}, {"connected", "renewing"})


def test_a_dataclass_in_the_place_of_a_connection_is_told_the_remedy() -> None:
    conn = object.__new__(Connection)
    assert isinstance(conn, StateMachine)
    for method in (conn.__post_init__, conn.__attrs_post_init__):
        with pytest.raises(TypeError) as told:
            method()
        assert str(told.value) == (
            "Connection: a dataclass or attrs has replaced the __init__ of a connection, which then has no target; "
            "write an __init__, or a __post_init__ (of attrs: __attrs_post_init__) that calls "
            "Connection.__init__(self, target)"
        )

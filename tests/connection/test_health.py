"""Health: when a peer is asked, what its answers lead to, and that asking is cheap. In virtual time."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import HANG, Peer, PeerLink

from fsm_conn import (
    CallOptions,
    CallOutcome,
    CallRecord,
    Connection,
    ConnectionLostError,
    ConnectionState,
    HealthPolicy,
    HealthStatus,
    LinkError,
    LinkLostError,
    NotConnectedError,
    NotServingError,
    ProbeError,
    ProbeTimeoutError,
    RequestError,
    RetryPolicy,
)
from fsm_conn.testing import run_virtually

S = ConnectionState
STEADY = HealthPolicy(interval=10, timeout=2, failure_threshold=2, jitter=0)
RETRY = RetryPolicy(jitter="none")


def now() -> float:
    return asyncio.get_running_loop().time()


def connection(peer: Peer, health: HealthPolicy = STEADY, **options: Any) -> Connection:
    return Connection(peer, **{"retry": RETRY, "name": "plug", "health": health, **options})


def asked(peer: Peer, since: float) -> list[float]:
    return [at - since for at, _ in peer.probes]


# --- when ------------------------------------------------------------------------------------------------------


async def test_a_peer_is_asked_at_the_interval_and_only_while_connected() -> None:
    """The first time an interval after the link came up; never after it was left."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    since = now()
    await asyncio.sleep(35)
    assert asked(peer, since) == [10, 20, 30]
    assert conn.health_status is HealthStatus.SERVING
    await conn.disconnect()
    await asyncio.sleep(100)
    assert len(peer.probes) == 3
    assert conn.health_status is HealthStatus.UNKNOWN
    assert len(asyncio.all_tasks()) == 1


async def test_without_a_policy_nobody_is_asked() -> None:
    """The link alone is watched."""
    peer = Peer()
    async with Connection(peer):
        await asyncio.sleep(1000)
    assert peer.probes == []


async def test_there_is_one_probe_loop_after_any_number_of_reconnects() -> None:
    """The loop of the old link ends with it, and that of the new one begins with it."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    for _ in range(5):
        peer.lose()
        await conn.wait_for_state(S.RECONNECTING)
        await conn.wait_for_state(S.CONNECTED)
        await asyncio.sleep(11)
    peer.probes.clear()
    since = now()
    await asyncio.sleep(100)
    assert len(asked(peer, since)) == 10
    await conn.disconnect()


async def test_a_call_that_succeeds_is_a_sign_of_life() -> None:
    """While calls come more often than the interval nobody is asked; when they stop, after an interval."""
    peer = Peer()
    conn = connection(peer)
    await conn.connect()
    for _ in range(20):
        await asyncio.sleep(6)
        await conn.call("x.Y")
    assert peer.probes == []
    since = now()
    await asyncio.sleep(11)
    assert asked(peer, since) == [10]
    await conn.disconnect()


async def test_a_call_that_fails_is_no_sign_of_life() -> None:
    """Nor is one when the policy says so."""
    for policy, outcome in ((STEADY, ValueError("no")), (HealthPolicy(interval=10, jitter=0, skip_when_busy=False), 1)):
        peer = Peer()
        conn = connection(peer, policy)
        await conn.connect()
        since = now()
        for _ in range(4):
            await asyncio.sleep(4)
            peer.call_outcomes = [outcome]
            if isinstance(outcome, ValueError):
                with pytest.raises(ValueError, match="no"):
                    await conn.call("x.Y")
            else:
                await conn.call("x.Y")
        assert asked(peer, since) == [10]
        await conn.disconnect()


async def test_a_probe_by_hand_does_not_stand_in_for_those_at_the_interval() -> None:
    """However long it waits, the peer is watched meanwhile."""
    peer = Peer()
    peer.probe_outcomes = [HANG]
    conn = connection(peer, HealthPolicy(interval=1, timeout=5, failure_threshold=5, jitter=0))
    await conn.connect()
    since = now()
    by_hand = asyncio.create_task(conn.probe(timeout=7.5))
    await asyncio.sleep(3.5)
    assert asked(peer, since) == [0, 1, 2, 3]
    with pytest.raises(ProbeTimeoutError, match=r"plug: no answer to a health probe within 7\.5 s"):
        await by_hand
    await conn.disconnect()


async def test_a_probe_by_hand_without_an_end_does_not_blind_the_monitor() -> None:
    """A peer that hangs is noticed in time, whoever asks it beside."""
    peer = Peer()
    peer.probe_outcomes = [HANG, HANG]
    conn = connection(peer, HealthPolicy(interval=1, timeout=1, failure_threshold=1, jitter=0))
    await conn.connect()
    since = now()
    by_hand = asyncio.create_task(conn.probe(timeout=1000))
    await conn.wait_for_state(S.RECONNECTING)
    assert now() - since == 2
    by_hand.cancel()
    await conn.disconnect()


async def test_news_during_a_probe_by_hand_are_not_lost() -> None:
    """They are checked at once, as ever."""
    peer = Peer()
    peer.announcements = asyncio.Queue()
    peer.probe_outcomes = [HANG]
    conn = connection(peer, HealthPolicy(interval=100, jitter=0))
    await conn.connect()
    since = now()
    by_hand = asyncio.create_task(conn.probe(timeout=2))
    await asyncio.sleep(1)
    peer.announcements.put_nowait(False)
    await asyncio.sleep(20)
    assert asked(peer, since) == [0, 1]
    with pytest.raises(ProbeTimeoutError):
        await by_hand
    await conn.disconnect()


async def test_the_shortest_interval_leaves_the_loop_to_others() -> None:
    """Though its probes take no time at all, and its pauses, by jitter, hardly any."""
    peer = Peer()
    conn = connection(peer, HealthPolicy(interval=0.01, jitter=1))
    await conn.connect()
    await asyncio.wait_for(asyncio.sleep(1), timeout=2)
    assert len(peer.probes) >= 100
    await conn.disconnect()


@given(st.floats(0.1, 100), st.floats(0, 1), st.integers())
def test_jitter_only_makes_probes_come_earlier(interval: float, jitter: float, seed: int) -> None:
    """So the promise of `interval + timeout` holds whatever the jitter."""
    policy = HealthPolicy(interval=interval, jitter=jitter)
    assert interval * (1 - jitter) <= policy.pause(random.Random(seed)) <= interval


# --- what follows ----------------------------------------------------------------------------------------------


async def test_a_peer_that_hangs_is_given_up_and_its_link_condemned() -> None:
    """After as many failures as the policy says, each within interval + timeout of the last sign of life."""
    peer = Peer()
    peer.probe_outcomes = [HANG, HANG]
    conn = connection(peer)
    await conn.connect()
    since = now()
    await conn.wait_for_state(S.RECONNECTING)
    assert now() - since == 2 * (10 + 2)
    assert peer.condemned == 1
    await conn.wait_for_state(S.CONNECTED)
    assert (peer.opened, peer.closed) == (2, 1)
    first, second = (record for record in conn.history if record.trigger == "probe_failed")
    assert (first.internal, second.internal) == (True, False)
    assert isinstance(second.reason, ProbeTimeoutError)
    assert isinstance(second.reason, TimeoutError)
    assert conn.health_status is HealthStatus.UNKNOWN
    await conn.disconnect()


async def test_the_reasons_can_be_told_apart() -> None:
    """NOT_SERVING, no answer, and a lost link are three things; only a peer that hangs is condemned."""
    peer = Peer()
    peer.probe_outcomes = ["NOT_SERVING"]
    conn = connection(peer, HealthPolicy(interval=1, failure_threshold=1))
    await conn.connect()
    await conn.wait_for_state(S.RECONNECTING)
    await conn.wait_for_state(S.CONNECTED)
    peer.lose()
    await conn.wait_for_state(S.RECONNECTING)
    reasons = [type(record.reason) for record in conn.history if record.dest == S.RECONNECTING]
    assert reasons == [NotServingError, LinkLostError]
    assert peer.condemned == 0
    await conn.disconnect()


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("bad", HealthStatus.NOT_SERVING), (HANG, HealthStatus.NO_ANSWER), (ProbeError("?"), HealthStatus.NO_ANSWER)],
)
async def test_the_status_tells_what_the_last_probe_has_shown(outcome: Any, status: HealthStatus) -> None:
    """And the next one that passes mends it."""
    peer = Peer()
    peer.probe_outcomes = [outcome]
    conn = connection(peer)
    await conn.connect()
    await asyncio.sleep(13)
    assert conn.health_status is status
    await asyncio.sleep(20)
    assert conn.health_status is HealthStatus.SERVING
    await conn.disconnect()


async def test_a_new_link_has_not_been_probed_when_its_observers_are_told() -> None:
    """What the last link has shown says nothing of this one, not even for a moment."""
    peer = Peer()
    conn = connection(peer)
    seen: list[HealthStatus] = []
    conn.on_state_change(S.CONNECTED, lambda old, new: seen.append(conn.health_status))
    await conn.connect()
    await asyncio.sleep(11)
    assert conn.health_status is HealthStatus.SERVING
    peer.lose()
    await conn.wait_for_state(S.RECONNECTING)
    await conn.wait_for_state(S.CONNECTED)
    assert seen == [HealthStatus.UNKNOWN, HealthStatus.UNKNOWN]
    await conn.disconnect()


async def test_a_peer_without_a_health_service_is_watched_by_its_link() -> None:
    """Its probes pass, and the status says what that is worth."""
    peer = Peer()
    peer.has_health = False
    conn = connection(peer)
    await conn.connect()
    await asyncio.sleep(100)
    assert conn.state is S.CONNECTED
    assert conn.health_status is HealthStatus.UNSUPPORTED
    await conn.disconnect()


async def test_news_of_the_peer_are_checked_at_once() -> None:
    """It says that it is unwell, and later that it is well: each is a reason to ask; that all is as before is none."""
    peer = Peer()
    peer.announcements = asyncio.Queue()
    conn = connection(peer, HealthPolicy(interval=100, jitter=0, service="vault.Vault"))
    await conn.connect()
    since = now()
    for at, well in ((1, True), (2, False), (3, False), (5, True), (6, True)):
        await asyncio.sleep(since + at - now())
        peer.announcements.put_nowait(well)
    await asyncio.sleep(0.5)
    assert asked(peer, since) == [2, 3, 5]
    assert {service for _, service in peer.probes} == {"vault.Vault"}
    await asyncio.sleep(200)
    assert asked(peer, since) == [2, 3, 5, 105, 205]
    await conn.disconnect()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(("interval", "least"), [(100, 1), (5, 0.5)])
async def test_a_flood_of_news_is_no_flood_of_probes(interval: float, least: float) -> None:
    """The first is checked at once; those that follow are one, and it waits for the least pause after the last."""
    peer = Peer()
    peer.announcements = asyncio.Queue()
    conn = connection(peer, HealthPolicy(interval=interval, jitter=0))
    await conn.connect()
    since = now()
    for number in range(3 * 64):
        peer.announcements.put_nowait(number % 2 == 1)
        await asyncio.sleep(least / 64)
    await asyncio.sleep(least * 2)
    assert asked(peer, since) == pytest.approx([0, least, 2 * least, 3 * least], abs=1e-6)
    await conn.disconnect()


async def test_a_moment_of_being_unwell_is_not_three_failures() -> None:
    """However often the peer says so meanwhile."""
    peer = Peer()
    peer.announcements = asyncio.Queue()
    peer.probe_outcomes = ["bad"]
    conn = connection(peer, HealthPolicy(interval=100))
    await conn.connect()
    for _ in range(100):
        peer.announcements.put_nowait(False)
        await asyncio.sleep(0.001)
    assert [record.trigger for record in conn.history] == ["connect", "opened", "probe_failed"]
    await asyncio.sleep(5)
    assert (conn.state, peer.opened, conn.health_status) == (S.CONNECTED, 1, HealthStatus.SERVING)
    await conn.disconnect()


class BreaksOff(PeerLink):
    """Its news end with an error."""

    error: Exception

    async def watch(self, service: str = "") -> AsyncIterator[bool]:
        await asyncio.sleep(3)
        raise self.error
        yield True


class Unheard(Peer):
    """Makes links whose news end with `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def __call__(self) -> PeerLink:
        link = BreaksOff(self)
        link.error = self.error
        self.made.append(link)
        return link


@pytest.mark.parametrize("error", [OSError("reset"), LinkError("no such stream"), TimeoutError()])
async def test_news_that_break_off_are_a_reason_to_ask_and_no_loss(error: Exception) -> None:
    """The peer is probed once, at once, and from then on at the interval."""
    peer = Unheard(error)
    conn = connection(peer)
    await conn.connect()
    since = now()
    await asyncio.sleep(24)
    assert asked(peer, since) == [3, 13, 23]
    assert (conn.state, conn.reason) == (S.CONNECTED, None)
    await conn.disconnect()


async def test_a_bug_in_a_link_s_watch_is_a_fault() -> None:
    """It is seen, with its own type."""
    peer = Unheard(ZeroDivisionError("a bug"))
    conn = connection(peer)
    await conn.connect()
    since = now()
    await conn.wait_for_state(S.FAILED)
    assert now() - since == 3
    assert isinstance(conn.reason, ZeroDivisionError)
    await conn.disconnect()


async def test_probes_made_at_one_moment_are_not_failures_in_a_row() -> None:
    """A failed one counts if it began after the last that counted; each of the others is still told of."""
    peer = Peer()
    peer.probe_outcomes = [*[HANG] * 3, "bad", "bad"]
    conn = connection(peer, HealthPolicy(interval=None, failure_threshold=3))
    await conn.connect()
    told = await asyncio.gather(*(conn.probe() for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in told] == [ProbeTimeoutError] * 3
    assert [record.trigger for record in conn.history] == ["connect", "opened", "probe_failed"]
    with pytest.raises(NotServingError):
        await conn.probe()
    assert conn.state is S.CONNECTED
    with pytest.raises(NotServingError):
        await conn.probe()
    assert conn.state is S.RECONNECTING
    await conn.disconnect()


async def test_news_are_not_listened_to_when_the_policy_says_so() -> None:
    """`watch=False`."""
    peer = Peer()
    peer.announcements = asyncio.Queue()
    conn = connection(peer, HealthPolicy(interval=100, watch=False))
    await conn.connect()
    peer.announcements.put_nowait(False)
    await asyncio.sleep(1)
    assert peer.probes == []
    await conn.disconnect()


async def test_a_bug_in_a_link_s_probe_is_a_fault() -> None:
    """It is seen, with its own type, instead of ending the watch in silence."""
    peer = Peer()
    peer.probe_outcomes = [ZeroDivisionError("a bug")]
    conn = connection(peer)
    await conn.connect()
    await conn.wait_for_state(S.FAILED)
    assert isinstance(conn.reason, ZeroDivisionError)
    assert conn.history[-1].trigger == "fault"
    await conn.disconnect()


async def test_the_loss_of_the_link_ends_a_probe_under_way() -> None:
    """Nothing of it is left in the next state, and it says nothing about the next link."""
    peer = Peer()
    peer.probe_outcomes = [HANG]
    conn = connection(peer)
    await conn.connect()
    await asyncio.sleep(11)
    peer.lose()
    await conn.wait_for_state(S.RECONNECTING)
    await asyncio.sleep(5)
    assert [record.trigger for record in conn.history] == ["connect", "opened", "lost", "opened"]
    await conn.disconnect()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"interval": 0}, "interval=0.*finite number of seconds, 0.01 or more"),
        ({"interval": 0.001}, "interval=0.001.*finite number of seconds, 0.01 or more"),
        ({"interval": 10**400}, "interval=<an integer of 1329 bits>.*finite number of seconds, 0.01 or more"),
        ({"interval": "10"}, "interval='10'.*a number of seconds"),
        ({"timeout": -1}, "timeout=-1.*more than zero"),
        ({"timeout": None}, "timeout=None.*a number of seconds"),
        ({"failure_threshold": 0}, "failure_threshold=0.*give 1 or more"),
        ({"failure_threshold": 10**400}, "failure_threshold=<an integer of 1329 bits>.*at most"),
        ({"failure_threshold": 1.5}, "failure_threshold=1.5.*a whole number"),
        ({"jitter": 10**5000}, "jitter=<an integer of 16610 bits>.*a share between 0 and 1"),
        ({"jitter": 2}, "jitter=2.*a share between 0 and 1"),
        ({"jitter": "1"}, "jitter='1'.*a number"),
        ({"service": None}, "service=None.*a string"),
        ({"watch": 1}, "watch=1.*True or False"),
        ({"skip_when_busy": None}, "skip_when_busy=None.*True or False"),
    ],
)
def test_wrong_policies_say_what_to_give(wrong: dict[str, Any], told: str) -> None:
    """Named as they were given."""
    with pytest.raises((TypeError, ValueError), match=rf"HealthPolicy\({told}"):
        HealthPolicy(**wrong)


def test_wrong_options_say_what_to_give() -> None:
    """Of the connection."""
    with pytest.raises(TypeError, match=r"health=30: give a HealthPolicy, such as HealthPolicy\(interval=30\)"):
        Connection(["x"], health=30)  # type: ignore[arg-type]


# --- calls are watched ------------------------------------------------------------------------------------------


async def test_every_call_is_told_of_once_with_how_it_ended() -> None:
    """Answered, refused, lost, cancelled; unary and streams; and what a stream's reader leaves unread."""
    peer = Peer()
    conn = Connection(peer, retry=RETRY)
    calls: list[CallRecord] = []
    stop = conn.on_call(calls.append)
    with pytest.raises(ConnectionError):
        await conn.call("a.NotConnected")
    await conn.connect()
    await conn.call("a.Answered", CallOptions(timeout=3), x=1)
    await conn.services["a"].ByAttribute(x=1)
    peer.call_outcomes = [ValueError("no"), "lost"]
    with pytest.raises(ValueError, match="no"):
        await conn.call("a.Refused")
    with pytest.raises(ConnectionLostError):
        await conn.call("a.Lost")
    await conn.ensure_connected()
    assert [reply async for reply in conn.stream("a.Stream")] == [1, 2, 3]
    replies: Any = conn.stream("a.Dropped")
    async for _ in replies:
        break
    await replies.aclose()
    told = [(call.method, str(call.outcome), type(call.error)) for call in calls]
    assert told == [
        ("a.NotConnected", "failed", type(calls[0].error)),
        ("a.Answered", "succeeded", type(None)),
        ("a.ByAttribute", "succeeded", type(None)),
        ("a.Refused", "failed", ValueError),
        ("a.Lost", "failed", ConnectionLostError),
        ("a.Stream", "succeeded", type(None)),
        ("a.Dropped", "cancelled", GeneratorExit),
    ]
    stop()
    stop()
    await conn.call("a.Unheard")
    assert len(calls) == 7
    await conn.disconnect()


async def test_a_cancelled_call_is_told_of_with_its_duration() -> None:
    """By the loop's clock, waiting for a connection included."""
    peer = Peer(delay=100)
    conn = Connection(peer)
    calls: list[CallRecord] = []
    conn.on_call(calls.append)
    connecting = asyncio.create_task(conn.connect())
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await conn.call("a.B", CallOptions(wait_for_ready=True))
    assert [(call.outcome, call.seconds, call.at) for call in calls] == [(CallOutcome.CANCELLED, 5, now())]
    await conn.disconnect()
    await asyncio.wait({connecting})
    assert connecting.exception() is not None


async def test_an_observer_of_calls_cannot_hurt(caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged and counted; the others are told, and the caller gets the answer."""
    conn = Connection(Peer())
    calls: list[CallRecord] = []

    def broken(record: CallRecord) -> None:
        raise ZeroDivisionError

    conn.on_call(broken)
    conn.on_call(calls.append)
    await conn.connect()
    assert await conn.call("a.B") == "reply"
    assert (len(calls), conn.observer_errors) == (1, 1)
    assert "failed on a call of a.B" in caplog.text
    await conn.disconnect()


@pytest.mark.parametrize("wrong", [None, 1, asyncio.sleep])
def test_an_observer_of_calls_must_be_a_plain_function(wrong: Any) -> None:
    """Nobody would wait for an async one."""
    with pytest.raises(TypeError, match="an observer of calls must be a plain function"):
        Connection(["x"]).on_call(wrong)


async def test_a_stream_that_is_refused_is_told_of_too() -> None:
    """As a call is: not connected, or wrong arguments."""
    conn = Connection(Peer())
    calls: list[CallRecord] = []
    conn.on_call(calls.append)
    with pytest.raises(NotConnectedError):
        await anext(conn.stream("a.B"))
    with pytest.raises(RequestError):
        await anext(conn.stream("a.B", {}, {}))
    assert [(call.method, call.outcome, call.seconds) for call in calls] == [("a.B", CallOutcome.FAILED, 0)] * 2


def test_a_connection_that_was_watched_is_freed_by_reference_counting() -> None:
    """Its monitor leaves no cycle behind."""

    async def life() -> weakref.ref[Connection]:
        conn = connection(Peer())
        await conn.connect()
        await asyncio.sleep(35)
        await conn.disconnect()
        await asyncio.sleep(0)
        return weakref.ref(conn)

    gc.collect()
    gc.disable()
    try:
        assert run_virtually(life())() is None
    finally:
        gc.enable()

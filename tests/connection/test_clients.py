"""The documented clients, in virtual time: the policies that they set and the names that they add."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from peer import HANG, TRANSIENT, Peer

import fsm_conn
from fsm_conn import (
    AutoReconnectClient,
    CallOptions,
    CallTimeoutError,
    ConnectAbandonedError,
    ConnectFailedError,
    Connection,
    ConnectionLostError,
    ConnectionState,
    HealthMonitoredClient,
    HealthPolicy,
    HealthReport,
    HealthStatus,
    Jitter,
    LinkLostError,
    LinkState,
    ManagedConnection,
    NotConnectedError,
    RequestError,
    RetryPolicy,
    StatefulConnection,
    Trigger,
    add_state,
    insert_state,
)
from fsm_conn.testing import lifecycle_test, run_virtually

CLIENTS: list[type[Connection]] = [AutoReconnectClient, HealthMonitoredClient, ManagedConnection, StatefulConnection]
CALLING = [
    (AutoReconnectClient, "call_with_auto_reconnect"),
    (HealthMonitoredClient, "call_with_health_tracking"),
    (ManagedConnection, "call_with_connection_check"),
    (StatefulConnection, "call_method"),
]
CONNECTING = [(cls, name) for cls, name in CALLING if cls in (AutoReconnectClient, ManagedConnection)]
QUICK = RetryPolicy(max_attempts=3, initial_delay=1.0, jitter="none", stable_after=10.0)
S = ConnectionState

TestAutoReconnectClient = lifecycle_test(AutoReconnectClient, max_examples=25, steps=40)
TestHealthMonitoredClient = lifecycle_test(HealthMonitoredClient, max_examples=25, steps=40)
TestManagedConnection = lifecycle_test(ManagedConnection, max_examples=25, steps=40)
TestStatefulConnection = lifecycle_test(StatefulConnection, max_examples=25, steps=40)


def now() -> float:
    return asyncio.get_running_loop().time()


def opens(peer: Peer) -> list[float]:
    return [time - peer.open_times[0] for time in peer.open_times]


# --- what all of them share ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_first_argument_has_its_documented_name_and_all_others_are_those_of_a_connection(client: Any) -> None:
    """An explicit policy included."""
    peer = Peer()
    conn = client(command=peer, retry=QUICK, name="plug", history=3)
    assert (conn.command, conn.retry, conn.name) == (peer, QUICK, "plug")
    with pytest.raises(TypeError, match="retries"):
        client(peer, retries=3)


@pytest.mark.parametrize(("client", "method"), CALLING)
async def test_no_name_of_a_field_collides_with_a_parameter(client: Any, method: str) -> None:
    """A whole request, options and fields go through as they do in `call`."""
    peer = Peer()
    names = ("self", "service_method", "method", "args", "fields", "request", "options", "ready")
    fields: dict[str, Any] = dict.fromkeys(names, 1)
    async with client(peer) as conn:
        assert await getattr(conn, method)("a.B", **fields) == "reply"
        assert await getattr(conn, method)("a.B", {"whole": 1}, CallOptions(timeout=5)) == "reply"
        assert peer.calls == [("a.B", None, fields), ("a.B", {"whole": 1}, {})]
        assert 4.9 < peer.options[1].timeout <= 5  # type: ignore[operator, union-attr]
        with pytest.raises(RequestError, match="at most one whole request"):
            await getattr(conn, method)("a.B", {}, {})


@pytest.mark.parametrize(("client", "method"), CALLING)
async def test_an_application_error_arrives_as_it_is_and_does_not_hurt(client: Any, method: str) -> None:
    """The connection stays, and nothing is sent again, not even when it is idempotent."""
    peer = Peer()
    async with client(peer) as conn:
        peer.call_outcomes = [ValueError("the plugin's answer")]
        with pytest.raises(ValueError, match="the plugin's answer"):
            await getattr(conn, method)("a.B", CallOptions(idempotent=True))
        assert (conn.state, len(peer.calls), peer.opened) == (S.CONNECTED, 1, 1)
        assert await getattr(conn, method)("a.B") == "reply"


@pytest.mark.parametrize(("client", "method"), CALLING)
async def test_every_call_is_told_of_once(client: Any, method: str) -> None:
    """By whichever method it was made; waiting for a connection is part of it."""
    peer = Peer(delay=2)
    conn = client(peer)
    told: list[Any] = []
    conn.on_call(told.append)
    if (client, method) not in CONNECTING:
        await conn.connect()
    await getattr(conn, method)("a.B", n=1)
    waited = 2 if (client, method) in CONNECTING else 0
    assert [(call.method, str(call.outcome), call.seconds) for call in told] == [("a.B", "succeeded", waited)]
    await conn.disconnect()


@pytest.fixture
def no_gc() -> Iterator[None]:
    """What is freed in the test is freed by reference counting."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_and_its_counts_are_freed_by_reference_counting_alone(no_gc: None, client: Any) -> None:
    """A fresh one, and one that has lived."""

    async def main() -> list[weakref.ref[Any]]:
        fresh, lived, peer = client(Peer()), client(Peer()), Peer()
        await lived.connect()
        await lived.call("a.B")
        await lived.disconnect()
        await asyncio.sleep(0)
        del peer
        return [weakref.ref(each) for conn in (fresh, lived) for each in (conn, getattr(conn, "_metrics", conn))]

    assert [reference() for reference in run_virtually(main())] == [None] * 4


# --- ManagedConnection --------------------------------------------------------------------------------------------


async def test_three_attempts_are_made_one_and_two_seconds_apart() -> None:
    """Then it has given up, and says how often it tried; a new connect counts anew."""
    peer = Peer(TRANSIENT, TRANSIENT, TRANSIENT)
    conn = ManagedConnection(peer)
    assert (conn.connected, conn.connection_attempts) == (False, 0)
    seen: list[int] = []
    conn.on_transition(lambda record: seen.append(conn.connection_attempts))
    with pytest.raises(ConnectionError, match="after 3 attempts"):
        await conn.connect()
    assert opens(peer) == [0, 1, 3]
    assert (conn.state, conn.connected, conn.connection_attempts) == (S.FAILED, False, 3)
    await conn.connect()
    assert (conn.connected, conn.connection_attempts) == (True, 0)
    assert seen == [0, 1, 2, 3, 0, 0]
    await conn.disconnect()
    assert (conn.connected, conn.connection_attempts) == (False, 0)


async def test_a_disconnect_while_it_retries_ends_the_outage() -> None:
    """What is at rest has no attempts."""
    conn = ManagedConnection(Peer(then=TRANSIENT))
    connecting = asyncio.ensure_future(conn.connect())
    await asyncio.sleep(2)
    assert conn.connection_attempts == 2
    await conn.disconnect()
    assert conn.connection_attempts == 0
    with pytest.raises(ConnectAbandonedError):
        await connecting


async def test_ensure_connected_costs_nothing_when_connected() -> None:
    """And connects when not."""
    peer = Peer()
    conn = ManagedConnection(peer)
    await conn.ensure_connected()
    await conn.ensure_connected()
    assert (peer.opened, conn.connected) == (1, True)
    await conn.disconnect()


# --- calls that connect: ManagedConnection, AutoReconnectClient ------------------------------------------------------


@pytest.mark.parametrize(("client", "method"), CONNECTING)
async def test_a_call_connects_when_that_is_needed(client: Any, method: str) -> None:
    """At rest, after it has failed, while it is being closed, and while it reconnects."""
    peer = Peer(close_delay=1)
    conn = client(peer, retry=QUICK)
    call = getattr(conn, method)
    assert await call("a.B") == "reply"
    peer.lose()
    await conn.wait_for_state("reconnecting")
    assert await call("a.B") == "reply"
    closing = asyncio.ensure_future(conn.disconnect())
    await conn.wait_for_state("disconnecting")
    assert await call("a.B") == "reply"
    await closing
    await conn.disconnect()
    peer.script = [TRANSIENT] * 3
    with pytest.raises(ConnectFailedError, match="after 3 attempts: try again"):
        await call("a.B")
    assert conn.state is S.FAILED
    assert await call("a.B") == "reply"
    assert len(peer.calls) == 4
    await conn.disconnect()


@pytest.mark.parametrize(("client", "method"), CONNECTING)
async def test_many_calls_at_once_share_one_attempt(client: Any, method: str) -> None:
    """A hundred callers, one link."""
    peer = Peer(delay=1)
    conn = client(peer)
    await asyncio.gather(*(getattr(conn, method)("a.B", n=n) for n in range(100)))
    assert (peer.tried, len(peer.calls)) == (1, 100)
    await conn.disconnect()


@pytest.mark.parametrize(("client", "method"), CONNECTING)
async def test_what_may_have_been_executed_is_repeated_only_when_it_is_idempotent(client: Any, method: str) -> None:
    """And what provably was not sent, always."""
    peer = Peer()
    async with client(peer, retry=QUICK) as conn:
        peer.call_outcomes = ["lost"]
        with pytest.raises(ConnectionLostError) as caught:
            await getattr(conn, method)("a.B", n=1)
        assert caught.value.maybe_executed
        peer.call_outcomes = ["unsent"]
        assert await getattr(conn, method)("a.B", n=2) == "reply"
        peer.call_outcomes = ["lost"]
        assert await getattr(conn, method)("a.B", CallOptions(idempotent=True), n=3) == "reply"
    assert [fields["n"] for _, _, fields in peer.calls] == [1, 2, 2, 3, 3]


@pytest.mark.parametrize(("client", "method"), CONNECTING)
@pytest.mark.parametrize("first", ["connect", "reconnect", "send"])
async def test_the_timeout_is_a_deadline_over_everything(client: Any, method: str, first: str) -> None:
    """Connecting, waiting for a reconnect, and the call, which gets what is left."""
    peer = Peer(delay=2, then=None if first == "send" else HANG)
    conn = client(peer, retry=QUICK, start_timeout=60)
    if first == "reconnect":
        peer.then = None
        await conn.connect()
        peer.then = HANG
        peer.lose()
        await conn.wait_for_state("reconnecting")
    begin = now()
    call = getattr(conn, method)("a.B", CallOptions(timeout=3))
    if first == "send":
        assert await call == "reply"
        assert peer.options[0].timeout == 1  # type: ignore[union-attr]
    else:
        with pytest.raises(CallTimeoutError, match="3 s for a connection"):
            await call
        assert now() - begin == 3
        # What it has begun is left to the policy, for the next call.
        assert conn.state is (S.CONNECTING if first == "connect" else S.RECONNECTING)
    await conn.disconnect()


@pytest.mark.parametrize(("client", "method"), CONNECTING)
async def test_a_repeat_that_finds_no_connection_does_not_deny_that_it_was_sent(client: Any, method: str) -> None:
    """Whether the reconnect fails, is called off, or takes too long."""
    for end in ("fails", "disconnects", "takes too long"):
        peer = Peer(None, then=HANG if end == "takes too long" else TRANSIENT)
        async with client(peer, retry=QUICK, start_timeout=60) as conn:
            peer.call_outcomes = ["lost"]
            call = asyncio.ensure_future(getattr(conn, method)("a.B", CallOptions(idempotent=True, timeout=30)))
            await asyncio.sleep(0.5)
            if end == "disconnects":
                await conn.disconnect()
            with pytest.raises(ConnectionLostError, match="no connection to repeat it on") as caught:
                await call
            assert caught.value.maybe_executed


@pytest.mark.parametrize(("client", "method"), CONNECTING)
async def test_disconnect_has_the_last_word_over_a_call_that_waits(client: Any, method: str) -> None:
    """It is told, and nothing connects again."""
    conn = client(Peer(then=HANG), start_timeout=60)
    call = asyncio.ensure_future(getattr(conn, method)("a.B"))
    await conn.wait_for_state("connecting")
    await conn.disconnect()
    with pytest.raises(ConnectAbandonedError):
        await call
    assert conn.state is S.DISCONNECTED


@pytest.mark.parametrize(("client", "method"), CONNECTING)
async def test_a_cancelled_call_abandons_the_attempt_that_only_it_waits_for(client: Any, method: str) -> None:
    """As a cancelled connect() does."""
    peer = Peer(then=HANG)
    conn = client(peer, start_timeout=60)
    call = asyncio.ensure_future(getattr(conn, method)("a.B"))
    await conn.wait_for_state("connecting")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (conn.state, peer.open_now, peer.calls) == (S.DISCONNECTED, 0, [])


@pytest.mark.parametrize(("client", "method"), CONNECTING)
async def test_an_activity_of_a_subclass_calls_over_the_link_it_has(client: Any, method: str) -> None:
    """It must not wait for the connection of which it is a part."""

    class Inserted(client):
        states, transitions = insert_state(
            client, "greeting", trigger=Trigger.OPENED, before=S.CONNECTED, then="greeted", like=S.CONNECTING
        )

        async def while_greeting(self) -> str:
            assert await getattr(self, method)("a.Hello") == "reply"
            return "greeted"

    async with Inserted(Peer()) as conn:
        assert conn.state is S.CONNECTED


# --- AutoReconnectClient ------------------------------------------------------------------------------------------


SETTINGS = [
    ("max_reconnect_attempts", 5, 8, {"max_attempts": 9}),
    ("max_reconnect_attempts", 5, None, {"max_attempts": None}),
    ("max_reconnect_attempts", 5, 0, {"max_attempts": 1}),
    ("base_reconnect_delay", 1.0, 0.5, {"initial_delay": 0.5}),
    ("max_reconnect_delay", 60.0, 3, {"max_delay": 3}),
    ("reconnect_backoff_factor", 2.0, 1.5, {"multiplier": 1.5}),
    ("jitter_enabled", True, False, {"jitter": Jitter.NONE}),
]


@pytest.mark.parametrize(("name", "default", "other", "fields"), SETTINGS)
def test_the_five_settings_are_views_of_the_policy(name: str, default: Any, other: Any, fields: dict[str, Any]) -> None:
    """With the documented defaults; an assignment changes the policy of one client, and the policy the setting."""
    client = AutoReconnectClient(Peer())
    assert getattr(client, name) == default
    setattr(client, name, other)
    assert getattr(client, name) == other
    [(field, value)] = fields.items()
    assert getattr(client.retry, field) == value
    assert getattr(AutoReconnectClient(Peer()), name) == default
    assert getattr(AutoReconnectClient(Peer(), retry=client.retry), name) == other


def test_a_setting_that_nobody_can_read_is_refused_by_its_size() -> None:
    """Python refuses to write it."""
    client = AutoReconnectClient(Peer())
    with pytest.raises(ValueError, match="max_reconnect_attempts = <an integer of 16610 bits>: give at most"):
        client.max_reconnect_attempts = 10**5000


@pytest.mark.parametrize(
    ("name", "value", "error", "remedy"),
    [
        ("max_reconnect_attempts", -1, ValueError, "give 0 or more"),
        ("max_reconnect_attempts", True, TypeError, "give a whole number, or None for no limit"),
        ("max_reconnect_attempts", "5", TypeError, "give a whole number, or None for no limit"),
        ("base_reconnect_delay", -1, ValueError, "give a finite number of seconds, zero or more"),
        ("base_reconnect_delay", "a: b", TypeError, "give a number of seconds"),
        ("max_reconnect_delay", float("inf"), ValueError, "give a finite number of seconds, zero or more"),
        ("reconnect_backoff_factor", 0.5, ValueError, "give a finite number, 1 or more"),
        ("jitter_enabled", 1, TypeError, "give True or False"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name_and_changes_nothing(
    name: str, value: Any, error: type[Exception], remedy: str
) -> None:
    """The message says what to assign instead."""
    client = AutoReconnectClient(Peer())
    before = client.retry
    with pytest.raises(error) as caught:
        setattr(client, name, value)
    assert str(caught.value) == f"AutoReconnectClient.{name} = {value!r}: {remedy}"
    assert client.retry is before


def test_jitter_that_is_switched_on_again_is_of_the_kind_it_was() -> None:
    """Switching on what is on changes nothing."""
    client = AutoReconnectClient(Peer(), retry=RetryPolicy(jitter="full"))
    client.jitter_enabled = True
    assert client.retry.jitter is Jitter.FULL
    client.jitter_enabled = False
    client.jitter_enabled = True
    assert client.retry.jitter is Jitter.EQUAL


async def test_the_documented_delays_lie_between_an_attempt_at_once_and_five_more() -> None:
    """1, 2, 4, 8 and 16 seconds without jitter; then it has given up, and the next call begins anew."""
    peer = Peer(*[TRANSIENT] * 6)
    client = AutoReconnectClient(peer)
    client.jitter_enabled = False
    seen: list[int] = []
    client.on_transition(lambda record: seen.append(client.reconnect_attempts))
    with pytest.raises(ConnectFailedError, match="after 6 attempts"):
        await client.call_with_auto_reconnect("a.B")
    assert opens(peer) == [0, 1, 3, 7, 15, 31]
    assert seen == [0, 1, 2, 3, 4, 5, 5]
    assert await client.call_with_auto_reconnect("a.B") == "reply"
    assert client.reconnect_attempts == 0
    await client.close()
    assert client.state is S.DISCONNECTED


async def test_jitter_halves_a_delay_at_most() -> None:
    """The documented spread, between half of the delay and the whole."""
    peer = Peer(then=TRANSIENT)
    client = AutoReconnectClient(peer)
    with pytest.raises(ConnectFailedError):
        await client.connect()
    waits = [later - earlier for earlier, later in itertools.pairwise(opens(peer))]
    assert all(whole / 2 <= wait <= whole for wait, whole in zip(waits, (1, 2, 4, 8, 16), strict=True))
    assert waits != [1, 2, 4, 8, 16]


async def test_a_setting_assigned_during_an_outage_holds_from_the_next_decision_on() -> None:
    """One that allows no further attempt ends the outage at the next failure."""
    peer = Peer(then=TRANSIENT)
    client = AutoReconnectClient(peer)
    client.jitter_enabled = False
    connecting = asyncio.ensure_future(client.connect())
    await asyncio.sleep(2)
    client.max_reconnect_attempts = 2
    with pytest.raises(ConnectFailedError, match="after 3 attempts"):
        await connecting


# --- HealthMonitoredClient ----------------------------------------------------------------------------------------

DOCUMENTED = [
    "connected",
    "connected_duration_seconds",
    "total_calls",
    "failed_calls",
    "success_rate_percent",
    "reconnect_count",
    "last_successful_call",
]


async def test_a_report_has_the_documented_keys_first() -> None:
    """Before anything has happened, and after; it can be dumped as JSON."""
    peer = Peer()
    client = HealthMonitoredClient(peer)
    report = client.get_health_report()
    assert list(report)[:7] == DOCUMENTED
    assert [report[key] for key in DOCUMENTED] == [False, None, 0, 0, 0.0, 0, None]
    before = datetime.now(UTC)
    await client.connect()
    await asyncio.sleep(3)
    peer.call_outcomes = ["reply", "reply", ValueError("no")]
    await client.call_with_health_tracking("a.B")
    await client.call("a.B")
    with pytest.raises(ValueError):
        await client.a.B()
    report = json.loads(json.dumps(client.get_health_report()))
    last = datetime.fromisoformat(report.pop("last_successful_call"))
    assert before <= last <= datetime.now(UTC)
    assert last.utcoffset() == timedelta(0)
    assert [report[key] for key in DOCUMENTED[:-1]] == [True, 3.0, 3, 1, 66.67, 0]
    await client.disconnect()
    after = client.health_report()
    assert (after.connected, after.connected_duration_seconds, after.state) == (False, None, "disconnected")


async def test_a_report_says_more_than_the_document() -> None:
    """Latencies in milliseconds, how the health was found, what went wrong last."""
    peer = Peer()
    client = HealthMonitoredClient(peer, health=HealthPolicy(interval=1, jitter=0))
    await client.connect()
    peer.probe_outcomes = [None, "out of memory"]
    assert client.health_report().health is HealthStatus.UNKNOWN
    await asyncio.sleep(1.5)
    await client.call("a.B")
    report = client.health_report()
    assert isinstance(report, HealthReport)
    assert (report.health, report.passed_probes, report.failed_probes) == (HealthStatus.SERVING, 1, 0)
    assert (report.latency_p50_ms, report.latency_p95_ms, report.latency_p99_ms) == (0.0, 0.0, 0.0)
    await asyncio.sleep(1.5)
    found = client.get_health_report()
    assert (found["health"], found["failed_probes"], found["last_error"]) == ("not serving", 1, "out of memory")
    assert type(found["health"]) is type(found["state"]) is str
    peer.lose(LinkLostError("it fell over"))
    await client.wait_for_state("reconnecting")
    await client.connect()
    report = client.health_report()
    assert (report.losses, report.reconnect_count, report.last_error) == (1, 1, "it fell over")
    assert report.connected_duration_seconds == 0
    await client.disconnect()


async def test_a_peer_without_a_health_service_is_reported_as_one() -> None:
    """It is watched by its link alone."""
    peer = Peer()
    peer.has_health = False
    async with HealthMonitoredClient(peer) as client:
        await asyncio.sleep(31)
        report = client.get_health_report()
        assert (report["health"], report["passed_probes"]) == ("no health service", 1)


async def test_it_probes_every_thirty_seconds_and_never_twice_after_a_reconnect() -> None:
    """One monitor for each link; the one of the old link has ended."""
    peer = Peer()
    async with HealthMonitoredClient(peer, retry=QUICK, health=HealthPolicy(interval=30, jitter=0)) as client:
        begin = now()
        await asyncio.sleep(100)
        assert [time - begin for time, _ in peer.probes] == [30, 60, 90]
        for _ in range(3):
            peer.lose()
            await client.wait_for_state("reconnecting")
            await client.ensure_connected()
        peer.probes.clear()
        begin = now()
        await asyncio.sleep(100)
        assert [time - begin for time, _ in peer.probes] == [30, 60, 90]
    peer.probes.clear()
    await asyncio.sleep(100)
    assert peer.probes == []


def test_the_usual_policy_probes_every_thirty_seconds() -> None:
    """As documented."""
    assert HealthMonitoredClient(Peer()).health.interval == 30


async def test_a_monitored_connection_comes_back_after_a_long_outage() -> None:
    """The documented monitor tries every 30 seconds for as long as it takes."""
    peer = Peer()
    async with HealthMonitoredClient(peer) as client:
        peer.then = TRANSIENT
        peer.lose()
        await client.wait_for_state("failed")
        await asyncio.sleep(600)
        assert client.state is not S.CONNECTED
        peer.then = None
        await client.wait_for_state("connected")
        assert client.health_report().reconnect_count == 1


async def test_a_report_is_right_whatever_a_slow_observer_does() -> None:
    """Counts do not wait for async observers."""
    peer = Peer()
    client = HealthMonitoredClient(peer)
    await client.connect()

    async def slow(record: Any) -> None:
        await asyncio.sleep(2)

    client.on_transition(slow)
    peer.lose()
    await client.wait_for_state("reconnecting")
    await client.wait_for_state("connected")
    report = client.health_report()
    assert (report.connected, report.connected_duration_seconds, report.reconnect_count) == (True, 0, 1)
    await asyncio.sleep(3)
    report = client.health_report()
    assert (report.connected, report.connected_duration_seconds, report.reconnect_count) == (True, 3, 1)
    peer.lose()
    await client.wait_for_state("reconnecting")
    report = client.health_report()
    assert (report.connected, report.connected_duration_seconds, report.losses) == (False, None, 2)
    await client.disconnect()
    assert client.health_report().losses == 2


# --- StatefulConnection -------------------------------------------------------------------------------------------


async def test_state_and_metrics_are_told_under_the_documented_keys() -> None:
    """Counted once each; what was refused was not called."""
    peer = Peer()
    connection = StatefulConnection(peer)
    assert connection.get_state_info() == {
        "current_state": "disconnected",
        "is_connected": False,
        "can_make_calls": False,
        "metrics": {"connection_count": 0, "disconnection_count": 0, "failed_connection_count": 0, "total_calls": 0},
    }
    await connection.connect()
    await connection.call_method("a.B", n=1)
    peer.call_outcomes = [ValueError("no")]
    with pytest.raises(ValueError):
        await connection.call_method("a.B", n=2)
    await connection.disconnect()
    with pytest.raises(RuntimeError):
        await connection.call_method("a.B", n=3)
    peer.then = TRANSIENT
    with pytest.raises(ConnectFailedError):
        await connection.connect()
    assert connection.metrics == {
        "connection_count": 1,
        "disconnection_count": 1,
        "failed_connection_count": 1,
        "total_calls": 2,
    }
    info = connection.get_state_info()
    assert (info["current_state"], info["metrics"]) == ("failed", connection.metrics)
    assert type(info["current_state"]) is str


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("disconnected", r"connect\(\)' first"),
        ("connecting", r"ensure_connected\(\)' first"),
        ("disconnecting", r"connect\(\)' waits for that and connects again"),
        ("failed", r"connect\(\)' tries again"),
    ],
)
async def test_a_call_in_the_wrong_state_names_the_state_and_the_remedy(state: str, remedy: str) -> None:
    """An error that the document's users catch as RuntimeError; nothing was sent."""
    peer = Peer(TRANSIENT if state == "failed" else None, delay=1, close_delay=1)
    connection = StatefulConnection(peer)
    leading = {
        "disconnected": [],
        "connecting": [connection.connect],
        "disconnecting": [connection.connect, connection.disconnect],
        "failed": [connection.connect],
    }
    tasks = []
    for step in leading[state]:
        await asyncio.wait(tasks) if tasks else None
        tasks.append(asyncio.ensure_future(step()))
    await connection.wait_for_state(state)
    with pytest.raises(NotConnectedError, match=f"no calls in state '{state}'.*{remedy}") as caught:
        await connection.call_method("a.B")
    assert isinstance(caught.value, RuntimeError)
    assert (caught.value.state, peer.calls) == (state, [])
    await asyncio.gather(*tasks, return_exceptions=True)
    await connection.disconnect()


async def test_nothing_happens_by_itself_but_for_what_is_lost() -> None:
    """One attempt; a lost link ends in failed, however long it was up, and a reconnect by hand leaves it."""
    peer = Peer(TRANSIENT)
    connection = StatefulConnection(peer)
    seen: list[tuple[str, str]] = []
    for state in ConnectionState:
        connection.on_state_change(state, lambda old, new: seen.append((old.value, new.value)))
    with pytest.raises(ConnectFailedError, match="at the first attempt"):
        await connection.connect()
    await connection.reconnect()
    await asyncio.sleep(1000)
    peer.lose()
    await connection.wait_for_state("failed")
    await asyncio.sleep(1000)
    assert connection.state is S.FAILED
    await connection.reconnect()
    await connection.disconnect()
    assert seen == [
        ("disconnected", "connecting"),
        ("connecting", "failed"),
        ("failed", "reconnecting"),
        ("reconnecting", "connected"),
        ("connected", "failed"),
        ("failed", "reconnecting"),
        ("reconnecting", "connected"),
        ("connected", "disconnecting"),
        ("disconnecting", "disconnected"),
    ]


def test_the_states_have_their_documented_values() -> None:
    """Six members, before one of our own."""
    assert [state.value for state in fsm_conn.ConnectionState] == [
        "disconnected",
        "connecting",
        "connected",
        "disconnecting",
        "reconnecting",
        "failed",
        "renewing",
    ]


class _Degradable(AutoReconnectClient):
    states, transitions = add_state(
        AutoReconnectClient,
        LinkState("degraded", on_error="lost", final=True, serves=True),
        beside="connected",
        trigger="degrade",
        back="restore",
        back_effects="forget_probes",
    )
    while_degraded = AutoReconnectClient.while_connected


async def test_a_state_that_serves_is_no_outage() -> None:
    """After three attempts it is connected: no attempt is pending there, nor in a state of its own that serves."""
    conn = _Degradable(Peer(TRANSIENT, TRANSIENT))
    await conn.connect()
    assert (conn.attempt, conn.reconnect_attempts, conn.connected) == (3, 0, True)
    conn.fire("degrade")
    assert (conn.state, conn.reconnect_attempts, conn.connected) == ("degraded", 0, True)
    await conn.disconnect()
    assert (conn.reconnect_attempts, conn.connected) == (0, False)


def test_completion_shows_the_public_names_first() -> None:
    """And no name is lost."""
    conn = Connection(Peer())
    names = dir(conn)
    first = next(number for number, name in enumerate(names) if name.startswith("_"))
    assert all(name.startswith("_") for name in names[first:])
    assert {"call", "connected", "pid", "state"} < set(names[:first])
    assert {"__aenter__", "_state"} < set(names[first:])


def test_what_was_never_connected_says_so() -> None:
    """By a property, not by a service of that name, which would be true."""
    conn = Connection(Peer())
    assert not conn.connected
    assert conn.pid is None

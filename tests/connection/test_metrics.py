"""What is counted, against an independent count."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from peer import HANG, TRANSIENT, Peer

from fsm_conn import (
    AutoReconnectClient,
    CallOptions,
    CallTimeoutError,
    ConnectAbandonedError,
    ConnectFailedError,
    Connection,
    ConnectionLostError,
    HealthPolicy,
    Metrics,
    NotConnectedError,
    RetryPolicy,
)
from fsm_conn.connection.calling.records import CallOutcome, CallRecord
from fsm_conn.connection.counting.metrics import SAMPLES
from fsm_conn.testing import Outcome, SimulatedPeer, run_virtually

QUICK = RetryPolicy(max_attempts=3, initial_delay=1.0, jitter="none", stable_after=5.0)


def counted(peer: Any, **options: Any) -> tuple[Connection, Metrics]:
    conn, metrics = Connection(peer, **{"retry": QUICK, **options}), Metrics()
    metrics.watch(conn)
    return conn, metrics


# --- calls ------------------------------------------------------------------------------------------------------


async def test_each_call_is_counted_once_by_how_it_ended() -> None:
    """By name, by attribute, as a stream; answered, refused, lost, cancelled, dropped."""
    peer = Peer()
    conn, metrics = counted(peer)
    with pytest.raises(NotConnectedError):
        await conn.call("a.B")
    await conn.connect()
    await conn.call("a.B")
    await conn.a.B()
    assert [reply async for reply in conn.stream("a.B")] == [1, 2, 3]
    peer.call_outcomes = [ValueError("the plugin's answer"), "unsent"]
    for error in (ValueError, ConnectionLostError):
        with pytest.raises(error):
            await conn.call("a.B")
    stream: Any = conn.stream("a.B")
    await anext(stream)
    await stream.aclose()
    assert (metrics.succeeded_calls, metrics.failed_calls, metrics.refused_calls) == (3, 3, 1)
    assert (metrics.cancelled_calls, metrics.total_calls, metrics.success_rate) == (1, 7, 0.5)
    await conn.disconnect()


async def test_a_repeated_call_is_one_call() -> None:
    """However often it had to be sent."""
    peer = Peer()
    conn, metrics = counted(peer)
    async with conn:
        peer.call_outcomes = ["lost", "lost"]
        await conn.call("a.B", CallOptions(idempotent=True))
        assert (len(peer.calls), metrics.total_calls, metrics.succeeded_calls) == (3, 1, 1)


async def test_the_last_success_is_remembered_by_the_wall_clock_in_utc() -> None:
    """An aware time; a later failure does not change it."""
    peer = Peer()
    conn, metrics = counted(peer)
    async with conn:
        before = datetime.now(UTC)
        await conn.call("a.B")
        succeeded = metrics.last_successful_call
        assert succeeded is not None
        assert before <= succeeded <= datetime.now(UTC)
        peer.call_outcomes = [ValueError()]
        with pytest.raises(ValueError):
            await conn.call("a.B")
        assert metrics.last_successful_call is succeeded


def succeeded(seconds: float) -> CallRecord:
    return CallRecord("a.B", CallOutcome.SUCCEEDED, None, seconds, 0.0)


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ([], [None, None, None, None]),
        ([7], [7, 7, 7, 7]),
        ([2, 1], [1, 2, 2, 2]),
        (range(100, 0, -1), [50, 95, 99, 100]),
        (range(1, SAMPLES + 1), [512, 973, 1014, 1024]),
        (range(-5000, SAMPLES + 1), [512, 973, 1014, 1024]),
    ],
)
def test_latencies_are_of_the_nearest_rank_among_the_last(latencies: Any, expected: list[float | None]) -> None:
    """Always one that was measured; what is older than the last so many is forgotten."""
    metrics = Metrics()
    for seconds in latencies:
        metrics.on_call(succeeded(seconds))
    assert [metrics.latency(percent) for percent in (50, 95, 99, 100)] == expected


@pytest.mark.parametrize(
    ("percent", "error"), [(0, ValueError), (101, ValueError), (99.9, TypeError), ("9", TypeError)]
)
def test_no_latency_of_what_is_no_percentage(percent: Any, error: type[Exception]) -> None:
    """Also before the first call."""
    with pytest.raises(error, match=r"^latency\(.+\): give "):
        Metrics().latency(percent)


async def test_a_failed_call_has_no_latency() -> None:
    """A refusal is quick, and says nothing about how quick the plugin is."""
    conn, metrics = counted(Peer())
    with pytest.raises(NotConnectedError):
        await conn.call("a.B")
    assert metrics.latency(50) is None


async def test_a_call_that_could_not_be_made_is_refused_however_long_it_waited() -> None:
    """It was given up with the connection, abandoned, or its time was up before there was one. Nothing was sent."""
    for peer, retry, seconds, expected in (
        (Peer(then=TRANSIENT), QUICK, None, ConnectFailedError),
        (Peer(HANG), QUICK, None, ConnectAbandonedError),
        (Peer(HANG), QUICK, 2, CallTimeoutError),
    ):
        conn, metrics = AutoReconnectClient(peer, retry=retry), Metrics()
        metrics.watch(conn)
        calling = asyncio.ensure_future(conn.call_with_auto_reconnect("a.B", CallOptions(timeout=seconds)))
        await asyncio.sleep(10)
        await conn.disconnect()
        with pytest.raises(expected):
            await calling
        assert (metrics.failed_calls, metrics.refused_calls, peer.calls) == (1, 1, [])


# --- transitions ------------------------------------------------------------------------------------------------


async def test_connections_are_counted_as_they_come_and_go() -> None:
    """A failed attempt is no reconnect, a link that was lost or replaced and made good is, and a new life is none."""
    peer = Peer(TRANSIENT)
    conn, metrics = counted(peer)
    await conn.connect()
    assert (metrics.connection_count, metrics.reconnect_count) == (1, 0)
    peer.lose()
    await conn.wait_for_state("reconnecting")
    assert metrics.connected_since is None
    await conn.connect()
    assert (metrics.connection_count, metrics.reconnect_count, metrics.losses) == (2, 1, 1)
    await conn.reconnect()
    assert (metrics.connection_count, metrics.reconnect_count, metrics.losses) == (3, 2, 1)
    await conn.disconnect()
    await conn.connect()
    assert (metrics.connection_count, metrics.reconnect_count, metrics.disconnection_count) == (4, 2, 1)
    await conn.disconnect()
    peer.then = TRANSIENT
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    assert (metrics.failed_connection_count, metrics.disconnection_count, metrics.connection_count) == (1, 2, 4)


async def test_a_connection_that_came_back_out_of_failed_is_a_reconnect() -> None:
    """Its link was lost, and another serves in its place."""
    peer = Peer()
    conn, metrics = counted(peer, retry=RetryPolicy(max_restarts=0))
    await conn.connect()
    peer.lose()
    await conn.wait_for_state("failed")
    await conn.connect()
    assert (metrics.failed_connection_count, metrics.reconnect_count, metrics.losses) == (1, 1, 1)
    await conn.disconnect()


async def test_probes_are_counted_and_enough_that_failed_are_a_loss() -> None:
    """Noted ones as well as the one that was too many."""
    peer = Peer()
    conn, metrics = counted(peer, health=HealthPolicy(interval=1, timeout=0.5, failure_threshold=2, jitter=0))
    await conn.connect()
    peer.probe_outcomes = [None, "not well", None, "not well", HANG]
    await conn.wait_for_state("reconnecting")
    assert (metrics.passed_probes, metrics.failed_probes, metrics.losses) == (2, 3, 1)
    await conn.disconnect()


async def test_the_time_since_it_connected_is_the_loops() -> None:
    """And the time at which it did, the wall's."""
    conn, metrics = counted(Peer(delay=3))
    assert metrics.connected_at is None
    before = datetime.now(UTC)
    await conn.connect()
    at = metrics.connected_at
    assert metrics.connected_since == asyncio.get_running_loop().time()
    await asyncio.sleep(2)
    assert metrics.connected_since == asyncio.get_running_loop().time() - 2
    await conn.disconnect()
    assert metrics.connected_since is None
    assert metrics.connected_at is at is not None
    assert before <= at <= datetime.now(UTC)


async def test_one_that_was_told_to_stop_counts_no_more() -> None:
    """Neither calls nor transitions."""
    conn, metrics = Connection(Peer()), Metrics()
    stop = metrics.watch(conn)
    stop()
    async with conn:
        await conn.call("a.B")
    assert (metrics.total_calls, metrics.connection_count, metrics.disconnection_count) == (0, 0, 0)


# --- nothing drifts -----------------------------------------------------------------------------------------------

KINDS = st.sampled_from(["ok", "ok", "lost", "unsent", "hang"])
STEPS = st.one_of(
    st.tuples(st.just("call"), KINDS, st.sampled_from([0.0, 0.5, 3.0]), st.booleans()),
    st.tuples(st.just("stream"), KINDS),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("lose")),
    st.tuples(st.just("refuse")),
    st.tuples(st.just("connect")),
    st.tuples(st.just("reconnect")),
    st.tuples(st.just("disconnect")),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.2, 1.0, 7.0])),
)


class Story:
    """Callers of one connection, who keep their own count of what they were told."""

    def __init__(self) -> None:
        self.peer = SimulatedPeer()
        for what in ("open", "close", "probe"):
            self.peer.script(what, ())
        self.conn, self.metrics = counted(self.peer, history=100_000)
        self.told: Counter[str] = Counter()
        self.outcomes: dict[Any, Outcome] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def live(self, steps: list[Any]) -> None:
        await self.conn.connect()
        for name, *arguments in steps:
            await getattr(self, name)(*arguments)
            self.check_sum()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.conn.disconnect()

    async def caller(self, call: Any) -> None:
        try:
            await call
        except asyncio.CancelledError:
            self.told["cancelled"] += 1
            raise
        except Exception as error:
            self.told["failed"] += 1
            self.told["refused"] += isinstance(error, (NotConnectedError, CallTimeoutError))
        else:
            self.told["succeeded"] += 1

    def begin(self, call: Any) -> None:
        self.tasks.append(asyncio.ensure_future(self.caller(call)))

    async def call(self, kind: str, after: float, patient: bool) -> None:
        self.peer.script("call", [Outcome(kind, after=after)])
        options = CallOptions(idempotent=patient, timeout=4 if patient else None)
        self.begin(self.conn.call("a.B", options, n=1))
        await asyncio.sleep(0)

    async def stream(self, kind: str) -> None:
        async def read() -> None:
            async for _ in self.conn.stream("a.B", CallOptions(wait_for_ready=True)):
                pass

        self.peer.script("call", [Outcome(kind)])
        self.begin(read())
        await asyncio.sleep(0)

    async def cancel(self, number: int) -> None:
        """Only one that has begun: what never ran called nobody."""
        running = [task for task in self.tasks if not task.done()]
        if number < len(running):
            running[number].cancel()
            await asyncio.wait(running[number : number + 1])

    async def lose(self) -> None:
        self.peer.lose()
        await asyncio.sleep(0)

    async def refuse(self) -> None:
        self.peer.script("open", ["refuse", "refuse"])

    async def connect(self) -> None:
        with contextlib.suppress(ConnectFailedError):
            await self.conn.connect()

    async def reconnect(self) -> None:
        with contextlib.suppress(ConnectFailedError):
            await self.conn.reconnect()

    async def disconnect(self) -> None:
        await self.conn.disconnect()

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def check_sum(self) -> None:
        metrics = self.metrics
        assert metrics.total_calls == metrics.succeeded_calls + metrics.failed_calls + metrics.cancelled_calls
        assert metrics.refused_calls <= metrics.failed_calls
        assert (metrics.connected_since is not None) == (self.conn.state == "connected")


@example([("call", "unsent", 3.0, True), ("wait", 7.0)])
@given(st.lists(STEPS, max_size=40))
def test_no_count_drifts_whatever_happens(steps: list[Any]) -> None:
    """Concurrent calls, repeats, losses, reconnects and cancellations: what callers were told is what was counted."""

    async def main() -> Story:
        story = Story()
        await story.live(steps)
        return story

    story = run_virtually(main())
    metrics, told = story.metrics, story.told
    assert (metrics.succeeded_calls, metrics.failed_calls) == (told["succeeded"], told["failed"])
    assert (metrics.cancelled_calls, metrics.refused_calls) == (told["cancelled"], told["refused"])
    assert metrics.total_calls == len(story.tasks) == told["succeeded"] + told["failed"] + told["cancelled"]
    states = [str(record.dest) for record in story.conn.history if not record.internal]
    lives = " ".join(states).split("disconnected")
    assert metrics.connection_count == states.count("connected") <= story.peer.opened
    assert metrics.reconnect_count == sum(max(life.split().count("connected") - 1, 0) for life in lives)
    assert metrics.disconnection_count == states.count("disconnected")
    assert metrics.failed_connection_count == states.count("failed")

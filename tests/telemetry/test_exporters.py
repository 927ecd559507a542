"""The metrics, read back through the readers and the text format of the real libraries; the same of both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from extent import far
from peer import HANG, TRANSIENT, Peer
from readings import METRICS, Otel, Prometheus

from fsm_conn import (
    CallOptions,
    CallTimeoutError,
    ConnectFailedError,
    Connection,
    ConnectionLostError,
    NotConnectedError,
    ProbeError,
    RetryPolicy,
    UnknownNameError,
    insert_state,
)
from fsm_conn.telemetry import reading
from fsm_conn.testing import Life, invariant, lifecycle_test
from fsm_conn.testing.lives.checks import AT_THE_END

PLAIN = RetryPolicy(max_attempts=3, initial_delay=1.0, jitter="none", stable_after=10.0)


def connection(peer: Any, **options: Any) -> Connection:
    return Connection(peer, **{"retry": PLAIN, "name": "plug", **options})


@pytest.fixture(params=[Prometheus, Otel])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param()


def present(backend: Any, name: str = "plug") -> dict[str, float]:
    """The states with somebody in them."""
    return {state: count for (of, state), count in backend.read("state").items() if of == name and count}


# --- states and transitions -------------------------------------------------------------------------------------


async def test_the_state_is_shown_from_the_beginning_with_all_that_could_be(backend: Any) -> None:
    """Zeros included, so that a graph has no gaps."""
    conn = connection(Peer())
    backend.observer.attach(conn)
    assert {state: count for (_, state), count in backend.read("state").items()} == {
        "disconnected": 1,
        "connecting": 0,
        "connected": 0,
        "renewing": 0,
        "disconnecting": 0,
        "reconnecting": 0,
        "failed": 0,
    }
    await conn.connect()
    assert present(backend) == {"connected": 1}
    await conn.disconnect()
    assert present(backend) == {"disconnected": 1}


async def test_every_row_that_is_taken_is_counted(backend: Any) -> None:
    """With its trigger, its source and its destination; internal ones too."""
    peer = Peer()
    conn = connection(peer)
    backend.observer.attach(conn)
    await conn.connect()
    await conn.probe()
    peer.lose()
    await conn.wait_for_state("reconnecting")
    await conn.ensure_connected()
    await conn.disconnect()
    assert backend.read("transitions") == {
        ("plug", "connect", "disconnected", "connecting"): 1,
        ("plug", "opened", "connecting", "connected"): 1,
        ("plug", "probe_passed", "connected", "connected"): 1,
        ("plug", "lost", "connected", "reconnecting"): 1,
        ("plug", "opened", "reconnecting", "connected"): 1,
        ("plug", "disconnect", "connected", "disconnecting"): 1,
        ("plug", "closed", "disconnecting", "disconnected"): 1,
    }


async def test_one_that_is_attached_in_the_midst_of_it_is_shown_as_it_is(backend: Any) -> None:
    """What was before is not guessed."""
    conn = connection(Peer(delay=1))
    connecting = asyncio.ensure_future(conn.connect())
    await asyncio.sleep(0.5)
    backend.observer.attach(conn)
    assert present(backend) == {"connecting": 1}
    await connecting
    assert present(backend) == {"connected": 1}
    assert backend.read("attempts") == {("plug", "succeeded"): 1}
    assert backend.read("connect") == {}
    await conn.disconnect()


# --- attempts, durations, probes --------------------------------------------------------------------------------


async def test_attempts_and_the_time_to_connect(backend: Any) -> None:
    """Two failed attempts and one that succeeded: 0.5 s, 1 s, 0.5 s, 2 s, 0.5 s."""
    conn = connection(Peer(TRANSIENT, TRANSIENT, delay=0.5))
    backend.observer.attach(conn)
    await conn.connect()
    assert backend.read("attempts") == {("plug", "failed"): 2, ("plug", "succeeded"): 1}
    assert backend.read("connect") == {("plug", "succeeded"): (1, 4.5)}
    await conn.disconnect()


async def test_giving_up(backend: Any) -> None:
    """All attempts failed, and so has the whole."""
    conn = connection(Peer(then=TRANSIENT))
    backend.observer.attach(conn)
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    assert backend.read("attempts") == {("plug", "failed"): 3}
    assert backend.read("connect") == {("plug", "failed"): (1, 3)}
    assert present(backend) == {"failed": 1}


async def test_what_nobody_wants_any_more_has_not_failed(backend: Any) -> None:
    """`disconnect()` and `reconnect()` abandon an attempt; only the former ends the whole."""
    conn = connection(Peer(HANG, HANG))
    backend.observer.attach(conn)
    connecting = [asyncio.ensure_future(conn.connect())]
    await asyncio.sleep(1)
    await conn.disconnect()
    connecting.append(asyncio.ensure_future(conn.connect()))
    await asyncio.sleep(1)
    assert backend.read("attempts") == {("plug", "abandoned"): 1}
    conn.fire("open_failed", TRANSIENT)
    await conn.reconnect()
    await asyncio.gather(*connecting, return_exceptions=True)
    assert backend.read("attempts") == {("plug", "abandoned"): 2, ("plug", "failed"): 1, ("plug", "succeeded"): 1}
    assert backend.read("connect") == {("plug", "abandoned"): (1, 1), ("plug", "succeeded"): (1, 1)}
    await conn.disconnect()


async def test_a_state_that_a_subclass_adds_is_part_of_the_attempt(backend: Any) -> None:
    """The link is open, but it is not connected yet: what fails there fails the attempt."""

    class Authenticated(Connection):
        states, transitions = insert_state(
            Connection, "authenticating", trigger="opened", before="connected", then="authenticated", like="connecting"
        )
        logins = 0

        async def while_authenticating(self) -> str:
            self.logins += 1
            await asyncio.sleep(0.25)
            if self.logins == 1:
                raise TRANSIENT
            return "authenticated"

    conn = Authenticated(Peer(), retry=PLAIN, name="plug")
    backend.observer.attach(conn)
    assert ("plug", "authenticating") in backend.read("state")
    await conn.connect()
    assert backend.read("attempts") == {("plug", "failed"): 1, ("plug", "succeeded"): 1}
    assert backend.read("connect") == {("plug", "succeeded"): (1, 1.5)}
    await conn.disconnect()


async def test_probes(backend: Any) -> None:
    """Each by how it ended."""
    peer = Peer()
    conn = connection(peer)
    backend.observer.attach(conn)
    await conn.connect()
    peer.probe_outcomes = [None, "NOT_SERVING", None]
    await conn.probe()
    with pytest.raises(ProbeError):
        await conn.probe()
    await conn.probe()
    assert backend.read("probes") == {("plug", "passed"): 2, ("plug", "failed"): 1}
    await conn.disconnect()


# --- calls ------------------------------------------------------------------------------------------------------


async def test_calls_by_method_and_outcome(backend: Any) -> None:
    """Unary ones and streams; those that were cancelled have not failed."""
    peer = Peer()
    conn = connection(peer)
    backend.observer.attach(conn)
    await conn.connect()
    await conn.call("calculator.Add")
    assert [reply async for reply in conn.stream("calculator.Count")] == [1, 2, 3]
    replies = conn.stream("calculator.Count")
    assert await anext(replies) == 1
    await replies.aclose()
    peer.call_outcomes = [ValueError("no"), "lost"]
    with pytest.raises(ValueError, match="no"):
        await conn.call("calculator.Add")
    with pytest.raises(ConnectionLostError):
        await conn.call("calculator.Crash")
    counts = {key[1:]: count for key, (count, _) in backend.read("call").items()}
    add, count, crash = (backend.method(f"calculator.{name}") for name in ("Add", "Count", "Crash"))
    assert counts == {
        (add, "succeeded"): 1,
        (add, "failed"): 1,
        (count, "succeeded"): 1,
        (count, "cancelled"): 1,
        (crash, "failed"): 1,
    }
    await conn.disconnect()


async def test_a_call_takes_as_long_as_its_caller_waits(backend: Any) -> None:
    """A call that waits for the connection takes that long, too."""
    conn = connection(Peer(delay=2))
    backend.observer.attach(conn)
    connecting = asyncio.ensure_future(conn.connect())
    await asyncio.sleep(0.5)
    await conn.call("a.B", CallOptions(wait_for_ready=True))
    assert backend.read("call") == {("plug", backend.method("a.B"), "succeeded"): (1, 1.5)}
    await connecting
    await conn.disconnect()


async def test_wrong_names_do_not_make_the_metrics_grow(backend: Any) -> None:
    """A thousand of them are one; also when nobody could look them up, or not in time."""
    peer = Peer(delay=1)
    conn = connection(peer)
    backend.observer.attach(conn)
    for number in range(300):
        with pytest.raises(NotConnectedError):
            await conn.call(f"refused.{number}")
    connecting = asyncio.ensure_future(conn.connect())
    await conn.wait_for_state("connecting")
    for number in range(300):
        with pytest.raises(CallTimeoutError):
            await conn.call(f"late.{number}", CallOptions(wait_for_ready=True, timeout=0.001))
    await connecting
    for number in range(400):
        peer.call_outcomes = [UnknownNameError("no such method")]
        with pytest.raises(UnknownNameError):
            await conn.call(f"wrong.{number}")
    ((key, (count, _)),) = backend.read("call").items()
    assert (key, count) == (("plug", backend.unknown, "failed"), 1000)
    await conn.disconnect()


async def test_a_method_keeps_its_name_once_it_is_known(backend: Any) -> None:
    """A call of it that was refused is counted as one of it."""
    conn = connection(Peer())
    backend.observer.attach(conn)
    async with conn:
        await conn.call("a.B")
    with pytest.raises(NotConnectedError):
        await conn.call("a.B")
    assert {key[1:] for key in backend.read("call")} == {
        (backend.method("a.B"), "succeeded"),
        (backend.method("a.B"), "failed"),
    }


async def test_there_are_never_more_methods_than_the_limit(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of those that a peer answers to."""
    monkeypatch.setattr(reading, "METHODS_LIMIT", 5)
    conn = connection(Peer())
    backend.observer.attach(conn)
    async with conn:
        for number in range(20):
            await conn.call(f"a.M{number}")
    assert len(backend.read("call")) == 6
    assert backend.read("call")["plug", backend.unknown, "succeeded"][0] == 15


# --- many connections -------------------------------------------------------------------------------------------


async def test_connections_of_one_name_are_added_up(backend: Any) -> None:
    """And each takes away only its own."""
    one, two = connection(Peer()), connection(Peer())
    detach = backend.observer.attach(one)
    backend.observer.attach(two)
    assert present(backend) == {"disconnected": 2}
    await one.connect()
    assert present(backend) == {"connected": 1, "disconnected": 1}
    detach()
    assert present(backend) == {"disconnected": 1}
    await two.connect()
    assert backend.read("transitions")["plug", "opened", "connecting", "connected"] == 2
    for conn in (one, two):
        await conn.disconnect()


async def test_connections_of_other_names_are_kept_apart(backend: Any) -> None:
    """Each has its own labels in every metric."""
    conns = [connection(Peer(), name=name) for name in ("left", "right")]
    for conn in conns:
        backend.observer.attach(conn)
        async with conn:
            await conn.call("a.B")
            await conn.probe()
    for metric in METRICS:
        assert {key[0] for key in backend.read(metric)} == {"left", "right"}


async def test_detached_its_state_vanishes_and_its_counts_stay(backend: Any) -> None:
    """Nothing more is counted, and a call costs nothing more."""
    conn = connection(Peer())
    detach = backend.observer.attach(conn)
    await conn.connect()
    detach()
    detach()
    before = {metric: backend.read(metric) for metric in METRICS}
    assert before["state"] == {}
    assert before["attempts"] == {("plug", "succeeded"): 1}
    await conn.call("a.B")
    await conn.disconnect()
    assert {metric: backend.read(metric) for metric in METRICS} == before
    assert not conn._calls


async def test_attached_again_it_goes_on(backend: Any) -> None:
    """The detach function of the first time has no say any more."""
    conn = connection(Peer())
    first = backend.observer.attach(conn)
    first()
    backend.observer.attach(conn)
    first()
    await conn.connect()
    assert present(backend) == {"connected": 1}
    await conn.disconnect()


async def test_a_connection_that_was_dropped_is_gone_from_the_states(backend: Any) -> None:
    """Nobody had to detach it."""
    conn = connection(Peer())
    backend.observer.attach(conn)
    await conn.connect()
    await conn.disconnect()
    await asyncio.sleep(0)
    del conn
    assert backend.read("state") == {}


# --- any life ---------------------------------------------------------------------------------------------------


def watched(link: Any, options: dict[str, Any]) -> Connection:
    """A connection with both kinds of metrics."""
    conn = Connection(link, **options)
    backends = [Prometheus(), Otel()]
    for backend in backends:
        backend.observer.attach(conn)
    conn.backends = backends  # type: ignore[attr-defined]
    return conn


def totals_are_right(life: Life) -> str | None:
    """One state at a time, every transition counted once, every attempt and every connecting decided once."""
    records = life.seen
    state = str(records[-1].dest) if records else "disconnected"
    under_way = reading.is_connecting(state)
    attempts = sum(not each.internal and each.dest in ("connecting", "reconnecting") for each in records)
    wanted = {
        "transitions": len(records),
        "attempts": attempts - under_way,
        "probes": sum(each.trigger in ("probe_passed", "probe_failed") for each in records),
        "connect": sum(map(reading.begins_connecting, records)) - under_way,
    }
    for backend in life.conn.backends:
        if present(backend, "life") != {state: 1}:
            return f"{backend}: the states are {backend.read('state')}, in {state}"
        for metric, want in wanted.items():
            values = backend.read(metric).values()
            got = sum(value[0] if isinstance(value, tuple) else value for value in values)
            if got != want:
                return f"{backend}: {metric} are {got}, not {want}"
    return None


def spans_are_right(life: Life) -> str | None:
    """One ended span for each connecting that ended, none of which ends before it begins, or before its events."""
    spans = [span for span in life.conn.backends[1].spans if span.name.startswith("connect")]
    connects = sum(count for count, _ in life.conn.backends[1].read("connect").values())
    if len(spans) != connects:
        return f"{len(spans)} spans of {connects}"
    for span in spans:
        times = [span.start_time, *(event.timestamp for event in span.events), span.end_time]
        if times != sorted(times):
            return f"out of order: {span.to_json()}"
    return None


TestLives = lifecycle_test(
    Connection,
    make=watched,
    max_examples=far(10),
    steps=30,
    invariants=[invariant()(totals_are_right), invariant(AT_THE_END)(spans_are_right)],
)

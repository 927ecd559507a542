"""Spans, and what the semantic conventions ask for, read back through the SDK's in-memory exporters."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from peer import HANG, TRANSIENT, Peer
from readings import Otel

from fsm_conn import ConnectFailedError, Connection, ConnectionLostError, RetryPolicy, UnknownNameError
from fsm_conn.telemetry import otel

PLAIN = RetryPolicy(max_attempts=3, initial_delay=1.0, jitter="none", stable_after=10.0)
SECOND = 1_000_000_000


@pytest.fixture
def sdk() -> Otel:
    return Otel()


def watched(sdk: Otel, peer: Any) -> Connection:
    conn = Connection(peer, retry=PLAIN, name="plug")
    sdk.observer.attach(conn)
    return conn


def lasted(span: Any) -> float:
    return (span.end_time - span.start_time) / SECOND


async def test_connecting_is_one_span_with_its_attempts(sdk: Otel) -> None:
    """From the request to the end, in the loop's time; each attempt an event at the moment it was decided."""
    conn = watched(sdk, Peer(TRANSIENT, delay=0.5))
    await conn.connect()
    (span,) = sdk.spans
    assert (span.name, span.kind) == ("connect plug", trace.SpanKind.INTERNAL)
    assert lasted(span) == 2.0
    assert abs(span.start_time - time.time_ns()) < 60 * SECOND
    assert dict(span.attributes) == {
        "fsm_conn.connection.name": "plug",
        "fsm_conn.connect.cause": "connect",
        "fsm_conn.connect.attempts": 2,
        "fsm_conn.outcome": "succeeded",
    }
    assert [(event.timestamp - span.start_time) / SECOND for event in span.events] == [0.5, 2.0]
    assert [dict(event.attributes) for event in span.events] == [
        {
            "fsm_conn.attempt": 1,
            "fsm_conn.outcome": "failed",
            "error.type": "fsm_conn.links.errors.LinkError",
            "exception.message": "try again",
        },
        {"fsm_conn.attempt": 2, "fsm_conn.outcome": "succeeded"},
    ]
    assert span.status.status_code is trace.StatusCode.UNSET
    await conn.disconnect()


async def test_a_slow_observer_that_came_first_delays_nothing(sdk: Otel) -> None:
    """Neither what is told nor the times that are written."""
    conn = Connection(Peer(delay=1), retry=PLAIN, name="plug")

    async def slow(record: Any) -> None:
        await asyncio.sleep(4)

    conn.on_transition(slow)
    sdk.observer.attach(conn)
    before = time.time_ns()
    await conn.connect()
    (span,) = sdk.spans
    assert lasted(span) == 1.0
    assert before - 0.1 * SECOND < span.start_time < time.time_ns() + 0.1 * SECOND
    await conn.disconnect()


async def test_giving_up_is_an_error_with_the_reason(sdk: Otel) -> None:
    """In the status, in `error.type`, and in the metric."""
    conn = watched(sdk, Peer(then=TRANSIENT))
    with pytest.raises(ConnectFailedError):
        await conn.connect()
    (span,) = sdk.spans
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "try again")
    assert span.attributes["error.type"] == "fsm_conn.links.errors.LinkError"
    (point,) = sdk.data()["fsm_conn.connect.duration"].data.data_points
    assert point.attributes["error.type"] == "fsm_conn.links.errors.LinkError"


async def test_abandoning_is_no_error(sdk: Otel) -> None:
    """Somebody changed their mind."""
    conn = watched(sdk, Peer(HANG))
    connecting = asyncio.ensure_future(conn.connect())
    await asyncio.sleep(1)
    await conn.disconnect()
    await asyncio.gather(connecting, return_exceptions=True)
    (span,) = sdk.spans
    assert span.status.status_code is trace.StatusCode.UNSET
    assert span.attributes["fsm_conn.outcome"] == "abandoned"


async def test_detached_while_connecting_the_span_is_written(sdk: Otel) -> None:
    """As far as it got."""
    conn = Connection(Peer(HANG), retry=PLAIN, name="plug")
    detach = sdk.observer.attach(conn)
    connecting = asyncio.ensure_future(conn.connect())
    await asyncio.sleep(1)
    detach()
    (span,) = sdk.spans
    assert "fsm_conn.outcome" not in span.attributes
    await conn.disconnect()
    await asyncio.gather(connecting, return_exceptions=True)
    assert len(sdk.spans) == 1


async def test_the_parent_is_the_caller_s_span(sdk: Otel) -> None:
    """Of connecting, and of calls; of a reconnect by itself, it is nobody's."""
    tracer = sdk.tracer_provider.get_tracer("test")
    peer = Peer()
    with tracer.start_as_current_span("made") as made:
        conn = watched(sdk, peer)
    with tracer.start_as_current_span("request") as request:
        await conn.connect()
        await conn.call("a.B")
        assert [item async for item in conn.stream("a.C")] == [1, 2, 3]
    peer.lose()
    await conn.wait_for_state("reconnecting")
    await conn.ensure_connected()
    spans = {span.name: span for span in sdk.spans if span.attributes.get("fsm_conn.connect.cause") != "lost"}
    for name in ("connect plug", "a/B", "a/C"):
        assert spans[name].parent.span_id == request.get_span_context().span_id
    (alone,) = [span for span in sdk.spans if span.attributes.get("fsm_conn.connect.cause") == "lost"]
    assert alone.parent is None
    assert alone.attributes["fsm_conn.connect.attempts"] == 1
    assert alone.context.trace_id != made.get_span_context().trace_id
    assert alone.attributes["fsm_conn.connect.cause.error.type"] == "fsm_conn.links.errors.LinkLostError"
    await conn.disconnect()


class Slow(Peer):
    """Answers after two seconds."""

    def __call__(self) -> Any:
        link = super().__call__()
        answer = link.call

        async def call(*arguments: Any) -> Any:
            await asyncio.sleep(2)
            return await answer(*arguments)

        link.call = call
        return link


async def test_a_call_is_a_span_by_the_conventions(sdk: Otel) -> None:
    """A client's, named by its method, as long as the call."""
    async with watched(sdk, Slow()) as conn:
        await conn.call("calculator.Calculator.Add")
    span = sdk.spans[-1]
    assert (span.name, span.kind) == ("calculator.Calculator/Add", trace.SpanKind.CLIENT)
    assert lasted(span) == 2.0
    assert dict(span.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": "calculator.Calculator/Add",
        "rpc.response.status_code": "OK",
        "fsm_conn.connection.name": "plug",
    }
    assert span.instrumentation_scope.schema_url == otel.SCHEMA


def answer(code: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


async def test_what_the_plugin_answers_is_the_status(sdk: Otel) -> None:
    """Its code is `error.type`, its words are the description."""
    peer = Peer()
    async with watched(sdk, peer) as conn:
        peer.call_outcomes = [answer(grpc.StatusCode.INVALID_ARGUMENT, "division by zero")]
        with pytest.raises(grpc.aio.AioRpcError):
            await conn.call("calculator.Divide")
    span = sdk.spans[-1]
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "division by zero")
    assert span.attributes["rpc.response.status_code"] == span.attributes["error.type"] == "INVALID_ARGUMENT"


async def test_a_lost_link_says_whether_the_request_may_have_been_executed(sdk: Otel) -> None:
    """No status was answered; the class of the error is its type."""
    peer = Peer()
    async with watched(sdk, peer) as conn:
        peer.call_outcomes = ["unsent"]
        with pytest.raises(ConnectionLostError):
            await conn.call("a.B")
    span = sdk.spans[-1]
    assert span.attributes["error.type"] == "fsm_conn.links.errors.ConnectionLostError"
    assert span.attributes["fsm_conn.maybe_executed"] is False
    assert "rpc.response.status_code" not in span.attributes


async def test_an_unknown_method_is_named_in_its_span_only(sdk: Otel) -> None:
    """As the conventions have it: `_OTHER`, and the original beside it."""
    peer = Peer()
    async with watched(sdk, peer) as conn:
        peer.call_outcomes = [UnknownNameError("no such method")]
        with pytest.raises(UnknownNameError):
            await conn.call("calculator.Ad")
        await conn.call("calculator.Add")
    wrong = sdk.spans[-2]
    assert (wrong.name, wrong.attributes["rpc.method"]) == ("grpc", "_OTHER")
    assert wrong.attributes["rpc.method_original"] == "calculator.Ad"
    for point in sdk.data()["rpc.client.call.duration"].data.data_points:
        assert "rpc.method_original" not in point.attributes


async def test_the_caller_s_own_cancelling_is_no_error(sdk: Otel) -> None:
    """It has the status that gRPC gives it."""
    async with watched(sdk, Slow()) as conn:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await conn.call("a.B")
    span = sdk.spans[-1]
    assert span.status.status_code is trace.StatusCode.UNSET
    assert span.attributes["rpc.response.status_code"] == "CANCELLED"
    assert "error.type" not in span.attributes


async def test_units_and_boundaries(sdk: Otel) -> None:
    """Seconds, and the boundaries that the conventions recommend."""
    async with watched(sdk, Peer()) as conn:
        await conn.call("a.B")
        await conn.probe()
        data = sdk.data()
    assert {name: metric.unit for name, metric in data.items()} == {
        "fsm_conn.connection.count": "{connection}",
        "fsm_conn.transitions": "{transition}",
        "fsm_conn.attempts": "{attempt}",
        "fsm_conn.probes": "{probe}",
        "fsm_conn.connect.duration": "s",
        "rpc.client.call.duration": "s",
    }
    (point,) = data["rpc.client.call.duration"].data.data_points
    assert tuple(point.explicit_bounds) == otel.CALL_BUCKETS
    assert data["fsm_conn.connection.count"].data.is_monotonic is False


async def test_a_measurement_leads_to_its_span(sdk: Otel) -> None:
    """By its exemplar."""
    async with watched(sdk, Peer()) as conn:
        await conn.call("a.B")
        (point,) = sdk.data()["rpc.client.call.duration"].data.data_points
    assert [exemplar.span_id for exemplar in point.exemplars] == [sdk.spans[-1].context.span_id]


async def test_without_an_sdk_nothing_happens() -> None:
    """The API's own providers do nothing, at little cost."""
    conn = Connection(Peer(), name="plug")
    otel.OpenTelemetry(trace.NoOpTracerProvider()).attach(conn)
    async with conn:
        await conn.call("a.B")
    assert conn.observer_errors == 0

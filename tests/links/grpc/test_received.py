"""The metadata that come with replies: of calls and streams, also when they fail, and of compiled stubs as gRPC has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from fsm_conn import CallOptions, Connection, Endpoint, ReceivedMetadata
from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc

from .server import SERVICES

EARLY, LATE = (("request-id", "7"), ("twice", "a"), ("twice", "b")), (("cost-bin", b"\x01\x02"),)


class Telling(calculator_pb2_grpc.CalculatorServicer):  # type: ignore[misc]
    """Sends metadata before and after its replies, and fails when asked for less than nothing."""

    async def _tell(self, request: Any, context: Any) -> None:
        await context.send_initial_metadata(EARLY)
        context.set_trailing_metadata(LATE)
        if getattr(request, "a", getattr(request, "limit", 0)) < 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no", LATE)

    async def Add(self, request: Any, context: Any) -> Any:
        await self._tell(request, context)
        return calculator_pb2.Result(result=request.a + request.b)

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._tell(request, context)
        for number in range(request.limit):
            yield calculator_pb2.Result(result=number)

    async def Sum(self, requests: Any, context: Any) -> Any:
        await self._tell(None, context)
        return calculator_pb2.Result(result=sum([each.value async for each in requests]))


class Passing(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc,unused-ignore]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)


@pytest.fixture(params=["plain", "intercepted"])
async def conn(request: Any) -> AsyncIterator[Connection]:
    server: Any = grpc.aio.server()
    calculator_pb2_grpc.add_CalculatorServicer_to_server(Telling(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    interceptors = [Passing()] if request.param == "intercepted" else []
    async with Connection(Endpoint(f"127.0.0.1:{port}", interceptors=interceptors), services=SERVICES) as conn:
        yield conn
    await server.stop(0)


def without_grpcs_own(metadata: Any) -> tuple[Any, ...]:
    """An interceptor of gRPC's shows its own, too."""
    return tuple(pair for pair in metadata if not pair[0].startswith(("content-type", "grpc-", "user-agent", "date")))


def assert_told(received: ReceivedMetadata) -> None:
    assert without_grpcs_own(received.initial) == EARLY
    assert without_grpcs_own(received.trailing) == LATE


@pytest.mark.parametrize("idempotent", [False, True])
async def test_metadata_of_a_call(conn: Connection, idempotent: bool) -> None:
    """What came before the reply, and what came at the end."""
    received = ReceivedMetadata()
    options = CallOptions(received=received, idempotent=idempotent)
    assert (await conn.call("calculator.Add", options, a=1, b=2)).result == 3
    assert_told(received)


async def test_metadata_of_a_call_that_fails(conn: Connection) -> None:
    """The same; the error has them, too."""
    received = ReceivedMetadata()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await conn.call("calculator.Add", CallOptions(received=received), a=-1)
    assert_told(received)
    assert without_grpcs_own(caught.value.trailing_metadata() or ()) == LATE


async def test_metadata_of_a_call_that_takes_a_stream(conn: Connection) -> None:
    """The same."""
    received = ReceivedMetadata()
    assert (await conn.call("calculator.Sum", [{"value": 2}], CallOptions(received=received))).result == 2
    assert_told(received)


async def test_metadata_of_a_stream(conn: Connection) -> None:
    """The first with the first reply, the last with the end; and with an error.

    When a stream's error comes before gRPC has looked for its initial metadata, gRPC drops that.
    """
    received = ReceivedMetadata()
    async for _ in conn.stream("calculator.Count", CallOptions(received=received), limit=2):
        assert without_grpcs_own(received.initial) == EARLY
        assert received.trailing == ()
    assert_told(received)

    received = ReceivedMetadata()
    with pytest.raises(grpc.aio.AioRpcError):
        await anext(conn.stream("calculator.Count", CallOptions(received=received), limit=-1))
    assert without_grpcs_own(received.initial) in (EARLY, ())
    assert without_grpcs_own(received.trailing) == LATE


async def test_a_stream_may_be_left_early(conn: Connection) -> None:
    """Then nothing is known of its end, and nothing is left open."""
    received = ReceivedMetadata()
    replies = conn.stream("calculator.Count", CallOptions(received=received), limit=5)
    await anext(replies)
    await replies.aclose()  # type: ignore[attr-defined]
    assert without_grpcs_own(received.initial) == EARLY
    assert received.trailing == ()


async def test_one_that_is_used_again_tells_of_the_last_call(conn: Connection) -> None:
    """And of nothing, if that has told nothing."""
    received = ReceivedMetadata()
    await conn.call("calculator.Add", CallOptions(received=received), a=1, b=2)
    assert_told(received)
    calling = asyncio.ensure_future(conn.call("calculator.Sum", never(), CallOptions(received=received)))
    await eventually_empty(received)
    calling.cancel()
    await asyncio.wait((calling,))
    assert (received.initial, received.trailing) == ((), ())


async def never() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield {}


async def eventually_empty(received: ReceivedMetadata) -> None:
    async with asyncio.timeout(200):
        while received.initial or received.trailing:
            await asyncio.sleep(0.005)


def test_what_takes_none_is_refused() -> None:
    """With what to give; and options are compared by what is sent."""
    with pytest.raises(TypeError, match=r"CallOptions\(received=dict\): give a ReceivedMetadata\(\), or None"):
        CallOptions(received={})  # type: ignore[arg-type]
    assert CallOptions(received=ReceivedMetadata()) == CallOptions()
    assert hash(CallOptions(received=ReceivedMetadata())) == hash(CallOptions())


def test_values_that_may_be_tokens_are_not_shown() -> None:
    """A `repr` has the keys alone: whoever logs one logs no session."""
    received = ReceivedMetadata(initial=(("set-cookie", "hunter2"),), trailing=(("next-token-bin", b"hunter3"),))
    assert repr(received) == "ReceivedMetadata(initial=['set-cookie'], trailing=['next-token-bin'])"

"""Calls that end without a status, as a proxy ends those whose backend is gone. Against a small server on h2."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.links.base import CallOptions
from fsm_conn.links.errors import ConnectionLostError, LinkLostError
from fsm_conn.links.grpc.endpoint import EndpointLink

from .server import Wire, wired

CALL_LIMIT = CallOptions(timeout=60)
INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 2, 8, 11


def begin(wire: Wire, stream: int) -> None:
    wire.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
    wire.flush()


def reset(code: int) -> Callable[[Wire, int], None]:
    def cut(wire: Wire, stream: int) -> None:
        wire._writer.write(b"\0\0\4\3\0" + struct.pack(">II", stream, code))

    return cut


def reset_late(wire: Wire, stream: int) -> None:
    """As Envoy and nginx do when the answer had begun."""
    begin(wire, stream)
    reset(INTERNAL_ERROR)(wire, stream)


def end_with_data(wire: Wire, stream: int) -> None:
    """As HAProxy does when the answer had begun, and what gRPC makes of a page that says 502 to a stream."""
    begin(wire, stream)
    wire.h2.send_data(stream, b"", end_stream=True)
    wire.flush()


def end_with_headers(wire: Wire, stream: int) -> None:
    wire.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")], end_stream=True)
    wire.flush()


def page(wire: Wire, stream: int) -> None:
    wire.h2.send_headers(stream, [(":status", "502"), ("content-type", "text/html")])
    wire.h2.send_data(stream, b"<h1>Bad Gateway</h1>", end_stream=True)
    wire.flush()


CUTS = [
    reset(INTERNAL_ERROR),
    reset(CANCEL),
    reset(ENHANCE_YOUR_CALM),
    reset_late,
    end_with_data,
    end_with_headers,
    page,
]


async def unary(link: EndpointLink) -> Any:
    return await link.call("calculator.Add", None, {"a": 1, "b": 2}, CALL_LIMIT)


async def stream(link: EndpointLink) -> Any:
    return [reply async for reply in link.stream("calculator.Count", None, {"limit": 1}, CALL_LIMIT)]


async def answering_health(wire: Wire, told: asyncio.Queue[int]) -> None:
    """Refuse the questions about health, and pass on the application's calls."""
    for number in range(100):
        call = await wire.streams.get()
        if wire.headers[number][b":path"].startswith(b"/grpc.health"):
            wire.refuse(call, 12, "")
        else:
            told.put_nowait(call)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", [unary, stream])
async def test_a_call_that_nobody_has_answered(kind: Any, cut: Any) -> None:
    """It may be sent again on request, like one that was answered UNAVAILABLE; the link is kept."""
    async with wired() as (link, wires):
        wire, calls = await wires.get(), asyncio.Queue[int]()
        answering = asyncio.create_task(answering_health(wire, calls))
        pending = asyncio.create_task(kind(link))
        cut(wire, await asyncio.wait_for(calls.get(), 200))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(pending, 200)
        assert link.is_unavailable(caught.value)
        assert link._loss.reason is None
        answering.cancel()


@pytest.mark.parametrize("words", ["the plugin's code raised an exception", "Received http2 header with status: 404"])
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
async def test_an_answer_is_no_cut(code: grpc.StatusCode, words: str) -> None:
    async with wired() as (link, wires):
        wire = await wires.get()
        pending = asyncio.create_task(unary(link))
        wire.refuse(await asyncio.wait_for(wire.streams.get(), 200), code.value[0], words)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(pending, 200)
        assert not link.is_unavailable(caught.value)


@pytest.mark.parametrize("kind", [unary, stream])
async def test_a_connection_that_goes_right_after_its_calls_were_reset(kind: Any) -> None:
    """As servers do that are killed or stopped: it is a loss, whatever the reset said."""
    async with wired() as (link, wires):
        wire = await wires.get()
        pending = asyncio.create_task(kind(link))
        reset_late(wire, await asyncio.wait_for(wire.streams.get(), 200))
        await asyncio.wait((pending, asyncio.create_task(wire.streams.get())), return_when=asyncio.FIRST_COMPLETED)
        wire.abort()
        with pytest.raises(ConnectionLostError):
            await asyncio.wait_for(pending, 200)
        assert type(await asyncio.wait_for(link.lost(), 200)) is LinkLostError


async def test_a_stub_call_that_was_reset_right_before_the_connection_went() -> None:
    """It was harmed, so this was no orderly close."""
    async with wired() as (link, wires):
        wire = await wires.get()
        call = calculator_pb2_grpc.CalculatorStub(link.channel).Add(calculator_pb2.Operands(a=1, b=2))
        reset_late(wire, await asyncio.wait_for(wire.streams.get(), 200))
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(call, 200)
        wire.abort()
        assert type(await asyncio.wait_for(link.lost(), 200)) is LinkLostError

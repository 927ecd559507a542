"""An orderly close is no outage: what a link says when its peer goes away, and what becomes of calls.

Against servers of grpc, and against a small one on h2, which says exactly what is told.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.links.base import CallOptions
from fsm_conn.links.errors import ConnectionLostError, GoingAwayError, LinkLostError
from fsm_conn.links.grpc.calls import GrpcCalls
from fsm_conn.links.grpc.endpoint import EndpointLink, new_channel
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.services import normalize_services

from .server import SERVICES, Served, serving, turning_away, wired

ADD = {"a": 1, "b": 2}


async def opened(served: Served) -> EndpointLink:
    link = EndpointLink(served.address, services=SERVICES)
    await link.open()
    return link


def add(link: EndpointLink) -> asyncio.Task[Any]:
    return asyncio.create_task(link.call("calculator.Add", None, ADD, None))


async def lost(link: EndpointLink) -> Exception:
    return await asyncio.wait_for(link.lost(), 200)


async def test_a_peer_whose_connections_may_get_only_so_old() -> None:
    """It says that it goes away: the call under way is finished, and new ones are served until the link is closed."""
    async with serving(hang=True, options=[("grpc.max_connection_age_ms", 500)]) as served:
        link = await opened(served)
        pending = add(link)
        await served.reached.wait()
        reason = await lost(link)
        assert isinstance(reason, GoingAwayError)
        assert not pending.done()
        later = add(link)
        draining = asyncio.create_task(link.drained())
        served.go.set()
        assert (await pending).result == (await later).result == 3
        await asyncio.wait_for(draining, 200)
        assert await link.lost() is reason
        await link.close()


async def test_streams_and_stubs_are_finished_too() -> None:
    """Whatever kind of call it is."""
    async with serving(hang=True, options=[("grpc.max_connection_age_ms", 500)]) as served:
        link = await opened(served)
        stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]
        numbers = [{"value": 1.0}, {"value": 2.0}]
        replies = link.stream("calculator.Accumulate", numbers, {}, None)
        assert (await anext(replies)).result == 1
        by_stub = stub.Add(calculator_pb2.Operands(a=1, b=2))
        assert isinstance(await lost(link), GoingAwayError)
        served.go.set()
        assert [reply.result async for reply in replies] == [3]
        assert (await by_stub).result == 3
        await asyncio.wait_for(link.drained(), 200)
        await link.close()


async def test_a_peer_that_closes_idle_connections() -> None:
    """Nothing was under way, so nothing is broken; and a call is served all the same."""
    async with serving(options=[("grpc.max_connection_idle_ms", 300)]) as served:
        link = await opened(served)
        assert isinstance(await lost(link), GoingAwayError)
        assert (await add(link)).result == 3
        await link.close()


async def test_a_rolling_update() -> None:
    """A server that stops with a grace lets its calls end; whoever calls afterwards was provably not served."""
    async with serving(hang=True) as served:
        link = await opened(served)
        pending = add(link)
        await served.reached.wait()
        stopping = asyncio.create_task(served.server.stop(30))
        assert isinstance(await lost(link), GoingAwayError)
        served.go.set()
        assert (await pending).result == 3
        await stopping
        with pytest.raises(ConnectionLostError) as caught:
            await add(link)
        assert not caught.value.maybe_executed
        await link.close()


async def test_a_server_that_stops_without_grace_breaks_its_calls() -> None:
    """That is an outage, though it says goodbye."""
    async with serving(hang=True) as served:
        link = await opened(served)
        pending = add(link)
        await served.reached.wait()
        await served.server.stop(0)
        with pytest.raises(ConnectionLostError) as caught:
            await pending
        assert caught.value.maybe_executed
        assert type(await lost(link)) is LinkLostError
        await link.close()


async def test_a_call_that_outlives_the_grace_of_its_peer() -> None:
    """The link had gone away in good order; the call, which was cut off, may have been executed."""
    options = [("grpc.max_connection_age_ms", 300), ("grpc.max_connection_age_grace_ms", 500)]
    async with serving(hang=True, options=options) as served:
        link = await opened(served)
        pending = add(link)
        assert isinstance(await lost(link), GoingAwayError)
        with pytest.raises(ConnectionLostError, match="closed it in good order, but before the call was") as caught:
            await pending
        assert caught.value.maybe_executed
        await link.close()


# ---- a peer that says what it is told ----------------------------------------------------------------------------------


REPLY = calculator_pb2.Result(result=3).SerializeToString()


async def test_goaway_and_then_the_answer() -> None:
    """The call that the peer took is answered over the old connection, the next one over a new one."""
    async with wired() as (link, wires):
        first = await wires.get()
        pending = add(link)
        stream = await first.streams.get()
        first.go_away(stream)
        assert isinstance(await lost(link), GoingAwayError)
        later = add(link)
        second = await wires.get()
        second.answer(await second.streams.get(), REPLY)
        assert (await later).result == 3
        assert not pending.done()
        first.answer(stream, REPLY)
        assert (await pending).result == 3
        await asyncio.wait_for(link.drained(), 200)


async def test_goaway_and_nobody_listens_any_more(tmp_path: Path) -> None:
    """What cannot be sent is told so, and harms nothing that the peer has taken."""
    path = f"{tmp_path}/s.sock"
    async with wired(path) as (link, wires):
        first = await wires.get()
        pending = add(link)
        stream = await first.streams.get()
        os.unlink(path)
        first.go_away(stream)
        with pytest.raises(ConnectionLostError) as caught:
            while True:
                await asyncio.wait_for(add(link), 200)
        assert not caught.value.maybe_executed
        assert isinstance(await lost(link), GoingAwayError)
        first.answer(stream, REPLY)
        assert (await pending).result == 3
        await asyncio.wait_for(link.drained(), 200)


async def test_a_connection_that_breaks_under_a_call() -> None:
    """Without a word: that is a loss."""
    async with wired() as (link, wires):
        first = await wires.get()
        pending = add(link)
        await first.streams.get()
        first.abort()
        with pytest.raises(ConnectionLostError) as caught:
            await pending
        assert caught.value.maybe_executed
        assert type(await lost(link)) is LinkLostError


async def test_a_stub_s_call_that_breaks_is_a_loss_too() -> None:
    """Nobody else was there to notice."""
    async with wired() as (link, wires):
        first = await wires.get()
        stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]
        pending = asyncio.ensure_future(stub.Add(calculator_pb2.Operands(a=1, b=2)))
        await first.streams.get()
        first.abort()
        with pytest.raises(grpc.aio.AioRpcError):
            await pending
        assert type(await lost(link)) is LinkLostError


@pytest.mark.parametrize("kind", ["call", "stream", "stub", "stub's stream", "stub's reads"])
async def test_a_call_that_crosses_a_goaway_is_sent_again(kind: str) -> None:
    """The peer has not looked at it: it is answered over the next connection, and nothing is broken."""
    async with wired() as (link, wires):
        stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]

        async def answered() -> float:
            if kind == "call":
                return float((await link.call("calculator.Add", None, ADD, CallOptions(timeout=60))).result)
            if kind == "stream":
                replies = link.stream("calculator.Count", None, {"limit": 1}, CallOptions(timeout=60))
                return sum([reply.result async for reply in replies])
            if kind == "stub":
                return float((await stub.Add(calculator_pb2.Operands(a=1, b=2), timeout=60)).result)
            replies = stub.Count(calculator_pb2.Limit(limit=1), timeout=60)
            if kind == "stub's stream":
                return sum([reply.result async for reply in replies])
            return float((await replies.read()).result)

        first = await wires.get()
        pending = asyncio.create_task(answered())
        await first.streams.get()
        first.go_away(0)
        second = await wires.get()
        second.answer(await second.streams.get(), REPLY)
        assert await pending == 3
        assert isinstance(await lost(link), GoingAwayError)


async def test_a_call_that_crosses_one_goaway_after_the_other() -> None:
    """It is told that it was not executed, however often it is turned away."""
    async with wired() as (link, wires):
        pending = add(link)
        for _ in range(2):
            wire = await wires.get()
            await wire.streams.get()
            wire.go_away(0)
        with pytest.raises(ConnectionLostError) as caught:
            await pending
        assert not caught.value.maybe_executed
        assert isinstance(await lost(link), GoingAwayError)


async def test_a_call_that_crosses_a_goaway_of_a_peer_that_goes_on() -> None:
    """As a plugin does: the call is answered over the next connection, and the link is not lost."""
    async with wired() as (link, wires):
        loss, channel = Loss(), new_channel(link._endpoint)
        await channel.channel_ready()
        calls = GrpcCalls(channel, normalize_services(SERVICES), loss, resumes=True)
        await wires.get()
        pending = asyncio.create_task(calls.call("calculator.Add", None, ADD, CallOptions(timeout=60)))
        first = await wires.get()
        await first.streams.get()
        first.go_away(0)
        second = await wires.get()
        second.answer(await second.streams.get(), REPLY)
        assert (await pending).result == 3
        assert loss.reason is None
        await calls.close()


async def test_the_words_of_a_goaway_alone_are_an_answer() -> None:
    """A peer may pass on what it was told itself: it has done something by then, and is not asked again."""
    async with wired() as (link, wires):
        wire = await wires.get()
        pending = add(link)
        wire.refuse(await wire.streams.get(), 14, "GOAWAY received; Error code: 0; Debug Text: ")
        with pytest.raises(grpc.aio.AioRpcError, match="GOAWAY received"):
            await pending
        assert not any(headers[b":path"].endswith(b"Add") for headers in wire.headers[1:])


async def test_an_endpoint_that_turns_everybody_away() -> None:
    """With a GOAWAY as soon as it is connected: the event loop goes on. gRPC would keep it until the deadline."""
    with turning_away() as address:
        for _ in range(5):
            link = EndpointLink(address, services=SERVICES)
            await link.open()
            with pytest.raises((ConnectionLostError, grpc.aio.AioRpcError)) as caught:
                await link.call("calculator.Add", None, ADD, CallOptions(timeout=200))
            if isinstance(caught.value, grpc.aio.AioRpcError):
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert isinstance(await lost(link), GoingAwayError)
            await link.close()

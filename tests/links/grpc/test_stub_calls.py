"""Calls of compiled stubs over a link: whatever becomes of the link, no caller is told of a cancellation that was none."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import grpc
import grpc.aio
import pytest

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.links.grpc import stub_channel
from fsm_conn.links.grpc.endpoint import EndpointLink

from .server import Served, serving

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def stub_of(link: EndpointLink) -> Any:
    return calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]


async def opened(served: Served) -> EndpointLink:
    link = EndpointLink(served.address)
    await link.open()
    return link


async def unary(stub: Any) -> None:
    await stub.Add(calculator_pb2.Operands(a=1, b=1))


async def replies(stub: Any) -> None:
    async for _ in stub.Count(calculator_pb2.Limit(limit=3)):
        pass


async def read(stub: Any) -> None:
    call = stub.Count(calculator_pb2.Limit(limit=3))
    while await call.read() is not grpc.aio.EOF:
        pass


async def requests(stub: Any) -> None:
    async def numbers() -> Any:
        await asyncio.Event().wait()
        yield calculator_pb2.Number(value=1)

    await stub.Sum(numbers())


async def written(stub: Any) -> None:
    call = stub.Accumulate()
    await call.write(calculator_pb2.Number(value=1))
    await call.read()
    await call.read()


@pytest.mark.parametrize("kind", [unary, replies, read, requests, written])
@pytest.mark.parametrize("end", ["closed", "marked unresponsive"])
async def test_a_link_that_is_closed_under_a_call_is_unavailable(kind: Any, end: str) -> None:
    """In each of the four kinds, however the call is read: `AioRpcError`, so a TaskGroup tells it."""
    async with serving(hang=True) as served:
        link = await opened(served)
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(kind(stub_of(link)))
                await served.reached.wait()
                if end == "marked unresponsive":
                    link.mark_unresponsive()
                await link.close()
        (error,) = caught.value.exceptions
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is UNAVAILABLE
        assert "the link was closed" in str(error.details()) or end != "closed"


async def test_what_such_a_call_says_of_itself() -> None:
    """Its status is the one that was raised, and it was not cancelled."""
    async with serving(hang=True) as served:
        link = await opened(served)
        call = stub_of(link).Add(calculator_pb2.Operands(a=1, b=1))
        await served.reached.wait()
        await link.close()
        assert await call.code() is UNAVAILABLE
        assert await call.details() == "the link was closed"
        assert (call.done(), call.cancelled()) == (True, False)


async def test_who_is_cancelled_is_told_so() -> None:
    """By a task's cancellation, by a time limit, and by the call's own `cancel`."""
    async with serving(hang=True) as served:
        link = await opened(served)
        stub = stub_of(link)
        task = asyncio.create_task(unary(stub))
        await served.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await unary(stub)
        call = stub.Add(calculator_pb2.Operands(a=1, b=1))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        await asyncio.wait_for(link.drained(), 200)
        await link.close()


async def test_all_four_kinds_are_answered() -> None:
    """As by gRPC's own channel; and none is under way afterwards."""
    async with serving() as served:
        link = await opened(served)
        stub = stub_of(link)
        assert (await stub.Add(calculator_pb2.Operands(a=1, b=2))).result == 3
        assert [reply.result async for reply in stub.Count(calculator_pb2.Limit(limit=2))] == [1, 2]
        numbers = [calculator_pb2.Number(value=value) for value in (1, 2)]
        assert (await stub.Sum(iter(numbers))).result == 3
        assert [reply.result async for reply in stub.Accumulate(iter(numbers))] == [1, 3]
        dropped = stub.Count(calculator_pb2.Limit(limit=2))
        assert isinstance(dropped, grpc.aio.UnaryStreamCall)
        del dropped
        gc.collect()
        await asyncio.wait_for(link.drained(), 200)
        await link.close()


async def test_the_channel_is_the_link_s_to_close() -> None:
    """Who closed it would break the calls of others."""
    async with serving() as served:
        link = await opened(served)
        with pytest.raises(TypeError, match="closed by its link"):
            await link.channel.close()
        assert link.channel.get_state() is grpc.ChannelConnectivity.READY
        await link.close()


async def test_calls_that_nobody_awaits_are_seen_to_end() -> None:
    """Whoever must know which are under way looks, and others ask a call about itself; and they do not pile up."""
    async with serving() as served:
        link = await opened(served)
        stub = stub_of(link)
        traffic = link.channel.traffic
        for _ in range(3 * stub_channel.FEW):
            call = stub.Add(calculator_pb2.Operands(a=1, b=1))
            while not call._call.done():  # gRPC's own, for to ask ours would be to be told
                await asyncio.sleep(0)
        assert len(traffic.began) <= stub_channel.FEW + 1
        await asyncio.wait_for(link.drained(), 200)
        assert traffic.began == {}
        asked = stub.Add(calculator_pb2.Operands(a=1, b=1))
        assert await asked.code() is grpc.StatusCode.OK
        assert traffic.began == {}
        await link.close()


async def test_a_call_that_runs_out_of_time_is_told() -> None:
    """It is told when that began."""
    async with serving(hang=True) as served:
        link = await opened(served)
        told: list[float] = []
        link.channel.traffic.ran_out = told.append
        with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
            await stub_of(link).Add(calculator_pb2.Operands(a=1, b=1), timeout=0.01)
        assert len(told) == 1
        assert link.channel.traffic.began == {}
        await link.close()

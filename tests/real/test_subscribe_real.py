"""Subscriptions and `on_open` against real plugins that are killed, and a server that goes away in good order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection

from fsm_conn import Connection, Gap, GoingAwayError, RetryPolicy
from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc

from .conftest import CALCULATOR, eventually

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("no_leaks")]

RETRY = RetryPolicy(initial_delay=0.01, max_attempts=10)


async def test_a_plugin_is_killed_under_a_subscription() -> None:
    """It goes on with the next process, after a gap; `on_open` has been at work on that before."""
    prepared: list[int | None] = []
    requests: asyncio.Queue[dict[str, float]] = asyncio.Queue()

    async def prepare(conn: Connection) -> None:
        assert (await conn.call("calculator.Add", a=1, b=1)).result == 2
        prepared.append(conn.pid)

    async def numbers() -> AsyncIterator[dict[str, float]]:
        while True:
            yield await requests.get()

    async with Connection(list(CALCULATOR), retry=RETRY, on_open=prepare) as conn:
        got: list[Any] = []

        async def follow() -> None:
            async for item in conn.subscribe("calculator.Accumulate", numbers):
                got.append(item if isinstance(item, Gap) else item.result)

        following = asyncio.create_task(follow())
        first = conn.pid
        requests.put_nowait({"value": 1})
        await eventually(lambda: got)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: len(got) == 2)
        assert prepared == [first, conn.pid]
        requests.put_nowait({"value": 5})
        await eventually(lambda: len(got) == 3)
        assert (got[0], type(got[1]), got[2]) == (1, Gap, 5)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


class Ticking(calculator_pb2_grpc.CalculatorServicer):  # type: ignore[misc]
    """Sends one number and then nothing."""

    def __init__(self) -> None:
        self.streams = 0

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.streams += 1
        try:
            yield calculator_pb2.Result(result=self.streams)
            await asyncio.Event().wait()
        finally:
            self.streams -= 1


async def test_a_server_that_closes_its_connections_in_good_order() -> None:
    """The subscription moves on, and nothing counts as lost; the server is rid of the old stream."""
    server: Any = grpc.aio.server(options=[("grpc.max_connection_age_ms", 1500)])
    ticking = Ticking()
    calculator_pb2_grpc.add_CalculatorServicer_to_server(ticking, server)  # type: ignore[no-untyped-call]
    reflection.enable_server_reflection(("calculator.Calculator", reflection.SERVICE_NAME), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Connection(f"127.0.0.1:{port}", retry=RETRY) as conn:
        gaps: list[Gap] = []
        async with asyncio.timeout(200):
            async for item in conn.subscribe("calculator.Count", limit=1):
                if isinstance(item, Gap):
                    gaps.append(item)
                    if len(gaps) == 2:
                        break
        assert {type(gap.reason) for gap in gaps} == {GoingAwayError}
        assert conn.attempt == 1
        await eventually(lambda: ticking.streams == 0)
    await server.stop(0)

"""A real server in this process, on loopback, for tests of how links see it go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.demo.calculator import Calculator


class Slow(Calculator):
    """A calculator whose answers wait until `go` is set."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def _wait(self) -> None:
        self._served.reached.set()
        await self._served.go.wait()

    async def Add(self, request: Any, context: Any) -> Any:
        self._served.metadata.append(dict(context.invocation_metadata()))
        await self._wait()
        return await super().Add(request, context)

    async def Count(self, request: Any, context: Any) -> Any:
        await self._wait()
        async for reply in super().Count(request, context):
            yield reply

    async def Sum(self, requests: Any, context: Any) -> Any:
        await self._wait()
        return await super().Sum(requests, context)

    async def Accumulate(self, requests: Any, context: Any) -> Any:
        async for reply in super().Accumulate(requests, context):
            yield reply
            await self._wait()


class Served:
    """What is served, and where.

    Attributes:
        reached: set when a call has arrived.
        go: answers wait for it.
        metadata: of each `Add`, what came with it.
    """

    def __init__(self) -> None:
        self.server: Any = None
        self.address = ""
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.metadata: list[dict[str, Any]] = []


@asynccontextmanager
async def serving(
    *, hang: bool = False, options: Sequence[tuple[str, Any]] = (), address: str = "127.0.0.1:0", services: Any = None
) -> AsyncIterator[Served]:
    """A calculator. `hang`: its answers wait for `go`; `services`: adds more to the server."""
    served = Served()
    if not hang:
        served.go.set()
    served.server = grpc.aio.server(options=list(options))
    calculator_pb2_grpc.add_CalculatorServicer_to_server(Slow(served), served.server)  # type: ignore[no-untyped-call]
    if services is not None:
        services(served.server)
    port = served.server.add_insecure_port(address)
    served.address = address if address.startswith("unix:") else f"127.0.0.1:{port}"
    await served.server.start()
    try:
        yield served
    finally:
        await served.server.stop(0)


SERVICES = (calculator_pb2.DESCRIPTOR.services_by_name["Calculator"],)

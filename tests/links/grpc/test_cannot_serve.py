"""What counts as a peer's answer that it cannot serve at present: a proxy's, and that of a server which is being stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection

from fsm_conn import CallError, CallOptions, Connection, Endpoint, Gap
from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.demo.calculator import Calculator

AGAIN = CallOptions(idempotent=True, retry_unavailable=True, timeout=60)


class Refusing(Calculator):
    """Answers its first request with a status."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code
        self.asked = 0

    async def _refuse(self, context: Any) -> None:
        self.asked += 1
        if self.asked == 1:
            await context.abort(self.code, self.code.name)

    async def Add(self, request: Any, context: Any) -> Any:
        await self._refuse(context)
        return await super().Add(request, context)

    async def Count(self, request: Any, context: Any) -> Any:
        await self._refuse(context)
        async for reply in super().Count(request, context):
            yield reply


@pytest.fixture(params=["UNAVAILABLE", "CANCELLED"])
async def refused(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Refusing, Connection]]:
    service = Refusing(grpc.StatusCode[request.param])
    server = grpc.aio.server()
    calculator_pb2_grpc.add_CalculatorServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Connection(Endpoint(f"127.0.0.1:{port}"), services=calculator_pb2) as conn:
        yield service, conn
    await server.stop(0)


async def test_a_call_is_sent_again_on_the_same_link(refused: tuple[Refusing, Connection]) -> None:
    service, conn = refused
    link = conn.link
    assert (await conn.call("calculator.Add", AGAIN, a=1, b=2)).result == 3
    assert (service.asked, conn.link) == (2, link)


async def test_a_subscription_is_opened_again(refused: tuple[Refusing, Connection]) -> None:
    service, conn = refused
    items = conn.subscribe("calculator.Count", AGAIN, limit=2)
    gap = await anext(items)
    assert isinstance(gap, Gap)
    assert isinstance(gap.reason, grpc.aio.AioRpcError)
    assert gap.reason.code() is service.code
    assert (await anext(items)).result == 1
    await items.aclose()


async def test_without_the_option_the_caller_gets_the_answer(refused: tuple[Refusing, Connection]) -> None:
    """Also an idempotent call: the peer has answered."""
    service, conn = refused
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await conn.call("calculator.Add", CallOptions(idempotent=True), a=1, b=2)
    assert caught.value.code() is service.code
    assert conn.is_connected()


class Away(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Refuses the first questions about services, as a proxy does whose backend is away."""

    def __init__(self) -> None:
        self.refused = 0

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        if "ServerReflection" not in details.method or self.refused >= 2:
            return await continuation(details)
        self.refused += 1
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream")
        yield b""


@pytest.mark.parametrize("kind", ["call", "subscription"])
async def test_a_method_that_could_not_be_looked_up_is_looked_up_again(kind: str) -> None:
    """The lookup is a part of the call, so what is true of its answer is true of the lookup's."""
    away = Away()
    server = grpc.aio.server(interceptors=[away])
    calculator_pb2_grpc.add_CalculatorServicer_to_server(Calculator(), server)  # type: ignore[no-untyped-call]
    reflection.enable_server_reflection(["calculator.Calculator", reflection.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Connection(Endpoint(f"127.0.0.1:{port}")) as conn:
        with pytest.raises(CallError, match="no healthy upstream"):
            await conn.call("calculator.Add", CallOptions(idempotent=True), a=1, b=2)
        if kind == "call":
            assert (await conn.call("calculator.Add", AGAIN, a=1, b=2)).result == 3
        else:
            items = conn.subscribe("calculator.Count", AGAIN, limit=2)
            assert isinstance(await anext(items), Gap)
            assert (await anext(items)).result == 1
            await items.aclose()
        assert away.refused == 2
    await server.stop(0)

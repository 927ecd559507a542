"""Peers as they are: servers that are killed, vanish, are updated, close idle connections, or have one thread only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from ports import free_port

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionState,
    HealthPolicy,
    NotConnectedError,
    ProbeTimeoutError,
    RetryPolicy,
)
from fsm_conn.demo import calculator_pb2
from fsm_conn.demo.calculator import Calculator
from fsm_conn.demo.calculator_pb2_grpc import CalculatorServicer, CalculatorStub, add_CalculatorServicer_to_server

S = ConnectionState
QUICK = RetryPolicy(max_attempts=None, initial_delay=0.02, max_delay=0.1)


async def serve(port: int, *options: tuple[str, Any]) -> grpc.aio.Server:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1), *options])
    add_CalculatorServicer_to_server(Calculator(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server


def endpoint(port: int, **options: Any) -> Connection:
    return Connection(f"127.0.0.1:{port}", services=calculator_pb2, **options)


async def _count(caller: Any, *options: CallOptions) -> None:
    async for _ in caller.stream("calculator.Count", *options, limit=2):
        pass


# --- patience -----------------------------------------------------------------------------------------------------


async def test_an_endpoint_is_connected_again_soon_after_its_return_and_nobody_asks() -> None:
    """By default; here it is away long enough for the connection to give up first."""
    port = free_port()
    server = await serve(port)
    async with endpoint(port) as conn:
        await server.stop(None)
        await conn.wait_for_state(S.FAILED)
        with pytest.raises(NotConnectedError):
            await conn.call("calculator.Add", a=1, b=2)
        waiting = asyncio.create_task(conn.call("calculator.Add", CallOptions(wait_for_ready=True), a=1, b=2))
        await asyncio.sleep(0.1)
        server = await serve(port)
        async with asyncio.timeout(200):
            assert (await waiting).result == 3
    await server.stop(None)


# --- half-open ----------------------------------------------------------------------------------------------------


class Relay:
    """Passes bytes on between clients and a server, until it falls silent: nobody is told, and nothing is closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_silent = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def fall_silent(self, silent: bool = True) -> None:
        self._is_silent.set() if silent else self._is_silent.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_silent.is_set():
            writer.close()
            return
        onward, back = await asyncio.open_connection("127.0.0.1", self._port)
        for source, dest in ((reader, back), (onward, writer)):
            task = asyncio.create_task(self._pass_on(source, dest))
            self._tasks.add(task)

    async def _pass_on(self, source: asyncio.StreamReader, dest: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not self._is_silent.is_set():
                    dest.write(data)
        finally:
            dest.close()


async def _add(conn: Connection, timeout: float) -> Any:
    return await conn.call("calculator.Add", CallOptions(timeout=timeout), a=1, b=2)


async def _add_by_stub(conn: Connection, timeout: float) -> Any:
    stub: Any = conn.stub(CalculatorStub)
    return await stub.Add(calculator_pb2.Operands(a=1, b=2), timeout=timeout)


@pytest.mark.parametrize("add", [_add, _add_by_stub])
async def test_a_peer_that_vanished_is_noticed_by_the_first_call_that_ran_into_its_deadline(add: Any) -> None:
    """By default: the deadline, and five seconds; with a shorter limit for the question, sooner."""
    server_port = free_port()
    server = await serve(server_port)
    async with Relay(server_port).running() as relay:
        policy = HealthPolicy(interval=None, timeout=1)
        async with endpoint(relay.port, retry=QUICK, health=policy) as conn:
            assert (await add(conn, 30)).result == 3
            relay.fall_silent()
            with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
                await add(conn, 0.5)
            async with asyncio.timeout(200):
                await conn.wait_for_state(S.RECONNECTING)
            assert any(isinstance(record.reason, ProbeTimeoutError) for record in conn.history)
            relay.fall_silent(False)
            assert (await conn.call("calculator.Add", CallOptions(wait_for_ready=True), a=1, b=2)).result == 3
    await server.stop(None)


# --- orderly closes -----------------------------------------------------------------------------------------------


async def test_a_server_that_limits_the_age_of_connections_breaks_no_call() -> None:
    """Unary calls, streams of some seconds, and compiled stubs, for several ages of a connection; nothing is counted."""
    port = free_port()
    server = await serve(port, ("grpc.max_connection_age_ms", 1000), ("grpc.max_connection_age_grace_ms", 20_000))
    broken: list[BaseException] = []
    served = 0
    async with endpoint(port, retry=RetryPolicy(max_attempts=1, max_restarts=0)) as conn:
        stub: Any = conn.stub(CalculatorStub)

        def renewed() -> int:
            return sum(record.trigger == "going_away" for record in conn.history)

        async def use(call: Callable[[], Awaitable[Any]]) -> None:
            nonlocal served
            while renewed() < 4 or served < 30:
                try:
                    await call()
                    served += 1
                except Exception as error:
                    broken.append(error)
                await asyncio.sleep(0.05)

        async with asyncio.timeout(200):
            await asyncio.gather(
                use(lambda: conn.call("calculator.Add", a=1, b=2)),
                use(lambda: stub.Add(calculator_pb2.Operands(a=1, b=2))),
                use(lambda: _count(conn)),
            )
        assert (broken, conn.attempt) == ([], 1)
        assert not any(record.dest in (S.RECONNECTING, S.FAILED) for record in conn.history)
    await server.stop(None)


async def test_a_server_that_is_updated_finishes_its_calls() -> None:
    """`server.stop(grace)` under a call: it is answered, while the next server takes the new ones."""
    port = free_port()
    reached, gate = asyncio.Event(), asyncio.Event()

    class Slow(CalculatorServicer):
        async def Add(self, request: Any, context: Any) -> Any:
            reached.set()
            await gate.wait()
            return calculator_pb2.Result(result=request.a + request.b)

    old = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    add_CalculatorServicer_to_server(Slow(), old)
    old.add_insecure_port(f"127.0.0.1:{port}")
    await old.start()
    async with endpoint(port, retry=QUICK) as conn:
        call = asyncio.create_task(conn.call("calculator.Add", a=1, b=2))
        await reached.wait()
        stopping = asyncio.create_task(old.stop(20))
        await conn.wait_for_state(S.RENEWING, S.RECONNECTING)
        new = await serve(port)
        reply = await conn.call("calculator.Add", CallOptions(wait_for_ready=True), a=2, b=2)
        assert reply.result == 4
        gate.set()
        assert (await call).result == 3
        await stopping
    await new.stop(None)


async def test_a_server_that_closes_idle_connections_does_not_wear_one_out() -> None:
    """Nobody calls: the connection is there when somebody does, and nothing was counted."""
    port = free_port()
    server = await serve(port, ("grpc.max_connection_idle_ms", 500))
    async with endpoint(port, retry=RetryPolicy(max_attempts=1, max_restarts=0)) as conn:
        await asyncio.sleep(5)
        assert (await conn.call("calculator.Add", a=1, b=2)).result == 3
        assert conn.attempt == 1
        assert not any(record.dest in (S.RECONNECTING, S.FAILED) for record in conn.history)
    await server.stop(None)


# --- one thread ---------------------------------------------------------------------------------------------------


async def _work(conn: Connection, seconds: float) -> Any:
    return await conn.call("calculator.Add", a=seconds, b=7)


async def _work_by_stub(conn: Connection, seconds: float) -> Any:
    stub: Any = conn.stub(CalculatorStub)
    return await stub.Add(calculator_pb2.Operands(a=seconds, b=7))


@pytest.mark.parametrize("work", [_work, _work_by_stub])
async def test_a_peer_with_one_thread_lives_while_it_works_for_us(work: Any) -> None:
    """It answers no probe meanwhile, by which an idle one would be given up."""
    from grpc_health.v1 import health, health_pb2_grpc

    class Working(CalculatorServicer):
        def Add(self, request: Any, context: Any) -> Any:
            time.sleep(request.a)
            return calculator_pb2.Result(result=request.b)

    port = free_port()
    server = grpc.server(ThreadPoolExecutor(1))
    add_CalculatorServicer_to_server(Working(), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    policy = HealthPolicy(interval=0.2, timeout=0.3, failure_threshold=1, watch=False)
    async with endpoint(port, retry=RetryPolicy(max_attempts=1), health=policy) as conn:
        assert (await work(conn, 2.5)).result == 7
        assert (conn.attempt, conn.state) == (1, S.CONNECTED)
    server.stop(None).wait()

"""A real server in this process, on loopback, for tests of how links see it go."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import grpc.aio
import pytest

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.demo.calculator import Calculator
from fsm_conn.links.grpc.endpoint import EndpointLink
from fsm_conn.links.target import Endpoint


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
    *,
    hang: bool = False,
    options: Sequence[tuple[str, Any]] = (),
    address: str = "127.0.0.1:0",
    services: Any = None,
    credentials: Any = None,
) -> AsyncIterator[Served]:
    """A calculator. `hang`: its answers wait for `go`; `services`: adds more to the server."""
    served = Served()
    if not hang:
        served.go.set()
    served.server = grpc.aio.server(options=list(options))
    calculator_pb2_grpc.add_CalculatorServicer_to_server(Slow(served), served.server)  # type: ignore[no-untyped-call]
    if services is not None:
        services(served.server)
    if credentials is None:
        port = served.server.add_insecure_port(address)
    else:
        port = served.server.add_secure_port(address, credentials)
    served.address = address if address.startswith("unix:") else f"127.0.0.1:{port}"
    await served.server.start()
    try:
        yield served
    finally:
        await served.server.stop(0)


SERVICES = (calculator_pb2.DESCRIPTOR.services_by_name["Calculator"],)


class Wire:
    """One connection to a server on h2, which answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        h2 = pytest.importorskip("h2.connection", reason="the package h2 is not installed")
        config = pytest.importorskip("h2.config").H2Configuration(client_side=False)
        self.h2 = h2.H2Connection(config=config)
        self.h2.initiate_connection()
        self.streams: asyncio.Queue[int] = asyncio.Queue()
        self.headers: list[dict[bytes, bytes]] = []
        self.pings = 0
        self.is_silent = False
        self._reader = reader
        self._writer = writer

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())

    async def serve(self) -> None:
        self.flush()
        while data := await self._reader.read(65536):
            for event in self.h2.receive_data(data):
                if type(event).__name__ == "PingReceived":
                    self.pings += 1
                if type(event).__name__ == "RequestReceived":
                    self.headers.append({bytes(name): bytes(value) for name, value in event.headers})
                    self.streams.put_nowait(event.stream_id)
            if not self.is_silent:
                self.flush()

    def answer(self, stream: int, reply: bytes) -> None:
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self.h2.send_data(stream, b"\0" + len(reply).to_bytes(4, "big") + reply)
        self.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        self.flush()

    def refuse(self, stream: int, code: int, words: str) -> None:
        headers = [(":status", "200"), ("content-type", "application/grpc")]
        self.h2.send_headers(stream, [*headers, ("grpc-status", f"{code}"), ("grpc-message", words)], end_stream=True)
        self.flush()

    def go_away(self, last: int, code: int = 0) -> None:
        # h2 would say nothing after that; a server finishes what it has.
        frame = bytes((0, 0, 8, 7, 0, 0, 0, 0, 0))
        self._writer.write(frame + last.to_bytes(4, "big") + code.to_bytes(4, "big"))

    def abort(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def wired(path: str = "", **options: Any) -> AsyncIterator[tuple[EndpointLink, asyncio.Queue[Wire]]]:
    """A link to such a server, and the connections that it has made. `path`: of a socket; `options`: of the endpoint."""
    pytest.importorskip("h2.connection", reason="the package h2 is not installed")  # now: gRPC does not wait for long
    wires: asyncio.Queue[Wire] = asyncio.Queue()
    serving: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        wires.put_nowait(wire)
        task = asyncio.ensure_future(wire.serve())
        serving.add(task)
        try:
            await asyncio.wait((task,))
        finally:
            writer.close()

    if path:
        server = await asyncio.start_unix_server(connected, path)
    else:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
    address = f"unix:{path}" if path else f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    link = EndpointLink(Endpoint(address, **options), services=SERVICES)
    await link.open()
    try:
        yield link, wires
    finally:
        await link.close()
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.wait(serving)


@contextmanager
def turning_away(path: str = "", last: int = 0) -> Iterator[str]:
    """A server in a thread that sends GOAWAY as soon as it is connected, and stays. `last`: the last call it takes."""
    settings, held = b"\0\0\0\4\0\0\0\0\0", []
    goaway = b"\0\0\x08\7\0\0\0\0\0" + last.to_bytes(4, "big") + b"\0\0\0\0"

    def turn_away(listening: socket.socket) -> None:
        with suppress(OSError):  # that the test has ended
            while True:
                connection, _ = listening.accept()
                held.append(connection)
                with suppress(ConnectionError):
                    connection.sendall(settings)
                    connection.recv(1000)
                    connection.sendall(settings[:4] + b"\1" + settings[5:])
                    connection.sendall(goaway)

    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as listening:
        listening.bind(path or ("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=turn_away, args=(listening,))
        thread.start()
        try:
            yield f"unix:{path}" if path else f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(200)
            for connection in held:
                connection.close()

"""A plugin behind the relay that closes its connections in good order lives on, as any other does."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fsm_conn.links.grpc.calls import GrpcCalls
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.plugin.dialing import Dialler
from fsm_conn.links.plugin.handshake import Address
from fsm_conn.links.services import normalize_services

from ..grpc.server import SERVICES
from ..grpc.server import serving as calculators
from .test_tls_relay import GOOD, QUICK, serving


async def up(reader: asyncio.StreamReader, inner: socket.socket) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            await asyncio.get_running_loop().sock_sendall(inner, data)


async def down(inner: socket.socket, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await asyncio.get_running_loop().sock_recv(inner, 65536):
            writer.write(data)
            await writer.drain()


@pytest.fixture
def private() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="r-") as directory:
        yield Path(directory)


async def test_a_server_that_closes_in_good_order(private: Path) -> None:
    """The calls go on over the next connection, and the link is not lost."""
    backend = str(private / "backend.sock")
    limits = [("grpc.max_connection_age_ms", 200)]
    async with calculators(address=f"unix:{backend}", options=limits):

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with socket.socket(socket.AF_UNIX) as inner:
                inner.setblocking(False)
                await asyncio.get_running_loop().sock_connect(inner, backend)
                pumps = [asyncio.create_task(up(reader, inner)), asyncio.create_task(down(inner, writer))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for each in pumps:
                        each.cancel()
                    await asyncio.wait(pumps)

        async with serving(private, pass_on) as path:
            dialled = await Dialler(tls=GOOD, max_message=1000).dial(Address(network="unix", address=path))
            loss = Loss()
            calls = GrpcCalls(dialled.channel, normalize_services(SERVICES), loss, resumes=True)
            async with asyncio.timeout(QUICK):
                while calls.connectivity.resumed < 2:
                    assert (await calls.call("calculator.Add", None, {"a": 1, "b": 2}, None)).result == 3
            assert loss.reason is None
            await calls.close()
            await dialled.close()

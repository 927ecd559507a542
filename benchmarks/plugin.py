"""The plugin that everything is measured on, and the clients that fsm_conn is compared with.

It is the calculator that comes with fsm_conn, a Python plugin as a user would write one. Nothing in it knows that it
is measured. The module imports grpc and pyvider only where a function needs them, so that a benchmark of what happens
in a fresh interpreter can import it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsm_conn import Connection

__all__ = ["CHANCE", "COMMAND", "bare_client", "calculator_stub", "pid_of", "plain_channel"]

COMMAND = [sys.executable, "-m", "fsm_conn.demo.calculator"]

CHANCE = "Neither side is ours: this is what chance and the machine make of two channels that are alike."
"""Why a second plain channel may seem behind the first."""

CLOSE_LIMIT = 10.0
"""Seconds for the bare client to close, before its plugin is killed instead."""


def pid_of(conn: Connection) -> int:
    """The number of the plugin's process."""
    link: Any = conn.link
    return int(link.pid)


def calculator_stub(channel: Any) -> Any:
    """A compiled stub on a channel."""
    from fsm_conn.demo import calculator_pb2_grpc

    generated: Any = calculator_pb2_grpc  # which has no types
    return generated.CalculatorStub(channel)


@asynccontextmanager
async def plain_channel(conn: Connection) -> AsyncIterator[Any]:
    """A channel made by grpc.aio alone to the plugin of `conn`: the same process and socket, with TLS if and only if
    `conn` has it, and with the same certificates. It has no options but the name that TLS needs.
    """
    import grpc.aio

    link: Any = conn.link
    client = link._client
    credentials = client._setup_channel_credentials()
    if credentials is None:
        channel = grpc.aio.insecure_channel(client.target_endpoint)
    else:
        name = [("grpc.ssl_target_name_override", "localhost")]
        channel = grpc.aio.secure_channel(client.target_endpoint, credentials, options=name)
    try:
        yield channel
    finally:
        await channel.close(None)


@asynccontextmanager
async def bare_client() -> AsyncIterator[Any]:
    """pyvider-rpcplugin's own client, as its documentation shows it: made, started, and closed at the end."""
    from pyvider.rpcplugin import plugin_client

    client: Any = plugin_client(COMMAND)
    try:
        await client.start()
        yield client
    finally:
        # It forgets its process when it closes, and may hang, or be cancelled half-way.
        process = client._process
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await client.close()
        finally:
            _make_sure(process)


def _make_sure(process: Any) -> None:
    """End a process that its client has left behind."""
    if process is not None and process.is_running():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.process.wait()

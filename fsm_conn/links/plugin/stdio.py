"""Reads what a plugin prints after its handshake, which go-plugin's servers send over a separate stream.

A server may block until the stream is read, so it is read as long as there is a link, even if nobody wants the output.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from pyvider.rpcplugin.protocol.grpc_stdio_pb2 import StdioData

from fsm_conn.links.process.output import LineLog

__all__ = ["read_stdio"]

PAUSE = 0.5
"""Seconds before the stream is opened again."""


async def read_stdio(stub: Any, log_of: Callable[[str], LineLog]) -> None:
    """Read the stream until it ends. If it is cut off, open it again: its connection may have been replaced.

    Args:
        stub: a `GRPCStdioStub`.
        log_of: makes the log for `"stdout"` and for `"stderr"`.
    """
    logs = {StdioData.STDOUT: log_of("stdout"), StdioData.STDERR: log_of("stderr")}
    try:
        while True:
            if not await _is_cut_off(stub.StreamStdio(empty_pb2.Empty(), wait_for_ready=True), logs):
                break
            await asyncio.sleep(PAUSE)
    finally:
        for log in logs.values():
            log.end()


async def _is_cut_off(replies: Any, logs: Mapping[Any, LineLog]) -> bool:
    """Read one stream to its end, and return whether its connection ended."""
    try:
        async for data in replies:
            if data is not None and (log := logs.get(data.channel)):  # None: gRPC could not parse it
                await log.feed_in_turns(data.data)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    except grpc.aio.UsageError:
        pass
    return False

"""What a plugin prints after its handshake, which go-plugin's servers send over a stream of their own.

A server may block until it is read, so it is read as long as there is a link, whether or not anybody wants to know.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc.aio
from google.protobuf import empty_pb2
from pyvider.rpcplugin.protocol.grpc_stdio_pb2 import StdioData

from fsm_conn.links.process.output import LineLog

__all__ = ["read_stdio"]


async def read_stdio(stub: Any, log_of: Callable[[str], LineLog]) -> None:
    """Read the stream until it ends.

    Args:
        stub: a `GRPCStdioStub`.
        log_of: makes the log for `"stdout"` and for `"stderr"`.
    """
    logs = {StdioData.STDOUT: log_of("stdout"), StdioData.STDERR: log_of("stderr")}
    try:
        with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
            async for data in stub.StreamStdio(empty_pb2.Empty()):
                if data is not None and (log := logs.get(data.channel)):  # None: gRPC could not parse it
                    await log.feed_in_turns(data.data)
    finally:
        for log in logs.values():
            log.end()

"""Asks a plugin to end, so that it can do its work at the end. What ends it when it does not, its link knows."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from pyvider.rpcplugin.protocol.grpc_controller_pb2 import Empty as ShutdownRequest

__all__ = ["ask_to_end"]


async def ask_to_end(controller: Any, limit: float) -> float | None:
    """Ask a plugin to end, and return the seconds of `limit` that are left; None: it cannot be asked.

    A server may end before it has answered, so any other failure counts as asked.

    Args:
        controller: a `GRPCControllerStub`.
        limit: seconds.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + limit
    try:
        await controller.Shutdown(ShutdownRequest(), timeout=limit)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
    return max(end - clock(), 0.0)

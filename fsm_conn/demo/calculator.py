"""The calculator: a go-plugin plugin, to be started by a host only.

    python -m fsm_conn.demo.calculator

Rules that hold here: standard output belongs to the handshake, and standard error to errors; `SIGTERM` ends
it at once, with status 0; it starts as fast as its libraries can be imported.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

# Read when the library is imported; there is no later way to say it. What goes wrong, main() tells in one line.
os.environ.setdefault("PROVIDE_LOG_LEVEL", "CRITICAL")
os.environ.setdefault("FOUNDATION_LOG_LEVEL", "CRITICAL")

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection
from pyvider.rpcplugin.exception import RPCPluginError
from pyvider.rpcplugin.protocol import RPCPluginProtocol
from pyvider.rpcplugin.server import RPCPluginServer

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.demo.calculator_pb2 import Limit, Number, Operands, Result

__all__ = ["Calculator", "CalculatorProtocol", "main", "serve"]

_SERVICE = calculator_pb2.DESCRIPTOR.services_by_name["Calculator"].full_name


class Calculator(calculator_pb2_grpc.CalculatorServicer):
    """The service itself: one method of each of gRPC's four kinds, and one that can fail."""

    async def Add(self, request: Operands, context: Any) -> Result:
        """Return a + b."""
        return Result(result=request.a + request.b)

    async def Subtract(self, request: Operands, context: Any) -> Result:
        """Return a - b."""
        return Result(result=request.a - request.b)

    async def Multiply(self, request: Operands, context: Any) -> Result:
        """Return a * b."""
        return Result(result=request.a * request.b)

    async def Divide(self, request: Operands, context: Any) -> Result:
        """Return a / b; INVALID_ARGUMENT when b is zero."""
        if request.b == 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "division by zero")
        return Result(result=request.a / request.b)

    async def Count(self, request: Limit, context: Any) -> AsyncIterator[Result]:
        """Send 1, 2, ... up to the limit."""
        for number in range(1, request.limit + 1):
            yield Result(result=number)

    async def Sum(self, request_iterator: AsyncIterator[Number], context: Any) -> Result:
        """Return the sum of all numbers."""
        return Result(result=sum([number.value async for number in request_iterator]))

    async def Accumulate(self, request_iterator: AsyncIterator[Number], context: Any) -> AsyncIterator[Result]:
        """Send the sum so far after each number."""
        total = 0.0
        async for number in request_iterator:
            total += number.value
            yield Result(result=total)


class CalculatorProtocol(RPCPluginProtocol[Any, Any]):
    """How the plugin's server registers the service, and reflection with it."""

    service_name = _SERVICE
    supported_protocol_versions = (1,)

    async def get_grpc_descriptors(self) -> tuple[Any, str]:
        """Return the generated module, and the name of its service."""
        return calculator_pb2, _SERVICE

    async def add_to_server(self, server: grpc.aio.Server, handler: Any) -> None:
        """Register the service, and server reflection."""
        generated: Any = calculator_pb2_grpc  # which has no types
        generated.add_CalculatorServicer_to_server(handler, server)
        reflection.enable_server_reflection((_SERVICE, reflection.SERVICE_NAME), server)


async def serve() -> None:
    """Serve until `SIGTERM`.

    Raises:
        RPCPluginError: it could not start, for instance because no host set the environment of the handshake.
    """
    # Calls under way are cut off: a calculator has nothing that could be lost.
    config = {"PLUGIN_EXIT_ON_STOP": False, "PLUGIN_GRPC_GRACE_PERIOD": 0}
    server: Any = RPCPluginServer(protocol=CalculatorProtocol(), handler=Calculator(), config=config)
    await server.serve()


def main() -> None:
    """Run the plugin until it is told to stop; exits with status 1 when it cannot start."""
    try:
        asyncio.run(serve())
    except RPCPluginError as error:
        sys.exit(f"calculator: this is a plugin, for a host to start: {error.message}")


if __name__ == "__main__":
    main()

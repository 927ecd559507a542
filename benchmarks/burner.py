"""A plugin whose additions take a core for as long as they are told to, to be started by a host and by nobody else.

    python -m benchmarks.burner

It is the calculator otherwise. The work is counted in rounds of a loop of Python, not in seconds, so that it takes
longer where there is less of a core to be had, as real work does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pyvider.rpcplugin.server import RPCPluginServer

from fsm_conn.demo.calculator import Calculator, CalculatorProtocol
from fsm_conn.demo.calculator_pb2 import Operands, Result

__all__ = ["Burner"]


class Burner(Calculator):
    """Adds up what is asked for, one round of a loop at a time."""

    async def Add(self, request: Operands, context: Any) -> Result:
        """Return a + b, which takes b rounds."""
        total = request.a
        for _ in range(int(request.b)):
            total += 1
        return Result(result=total)


async def serve() -> None:
    """Serve until `SIGTERM`."""
    config = {"PLUGIN_EXIT_ON_STOP": False, "PLUGIN_GRPC_GRACE_PERIOD": 0}
    server: Any = RPCPluginServer(protocol=CalculatorProtocol(), handler=Burner(), config=config)
    await server.serve()


if __name__ == "__main__":
    asyncio.run(serve())

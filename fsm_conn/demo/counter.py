"""A plugin that is served by its host, and serves it more than one service: the demo of go-plugin's broker.

    python -m fsm_conn.demo.counter

Rules that hold here: as for the calculator. pyvider-rpcplugin's own broker only acknowledges what it is told, so a
plugin in Python that needs one brings its own, as this one does with `PluginSideBroker`.
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

import grpc.aio
from pyvider.rpcplugin.exception import RPCPluginError
from pyvider.rpcplugin.protocol import RPCPluginProtocol
from pyvider.rpcplugin.protocol.grpc_broker_pb2_grpc import add_GRPCBrokerServicer_to_server
from pyvider.rpcplugin.server import RPCPluginServer

from fsm_conn.demo import counter_pb2, counter_pb2_grpc
from fsm_conn.demo.counter_pb2 import Entry, Key, Nothing, PutRequest, Service, SumRequest, Value
from fsm_conn.demo.plugin_side import PluginSideBroker, new_certificate

__all__ = ["Counter", "CounterProtocol", "main", "serve"]

_SERVICE = counter_pb2.DESCRIPTOR.services_by_name["Counter"].full_name
_generated: Any = counter_pb2_grpc  # which has no types


class Browser(counter_pb2_grpc.BrowserServicer):
    """What is served besides."""

    def __init__(self, values: dict[str, int]) -> None:
        self._values = values

    async def Entries(self, request: Nothing, context: Any) -> AsyncIterator[Entry]:
        """Send all that was counted."""
        for key, value in sorted(self._values.items()):
            yield Entry(key=key, value=value)


class Counter(counter_pb2_grpc.CounterServicer):
    """The service itself, which lets its host do the sums."""

    def __init__(self, broker: PluginSideBroker) -> None:
        self._broker = broker
        self._values: dict[str, int] = {}
        self._adders: dict[int, Any] = {}
        self._dialling = asyncio.Lock()

    async def _adder(self, number: int) -> Any:
        """The host's Adder of that number. Its channel is kept: with TLS, to dial takes longer than several calls."""
        async with self._dialling:
            if number not in self._adders:
                self._adders[number] = _generated.AdderStub(await self._broker.dial(number))
            return self._adders[number]

    async def Put(self, request: PutRequest, context: Any) -> Value:
        """Add to a value, by asking the host's Adder."""
        adder = await self._adder(request.adder)
        sum = await adder.Sum(SumRequest(a=self._values.get(request.key, 0), b=request.value))
        self._values[request.key] = sum.value
        return Value(value=sum.value)

    async def Get(self, request: Key, context: Any) -> Value:
        """Return a value; 0 for one that was never counted."""
        return Value(value=self._values.get(request.key, 0))

    async def Browse(self, request: Service, context: Any) -> Service:
        """Serve a Browser."""
        browser = Browser(self._values)
        number = request.id or self._broker.next_id()
        await self._broker.serve(number, lambda server: _generated.add_BrowserServicer_to_server(browser, server))
        return Service(id=number)


class CounterProtocol(RPCPluginProtocol[Any, Any]):
    """How the plugin's server registers the service."""

    service_name = _SERVICE
    supported_protocol_versions = (1,)

    async def get_grpc_descriptors(self) -> tuple[Any, str]:
        """Return the generated module, and the name of its service."""
        return counter_pb2, _SERVICE

    async def add_to_server(self, server: grpc.aio.Server, handler: Any) -> None:
        """Register the service."""
        _generated.add_CounterServicer_to_server(handler, server)


class CounterServer(RPCPluginServer[Any, Any, Any]):
    """A server whose broker is ours: that of pyvider-rpcplugin is registered by then, and the last one counts."""

    broker: PluginSideBroker

    async def _initialize_server_with_services(self) -> grpc.aio.Server:
        server = await super()._initialize_server_with_services()
        add_GRPCBrokerServicer_to_server(self.broker, server)  # type: ignore[no-untyped-call,unused-ignore]
        return server


async def serve() -> None:
    """Serve until `SIGTERM`.

    Raises:
        RPCPluginError: it could not start, for instance because no host set the environment of the handshake.
    """
    config: dict[str, Any] = {"PLUGIN_EXIT_ON_STOP": False, "PLUGIN_GRPC_GRACE_PERIOD": 0}
    certificate = key = ""
    host = os.environ.get("PLUGIN_CLIENT_CERT", "")
    if host:
        certificate, key = new_certificate()
        config |= {"PLUGIN_SERVER_CERT": certificate, "PLUGIN_SERVER_KEY": key}
    broker = PluginSideBroker(certificate, key, host)
    server = CounterServer(protocol=CounterProtocol(), handler=Counter(broker), config=config)
    server.broker = broker
    try:
        await server.serve()
    finally:
        await broker.close()


def main() -> None:
    """Run the plugin until it is told to stop; exits with status 1 when it cannot start."""
    try:
        asyncio.run(serve())
    except RPCPluginError as error:
        sys.exit(f"counter: this is a plugin, for a host to start: {error.message}")


if __name__ == "__main__":
    main()

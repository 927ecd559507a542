"""A plugin: a program that a host starts, and that serves gRPC to it. Standard output belongs to the handshake."""

import asyncio
import os
import sys
from typing import Any

os.environ.setdefault("PROVIDE_LOG_LEVEL", "CRITICAL")  # read when the library is imported

import greeter_pb2
import greeter_pb2_grpc
import grpc
from greeter_pb2 import Configured, Greeting, Person, Settings
from grpc_reflection.v1alpha import reflection
from pyvider.rpcplugin import configure
from pyvider.rpcplugin.exception import RPCPluginError
from pyvider.rpcplugin.protocol import RPCPluginProtocol
from pyvider.rpcplugin.server import RPCPluginServer

COOKIE = "greeter-5d1c"
"""Says that a host of greeters has started this program, and not somebody at a prompt. It is no secret."""
SERVICE = greeter_pb2.DESCRIPTOR.services_by_name["Greeter"].full_name
GREETINGS = {"English": "Hello", "French": "Bonjour"}


class Greeter(greeter_pb2_grpc.GreeterServicer):
    """The service: one async method for each rpc of the proto."""

    language = os.environ.get("GREETER_LANGUAGE", "")

    async def Configure(self, request: Settings, context: Any) -> Configured:
        if request.language not in GREETINGS:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no greeting in {request.language!r}")
        self.language = request.language
        return Configured()

    async def Greet(self, request: Person, context: Any) -> Greeting:
        if not self.language:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "call Configure first")
        return Greeting(text=f"{GREETINGS[self.language]}, {request.name}!")


class GreeterProtocol(RPCPluginProtocol[Any, Any]):
    """What the server registers: the service, and reflection, by which the host finds its methods."""

    service_name = SERVICE
    supported_protocol_versions = (1,)

    async def get_grpc_descriptors(self) -> tuple[Any, str]:
        return greeter_pb2, SERVICE

    async def add_to_server(self, server: Any, handler: Any) -> None:
        greeter_pb2_grpc.add_GreeterServicer_to_server(handler, server)  # type: ignore[no-untyped-call]
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)


async def serve() -> None:
    configure(magic_cookie=COOKIE)
    settings = {"PLUGIN_EXIT_ON_STOP": False, "PLUGIN_GRPC_GRACE_PERIOD": 0}
    await RPCPluginServer(protocol=GreeterProtocol(), handler=Greeter(), config=settings).serve()


if __name__ == "__main__":
    try:
        asyncio.run(serve())
    except RPCPluginError as error:
        sys.exit(f"greeter: this is a plugin, for a host to start: {error.message}")

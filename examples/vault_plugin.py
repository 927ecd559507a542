"""The other side of `authenticated.py`: a plugin that serves its secrets to whoever has logged in to this process."""

import asyncio
import hmac
import os
import secrets
import sys
from typing import Any

# Read when the library is imported: a plugin's stderr is for errors.
os.environ.setdefault("PROVIDE_LOG_LEVEL", "CRITICAL")

import grpc
import vault_pb2
import vault_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pyvider.rpcplugin.protocol import RPCPluginProtocol
from pyvider.rpcplugin.server import RPCPluginServer

SERVICE = vault_pb2.DESCRIPTOR.services_by_name["Vault"].full_name


class Vault(vault_pb2_grpc.VaultServicer):
    """Sessions live as long as the process, so after every restart a client must log in again."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.sessions: set[str] = set()

    async def Login(self, request: vault_pb2.Credentials, context: Any) -> vault_pb2.Session:
        if not hmac.compare_digest(request.token, self.token):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")
        session = secrets.token_hex()
        self.sessions.add(session)
        return vault_pb2.Session(id=session)

    async def Read(self, request: vault_pb2.Key, context: Any) -> vault_pb2.Secret:
        if dict(context.invocation_metadata()).get("session") not in self.sessions:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "log in first")
        return vault_pb2.Secret(value=f"the secret called {request.name}")


class VaultProtocol(RPCPluginProtocol[Any, Any]):
    service_name = SERVICE
    supported_protocol_versions = (1,)

    async def get_grpc_descriptors(self) -> tuple[Any, str]:
        return vault_pb2, SERVICE

    async def add_to_server(self, server: Any, handler: Any) -> None:
        vault_pb2_grpc.add_VaultServicer_to_server(handler, server)  # type: ignore[no-untyped-call]
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)


async def main() -> None:
    token = os.environ.get("VAULT_TOKEN")
    if not token:
        sys.exit("vault: set VAULT_TOKEN to the token that clients must present")
    config = {"PLUGIN_EXIT_ON_STOP": False, "PLUGIN_GRPC_GRACE_PERIOD": 0}
    await RPCPluginServer(protocol=VaultProtocol(), handler=Vault(token), config=config).serve()


asyncio.run(main())

"""The standard health service of a server of plugins, at a separate address.

Requests to the server's main address are passed on, so the plugin itself answers there. Here the server reports on
itself: SERVING while a plugin serves; NOT_SERVING before that, while no plugin serves, and as soon as it drains.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fsm_conn.cluster.errors import ServeError
from fsm_conn.cluster.recipe import TlsFiles, _read
from fsm_conn.cluster.serving.certificates import Renewed

__all__ = ["MOST_QUESTIONS", "HealthServer"]

MOST_QUESTIONS = 100
"""Questions at one time on one connection; more wait at the client's side."""
_STATUS = health_pb2.HealthCheckResponse


class _TokenCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Refuses clients that do not show the token."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}".encode()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Refuse the call, or go on with it."""
        shown = str(dict(details.invocation_metadata).get("authorization", "")).encode()
        if hmac.compare_digest(shown, self._wanted):
            return await continuation(details)

        async def refuse(request: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong, or none was shown")

        return grpc.unary_unary_rpc_method_handler(refuse)


class HealthServer:
    """The health service of one server.

    Args:
        tls: certificates, as for the server; None: plain text.
        token: what clients must show; None: nothing.
        most: connections at one time; any further one is closed.
    """

    def __init__(self, tls: TlsFiles | None, token: str | None, most: int) -> None:
        self._tls = tls
        checks = [] if token is None else [_TokenCheck(token)]
        options = [("grpc.max_allowed_incoming_connections", most), ("grpc.max_concurrent_streams", MOST_QUESTIONS)]
        self._server = grpc.aio.server(interceptors=checks, options=options)
        self._servicer: Any = health.aio.HealthServicer()
        add: Any = health_pb2_grpc.add_HealthServicer_to_server
        add(self._servicer, self._server)

    async def start(self, address: str) -> str:
        """Listen, and return the address; port 0: any that is free.

        Raises:
            ServeError: it cannot listen there.
        """
        await self._servicer.set("", _STATUS.NOT_SERVING)
        try:
            if self._tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _credentials(self._tls))
        except RuntimeError as error:
            raise ServeError(f"cannot listen for questions of health at {address}: {error}") from None
        await self._server.start()
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    async def say(self, *, is_serving: bool) -> None:
        """Tell all clients that ask or watch."""
        await self._servicer.set("", _STATUS.SERVING if is_serving else _STATUS.NOT_SERVING)

    async def stop(self) -> None:
        """Stop serving."""
        await self._server.stop(None)


def _credentials(tls: TlsFiles) -> Any:
    """For gRPC, which asks for the certificates at each handshake."""

    def read() -> Any:
        authorities = None if tls.authorities is None else _read("authorities", tls.authorities).encode()
        pair = (_read("key", tls.key).encode(), _read("certificate", tls.certificate).encode())
        return grpc.ssl_server_certificate_configuration([pair], authorities)

    renewed = Renewed(tls, read)
    return grpc.dynamic_ssl_server_credentials(
        renewed.value(), renewed.value, require_client_authentication=tls.authorities is not None
    )

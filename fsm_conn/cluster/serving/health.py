"""The standard health service of a server of plugins, at an address of its own.

What comes to the server's main address is passed on, so the plugin itself answers there. Here the server tells of
itself: SERVING while a plugin serves, NOT_SERVING before, while none does, and from the moment in which it drains.
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

__all__ = ["MOST_QUESTIONS", "HealthServer"]

MOST_QUESTIONS = 100
"""At one time on one connection; more wait at the other side."""
_STATUS = health_pb2.HealthCheckResponse


class _TokenCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Lets nobody ask who does not show the token."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}".encode()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Refuse, or go on."""
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
        token: what who asks must show; None: nothing.
        most: connections at one time; one more is closed.
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
        """Tell whoever asks or watches."""
        await self._servicer.set("", _STATUS.SERVING if is_serving else _STATUS.NOT_SERVING)

    async def stop(self) -> None:
        """End it."""
        await self._server.stop(None)


def _credentials(tls: TlsFiles) -> Any:
    authorities = None if tls.authorities is None else _read("authorities", tls.authorities).encode()
    pair = (_read("key", tls.key).encode(), _read("certificate", tls.certificate).encode())
    return grpc.ssl_server_credentials([pair], authorities, require_client_auth=authorities is not None)

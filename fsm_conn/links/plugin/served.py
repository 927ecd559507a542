"""One service that this host serves to its plugin: a gRPC server on a socket that nobody else can use.

Rules that hold here:

- The socket is in a directory that only this user may enter, and only this user may write to the socket. Where the link
  has TLS, the plugin must also show its own certificate, and gets this host's.
- gRPC's server does the TLS itself, unless it cannot take a certificate like the plugin's. Then a `TlsDoor` does the
  TLS, and the server accepts only that door.
- Connections are bounded in number, and so are the calls on each and the size of their requests: a plugin cannot use
  up this process's descriptors or memory.
- Ending a service is bounded: calls that do not end when they are cancelled are left behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import attrs
import grpc
import grpc.aio

from fsm_conn._util import workers
from fsm_conn.links.broker import BrokeredService
from fsm_conn.links.grpc.channel import message_limits
from fsm_conn.links.plugin.certificates import make_certificate
from fsm_conn.links.plugin.dialing import Dialler
from fsm_conn.links.plugin.tls_door import MOST, Shown, TlsDoor
from fsm_conn.links.plugin.tls_relay import Credentials, is_beyond_grpc
from fsm_conn.links.target import Tls

__all__ = ["LARGEST_REQUEST", "MOST_CALLS", "Identity", "Served", "identity_of"]

logger = logging.getLogger("fsm_conn.process")

INNER_DAYS = 3650
"""Days for which the certificates of a door and its server are valid: longer than any process."""
MOST_CALLS = 1000
"""Calls at one time on one connection; more wait at the plugin's side."""
LARGEST_REQUEST = 4 * 1024 * 1024
"""Bytes. It is gRPC's default, and that of go-plugin's servers."""
CANCELLED_LIMIT = 1.0
"""Seconds that cancelled calls have to end."""


@attrs.frozen
class Identity:
    """How this host proves its identity to its plugin when it serves, and whom it accepts."""

    credentials: grpc.ServerCredentials | None
    """For gRPC's own server; None: the server has no TLS, or accepts only a door."""
    door: Credentials | None = None
    """For a `TlsDoor` before it; None: there is none."""


def identity_of(dialler: Dialler, own: Any) -> Identity | None:
    """The identity to serve with on a link; None: the link has TLS, and there is no certificate to serve with.

    Args:
        dialler: how the link speaks to the plugin.
        own: the user's own credentials, if any: `Tls`, or gRPC's, which cannot be read.
    """
    if own is not None:
        if not isinstance(own, Tls) or own.certificate is None or own.key is None or own.roots is None:
            return None
        return Identity(_demanding(own.key, own.certificate, own.roots))
    tls = dialler.tls
    if tls is None:
        return Identity(None)
    if not tls.client:
        return None
    if is_beyond_grpc(tls.server):
        return Identity(None, tls)
    plugin = ssl.DER_cert_to_PEM_cert(tls.server).encode()
    return Identity(_demanding(tls.client_key.encode(), tls.client.encode(), plugin))


def _demanding(key: bytes, certificate: bytes, roots: bytes) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(key, certificate)], roots, require_client_auth=True)


def _around(door: Credentials) -> tuple[grpc.ServerCredentials, tuple[Shown, Shown]]:
    """The credentials of a server that accepts only its door; and the door's, towards the plugin and that server."""
    certificate, key = make_certificate(INNER_DAYS)
    server = _demanding(key.encode(), certificate.encode(), certificate.encode())
    inner = Credentials(server=ssl.PEM_cert_to_DER_cert(certificate), client=certificate, client_key=key)
    return server, (Shown(door.serving_context(), door.server), Shown(inner.context(), inner.server))


class Served(BrokeredService):
    """A service that is being served.

    Args:
        service_id: its number.
        path: where it listens.
        server: what serves it, not started yet.
        on_end: called once, when it is served no longer.
    """

    def __init__(self, service_id: int, path: str, server: grpc.aio.Server, on_end: Callable[[Served], None]) -> None:
        self.id = service_id
        self.path = path
        self._server = server
        self._on_end = on_end
        self._door: TlsDoor | None = None

    def __repr__(self) -> str:
        return f"<Served {self.id}>"

    @classmethod
    async def start(
        cls,
        service_id: int,
        path: str,
        identity: Identity,
        register: Callable[[grpc.aio.Server], object],
        *,
        interceptors: Sequence[Any],
        options: Sequence[tuple[str, Any]],
        max_message: int,
        on_end: Callable[[Served], None],
    ) -> Served:
        """Serve. When it fails or is cancelled, nothing is left.

        Args:
            service_id: its number.
            path: where to listen.
            identity: how this host proves who it is.
            register: is given the server, to register servicers.
            interceptors: of the server.
            options: gRPC's channel arguments, which take precedence.
            max_message: bytes of the largest answer.
            on_end: called once, when it is served no longer.

        Raises:
            OSError: there can be no such socket.
        """
        limits = {
            **message_limits(max_message),
            "grpc.max_receive_message_length": min(max_message, LARGEST_REQUEST),
            "grpc.max_allowed_incoming_connections": MOST,
            "grpc.max_concurrent_streams": MOST_CALLS,
        }
        arguments = [*(limits | dict(options)).items()]
        server = grpc.aio.server(interceptors=[*interceptors], options=arguments)
        register(server)
        served = cls(service_id, path, server, on_end)
        try:
            await served._listen(identity)
        except BaseException:
            await served.close()
            raise
        return served

    async def _listen(self, identity: Identity) -> None:
        path = self.path if identity.door is None else f"{self.path}.inner"
        target = "unix:" + quote(path)
        credentials, shown = identity.credentials, None
        if identity.door is not None:
            credentials, shown = await workers.run("spawner", _around, identity.door)
        try:
            if credentials is None:
                self._server.add_insecure_port(target)
            else:
                self._server.add_secure_port(target, credentials)
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen at {path}: {error}") from None
        os.chmod(path, 0o600)
        await self._server.start()
        if shown is not None:
            self._door = TlsDoor(*shown, self.path, path)

    def abort(self) -> None:
        """Accept no more connections, as the loop ends."""
        if self._door is not None:
            self._door.abort()

    async def close(self, grace: float | None = None) -> None:
        """Stop serving, as `BrokeredService.close`."""
        on_end, self._on_end = self._on_end, _nothing
        stopping = asyncio.ensure_future(self._stop(grace))
        try:
            await asyncio.wait((stopping,), timeout=CANCELLED_LIMIT + (grace or 0))
        finally:
            if not stopping.done():
                logger.warning("a call that was served to a plugin does not end although it was cancelled")
                stopping.cancel()
            self.abort()
            for path in (self.path, f"{self.path}.inner"):
                with suppress(OSError):
                    os.unlink(path)
            on_end(self)

    async def _stop(self, grace: float | None) -> None:
        await self._server.stop(grace)
        if self._door is not None:
            await self._door.close()


def _nothing(served: Served) -> None:
    """Do nothing: `on_end` was called already."""

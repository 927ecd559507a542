"""A relay between a channel and a plugin whose TLS gRPC cannot speak.

go-plugin's automatic mTLS gives the plugin a certificate on the curve P-521 (`generateCert` in its `mtls.go`). The
BoringSSL within gRPC offers no signature on that curve, so the handshake fails, whatever the host does. Python's `ssl`
supports the curve. So the relay makes the TLS connection, and the channel, without TLS, connects to a socket of the
relay.

Rules that hold here:

- Only a plugin that gRPC would refuse gets a relay. gRPC speaks to all others itself.
- The server's certificate is pinned, as gRPC pins it: it must be the announced one, have the name `localhost`, as all
  of go-plugin's do, and be valid today. Not a byte is passed on before that is known.
- The channel may connect again, after the plugin has closed its connection in good order: each of the channel's
  connections has a separate connection to the plugin.
- The socket is in a directory that only this user may enter, and every process but this one is turned away. Where the
  system does not tell who connects (elsewhere than on Linux), the relay accepts one connection only, and removes the
  socket as soon as the channel has connected. So without TLS the relay trusts this process, and elsewhere this user,
  who could read this process's memory just as well.
- The plugin's private directory belongs to the plugin: it is removed when the plugin ends, whatever happens here. The
  relay has directories of its own, one for its key and one for its socket. Each is removed by the code that made it.
- When one side ends, the other is ended too, once the earlier data is delivered. There is no half-close: HTTP/2 does
  not use one.
- Connections are bounded in number, and each but the first has a time limit for its TLS.
- `abort` gives everything back, at once and without waiting, at any time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fsm_conn._util import workers
from fsm_conn.links.plugin.tls_sides import Side, TlsSide
from fsm_conn.links.process import directory, system

__all__ = ["Credentials", "TlsRelay", "is_beyond_grpc"]

LOCALHOST = ("127.0.0.1", "::1")
"""What `localhost` is, by RFC 6761. The resolver would take a thread of the loop's default executor."""
SOCKET_NAME = "relay.sock"
KEY_NAME = "key.pem"
MOST = 8
"""The number of connections at one time: the channel's, and old ones that still finish their calls."""
PAUSE = 0.1
"""Seconds without accepting connections, when no descriptors are left."""
HANDSHAKE_LIMIT = 30.0
"""Seconds for the channel's next connection to reach the plugin. It takes milliseconds, unless the machine is busy."""


def is_beyond_grpc(certificate: bytes) -> bool:
    """Whether gRPC's TLS refuses a server with this certificate (DER) because of the kind of its key.

    BoringSSL takes RSA, and ECDSA on P-256 and P-384 (`kVerifySignatureAlgorithms` in its `ssl/extensions.cc`).

    Raises:
        ValueError: it is no certificate, or its key is of an unknown kind.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except Exception as error:  # several unrelated classes of errors
        raise ValueError(str(error) or type(error).__name__) from None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return not isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1))
    return not isinstance(key, rsa.RSAPublicKey)


@attrs.frozen(kw_only=True)
class Credentials:
    """How the plugin, a server, proves its identity, and how this side does."""

    server: bytes = attrs.field(repr=False)
    """The plugin's certificate, DER: only this one is accepted."""
    client: str = attrs.field(default="", repr=False)
    """This side's certificate, PEM; empty: the plugin wants none."""
    client_key: str = attrs.field(default="", repr=False)
    """Its key, PEM."""

    def context(self) -> ssl.SSLContext:
        """A TLS context that trusts the server alone. Blocks for about a millisecond.

        For a moment the key is in a directory that only this user may enter, because `ssl` reads keys from files only.

        Raises:
            OSError: one of the certificates or the key cannot be used, or there is no room for the key.
            LinkError: no such directory could be made.
        """
        return self._prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def serving_context(self) -> ssl.SSLContext:
        """A TLS context for this side as the server, with the plugin as its only client; otherwise like `context`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._prepared(context)

    def _prepared(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=self.server)
        # A trusted certificate need not be self-signed.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.client:
            self._load_key(context)
        return context

    def _load_key(self, context: ssl.SSLContext) -> None:
        # Made, used and removed without an interruption, even if the caller stops waiting.
        private = directory.make()
        try:
            path = os.path.join(private, KEY_NAME)
            with open(path, "x") as file:
                file.write(f"{self.client.strip()}\n{self.client_key.strip()}\n")
            context.load_cert_chain(path)
        finally:
            directory.remove(private)


class _Passage:
    """One connection of the channel's, joined to one connection to the server."""

    def __init__(self, context: ssl.SSLContext, certificate: bytes) -> None:
        self.server = TlsSide(self._ended, context, certificate)
        self.client = Side(self._ended)

    def _ended(self, side: Side) -> None:
        """One side has ended: end the other one."""
        (self.client if side is self.server else self.server).finish()

    async def reach(self, network: str, address: str) -> None:
        """Connect to the server. Raises as `TlsRelay.open`."""
        if network == "unix":
            await asyncio.get_running_loop().create_unix_connection(lambda: self.server, address)
        else:
            host, _, port = address.rpartition(":")
            await self._reach_tcp(int(port), *LOCALHOST if host == "localhost" else (host.strip("[]"),))
        await self.server.proved()

    async def _reach_tcp(self, port: int, address: str, *others: str) -> None:
        """Connect to the first address that can be reached; if none can, raise the error of the first one."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self.server, address, port)
        except OSError:
            for other in others:
                with suppress(OSError):
                    await loop.create_connection(lambda: self.server, other, port)
                    return
            raise

    async def join(self, connection: socket.socket) -> None:
        """Pass data on from now on."""
        self.client.join(self.server)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.client, connection)
        self.server.join(self.client)

    async def ended(self) -> None:
        """Wait until both of its connections are closed."""
        if made := [side.lost for side in (self.server, self.client) if side.was_made()]:
            await asyncio.wait(made)

    def abort(self) -> None:
        """End both, without delivering what is under way."""
        self.server.abort()
        self.client.abort()


class TlsRelay:
    """An open TLS connection to a server, and a socket where connections of this process are joined to it.

    It is made by `open`, and belongs to the loop in which it was opened.
    """

    def __init__(self, network: str, address: str, context: ssl.SSLContext, certificate: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._network = network
        self._address = address
        self._make = partial(_Passage, context, certificate)
        self._directory = ""
        self._listener: socket.socket | None = None
        self._accepted: asyncio.Future[socket.socket | OSError] = self._loop.create_future()
        self._connection: socket.socket | None = None
        self._first = self._make()
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def target(self) -> str:
        """What a channel without TLS is to connect to."""
        return "unix:" + quote(self._path)

    @property
    def _path(self) -> str:
        return os.path.join(self._directory, SOCKET_NAME)

    @property
    def fault(self) -> Exception | None:
        """Why the first connection to the server has ended; None while it has not."""
        return self._first.server.fault

    @classmethod
    async def open(cls, network: str, address: str, credentials: Credentials) -> TlsRelay:
        """Connect to a server, and listen for the connection that `join` waits for. There is no time limit.

        If it does not return, it leaves nothing behind, except for a socket that the loop closes in its next round.

        Args:
            network: `unix` or `tcp`.
            address: an absolute path, or `host:port`.
            credentials: who both sides are.

        Raises:
            OSError: the server cannot be reached, or (`ssl.SSLError`) is not the expected one.
            LinkError: no private directory could be made for the relay's socket.
        """
        context = await workers.run("spawner", credentials.context)
        relay = cls(network, address, context, credentials.server)
        try:
            await relay._first.reach(network, address)
            relay._listen()
        except BaseException:
            relay.abort()
            raise
        return relay

    def _listen(self) -> None:
        # asyncio's own server is not used: closed at the wrong moment, it forgets a connection that it just accepted.
        self._listener = listener = socket.socket(socket.AF_UNIX)
        listener.setblocking(False)
        self._directory = directory.make()
        listener.bind(self._path)
        listener.listen()
        self._heed(listener)

    def _heed(self, listener: socket.socket) -> None:
        if listener is self._listener:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._cannot_accept(listener, error)
            return
        process = system.connected_process(connection)
        if process not in (None, os.getpid()) or len(self._passing) >= MOST:
            connection.close()
            return
        connection.setblocking(False)
        if process is None:
            self._stop_listening()
        if not self._accepted.done():
            self._connection = connection
            self._accepted.set_result(connection)
            return
        self._accept_again(connection)

    def _cannot_accept(self, listener: socket.socket, error: OSError) -> None:
        """No descriptors are left: stop accepting for a while, or the loop would call `_accept` without end."""
        if self._accepted.done():
            self._loop.remove_reader(listener)
            self._loop.call_later(PAUSE, self._heed, listener)
        else:
            self._stop_listening()
            self._accepted.set_result(error)

    def _accept_again(self, connection: socket.socket) -> None:
        task = asyncio.create_task(self._pass(passage := self._make(), connection))
        self._passing.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._passing.discard(task)
            if not passage.client.was_made():  # a task that is cancelled at once never begins
                connection.close()

        task.add_done_callback(ended)

    async def _pass(self, passage: _Passage, connection: socket.socket) -> None:
        """Serve another connection of the channel's."""
        try:
            async with asyncio.timeout(HANDSHAKE_LIMIT):
                await passage.reach(self._network, self._address)
                await passage.join(connection)
            await passage.ended()
        except OSError:  # the server is gone: the end of its connection tells the channel
            pass
        finally:
            passage.abort()
            await passage.ended()

    async def join(self) -> None:
        """Wait until this process has connected to `target`, and then pass data on. Called once; no time limit.

        If it raises, or is cancelled, close the relay.

        Raises:
            OSError: the connection could not be accepted.
        """
        outcome = await self._accepted
        if isinstance(outcome, OSError):
            try:
                raise outcome
            finally:
                del outcome
        await self._first.join(outcome)

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(listener)
            listener.close()
            if self._directory:
                # Another program of this user may have replaced it, or put something into it.
                for let_go, path in ((os.unlink, self._path), (os.rmdir, self._directory)):
                    with suppress(OSError):
                        let_go(path)

    def abort(self) -> None:
        """Give everything back, without waiting, and without delivering what is under way. May be called again."""
        self._stop_listening()
        self._accepted.cancel()
        self._first.abort()
        if self._connection is not None and not self._first.client.was_made():
            self._connection.close()
        for task in self._passing:
            task.cancel()

    async def close(self) -> None:
        """Like `abort`, then wait some rounds of the loop until the sockets are closed. May be called again.

        If this is cancelled, the loop closes the sockets.
        """
        self.abort()
        await self._first.ended()
        if self._passing:
            await asyncio.wait(self._passing)

"""A relay between a channel and a plugin whose TLS gRPC cannot speak.

go-plugin's automatic mTLS gives the plugin a certificate on the curve P-521 (`generateCert` in its `mtls.go`), and the
BoringSSL within gRPC offers no signature on that curve: the handshake fails, whatever the host does. Python's own `ssl`
speaks it. So the relay makes the TLS connection, and the channel, without TLS, connects to a socket of the relay.

Rules that hold here:

- Only a plugin that gRPC would refuse gets a relay. All others are spoken to by gRPC itself.
- The server's certificate is pinned, as gRPC pins it: it must be the announced one, bear the name `localhost`, which
  all of go-plugin's do, and be valid today. Not a byte is passed on before that is known.
- The channel may connect again, after the plugin has closed its connection in good order: each of its connections has
  one of its own to the plugin. The socket stands in a directory that only this user may enter, and all but this process
  are turned away. Where the system does not tell who connects (elsewhere than on Linux), the socket is gone as soon as
  the channel has connected, and that was the only time. So what is trusted without TLS is this process, and elsewhere
  this user, who could read this process's memory just as well.
- The plugin's private directory is the plugin's: it is removed when the plugin ends, whatever is being done here. The
  relay has directories of its own, one for its key and one for its socket, and each is removed by what made it.
- An end on either side ends both, once what came before it is delivered. There is no half-close: HTTP/2 has no use for
  one.
- Connections are bounded in number, and each but the first has a limit for its TLS.
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
"""What `localhost` is, by RFC 6761. To ask the resolver would take a thread of the loop's default executor."""
SOCKET_NAME = "relay.sock"
KEY_NAME = "key.pem"
MOST = 8
"""Connections at one time: the channel's, and those that went away and finish their calls."""
PAUSE = 0.1
"""Seconds without a look at who connects, when no descriptors are left."""
HANDSHAKE_LIMIT = 30.0
"""Seconds for the channel's next connection to reach the plugin. It takes milliseconds, unless the machine is busy."""


def is_beyond_grpc(certificate: bytes) -> bool:
    """Whether gRPC's TLS refuses a server with this certificate (DER), for the kind of its key.

    BoringSSL takes RSA, and ECDSA on P-256 and P-384 (`kVerifySignatureAlgorithms` in its `ssl/extensions.cc`).

    Raises:
        ValueError: it is no certificate, or has a key of a kind that nobody knows.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except Exception as error:  # of several kinds, one of which is in no common tree
        raise ValueError(str(error) or type(error).__name__) from None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return not isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1))
    return not isinstance(key, rsa.RSAPublicKey)


@attrs.frozen(kw_only=True)
class Credentials:
    """How the plugin, a server, proves who it is, and how this side does."""

    server: bytes = attrs.field(repr=False)
    """The plugin's certificate, DER: this one and no other."""
    client: str = attrs.field(default="", repr=False)
    """This side's certificate, PEM; empty: the plugin wants none."""
    client_key: str = attrs.field(default="", repr=False)
    """Its key, PEM."""

    def context(self) -> ssl.SSLContext:
        """A TLS context that trusts the server alone. Blocks for about a millisecond.

        For a moment the key lies in a directory that only this user may enter, for `ssl` reads keys from files only.

        Raises:
            OSError: one of the certificates or the key cannot be used, or there is no room for the key.
            LinkError: there could be no such directory.
        """
        return self._prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def serving_context(self) -> ssl.SSLContext:
        """A TLS context with which this side is the server, and takes the other as its only client; as `context`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._prepared(context)

    def _prepared(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=self.server)
        # What is trusted need not have signed itself.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.client:
            self._load_key(context)
        return context

    def _load_key(self, context: ssl.SSLContext) -> None:
        # Made, used and removed in one go: whoever waits for it may stop waiting.
        private = directory.make()
        try:
            path = os.path.join(private, KEY_NAME)
            with open(path, "x") as file:
                file.write(f"{self.client.strip()}\n{self.client_key.strip()}\n")
            context.load_cert_chain(path)
        finally:
            directory.remove(private)


class _Passage:
    """One connection of the channel's, and the one to the server that it is joined to."""

    def __init__(self, context: ssl.SSLContext, certificate: bytes) -> None:
        self.server = TlsSide(self._ended, context, certificate)
        self.client = Side(self._ended)

    def _ended(self, side: Side) -> None:
        """One side has ended, so the other one does."""
        (self.client if side is self.server else self.server).finish()

    async def reach(self, network: str, address: str) -> None:
        """Connect to the server. Raises as `TlsRelay.open`."""
        if network == "unix":
            await asyncio.get_running_loop().create_unix_connection(lambda: self.server, address)
        else:
            host, _, port = address.rpartition(":")
            await self._reach_tcp(int(port), *LOCALHOST if host == "localhost" else (host.strip("[]"),))
        if (error := await self.server.verdict) is not None:
            raise error

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
        """Pass on, from now on."""
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
    """An open TLS connection to a server, and a socket on which connections of this process are joined to it.

    Made by `open`, and belongs to the loop in which it was opened.
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

        However it ends other than by returning, nothing is left behind, but for a socket that the loop closes in its
        next round.

        Args:
            network: `unix` or `tcp`.
            address: an absolute path, or `host:port`.
            credentials: who both sides are.

        Raises:
            OSError: the server cannot be reached, or (`ssl.SSLError`) is not the one that it should be.
            LinkError: there could be no private directory for the relay's socket.
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
        # Not asyncio's own server: closed at the wrong moment, it forgets a connection that it has just accepted.
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
        """No descriptors are left: the loop would call again, and again."""
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
            if not passage.client.was_made():  # one that is cancelled at once never begins
                connection.close()

        task.add_done_callback(ended)

    async def _pass(self, passage: _Passage, connection: socket.socket) -> None:
        """The channel connects again."""
        try:
            async with asyncio.timeout(HANDSHAKE_LIMIT):
                await passage.reach(self._network, self._address)
                await passage.join(connection)
            await passage.ended()
        except OSError:  # the server is gone, which the channel is told by the end of its connection
            pass
        finally:
            passage.abort()
            await passage.ended()

    async def join(self) -> None:
        """Wait until this process has connected to `target`, and pass on, from now on. Called once; no time limit.

        When it raises, or is cancelled, close the relay.

        Raises:
            OSError: the connection could not be accepted.
        """
        outcome = await self._accepted
        if isinstance(outcome, OSError):
            raise outcome
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
        """As `abort`, and wait until the sockets are closed: for some rounds of the loop. May be called again.

        When cancelled, that is left to the loop.
        """
        self.abort()
        await self._first.ended()
        if self._passing:
            await asyncio.wait(self._passing)

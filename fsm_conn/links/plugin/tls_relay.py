"""A relay between a channel and a plugin whose TLS gRPC cannot speak.

go-plugin's automatic mTLS gives the plugin a certificate on the curve P-521 (`generateCert` in its `mtls.go`), and the
BoringSSL within gRPC offers no signature on that curve: the handshake fails, whatever the host does. Python's own `ssl`
speaks it. So the relay makes the TLS connection, and the channel, without TLS, connects to a socket of the relay.

Rules that hold here:

- Only a plugin that gRPC would refuse gets a relay. All others are spoken to by gRPC itself.
- The server's certificate is pinned, as gRPC pins it: it must be the announced one, bear the name `localhost`, which
  all of go-plugin's do, and be valid today. Not a byte is passed on before that is known.
- One connection is relayed, and no second one is ever taken: the socket is gone as soon as the channel has connected.
  It stands in a directory that only this user may enter, so until then another program of this user could be the
  first; where the system tells who connects (Linux), all but this process are turned away. So what is trusted without
  TLS is this process, and elsewhere than on Linux this user, who could read this process's memory just as well.
- The plugin's private directory is the plugin's: it is removed when the plugin ends, whatever is being done here. The
  relay has directories of its own, one for its key and one for its socket, and each is removed by what made it.
- An end on either side ends both, once what came before it is delivered. There is no half-close: HTTP/2 has no use for
  one.
- A relay has no task. `abort` gives everything back, at once and without waiting, at any time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress
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


class TlsRelay:
    """An open TLS connection to a server, and a socket on which one connection of this process is joined to it.

    Made by `open`, and belongs to the loop in which it was opened.
    """

    def __init__(self, context: ssl.SSLContext, certificate: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._directory = ""
        self._listener: socket.socket | None = None
        self._accepted: asyncio.Future[socket.socket | OSError] = self._loop.create_future()
        self._connection: socket.socket | None = None
        self._server = TlsSide(self._ended, context, certificate)
        self._client = Side(self._ended)

    @property
    def target(self) -> str:
        """What a channel without TLS is to connect to."""
        return "unix:" + quote(self._path)

    @property
    def _path(self) -> str:
        return os.path.join(self._directory, SOCKET_NAME)

    @property
    def fault(self) -> Exception | None:
        """Why the connection to the server has ended; None while it has not."""
        return self._server.fault

    @classmethod
    async def open(cls, network: str, address: str, credentials: Credentials) -> TlsRelay:
        """Connect to a server, and listen for the one connection that `join` waits for. There is no time limit.

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
        relay = cls(context, credentials.server)
        try:
            await relay._reach(network, address)
            relay._listen()
        except BaseException:
            relay.abort()
            raise
        return relay

    async def _reach(self, network: str, address: str) -> None:
        if network == "unix":
            await self._loop.create_unix_connection(lambda: self._server, address)
        else:
            host, _, port = address.rpartition(":")
            await self._reach_tcp(int(port), *LOCALHOST if host == "localhost" else (host.strip("[]"),))
        if (error := await self._server.verdict) is not None:
            raise error

    async def _reach_tcp(self, port: int, address: str, *others: str) -> None:
        """Connect to the first address that can be reached; if none can, raise the error of the first one."""
        try:
            await self._loop.create_connection(lambda: self._server, address, port)
        except OSError:
            for other in others:
                with suppress(OSError):
                    await self._loop.create_connection(lambda: self._server, other, port)
                    return
            raise

    def _listen(self) -> None:
        # Not asyncio's own server: closed at the wrong moment, it forgets a connection that it has just accepted.
        self._listener = listener = socket.socket(socket.AF_UNIX)
        listener.setblocking(False)
        self._directory = directory.make()
        listener.bind(self._path)
        listener.listen()
        self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptors are left: the loop would call again, and again
            self._settle(error)
            return
        if self._accepted.done() or system.connected_process(connection) not in (None, os.getpid()):
            connection.close()
            return
        connection.setblocking(False)
        self._connection = connection
        self._settle(connection)

    def _settle(self, outcome: socket.socket | OSError) -> None:
        self._stop_listening()
        if not self._accepted.done():
            self._accepted.set_result(outcome)

    async def join(self) -> None:
        """Wait until this process has connected to `target`, and pass on, from now on. Called once; no time limit.

        When it raises, or is cancelled, close the relay.

        Raises:
            OSError: the connection could not be accepted.
        """
        outcome = await self._accepted
        if isinstance(outcome, OSError):
            raise outcome
        self._client.join(self._server)
        await self._loop.connect_accepted_socket(lambda: self._client, outcome)
        self._server.join(self._client)

    def _ended(self, side: Side) -> None:
        """One side has ended, so the other one does."""
        (self._client if side is self._server else self._server).finish()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
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
        self._server.abort()
        self._client.abort()
        if self._connection is not None and not self._client.was_made():
            self._connection.close()

    async def close(self) -> None:
        """As `abort`, and wait until the sockets are closed: for a round of the loop. May be called again.

        When cancelled, that is left to the loop.
        """
        self.abort()
        if made := [side.lost for side in (self._server, self._client) if side.was_made()]:
            await asyncio.wait(made)

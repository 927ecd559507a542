"""The two connections that are joined where gRPC cannot speak a plugin's TLS: one with TLS on it, and one without.

Rules that hold here:

- A side that reads slowly makes the other side wait: the amount of data held back is bounded, in both directions.
- The TLS is an `SSLObject` between two buffers. asyncio's own TLS, when a paused connection is closed, loses the data
  that was written last, and does not pass alerts on.
- A side that has ended reports so once, and the code that joined it to the other side ends that one, too.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Side", "TlsSide"]

SERVER_NAME = "localhost"
"""The name in go-plugin's certificates, whatever the plugin's address."""
LARGEST_RECORD = 16 * 1024
"""Bytes that one TLS record can hold; no read yields more."""


class Side(asyncio.Protocol):
    """One of the two connections. What it receives goes to the other one, as soon as they are joined.

    Attributes:
        lost: resolves when it is closed.
    """

    def __init__(self, ended: Callable[[Side], None]) -> None:
        self._ended = ended
        self._other: Side | None = None
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is made."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def join(self, other: Side) -> None:
        """Deliver to another side from now on."""
        self._other = other

    def data_received(self, data: bytes) -> None:
        """Deliver received data to the other side."""
        if self._other is not None:
            self._other.write(data)

    def pause_writing(self) -> None:
        """The peer reads slowly: hold back the other side."""
        if self._other is not None:
            self._other.pause_reading()

    def resume_writing(self) -> None:
        """The peer has caught up: let the other side go on."""
        if self._other is not None:
            self._other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        self.lost.set_result(None)
        self._ended(self)

    def was_made(self) -> bool:
        """Whether there is a connection, or was one."""
        return self._transport is not None

    def is_open(self) -> bool:
        """Whether it was made, is not closed, and is not about to be."""
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Write to it, unless it is closed: then nobody needs the data."""
        if self.is_open():
            assert self._transport is not None
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Stop reading from it."""
        if self.is_open():
            assert self._transport is not None
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from it again."""
        if self.is_open():
            assert self._transport is not None
            self._transport.resume_reading()

    def finish(self) -> None:
        """Close it once all written data is delivered."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close it now."""
        if self._transport is not None and not self.lost.done():
            self._transport.abort()


class TlsSide(Side):
    """The connection to the plugin, with TLS on it. Until it is joined, nothing is read after the handshake.

    Args:
        ended: called when it has ended.
        context: how this side does TLS.
        certificate: the plugin's, DER: the plugin must show this one and no other.
        accepts: whether the plugin has connected to us, rather than we to the plugin.

    Attributes:
        fault: why the connection has ended.
    """

    def __init__(
        self, ended: Callable[[Side], None], context: ssl.SSLContext, certificate: bytes, *, accepts: bool = False
    ) -> None:
        super().__init__(ended)
        self._certificate = certificate
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if accepts else SERVER_NAME
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=accepts, server_hostname=name)
        self._verdict: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.fault: Exception | None = None

    async def proved(self) -> None:
        """Wait until the handshake is done; raise what went wrong with it."""
        error = await self._verdict
        if error is not None:
            try:
                raise error
            finally:
                del error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is made: begin the handshake."""
        super().connection_made(transport)
        self._advance()

    def data_received(self, data: bytes) -> None:
        """Take encrypted data."""
        self._incoming.write(data)
        self._advance()

    def join(self, other: Side) -> None:
        """Deliver to another side from now on, beginning with the data that came with the handshake."""
        super().join(other)
        self.resume_reading()
        self._advance()

    def _advance(self) -> None:
        """Process what has come in: go on with the handshake, or read the data after it."""
        try:
            if not self._verdict.done():
                self._shake_hands()
            elif self._other is not None:
                self._read()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._fail(error)

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        # The announced certificate is trusted as an authority, so it might have signed another one.
        if self._tls.getpeercert(binary_form=True) != self._certificate:
            raise ssl.SSLCertVerificationError("the plugin's certificate is not the one that was announced")
        self._flush()
        self.pause_reading()
        self._verdict.set_result(None)

    def _read(self) -> None:
        """Deliver all that can be read; then raise SSLWantReadError."""
        chunks = []
        try:
            while chunk := self._tls.read(LARGEST_RECORD):
                chunks.append(chunk)
        finally:
            super().data_received(b"".join(chunks))
        self.finish()

    def write(self, data: bytes) -> None:
        """Write to it, encrypted, unless it is closed."""
        if self.is_open():
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                self._fail(error)
            else:
                self._flush()

    def _flush(self) -> None:
        super().write(self._outgoing.read())

    def _fail(self, error: Exception) -> None:
        """End it, after the alert that says why."""
        self.fault = self.fault or error
        self._flush()
        super().finish()

    def finish(self) -> None:
        """Send the TLS close alert, and close it once all written data is delivered."""
        if self.is_open():
            # This sends our close alert. The server's own is not waited for.
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        super().finish()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is closed; the handshake may still have been waiting."""
        self.fault = self.fault or error or ConnectionResetError("the plugin closed the connection")
        if not self._verdict.done():
            self._verdict.set_result(self.fault)
        super().connection_lost(error)

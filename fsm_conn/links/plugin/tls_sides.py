"""The two connections that are joined where gRPC cannot speak a plugin's TLS: one with TLS on it, and one without.

Rules that hold here:

- Who reads slowly is waited for: what is held back is bounded, in both directions.
- The TLS is an `SSLObject` between two buffers. asyncio's own, on a connection that is held back, loses what was
  written last when it is closed, and keeps the alerts to itself.
- A side that has ended says so once, and whoever joined it to another one ends that, too.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Side", "TlsSide"]

SERVER_NAME = "localhost"
"""The name that go-plugin's certificates bear, whatever the plugin's address."""
LARGEST_RECORD = 16 * 1024
"""Bytes that one record of TLS can hold, so that no read yields more."""


class Side(asyncio.Protocol):
    """One of the two connections. What it says goes to the other one, as soon as they are joined.

    Attributes:
        lost: resolves when it is closed.
    """

    def __init__(self, ended: Callable[[Side], None]) -> None:
        self._ended = ended
        self._other: Side | None = None
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def join(self, other: Side) -> None:
        """Deliver to another side from now on."""
        self._other = other

    def data_received(self, data: bytes) -> None:
        """It says something: deliver that."""
        if self._other is not None:
            self._other.write(data)

    def pause_writing(self) -> None:
        """It reads slowly: hold back the other one."""
        if self._other is not None:
            self._other.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._other is not None:
            self._other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed."""
        self.lost.set_result(None)
        self._ended(self)

    def was_made(self) -> bool:
        """Whether there is a connection, or was one."""
        return self._transport is not None

    def is_open(self) -> bool:
        """Whether it was made and is not closed, nor about to be."""
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Write to it, unless it is closed: then nobody wants to know."""
        if self.is_open():
            assert self._transport is not None
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Let it wait with what it has to say."""
        if self.is_open():
            assert self._transport is not None
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Listen to it again."""
        if self.is_open():
            assert self._transport is not None
            self._transport.resume_reading()

    def finish(self) -> None:
        """Close it when all that was written is delivered."""
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
        certificate: that of the plugin, DER: it must show this one and no other.
        accepts: whether the plugin has connected to us, rather than we to it.

    Attributes:
        verdict: resolves when the handshake is done, to what went wrong, or None.
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
        self.verdict: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.fault: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there: begin the handshake."""
        super().connection_made(transport)
        self._advance()

    def data_received(self, data: bytes) -> None:
        """It says something, encrypted."""
        self._incoming.write(data)
        self._advance()

    def join(self, other: Side) -> None:
        """Deliver to another side from now on, and first what came with the handshake."""
        super().join(other)
        self.resume_reading()
        self._advance()

    def _advance(self) -> None:
        """Go on with what has come in: with the handshake, or with what the server says after it."""
        try:
            if not self.verdict.done():
                self._shake_hands()
            elif self._other is not None:
                self._read()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._fail(error)

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        # As an authority, the announced certificate might have signed another one.
        if self._tls.getpeercert(binary_form=True) != self._certificate:
            raise ssl.SSLCertVerificationError("the plugin's certificate is not the one that was announced")
        self._flush()
        self.pause_reading()
        self.verdict.set_result(None)

    def _read(self) -> None:
        """Deliver all that can be read; raises SSLWantReadError after it."""
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
        """Say goodbye, and close it when all that was written is delivered."""
        if self.is_open():
            # That is goodbye. The server's own is not waited for.
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        super().finish()

    def connection_lost(self, error: Exception | None) -> None:
        """It is closed, which the handshake may still have waited for."""
        self.fault = self.fault or error or ConnectionResetError("the plugin closed the connection")
        if not self.verdict.done():
            self.verdict.set_result(self.fault)
        super().connection_lost(error)

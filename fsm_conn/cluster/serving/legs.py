"""The two legs of a relay: each is a connection on a socket that never blocks, with TLS or without.

Every call crosses a relay twice. asyncio's transports, above all those with TLS, would be most of the cost.

Rules that hold here:

- A slow reader is waited for: while more than `MOST_UNSENT` bytes are not sent to it, the other leg is not read.
- One turn of the loop reads at most `MOST_READ` bytes of a leg; then the other tasks have their turn.
- A leg that is finished is closed once all written data is delivered. It announces its end and listens a little longer:
  a socket that is closed with unread data in it takes back what it has sent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Leg"]

MOST_UNSENT = 64 * 1024
MOST_READ = 256 * 1024
CHUNK = 64 * 1024
LARGEST_RECORD = 16 * 1024
"""Bytes that one TLS record can hold. OpenSSL reads no further, so the loop notices the next record."""
LINGER = 1.0
"""Seconds that the other side has to hang up, too."""
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Leg:
    """One of the two connections. Its data goes to the other one, as soon as it is read.

    Args:
        connection: the socket, connected. It is closed with the leg.
        ended: called when it is closed.

    Attributes:
        lost: resolves when it is closed.
    """

    def __init__(self, connection: socket.socket, ended: Callable[[Leg], None]) -> None:
        connection.setblocking(False)
        with suppress(OSError):  # a Unix socket has no such option
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._ended = ended
        self._receive: Callable[[int], bytes] = connection.recv
        self._other: Leg | None = None
        self._deliver: Callable[[bytes], None]
        self._unsent = bytearray()
        self._is_ending = self._has_said_all = False
        self._lingering: asyncio.TimerHandle | None = None
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def is_open(self) -> bool:
        """Whether it is not closed, and not about to be."""
        return not self._is_ending

    async def shake_hands(self, context: ssl.SSLContext) -> None:
        """Start TLS on the connection, as its server. There is no time limit.

        Raises:
            OSError: the handshake has failed.
        """
        self._socket.getpeername()  # raises if the peer has gone; TLS would leave the socket to the garbage collector
        self._socket = tls = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        while True:
            try:
                tls.do_handshake()
                self._receive = tls.read
                return
            except ssl.SSLWantReadError:
                await self._until(self._loop.add_reader, self._loop.remove_reader)
            except ssl.SSLWantWriteError:
                await self._until(self._loop.add_writer, self._loop.remove_writer)

    async def _until(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        ready, number = asyncio.Event(), self._number()
        add(number, ready.set)
        try:
            await ready.wait()
        finally:
            if self._socket.fileno() == number:  # else it was closed, and the number may belong to another
                remove(number)

    def _number(self) -> int:
        number = self._socket.fileno()
        if number < 0:
            raise ConnectionResetError("it was closed meanwhile")
        return number

    def join(self, other: Leg, deliver: Callable[[bytes], None] | None = None) -> None:
        """Pass its data to `deliver` from now on; None: write the data to the other leg."""
        self._other = other
        self._deliver = deliver or other.write
        self.read_on()

    # --- reading ----------------------------------------------------------------------------------------------------

    def read_on(self) -> None:
        """Read from it."""
        if not self._is_ending:
            self._loop.add_reader(self._number(), self._read)

    def pause(self) -> None:
        """Stop reading from it."""
        if not self._is_ending:
            self._loop.remove_reader(self._number())

    def _read(self) -> None:
        most = LARGEST_RECORD if isinstance(self._socket, ssl.SSLSocket) else CHUNK
        for _ in range(MOST_READ // most):
            try:
                data = self._receive(most)
            except _NOT_NOW:
                return
            except OSError:
                self.abort()
                return
            if not data:
                self._has_said_all = True
                self.finish()
                return
            try:
                self._deliver(data)
            except BaseException:  # a bug, after which nothing more may be delivered
                self.abort()
                raise
            # A short read was all that there was. A full other leg gets no more.
            if len(data) < most or self._is_ending or (self._other is not None and self._other.is_full()):
                return

    # --- writing ----------------------------------------------------------------------------------------------------

    def is_full(self) -> bool:
        """Whether too much data is still unsent."""
        return len(self._unsent) > MOST_UNSENT

    def write(self, data: bytes) -> None:
        """Write to it, unless it is closed: then nobody needs the data."""
        if self._is_ending:
            return
        if not self._unsent:
            sent = self._send(data)
            if sent == len(data) or self._is_ending:
                return
            data = data[sent:]
            self._loop.add_writer(self._number(), self._send_on)
        self._unsent += data
        if self.is_full() and self._other is not None:
            self._other.pause()

    def _send(self, data: bytes | bytearray) -> int:
        """Send; return how many bytes were sent. TLS sends all or nothing, and then needs the same bytes, or more."""
        try:
            return self._socket.send(data)
        except _NOT_NOW:
            return 0
        except OSError:
            self.abort()
            return 0

    def _send_on(self) -> None:
        was_full = self.is_full()
        del self._unsent[: self._send(self._unsent)]
        if self.lost.done():
            return
        if was_full and not self.is_full() and self._other is not None:
            self._other.read_on()
        if not self._unsent:
            self._loop.remove_writer(self._number())
            if self._is_ending:
                self._hang_up()

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Close it once all written data is delivered."""
        if self._is_ending:
            return
        self.pause()
        self._is_ending = True
        if not self._unsent:
            self._hang_up()

    def _hang_up(self) -> None:
        with suppress(OSError):
            if isinstance(self._socket, ssl.SSLSocket):
                self._socket.unwrap()  # raises after it has sent the close alert: the other side's has not come yet
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        if self._has_said_all:
            self.abort()
            return
        self._loop.add_reader(self._number(), self._listen_on)
        self._lingering = self._loop.call_later(LINGER, self.abort)

    def _listen_on(self) -> None:
        try:
            is_over = not self._socket.recv(CHUNK)
        except _NOT_NOW:
            return
        except OSError:
            is_over = True
        if is_over:
            self.abort()

    def abort(self) -> None:
        """Close it now."""
        if self.lost.done():
            return
        self._is_ending = True
        if self._lingering is not None:
            self._lingering.cancel()
        number = self._socket.fileno()
        if number >= 0:  # a failed start of TLS has closed it
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)
        self._unsent.clear()
        self._socket.close()
        self.lost.set_result(None)
        self._loop.call_soon(self._ended, self)

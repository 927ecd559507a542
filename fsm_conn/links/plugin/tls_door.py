"""A listener for one plugin whose TLS gRPC cannot speak. It does that TLS, and passes bytes on to gRPC's own server.

gRPC's server, like its client, takes no certificate on P-521. Go plugins show such a certificate when they dial a
service that their host offers. So Python's `ssl` listens, and joins each connection to the real server, which has
a socket of its own.

Rules that hold here:

- Only a client that shows the plugin's own certificate is accepted. Not a byte is passed on before that is known.
- The real server accepts only the door, by certificates that were made for the two of them. Its socket is in a
  directory that only this user may enter, but other plugins run as this user, too. The door in turn speaks to no other
  server that was put in the real one's place.
- Connections are bounded in number, and each has a time limit for its handshake: a plugin that opens connections and
  does not use them cannot use up this process's descriptors.
- `abort` gives everything back, at once and without waiting, at any time.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress

import attrs

from fsm_conn.links.plugin.tls_sides import Side, TlsSide

__all__ = ["Shown", "TlsDoor"]

MOST = 64
"""The number of connections at one time; go-plugin makes one for each dial."""
PAUSE = 0.1
"""Seconds without accepting connections, when no descriptors are left."""
HANDSHAKE_LIMIT = 30.0
"""Seconds for a TLS handshake. It takes milliseconds, unless the machine is overloaded."""


@attrs.frozen
class Shown:
    """How this side does TLS, and the certificate (DER) that the other side must show."""

    context: ssl.SSLContext
    certificate: bytes


class _Passage:
    """One connection of the plugin's, joined to one connection to the real server."""

    def __init__(self, outer: Shown, inner: Shown) -> None:
        self.outer = TlsSide(self._ended, outer.context, outer.certificate, accepts=True)
        self.inner = TlsSide(self._ended, inner.context, inner.certificate)

    def _ended(self, side: Side) -> None:
        (self.inner if side is self.outer else self.outer).finish()

    async def open(self, connection: socket.socket, path: str) -> None:
        """Accept a connection, if it is the plugin's.

        Raises:
            OSError: it is not the plugin's, or the real server is another one (`ssl.SSLError`), or cannot be reached.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self.outer, connection)
            await self.outer.proved()
            await loop.create_unix_connection(lambda: self.inner, path)
            await self.inner.proved()
            self.inner.join(self.outer)
            self.outer.join(self.inner)
        except BaseException:
            self.abort()
            raise

    async def ended(self) -> None:
        """Wait until both of its connections are closed."""
        if made := [side.lost for side in (self.outer, self.inner) if side.was_made()]:
            await asyncio.wait(made)

    def abort(self) -> None:
        self.outer.abort()
        self.inner.abort()


class TlsDoor:
    """A listening socket with TLS on it. Belongs to the loop in which it was made.

    Args:
        outer: TLS with the plugin, see `Credentials.serving_context`.
        inner: TLS with the real server, see `Credentials.context`.
        path: where to listen.
        server: the path of the real server's socket.

    Raises:
        OSError: there can be no such socket.
    """

    def __init__(self, outer: Shown, inner: Shown, path: str, server: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._outer = outer
        self._inner = inner
        self._server = server
        self._passing: set[asyncio.Task[None]] = set()
        self._listener = listener = socket.socket(socket.AF_UNIX)
        try:
            listener.setblocking(False)
            listener.bind(path)
            os.chmod(path, 0o600)
            listener.listen()
        except BaseException:
            listener.close()
            raise
        self._listen()

    def _listen(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors are left: the loop would call this without end
            self._loop.remove_reader(self._listener)
            self._loop.call_later(PAUSE, self._listen)
            return
        if len(self._passing) >= MOST:
            connection.close()
            return
        connection.setblocking(False)
        passage = _Passage(self._outer, self._inner)
        task = asyncio.create_task(self._pass(passage, connection))
        self._passing.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._passing.discard(task)
            if not passage.outer.was_made():  # a task that is cancelled at once never begins
                connection.close()

        task.add_done_callback(ended)

    async def _pass(self, passage: _Passage, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_LIMIT):
                await passage.open(connection, self._server)
            await passage.ended()
        except OSError:  # not the plugin, or it went away: nothing to do here; TimeoutError is an OSError, too
            pass
        finally:
            passage.abort()
            await passage.ended()

    def abort(self) -> None:
        """Close the door and all its connections, without delivering what is under way. May be called again."""
        if self._listener.fileno() >= 0:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(self._listener)
            self._listener.close()
        for task in self._passing:
            task.cancel()

    async def close(self) -> None:
        """Like `abort`, then wait some rounds of the loop until the sockets are closed. May be called again."""
        self.abort()
        if self._passing:
            await asyncio.wait(self._passing)

"""Accepts clients, with bounds on their number and on the time that they take to prove their identity.

asyncio's own server has no such bounds: a client that connects and says nothing would hold a descriptor until its
handshake has timed out, and there could be as many of these as there are descriptors.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.cluster.errors import ServeError
from fsm_conn.cluster.recipe import ServeLimits
from fsm_conn.cluster.serving.gate import TokenGate
from fsm_conn.cluster.serving.plugins import ServedPlugin, ServedPlugins
from fsm_conn.cluster.serving.relay import Relay

__all__ = ["Listener", "check_address", "listen"]

_log = logging.getLogger("fsm_conn.serve")
BACKLOG = 128
OUT_OF_DESCRIPTORS = 0.1
"""Seconds to wait before accepting the next connection, after one could not be accepted."""


class Listener:
    """A listening socket, and the relays of all connections that it accepted.

    Args:
        listening: the socket, bound and listening; it is closed by `close`.
        context: returns the TLS for the next connection; None: plain text.
        token: what clients must show; None: nothing.
        plugins: where connections go.
        limits: the bounds.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: Callable[[], ssl.SSLContext] | None,
        token: str | None,
        plugins: ServedPlugins,
        limits: ServeLimits,
    ) -> None:
        self._socket = listening
        self._file = _file_of(listening)
        self._context = context
        self._token = token
        self._plugins = plugins
        self._limits = limits
        self._relays: dict[Relay, asyncio.Task[None] | None] = {}
        self._unproved: dict[Relay, None] = {}
        self._none_left = asyncio.Event()
        self._accepting = asyncio.create_task(self._accept())
        self.refused = 0

    @property
    def connections(self) -> int:
        """The number of connections of clients."""
        return len(self._relays)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                _log.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(OUT_OF_DESCRIPTORS)
                continue
            if len(self._relays) >= self._limits.max_connections:
                self.refused += 1
                connection.close()
                continue
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        if len(self._unproved) >= self._limits.max_handshakes:
            self.refused += 1
            self._give_up(next(iter(self._unproved)))
        gate = None if self._token is None else TokenGate(self._token)
        relay = Relay(connection, gate, self._proved, self._gone)
        self._unproved[relay] = None
        self._relays[relay] = task = asyncio.create_task(self._connect(relay))
        task.add_done_callback(lambda _: self._connected(relay))

    def _proved(self, relay: Relay) -> None:
        self._unproved.pop(relay, None)

    def _gone(self, relay: Relay) -> None:
        self._proved(relay)
        task = self._relays.pop(relay, None)
        if task is not None:
            task.cancel()
        if not self._relays:
            self._none_left.set()

    def _give_up(self, relay: Relay) -> None:
        self._proved(relay)
        task = self._relays.get(relay)
        if task is not None:
            task.cancel()
        relay.abort()

    def _connected(self, relay: Relay) -> None:
        """The task that set up the relay has ended: from here on the relay lives by itself."""
        if relay in self._relays:
            self._relays[relay] = None

    async def _connect(self, relay: Relay) -> None:
        limit = self._limits.handshake_timeout
        plugin: ServedPlugin | None = None
        try:
            await within(limit, relay.client.prove(None if self._context is None else self._context()))
            plugin = await within(limit, self._plugins.least_used())
            plugin.relays.add(relay)
            where = plugin.where
            assert where is not None
            await within(limit, relay.join(*where))
        except (OSError, ExpiredError) as error:  # an SSLError is an OSError
            _log.info("%s could not be connected: %s", relay.client.name, said(error))
            relay.abort()
        except BaseException:
            relay.abort()
            raise
        finally:
            if plugin is not None:
                self._count(plugin, relay)

    def _count(self, plugin: ServedPlugin, relay: Relay) -> None:
        """Have the plugin forget the relay when it ends."""
        if relay.client.lost.done():
            plugin.relays.discard(relay)
        else:
            relay.client.lost.add_done_callback(lambda _: plugin.relays.discard(relay))

    async def stop_accepting(self) -> None:
        """Accept no more connections: from here on they are refused."""
        self._accepting.cancel()
        await asyncio.wait((self._accepting,))
        file, self._file = self._file, None
        if file is not None and file == _file_of(self._socket):  # not a successor's file
            os.unlink(file[0])
        self._socket.close()

    def say_goaway(self) -> None:
        """Ask all clients to make no more calls."""
        for relay in tuple(self._relays):
            relay.say_goaway()

    async def drained(self, limit: float) -> int:
        """Wait at most `limit` seconds until all connections have ended; return how many have not."""
        self._none_left.clear()
        if self._relays:
            with suppress(ExpiredError):
                await within(limit, self._none_left.wait())
        return len(self._relays)

    async def close(self) -> None:
        """Accept no more connections, and end the existing ones, now."""
        await self.stop_accepting()
        setting_up = [task for task in self._relays.values() if task is not None]
        for relay in tuple(self._relays):
            self._give_up(relay)
        if setting_up:
            await asyncio.wait(setting_up)
        await self.drained(1.0)


def listen(address: str) -> tuple[socket.socket, str]:
    """A listening socket at `host:port` or `unix:/path`, and its address; port 0: any free port.

    On Linux only its own user can connect to a socket of the file system, and its group, where the umask allows it. A
    socket of this user that nobody listens at is replaced: a server that was killed has left it.

    Raises:
        ServeError: it is no such address, or it is impossible to listen there.
    """
    try:
        if address.startswith("unix:"):
            path = _path_of(address)
            found = socket.socket(socket.AF_UNIX)
            with suppress(OSError):  # except on Linux, only the umask keeps others away
                os.fchmod(found.fileno(), 0o660)
            where: Any = path
        else:
            host, port = _split(address)
            family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            found = socket.socket(family)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except (OSError, UnicodeError) as error:
        raise ServeError(f"cannot listen at {address}: {getattr(error, 'strerror', '') or error}") from None
    try:
        found.setblocking(False)
        if found.family == socket.AF_UNIX:
            _replace(found, where)
        else:
            found.bind(where)
            found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise ServeError(f"cannot listen at {address}: {error.strerror or error}") from None
    return found, _address_of(found, address)


def _replace(listening: socket.socket, path: str) -> None:
    """Listen at a path. While a socket there is checked and replaced, no other server may do the same."""
    with ExitStack() as locked:
        with suppress(OSError):  # without access to the directory, or not alone, replace nothing
            directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
            locked.callback(os.close, directory)
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_left_behind(path):
                os.unlink(path)
        listening.bind(path)
        listening.listen(BACKLOG)


def _is_left_behind(path: str) -> bool:
    """Whether there is a socket of this user's at which nobody listens."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.geteuid():
        return False
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        return asking.connect_ex(path) == errno.ECONNREFUSED


def check_address(address: str) -> None:
    """Refuse an address that cannot be listened at.

    Raises:
        ServeError: it is no such address.
    """
    _path_of(address) if address.startswith("unix:") else _split(address)


def _path_of(address: str) -> str:
    """The path in `unix:/path`. A socket without one is in no file system: everybody could connect to it."""
    path = address.removeprefix("unix:").removeprefix("//")
    if not path or "\0" in path:
        raise ServeError(f"{address!r} is not an address to listen at: give a path, such as unix:/run/x.sock")
    return path


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ServeError(f"{address!r} is not an address to listen at: give host:port, such as 127.0.0.1:7000")
    return host.strip("[]"), int(port)


def _file_of(listening: socket.socket) -> tuple[str, int, int] | None:
    """The path of a socket of the file system, and its device and inode; None: no such socket, or no such file."""
    if listening.family != socket.AF_UNIX or listening.fileno() < 0:
        return None
    path = str(listening.getsockname())
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return path, status.st_dev, status.st_ino


def _address_of(listening: socket.socket, given: str) -> str:
    if given.startswith("unix:"):
        return given
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""One connection of a client, joined to the socket of one plugin: bytes are passed on, in both directions.

Rules that hold here:

- Nothing is passed on before the client has proved its identity: by TLS, and where a token is required, by the token,
  which each call must show.
- A slow reader is waited for: the data held back is bounded, in both directions (`Leg`).
- When one side ends, the other is ended too, once the earlier data is delivered.
- A relay that is told to end sends GOAWAY between two frames of the plugin, and goes on until the client hangs up.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from fsm_conn.cluster.serving.frames import Boundaries, goaway
from fsm_conn.cluster.serving.gate import RefusedError, TokenGate
from fsm_conn.cluster.serving.legs import Leg

__all__ = ["Relay"]

_log = logging.getLogger("fsm_conn.serve")


class _ClientLeg(Leg):
    """The client's connection. It is not read before the plugin's connection is there. It has a name, for messages."""

    def __init__(
        self,
        connection: socket.socket,
        ended: Callable[[Leg], None],
        gate: TokenGate | None,
        proved: Callable[[], None],
    ) -> None:
        super().__init__(connection, ended)
        self.name = _name_of(connection)
        self._gate = gate
        self._proved = proved
        self._has_proved = False

    async def prove(self, context: ssl.SSLContext | None) -> None:
        """Make the client prove its identity by TLS, if that is required. There is no time limit.

        Raises:
            OSError: it could not prove it.
        """
        if context is not None:
            await self.shake_hands(context)
        if self._gate is None:
            self._proved()

    def deliver_to(self, plugin: Leg) -> None:
        """Read from it, and deliver its data, or the part that may be delivered yet."""
        self.join(plugin, None if self._gate is None else self._ask)

    def _ask(self, data: bytes) -> None:
        assert self._gate is not None
        assert self._other is not None
        try:
            passed = self._gate.feed(data)
        except RefusedError as error:
            _log.info("%s was refused: %s", self.name, error)
            self.write(error.answer)
            self.finish()
            return
        if passed:
            self._other.write(passed)
        if self._gate.is_open and not self._has_proved:
            self._has_proved = True
            self._proved()
        if self._gate.answer:
            assert isinstance(self._other, _PluginLeg)
            self._other.say(self._gate.answer)
            self._gate.answer = b""


class _PluginLeg(Leg):
    """The connection to the plugin. Frames of ours may be inserted between two of the plugin's."""

    def __init__(self, connection: socket.socket, ended: Callable[[Leg], None]) -> None:
        super().__init__(connection, ended)
        self._frames = Boundaries()
        self._own = b""
        self._is_going = False

    def deliver_to(self, client: Leg) -> None:
        """Read from it, and deliver its data."""
        self.join(client, self._follow)

    def _follow(self, data: bytes) -> None:
        """Deliver data, and in between our own frames."""
        place = self._frames.feed(data)
        if self._own and place >= 0:
            data, self._own = data[:place] + self._own + data[place:], b""
        assert self._other is not None
        self._other.write(data)

    def say(self, frames: bytes) -> None:
        """Send frames to the client now, or as soon as a frame of the plugin ends."""
        if self._frames.is_between and self._other is not None:
            self._other.write(frames)
        else:
            self._own += frames

    def say_goaway(self) -> None:
        """Say once that the connection ends."""
        if not self._is_going:
            self._is_going = True
            self.say(goaway())


class Relay:
    """A connection of a client to a plugin. Belongs to the loop in which it is made.

    Args:
        connection: the client's; it is closed with the relay.
        gate: checks the token; None: none is needed.
        proved: called once the client has proved its identity.
        ended: called when both connections are closed.
    """

    def __init__(
        self,
        connection: socket.socket,
        gate: TokenGate | None,
        proved: Callable[[Relay], None],
        ended: Callable[[Relay], None],
    ) -> None:
        self.client = _ClientLeg(connection, self._leg_ended, gate, lambda: proved(self))
        self._plugin: _PluginLeg | None = None
        self._ended = ended
        self._is_over = False

    async def join(self, network: str, address: str) -> None:
        """Connect to a plugin, and then pass data on. There is no time limit.

        Raises:
            OSError: the plugin cannot be reached; or the client has gone in the meantime.
        """
        connection = await _connected(network, address)
        if not self.client.is_open():
            connection.close()
            raise ConnectionResetError("the client has gone")
        self._plugin = _PluginLeg(connection, self._leg_ended)
        self._plugin.deliver_to(self.client)
        self.client.deliver_to(self._plugin)

    def say_goaway(self) -> None:
        """Ask the client to make no more calls; it hangs up when its earlier calls are answered."""
        if self._plugin is not None:
            self._plugin.say_goaway()
        else:
            self.abort()

    def abort(self) -> None:
        """End the relay now."""
        self.client.abort()
        if self._plugin is not None:
            self._plugin.abort()

    def _leg_ended(self, leg: Leg) -> None:
        other = self._plugin if leg is self.client else self.client
        if other is not None:
            other.finish()
        is_closed = self.client.lost.done() and (self._plugin is None or self._plugin.lost.done())
        if is_closed and not self._is_over:
            self._is_over = True
            self._ended(self)


def _name_of(connection: socket.socket) -> str:
    with suppress(OSError):  # it has gone
        match connection.getpeername():
            case (host, port, *_):
                return f"the client {host} (port {port})"
    return "a client"


async def _connected(network: str, address: str) -> socket.socket:
    where: str | tuple[str, int] = address
    family = socket.AF_UNIX
    if network != "unix":
        host, _, port = address.rpartition(":")
        where = (host.strip("[]"), int(port))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    try:
        found.setblocking(False)
        await asyncio.get_running_loop().sock_connect(found, where)
    except BaseException:
        found.close()
        raise
    return found

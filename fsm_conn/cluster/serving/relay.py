"""One connection of a client, joined to the socket of one plugin: bytes are passed on, in both directions.

Rules that hold here:

- Nothing is passed on before the client has proved who it is: by TLS, and where a token is asked for, by that, which
  each call must show.
- Who reads slowly is waited for: what is held back is bounded, in both directions (`Side`).
- An end on either side ends both, once what came before it is delivered.
- A relay that is told to end says GOAWAY between two frames of the plugin, and goes on until the client hangs up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fsm_conn.cluster.serving.frames import Boundaries, goaway
from fsm_conn.cluster.serving.gate import RefusedError, TokenGate
from fsm_conn.links.plugin.tls_sides import Side

__all__ = ["Relay"]

_log = logging.getLogger("fsm_conn.serve")


class _ClientSide(Side):
    """The client's connection. It is not read before the plugin's is there."""

    def __init__(self, ended: Callable[[Side], None], gate: TokenGate | None, proved: Callable[[], None]) -> None:
        super().__init__(ended)
        self._gate = gate
        self._proved = proved
        self._has_proved = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there, and has proved by TLS who it is, where that is asked for."""
        super().connection_made(transport)
        self.pause_reading()
        if self._gate is None:
            self._proved()

    def data_received(self, data: bytes) -> None:
        """It says something: deliver it, or what of it may be delivered yet."""
        if self._gate is None:
            super().data_received(data)
            return
        if not self.is_open():
            return
        try:
            passed = self._gate.feed(data)
        except RefusedError as error:
            _log.info("a client was refused: %s", error)
            self.write(error.answer)
            self.finish()
            return
        if passed:
            super().data_received(passed)
        if self._gate.is_open and not self._has_proved:
            self._has_proved = True
            self._proved()
        if self._gate.answer:
            assert isinstance(self._other, _PluginSide)
            self._other.say(self._gate.answer)
            self._gate.answer = b""


class _PluginSide(Side):
    """The connection to the plugin. Frames of ours may be put between two of its own."""

    def __init__(self, ended: Callable[[Side], None]) -> None:
        super().__init__(ended)
        self._frames = Boundaries()
        self._own = b""
        self._is_ending = False

    def data_received(self, data: bytes) -> None:
        """It says something: deliver it, and in between what is to be said."""
        place = self._frames.feed(data)
        if self._own and place >= 0:
            data, self._own = data[:place] + self._own + data[place:], b""
        super().data_received(data)

    def say(self, frames: bytes) -> None:
        """Tell the client something now, or as soon as a frame of the plugin ends."""
        if self._frames.is_between and self._other is not None:
            self._other.write(frames)
        else:
            self._own += frames

    def say_goaway(self) -> None:
        """Say that the connection ends, once."""
        if not self._is_ending:
            self._is_ending = True
            self.say(goaway())


class Relay:
    """A connection of a client to a plugin. Belongs to the loop in which it is made.

    Args:
        gate: asks for a token; None: none is needed.
        proved: called once the client has proved who it is.
        ended: called when both connections are closed.
    """

    def __init__(self, gate: TokenGate | None, proved: Callable[[Relay], None], ended: Callable[[Relay], None]) -> None:
        self.client = _ClientSide(self._side_ended, gate, lambda: proved(self))
        self._plugin = _PluginSide(self._side_ended)
        self._ended = ended
        self._is_over = self._is_joined = False

    async def join(self, network: str, address: str) -> None:
        """Connect to a plugin, and pass on from now on. There is no time limit.

        Raises:
            OSError: the plugin cannot be reached; or the client has gone meanwhile.
        """
        loop = asyncio.get_running_loop()
        if network == "unix":
            await loop.create_unix_connection(lambda: self._plugin, address)
        else:
            host, _, port = address.rpartition(":")
            await loop.create_connection(lambda: self._plugin, host.strip("[]"), int(port))
        if not self.client.is_open():
            self._plugin.abort()
            raise ConnectionResetError("the client has gone")
        self._is_joined = True
        self._plugin.join(self.client)
        self.client.join(self._plugin)
        self.client.resume_reading()

    def say_goaway(self) -> None:
        """Ask the client for no more calls; it hangs up when those that it has made are answered."""
        if self._is_joined:
            self._plugin.say_goaway()
        else:
            self.abort()

    def abort(self) -> None:
        """End it now."""
        self.client.abort()
        self._plugin.abort()

    def _side_ended(self, side: Side) -> None:
        (self._plugin if side is self.client else self.client).finish()
        is_closed = self.client.lost.done() and (self._plugin.lost.done() or not self._plugin.was_made())
        if is_closed and not self._is_over:
            self._is_over = True
            self._ended(self)

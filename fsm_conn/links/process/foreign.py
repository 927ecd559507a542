"""A process that somebody else started: watched for its end, and ended only where that was asked for.

Rules that hold here:

- It is watched, and signalled, by a descriptor. A descriptor means one process for ever, while a number may be that of
  another process by now.
- A signal goes only to the process that listens at the plugin's socket, as the kernel tells it. The caller may have the
  number from a file that is days old.
- Where the system has no such descriptors, the process is neither watched nor signalled.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from fsm_conn.links.errors import LinkError
from fsm_conn.links.process import system

__all__ = ["ForeignProcess"]


class ForeignProcess:
    """A process that is not ours. Belongs to the loop in which it is watched.

    Args:
        pid: its number.
        on_end: called once, when it has ended.
    """

    def __init__(self, pid: int, on_end: Callable[[], None]) -> None:
        self.pid = pid
        self._on_end = on_end
        self._descriptor: int | None = None
        self._ended = asyncio.Event()

    def watch(self) -> None:
        """Watch for its end, where the system can.

        Raises:
            LinkError: it has ended.
        """
        try:
            self._descriptor = system.exit_descriptor(self.pid)
        except ProcessLookupError:
            raise LinkError(f"the plugin's process {self.pid} has ended, so there is nothing to reattach to") from None
        except OSError:
            return
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    def _end(self) -> None:
        self.unwatch()
        self._ended.set()
        self._on_end()

    def unwatch(self) -> None:
        """Stop watching. May be called again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    async def must_listen_at(self, path: str) -> None:
        """Check that this process, and no other, listens at a socket.

        Raises:
            LinkError: another one does, or the system does not tell (elsewhere than on Linux).
            OSError: the socket cannot be reached.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, path)
            listener = system.connected_process(connection)
        if self._descriptor is None or listener != self.pid:
            whose = f"process {listener}" if listener else "a process that this system does not tell"
            raise LinkError(
                f"end_on_close=True would end process {self.pid}, and at {path} listens {whose}: give its number as "
                "pid=, or leave end_on_close= away",
                permanent=True,
            )

    async def end(self, wait: float, grace: float) -> None:
        """Wait `wait` seconds, send SIGTERM, wait `grace` seconds, and kill it. A cancel kills it at once."""
        try:
            await self._has_ended_within(wait)
            self._send(signal.SIGTERM)
            await self._has_ended_within(grace)
        finally:
            self._send(signal.SIGKILL)

    async def _has_ended_within(self, limit: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._ended.wait()

    def _send(self, sign: signal.Signals) -> None:
        if self._descriptor is not None and sys.platform == "linux":
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, sign)

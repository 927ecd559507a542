"""What this process and a template say to each other: fields one way, with descriptors beside them; answers the other.

The template may run code of a plugin's libraries, so its answers are bounded, and waited for within limits.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Sequence

from fsm_conn._util.text import brief
from fsm_conn.links.process.prefork_plan import CannotForkError

__all__ = ["TemplateGoneError", "Wire"]

SEND_LIMIT = 10.0
"""Seconds for a template to take a message."""
LONGEST_ANSWER = 4096
"""Bytes."""

_LENGTH = struct.Struct("!I")


class TemplateGoneError(Exception):
    """The template has ended, or does not do what it is asked."""


class Wire:
    """A pair of sockets that have no name, so that nobody else can reach them.

    Attributes:
        theirs: the end for the template. Close it once the template has it.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()

    def fileno(self) -> int:
        """The descriptor of this process's end. It is readable when the template has spoken, or has ended."""
        return self._ours.fileno()

    def close(self) -> None:
        """Close both ends. The template ends, if it still runs."""
        self._ours.close()
        self.theirs.close()

    def send(self, fields: Sequence[str], descriptors: Sequence[int] = ()) -> None:
        """Send a message.

        Args:
            fields: strings without NUL, which the system takes nowhere.
            descriptors: what the template gets copies of.

        Raises:
            TemplateGoneError: it does not take the message.
            ValueError: there is a NUL.
        """
        data = b"\0".join(map(os.fsencode, fields))
        if data.count(b"\0") >= max(len(fields), 1):
            raise ValueError("embedded null byte")
        self._ours.settimeout(SEND_LIMIT)
        try:
            socket.send_fds(self._ours, [_LENGTH.pack(len(data))], descriptors)
            self._ours.sendall(data)
        except OSError as error:
            raise TemplateGoneError(f"it does not listen ({type(error).__name__})") from None

    def answer(self, limit: float) -> str:
        """Wait for its answer.

        Args:
            limit: seconds.

        Raises:
            CannotForkError: the answer is no, and why.
            TemplateGoneError: there is none.
        """
        end = time.monotonic() + limit
        try:
            (length,) = _LENGTH.unpack(self._receive(_LENGTH.size, end))
            if length > LONGEST_ANSWER:
                raise TemplateGoneError("it says too much")
            said = self._receive(length, end).decode("utf-8", "replace")
        except OSError as error:
            raise TemplateGoneError(f"it does not answer ({type(error).__name__})") from None
        if not said.startswith("+"):
            raise CannotForkError(brief(said[1:], 400))
        return said[1:]

    def _receive(self, size: int, end: float) -> bytes:
        data = b""
        while len(data) < size:
            self._ours.settimeout(max(end - time.monotonic(), 0.001))
            more = self._ours.recv(size - len(data))
            if not more:
                raise TemplateGoneError("it has ended")
            data += more
        return data

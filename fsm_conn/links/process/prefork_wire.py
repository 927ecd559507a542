"""The messages between this process and a template: fields and descriptors one way, answers the other way.

The template may run code of a plugin's libraries, so its answers are bounded in size, and waited for in bounded time.
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
"""Seconds that a template has to take a message."""
LONGEST_ANSWER = 4096
"""Bytes."""

_LENGTH = struct.Struct("!I")


class TemplateGoneError(Exception):
    """The template has ended, or does not do what it is asked to do."""


class Wire:
    """A pair of sockets that have no name, so that nobody else can reach them.

    Attributes:
        theirs: the end for the template. Close it once the template has it.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()

    def fileno(self) -> int:
        """The descriptor of this process's end. It is readable when the template has answered, or has ended."""
        return self._ours.fileno()

    def close(self) -> None:
        """Close both ends. The template ends, if it still runs."""
        self._ours.close()
        self.theirs.close()

    def send(self, fields: Sequence[str], descriptors: Sequence[int] = ()) -> None:
        """Send a message.

        Args:
            fields: strings without NUL, which the system accepts nowhere.
            descriptors: open files; the template gets copies of them.

        Raises:
            TemplateGoneError: the template does not take the message.
            ValueError: a field contains a NUL.
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
        """Wait for the template's answer.

        Args:
            limit: seconds.

        Raises:
            CannotForkError: the template answers that it cannot fork, and why.
            TemplateGoneError: no answer came.
        """
        end = time.monotonic() + limit
        try:
            (length,) = _LENGTH.unpack(self._receive(_LENGTH.size, end))
            if length > LONGEST_ANSWER:
                raise TemplateGoneError("it says too much")
            said = self._receive(length, end).decode("utf-8", "replace")
        except OSError as error:
            raise TemplateGoneError(f"it does not answer ({type(error).__name__})") from None
        if said.startswith("!"):
            raise TemplateGoneError(brief(said[1:], 400))
        if not said.startswith("+"):
            raise CannotForkError(brief(said[1:], 400), may_pass=said.startswith("~"))
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

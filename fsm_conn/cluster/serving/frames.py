"""The part of HTTP/2 that a relay has to know: where a frame ends, and how to say that a connection ends.

A relay passes bytes on and reads none of them. But between two frames of the server it may insert one of its own. So it
can say GOAWAY for a plugin that does not know of it (RFC 9113, sections 4.1 and 6.8).
"""

from __future__ import annotations

import struct

__all__ = ["CONTINUATION", "END_HEADERS", "HEAD", "HEADERS", "PUSH_PROMISE", "Boundaries", "frame", "goaway"]

HEAD = 9
"""Bytes of a frame's head: length (3), type, flags, stream (4)."""
HEADERS, PUSH_PROMISE, GOAWAY, CONTINUATION = 0x1, 0x5, 0x7, 0x9
END_HEADERS = 0x4
_BLOCKS = frozenset({HEADERS, PUSH_PROMISE, CONTINUATION})
_EVERY_STREAM = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def goaway(last: int = _EVERY_STREAM) -> bytes:
    """The frame that asks for no more calls on this connection, and lets all calls that were made go on.

    By default it names the last possible stream, as a graceful shutdown does first: a call that the client sent before
    it read this frame is answered, too. A call after the named stream was never looked at.
    """
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, 0) + b"draining")


class Boundaries:
    """Follows the frames of one direction, into whatever chunks they are cut.

    Attributes:
        is_between: whether another frame may be inserted after what was followed so far.
    """

    __slots__ = ("_head", "_is_open", "_left", "is_between")

    def __init__(self) -> None:
        self._left = 0
        self._head = b""
        self._is_open = False
        self.is_between = False

    def feed(self, data: bytes) -> int:
        """Follow a chunk, and return the first place in it where another frame may be inserted; -1: there is none."""
        if not data:
            return -1
        held = len(self._head)
        if held:
            data = self._head + data
        at, size, found, is_open = self._left, len(data), -1, self._is_open
        while True:
            if found < 0 < at <= size and not is_open:
                found = at - held
            if size - at < HEAD:
                break
            # Between the parts of one block of headers no other frame is allowed.
            is_open = data[at + 3] in _BLOCKS and not data[at + 4] & END_HEADERS
            at += HEAD + (data[at] << 16 | data[at + 1] << 8 | data[at + 2])
        self._is_open, self._left, self._head = is_open, max(at - size, 0), data[at:]
        self.is_between = at == size and not is_open
        return found

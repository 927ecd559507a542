"""Asks a connection for its token, before any of its calls reaches a plugin.

The token comes as gRPC's clients send it, `authorization: Bearer ...` with each call. The first call of a connection
decides for all: who has shown the token may use the connection. Until then only the frames that set up a connection are
passed on, a bounded number of bytes of them, and a bounded number is held.
"""

from __future__ import annotations

import hmac
from typing import Any

from fsm_conn._util.extras import needed
from fsm_conn.cluster.serving.frames import CONTINUATION, END_HEADERS, HEAD, HEADERS, frame, goaway

__all__ = ["RefusedError", "TokenGate"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PRIORITY, PING, WINDOW_UPDATE = 0x4, 0x2, 0x6, 0x8
_SETTING_UP = frozenset({SETTINGS, PRIORITY, PING, WINDOW_UPDATE})
MOST_HELD = 64 * 1024
"""Bytes of a connection's first call, up to the end of its headers."""
MOST_SET_UP = 64 * 1024
"""Bytes that are passed on before the first call: some hundred, and 17 for each ping of a client that makes none."""
END_STREAM, PADDED, WITH_PRIORITY = 0x1, 0x8, 0x20
UNAUTHENTICATED = 16
"""gRPC's status for a call without the right credentials."""


class RefusedError(Exception):
    """The connection is refused. `answer` is what it is to be told, in HTTP/2."""

    def __init__(self, why: str, answer: bytes = b"") -> None:
        super().__init__(why)
        self.answer = answer


class TokenGate:
    """The gate of one connection.

    Args:
        token: what clients must show.

    Attributes:
        is_open: whether the token was shown.
    """

    def __init__(self, token: str) -> None:
        self.is_open = False
        self._hpack: Any = needed("hpack", "serve", "a token for clients")
        self._wanted = f"Bearer {token}".encode()
        self._held = bytearray()
        self._block: bytes | None = None
        self._has_begun = False
        self._passed = self._looked_at = self._set_up = 0

    def feed(self, data: bytes) -> bytes:
        """Take in what the client says, and return what may be passed on.

        Raises:
            RefusedError: the token is wrong, or what was said is not HTTP/2.
        """
        self._held += data
        if self._begins():
            while not self.is_open and self._take_frame():
                pass
        if not self.is_open and len(self._held) > MOST_HELD:
            raise RefusedError("it sent too much before its first call")
        self._set_up += self._passed
        if not self.is_open and self._set_up > MOST_SET_UP:
            raise RefusedError("it goes on without a call")
        if self.is_open:
            self._passed = len(self._held)
        passed = bytes(self._held[: self._passed])
        del self._held[: self._passed]
        self._passed = 0
        return passed

    def _begins(self) -> bool:
        if not self._has_begun:
            if not PREFACE.startswith(bytes(self._held[: len(PREFACE)])):
                raise RefusedError("it does not speak HTTP/2")
            if len(self._held) < len(PREFACE):
                return False
            self._has_begun = True
            self._passed = len(PREFACE)
        return True

    def _take_frame(self) -> bool:
        """Look at the next frame, if it is there as a whole; those of a block of headers are held until its end."""
        at = self._passed if self._block is None else self._looked_at
        if len(self._held) < at + HEAD:
            return False
        length = int.from_bytes(self._held[at : at + 3], "big")
        kind, flags = self._held[at + 3], self._held[at + 4]
        stream = int.from_bytes(self._held[at + 5 : at + HEAD], "big")
        end = at + HEAD + length
        if length > MOST_HELD:
            raise RefusedError("a frame before its first call is too long")
        if len(self._held) < end:
            return False
        payload = bytes(self._held[at + HEAD : end])
        if self._block is None and kind in _SETTING_UP:
            self._passed = end
        elif self._block is None and kind == HEADERS:
            self._take_block(_unpadded(payload, flags), flags, stream, end)
        elif self._block is not None and kind == CONTINUATION:
            self._take_block(self._block + payload, flags, stream, end)
        else:
            raise RefusedError("it sent a frame that has no place before its first call")
        return True

    def _take_block(self, block: bytes, flags: int, stream: int, end: int) -> None:
        self._block, self._looked_at = block, end
        if flags & END_HEADERS:
            self._judge(block, stream)

    def _judge(self, block: bytes, stream: int) -> None:
        try:
            headers = self._hpack.Decoder().decode(block, raw=True)
        except self._hpack.HPACKError as error:
            raise RefusedError(f"its headers cannot be read: {error}") from None
        shown = [value for name, value in headers if name == b"authorization"]
        if not shown or not hmac.compare_digest(bytes(shown[-1]), self._wanted):
            why = "the token is wrong" if shown else "it showed no token"
            raise RefusedError(why, self._answer(stream, why))
        self.is_open = True

    def _answer(self, stream: int, why: str) -> bytes:
        """The answer to a call whose token is wrong, so that its client is told what is wrong."""
        # Nothing enters the table of headers, which is the plugin's own.
        headers = [(b":status", b"200"), (b"content-type", b"application/grpc")]
        headers += [(b"grpc-status", b"%d" % UNAUTHENTICATED), (b"grpc-message", why.encode())]
        never = [self._hpack.NeverIndexedHeaderTuple(*pair) for pair in headers]
        return frame(HEADERS, END_STREAM | END_HEADERS, stream, self._hpack.Encoder().encode(never)) + goaway()


def _unpadded(payload: bytes, flags: int) -> bytes:
    begin = end = 0
    if flags & PADDED:
        if not payload:
            raise RefusedError("its headers cannot be read: they have no length of padding")
        begin, end = 1, payload[0]
    if flags & WITH_PRIORITY:
        begin += 5
    if begin + end > len(payload):
        raise RefusedError("its headers cannot be read: the padding is longer than they are")
    return payload[begin : len(payload) - end]

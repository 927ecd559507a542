"""Checks the token of each call of a connection, before the call reaches a plugin.

gRPC's clients send the token with each call, as `authorization: Bearer ...`. Several clients may share one connection,
behind a proxy, so one client's token proves nothing about another's call. The rules that hold here:

- Until a call has shown the token, only the frames that set up a connection are passed on, up to a bounded number of
  bytes. The connection is refused at the first call that does not show the token.
- After that, a call without the token is answered instead of passed on, and so no new call after it is passed on: the
  plugin does not know the refused call's headers, so it could not read those of later calls. GOAWAY tells the client
  to make them on another connection. The calls under way go on.
- The bytes that are not passed on yet are bounded in number.
"""

from __future__ import annotations

import hmac
from typing import Any

from fsm_conn._util.extras import needed
from fsm_conn.cluster.recipe import REFUSED
from fsm_conn.cluster.serving.frames import CONTINUATION, END_HEADERS, HEAD, HEADERS, PUSH_PROMISE, frame, goaway

__all__ = ["RefusedError", "TokenGate"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PRIORITY, PING, WINDOW_UPDATE = 0x4, 0x2, 0x6, 0x8
_SETTING_UP = frozenset({SETTINGS, PRIORITY, PING, WINDOW_UPDATE})
_WITH_HEADERS = frozenset({HEADERS, CONTINUATION, PUSH_PROMISE})
MOST_HELD = 64 * 1024
"""Bytes of a call, up to the end of its headers."""
MOST_SET_UP = 64 * 1024
"""Bytes that are passed on before the first call: some hundred, and 17 for each ping of a client without calls."""
LARGEST_TABLE = 64 * 1024
"""Bytes of the table with which a client shortens its headers, at most; the default is 4096."""
END_STREAM, PADDED, WITH_PRIORITY = 0x1, 0x8, 0x20
STREAM = 2**31 - 1
"""The bits that hold a stream's number."""
UNAUTHENTICATED = 16
"""gRPC's status for a call without the right credentials."""


class RefusedError(Exception):
    """The connection is refused. `answer` is the reply to it, in HTTP/2."""

    def __init__(self, why: str, answer: bytes = b"") -> None:
        super().__init__(why)
        self.answer = answer


class TokenGate:
    """The gate of one connection.

    Args:
        token: what clients must show.

    Attributes:
        is_open: whether a call has shown the token.
        answer: the reply to a call that did not show it, to be sent between two frames of the plugin. The sender takes
            it away.
    """

    def __init__(self, token: str) -> None:
        self.is_open = False
        self.answer = b""
        self._hpack: Any = needed("hpack", "serve", "a token for clients")
        self._decoder = self._hpack.Decoder(max_header_list_size=MOST_HELD)
        self._decoder.max_allowed_table_size = LARGEST_TABLE
        self._wanted = f"Bearer {token}".encode()
        self._held = bytearray()
        self._block: bytearray | None = None
        self._looked_at = self._left = self._set_up = self._last = self._refused = self._stream = 0
        self._has_begun = self._is_dropped = False

    def feed(self, data: bytes) -> bytes:
        """Take in data from the client, and return what may be passed on.

        Raises:
            RefusedError: the token is wrong, or the data is not HTTP/2.
        """
        if not self._held and not self._is_dropped and len(data) <= self._left:  # the usual path of long data
            self._left -= len(data)
            return data
        self._held += data
        passed = bytearray()
        if self._begins(passed):
            while self._step(passed):
                pass
        if len(self._held) > MOST_HELD:
            raise RefusedError("it sent too much before the end of a call's headers")
        if not self.is_open:
            self._set_up += len(passed)
            if self._set_up > MOST_SET_UP:
                raise RefusedError("it goes on without a call")
        return bytes(passed)

    def _begins(self, passed: bytearray) -> bool:
        if not self._has_begun:
            if not PREFACE.startswith(bytes(self._held[: len(PREFACE)])):
                raise RefusedError("it does not speak HTTP/2")
            if len(self._held) < len(PREFACE):
                return False
            self._has_begun = True
            self._take(len(PREFACE), passed)
        return True

    def _take(self, size: int, passed: bytearray) -> None:
        """Pass on, or drop, the first `size` bytes that were held."""
        if not self._is_dropped:
            passed += self._held[:size]
        del self._held[:size]

    def _step(self, passed: bytearray) -> bool:
        """Go on with a frame, or look at the next one, if enough of it has come; all headers of a call are held."""
        if self._left:
            size = min(self._left, len(self._held))
            self._left -= size
            self._take(size, passed)
            return size > 0
        at = self._looked_at
        if len(self._held) < at + HEAD:
            return False
        end = at + HEAD + int.from_bytes(self._held[at : at + 3], "big")
        kind = self._held[at + 3]
        if self._refused:
            self._pass_by(kind, self._stream_at(at))
        if self._refused or (self.is_open and self._block is None and kind not in _WITH_HEADERS):
            self._left = end
            return True
        if end - at > MOST_HELD:
            raise RefusedError("a frame before the end of a call's headers is too long")
        if len(self._held) < end:
            return False
        self._look(at, end, passed)
        return True

    def _stream_at(self, at: int) -> int:
        return int.from_bytes(self._held[at + 5 : at + HEAD], "big") & STREAM

    def _look(self, at: int, end: int, passed: bytearray) -> None:
        """Look at a whole frame: one that sets up the connection, or has headers of a call."""
        kind, flags, stream = self._held[at + 3], self._held[at + 4], self._stream_at(at)
        payload = self._held[at + HEAD : end]
        if self._block is None and kind in _SETTING_UP:
            self._take(end, passed)
        elif self._block is None and kind == HEADERS:
            self._block, self._stream = bytearray(_unpadded(payload, flags)), stream
            self._continue(flags, end, passed)
        elif self._block is not None and kind == CONTINUATION and stream == self._stream:
            self._block += payload
            self._continue(flags, end, passed)
        else:
            raise RefusedError("it sent a frame that has no place before the end of a call's headers")

    def _continue(self, flags: int, end: int, passed: bytearray) -> None:
        self._looked_at = end
        if not flags & END_HEADERS:
            return
        assert self._block is not None
        block, self._block, self._looked_at = bytes(self._block), None, 0
        why = self._wrong(block)
        if why and not self.is_open:
            raise RefusedError(why, self._answer(self._stream, why) + goaway())
        self.is_open = True
        if why:
            self._refused = self._stream
            self.answer = self._answer(self._stream, why) + goaway(self._stream)
            self._is_dropped = True
        else:
            self._last = max(self._last, self._stream)
        self._take(end, passed)

    def _wrong(self, block: bytes) -> str:
        """What is wrong with the headers of a call; nothing is wrong with those that end an accepted call."""
        try:
            headers = self._decoder.decode(block, raw=True)
        except self._hpack.HPACKError:
            raise RefusedError("its headers cannot be read") from None
        if 0 < self._stream <= self._last:
            return ""
        shown = [value for name, value in headers if name == b"authorization"]
        if shown and hmac.compare_digest(bytes(shown[-1]), self._wanted):
            return ""
        return "the token is wrong" if shown else "it showed no token"

    def _pass_by(self, kind: int, stream: int) -> None:
        """After a call was refused: pass on the frames of calls before it, and drop the rest."""
        self._is_dropped = stream >= self._refused
        if kind in _WITH_HEADERS and not self._is_dropped:
            raise RefusedError("it goes on with headers after a call was refused")

    def _answer(self, stream: int, why: str) -> bytes:
        """The answer to a call whose token is wrong. It tells the client what is wrong."""
        # The answer adds nothing to the table of headers, which belongs to the plugin.
        headers = [(b":status", b"200"), (b"content-type", b"application/grpc")]
        headers += [(b"grpc-status", b"%d" % UNAUTHENTICATED), (b"grpc-message", why.encode())]
        headers.append((REFUSED.encode(), b"token"))
        never = [self._hpack.NeverIndexedHeaderTuple(*pair) for pair in headers]
        return frame(HEADERS, END_STREAM | END_HEADERS, stream, self._hpack.Encoder().encode(never))


def _unpadded(payload: bytearray, flags: int) -> bytearray:
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

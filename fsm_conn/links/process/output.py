"""What a plugin prints: read for as long as it lives, kept in bounded space, and shown line by line to those who ask.

A plugin whose pipes are not read stops as soon as they are full, so both pipes are read from the first moment to the
last. Most of the output is thrown away: a short tail explains a failure, and logging is optional.

Rules that hold here:

- The loop's own readers read the pipes, without threads and without an await. So no cancellation can leave a reader
  half set up, and what is left at the exit can be read at once.
- Memory is bounded whatever is printed, and each visit to a pipe reads one chunk, so the loop gets its turn.
- When nobody listens to the logger, output is not even split into lines.
- Nothing leaves this module before it has passed the redactor.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

import attrs

from fsm_conn._util.redact import Redactor, decoded, without_escapes
from fsm_conn.links.errors import HandshakeError

__all__ = [
    "LONGEST_LINE",
    "Entry",
    "FirstLine",
    "Heard",
    "LineLog",
    "Pipe",
    "Tail",
    "as_it_is",
    "plugin_logger",
    "quoted",
]

LONGEST_LINE = 64 * 1024
"""Bytes of a first line. A real one is under 2 KiB: a certificate is the longest part of it."""
CHUNK = 16 * 1024
"""Bytes that are read and processed in one turn of the loop."""
DRAIN_LIMIT = 16
"""Chunks to read from a pipe whose process has ended. A descendant that escaped may go on writing without end."""
TAIL_LINES, TAIL_BYTES = 20, 8 * 1024
LONGEST_LOGGED = 4 * 1024
"""Characters of one line that are logged."""
LINES_PER_SECOND = 1000
"""Lines per stream beyond this are counted instead of logged: a flood of output must not flood the log."""
LONGEST_KEY = 200
"""Lines. After the head of a private key, everything is hidden up to the key's end, or this far."""
_KEY_MARK = b"-----"
"""A mark in every line where a key begins or ends."""
LONGEST_MARK = 256
"""Bytes that are kept of a line that is skipped, since the head of a key may be only partly read."""

plugin_logger = logging.getLogger("fsm_conn.plugin")


def as_it_is(text: str) -> str:
    """Return `text` unchanged."""
    return text


def quoted(line: bytes, show: Callable[[str], str] = as_it_is, limit: int = 120) -> str:
    """`line` for an error message: after `show` has removed secrets, escaped, and shortened to `limit` characters."""
    # The whole of the longest line is redacted before the cut: half a secret is a secret, too.
    text = show(decoded(line[:LONGEST_LINE], back=len(line) > LONGEST_LINE))
    whole = len(line) <= LONGEST_LINE and len(text) <= limit
    return repr(text) if whole else f"{text[:limit]!r}... ({len(line)} bytes)"


@attrs.frozen
class Entry:
    """What a line of output says."""

    text: str
    level: int = logging.INFO
    module: str = ""
    fields: Mapping[str, object] = attrs.field(factory=dict)


Sink = Callable[[bytes], object]


@attrs.frozen
class Heard:
    """Who gets what a plugin prints, and how its lines are read."""

    read: Callable[[str], Entry] = Entry
    """Finds the level and the fields of a line."""
    sinks: Mapping[str, Sink | None] = attrs.field(factory=dict)
    """The application's own listeners, by stream: they get everything as it comes."""
    loudest: int = logging.INFO
    """The highest level that a line may have."""


class Pipe:
    """The reading end of a pipe, fed to `sink` as data comes, and closed at its end.

    Args:
        loop: the loop that reads.
        file: the pipe, unbuffered. It is closed here; other code that closes it must call `close` first.
        sink: called with each chunk.
        on_end: called once, when all holders of the other end have closed it; not when `close` is called.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        file: IO[bytes],
        sink: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._file = file
        self._sink = sink
        self._on_end = on_end
        os.set_blocking(file.fileno(), False)
        loop.add_reader(file.fileno(), self._read)

    def _read(self) -> bool:
        """Read one chunk. False: there is nothing more for now."""
        try:
            data = os.read(self._file.fileno(), CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if data:
            self._sink(data)
            return True
        self.close()
        self._on_end()
        return False

    def drain(self) -> None:
        """Read what is in the pipe now."""
        for _ in range(DRAIN_LIMIT):
            if self._file.closed or not self._read():
                return

    def close(self) -> None:
        """Stop reading. May be called again, and after the loop was closed."""
        if self._file.closed:
            return
        with suppress(RuntimeError):
            self._loop.remove_reader(self._file.fileno())
        self._file.close()


class FirstLine:
    """Catches the first line of a stream.

    Attributes:
        line: resolves to that line, or raises `HandshakeError` when it is too long or the stream ends before it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, redact: Redactor) -> None:
        self._redact = redact
        self.line: asyncio.Future[bytes] = loop.create_future()
        # It may fail while nobody waits, because the process ended first. The loop should not complain about that.
        self.line.add_done_callback(lambda line: line.cancelled() or line.exception())
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take a chunk; returns what comes after the line."""
        if self.line.done():
            return data
        searched = len(self._held)
        self._held += data
        end = self._held.find(b"\n", searched)
        if end < 0 and len(self._held) <= LONGEST_LINE:
            return b""
        first, rest = (self._held[:end], self._held[end + 1 :]) if end >= 0 else (self._held, bytearray())
        self._settle(bytes(first))
        return bytes(rest)

    def end(self) -> None:
        """The stream has ended."""
        if not self.line.done():
            self._fail("the plugin closed its stdout before it printed a handshake line", bytes(self._held))

    def told(self) -> str:
        """What there is of the line so far, in words, safe to show."""
        if self.line.done() and self.line.exception() is None:
            return f"its first line on stdout was {quoted(self.line.result(), self._redact)}"
        if self._held:
            return f"it had printed {quoted(bytes(self._held), self._redact)} on stdout, and no end of line"
        return "it had printed nothing on stdout"

    def _settle(self, line: bytes) -> None:
        if len(line) > LONGEST_LINE:
            self._fail(f"the plugin printed more than {LONGEST_LINE} bytes without a handshake line", line)
        else:
            self._held = bytearray()
            self.line.set_result(line)

    def _fail(self, message: str, printed: bytes) -> None:
        shown = quoted(printed, self._redact) if printed else ""
        self.line.set_exception(
            HandshakeError(
                f"{message}: {shown}" if shown else message, line=shown, permanent=len(printed) > LONGEST_LINE
            )
        )


class Tail:
    """The last lines of a stream."""

    def __init__(self) -> None:
        self._kept = b""
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Take a chunk."""
        self._cut = self._cut or len(self._kept) + len(data) > 2 * TAIL_BYTES
        self._kept = (self._kept + data)[-2 * TAIL_BYTES :]

    def lines(self, redact: Redactor) -> list[str]:
        """The last lines, safe to show; at most `TAIL_LINES` of them and about `TAIL_BYTES` long."""
        text = redact(decoded(self._kept, front=self._cut), front=self._cut)
        if len(text) > TAIL_BYTES:
            text = text[-TAIL_BYTES:].partition("\n")[2] or text[-TAIL_BYTES:]
        return [line for line in map(str.rstrip, text.split("\n")) if line][-TAIL_LINES:]


class LineLog:
    """Writes a stream to the logger `fsm_conn.plugin`, line by line, and passes it to the application as it comes.

    Args:
        redact: makes a line safe to show.
        clock: the loop's time, in seconds.
        extra: attributes for every log record.
        read: finds the level and the fields of a line.
        sink: the application's own listener. If it raises, it is not called again.
        loudest: the highest level that a line may have. Where even that is not logged, no line is looked at.
    """

    def __init__(
        self,
        redact: Redactor,
        clock: Callable[[], float],
        extra: Mapping[str, object],
        read: Callable[[str], Entry] = Entry,
        sink: Sink | None = None,
        loudest: int = logging.INFO,
    ) -> None:
        self._read = read
        self._loudest = loudest
        self._sink = sink
        self._redact = redact
        self._clock = clock
        self._extra = dict(extra)
        self._partial = b""
        self._before: str | None = ""
        self._cut = False
        self._key_lines = 0
        self._window = clock()
        self._logged = self._dropped = 0

    def feed(self, data: bytes) -> None:
        """Take a chunk."""
        if self._sink is not None:
            self._tell(self._sink, data)
        if not plugin_logger.isEnabledFor(self._loudest):
            # A listener may begin with the next chunk, but not with the rest of a line that had begun before.
            self._before = None
            self._cut, self._partial = not data.endswith(b"\n"), b""
            return
        held = self._partial + data
        ended = held.count(b"\n")
        allowance = self._allowance(ended)
        *lines, rest = held.split(b"\n", allowance)
        self._lines(lines)
        if ended > allowance:
            left_out, _, rest = rest.rpartition(b"\n")
            self._leave_out(left_out)
        self._partial = rest
        if len(self._partial) > 2 * LONGEST_LOGGED:
            self._cut_short()

    def _tell(self, sink: Sink, data: bytes) -> None:
        try:
            sink(data)
        except Exception:
            self._sink = None
            plugin_logger.exception("what listened to a plugin's output raised, and is not called again")

    async def feed_in_turns(self, data: bytes) -> None:
        """Take data of any length, one chunk in each turn of the loop."""
        for at in range(0, len(data), CHUNK):
            self.feed(data[at : at + CHUNK])
            await asyncio.sleep(0)

    def end(self) -> None:
        """The stream has ended: log a last line that has no line end, and how much was left out."""
        if self._partial:
            self._lines([self._partial])
            self._partial = b""
        self._report_dropped()

    def _allowance(self, wanted: int) -> int:
        now = self._clock()
        if now - self._window >= 1:
            self._report_dropped()
            self._window, self._logged = now, 0
        allowed = min(wanted, LINES_PER_SECOND - self._logged)
        self._logged += allowed
        self._dropped += wanted - allowed
        return allowed

    def _report_dropped(self) -> None:
        if self._dropped:
            self._emit(f"... {self._dropped} lines left out: the plugin prints more than {LINES_PER_SECOND} a second")
            self._dropped = 0

    def _cut_short(self) -> None:
        """The current line is too long: show its beginning now, and search the rest only for keys."""
        self._lines([self._partial])
        self._cut, self._partial = True, self._partial[-LONGEST_MARK:]

    def _lines(self, lines: list[bytes]) -> None:
        """Log lines, as many at once as possible, because redacting them together costs little for each."""
        group: list[str] = []
        for line in lines:
            was_cut, self._cut = self._cut, False
            if self._is_of_a_key(line) or was_cut:
                self._log(group)
                group, self._before = [], None
                continue
            is_cut = len(line) > 2 * LONGEST_LOGGED
            group.append(decoded(line[: 2 * LONGEST_LOGGED], back=is_cut))
            if is_cut or _KEY_MARK in without_escapes(line):  # lines that are left out, or hidden as a key, end there
                self._log(group)
                group, self._before = [], None if is_cut else self._before
        self._log(group)

    def _log(self, lines: list[str]) -> None:
        if not lines:
            return
        printed, before = "\n".join(lines), self._before
        # A secret may go on in the next line, and may have begun in those before.
        shown = self._redact(printed, front=before is None, back=True, before=before or "")
        self._before = f"{before or ''}{printed}\n"[-self._redact.reach :] if self._redact.reach else ""
        for text in map(str.rstrip, shown.split("\n")):
            if text:
                self._emit(text)

    def _leave_out(self, block: bytes) -> None:
        """Skip lines, which may be many and short, and look only at those where a key may begin or end."""
        self._cut, self._before = False, None  # they include the end of a line that was cut short
        block = without_escapes(block)
        begin = 0
        while (mark := block.find(_KEY_MARK, begin)) >= 0:
            start = max(block.rfind(b"\n", begin, mark) + 1, begin)
            end = block.find(b"\n", mark)
            end = len(block) if end < 0 else end
            self._key_lines = max(0, self._key_lines - block.count(b"\n", begin, start))
            self._is_of_a_key(block[start:end])
            begin = end + 1
        if begin <= len(block):
            self._key_lines = max(0, self._key_lines - block.count(b"\n", begin) - 1)

    def _is_of_a_key(self, line: bytes) -> bool:
        """Whether a line belongs to a private key whose head was in an earlier line, which was shown or left out."""
        shown, is_of_one = without_escapes(line), self._key_lines > 0
        if b"PRIVATE KEY-----" in shown and _begins_key(shown):
            self._key_lines = LONGEST_KEY
        elif is_of_one:
            self._key_lines = 0 if b"-----END" in shown else self._key_lines - 1
        return is_of_one

    def _emit(self, line: str) -> None:
        entry = self._read(line)
        if not plugin_logger.isEnabledFor(entry.level):
            return
        extra, text = self._extra, entry.text
        if text is not line:  # it is unescaped now
            text = self._redact(text)
            extra = extra | {"plugin_module": self._redact(entry.module), "plugin_fields": self._shown(entry.fields)}
        text = text if len(text) <= LONGEST_LOGGED else text[:LONGEST_LOGGED] + "..."
        plugin_logger.log(entry.level, "%s", text, extra=extra)

    def _shown(self, value: Any) -> Any:
        """A field without secrets, at any depth."""
        if isinstance(value, str):
            return self._redact(value)
        if isinstance(value, Mapping):
            return {self._redact(str(name)): self._shown(each) for name, each in value.items()}
        return [self._shown(each) for each in value] if isinstance(value, list) else value


def _begins_key(line: bytes) -> bool:
    """Whether the last mark in a line is the head of a private key; the line has a head or an end of one."""
    _, end, rest = line.rpartition(b"-----END")
    return not end or (b"-----BEGIN" in rest and b"PRIVATE KEY-----" in rest)

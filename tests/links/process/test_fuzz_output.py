"""What a plugin prints, whatever it is: kept within bounds, and fit to be shown."""

from __future__ import annotations

import asyncio
import logging
import os
import tracemalloc
from collections.abc import Iterator

import pytest
from harmless import assert_fit_to_be_shown, assert_harmless, unhurried
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn._util.redact import HIDDEN, Redactor
from fsm_conn.links.errors import HandshakeError
from fsm_conn.links.plugin.handshake import parse_handshake
from fsm_conn.links.process import output
from fsm_conn.links.process.output import LONGEST_LINE, FirstLine, LineLog, Pipe, Tail, plugin_logger

SECRET = "hunter2-s3cret"
redact = Redactor([SECRET])

pieces = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"\n",
            b"\r\n",
            b"\x1b[2J",
            b"\x1b]0;title\x07",
            b"\xff\xfe",
            b"\xe2\x80",
            b"\x00" * 50,
            SECRET.encode(),
            b"-----BEGIN PRIVATE KEY-----",
            b"-----END PRIVATE KEY-----",
            b"cookie mismatch. Expected: '" + SECRET.encode() + b"'",
            b"x" * 5000,
            b"x" * 70_000,
            b"|",
            b"1|1|unix|/a|grpc|",
        ]
    ),
)
streams = st.lists(pieces, max_size=12)


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture(autouse=True)
def logged() -> Iterator[None]:
    level = plugin_logger.level
    plugin_logger.setLevel(logging.INFO)
    yield
    plugin_logger.setLevel(level)


def log_of(chunks: list[bytes]) -> list[str]:
    records, log = Records(), LineLog(redact, lambda: 0.0, {})
    plugin_logger.addHandler(records)
    plugin_logger.propagate = False
    try:
        for chunk in chunks:
            log.feed(chunk)
        log.end()
    finally:
        plugin_logger.removeHandler(records)
        plugin_logger.propagate = True
    return records.texts


@unhurried
@given(streams)
def test_any_output_is_logged_in_bounded_lines(chunks: list[bytes]) -> None:
    """No line is longer than the limit, none has control characters, and no whole secret stands in any."""
    for text in log_of(chunks):
        assert_fit_to_be_shown(text, output.LONGEST_LOGGED + 3)
        assert SECRET not in text


@unhurried
@given(streams)
def test_any_output_leaves_a_bounded_tail(chunks: list[bytes]) -> None:
    """So does evidence."""
    tail = Tail()
    for chunk in chunks:
        tail.feed(chunk)
    lines = tail.lines(redact)
    assert len(lines) <= output.TAIL_LINES
    assert_fit_to_be_shown("\n".join(lines), output.TAIL_BYTES)
    assert SECRET not in "\n".join(lines)


@unhurried
@given(streams)
def test_any_output_gives_a_first_line_or_an_error(chunks: list[bytes]) -> None:
    """And the line is a handshake or an error."""

    async def scenario() -> bytes:
        first = FirstLine(asyncio.get_running_loop(), redact)
        rest = b"".join(first.feed(chunk) for chunk in chunks)
        first.end()
        sent = b"".join(chunks)
        assert sent.endswith(rest)
        return await first.line

    told = ""
    try:
        parse_handshake(asyncio.run(scenario()), show=redact)
    except HandshakeError as error:
        assert_harmless(error)
        told = f"{error}{error.line}"
    assert SECRET not in told


# --- bounds ---------------------------------------------------------------------------------------------------------


def growth(feed: object, chunk: bytes, megabytes: int = 64) -> int:
    """Bytes held at most while so much is fed, less the chunk itself."""
    assert callable(feed)
    feed(chunk)
    tracemalloc.start()
    try:
        for _ in range(megabytes * 1024 * 1024 // len(chunk)):
            feed(chunk)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "chunk",
    [b"x" * 65536, b"\n" * 65536, b"\xff" * 65536, b"y" * 99 + b"\n"],
    ids=["no line ends", "empty lines", "no text", "lines"],
)
def test_a_flood_takes_no_memory(chunk: bytes) -> None:
    """Without an end of line, of nothing else, or of what is no text: the tail and the log are as large as ever."""
    tail = Tail()
    assert growth(tail.feed, chunk, 16) < 512 * 1024
    records, log = Records(), LineLog(redact, lambda: 0.0, {})
    plugin_logger.addHandler(records)
    plugin_logger.propagate = False
    try:
        assert growth(log.feed, chunk, 16) < 16 * 1024 * 1024
    finally:
        plugin_logger.removeHandler(records)
        plugin_logger.propagate = True
    assert len(records.texts) <= output.LINES_PER_SECOND


async def test_the_first_line_is_waited_for_within_bounds() -> None:
    """A plugin that never ends its line is told so after 64 KiB, and what follows is not kept."""
    first = FirstLine(asyncio.get_running_loop(), redact)
    assert growth(first.feed, b"z" * 4096, 16) < 1024 * 1024
    with pytest.raises(HandshakeError, match=f"more than {LONGEST_LINE} bytes"):
        await first.line


async def test_each_visit_to_a_pipe_reads_one_chunk() -> None:
    """However much waits in it, so that the loop gets its turn. At its end it is read out, but not on and on."""
    reading, writing = os.pipe()
    seen: list[int] = []
    file = os.fdopen(reading, "rb", buffering=0)

    def refill(data: bytes) -> None:
        seen.append(len(data))
        os.write(writing, b"x" * 1000)

    pipe = Pipe(asyncio.get_running_loop(), file, refill, lambda: None)
    os.write(writing, b"x" * 60_000)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert all(each <= output.CHUNK for each in seen)
    before = len(seen)
    pipe.drain()
    assert len(seen) - before <= output.DRAIN_LIMIT
    pipe.close()
    os.close(writing)


def test_a_key_is_hidden_whole() -> None:
    """Wherever a chunk ends."""
    key = b"-----BEGIN EC PRIVATE KEY-----\nMIGkAgEBBDC\nabcdefgh\n-----END EC PRIVATE KEY-----\nafter\n"
    for cut in range(len(key)):
        texts = log_of([key[:cut], key[cut:]])
        assert not any("MIGk" in text or "abcdefgh" in text for text in texts)
        assert texts[-1] == "after"
    tail = Tail()
    tail.feed(key)
    assert tail.lines(redact) == [HIDDEN, "after"]


LINES = st.sampled_from(
    [
        b"",
        b"x",
        b"-----",
        b"-----BEGIN RSA PRIVATE KEY-----",
        b"TUFS",
        b"-----END RSA PRIVATE KEY-----",
        b"a -----END b",
    ]
)


@given(st.lists(LINES, min_size=1, max_size=40), st.integers(0, 3), st.sampled_from([3, output.LONGEST_KEY]))
def test_what_is_left_out_is_known_as_if_it_had_been_read_line_by_line(
    lines: list[bytes], key_lines: int, longest: int
) -> None:
    """Where a key begins and ends in a flood decides what may be shown behind it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "LONGEST_KEY", longest)
        quick, slow = LineLog(redact, lambda: 0.0, {}), LineLog(redact, lambda: 0.0, {})
        quick._key_lines = slow._key_lines = key_lines
        quick._leave_out(b"\n".join(lines))
        for line in lines:
            slow._is_of_a_key(line)
        assert quick._key_lines == slow._key_lines


def test_a_line_cut_short_in_a_flood_takes_no_other_with_it() -> None:
    """Its rest is left out with others; what comes when there is room again is shown."""
    now, records = [0.0], Records()
    log = LineLog(redact, lambda: now[0], {})
    plugin_logger.addHandler(records)
    plugin_logger.propagate = False
    level = plugin_logger.level
    plugin_logger.setLevel(logging.INFO)
    try:
        log.feed(b"line\n" * output.LINES_PER_SECOND)
        log.feed(b"y" * 3 * output.LONGEST_LOGGED)
        log.feed(b"y\n" * 3)
        now[0] = 2.0
        log.feed(b"shown\n")
    finally:
        plugin_logger.removeHandler(records)
        plugin_logger.propagate = True
        plugin_logger.setLevel(level)
    assert records.texts[-1] == "shown"

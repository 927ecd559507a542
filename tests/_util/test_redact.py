"""Nothing of a secret is shown, wherever output happens to be cut."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fsm_conn._util.redact import (
    HIDDEN,
    SHORTEST_SECRET,
    Redactor,
    decoded,
    without_escapes,
)
from fsm_conn._util.secret_values import secrets_around, secrets_in
from fsm_conn.links.errors import HandshakeError
from fsm_conn.links.plugin.handshake import parse_handshake
from fsm_conn.links.process.output import (
    LINES_PER_SECOND,
    LONGEST_LOGGED,
    TAIL_BYTES,
    LineLog,
    Tail,
    plugin_logger,
    quoted,
)

# Upper-case letters are in secrets alone.
REMAINS = re.compile(r"[A-Z]{4,}")
UNICODE_REMAINS = re.compile(r"[Ä€𝄞A]{4,}")
secret = st.text("ABC", min_size=4, max_size=200)
filling = st.text("xyz |\n", max_size=40)


ESCAPES = [
    "",
    "\x1b[0m",
    "\x1b[38;2;1;2;3m",
    "\x1b[?25l",
    "\x1b(B",
    "\x1b%G",
    "\x1b#8",
    "\x1b7",
    "\x1bM",
    "\x1b=",
    "\x1bc",
    "\x1b]0;title\x07",
    "\x1b]8;;http://x/\x1b\\",
    "\x1bP1$r0m\x1b\\",
    "\x1b_program\x1b\\",
    "\x1b^private\x1b\\",
    "\x1bXstring\x1b\\",
]


@contextmanager
def listening(seen: list[str]) -> Iterator[None]:
    """Within the block, what is logged of plugins goes to `seen`."""
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    before = plugin_logger.level
    plugin_logger.addHandler(handler)
    plugin_logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        plugin_logger.setLevel(before)
        plugin_logger.removeHandler(handler)


def log(redact: Redactor, *, now: list[float]) -> LineLog:
    return LineLog(redact, lambda: now[0], {})


class TestCut:
    @given(st.lists(secret, min_size=1, max_size=3), st.lists(st.integers(0, 2) | filling, max_size=12), st.data())
    def test_anywhere(self, secrets: list[str], parts: list[str | int], data: st.DataObject) -> None:
        """Of text that was cut at both ends, nothing is shown that would tell a secret."""
        text = "-".join(part if isinstance(part, str) else secrets[part % len(secrets)] for part in parts)
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, len(text)))
        part = text[begin:end]
        # Nobody can tell the middle of a secret; but nothing is ever cut so short that it would be all there is.
        assume(not REMAINS.fullmatch(part) or part in secrets)
        assert not REMAINS.search(Redactor(secrets)(part, front=True, back=True))

    @given(st.text("Ä€𝄞", min_size=4, max_size=12), st.lists(st.sampled_from(ESCAPES), min_size=1), st.data())
    def test_within_an_escape(self, word: str, escapes: list[str], data: st.DataObject) -> None:
        """Nor where the cut goes through an escape that was printed in the middle of a secret."""
        places = sorted(data.draw(st.lists(st.integers(0, len(word)), min_size=len(escapes), max_size=len(escapes))))
        text = "".join(
            word[begin:end] + escape
            for begin, end, escape in zip([0, *places], [*places, len(word)], [*escapes, ""], strict=True)
        )
        begin = data.draw(st.integers(0, len(text)))
        assert not UNICODE_REMAINS.search(Redactor([word])(text[begin:], front=True))

    @pytest.mark.parametrize("length", [9, 60, 99, 700])
    def test_tail(self, length: int) -> None:
        """The tail of a stream that prints nothing but a secret shows none of it."""
        word = "S3CR3T" + "ABCDEFGHIJ" * (length // 10) + "Z"
        tail = Tail()
        tail.feed((word * (4 * TAIL_BYTES // len(word))).encode())
        shown = "".join(tail.lines(Redactor([word])))
        assert HIDDEN in shown
        assert not REMAINS.search(shown)

    @pytest.mark.parametrize("chunk", [100, 1000, 65536])
    @pytest.mark.parametrize("length", [9, 60, 99, 700])
    def test_long_line(self, caplog: pytest.LogCaptureFixture, chunk: int, length: int) -> None:
        """Nor does the log of a line that is too long."""
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        word = "S3CR3T" + "ABCDEFGHIJ" * (length // 10) + "Z"
        printed = (word * (4 * LONGEST_LOGGED // len(word))).encode()
        written = log(Redactor([word]), now=[0.0])
        for at in range(0, len(printed), chunk):
            written.feed(printed[at : at + chunk])
        written.end()
        assert HIDDEN in caplog.text
        assert not REMAINS.search(caplog.messages[0])

    @pytest.mark.parametrize("length", [9, 60, 99, 700])
    def test_quoted_line(self, length: int) -> None:
        """Nor does a first line that an error quotes."""
        word = "S3CR3T" + "ABCDEFGHIJ" * (length // 10) + "Z"
        assert not REMAINS.search(quoted((word * 30).encode(), Redactor([word])))

    def test_listened_to_from_the_middle(self, caplog: pytest.LogCaptureFixture) -> None:
        """Who begins to listen in the middle of a line hears from the next line on."""
        written = log(Redactor(["ABCDEFGHIJ"]), now=[0.0])
        written.feed(b"one ABCDE")
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        written.feed(b"FGHIJ\ntwo\n")
        assert caplog.messages == ["two"]

    @given(st.text("Ä€𝄞A", min_size=4, max_size=60), st.lists(st.booleans(), max_size=6), st.data())
    def test_within_a_character(self, word: str, parts: list[bool], data: st.DataObject) -> None:
        """Nor where the cut goes through a character: what is left of it is left out."""
        printed = "-".join(word if part else "ß" for part in parts).encode()
        begin = data.draw(st.integers(0, len(printed)))
        part = printed[begin : data.draw(st.integers(begin, len(printed)))]
        text = decoded(part, front=True, back=True)
        assert "\\x" not in text
        assume(not UNICODE_REMAINS.fullmatch(text) or text == word)
        assert not UNICODE_REMAINS.search(Redactor([word])(text, front=True, back=True))

    @pytest.mark.parametrize("shift", range(12))
    @pytest.mark.parametrize("word", ["passwörd-ÄÖÜ", "€1€2€3€4", "𝄞a𝄞b𝄞c𝄞d"])
    def test_of_a_stream_within_a_character(self, caplog: pytest.LogCaptureFixture, word: str, shift: int) -> None:
        """Tail and log cut by bytes."""
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        printed = b"z" * shift + (word * 4000).encode()
        tail, written = Tail(), log(Redactor([word]), now=[0.0])
        tail.feed(printed)
        written.feed(printed + b"\n")
        for shown in ("".join(tail.lines(Redactor([word]))), caplog.messages[0]):
            assert HIDDEN in shown
            assert len(re.sub(r"\[redacted\]|(\[[a-z]*)?\.\.\.$|^z*", "", shown)) < SHORTEST_SECRET, shown


class TestLines:
    @given(
        st.text("ABC", min_size=8, max_size=60),
        st.lists(st.integers(1, 30), min_size=1, max_size=8),
        st.integers(1, 100),
    )
    def test_one_after_the_other(self, word: str, widths: list[int], chunk: int) -> None:
        """A secret that is wrapped over lines of the log is hidden in each, but for pieces too short to tell."""
        lines, at = ["begin"], 0
        for width in itertools.cycle(widths):
            if at >= len(word):
                break
            lines.append(word[at : at + width])
            at += width
        seen: list[str] = []
        printed = "\n".join([*lines, "end", ""]).encode()
        with listening(seen):
            written = log(Redactor([word]), now=[0.0])
            for begin in range(0, len(printed), chunk):
                written.feed(printed[begin : begin + chunk])
        assert (seen[0], seen[-1]) == ("begin", "end")
        # The first lines may be shown until there is enough of it to be known.
        assert len(re.sub(r"[^ABC]", "", "".join(seen))) < SHORTEST_SECRET + max(widths)
        assert not [text for text in seen if REMAINS.search(text)]

    def test_within_what_is_known(self) -> None:
        """Once it has begun to be known, nothing more of it is shown."""
        seen: list[str] = []
        with listening(seen):
            log(Redactor(["ABCDEFGHIJKLMNOP"]), now=[0.0]).feed(b"x ABCDE\nFG\nHIJKL\nMNOP y\nFG\n")
        assert seen == [f"x {HIDDEN}", HIDDEN, HIDDEN, f"{HIDDEN} y", "FG"]


class TestNotUtf8:
    @given(st.lists(st.integers(0x21, 0xFF), min_size=4, max_size=40).map(bytes))
    def test_in_the_form_in_which_it_comes_back(self, word: bytes) -> None:
        """A secret of any bytes is known in what is printed, and in what gRPC tells."""
        assume(len(os.fsdecode(word)) >= SHORTEST_SECRET)
        redact, printed = Redactor([os.fsdecode(word)]), b"\t " + word + b" \t"
        assert redact(decoded(printed)) == f"\t {HIDDEN} \t"
        if len(word.decode("utf-8", "replace")) >= SHORTEST_SECRET:
            assert redact(printed.decode("utf-8", "replace")) == f"\t {HIDDEN} \t"

    @pytest.mark.parametrize("word", [b"passw\xf6rd", "passwörd".encode()])
    def test_in_a_field_of_a_handshake_line(self, word: bytes) -> None:
        """Wherever an error quotes it."""
        for line in (b"1|1|%b|a|grpc|", b"1|%b|tcp|a|grpc|", b"1|1|tcp|a|%b|"):
            with pytest.raises(HandshakeError) as caught:
                parse_handshake(line % word, show=Redactor([os.fsdecode(word)]))
            assert "passw" not in str(caught.value)
            assert str(caught.value).count(HIDDEN) == 2

    def test_that_no_plugin_can_be_given(self) -> None:
        """Half a surrogate pair is looked for as it is."""
        assert HIDDEN in Redactor(["word\ud800word"])("a word\ud800word b")


class TestColours:
    @given(
        st.lists(st.sampled_from(["\x1b[0m", "\x1b[1;31m", "\x1b]0;title\x07"]) | st.just(""), min_size=6, max_size=6)
    )
    def test_within(self, escapes: list[str]) -> None:
        """A secret that is printed with escapes in it, such as the colour of a number, is one when they are gone."""
        shown = Redactor(["SECRET7"])(f"token: {''.join(map(''.join, zip('SECRET', escapes, strict=True)))}7 end")
        assert shown == f"token: {HIDDEN} end"

    def test_of_the_secret_itself(self) -> None:
        """So is one that has escapes of its own."""
        assert Redactor(["SEC\x1b[1mRET"])("a SEC\x1b[1mRET b SECRET") == f"a {HIDDEN} b {HIDDEN}"

    def test_within_a_key(self) -> None:
        """And a private key whose head is coloured is hidden whole."""
        head = "-----BEGIN \x1b[1mEC PRIVATE\x1b[0m KEY-----"
        assert Redactor()(f"{head}\nMIGk\n-----END EC PRIVATE KEY-----") == HIDDEN

    @pytest.mark.parametrize("escape", ESCAPES)
    def test_of_every_kind(self, escape: str) -> None:
        """Colours, character sets, titles, links, and messages to whatever draws."""
        assert Redactor(["SECRET7"])(f"token: SEC{escape}RET7 end") == f"token: {HIDDEN} end"

    @pytest.mark.parametrize("escape", [escape for escape in ESCAPES if escape])
    def test_that_are_cut(self, escape: str) -> None:
        """Half an escape does not keep half a secret before it in sight."""
        for length in range(1, len(escape)):
            assert Redactor(["SECRET7"])(f"token: SECRE{escape[:length]}", back=True) == f"token: {HIDDEN}"

    @given(st.text("ab\x1b[]()P^_X;0m\\\x07\n ", max_size=60))
    def test_none_is_left(self, text: str) -> None:
        """Whatever it is made of, no escape is; the ends of lines are where they were, in bytes as in text."""
        shown = Redactor()(text)
        assert "\x1b" not in shown
        assert shown.count("\n") == without_escapes(text.encode()).count(b"\n") == text.count("\n")


KEY = f"-----BEGIN EC PRIVATE KEY-----\n{'QUJD' * 16}\n{'QUJD' * 16}\nQUJD==\n-----END EC PRIVATE KEY-----\n"


@st.composite
def coloured(draw: st.DrawFn) -> str:
    """A private key with escapes anywhere in it."""
    at, text = 0, ""
    for place in sorted(draw(st.lists(st.integers(0, len(KEY)), max_size=12))):
        text, at = text + KEY[at:place] + draw(st.sampled_from(ESCAPES)), place
    return text + KEY[at:]


class TestKeys:
    @given(
        st.lists(
            coloured() | st.sampled_from(["x\n", "x\n" * LINES_PER_SECOND, "y" * 9000, "\x1b[1m", "z"]), max_size=8
        ),
        st.lists(st.integers(1, 5000), min_size=1),
    )
    def test_in_any_colours(self, parts: list[str], chunks: list[int]) -> None:
        """Nothing of a private key is logged, however it is coloured, cut, or hidden among other output."""
        printed, now, seen = "".join(parts).encode(), [0.0], []
        written = log(Redactor(), now=now)
        with listening(seen):
            for size in itertools.cycle(chunks):
                if not printed:
                    break
                written.feed(printed[:size])
                printed = printed[size:]
                now[0] += 0.3
            now[0] += 2
            written.feed(b"\nafter\n")
            written.end()
        assert not [text for text in seen if "QUJD" in text]
        assert "after" in seen

    def test_one_after_another(self) -> None:
        """One may begin in the line in which another one ends."""
        seen: list[str] = []
        with listening(seen):
            written = log(Redactor(), now=[0.0])
            written.feed(f"{KEY.rstrip()}{KEY}after\n".encode())
        assert "after" in seen
        assert not [text for text in seen if "QUJD" in text]

    def test_head_left_out_of_a_flood(self, caplog: pytest.LogCaptureFixture) -> None:
        """A private key whose head was not logged, because of a flood, is not logged either."""
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        now = [0.0]
        written = log(Redactor(), now=now)
        written.feed(b"x\n" * LINES_PER_SECOND + b"-----BEGIN EC PRIVATE KEY-----\n")
        now[0] += 2
        written.feed(b"MIGkAgEBBDAabc\n-----END EC PRIVATE KEY-----\nafter\n")
        assert "after" in caplog.messages
        assert "MIGk" not in caplog.text


def test_what_is_a_secret() -> None:
    """By its name, or because the host's own environment does not hold it; not a level, a flag or a small number."""
    env = {"TOKEN": "info", "LEVEL": "debug", "PORT": "8080", "HOME": "/root", "WORD": "hunter2", "PIN": "123"}
    assert set(secrets_in(env, {"/root"})) == {"info", "hunter2"}


def test_what_is_a_secret_of_the_host() -> None:
    """By its name alone, and not when its value is a level, a flag or a small number."""
    env = {"AWS_SECRET_ACCESS_KEY": "hunter2", "KEY_COUNT": "12", "TOKENS": "true", "HOME": "/root", "PASSWORD": "x"}
    assert set(secrets_around(env)) == {"hunter2"}


def test_the_working_directory_is_no_password() -> None:
    """A shell's PWD is a path, which errors about missing files name; with anything else in it, it may be a password."""
    env = {"PWD": "/srv/app-7f3k9", "OLDPWD": "/srv/app-7f3k9/x"}
    assert set(secrets_around(env)) == set(secrets_in(env)) == set()
    assert set(secrets_around({"PWD": "hunter2", "DB_PWD": "/s3cr3t"})) == {"hunter2", "/s3cr3t"}

"""Nothing of a secret is shown, wherever output happens to be cut."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fsm_conn.links.handshake import quoted
from fsm_conn.links.output import LINES_PER_SECOND, LONGEST_LOGGED, TAIL_BYTES, LineLog, Tail
from fsm_conn.links.redact import HIDDEN, Redactor, secrets_around, secrets_in

# Upper-case letters are in secrets alone.
REMAINS = re.compile(r"[A-Z]{4,}")
secret = st.text("ABC", min_size=4, max_size=200)
filling = st.text("xyz |\n", max_size=40)


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


class TestKeys:
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

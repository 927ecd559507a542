"""A secret is hidden in whatever form it is written, and however several overlap."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import textwrap
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fsm_conn._util.recoded import Recoded, base64_of, bytewise, undone
from fsm_conn._util.redact import HIDDEN, Redactor

SECRET = st.builds(
    "".join,
    st.tuples(
        st.text("ABCDEFGH", min_size=5, max_size=8),
        st.text("ABCDEFGH12 /+=&?%#'\"\\$-_.:äß€𝄞", max_size=40),
        st.text("ABCDEFGH", min_size=2, max_size=4),
    ),
)
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent": quote,
    "percent, all": lambda secret: quote(secret, safe=""),
    "percent, small letters": lambda secret: re.sub("%..", lambda found: found[0].lower(), quote(secret, safe="")),
    "form": quote_plus,
    "json": json.dumps,
    "json with letters": lambda secret: json.dumps(secret, ensure_ascii=False),
    "repr": repr,
    "ascii": ascii,
    "bytes": lambda secret: repr(secret.encode()),
    "shell": shlex.quote,
    "shell, backslashes": lambda secret: re.sub(r"([^\w])", r"\\\1", secret),
    "html": html.escape,
    "octal": lambda secret: "".join(f"\\{byte:03o}" for byte in secret.encode()),
    "hex": lambda secret: secret.encode().hex(),
    "HEX": lambda secret: secret.encode().hex().upper(),
    "html of json": lambda secret: html.escape(json.dumps(secret)),
    "percent of json": lambda secret: quote(json.dumps(secret)),
    "json of json": lambda secret: json.dumps(json.dumps(secret)),
    "json of percent": lambda secret: json.dumps({"url": quote(secret, safe="")})[8:-1],
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 for urls": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "base64 in lines": lambda secret: base64.encodebytes(secret.encode()).decode(),
    "base64 in a url": lambda secret: quote(base64.b64encode(secret.encode()).decode(), safe=""),
}


@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRET, others=st.lists(SECRET, max_size=2))
def test_in_any_form(form: str, secret: str, others: list[str]) -> None:
    """Nothing is left but quotes, and of base64 what some bits of it have decided."""
    shown = Redactor([secret, *others])(f"| {FORMS[form](secret)} |")
    assert HIDDEN in shown
    left = shown.replace(HIDDEN, "").strip("| '\"\\\nb=&quot;%25C")
    assert len(unquote(left).rstrip("=")) <= (2 if "base64" in form else 0), shown


@given(SECRET, st.binary(max_size=10), st.binary(max_size=10), st.booleans())
def test_in_base64_with_what_stands_around_it(secret: str, before: bytes, after: bytes, for_urls: bool) -> None:
    """As in `Authorization: Basic`, where the user's name stands before the password."""
    encode = base64.urlsafe_b64encode if for_urls else base64.b64encode
    text = encode(before + secret.encode() + after).decode()
    shown = Redactor([secret])(text)
    assert HIDDEN in shown
    first, last = -(-len(before) * 8 // 6), (len(before) + len(secret.encode())) * 8 // 6
    assert text[first:last] not in shown
    assert text[first + 3 : last - 3] not in shown


@given(
    SECRET, st.integers(1, 20), st.sampled_from(["\n", "\r\n", "\n    ", "\\\n", "\\n"]), st.sampled_from(list(FORMS))
)
def test_across_the_ends_of_lines(secret: str, width: int, between: str, form: str) -> None:
    """Wrapped after any number of characters."""
    text = FORMS[form](secret)
    assume(not re.search(r"[\\%&]", text))  # nobody breaks a line within an escape
    wrapped = between.join(text[at : at + width] for at in range(0, len(text), width))
    shown = Redactor([secret])(f"| {wrapped} |")
    left = shown.replace(HIDDEN, "").strip("| '\"\\\nbnr=&quot;")
    assert HIDDEN in shown
    assert len(left) <= (3 if "base64" in form else 0), shown


@given(
    st.lists(st.text("AB", min_size=4, max_size=8), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=1, max_size=8),
)
def test_however_they_overlap(secrets: list[str], parts: list[tuple[int, int]]) -> None:
    """Each occurrence of each is covered, also where it begins within another, or within itself."""
    text = ""
    for which, overlap in parts:
        secret = secrets[which % len(secrets)]
        common = next((n for n in range(min(overlap, len(secret)), 0, -1) if text.endswith(secret[:n])), 0)
        text += secret[common:]
    hidden = [False] * len(text)
    for secret in secrets:
        for at in range(len(text)):
            if text.startswith(secret, at):
                hidden[at : at + len(secret)] = [True] * len(secret)
    expected = re.sub("X+", HIDDEN, "".join("X" if hides else char for char, hides in zip(text, hidden, strict=True)))
    assert re.sub(r"(\[redacted])+", HIDDEN, Redactor(secrets)(text)) == expected


def test_two_values_in_one_url() -> None:
    """As it was found: they shared the slash, and most of the second was shown."""
    redact = Redactor(["https://api.example.com/", "/v1?key=abcdef123456"])
    assert redact("GET https://api.example.com/v1?key=abcdef123456 failed") == f"GET {HIDDEN} failed"


@given(st.text(), st.lists(SECRET, max_size=3))
def test_what_holds_none_stays(text: str, secrets: list[str]) -> None:
    """But for control characters."""
    assume(not any(char in text for char in "ABCDEFGH4"))
    assert Redactor(secrets)(text) == Redactor()(text)


@given(st.text())
def test_places(text: str) -> None:
    """Each character of what is undone has its place in the original, in order."""
    raw = bytewise(text)
    recoded = Recoded(raw)
    spans = [recoded.span(at, at + 1) for at in range(len(recoded.text))]
    assert all(0 <= begin < end <= len(raw) for begin, end in spans)
    assert spans == sorted(spans)


@given(
    st.lists(
        st.sampled_from(
            ["%41", "\\u0041", "\\x41", "\\101", "&#65;", "A", "'", "\n  ", "\\\\", "&amp;", "😀", "\\ud83d\\ude00"]
        )
    )
)
def test_each_form_reads_as_what_it_stands_for(parts: list[str]) -> None:
    """One after the other."""
    meant = {"'": "", "\n  ": "", "\\\\": "", "&amp;": "&", "😀": bytewise("😀"), "\\ud83d\\ude00": bytewise("😀")}
    text = "|".join(parts)
    assert undone(bytewise(text)) == "|".join(meant.get(part, "A") for part in parts)


@given(st.binary(min_size=4), st.binary(max_size=5), st.binary(max_size=5))
def test_base64_pieces_are_in_it(secret: bytes, before: bytes, after: bytes) -> None:
    """In one of the three alignments, in each alphabet."""
    text = base64.b64encode(before + secret + after).decode()
    assert any(piece in text for piece in base64_of(secret))
    assert any(piece in text.replace("+", "-").replace("/", "_") for piece in base64_of(secret))


@pytest.mark.parametrize("text", [" ", "\\", "%", "%4", "&", "&#", "'", "\n", "A", "\\u", "\\ud83d"])
def test_what_is_long_takes_time_in_proportion(text: str) -> None:
    """Steps, as counted by the pattern's own work, cannot be seen; but a square of 64 KiB would never end."""
    redact = Redactor(["ABCDEFGH", "A" * 300])
    assert redact(text * (65536 // len(text)), front=True, back=True)


def test_wrapped_by_a_terminal() -> None:
    """By the standard library's own means."""
    secret = "S3CR3T-" * 10
    assert "S3CR" not in Redactor([secret])(textwrap.fill(f"token {secret}", 30, break_on_hyphens=False))

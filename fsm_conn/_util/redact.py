"""Makes a plugin's output safe to show: without secrets and control characters.

A plugin's output is untrusted, and it ends up in errors, logs and terminals. It may hold what the user
handed to the plugin in `env=`, what the host's own environment holds, a private key, or escape sequences that rewrite
a terminal.

Rules that hold here:

- All output of a plugin that is quoted or logged passes through one `Redactor`.
- A value that plainly is no secret (a level, a flag, a small number, a value that the host's own environment holds
  under an innocent name) stays readable: evidence that is all asterisks helps nobody.
- A private key is removed whole, even when only one end of it is visible.
- Escapes, such as colours, are removed first, so that a secret is searched for in the text that a terminal would show.
- A secret is searched for in its decoded form: bytes that are not UTF-8 come back as escapes.
- Half a secret is a secret. Code that cuts text before redacting it says where, and partial secrets there are hidden.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import accumulate

from fsm_conn._util.recoded import ENDS_BEGUN, LEFT, LONGEST_LEFT, Recoded, base64_of, bytewise, undone
from fsm_conn._util.text import ESCAPES, plain

__all__ = [
    "HIDDEN",
    "Redactor",
    "Unshown",
    "decoded",
    "without_escapes",
]

HIDDEN = "[redacted]"
SHORTEST_SECRET = 4
FARTHEST = 1024
"""Characters of the text shown before that are searched again for the beginning of a secret."""

_ESCAPES_IN_BYTES = re.compile(ESCAPES.pattern.encode())
# The rest of each kind of escape, when its beginning was cut off.
_CUT_ESCAPES = tuple(
    re.compile(rf"\A{left}")
    for left in (r"\[?[0-?]{0,32}[ -/]{0,8}[@-~]", r"[\]PX^_]?[^\x07\x1b\n]{0,256}(?:\x07|\x1b\\)", r"[ -/]{0,8}[0-~]")
)
_CUT_CHARACTER = re.compile(rb"\A[\x80-\xbf]{1,3}")
_decoder = codecs.getincrementaldecoder("utf-8")
_KEY_WHOLE = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)", re.DOTALL
)
_KEY_TAIL = re.compile(r"\A(?:[A-Za-z0-9+/=\s]|\\n)*-----END [A-Z ]{0,30}PRIVATE KEY-----")
# Servers quote the expected value when they refuse a cookie.
_COOKIE_TOLD = re.compile(r"(?i)\b(expected|received)([=:] ?)('[^'\n]*'|\"[^\"\n]*\"|[^\s,.]+)")


class Unshown(dict[str, str]):
    """An environment whose `repr` hides the values: some tracebacks show the variables of their frames."""

    def __repr__(self) -> str:
        return f"<an environment of {len(self)} variables>"


def decoded(data: bytes, *, front: bool = False, back: bool = False) -> str:
    """A plugin's output as text, with bytes that are not UTF-8 escaped.

    Args:
        data: the output.
        front: the text was cut in front. Half a character at the beginning is then dropped, because it would prevent
            the rest of a secret from being recognized.
        back: the same for the end of the text.
    """
    whole = _CUT_CHARACTER.sub(b"", data) if front else data
    return _decoder("backslashreplace").decode(whole) if back else whole.decode("utf-8", "backslashreplace")


def without_escapes(data: bytes) -> bytes:
    """`data` without terminal escapes; line ends stay."""
    return _ESCAPES_IN_BYTES.sub(b"", data) if b"\x1b" in data else data


def _pieces(secrets: Iterable[str]) -> set[str]:
    """What to search for in plain text: each secret, and each longer line of a secret that has several."""
    found = set()
    for secret in _forms(secrets):
        secret = ESCAPES.sub("", secret)
        found.add(secret)
        if "\n" in secret:
            found |= {line for line in map(str.strip, secret.splitlines()) if len(line) >= 2 * SHORTEST_SECRET}
    return {piece for piece in found if len(piece) >= SHORTEST_SECRET}


def _forms(secrets: Iterable[str]) -> Iterator[str]:
    """Each secret as it is, as `decoded` shows it after it was passed to a plugin, and as gRPC shows it."""
    for secret in secrets:
        yield secret
        with suppress(UnicodeEncodeError):  # such a secret cannot be passed to a plugin
            given = os.fsencode(secret)
            yield decoded(given)
            yield given.decode("utf-8", "replace")


def _recoded_pieces(secrets: Iterable[str]) -> set[str]:
    """What to search for in text with all encodings undone: each secret likewise, and in base64 and hexadecimal."""
    found: set[str] = set()
    for secret in secrets:
        with suppress(UnicodeEncodeError):
            given = os.fsencode(secret)
            plainly = given.decode("latin-1")
            found |= {undone(plainly), undone(plainly.replace(" ", "+")), given.hex(), given.hex().upper()}
            found |= {undone(each) for each in base64_of(given)}
        # Python's `ascii` writes small characters as their numbers.
        found.add(undone("".join(each if each < "\u0100" else bytewise(each) for each in secret)))
    return {piece for piece in found if len(piece) >= SHORTEST_SECRET}


def _beginnings(text: str) -> list[str]:
    """The places where the visible text may begin, if `text` was cut at the front, perhaps within an escape."""
    cuts = (left.match(text) for left in _CUT_ESCAPES)
    return [ESCAPES.sub("", text[at:]) for at in {0, *(cut.end() for cut in cuts if cut is not None)}]


def _hide(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """`text` with each of `spans` hidden. Overlapping spans count as one. The number of lines stays the same."""
    merged: list[list[int]] = []
    for begin, end in sorted(spans):
        if merged and begin < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    shown, at = [], 0
    for begin, end in merged:
        shown += [text[at:begin], "\n".join([HIDDEN] * (text.count("\n", begin, end) + 1))]
        at = end
    return "".join([*shown, text[at:]])


def _hide_cookies(line: str) -> str:
    return _COOKIE_TOLD.sub(rf"\1\2{HIDDEN}", line) if "cookie" in line.lower() else line


class _Pieces:
    """Searches for pieces. Each piece is indexed by its head, so that many cost little more than one.

    Args:
        pieces: the pieces, each of at least `SHORTEST_SECRET` characters.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self.longest = 0
        self._heads: dict[str, list[str]] = {}
        for piece in pieces:
            self.longest = max(self.longest, len(piece))
            self._heads.setdefault(piece[:SHORTEST_SECRET], []).append(piece)

    def backwards(self) -> _Pieces:
        """The same pieces, each from its end to its beginning."""
        return _Pieces(piece[::-1] for pieces in self._heads.values() for piece in pieces)

    def found(self, text: str) -> Iterator[tuple[int, int]]:
        """The span of each occurrence of each piece, overlapping ones included."""
        for head, pieces in self._heads.items():
            for piece in pieces if head in text else ():
                at = text.find(piece)
                while at >= 0:
                    yield at, at + len(piece)
                    at = text.find(piece, at + 1)

    def begun(self, text: str) -> int:
        """How many characters at the end of `text` begin an incomplete piece; 0 if there are too few of them."""
        heads = self._heads
        for at in range(max(0, len(text) - self.longest + 1), len(text) - SHORTEST_SECRET + 1):
            if (pieces := heads.get(text[at : at + SHORTEST_SECRET])) is not None:
                rest = text[at:]
                if any(piece.startswith(rest) and piece != rest for piece in pieces):
                    return len(rest)
        return 0


class Redactor:
    """Hides a given set of secrets. Its `repr` shows none of them.

    Every occurrence is hidden, even if several overlap, and even if it is encoded: as percent escapes, JSON, HTML,
    shell quotes, hexadecimal digits, or base64 inside any other text, and across line ends.

    Attributes:
        reach: the most characters before a text that can hold the beginning of a secret that ends in the text.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        secrets = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
        self._plain = _Pieces(_pieces(secrets))
        self._plain_backwards = self._plain.backwards()
        self._recoded = _Pieces(_recoded_pieces(secrets))
        self._recoded_backwards = self._recoded.backwards()
        self.reach = min(3 * max(self._plain.longest, self._recoded.longest), FARTHEST)

    def __call__(self, text: str, *, front: bool = False, back: bool = False, before: str = "") -> str:
        """`text`, safe to show: secrets, private keys and cookies hidden, control characters made visible.

        Args:
            text: the text to show.
            front: the text was cut in front, perhaps in the middle of a secret.
            back: the text was cut at its end, perhaps in the middle of a secret.
            before: the text directly before it, as far as it is known.
        """
        beginnings = _beginnings(text) if front and self.reach else []
        text = ESCAPES.sub("", text)
        if self.reach:
            text = self._hidden(text, ESCAPES.sub("", before), beginnings, back)
        if "PRIVATE KEY-----" in text:
            text = _KEY_TAIL.sub(HIDDEN, _KEY_WHOLE.sub(HIDDEN, text))
        return plain("\n".join(map(_hide_cookies, text.split("\n"))))

    def _hidden(self, text: str, before: str, beginnings: list[str], back: bool) -> str:
        whole, first = before + text, len(before)
        spans = [*self._plain.found(whole), *self._spans_of_recoded(whole, back)]
        left_over = (
            (rest, max(self._plain_backwards.begun(rest[: self._plain.longest][::-1]), self._left_of_recoded(rest)))
            for rest in beginnings
        )
        spans += [(first, len(whole) - len(rest) + left) for rest, left in left_over if left]
        if back and (left := self._plain.begun(whole)):
            spans.append((len(whole) - left, len(whole)))
        return _hide(text, ((max(begin - first, 0), end - first) for begin, end in spans if end > first))

    def _spans_of_recoded(self, text: str, back: bool) -> Iterator[tuple[int, int]]:
        """The spans of `text` in which part of a secret is encoded."""
        raw = bytewise(text)
        recoded = Recoded(raw)
        spans = [recoded.span(*found) for found in self._recoded.found(recoded.text)]
        if back:
            views = (recoded, recoded.before_begun()) if ENDS_BEGUN.search(raw) else (recoded,)
            begun = ((view, self._recoded.begun(view.text)) for view in views)
            spans += [(view.span(len(view.text) - left, len(view.text))[0], len(raw)) for view, left in begun if left]
        return _in_characters(text, raw, spans)

    def _left_of_recoded(self, text: str) -> int:
        """The most characters at the beginning of `text` that can be the end of an encoded secret."""
        text = text[: 12 * self._recoded.longest]
        most = 0
        for skipped in range(LONGEST_LEFT + 1):
            if text[:skipped].strip(LEFT):
                break
            raw = bytewise(text[skipped:])
            recoded = Recoded(raw)
            if left := self._recoded_backwards.begun(recoded.text[: self._recoded.longest][::-1]):
                ((_, end),) = _in_characters(text[skipped:], raw, [recoded.span(0, left)])
                most = max(most, skipped + end)
        return most


def _in_characters(text: str, raw: str, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Converts spans of bytes to spans of whole characters."""
    if len(text) == len(raw):
        yield from spans
        return
    numbers = list(accumulate(not "\x80" <= byte < "\xc0" for byte in raw))
    for begin, end in spans:
        yield numbers[begin] - 1, numbers[end - 1]

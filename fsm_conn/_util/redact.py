"""Makes what a plugin printed fit to be shown: no secrets, no control characters.

A plugin's output is untrusted, and it ends up in errors, logs and terminals. It may hold what the user
handed to the plugin in `env=`, what the host's own environment holds, a private key, or escape sequences that rewrite
a terminal.

Rules that hold here:

- Everything of a plugin that is quoted or logged passes through one `Redactor`.
- A value that is no secret on its face (a level, a flag, a small number, a value that the host's own environment
  holds under a name that promises no secret) is left readable, for evidence that is all asterisks helps nobody.
- A private key is removed whole, even when only one end of it is in sight.
- A secret is looked for in what a terminal would show: escapes, such as the colour of a number in it, are gone by then.
- A secret is looked for as it would be read again: what is not UTF-8 in it comes back in another form.
- Half a secret is a secret: who cuts text before it is redacted says where, and what is left of one there is hidden.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

from fsm_conn._util.text import ESCAPES, plain

__all__ = [
    "HIDDEN",
    "Redactor",
    "Unshown",
    "decoded",
    "secrets_around",
    "secrets_in",
    "without_escapes",
]

HIDDEN = "[redacted]"
SHORTEST_SECRET = 4

_PLAIN = frozenset({"true", "false", "none", "null", "auto", "trace", "debug", "info", "warn", "warning", "error"})
_SMALL_NUMBER = re.compile(r"[0-9.,:-]{1,5}")
_SECRET_NAME = re.compile(r"COOKIE|TOKEN|SECRET|PASS|KEY|CRED", re.IGNORECASE)
_ESCAPES_IN_BYTES = re.compile(ESCAPES.pattern.encode())
# What may be left of one of each kind that was cut at its beginning.
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
# The servers' own words on a refused cookie name the value that they had expected.
_COOKIE_TOLD = re.compile(r"(?i)\b(expected|received)([=:] ?)('[^'\n]*'|\"[^\"\n]*\"|[^\s,.]+)")


class Unshown(dict[str, str]):
    """An environment that does not show its values, for tracebacks are written with the variables of their frames."""

    def __repr__(self) -> str:
        return f"<an environment of {len(self)} variables>"


def decoded(data: bytes, *, front: bool = False, back: bool = False) -> str:
    """What a plugin printed as text, with what is not UTF-8 in it escaped.

    Args:
        data: what was printed.
        front: there was more before it, so half a character at the beginning is left out: by it, the other half of a
            secret could not be told.
        back: the same of what came after it.
    """
    whole = _CUT_CHARACTER.sub(b"", data) if front else data
    return _decoder("backslashreplace").decode(whole) if back else whole.decode("utf-8", "backslashreplace")


def without_escapes(data: bytes) -> bytes:
    """`data` without terminal escapes; the ends of lines stay."""
    return _ESCAPES_IN_BYTES.sub(b"", data) if b"\x1b" in data else data


def secrets_in(env: Mapping[str, str], ambient: Collection[str] = ()) -> Iterator[str]:
    """The values of `env` to keep out of sight.

    Args:
        env: what the user handed to the plugin.
        ambient: values the plugin would have seen anyway, such as those of the host's environment.
    """
    for name, value in env.items():
        if len(value) >= SHORTEST_SECRET and (_SECRET_NAME.search(name) or not _is_plain(value, ambient)):
            yield value


def secrets_around(environ: Mapping[str, str]) -> Iterator[str]:
    """The values of the host's own environment that a plugin sees, and is not to show, by their names."""
    for name, value in environ.items():
        if len(value) >= SHORTEST_SECRET and _SECRET_NAME.search(name) and not _is_plain(value, ()):
            yield value


def _is_plain(value: str, ambient: Collection[str]) -> bool:
    return value in ambient or value.lower() in _PLAIN or _SMALL_NUMBER.fullmatch(value) is not None


def _pieces(secrets: Iterable[str]) -> Iterator[str]:
    """Each secret, and each longer line of one that has several: output is often looked at line by line."""
    for secret in _forms(secrets):
        secret = ESCAPES.sub("", secret)
        yield secret
        if "\n" in secret:
            yield from (line for line in map(str.strip, secret.splitlines()) if len(line) >= 2 * SHORTEST_SECRET)


def _forms(secrets: Iterable[str]) -> Iterator[str]:
    """Each secret as it is, as `decoded` shows what a plugin was given, and as gRPC does."""
    for secret in secrets:
        yield secret
        with suppress(UnicodeEncodeError):  # no plugin can be given it
            given = os.fsencode(secret)
            yield decoded(given)
            yield given.decode("utf-8", "replace")


def _hidden(secrets: Iterable[str]) -> list[str]:
    # The longest first, so that a secret that begins with another one is hidden whole.
    return sorted({piece for piece in _pieces(secrets) if len(piece) >= SHORTEST_SECRET}, key=len, reverse=True)


def _begun(piece: str, text: str) -> int:
    """How much of the end of `text` is the beginning of `piece`, but not all of it; 0 for what is too short to tell."""
    end = text[-(len(piece) - 1) :]
    at = end.find(piece[:SHORTEST_SECRET])
    while at >= 0:
        if piece.startswith(end[at:]):
            return len(end) - at
        at = end.find(piece[:SHORTEST_SECRET], at + 1)
    return 0


def _beginnings(text: str) -> list[str]:
    """Where the text may begin that a terminal would show, if `text` was cut at the front, perhaps within an escape."""
    cuts = (left.match(text) for left in _CUT_ESCAPES)
    return [ESCAPES.sub("", text[at:]) for at in {0, *(cut.end() for cut in cuts if cut is not None)}]


def _hide(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """`text` with each of `spans` hidden; those that overlap are one."""
    shown, at = [], 0
    for begin, end in sorted(spans):
        if begin >= at:
            shown += [text[at:begin], HIDDEN]
        at = max(at, end)
    return "".join([*shown, text[at:]])


def _hide_cookies(line: str) -> str:
    return _COOKIE_TOLD.sub(rf"\1\2{HIDDEN}", line) if "cookie" in line.lower() else line


class Redactor:
    """Hides a given set of secrets. Its `repr` shows none of them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._pieces = _hidden(secrets)
        self._backwards = [piece[::-1] for piece in self._pieces]
        self._pattern = re.compile("|".join(map(re.escape, self._pieces))) if self._pieces else None

    def __call__(self, text: str, *, front: bool = False, back: bool = False) -> str:
        """`text`, fit to be shown: secrets, private keys and cookies hidden, control characters made visible.

        Args:
            text: what is to be shown.
            front: there was more before it, and the cut may be in the middle of a secret.
            back: the same of what came after it.
        """
        beginnings = _beginnings(text) if front else []
        text = ESCAPES.sub("", text)
        if self._pattern is not None:
            text = _hide(text, self._spans(self._pattern, text, beginnings, back))
        if "PRIVATE KEY-----" in text:
            text = _KEY_TAIL.sub(HIDDEN, _KEY_WHOLE.sub(HIDDEN, text))
        return plain("\n".join(map(_hide_cookies, text.split("\n"))))

    def _spans(
        self, pattern: re.Pattern[str], text: str, beginnings: list[str], back: bool
    ) -> Iterator[tuple[int, int]]:
        for match in pattern.finditer(text):
            yield match.span()
        for rest in beginnings:
            if left := max(_begun(piece, rest[::-1]) for piece in self._backwards):
                yield 0, len(text) - len(rest) + left
        if back and (left := max(_begun(piece, text) for piece in self._pieces)):
            yield len(text) - left, len(text)

r"""Text that may be written in another form: percent escapes, those of JSON, Python, C and HTML, quotes, wrapped lines.

`Recoded` is a text as it reads when all of that is undone, with the way back to where each piece of it stands. It is
made of bytes, each as the character of that number, for most of those forms write bytes. A secret is undone by the same
rules and is then looked for in it; so a rule that undoes too much does no harm, such as the one that drops blanks and
quotes: it does so on both sides.

Base64 cannot be undone without knowing where it begins. `base64_of` has what a secret looks like in it, at each of the
three ways in which it may be aligned.
"""

from __future__ import annotations

import base64
import re
from html import unescape
from itertools import compress

__all__ = ["ENDS_BEGUN", "LEFT", "LONGEST_LEFT", "Recoded", "base64_of", "bytewise", "undone"]

_FORMS = re.compile(
    r"""
    [%\\&](?:
      (?<=%)(?P<percent>[0-9A-Fa-f]{2})
    | (?<=&)(?P<entity>(?:amp|lt|gt|quot|apos|\#[0-9]{1,7}|\#x[0-9A-Fa-f]{1,6});)
    | (?<=\\)(?:
        (?P<pair>\\{0,3}u[dD][89abAB][0-9A-Fa-f]{2}\\{1,4}u[dD][c-fC-F][0-9A-Fa-f]{2})
      | (?P<code>x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})
      | (?P<octal>[0-3][0-7]{2})
      | (?P<named>[abfnrtv])
      |
      )
    )
    """,
    re.VERBOSE,
)
"""Each begins with one of three characters, so that text in which there is none of them costs next to nothing."""
_DROPPED = {ord(each): None for each in " \t\r\n'\""}
_NAMED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ROUNDS = 3
"""Forms inside each other that are undone, such as JSON in a URL."""
ENDS_BEGUN = re.compile(
    r"(?:%[0-9A-Fa-f]?|\\(?:[ux][0-9A-Fa-f]{0,7}|U[0-9A-Fa-f]{0,7}|[0-7]{0,2})|&\#?[a-z0-9]{0,7})\Z"
)
"""A form that has begun at the very end."""
LEFT, LONGEST_LEFT = "0123456789ABCDEFabcdefxuUnrt#;amplgtquos\\", 9
"""What may be left of a form that was cut at its beginning: such characters, at most so many."""


def bytewise(text: str) -> str:
    """The bytes of a text, each as the character of that number."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _replacement(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind is None:
        return ""  # a backslash before anything else
    text = found[kind]
    if kind == "percent":
        return chr(int(text, 16))
    if kind == "octal":
        return chr(int(text, 8))
    if kind == "named":
        return _NAMED[text]
    if kind == "entity":
        return bytewise(unescape(f"&{text}"))
    if kind == "pair":
        high, low = (int(each.strip("\\"), 16) for each in text.split("u")[1:])
        return bytewise(chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)))
    code = int(text[1:], 16)
    if text[0] == "x":
        return chr(code)
    return bytewise(chr(code)) if code <= 0x10FFFF else ""


def undone(text: str) -> str:
    """A text, bytewise, with all forms undone."""
    for _ in range(_ROUNDS):
        before, text = text, _FORMS.sub(_replacement, text).translate(_DROPPED)
        if text == before:
            break
    return text


class Recoded:
    """A text with all forms undone.

    Args:
        original: the text, bytewise.

    Attributes:
        text: the text with all forms undone.
    """

    def __init__(self, original: str) -> None:
        self._original = original
        self.text = undone(original)
        self._places: tuple[list[int], list[int]] | None = None

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """Where in the original stands what is in `text` from `begin` to `end`."""
        if self._places is None:
            self._places = _places(self._original)
        begins, ends = self._places
        return begins[begin], ends[end - 1]

    def before_begun(self) -> Recoded:
        """The same without a form that has begun at its very end, and was cut there."""
        return Recoded(ENDS_BEGUN.sub("", self._original))


def _places(text: str) -> tuple[list[int], list[int]]:
    """For each character of the undone text, where in the original it begins and ends."""
    begins, ends = list(range(len(text))), list(range(1, len(text) + 1))
    for _ in range(_ROUNDS):
        parts: list[str] = []
        new_begins: list[int] = []
        new_ends: list[int] = []
        at = 0
        for found in _FORMS.finditer(text):
            first, after = found.span()
            new = _replacement(found)
            parts += (text[at:first], new)
            new_begins += begins[at:first] + [begins[first]] * len(new)
            new_ends += ends[at:first] + [ends[after - 1]] * len(new)
            at = after
        whole = "".join([*parts, text[at:]])
        kept = [ord(each) not in _DROPPED for each in whole]
        begins = list(compress(new_begins + begins[at:], kept))
        ends = list(compress(new_ends + ends[at:], kept))
        text = whole.translate(_DROPPED)
    return begins, ends


def base64_of(secret: bytes) -> list[str]:
    """What is left of a secret in base64, whatever stands before and behind it, in both alphabets."""
    found = []
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + secret).decode()
        first = -(-shift * 8 // 6)
        certain = encoded[first : (shift + len(secret)) * 8 // 6]
        found += [certain, certain.translate(_URL_SAFE)]
    return found


_URL_SAFE = str.maketrans("+/", "-_")

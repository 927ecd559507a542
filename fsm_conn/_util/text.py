r"""Makes foreign text fit to be shown: the words of errors, and text that could command a terminal.

The text of an error may be anything, and its `__str__` may fail. A peer, a file or a user's module may send any text.
All of it that this package shows or logs passes through the one filter here.

The filter shows as an escape, such as `\x1b`: control characters (except newline and tab, unless the text must be one
line), Unicode format characters, which hide in the text or change its direction, lone surrogates, and line and
paragraph separators. The two joiners U+200C and U+200D pass: Persian, Hindi and emoji need them, and they only change
the shapes of their neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType

__all__ = [
    "ESCAPES",
    "RISKY",
    "brief",
    "listed",
    "named",
    "plain",
    "plain_json",
    "plain_line",
    "quoted",
    "said",
    "sanitised",
    "shortened",
    "traced",
    "without_escapes",
]

RISKY = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
"""What is made visible: the categories Cc, Cf, Cs, Zl and Zp of Unicode, but for newline, tab and the two joiners."""

# By ECMA-48: control sequences, strings (titles, links, messages to programs), and all others, such as character sets.
# At the very end, one that was cut is one.
ESCAPES = re.compile(
    r"\x1b(?:"
    r"\[[0-?]{0,32}[ -/]{0,8}(?:[@-~]|\Z)"
    r"|[\]PX^_][^\x07\x1b\n]{0,256}(?:\x07|\x1b\\)?"
    r"|[ -/]{0,8}(?:[0-~]|\Z)"
    r")"
)


def said(error: BaseException) -> str:
    """The text of an error; its class where it has none; the members of a group; the place of a bug in an activity."""
    text, place = _own_words(error), _place(error)
    return f"{type(error).__name__}: {text} {place}" if place else text


def named(error: BaseException) -> str:
    """The class and the text of an error: the text of a bug may be no more than the name of a key."""
    return said(error) if _place(error) else f"{type(error).__name__}: {_own_words(error)}"


def _own_words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(map(named, error.exceptions)))
    try:
        return str(error) or repr(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the caller must get a message in any case
        return f"{type(error).__name__}, whose text cannot be read"


def _place(error: BaseException) -> str:
    """Where in an activity a bug occurred: `in while_sending, upload.py:41`; empty for other errors."""
    try:
        notes = object.__getattribute__(error, "__notes__")  # a look at its __dict__ would create one, for ever
    except AttributeError:
        return ""
    return next((each for each in notes if isinstance(each, str) and each.startswith("in while_")), "")


def traced(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """The `exc_info` of a log record: given the error itself, `logging` would test its truth value."""
    return type(error), error, error.__traceback__


def plain(text: object) -> str:
    r"""The text with each control or invisible character replaced by its escape, such as `\x1b`."""
    return RISKY.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def plain_line(text: object) -> str:
    r"""The same for text within a line, such as a name: newlines and tabs are escaped, too."""
    return plain(text).replace("\n", r"\n").replace("\t", r"\t")


def plain_json(text: str) -> str:
    """The same for JSON, which stays valid: such characters occur only within its strings."""
    return RISKY.sub(lambda found: _in_json(ord(found[0])), text)


def _in_json(code: int) -> str:
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def without_escapes(text: str) -> str:
    """The text without terminal escape sequences; other control characters stay."""
    return ESCAPES.sub("", text) if "\x1b" in text else text


def sanitised(text: str) -> str:
    """`text` without terminal escapes, and then as by `plain`: for a peer's output, which may be coloured."""
    return plain(without_escapes(text))


def brief(text: str, limit: int = 200) -> str:
    """`text` as one line of at most about `limit` characters, without control characters."""
    line = " ".join(sanitised(text[: 4 * limit]).split())
    whole = len(line) <= limit and len(text) <= 4 * limit
    return line if whole else line[:limit] + "..."


def shortened(text: str, limit: int = 16_000) -> str:
    """`text`, or its beginning and end with a note between them on how much was left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters left out ...] {text[-half:]}"


def quoted(name: str, limit: int = 100) -> str:
    """A foreign name in quotation marks, cut when it is long."""
    return repr(name) if len(name) <= limit else f"{name[:limit]!r}..."


def listed(names: Sequence[object], most: int = 30) -> str:
    """The names separated by commas, or `nothing`; many or long ones are cut."""
    shown = [f"{str(name)[:100]}..." if len(str(name)) > 100 else str(name) for name in names[:most]]
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*shown, *more]) or "nothing"

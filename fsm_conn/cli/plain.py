"""Text of strangers made harmless: what a plugin, a file or a user's module says cannot command the terminal."""

from __future__ import annotations

import re

__all__ = ["plain", "plain_json", "plain_line"]

# Control characters but the end of a line and the tab, and those that turn the direction of the text around them.
_RISKY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: object) -> str:
    r"""The text with each character that a terminal would obey, or could not show, as its escape, such as `\x1b`."""
    return _RISKY.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def plain_line(text: object) -> str:
    r"""The same for what stands within a line, such as a name: an end of a line and a tab are escaped, too."""
    return plain(text).replace("\n", r"\n").replace("\t", r"\t")


def plain_json(text: str) -> str:
    """The same for JSON, which stays JSON: such characters stand only within its strings."""
    return _RISKY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)

"""The standard streams of the command: what is written to them is plain, whoever writes.

Not only the commands write: so do the interpreter (warnings, errors in `__del__`), `logging`, asyncio, and the modules
of users. All of them find these streams in `sys`, and none can send a terminal anything that it would obey. Only what
draws on the terminal (`terminal.Console`, which makes its own text plain) goes to the stream below.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any

from fsm_conn._util.text import plain

__all__ = ["PlainStream", "plain_streams", "say_on_stderr", "stream_below"]


class PlainStream:
    """A text stream on which each character that a terminal would obey is written as its escape.

    Args:
        below: the stream that is written to. Everything but writing is its own.
    """

    def __init__(self, below: Any) -> None:
        self.below = below

    def write(self, text: str) -> int:
        """Write `text`, made plain."""
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        self.below.write(plain(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


def stream_below(stream: Any) -> Any:
    """The stream that a `PlainStream` writes to; any other as it is."""
    while isinstance(stream, PlainStream):
        stream = stream.below
    return stream


@contextmanager
def plain_streams(*, for_good: bool) -> Iterator[None]:
    """Within the block, all that is written to `sys.stdout` and `sys.stderr` is plain.

    Args:
        for_good: whether it stays so, for a process that ends after it: its last words are written at its very end.
    """
    _replace_closed_streams()
    _write_what_can_be_written()
    before = {name: getattr(sys, name) for name in ("stdout", "stderr", "__stdout__", "__stderr__")}
    for name in before if for_good else ("stdout", "stderr"):
        if before[name] is not None:
            setattr(sys, name, PlainStream(before[name]))
    try:
        yield
    finally:
        if not for_good:
            sys.stdout, sys.stderr = before["stdout"], before["stderr"]


def _replace_closed_streams() -> None:
    """The number of a stream that was closed must not go to something else, and what is written needs a place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _write_what_can_be_written() -> None:
    r"""Where stdout is not UTF-8, a character that it does not have is written as its escape, such as `\xe9`."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def say_on_stderr(text: str) -> None:
    """Write a line; where that fails there is nobody left to be told."""
    with suppress(OSError, ValueError):
        print(plain(text), file=sys.stderr, flush=True)

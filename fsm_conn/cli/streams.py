"""The standard streams of the command. Everything written to them is made plain, whoever writes it.

Not only the commands write to them: the interpreter (warnings, errors in `__del__`), `logging`, asyncio and users'
modules do, too. All of these find the streams in `sys`, so none can send control characters to a terminal. Only
drawings (`terminal.Console`, which makes its own text plain) go directly to the stream below.
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
    """A text stream that writes each character which would control a terminal as its escape.

    Args:
        below: the stream to write to. It provides everything except writing.
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
        """Write each text."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


def stream_below(stream: Any) -> Any:
    """The stream below a `PlainStream`; any other stream as it is."""
    while isinstance(stream, PlainStream):
        stream = stream.below
    return stream


@contextmanager
def plain_streams(*, for_good: bool) -> Iterator[None]:
    """Within the block, make everything plain that is written to `sys.stdout` and `sys.stderr`.

    Args:
        for_good: whether to keep this after the block, for a process that may write until its very end.
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
    """Replace closed streams: their numbers must not be reused for other files, and output needs a destination."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Left open at the end, as Python leaves the streams that it opens itself.
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, closefd=False))  # noqa: SIM115


def _write_what_can_be_written() -> None:
    r"""Where stdout is not UTF-8, write characters that it cannot encode as their escapes, such as `\xe9`."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def say_on_stderr(text: str) -> None:
    """Write a line to stderr; ignore a failure, as it could be reported to nobody."""
    with suppress(OSError, ValueError):
        print(plain(text), file=sys.stderr, flush=True)

"""Reads untrusted files within bounds of size and memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from fsm_conn._util.text import said

__all__ = ["FileTooLargeError", "Recent", "lines_within", "read_within", "why_unread"]

K = TypeVar("K")
V = TypeVar("V")


class FileTooLargeError(OSError):
    """A file is larger than the limit."""


class _Readable(Protocol):
    def readline(self, size: int, /) -> str: ...


def read_within(path: str | os.PathLike[str], most: int) -> str:
    """The text of a file.

    Args:
        path: the file; it may be a pipe or an endless device.
        most: the limit, in characters.

    Raises:
        FileTooLargeError: the file is larger.
        OSError, UnicodeDecodeError: the file cannot be read, or is not text.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise FileTooLargeError(f"it has more than {most} characters")
    return text


def why_unread(error: OSError | ValueError) -> str:
    """Why a file could not be read."""
    return (error.strerror if isinstance(error, OSError) else None) or said(error)


def lines_within(file: _Readable, longest: int) -> Iterator[str]:
    """The lines of a file. A line longer than `longest` comes in pieces of `longest + 1` characters."""
    return iter(lambda: file.readline(longest + 1), "")


class Recent(Generic[K, V]):
    """A mapping that keeps the most recently used keys.

    Args:
        most: how many keys it keeps.
        make: makes the value of a key that it does not have.

    Attributes:
        made: how many values were made.
    """

    def __init__(self, most: int, make: Callable[[], V]) -> None:
        self.made = 0
        self._most = most
        self._make = make
        self._values: OrderedDict[K, V] = OrderedDict()

    def __getitem__(self, key: K) -> V:
        """The value of a key, which becomes the most recently used one."""
        if key in self._values:
            self._values.move_to_end(key)
        else:
            self._values[key] = self._make()
            self.made += 1
            if len(self._values) > self._most:
                self._values.popitem(last=False)
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

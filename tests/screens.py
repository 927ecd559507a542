"""A terminal for tests: the command in a pseudo-terminal, and what its screen shows."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pexpect
import pyte

COMMAND = (sys.executable, "-m", "fsm_conn")


def clean_environment(**more: str) -> dict[str, str]:
    """That of these tests, without what changes how programs write."""
    left_out = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONPATH": os.pathsep.join(sys.path), **more}


class Terminal:
    """`fsm-conn` with `arguments` on a terminal of `columns` x `lines`; use it as a context manager."""

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> None:
        self.columns, self.lines = columns, lines
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=1)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self._child: Any = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], *arguments],
            dimensions=(lines, columns),
            env=clean_environment(**environment),
            timeout=None,
        )
        self._child.delaybeforesend = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.close(force=True)

    @property
    def pid(self) -> int:
        """The number of the command's process."""
        return int(self._child.pid)

    @property
    def text(self) -> str:
        """What the screen shows, with what has scrolled off above it."""
        above = ["".join(line[x].data for x in range(self.columns)) for line in self.screen.history.top]
        return "\n".join(line.rstrip() for line in (*above, *self.screen.display)).rstrip()

    def until(self, shown: str | Callable[[str], object], limit: float = 60.0) -> str:
        """Read until the screen shows something, and return all that it shows; fail after `limit` seconds."""
        is_shown = shown if callable(shown) else lambda text: shown in text
        end = time.monotonic() + limit
        while not is_shown(self.text):
            assert self._read(end), f"{shown!r} was not shown:\n{self.text}"
        return self.text

    def press(self, keys: str) -> None:
        """Type."""
        self._child.send(keys)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._child.sendintr()

    def ended(self, limit: float = 60.0) -> int:
        """Read to the end, and return the exit status; minus the signal that ended it."""
        end = time.monotonic() + limit
        while self._read(end):
            pass
        assert self._child.exitstatus is None
        self._child.wait()
        return int(self._child.exitstatus if self._child.exitstatus is not None else -self._child.signalstatus)

    def styles(self, word: str) -> list[Any]:
        """The characters of the lowest place on the screen where `word` stands, with their colours."""
        for row in range(self.lines - 1, -1, -1):
            column = self.screen.display[row].rfind(word)
            if column >= 0:
                return [self.screen.buffer[row][column + index] for index in range(len(word))]
        raise AssertionError(f"{word!r} is not on the screen:\n{self.text}")

    def _read(self, end: float) -> bool:
        """Take in what comes next; False: nothing will."""
        left = end - time.monotonic()
        assert left > 0, f"time is up; the screen:\n{self.text}"
        try:
            data: bytes = self._child.read_nonblocking(65536, timeout=left)
        except pexpect.EOF:
            return False
        except pexpect.TIMEOUT:
            raise AssertionError(f"time is up; the screen:\n{self.text}") from None
        self.written += data
        self._stream.feed(data)
        return True

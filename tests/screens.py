"""A terminal for tests: the command in a pseudo-terminal, and what its screen shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any, Protocol

import pyte
from warm import Warm

COMMAND = (sys.executable, "-m", "fsm_conn")

_ERASE_LINE = b"\x1b[2K"
"""What a drawing begins each of its lines with when it is drawn anew."""
_GLANCE = 0.05
"""Seconds after which it is looked whether the process has ended without a further word."""


def clean_environment(**more: str) -> dict[str, str]:
    """That of these tests, without what changes how programs write."""
    left_out = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONPATH": os.pathsep.join(sys.path), **more}


class Program(Protocol):
    """A process that runs on a terminal: what `subprocess.Popen` has of one."""

    pid: int

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...

    def wait(self) -> int: ...


class Forked:
    """A program that a warm process forks: see `warm`."""

    def __init__(self, by: Warm, *arguments: str, terminal: str, env: dict[str, str]) -> None:
        self._by = by
        self._status: int | None = None
        self.pid = by.begin(*arguments, terminal=terminal, env=env)
        self._end = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """The exit status, or minus the signal that ended it; None while it runs."""
        return self.wait() if self._status is not None or select.select([self._end], [], [], 0)[0] else None

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end; the same as `poll`."""
        if self._status is None:
            self._status = self._by.ended(self.pid)
            os.close(self._end)
        return self._status


class Terminal:
    """`fsm-conn` with `arguments` on a terminal of `columns` x `lines`; use it as a context manager.

    A shell opens the terminal, as the leader of a session without one, so that it becomes the one of the session, whose
    keys send signals. So nothing runs between fork and exec, where Python may not be trusted. With `by`, a process that
    was started with a clean environment forks, which has no other threads.
    """

    def __init__(
        self, *arguments: str, by: Warm | None = None, columns: int = 80, lines: int = 24, **environment: str
    ) -> None:
        self.columns, self.lines = columns, lines
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=1)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        name = os.ttyname(self._slave)
        self._process: Program
        if by is not None:
            self._process = Forked(by, *COMMAND[1:], *arguments, terminal=name, env=environment)
        else:
            shell = ("/bin/sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', name)
            self._process = subprocess.Popen(
                [*shell, *COMMAND, *arguments], env=clean_environment(**environment), start_new_session=True
            )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def pid(self) -> int:
        """The number of the command's process."""
        return self._process.pid

    @property
    def text(self) -> str:
        """What the screen shows, with what has scrolled off above it."""
        above = ["".join(line[x].data for x in range(self.columns)) for line in self.screen.history.top]
        return "\n".join(line.rstrip() for line in (*above, *self.screen.display)).rstrip()

    def until(self, shown: str | Callable[[str], object], limit: float = 200.0) -> str:
        """Read until the screen shows something, and return all that it shows; fail after `limit` seconds."""
        is_shown = shown if callable(shown) else lambda text: shown in text
        end = time.monotonic() + limit
        while not is_shown(self.text):
            assert self._read(end), f"{shown!r} was not shown:\n{self.text}"
        return self.text

    def press(self, keys: str) -> None:
        """Type something."""
        os.write(self._master, keys.encode())

    def until_drawn_anew(self, times: int = 3, limit: float = 200.0) -> None:
        """Read until what is drawn has been drawn so many times more: by then it is whole, and about what was typed."""
        end, before = time.monotonic() + limit, self.written.count(_ERASE_LINE)
        while self.written.count(_ERASE_LINE) < before + times * self.lines:
            assert self._read(end), f"it was not drawn anew:\n{self.text}"

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._master, b"\x03")

    def ended(self, limit: float = 200.0) -> int:
        """Read to the end, and return the exit status; minus the signal that ended it."""
        end = time.monotonic() + limit
        while self._read(end):
            pass
        return self._process.wait()

    @property
    def is_in_order(self) -> bool:
        """Whether the terminal shows its cursor and what is typed, and forgets on Ctrl-C what it was sent, as usual."""
        return self.shows_what_is_typed and not termios.tcgetattr(self._slave)[3] & termios.NOFLSH

    @property
    def shows_what_is_typed(self) -> bool:
        """Whether there are an echo and a cursor: what somebody at a prompt misses first."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO) and not self.screen.cursor.hidden

    def styles(self, word: str) -> list[Any]:
        """The characters of the lowest place on the screen where `word` stands, with their colours."""
        for row in range(self.lines - 1, -1, -1):
            column = self.screen.display[row].rfind(word)
            if column >= 0:
                return [self.screen.buffer[row][column + index] for index in range(len(word))]
        raise AssertionError(f"{word!r} is not on the screen:\n{self.text}")

    def _read(self, end: float) -> bool:
        """Take in what comes next; False: nothing will, for the process has ended."""
        while time.monotonic() < end:
            has_ended = self._process.poll() is not None  # before the look, so that what it wrote last is read
            if select.select([self._master], [], [], 0 if has_ended else _GLANCE)[0]:
                data = os.read(self._master, 65536)
                self.written += data
                self._stream.feed(data)
                return True
            if has_ended:
                return False
        raise AssertionError(f"time is up; the screen:\n{self.text}")

"""Handling of terminals, pipes and signals that differs between systems. On Windows, none of it is needed."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["on_end_of_reader", "on_signals", "sent_output_kept"]

if sys.platform == "win32":

    @contextmanager
    def sent_output_kept(stream: Any) -> Iterator[None]:
        """Do nothing: on Windows, Ctrl-C makes no terminal discard output."""
        yield

    def on_signals(loop: asyncio.AbstractEventLoop, end: Callable[[int], None]) -> None:
        """Do nothing: event loops on Windows handle no signals, and Python handles Ctrl-C."""

    @contextmanager
    def on_end_of_reader(stream: Any, end: Callable[[], None]) -> Iterator[None]:
        """Do nothing: event loops on Windows cannot watch a pipe."""
        yield

else:
    import select
    import termios

    @contextmanager
    def sent_output_kept(stream: Any) -> Iterator[None]:
        """Have the terminal show everything that it was sent, even if Ctrl-C is pressed meanwhile."""
        before = termios.tcgetattr(stream)
        keeping = [*before]
        keeping[3] = before[3] | termios.NOFLSH
        termios.tcsetattr(stream, termios.TCSANOW, keeping)
        try:
            yield
        finally:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(stream, termios.TCSADRAIN, before)

    def on_signals(loop: asyncio.AbstractEventLoop, end: Callable[[int], None]) -> None:
        """Have `end` called with the number of a SIGTERM or SIGHUP, unless that signal is ignored."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, end, number)

    @contextmanager
    def on_end_of_reader(stream: Any, end: Callable[[], None]) -> Iterator[None]:
        """Within the block, call `end` in the running loop when the other end of a pipe or socket is closed."""
        loop, fd = asyncio.get_running_loop(), _pipe(stream)
        if fd is None:
            yield
            return
        poll = select.poll()
        poll.register(fd, 0)  # it then reports only the end

        def look() -> None:
            # One call is enough for an end, and also for a socket on which data arrives that nobody here reads.
            loop.remove_reader(fd)
            if poll.poll(0):
                end()

        loop.add_reader(fd, look)
        try:
            yield
        finally:
            loop.remove_reader(fd)

    def _pipe(stream: Any) -> int | None:
        try:
            fd: int = stream.fileno()
            mode = os.fstat(fd).st_mode
        except (OSError, ValueError):  # it is no file
            return None
        return fd if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None

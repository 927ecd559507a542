"""Runs what is asynchronous, and sees that it ends in order, whoever ends it.

Ctrl-C, SIGTERM and the end of the terminal all cancel the one task that a command is, so that every plugin it started
is closed on the way out. A second Ctrl-C ends the waiting for that. So does, where that is wanted, the end of who reads
stdout: what says little would otherwise learn of it only when it says something again.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import stat
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["SignalError", "run_to_end"]

T = TypeVar("T")


class SignalError(Exception):
    """The command was ended by a signal.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by signal {number}")
        self.number = number


def run_to_end(work: Coroutine[Any, Any, T], *, while_read: bool = False) -> T:
    """Run `work` in an event loop of its own.

    Args:
        work: what to run.
        while_read: whether it is worth nothing when stdout is a pipe that nobody reads any more.

    Raises:
        KeyboardInterrupt: Ctrl-C; `work` was cancelled, and has cleaned up.
        SignalError: the same for SIGTERM, and for SIGHUP where nobody asked to ignore it.
        BrokenPipeError: the same when the reader of stdout has gone.
    """
    return asyncio.run(_heeding_signals(_heeding_reader(work) if while_read else work))


async def _heeding_reader(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    has_gone: list[bool] = []

    def end() -> None:
        has_gone.append(True)
        task.cancel()

    try:
        with _reader_of_stdout(end):
            return await work
    except asyncio.CancelledError:
        if has_gone:
            raise BrokenPipeError from None
        raise


@contextmanager
def _reader_of_stdout(on_end: Callable[[], None]) -> Iterator[None]:
    """Notice within the block, in the running loop, when the other end of the pipe or socket on stdout is closed."""
    loop, fd = asyncio.get_running_loop(), _pipe_on_stdout()
    if fd is None:
        yield
        return
    poll = select.poll()
    poll.register(fd, 0)  # what is told of it then is nothing but its end

    def look() -> None:
        # Once is enough, for an end; and for a socket on which somebody sends something, which nobody here reads.
        loop.remove_reader(fd)
        if poll.poll(0):
            on_end()

    loop.add_reader(fd, look)
    try:
        yield
    finally:
        loop.remove_reader(fd)


def _pipe_on_stdout() -> int | None:
    try:
        fd = sys.stdout.fileno()
        mode = os.fstat(fd).st_mode
    except (OSError, ValueError):  # it is no file
        return None
    return fd if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


async def _heeding_signals(work: Coroutine[Any, Any, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, end, number)
    try:
        return await work
    except asyncio.CancelledError:
        if received:
            raise SignalError(received[0]) from None
        raise

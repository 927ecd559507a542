"""Runs what is asynchronous, and sees that it ends in order, whoever ends it.

Ctrl-C, SIGTERM and the end of the terminal all cancel the one task that a command is, so that every plugin it started
is closed on the way out. A second Ctrl-C ends the waiting for that. So does, where that is wanted, the end of who reads
stdout: what says little would otherwise learn of it only when it says something again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from fsm_conn.cli.system import on_end_of_reader, on_signals

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
        with on_end_of_reader(sys.stdout, end):
            return await work
    except asyncio.CancelledError:
        if has_gone:
            raise BrokenPipeError from None
        raise


async def _heeding_signals(work: Coroutine[Any, Any, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    on_signals(loop, end)
    try:
        return await work
    except asyncio.CancelledError:
        if received:
            raise SignalError(received[0]) from None
        raise

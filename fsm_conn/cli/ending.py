"""Runs what is asynchronous, and sees that it ends in order, whoever ends it.

Ctrl-C, SIGTERM and the end of the terminal all cancel the one task that a command is, so that every plugin it started
is closed on the way out. A second Ctrl-C ends the waiting for that.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
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


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in an event loop of its own.

    Raises:
        KeyboardInterrupt: Ctrl-C; `work` was cancelled, and has cleaned up.
        SignalError: the same for SIGTERM, and for SIGHUP where nobody asked to ignore it.
    """
    return asyncio.run(_heeding_signals(work))


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

"""Runs a command's coroutine, and makes sure that it ends in good order, whatever ends it.

Ctrl-C, SIGTERM and the end of the terminal cancel the command's one task, so that it closes every plugin that it
started. A second Ctrl-C ends the wait for that. Optionally, the end of the reader of stdout also cancels the task:
a command with little output would otherwise notice it only at its next output.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from fsm_conn.cli import SignalError
from fsm_conn.cli.system import on_end_of_reader, on_signals

__all__ = ["run_to_end"]

T = TypeVar("T")


def run_to_end(work: Coroutine[Any, Any, T], *, while_read: bool = False) -> T:
    """Run `work` in an event loop of its own.

    Args:
        work: the coroutine to run.
        while_read: whether to stop when stdout is a pipe whose reader has closed it.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; `work` was cancelled and has cleaned up.
        SignalError: the same for SIGTERM, and for SIGHUP unless it is ignored.
        BrokenPipeError: the same when the reader of stdout has closed it.
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

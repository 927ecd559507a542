"""Writes the requests of a call that takes a stream of them, while its replies are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc.aio

__all__ = ["feed", "is_being_cancelled", "raise_fault"]


async def feed(call: Any, messages: AsyncGenerator[Any, None]) -> None:
    """Write requests until there are no more, or the peer wants no more. A faulty request cancels the call."""
    try:
        async with aclosing(messages):
            async for message in messages:
                if not await _written(call, message):
                    return
        await call.done_writing()
    except BaseException:
        call.cancel()
        raise


async def _written(call: Any, message: Any) -> bool:
    try:
        await call.write(message)
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        return False  # the call has ended: the caller that waits for its reply learns how
    return True


def raise_fault(feeder: asyncio.Task[None] | None) -> None:
    """Raise what the iterator of requests raised, if that is what cancelled the call."""
    if feeder is None or not feeder.done() or feeder.cancelled() or is_being_cancelled():
        return
    if (fault := feeder.exception()) is not None:
        raise fault


def is_being_cancelled() -> bool:
    """Whether somebody cancelled the current task, so that a CancelledError in it is that cancellation."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0

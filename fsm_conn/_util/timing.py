"""Waiting with a limit that can be told from a timeout of what is waited for, and streams that are closed in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

__all__ = ["ExpiredError", "closing", "finish", "now", "within"]

T = TypeVar("T")


class ExpiredError(TimeoutError):
    """The limit has passed; what was waited for was cancelled. Internal: whoever set the limit says what it meant."""


async def within(seconds: float | None, awaitable: Awaitable[T]) -> T:
    """Await, for at most `seconds` by the loop's clock; None: without a limit.

    Raises:
        ExpiredError: the limit has passed. A `TimeoutError` of the awaitable itself passes as it is.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await awaitable
    except TimeoutError:
        if limit.expired():
            raise ExpiredError from None
        raise
    finally:
        # It holds the task, which holds its exception, which holds this frame: a cycle, and what they hold.
        del limit


@asynccontextmanager
async def closing(replies: AsyncIterator[Any]) -> AsyncIterator[AsyncIterator[Any]]:
    """As `contextlib.aclosing`, for streams that may have nothing to close. It ends when its reader leaves it."""
    try:
        yield replies
    finally:
        close = getattr(replies, "aclose", None)
        if close is not None:
            await close()


async def finish(task: asyncio.Future[Any]) -> None:
    """Wait until `task` is done, whatever happens; a cancellation of the caller goes on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def now() -> float:
    """The time of the running loop; of the clock that loops go by, where none runs."""
    loop = asyncio._get_running_loop()
    return time.monotonic() if loop is None else loop.time()

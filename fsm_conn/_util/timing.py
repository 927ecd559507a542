"""Waits with a limit that is distinct from the awaitable's own `TimeoutError`, and streams that are closed in time."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from types import AsyncGeneratorType
from typing import Any, TypeVar

__all__ = ["NEWS", "ExpiredError", "closing", "finish", "keep", "news_of_loss", "now", "within"]

T = TypeVar("T")


NEWS = 10
"""Turns of the loop after which a loss that has happened is certainly known. The end of a process takes six."""


class ExpiredError(TimeoutError):
    """The limit has passed, and the awaitable was cancelled. Internal: whoever set the limit explains it."""


async def within(seconds: float | None, awaitable: Awaitable[T]) -> T:
    """Await, for at most `seconds` by the loop's clock; None: without a limit.

    Raises:
        ExpiredError: the limit has passed. A `TimeoutError` of the awaitable itself passes as it is.
    """
    if seconds is None:
        return await awaitable
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


async def news_of_loss() -> None:
    """Wait as many turns of the loop as news of a loss takes. What fails may be told of it before we are."""
    for _ in range(NEWS):
        await asyncio.sleep(0)


class closing:  # noqa: N801 - as contextlib's
    """As `contextlib.aclosing`, also for iterators without `aclose()`.

    The event loop is not told of a generator that is read this way: when a loop ends, it closes all generators that it
    knows at once, so a generator that reads another one would find it closed.
    """

    def __init__(self, replies: AsyncIterator[Any]) -> None:
        self._replies = _Owned(replies) if isinstance(replies, AsyncGeneratorType) else replies

    async def __aenter__(self) -> AsyncIterator[Any]:
        return self._replies

    async def __aexit__(self, *error: object) -> None:
        close = getattr(self._replies, "aclose", None)
        if close is not None:
            await close()


class _Owned:
    """A generator that is not registered with the loop when it is first read."""

    def __init__(self, replies: AsyncGenerator[Any, None]) -> None:
        self._replies = replies
        self._has_begun = False
        self.aclose = replies.aclose

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Awaitable[Any]:
        if self._has_begun:
            return self._replies.__anext__()
        self._has_begun = True
        told = sys.get_asyncgen_hooks().firstiter
        sys.set_asyncgen_hooks(firstiter=None)
        try:
            return self._replies.__anext__()
        finally:
            sys.set_asyncgen_hooks(firstiter=told)


async def finish(task: asyncio.Future[Any]) -> None:
    """Wait until `task` is done, whatever happens; a cancellation of the caller is passed on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled


_kept: set[asyncio.Future[Any]] = set()


def keep(task: asyncio.Future[Any]) -> None:
    """Let a task go on that nobody waits for any more: `asyncio` refers to it weakly, and it could be collected."""
    if not task.done():
        _kept.add(task)
        task.add_done_callback(_kept.discard)


def now() -> float:
    """The time of the running loop, or of `time.monotonic()` where none runs."""
    loop = asyncio._get_running_loop()
    return time.monotonic() if loop is None else loop.time()

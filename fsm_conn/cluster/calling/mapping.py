"""Many calls at once, with results in the order of the requests, and never more under way than was said."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterable
from typing import Any

__all__ = ["mapped"]


async def mapped(
    call: Callable[[Any], Awaitable[Any]],
    requests: Iterable[Any] | AsyncIterable[Any],
    limit: int,
    *,
    return_exceptions: bool,
) -> AsyncIterator[Any]:
    """Call with each request, and yield the results in order.

    A request is drawn only when fewer than `limit` results are under way or wait to be read, so that neither a long
    iterable nor a slow reader fills the memory.
    """
    drawn = _each(requests)
    window: deque[asyncio.Task[Any]] = deque()
    try:
        while True:
            async for request in drawn:
                window.append(asyncio.create_task(_called(call, request)))
                if len(window) == limit:
                    break
            if not window:
                return
            yield await _result(window.popleft(), return_exceptions)
    finally:
        await _cancel(window)
        await drawn.aclose()


async def _cancel(window: Collection[asyncio.Task[Any]]) -> None:
    for task in window:
        task.cancel()
    if window:
        await asyncio.wait(window)
    for task in window:
        if not task.cancelled():
            task.exception()  # nobody reads it any more


async def _called(call: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
    return await call(request)


async def _result(task: asyncio.Task[Any], return_exceptions: bool) -> Any:
    try:
        return await task
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait((task,))
        raise
    except Exception as error:
        if return_exceptions:
            return error
        raise


async def _each(requests: Iterable[Any] | AsyncIterable[Any]) -> Any:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request

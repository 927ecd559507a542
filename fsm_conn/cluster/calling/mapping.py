"""Many calls at once, with results in the order of the requests, and never more under way than was said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterable
from typing import Any

from fsm_conn._util.timing import closing

__all__ = ["mapped"]


async def mapped(
    call: Callable[[Any], Awaitable[Any]],
    requests: Iterable[Any] | AsyncIterable[Any],
    limit: int,
    *,
    return_exceptions: bool,
) -> AsyncIterator[Any]:
    """Call with each request, and yield the results in order, each as soon as it and those before it are there.

    A request is drawn only when fewer than `limit` results are under way or wait to be read, so that neither a long
    iterable nor a slow reader fills the memory. Requests are drawn by a task of its own: one that takes long to come
    holds back no result. An error of the iterable is raised in its place, after the results of what came before it.
    """
    room = asyncio.Semaphore(limit)
    window: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()
    is_over = False

    async def draw() -> None:
        try:
            async with closing(_each(requests)) as drawn:
                while await room.acquire() and not is_over:
                    window.put_nowait(asyncio.create_task(_called(call, await anext(drawn))))
        except StopAsyncIteration:
            pass
        finally:
            window.put_nowait(None)

    drawing = asyncio.create_task(draw())
    try:
        while (task := await window.get()) is not None:
            result = await _result(task, return_exceptions)
            room.release()
            yield result
        await drawing
    finally:
        is_over = True
        await _cancel([drawing])
        await _cancel([task for task in (window.get_nowait() for _ in range(window.qsize())) if task is not None])


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
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
        async with closing(aiter(requests)) as drawn:
            async for request in drawn:
                yield request
    else:
        for request in requests:
            yield request

"""Waits with a limit that is distinct from the awaitable's own `TimeoutError`, and streams that are closed in time.

The rule for code of others, such as hooks and links: it has a task of its own, for it may ignore its cancellation, as
`asyncio.wait_for` does now and then on Python 3.11. Then it is left behind, and nothing that waits for it hangs.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from functools import partial
from types import AsyncGeneratorType
from typing import Any, TypeVar

__all__ = [
    "GRACE",
    "NEWS",
    "ExpiredError",
    "closing",
    "either",
    "end",
    "ended",
    "finish",
    "keep",
    "leave",
    "limited",
    "news_of_loss",
    "now",
    "within",
]

T = TypeVar("T")

_log = logging.getLogger("fsm_conn")

GRACE = 5.0
"""Seconds in which code of others must end after it was cancelled; then it is left behind."""

NEWS = 10
"""Turns of the loop after which a loss that has happened is certainly known. The end of a process takes six."""

_SOON = 0.001
"""Seconds. Timers are no finer, and may fire that much too early."""


class ExpiredError(TimeoutError):
    """The limit has passed, and the awaitable was cancelled. Internal: whoever set the limit explains it."""


async def within(seconds: float | None, awaitable: Awaitable[T]) -> T:
    """Await, for at most `seconds` by the loop's clock; None: without a limit.

    Raises:
        ExpiredError: the limit has passed. A `TimeoutError` of the awaitable itself passes as it is.
    """
    if seconds is None:
        return await awaitable
    limit = _Limit(seconds)
    try:
        return await awaitable
    except (asyncio.CancelledError, TimeoutError) as error:
        if limit.has_passed and (limit.end() or isinstance(error, TimeoutError)):
            raise ExpiredError from None
        raise
    finally:
        limit.end()
        # It holds the task, which holds its exception, which holds this frame: a cycle, and what they hold.
        del limit


class _Limit:
    """Cancels the running task when the seconds have passed, as `asyncio.timeout` does in twice the time."""

    __slots__ = ("_earlier", "_task", "_timer", "has_passed")

    def __init__(self, seconds: float) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._task = task
        self._earlier = task.cancelling()
        self.has_passed = False
        self._timer = loop.call_later(seconds, self._pass) if seconds > 0 else loop.call_soon(self._pass)

    def _pass(self) -> None:
        self.has_passed = True
        self._task.cancel()

    def end(self) -> bool:
        """Take the cancellation back, if there was one. Return whether nobody else has cancelled the task meanwhile."""
        self._timer.cancel()
        if not self.has_passed:
            return False
        self.has_passed = False
        return self._task.uncancel() <= self._earlier


async def limited(
    seconds: float | None, work: Awaitable[T], owner: object, what: str, *, grace: float | None = None
) -> T:
    """As `within`, for code of others: what does not end within its time, however it ends then, has not succeeded.

    Args:
        seconds: the limit; None: no limit, apart from the cancellation of the caller.
        work: what others have written.
        owner: for whom it works, for the log.
        what: its name, for the log.
        grace: as for `end`.

    Raises:
        ExpiredError: the limit has passed.
    """
    task = asyncio.ensure_future(work)
    try:
        if not await ended(task, seconds):
            raise ExpiredError
        return task.result()
    finally:
        if task.done():
            _heed(task)  # the caller may have been cancelled in the moment in which it failed
        else:
            await end(owner, what, task, grace=grace)
        del task  # it may hold an exception, which holds this frame


async def end(owner: object, what: str, *tasks: asyncio.Future[Any], grace: float | None = None) -> None:
    """Cancel tasks, and wait until they have ended, whatever happens; but for `GRACE` seconds, or `grace`, at most.

    What does not end is left behind, and the log says so. Errors are ignored: nobody can use them any more. When their
    loop was closed, whoever waited is only freed, and nothing is done.
    """
    if tasks[0].get_loop().is_closed():
        return
    for task in tasks:
        if not (isinstance(task, asyncio.Task) and task.cancelling()):  # a second one would interrupt its cleaning up
            task.cancel()
        task.add_done_callback(_heed)
    all_of_them = tasks[0] if len(tasks) == 1 else asyncio.gather(*tasks, return_exceptions=True)
    try:
        await finish(all_of_them, GRACE if grace is None else grace)
    finally:
        leave(owner, what, all_of_them)


def _heed(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def leave(owner: object, what: str, task: asyncio.Future[Any]) -> None:
    """Let a task go on that has not ended in time. The log says so. Nothing goes on in a loop that was closed."""
    if not (task.done() or task.get_loop().is_closed()):
        keep(task)
        _log.error("%r: %s ignores its cancellation and is left behind; let CancelledError pass in it", owner, what)


async def either(*futures: asyncio.Future[Any]) -> None:
    """Wait until one has ended, as `asyncio.wait` does.

    That holds, from Python 3.14 on, the task that waits, which, once cancelled, holds the wait: a cycle, with all that
    the task's frames hold.
    """
    first = asyncio.get_running_loop().create_future()

    def tell(_: asyncio.Future[Any]) -> None:
        if not first.done():
            first.set_result(None)

    for future in futures:
        future.add_done_callback(tell)
    try:
        await first
    finally:
        for future in futures:
            future.remove_done_callback(tell)


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


async def finish(task: asyncio.Future[Any], seconds: float | None = None) -> None:
    """Wait until `task` is done, or `seconds` have passed, whatever happens; a cancellation is passed on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    until = None if seconds is None else now() + seconds
    while not task.done():
        left = None if until is None else until - now()
        if left is not None and left < _SOON:
            break
        try:
            await ended(task, left)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled


async def ended(task: asyncio.Future[Any], seconds: float | None = None) -> bool:
    """Wait until `task` is done, for at most `seconds`; return whether it is. `asyncio.wait` takes three times as long.

    It is neither cancelled nor read, and a cancellation of the caller ends the wait.
    """
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()
    wake = partial(_wake, waiting)
    task.add_done_callback(wake)
    limit = None if seconds is None else loop.call_later(seconds, _wake, waiting)
    try:
        await waiting
    finally:
        task.remove_done_callback(wake)
        if limit is not None:
            limit.cancel()
    return task.done()


def _wake(waiting: asyncio.Future[None], task: asyncio.Future[Any] | None = None) -> None:
    if not waiting.done():
        waiting.set_result(None)


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

"""The one event loop in which everything of `fsm_conn.blocking` lives, in a thread of its own.

The rules that hold here:

- The loop starts with the first use, and ends with the interpreter: what is open then is closed, within a limit.
- Any thread may wait for a result. Ctrl-C ends the wait at once, and cancels what was waited for.
- Whoever waits inside the loop's own thread, in an observer for instance, would wait for ever, and is refused.
- A forked child has no such thread: it starts a loop for what it makes itself, and is refused what its parent made.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar
from weakref import WeakSet

from fsm_conn._util.extras import needed
from fsm_conn._util.forks import after_fork
from fsm_conn.machine.errors import FsmConnError

__all__ = ["Background", "background"]

_T = TypeVar("_T")

_at_exit: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
"""Before the threads of executors end, as `concurrent.futures` does: a plugin ends with the thread that started it, and
is to be asked first. Where Python has this no more, plugins are ended by the system."""

CLOSE_LIMIT = 10.0
"""Seconds that what is open may take to close when the interpreter ends."""


class Background:
    """The loop, its thread, and what is to be closed with it."""

    def __init__(self) -> None:
        from_thread = needed("anyio.from_thread", "blocking", "fsm_conn.blocking")
        self.pid = os.getpid()
        self._open: WeakSet[Any] = WeakSet()
        self._context = from_thread.start_blocking_portal("asyncio", name="fsm_conn.blocking")
        self._portal = self._context.__enter__()
        self._thread: int = self._portal.call(threading.get_ident)
        _at_exit(self._end)

    def run(self, function: Callable[..., Awaitable[_T]], *args: Any) -> _T:
        """Call an async function in the loop, and wait for what it returns.

        Raises:
            RuntimeError: called in the loop's own thread, or in a forked child of the process that made the object.
            BaseException: what the function raises.
        """
        self.check()
        future: Future[_T] = self._portal.start_task_soon(function, *args)
        try:
            return future.result()
        except BaseException as error:
            future.cancel()  # done already, unless it is the wait that was interrupted
            if isinstance(error, FsmConnError):
                error.args = tuple(_without_await(each) for each in error.args)
            raise

    def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call a plain function in the loop; as `run`."""

        async def called() -> _T:
            return function(*args)

        return self.run(called)

    def iterate(self, make: Callable[[], AsyncIterator[_T]]) -> Iterator[_T]:
        """Read an async iterator; it is closed when the reader stops early."""
        replies = self.call(make)
        end = object()

        async def following() -> Any:
            return await anext(replies, end)

        async def closed() -> None:
            if (close := getattr(replies, "aclose", None)) is not None:
                await close()

        try:
            while (reply := self.run(following)) is not end:
                yield reply
        finally:
            self.run(closed)

    def keep(self, closes: Any) -> None:
        """Have `await closes.aclose()` done before the loop ends."""
        self._open.add(closes)

    def check(self) -> None:
        """Refuse a caller that would wait for ever."""
        if threading.get_ident() == self._thread:
            raise RuntimeError(
                "fsm_conn.blocking was called in its own loop, and would wait for itself: an observer or a hook must "
                "not call it; hand the work to another thread"
            )
        if os.getpid() != self.pid:
            raise RuntimeError(
                f"this belongs to process {self.pid}, from which this one ({os.getpid()}) was forked; "
                "make another after the fork, for example in the first request"
            )

    def _end(self) -> None:
        if os.getpid() != self.pid:
            return
        with contextlib.suppress(Exception):
            self.run(self._close_all)
        with contextlib.suppress(Exception):
            self._context.__exit__(None, None, None)

    async def _close_all(self) -> None:
        import asyncio

        closing = [asyncio.ensure_future(each.aclose()) for each in tuple(self._open)]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_LIMIT)


def _without_await(said: Any) -> Any:
    """What an error advises to async code, for synchronous code."""
    return said.replace("'await ", "'").replace("'async with", "'with") if isinstance(said, str) else said


_lock = threading.Lock()
_background: Background | None = None


def background() -> Background:
    """The loop of this process; started when first asked for.

    Raises:
        ImportError: the extra `blocking` is not installed.
    """
    global _background
    with _lock:
        if _background is None or _background.pid != os.getpid():
            _background = Background()
        return _background


def _forked() -> None:
    """The lock may have been held by a thread that the child does not have."""
    global _lock
    _lock = threading.Lock()


after_fork(_forked)

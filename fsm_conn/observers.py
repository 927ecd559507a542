"""Those who watch a connection: told of every transition, once, in order, and unable to hurt it.

The rules that hold here:

- Callbacks of one transition run in the order of registration, and those of the next transition after them.
  As long as all of them are plain functions they run at once, inside the dispatch; from the first awaitable
  on, what remains is handed to a task that keeps the order.
- An exception is logged and counted, and goes no further. An async callback that takes longer than `PATIENCE`
  seconds is cancelled, logged and counted.
- `flush()` waits until every callback of what has happened so far has run; what happens later is not waited for.
- Nothing grows without bound, and nobody waits without bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context, ContextVar
from typing import Any

from fsm_conn.record import TransitionRecord
from fsm_conn.timing import ExpiredError, within

__all__ = ["PATIENCE", "Observers", "TransitionCallback", "is_observing"]

PATIENCE = 5.0
"""Seconds an async callback may take before it is cancelled."""

FLUSH_PATIENCE = 30.0
"""Seconds that `connect()` and `disconnect()` wait for slow observers, all in all."""
BACKLOG = 1000
"""Transitions that may wait to be told. With an observer slower than the transitions come, later ones are not told."""

TransitionCallback = Callable[[TransitionRecord], Awaitable[None] | None]

_log = logging.getLogger("fsm_conn")
_observing: ContextVar[object] = ContextVar("fsm_conn_observing", default=None)
"""The mark of those whose async callback this is; a mark, for the context is theirs, and would be a cycle with them."""


def is_observing(observers: Observers | None) -> bool:
    """Whether this is called from an async callback of `observers`."""
    return observers is not None and _observing.get() is observers._mark


class Observers:
    """The callbacks of one connection, and the task that runs the slow ones.

    Args:
        context: what async callbacks run in.

    Attributes:
        errors: callbacks that raised, were cancelled for taking too long, or were not told for too much was waiting.
    """

    __slots__ = (
        "_callbacks",
        "_context",
        "_flushing",
        "_mark",
        "_pending",
        "_plain_only",
        "_published",
        "_task",
        "_told_of",
        "errors",
    )

    def __init__(self, context: Context) -> None:
        self._context = context.copy()
        self._mark = object()
        self._context.run(_observing.set, self._mark)
        self._callbacks: dict[object, TransitionCallback] = {}
        self._pending: deque[Iterator[Any]] = deque()
        self._published = self._told_of = 0
        self._plain_only = False
        self._flushing: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self.errors = 0

    def add(self, callback: TransitionCallback) -> Callable[[], None]:
        """Register, and return what unregisters; calling that twice is harmless."""
        if not callable(callback):
            raise TypeError(f"an observer must be callable, not {callback!r}")
        key = object()
        self._callbacks[key] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(key, None)

        return unsubscribe

    def publish(self, record: TransitionRecord, plain_only: bool = False) -> None:
        """Tell everybody of `record`: now, or after what is still being told.

        Args:
            record: what happened.
            plain_only: the loop ends; what is async would begin and never go on, so it is not begun.
        """
        self._plain_only = plain_only
        if plain_only:
            self._tell_the_rest()
        self._published += 1
        if len(self._pending) >= BACKLOG:
            self._failed("the slowest of them", record, f"{BACKLOG} transitions wait to be told already")
            self._told_of += 1
            return
        self._pending.append(self._telling(record))
        if self._task is None and len(self._pending) == 1:
            self._run_plain()

    async def flush(self) -> None:
        """Wait until everybody has been told of everything so far, `FLUSH_PATIENCE` seconds at most.

        From inside a callback: no waiting.
        """
        if self._task is None or is_observing(self):
            return
        told = asyncio.get_running_loop().create_future()
        self._flushing.append((self._published, told))
        with contextlib.suppress(ExpiredError):
            await within(FLUSH_PATIENCE, told)

    def _telling(self, record: TransitionRecord) -> Iterator[Any]:
        """One step per callback, yielding what it must be waited for, or None."""
        for key, callback in tuple(self._callbacks.items()):
            if key not in self._callbacks:
                continue
            try:
                outcome = callback(record)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # an observer cannot hurt, whatever it raises
                self._failed(callback, record)
                continue
            if self._plain_only:
                if inspect.iscoroutine(outcome):
                    outcome.close()
                continue
            yield (callback, record, self._started(outcome)) if inspect.isawaitable(outcome) else None

    def _started(self, outcome: Any) -> asyncio.Future[Any]:
        """In a task of its own: one that ignores its cancellation can be left behind."""
        if inspect.iscoroutine(outcome):
            task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(outcome, context=self._context.copy())
            return task
        future: asyncio.Future[Any] = asyncio.ensure_future(outcome)
        return future

    def _run_plain(self) -> None:
        """Run what needs no waiting; hand over to a task at the first thing that does."""
        while self._pending:
            try:
                waiting = next(filter(None, self._pending[0]), None)
            except BaseException:
                self._done_with_one()
                raise
            if waiting is not None:
                loop = asyncio.get_running_loop()
                self._task = loop.create_task(self._run_slow(waiting), context=self._context.copy())
                self._task.add_done_callback(self._ended, context=self._context)
                return
            self._done_with_one()

    async def _run_slow(self, waiting: Any) -> None:
        while True:
            if waiting is not None:
                await self._wait_for(*waiting)
            if self._pending:
                waiting = next(filter(None, self._pending[0]), None)
                if waiting is not None:
                    continue
                self._done_with_one()
            if not self._pending:
                self._task = None
                return

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Cancelled, perhaps before it had begun: the loop ends."""
        if task is self._task:
            self._plain_only = True
            self._tell_the_rest()

    def _tell_the_rest(self) -> None:
        """The loop ends: the plain callbacks are told of what was waiting, in order; async ones would not get far."""
        self._task = None
        while self._pending:
            for _, _, task in filter(None, self._pending[0]):
                task.cancel()
            self._done_with_one()

    def _done_with_one(self) -> None:
        self._pending.popleft()
        self._told_of += 1
        still = []
        for until, told in self._flushing:
            if until > self._told_of:
                still.append((until, told))
            elif not told.done():
                told.set_result(None)
        self._flushing = still

    async def _wait_for(self, callback: Any, record: TransitionRecord, task: asyncio.Future[None]) -> None:
        try:
            done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        finally:
            task.cancel()
        try:
            if not done:
                raise TimeoutError(f"took longer than {PATIENCE:g} s")
            task.result()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            self._failed(callback, record)

    def _failed(self, callback: Any, record: TransitionRecord, why: str = "") -> None:
        self.errors += 1
        shown = getattr(callback, "__wrapped__", callback)
        with contextlib.suppress(Exception):
            _log.error("observer %r failed on %s%s", shown, record, why and f": {why}", exc_info=not why)

"""Those who watch a connection: told of every transition, once, in order, and unable to hurt it.

The rules that hold here:

- Callbacks of one transition run in the order of registration, and those of the next transition after them.
  As long as all of them are plain functions they run at once, inside the dispatch; from the first awaitable
  on, what remains is handed to a task that keeps the order.
- An exception is logged and counted, and goes no further. An async callback that takes longer than `PATIENCE`
  seconds is cancelled, logged and counted.
- `flush()` waits until every callback of what has happened so far has run.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any

from fsm_conn.record import TransitionRecord

__all__ = ["PATIENCE", "Observers", "TransitionCallback", "is_observing"]

PATIENCE = 5.0
"""Seconds an async callback may take before it is cancelled."""

TransitionCallback = Callable[[TransitionRecord], Awaitable[None] | None]

_log = logging.getLogger("fsm_conn")
_observing: ContextVar[Observers | None] = ContextVar("fsm_conn_observing", default=None)


def is_observing(observers: Observers | None) -> bool:
    """Whether this is called from an async callback of `observers`."""
    return observers is not None and _observing.get() is observers


class Observers:
    """The callbacks of one connection, and the task that runs the slow ones.

    Attributes:
        errors: callbacks that raised, or were cancelled for taking too long, so far.
    """

    __slots__ = ("_callbacks", "_pending", "_task", "errors")

    def __init__(self) -> None:
        self._callbacks: dict[object, TransitionCallback] = {}
        self._pending: deque[Iterator[Any]] = deque()
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

    def publish(self, record: TransitionRecord) -> None:
        """Tell everybody of `record`: now, or after what is still being told."""
        self._pending.append(self._told(record))
        if self._task is None and len(self._pending) == 1:
            self._run_plain()

    async def flush(self) -> None:
        """Wait until everybody has been told of everything so far. From inside a callback: no waiting."""
        while self._task is not None and not is_observing(self):
            await asyncio.shield(self._task)

    def _told(self, record: TransitionRecord) -> Iterator[Any]:
        """One step per callback, yielding what it must be waited for, or None."""
        for key, callback in tuple(self._callbacks.items()):
            if key not in self._callbacks:
                continue
            try:
                outcome = callback(record)
            except Exception:
                self._failed(callback, record)
                continue
            # In a task of its own: one that ignores its cancellation can be left behind.
            yield (callback, record, asyncio.ensure_future(outcome)) if inspect.isawaitable(outcome) else None

    def _run_plain(self) -> None:
        """Run what needs no waiting; hand over to a task at the first thing that does."""
        while self._pending:
            for waiting in self._pending[0]:
                if waiting is not None:
                    self._task = asyncio.get_running_loop().create_task(self._run_slow(waiting))
                    return
            self._pending.popleft()

    async def _run_slow(self, waiting: Any) -> None:
        _observing.set(self)
        try:
            while True:
                if waiting is not None:
                    await self._wait_for(*waiting)
                waiting = next(self._pending[0], self)
                if waiting is self:
                    self._pending.popleft()
                    waiting = None
                    if not self._pending:
                        return
        finally:
            self._task = None
            # Only when cancelled, which means that the loop ends: who was not told yet never will be.
            self._pending.clear()

    async def _wait_for(self, callback: Any, record: TransitionRecord, task: asyncio.Future[None]) -> None:
        try:
            done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        finally:
            task.cancel()
        try:
            if not done:
                raise TimeoutError(f"took longer than {PATIENCE:g} s")
            task.result()
        except (Exception, asyncio.CancelledError):
            self._failed(callback, record)

    def _failed(self, callback: Any, record: TransitionRecord) -> None:
        self.errors += 1
        with contextlib.suppress(Exception):
            _log.exception("observer %r failed on %s", callback, record)

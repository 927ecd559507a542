"""The observers of a machine: notified of every transition, once, in order, and unable to harm it.

The rules that hold here:

- Every callback is called at once, inside the dispatch, in the order of registration. A plain function is thus
  notified of every transition, whatever the others do.
- The awaitable that an async callback returns is queued and run by a task: one after the other, those of one
  transition in the order of registration, then those of the next transition. So an async callback delays the other
  async ones, and nothing else.
- An exception is logged and counted, and goes no further. An async callback that takes longer than `PATIENCE`
  seconds is cancelled, logged and counted.
- `flush()` waits until every callback of what has happened so far has run; what happens later is not waited for.
- Queues and waits are bounded: beyond `BACKLOG`, async callbacks miss transitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar
from typing import Any

from fsm_conn._util.timing import ExpiredError, ended, within
from fsm_conn.machine.records import History, TransitionRecord

__all__ = ["PATIENCE", "Observers", "TransitionCallback", "begun", "is_observing", "on_begun"]

PATIENCE = 5.0
"""Seconds an async callback may take before it is cancelled."""

FLUSH_PATIENCE = 30.0
"""Seconds that `connect()` and `disconnect()` wait for slow observers altogether."""
BACKLOG = 1000
"""How many transitions may wait for async callbacks. When one is too slow, all of them miss later transitions."""

TransitionCallback = Callable[[TransitionRecord], Awaitable[None] | None]
_Slow = deque[tuple[object, TransitionCallback, Awaitable[Any]]]
"""The awaitables that are still to run for one transition, each with its key."""

_log = logging.getLogger("fsm_conn")
_observing: ContextVar[object] = ContextVar("fsm_conn_observing", default=None)
"""Marks the `Observers` whose async callback runs in this context. A mark, because a reference would be a cycle."""

on_begun: list[Callable[[Any], None]] = []
"""Callbacks, called with each machine before its first transition is published. For tools that watch all machines of a
process; empty otherwise, and read once per machine."""


def begun(machine: Any) -> History:
    """Create the history of a machine at its first transition, and notify the tools that watch for new machines."""
    for tell in tuple(on_begun):
        try:
            tell(machine)
        except Exception:
            _log.exception("%r, which is called for each new machine, failed on %r", tell, machine)
    return History(machine.history_size, machine.record_type)


def is_observing(observers: Observers | None) -> bool:
    """Whether this is called from an async callback of `observers`."""
    return observers is not None and _observing.get() is observers._mark


class Observers:
    """The callbacks of one machine, and the task that runs the async ones.

    Args:
        context: the context that async callbacks run in.

    Attributes:
        errors: how many callbacks raised or were cancelled for taking too long, plus the transitions that async
            callbacks missed because too many were waiting.
    """

    __slots__ = (
        "_callbacks",
        "_context",
        "_flushing",
        "_mark",
        "_order",
        "_pending",
        "_queued",
        "_task",
        "_told_of",
        "errors",
    )

    def __init__(self, context: Context) -> None:
        self._context = context.copy()
        self._mark = object()
        self._context.run(_observing.set, self._mark)
        self._callbacks: dict[object, TransitionCallback] = {}
        self._order: tuple[tuple[object, TransitionCallback], ...] = ()
        """The same as a tuple, to go through while callbacks come and go."""
        self._pending: deque[tuple[TransitionRecord, _Slow]] = deque()
        self._queued = self._told_of = 0
        self._flushing: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self.errors = 0

    def add(self, callback: TransitionCallback) -> Callable[[], None]:
        """Register a callback. Return a function that unregisters it; calling that twice is harmless."""
        if not callable(callback):
            raise TypeError(f"an observer must be callable, not {callback!r}")
        key = object()
        self._callbacks[key] = callback
        self._order = (*self._order, (key, callback))

        def unsubscribe() -> None:
            self._callbacks.pop(key, None)
            self._order = tuple(self._callbacks.items())

        return unsubscribe

    def publish(self, record: TransitionRecord, plain_only: bool = False) -> None:
        """Notify all callbacks of `record`: plain ones now, async ones after the transitions that they still work on.

        Never called from a callback: a trigger that is fired in a callback is dispatched after the current one.

        Args:
            record: the transition.
            plain_only: the loop ends, so async callbacks, which could not finish, are not started.
        """
        if plain_only:
            self._drop_what_waits()
        slow: _Slow | None = None  # an empty queue would cost as much as all else here
        callbacks = self._callbacks
        try:
            for key, callback in self._order:
                if key not in callbacks:
                    continue
                try:
                    outcome = callback(record)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException:  # an observer cannot hurt, whatever it raises
                    self._failed(callback, record)
                    continue
                if outcome is not None and inspect.isawaitable(outcome):
                    slow = slow or deque()
                    slow.append((key, callback, outcome))
        finally:
            if slow is not None:
                self._enqueue(record, slow, plain_only)

    async def flush(self) -> None:
        """Wait until all callbacks have been notified of everything so far, for at most `FLUSH_PATIENCE` seconds.

        Inside a callback it returns at once.
        """
        if self._task is None or is_observing(self):
            return
        told = asyncio.get_running_loop().create_future()
        self._flushing.append((self._queued, told))
        with contextlib.suppress(ExpiredError):
            await within(FLUSH_PATIENCE, told)

    def _enqueue(self, record: TransitionRecord, slow: _Slow, is_too_late: bool) -> None:
        if is_too_late:
            _drop(slow)
            return
        if len(self._pending) >= BACKLOG:
            _drop(slow)
            self._failed("the slowest of them", record, f"{BACKLOG} transitions are waiting already")
            return
        self._pending.append((record, slow))
        self._queued += 1
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run_slow(self._pending), context=self._context.copy())
            self._task.add_done_callback(self._ended, context=self._context)

    async def _run_slow(self, pending: deque[tuple[TransitionRecord, _Slow]]) -> None:
        """Run the queued awaitables until none is left. To stop this task, `pending` is emptied."""
        while pending:
            record, slow = pending[0]
            while slow:
                key, callback, awaitable = slow.popleft()
                if key in self._callbacks:
                    await self._wait_for(callback, record, self._started(awaitable))
                else:
                    _close(awaitable)
            if pending:
                pending.popleft()
                self._told(1)
        if pending is self._pending:
            self._task = None

    def _started(self, awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
        """Run an awaitable in a task of its own, which can be left behind when it ignores its cancellation."""
        if asyncio.isfuture(awaitable):
            return awaitable
        work = awaitable if inspect.iscoroutine(awaitable) else _awaited(awaitable)
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The task was cancelled, perhaps before it began: the loop ends."""
        if task is self._task:
            self._drop_what_waits()

    def _drop_what_waits(self) -> None:
        """Drop the queue: the loop ends, and async callbacks could not finish."""
        self._task = None
        pending, self._pending = self._pending, deque()
        dropped = len(pending)
        while pending:
            _drop(pending.popleft()[1])
        self._told(dropped)

    def _told(self, transitions: int) -> None:
        """Count transitions as published, and wake those who wait for that."""
        self._told_of += transitions
        still = []
        for until, told in self._flushing:
            if until > self._told_of:
                still.append((until, told))
            elif not told.done():
                told.set_result(None)
        self._flushing = still

    async def _wait_for(self, callback: Any, record: TransitionRecord, task: asyncio.Future[Any]) -> None:
        try:
            is_done = await ended(task, PATIENCE)
        finally:
            task.cancel()
        try:
            if not is_done:
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


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _drop(slow: _Slow) -> None:
    while slow:
        _close(slow.popleft()[2])


def _close(awaitable: Awaitable[Any]) -> None:
    """Close a coroutine that was never started; otherwise Python warns of it."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()

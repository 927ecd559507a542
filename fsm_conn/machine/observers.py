"""Those who watch a machine: told of every transition, once, in order, and unable to hurt it.

The rules that hold here:

- Every callback is called at once, inside the dispatch, in the order of registration. For a plain function that is
  all: it is told of every transition, whatever the others do.
- What an async function does, and in general whatever awaitable a callback returns, is queued, and run by a task: one
  after the other, those of one transition in the order of registration, and those of the next transition after them.
  So an async callback delays the other async ones, and nobody else.
- An exception is logged and counted, and goes no further. An async callback that takes longer than `PATIENCE`
  seconds is cancelled, logged and counted.
- `flush()` waits until every callback of what has happened so far has run; what happens later is not waited for.
- Nothing grows without bound, and nobody waits without bound: beyond `BACKLOG`, async callbacks miss transitions.
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

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.machine.records import History, TransitionRecord

__all__ = ["PATIENCE", "Observers", "TransitionCallback", "begun", "is_observing", "on_begun"]

PATIENCE = 5.0
"""Seconds an async callback may take before it is cancelled."""

FLUSH_PATIENCE = 30.0
"""Seconds that `connect()` and `disconnect()` wait for slow observers, all in all."""
BACKLOG = 1000
"""Transitions that may wait for async callbacks. If one is too slow, all of them miss later ones."""

TransitionCallback = Callable[[TransitionRecord], Awaitable[None] | None]
_Slow = deque[tuple[object, TransitionCallback, Awaitable[Any]]]
"""What async callbacks have still to do about one transition, each with its key."""

_log = logging.getLogger("fsm_conn")
_observing: ContextVar[object] = ContextVar("fsm_conn_observing", default=None)
"""The mark of those whose async callback this is; a mark, for the context is theirs, and would be a cycle with them."""

on_begun: list[Callable[[Any], None]] = []
"""Told of each machine when it begins: before its first transition is told of. For tools that watch all machines of a
process; empty otherwise, and read once in a machine's life."""


def begun(machine: Any) -> History:
    """Make the history of a machine to which nothing has happened before, and tell those who wait for new ones."""
    for tell in tuple(on_begun):
        try:
            tell(machine)
        except Exception:
            _log.exception("%r, which is told of each machine that begins, failed on %r", tell, machine)
    return History(machine.history_size)


def is_observing(observers: Observers | None) -> bool:
    """Whether this is called from an async callback of `observers`."""
    return observers is not None and _observing.get() is observers._mark


class Observers:
    """The callbacks of one machine, and the task that runs the slow ones.

    Args:
        context: what async callbacks run in.

    Attributes:
        errors: callbacks that raised, or were cancelled for taking too long, and transitions of which the async ones
            were not told because too much was waiting.
    """

    __slots__ = (
        "_callbacks",
        "_context",
        "_flushing",
        "_mark",
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
        self._pending: deque[tuple[TransitionRecord, _Slow]] = deque()
        self._queued = self._told_of = 0
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
        """Tell everybody of `record`: plain callbacks now, and async ones after what they are still being told.

        Not to be called from a callback: the machine dispatches what is fired in one after what is under way.

        Args:
            record: what happened.
            plain_only: the loop ends; what is async would begin and never go on, so it is not begun.
        """
        if plain_only:
            self._drop_what_waits()
        slow: _Slow = deque()
        try:
            for key, callback in tuple(self._callbacks.items()):
                if key in self._callbacks:
                    outcome = self._call(callback, record)
                    if outcome is not None and inspect.isawaitable(outcome):
                        slow.append((key, callback, outcome))
        finally:
            if plain_only:
                _drop(slow)
            elif slow:
                self._enqueue(record, slow)

    def _call(self, callback: TransitionCallback, record: TransitionRecord) -> Any:
        try:
            return callback(record)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # an observer cannot hurt, whatever it raises
            self._failed(callback, record)

    async def flush(self) -> None:
        """Wait until everybody has been told of everything so far, `FLUSH_PATIENCE` seconds at most.

        From inside a callback: no waiting.
        """
        if self._task is None or is_observing(self):
            return
        told = asyncio.get_running_loop().create_future()
        self._flushing.append((self._queued, told))
        with contextlib.suppress(ExpiredError):
            await within(FLUSH_PATIENCE, told)

    def _enqueue(self, record: TransitionRecord, slow: _Slow) -> None:
        if len(self._pending) >= BACKLOG:
            _drop(slow)
            self._failed("the slowest of them", record, f"{BACKLOG} transitions wait to be told already")
            return
        self._pending.append((record, slow))
        self._queued += 1
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run_slow(self._pending), context=self._context.copy())
            self._task.add_done_callback(self._ended, context=self._context)

    async def _run_slow(self, pending: deque[tuple[TransitionRecord, _Slow]]) -> None:
        """Run what waits until nothing does. `pending` is emptied under this task when it is to stop."""
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
        """In a task of its own: one that ignores its cancellation can be left behind."""
        if asyncio.isfuture(awaitable):
            return awaitable
        work = awaitable if inspect.iscoroutine(awaitable) else _awaited(awaitable)
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Cancelled, perhaps before it had begun: the loop ends."""
        if task is self._task:
            self._drop_what_waits()

    def _drop_what_waits(self) -> None:
        """The loop ends: async callbacks would not get far any more."""
        self._task = None
        pending, self._pending = self._pending, deque()
        dropped = len(pending)
        while pending:
            _drop(pending.popleft()[1])
        self._told(dropped)

    def _told(self, transitions: int) -> None:
        """Of so many more: those who waited for it may go on."""
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


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _drop(slow: _Slow) -> None:
    while slow:
        _close(slow.popleft()[2])


def _close(awaitable: Awaitable[Any]) -> None:
    """It is not begun; Python warns of a coroutine of which nobody says so."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()

"""Cleans up when an event loop ends, which cancels all tasks and waits for none that is created later.

A guardian is a task that lives as long as some machine of its loop has something to do: one for all of them. When it is
cancelled before that, the loop is ending, and the guardian releases in it what must not outlive the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextvars import Context
from typing import Any, Protocol
from weakref import WeakValueDictionary

from fsm_conn._util.timing import finish

__all__ = ["Guarded", "Guardian", "outlast"]

_log = logging.getLogger("fsm_conn")


class Guarded(Protocol):
    """What runs in a loop for one machine."""

    context: Context

    async def give_up(self) -> None:
        """Called when the loop ends; waited for, whatever happens."""

    def rest_at_once(self) -> None:
        """Called instead when the loop ended before anything had begun in it."""


class Guardian:
    """The task that is there when a loop ends. It keeps alive what it guards.

    Args:
        loop: the loop.
    """

    __slots__ = ("__weakref__", "_guarded", "_loop", "_released", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._guarded: dict[Guarded, None] = {}
        self._released: asyncio.Future[None] = loop.create_future()
        context = Context()
        self._task = loop.create_task(self._guard(), name="fsm_conn.guardian", context=context)
        self._task.add_done_callback(self._ended, context=context)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop, guarded: Guarded) -> Guardian:
        """Return the guardian of a loop, which guards this, too, until `release`."""
        guardian = _guardians.get(id(loop))
        if guardian is None or guardian._released.done() or guardian.is_cancelled:
            guardian = _guardians[id(loop)] = cls(loop)
        guardian._guarded[guarded] = None
        return guardian

    @property
    def is_cancelled(self) -> bool:
        """Whether the loop ends."""
        return self._task.cancelling() > 0

    def release(self, guarded: Guarded) -> None:
        """There is nothing left to do for this. The guardian ends with the last one."""
        self._guarded.pop(guarded, None)
        if not self._guarded and not self._released.done():
            self._released.set_result(None)

    async def _guard(self) -> None:
        try:
            await self._released
        except asyncio.CancelledError:
            create = self._loop.create_task
            for ending in [create(each.give_up(), context=each.context.copy()) for each in tuple(self._guarded)]:
                await outlast(ending)
            raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Cancelled before it began, the guardian could not clean up; but then nothing else has begun either."""
        if task.cancelled() and not self._released.done():
            for each in tuple(self._guarded):
                try:
                    each.context.run(each.rest_at_once)
                except Exception:
                    _log.exception("%r could not come to rest when its loop ended", each)


_guardians: WeakValueDictionary[int, Guardian] = WeakValueDictionary()
"""By the identity of the loop, which its guardian keeps alive."""


async def outlast(task: asyncio.Future[Any]) -> None:
    """Wait until `task` is done, whatever happens; a cancellation of the caller is passed on afterwards."""
    with contextlib.suppress(asyncio.CancelledError):
        await finish(task)

"""Cleans up when an event loop ends, which cancels all tasks and waits for none that is created later.

A guardian is a task that lives as long as there is something to do. When it is cancelled before it was released, the
loop is ending, and the guardian releases in it what must not outlive the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from fsm_conn._util.timing import finish

__all__ = ["Guardian", "outlast"]


class Guardian:
    """The task that is there when the loop ends.

    Args:
        loop: the loop.
        context: the context that it runs in.
        name: the name of the task.
        give_up: called when the loop ends; waited for, whatever happens.
        never_began: called when the loop ended before the task had begun.
    """

    __slots__ = ("_give_up", "_never_began", "_released", "_task")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: Context,
        name: str,
        give_up: Callable[[], Coroutine[Any, Any, None]],
        never_began: Callable[[], None],
    ) -> None:
        self._give_up, self._never_began = give_up, never_began
        self._released: asyncio.Future[None] = loop.create_future()
        self._task = loop.create_task(self._guard(), name=name, context=context.copy())
        self._task.add_done_callback(self._ended, context=context)

    @property
    def is_cancelled(self) -> bool:
        """Whether the loop ends."""
        return self._task.cancelling() > 0

    def release(self) -> None:
        """End the guardian: there is nothing left to do."""
        if not self._released.done():
            self._released.set_result(None)

    async def _guard(self) -> None:
        try:
            await self._released
        except asyncio.CancelledError:
            if not self._released.done() or self._released.cancelled():
                await self._give_up()
            raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Cancelled before it began, the guardian could not clean up; but then nothing else has begun either."""
        if task.cancelled() and not self._released.done():
            self._never_began()


async def outlast(task: asyncio.Future[Any]) -> None:
    """Wait until `task` is done, whatever happens; a cancellation of the caller is passed on afterwards."""
    with contextlib.suppress(asyncio.CancelledError):
        await finish(task)

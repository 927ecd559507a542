"""Writes the requests of a call that takes a stream of them, while its replies are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc.aio

__all__ = ["Feeder", "is_being_cancelled"]

CLOSING = 1.0
"""Seconds that a generator of requests may take to close."""


class Feeder:
    """The task that writes the requests of a call until there are no more, or the peer wants no more.

    A faulty request cancels the call. The generator of requests is closed in any case, and is not interrupted while it
    closes: it may have things to put away that take a while, up to `CLOSING` seconds.
    """

    __slots__ = ("_call", "_is_closing", "_messages", "_task")

    def __init__(self, call: Any, messages: AsyncGenerator[Any, None]) -> None:
        self._call = call
        self._messages = messages
        self._is_closing = False
        self._task = asyncio.create_task(self._feed())

    async def _feed(self) -> None:
        call = self._call
        try:
            try:
                async for message in self._messages:
                    if not await _written(call, message):
                        return
            finally:
                self._is_closing = True
                await self._messages.aclose()
            await call.done_writing()
        except BaseException:
            call.cancel()
            raise

    async def end(self) -> None:
        """Stop, and wait until the generator of requests is closed."""
        if self._is_closing:
            await asyncio.wait((self._task,), timeout=CLOSING)
        self._task.cancel()
        await asyncio.wait((self._task,))
        del self._task  # its error refers to where it was raised, and so to this object

    def raise_fault(self) -> None:
        """Raise what the generator of requests raised, if that is what cancelled the call."""
        if not self._task.done() or self._task.cancelled() or is_being_cancelled():
            return
        if (fault := self._task.exception()) is not None:
            try:
                raise fault
            finally:
                del fault


async def _written(call: Any, message: Any) -> bool:
    try:
        await call.write(message)
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        return False  # the call has ended: the caller that waits for its reply learns how
    return True


def is_being_cancelled() -> bool:
    """Whether somebody cancelled the current task, so that a CancelledError in it is that cancellation."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0

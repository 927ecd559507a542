"""Observers of calls: called for every call that ended, in the context of its caller, and unable to harm it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fsm_conn._util.timing import closing
from fsm_conn.connection.calling.records import CallOutcome, CallRecord

__all__ = ["CallCallback", "CallObservers"]

CallCallback = Callable[[CallRecord], None]

_log = logging.getLogger("fsm_conn")


class CallObservers:
    """The callbacks that observe the calls of one connection.

    Attributes:
        callbacks: the callbacks.
        errors: how often one of them raised.
    """

    __slots__ = ("callbacks", "errors")

    def __init__(self) -> None:
        self.callbacks: dict[object, CallCallback] = {}
        self.errors = 0

    def __bool__(self) -> bool:
        return bool(self.callbacks)

    def add(self, callback: CallCallback) -> Callable[[], None]:
        """Register a callback. Return a function that unregisters it; calling that twice is harmless.

        Raises:
            TypeError: it is not callable, or is async: it runs inside the call, and nothing would await it.
        """
        if not callable(callback) or any(map(inspect.iscoroutinefunction, (callback, type(callback).__call__))):
            raise TypeError(f"an observer of calls must be a plain function, not {callback!r}")
        key = object()
        self.callbacks[key] = callback

        def unsubscribe() -> None:
            self.callbacks.pop(key, None)

        return unsubscribe

    async def call(self, method: str, reply: Awaitable[Any]) -> Any:
        """Wait for the reply, and notify the observers."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            answer = await reply
        except BaseException as error:
            self._tell(method, error, began, clock())
            raise
        self._tell(method, None, began, clock())
        return answer

    async def stream(self, method: str, replies: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Pass on the replies, and notify the observers when they end or the reader stops."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with closing(replies) as watched:
                async for reply in watched:
                    yield reply
        except BaseException as error:
            self._tell(method, error, began, clock())
            raise
        self._tell(method, None, began, clock())

    def _tell(self, method: str, error: BaseException | None, began: float, now: float) -> None:
        record = CallRecord(method, _outcome(error), error, now - began, now)
        for key, callback in tuple(self.callbacks.items()):
            if key not in self.callbacks:
                continue
            try:
                callback(record)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # an observer cannot hurt, whatever it raises
                self.errors += 1
                _log.exception("observer %r failed on a call of %s", callback, method)


def _outcome(error: BaseException | None) -> CallOutcome:
    if error is None:
        return CallOutcome.SUCCEEDED
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return CallOutcome.CANCELLED
    return CallOutcome.FAILED

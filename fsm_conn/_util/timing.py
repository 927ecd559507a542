"""A limit on waiting that can be told from a timeout of what is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["ExpiredError", "within"]

T = TypeVar("T")


class ExpiredError(TimeoutError):
    """The limit has passed; what was waited for was cancelled. Internal: whoever set the limit says what it meant."""


async def within(seconds: float | None, awaitable: Awaitable[T]) -> T:
    """Await, for at most `seconds` by the loop's clock; None: without a limit.

    Raises:
        ExpiredError: the limit has passed. A `TimeoutError` of the awaitable itself passes as it is.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await awaitable
    except TimeoutError:
        if limit.expired():
            raise ExpiredError from None
        raise
    finally:
        # It holds the task, which holds its exception, which holds this frame: a cycle, and what they hold.
        del limit

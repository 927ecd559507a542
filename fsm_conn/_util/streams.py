"""A stream that is closed when its reader leaves it, then and there, rather than when its memory is freed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["closing"]


@asynccontextmanager
async def closing(replies: AsyncIterator[Any]) -> AsyncIterator[AsyncIterator[Any]]:
    """As `contextlib.aclosing`, for streams that may have nothing to be closed."""
    try:
        yield replies
    finally:
        close = getattr(replies, "aclose", None)
        if close is not None:
            await close()

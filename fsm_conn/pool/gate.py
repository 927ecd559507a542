"""What the parts of a pool may ask of the pool, without keeping the pool alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol
from weakref import ref

from fsm_conn.pool.errors import PoolClosed

__all__ = ["Gate"]


class Guarded(Protocol):
    """The object that a gate belongs to."""

    name: str

    def admit(self) -> asyncio.AbstractEventLoop:
        """The running loop, if the pool serves callers in it; otherwise raise the error that says why not."""

    def why_closed(self) -> PoolClosed:
        """The error that says that the pool is closed, and what to do."""


class Gate:
    """Admits callers, and names the pool in messages.

    Args:
        pool: the pool, to which the gate keeps a weak reference.
    """

    def __init__(self, pool: Guarded) -> None:
        self._pool: Callable[[], Any] = ref(pool)
        self.name = pool.name

    def admit(self) -> asyncio.AbstractEventLoop:
        """The running loop.

        Raises:
            PoolClosed: the pool serves no callers.
            RuntimeError: the pool lives in another loop.
        """
        pool: Guarded | None = self._pool()
        if pool is None:
            raise self.why_closed()
        return pool.admit()

    def why_closed(self) -> PoolClosed:
        """The error that says that the pool is closed, and what to do."""
        pool: Guarded | None = self._pool()
        return PoolClosed(f"the pool {self.name!r} is gone") if pool is None else pool.why_closed()

    def __repr__(self) -> str:
        return repr(self._pool())

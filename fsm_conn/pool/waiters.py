"""Those who wait for a connection, first come, first served. Whoever was cancelled is passed over."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsm_conn.pool.lease import Lease
    from fsm_conn.pool.slots import Slot

__all__ = ["Waiters"]


class Waiters:
    """The queue of a pool."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: deque[tuple[asyncio.Future[Slot], Lease]] = deque()

    def __len__(self) -> int:
        return sum(not waiter.done() for waiter, _ in self._queue)

    def __bool__(self) -> bool:
        while self._queue and self._queue[0][0].done():
            self._queue.popleft()
        return bool(self._queue)

    def join(self, lease: Lease) -> asyncio.Future[Slot]:
        """Queue up. Done when a slot was handed over, or with the error that says why none will be."""
        waiter: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._queue.append((waiter, lease))
        return waiter

    def serve(self, slot: Slot) -> bool:
        """Hand `slot` over to whoever came first; whether there was somebody."""
        if not self:
            return False
        waiter, lease = self._queue.popleft()
        slot.holders.append(lease)
        waiter.set_result(slot)
        return True

    def refuse(self, why: Callable[[], BaseException]) -> None:
        """Tell all of them why nobody will be served, each by an error of its own."""
        while self:
            self._queue.popleft()[0].set_exception(why())

"""Those who wait for a connection, first come, first served. Whoever was cancelled is passed over.

Who was served with something of no use, a link that was lost in that moment, comes back ahead of everybody who was not
served yet; and those who come back do so in the order in which they came first.

How many they are is counted and not looked up, for it is asked whenever one more comes. Who was cancelled is counted
until he leaves, which is one turn of the loop later.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from bisect import insort
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsm_conn.pool.place import Holder
    from fsm_conn.pool.slots import Slot
    from fsm_conn.pool.stats import PoolStats

__all__ = ["Waiters"]

FEW = 16
"""Waiters who have left and may stay in the queue, whatever its length."""


class Waiters:
    """The queue of a pool.

    Args:
        counts: what counts how long those who were served had waited.

    Who leaves is passed over when his turn comes; when there are many of them, they are taken out.
    """

    __slots__ = ("_back", "_counts", "_left", "_queue", "_turns", "_waiting")

    def __init__(self, counts: PoolStats) -> None:
        self._counts = counts
        self._queue: deque[tuple[asyncio.Future[Slot], Holder, float]] = deque()
        self._back: list[tuple[int, tuple[asyncio.Future[Slot], Holder, float]]] = []
        """Who came back, by turn."""
        self._left = self._waiting = self._turns = 0

    def __len__(self) -> int:
        return self._waiting

    def turn(self) -> int:
        """A place for who comes back, behind all whose turn was taken before. It is kept for the next time."""
        self._turns += 1
        return self._turns

    def join(self, holder: Holder, loop: asyncio.AbstractEventLoop, *, turn: int | None = None) -> asyncio.Future[Slot]:
        """Queue up. Done when a slot was handed over, or with the error that says why none will be.

        Args:
            holder: what the slot is told when it is handed over.
            loop: the running loop.
            turn: for who comes back, as `turn()` gave it.
        """
        waiter: Future[Slot] = Future(loop=loop)  # in its short form, for it is made for each wait
        self._waiting += 1
        if turn is None:
            self._queue.append((waiter, holder, loop.time()))
        else:
            insort(self._back, (turn, (waiter, holder, loop.time())), key=itemgetter(0))
        return waiter

    def leave(self, waiter: asyncio.Future[Slot]) -> None:
        """Wait no longer. Harmless for who was served."""
        if waiter.get_loop().is_closed():
            return
        if waiter.cancel() or waiter.cancelled():
            self._waiting -= 1
        self._left += 1
        if self._left > FEW + (len(self._queue) + len(self._back)) // 2:
            self._queue = deque(entry for entry in self._queue if not entry[0].done())
            self._back = [entry for entry in self._back if not entry[1][0].done()]
            self._left = 0

    def serve(self, slot: Slot) -> bool:
        """Hand `slot` over to whoever came first; whether there was somebody."""
        while self._back or self._queue:
            waiter, holder, since = self._next()
            if not waiter.done():
                slot.holders.append(holder)
                self._waiting -= 1
                try:
                    waiter.set_result(slot)
                except RuntimeError:
                    return True  # the loop was closed under him: when he is freed, he gives it back
                counts = self._counts
                counts.waits += 1
                counts.wait_seconds.append(waiter.get_loop().time() - since)
                return True
        return False

    def refuse(self, why: Callable[[], BaseException]) -> int:
        """Tell all of them why nobody will be served, each by an error of its own; how many they were."""
        refused = 0
        while self._back or self._queue:
            waiter, _, _ = self._next()
            if not waiter.done():
                waiter.set_exception(why())
                self._waiting -= 1
                refused += 1
        return refused

    def _next(self) -> tuple[asyncio.Future[Slot], Holder, float]:
        return self._back.pop(0)[1] if self._back else self._queue.popleft()

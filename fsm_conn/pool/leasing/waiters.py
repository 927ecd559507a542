"""Those who wait for a connection, first come, first served. Whoever was cancelled is passed over.

Who was served with something of no use, a link that was lost in that moment, comes back ahead of everybody who was not
served yet; and those who come back do so in the order in which they came first.

How many they are is counted and not looked up, for it is asked whenever one more comes. Who was cancelled is counted
until he leaves, which is one turn of the loop later.
"""

from __future__ import annotations

import asyncio
import math
import time
from asyncio import Future
from bisect import insort
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsm_conn.pool.slots.slot import Slot
    from fsm_conn.pool.stats import PoolStats
    from fsm_conn.pool.users import TaskRef

__all__ = ["CALL", "LEASE", "PATIENT", "Waiters"]

FEW = 16
"""Waiters who have left and may stay in the queue, whatever its length."""

LEASE, CALL, PATIENT = 0, 1, 2
"""What somebody waits for: a lease, or a slot to make one call through. PATIENT, added to either: through an outage."""

Entry = tuple["asyncio.Future[Slot]", "TaskRef", float, int]


class Waiters:
    """The queue of a pool.

    Args:
        counts: what counts how long those who were served had waited.

    Who leaves is passed over when his turn comes; when there are many of them, they are taken out.

    Attributes:
        clock: that of the loop.
        counted_before: who came later is not counted as having waited: he waited for a look only.
        waiting: how many there are.
        calls: how many of them wait to make a call, rather than for a lease.
    """

    __slots__ = ("_back", "_counts", "_left", "_queue", "_turns", "calls", "clock", "counted_before", "waiting")

    def __init__(self, counts: PoolStats) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self.counted_before = math.inf
        self._counts = counts
        self._queue: deque[Entry] = deque()
        self._back: list[tuple[int, Entry]] = []
        """Who came back, by turn."""
        self._left = self._turns = 0
        self.waiting = self.calls = 0

    def __len__(self) -> int:
        return self.waiting

    @property
    def leases(self) -> int:
        """How many wait for a lease."""
        return self.waiting - self.calls

    @property
    def demand(self) -> int:
        """How many leases would serve all of them: one slot does for all calls."""
        return self.leases + (self.calls > 0)

    def turn(self) -> int:
        """A place for who comes back, behind all whose turn was taken before. It is kept for the next time."""
        self._turns += 1
        return self._turns

    def join(
        self, user: TaskRef, loop: asyncio.AbstractEventLoop, wants: int = LEASE, *, turn: int | None = None
    ) -> asyncio.Future[Slot]:
        """Queue up. Done when a slot was handed over, or with the error that says why none will be.

        Args:
            user: what the slot is told when it is handed over.
            loop: the running loop.
            wants: LEASE or CALL, perhaps with PATIENT.
            turn: for who comes back, as `turn()` gave it.
        """
        waiter: Future[Slot] = Future(loop=loop)  # in its short form, for it is made for each wait
        self.waiting += 1
        if wants & CALL:
            self.calls += 1
        if turn is None:
            self._queue.append((waiter, user, self.clock(), wants))
        else:
            insort(self._back, (turn, (waiter, user, self.clock(), wants)), key=itemgetter(0))
        return waiter

    def leave(self, waiter: asyncio.Future[Slot], wants: int = LEASE) -> None:
        """Wait no longer. Harmless for who was served."""
        if waiter.get_loop().is_closed():
            return
        if waiter.cancel() or waiter.cancelled():
            self._count_out(wants)
        self._left += 1
        if self._left > FEW + (len(self._queue) + len(self._back)) // 2:
            self._keep(lambda entry: not entry[0].done())
            self._left = 0

    def head(self) -> int | None:
        """What the first waiting caller wants; None when nobody waits."""
        while self._back or self._queue:
            waiter, _, _, wants = self._back[0][1] if self._back else self._queue[0]
            if not waiter.done():
                return wants
            self._next()
        return None

    def serve(self, slot: Slot) -> bool:
        """Hand `slot` to the first waiting caller; return whether there was one."""
        while self._back or self._queue:
            waiter, user, since, wants = self._next()
            if not waiter.done():
                self.waiting -= 1
                if wants & CALL:
                    slot.callers.append(user)
                    self.calls -= 1
                else:
                    slot.holders.append(user)
                try:
                    waiter.set_result(slot)
                except RuntimeError:
                    return True  # the loop was closed under him: when he is freed, he gives it back
                if since < self.counted_before:
                    self._counts.note_wait(self.clock() - since)
                return True
        return False

    def refuse(self, why: Callable[[], BaseException], *, patient_too: bool = True) -> int:
        """Tell them why they will not be served, each by an error of its own; how many were told.

        Args:
            why: makes the error.
            patient_too: also those who wait through an outage.
        """
        refused = 0
        for waiter, _, _, wants in (*(entry for _, entry in self._back), *self._queue):
            if not waiter.done() and (patient_too or not wants & PATIENT):
                waiter.set_exception(why())
                self._count_out(wants)
                refused += 1
        self._keep(lambda entry: not entry[0].done())
        return refused

    def forget(self) -> None:
        """Their loop was closed: nobody waits any more."""
        self._queue, self._back = deque(), []
        self.waiting = self.calls = self._left = 0

    def _count_out(self, wants: int) -> None:
        self.waiting -= 1
        if wants & CALL:
            self.calls -= 1

    def _keep(self, which: Callable[[Entry], bool]) -> None:
        self._queue = deque(filter(which, self._queue))
        self._back = [each for each in self._back if which(each[1])]

    def _next(self) -> Entry:
        return self._back.pop(0)[1] if self._back else self._queue.popleft()

"""The queue of callers that wait for a connection: first come, first served. Cancelled callers are skipped.

A caller that was served with a link that was lost in that moment comes back ahead of all callers that were not served
yet. Several of these keep the order in which they first came.

The number of waiting callers is a counter, because it is read whenever another one comes. A cancelled caller is
counted until it leaves, one turn of the loop later.
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
"""Waiters that have left and may stay in the queue, whatever its length."""

LEASE, CALL, PATIENT = 0, 1, 2
"""What a caller waits for: a lease, or a slot for one call. PATIENT, added to either: wait through an outage."""

Entry = tuple["asyncio.Future[Slot]", "TaskRef", float, int]


class Waiters:
    """The queue of a pool.

    Args:
        counts: records how long callers waited before they were served.

    A waiter that leaves is skipped when its turn comes; when there are many of these, they are removed.

    Attributes:
        clock: the loop's clock.
        counted_before: callers that came later only waited for a check of the slots, which is not counted as waiting.
        waiting: how many callers wait.
        calls: how many of them wait for a call, rather than for a lease.
        calls_share: whether several calls may go through one slot.
    """

    __slots__ = (
        "_back",
        "_counts",
        "_left",
        "_queue",
        "_turns",
        "calls",
        "calls_share",
        "clock",
        "counted_before",
        "waiting",
    )

    def __init__(self, counts: PoolStats) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self.counted_before = math.inf
        self._counts = counts
        self._queue: deque[Entry] = deque()
        self._back: list[tuple[int, Entry]] = []
        """The callers that came back, by turn."""
        self._left = self._turns = 0
        self.waiting = self.calls = 0
        self.calls_share = True

    def __len__(self) -> int:
        return self.waiting

    @property
    def leases(self) -> int:
        """How many callers wait for a lease."""
        return self.waiting - self.calls

    @property
    def demand(self) -> int:
        """How many leases would serve all callers: one slot is enough for all calls that may share one."""
        return self.leases + (self.calls > 0 if self.calls_share else self.calls)

    def turn(self) -> int:
        """A place for a caller that comes back, behind all places given before. The caller keeps it for later."""
        self._turns += 1
        return self._turns

    def join(
        self, user: TaskRef, loop: asyncio.AbstractEventLoop, wants: int = LEASE, *, turn: int | None = None
    ) -> asyncio.Future[Slot]:
        """Queue up. The future is done when a slot was handed over, or with the error that says why none will be.

        Args:
            user: the task that the slot will record as its user.
            loop: the running loop.
            wants: LEASE or CALL, perhaps with PATIENT.
            turn: for a caller that comes back: its result of `turn()`.
        """
        waiter: Future[Slot] = Future(loop=loop)  # by its short name, which is quicker: each wait makes one
        self.waiting += 1
        if wants & CALL:
            self.calls += 1
        if turn is None:
            clock = self.clock
            self._queue.append((waiter, user, clock(), wants))
        else:
            insort(self._back, (turn, (waiter, user, self.clock(), wants)), key=itemgetter(0))
        return waiter

    def leave(self, waiter: asyncio.Future[Slot], wants: int = LEASE) -> None:
        """Stop waiting. Harmless for a caller that was served."""
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
            _ = self._back.pop(0) if self._back else self._queue.popleft()
        return None

    def serve(self, slot: Slot, now: float | None = None) -> bool:
        """Hand `slot` to the first waiting caller; return whether there was one. `now`: by the loop's clock."""
        while self._back or self._queue:
            waiter, user, since, wants = self._back.pop(0)[1] if self._back else self._queue.popleft()
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
                    return True  # the loop was closed: the caller gives the slot back when it is freed
                if since < self.counted_before:
                    seconds, counts = (self.clock() if now is None else now) - since, self._counts
                    counts.waits += 1
                    counts.waited += seconds
                    counts.wait_seconds.append(seconds)
                return True
        return False

    def refuse(self, why: Callable[[], BaseException], *, patient_too: bool = True) -> int:
        """Fail the waiters, each with an error of its own. Return how many there were.

        Args:
            why: makes the error.
            patient_too: also fail those that wait through an outage.
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

"""Delays handing out slots after the event loop was blocked, until the loop has noticed which links were lost.

While a callback or a task computes, the loop receives nothing. A slot that is handed out then may have lost its link
long ago. So a slot is handed out only within `FRESH` seconds of the last check. After that, or after an error under a
lease, which may be the first sign of a loss, free slots are set aside
for as many turns of the loop as news of a loss takes. Callers wait in the queue meanwhile; then the slots are put
back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from fsm_conn._util.timing import NEWS

if TYPE_CHECKING:
    from fsm_conn.pool.leasing.waiters import Waiters
    from fsm_conn.pool.slots.slot import Slot
    from fsm_conn.pool.slots.slots import Slots

__all__ = ["FRESH", "Lookout"]

FRESH = 0.1
"""Seconds after a check for which slots are handed out without another check."""


class Keeper(Protocol):
    """The owner of the slots."""

    slots: Slots
    waiters: Waiters
    is_serving: bool

    def put(self, slot: Slot) -> None:
        """Serve waiting callers from a slot, or keep it as a free one."""

    def settle(self, slot: Slot) -> None:
        """Do what is due to a slot that was given back."""


class Fast(Protocol):
    """The fast path of leases, which reads the clock and `due` where it has everything else."""

    due: float


class Lookout:
    """Checks free slots before they are handed out, when the loop may have been blocked.

    Args:
        keeper: the owner of the slots.

    Attributes:
        clock: the loop's clock.
        due: when the next check is due, by that clock.
        fast: the fast path of leases, which is told of each change of `due`.
    """

    __slots__ = ("_given_back", "_is_looking", "_keeper", "clock", "due", "fast")

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._is_looking = False
        self._given_back: list[Slot] = []
        self.clock: Callable[[], float] = time.monotonic
        self.due = 0.0
        self.fast: Fast | None = None

    def begin(self) -> Callable[[], float]:
        """The pool was opened in the running loop. Return the loop's clock."""
        loop = asyncio.get_running_loop()
        is_usual = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
        self.clock = time.monotonic if is_usual else loop.time  # the same as loop.time, without a Python frame
        self._is_looking, self._given_back = False, []
        self._set_due(self.clock() + FRESH)
        return self.clock

    def is_due(self) -> bool:
        """Whether the loop may have been blocked since the last check."""
        return self.clock() >= self.due

    def doubt(self) -> None:
        """A lease has ended with an error: perhaps its link is lost, and that is not known yet."""
        self._set_due(-math.inf)

    def _set_due(self, due: float) -> None:
        self.due = due
        if self.fast is not None:
            self.fast.due = due

    def look(self, *also: Slot) -> None:
        """Set aside the free slots, and `also`, which was just returned, until the loop has had its turns."""
        slots = self._keeper.slots
        self._given_back += also
        slots.set_aside += (*slots.free, *also)
        slots.free.clear()
        if not self._is_looking:
            self._is_looking = True
            self._set_due(self.clock())
            self._turn(asyncio.get_running_loop(), NEWS, self.clock())

    async def heard(self) -> None:
        """Wait until nothing is set aside; check first if that is due."""
        if self.is_due():
            self.look()
        while self._is_looking:  # noqa: ASYNC110 - only for a few turns, and no event outlives its loop
            await asyncio.sleep(0)

    def _turn(self, loop: asyncio.AbstractEventLoop, left: int, began: float) -> None:
        if left:
            loop.call_soon(self._turn, loop, left - 1, began)
            return
        if self.due == -math.inf:  # there was a doubt meanwhile: news of that takes as many turns
            self._set_due(self.clock())
            loop.call_soon(self._turn, loop, NEWS, began)
            return
        slots, self._is_looking = self._keeper.slots, False
        self._set_due(self.clock() + FRESH)
        aside, slots.set_aside = slots.set_aside, []
        if not self._keeper.is_serving:
            return
        given_back, self._given_back = self._given_back, []
        slots.free += [slot for slot in dict.fromkeys(aside) if slot.is_ready and slot.room and slot not in slots.free]
        waiters = self._keeper.waiters
        waiters.counted_before = began
        for slot in reversed(tuple(slots.free)):  # the slot to take first comes last
            self._keeper.put(slot)
        waiters.counted_before = math.inf
        for slot in given_back:
            self._keeper.settle(slot)

"""The life of a pool: the effects and activities that the table of `lifecycle` names.

The rules that hold here:

- Opening is all or nothing: when one connection has given up, none stays, and all causes are told.
- Nobody is served from the moment in which the pool is to be closed. Leases, and calls under way, are waited for as
  long as was said, but those of the tasks that wait for the closing.
- However the life ends, also with the loop, every slot is dismissed, and its connection closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar

from fsm_conn._util.text import named
from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Fires, State
from fsm_conn.pool.errors import PoolClosed, PoolUnavailableError
from fsm_conn.pool.place import Holder, Kind
from fsm_conn.pool.roster import SOON, Roster, unavailable
from fsm_conn.pool.table import POOL_STATES, POOL_TRANSITIONS, PoolState, PoolTrigger
from fsm_conn.pool.waiters import Waiters

__all__ = ["DRAIN_TIMEOUT", "PoolKeeper"]

_log = logging.getLogger("fsm_conn.pool")

DRAIN_TIMEOUT = 10.0
"""Seconds that closing waits for leases when it is not told otherwise."""
HOOK_PATIENCE = 10.0
"""Seconds that an `on_release` may take to end after it was cancelled, before it is left behind."""

_SERVING = frozenset({PoolState.OPENING, PoolState.OPEN})


class PoolKeeper(Roster, StateMachine):
    """The part of a pool that its table drives."""

    states: ClassVar[Sequence[State | str]] = POOL_STATES
    transitions: ClassVar[Sequence[Any]] = POOL_TRANSITIONS
    required_triggers = tuple(PoolTrigger)

    _was_forked: bool = False
    _is_claimed: bool = False
    """Whether somebody was told that it is open, who is to close it."""
    _drain_until: float | None = None
    _progress: tuple[Callable[[int, int], None], ...] = ()
    _closers: list[Holder]

    # --- effects --------------------------------------------------------------------------------------------

    def make_slots(self, reason: BaseException | None) -> None:
        """The regular slots and the standby; none is awake yet."""
        self._drain_until = self._now() + DRAIN_TIMEOUT
        self._is_claimed = False
        self._news = asyncio.Event()
        self._slots = [self._new_slot(Kind.REGULAR) for _ in range(self.policy.size + self.policy.standby)]

    def begin_service(self, reason: BaseException | None) -> None:
        """From here on leases go the short way, if there is nothing else to do for one."""
        self._progress = ()
        policy = self.policy
        self._is_slow = bool(
            policy.leases_per_connection > 1 or policy.max_idle is not None or self._on_acquire or self._on_release
        )

    def end_service(self, reason: BaseException | None) -> None:
        """Whoever waits learns at once that nobody is served any more, and why."""
        self._is_slow = True
        self._free.clear()
        self._counts.refused += self._line.refuse(lambda: self._closed_for(reason))
        self._tell()

    def forget_slots(self, reason: BaseException | None) -> None:
        """All of them are closed."""
        for slot in self._slots:
            self._counts.absorb(slot)
        self._slots = []
        self._resets = set()  # what has ignored its cancellation concerns no pool that is opened after this one
        self._progress = ()
        self._tell()

    # --- activities -----------------------------------------------------------------------------------------

    async def while_opening(self) -> Annotated[str, Fires(PoolTrigger.OPENED)]:
        """Wake all slots, and wait until they are in service. The first that cannot be ends it."""
        assert self._news is not None
        for slot in self._slots:
            slot.wake()
        told = -1
        while (ready := sum(slot.in_service for slot in self._slots)) < len(self._slots):
            if ready != told:
                self._report(ready)
                told = ready
            if any(slot.has_given_up for slot in self._slots):
                raise self._unavailable("could not be opened")
            await self._news.wait()
            self._news.clear()
        self._report(ready)
        return PoolTrigger.OPENED

    async def while_open(self) -> None:
        """Replace what is too old, and close what nobody needs."""
        assert self._news is not None
        self._provide()
        while True:
            self._news.clear()
            due = self._clean_up()
            with suppress(ExpiredError):
                await within(None if due is None else due - self._now(), self._news.wait())

    async def while_draining(self) -> Annotated[str, Fires(PoolTrigger.DRAINED)]:
        """Wait for the leases, as long as was said, then close all connections under whoever still holds them."""
        try:
            await self._returned_by_all()
        finally:
            for slot in self._slots:
                self._watch_closing(slot.dismiss())
        await self._closed_all()
        return PoolTrigger.DRAINED

    # --- the end of the loop --------------------------------------------------------------------------------

    async def on_loop_end(self) -> None:
        """Close all connections."""
        for slot in self._slots:
            self._watch_closing(slot.dismiss())
        await self._closed_all()

    def come_to_rest(self) -> None:
        """Close, without the activities."""
        for trigger in (PoolTrigger.CLOSE, PoolTrigger.DRAINED):
            if self.lifecycle.handles(self._state, trigger):
                self.fire(trigger)

    def on_loop_lost(self) -> None:
        """The connections went with their loop."""
        self._line = Waiters(self._counts)
        self._free = []
        self._resets, self._closing, self._watchers, self._news = set(), set(), set(), None
        for slot in self._slots:
            slot.is_closed = True

    # --- how it is done -------------------------------------------------------------------------------------

    def _is_serving(self) -> bool:
        return self._state in _SERVING and not self._was_forked and not self._is_loop_closed()

    def _is_open(self) -> bool:
        return self._state == PoolState.OPEN

    def is_ending(self) -> bool:
        """Whether the loop ends; in so many words, for the part that declares it comes first."""
        return StateMachine.is_ending(self)

    def _admit(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is self._loop and self._state in _SERVING and not self._was_forked:
            return loop
        if not self._was_forked:
            self.check_loop()
        if self._was_forked or self._state not in _SERVING:
            self._counts.refused += 1
            raise self._closed()
        return loop

    async def _returned_by_all(self) -> None:
        assert self._news is not None
        while users := sum(1 for _ in self._awaited()):
            self._news.clear()
            left = None if self._drain_until is None else self._drain_until - self._now()
            if left is not None and left < SOON:
                _log.warning("%r: %d leases or calls did not end in time, and are cut off", self, users)
                return
            with suppress(ExpiredError):
                await within(left, self._news.wait())

    def _awaited(self) -> Iterator[Any]:
        """Those that closing waits for: who waits for the closing is not among them."""
        for slot in self._slots:
            yield from (user for user in (*slot.holders, *slot.callers) if user not in self._closers)
        closers = [closer() for closer in self._closers]
        yield from (task for task in self._resets if task not in closers)

    async def _closed_all(self) -> None:
        for task in self._resets:
            task.cancel()
        if self._resets:
            await asyncio.wait(tuple(self._resets), timeout=HOOK_PATIENCE)
        while self._closing:
            await asyncio.wait(tuple(self._closing))

    def _report(self, ready: int) -> None:
        for progress in self._progress:
            progress(ready, len(self._slots))

    def _closed(self) -> PoolClosed:
        if self._was_forked:
            return PoolClosed(f"{self!r} belongs to the parent of this process; make a pool of its own here")
        if self._state == PoolState.CLOSED:
            return PoolClosed(f"{self!r} is closed: 'await pool.initialize()' first, or use 'async with'")
        return PoolClosed(f"{self!r} is being closed and serves nobody any more")

    def _closed_for(self, reason: BaseException | None) -> Exception:
        """What tells one of many why the pool was closed: an error of his own."""
        if isinstance(reason, PoolUnavailableError):
            return unavailable(f"{self!r} could not be opened", reason.causes)
        if reason is None:
            return PoolClosed(f"{self!r} was closed, and serves nobody any more")
        closed = PoolClosed(f"{self!r} was closed by an error: {named(reason)}")
        closed.__cause__ = reason
        return closed

    def _disown(self) -> None:
        """This is a child of the process that has opened it."""
        if self._state != PoolState.CLOSED:
            self._was_forked = self._is_slow = True
            self._free.clear()
            for slot in self._slots:
                slot.is_closed = True

"""Hands out slots and takes them back, for leases and for calls without one, and runs the hooks around that.

The rules that hold here:

- Slots are assigned synchronously. Nothing awaits between finding a slot and handing it over, so no cancellation can
  come in between. A caller that is cancelled after that gives the slot back in the same step.
- A lease is exclusive. Calls without a lease share a slot with one another. They share a slot with a lease only where
  the policy lets several leases share one.
- Whatever a hook or a caller raises, a slot that was taken is given back. After an interruption, the state of the link
  is unknown, and the link is replaced.

The set of slots is not decided here; see `supervisor`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Collection
from threading import get_ident
from typing import Any
from weakref import WeakSet

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.pool.errors import PoolFullError, PoolTimeoutError
from fsm_conn.pool.gate import Gate
from fsm_conn.pool.hooks import Hooks, ask, begun, using
from fsm_conn.pool.leasing.deadlocks import warn_of_deadlock
from fsm_conn.pool.leasing.waiters import CALL, LEASE, PATIENT
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.reasons import timed_out
from fsm_conn.pool.slots.generation import Generation
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.pool.slots.table import SlotTrigger
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.supervisor import Supervisor
from fsm_conn.pool.users import TaskRef, current_user

__all__ = ["Leases"]

_log = logging.getLogger("fsm_conn.pool")


class Leases:
    """The part of a pool that hands out slots and takes them back.

    Args:
        gate: admits callers.
        supervisor: the pool's.
        hooks: the pool's.
        counts: the pool's.

    Attributes:
        policy: the pool's.
        slots: the slots.
        waiters: the queue of callers.
        free: the slots that can be leased at once.
        is_slow: whether a lease may need more than taking a free slot and giving it back.
        loop, thread: the loop in which the pool is, or was last, open, and the thread in which it runs.
        lookout: checks slots before they are handed out, when the loop was blocked.
        clock, due: the loop's clock, and when the next check is due.
        watched: the held leases that are watched.
        lease_class: the class of its leases.
        before, after: the generations of leases that are not acquired yet, and that were released.
        warned: the task that was last warned because it waits for a slot that it holds itself.
    """

    def __init__(self, gate: Gate, supervisor: Supervisor, hooks: Hooks, counts: PoolStats) -> None:
        self.free = supervisor.slots.free
        self.is_slow = True
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread = 0
        self.lookout = supervisor.lookout
        self.lookout.fast = self
        self.clock, self.due = self.lookout.clock, self.lookout.due
        self.watched: WeakSet[Any] = WeakSet()
        self.warned: TaskRef | None = None
        self.gate = gate
        self.slots = supervisor.slots
        supervisor.lender = self
        self.lease_class: Any = None
        self.before, self.after = Generation(self), Generation(self)
        self._supervisor = supervisor
        self.policy: PoolPolicy = supervisor.policy
        self.waiters = supervisor.waiters
        self._hooks, self._counts = hooks, counts

    def __repr__(self) -> str:
        return repr(self.gate)

    def begin(self) -> None:
        """The pool was opened in the running loop."""
        self.loop, self.thread = asyncio.get_running_loop(), get_ident()
        self.clock = self.waiters.clock = self.lookout.begin()

    def hurry(self) -> None:
        """From here on take the fast path for leases, if nothing else is to be done for them."""
        policy, hooks = self.policy, self._hooks
        self.is_slow = bool(
            not self._supervisor.is_open
            or policy.leases_per_connection > 1
            or policy.max_idle is not None
            or hooks.on_acquire
            or hooks.on_release
            or self.slots.is_spread
        )

    # --- taking -----------------------------------------------------------------------------------------------

    def slot_for(self, holder: TaskRef, timeout: float | None) -> Awaitable[Slot]:
        """The slot for a lease, when the lease needs more than taking a free slot.

        When it only needs to wait, this returns the waiter itself, which is cheaper to await than a coroutine. Then
        the caller must call `leave` when that wait fails.
        """
        if self.free and self.lookout.is_due():
            self.gate.admit()
            self.lookout.look()
        limit = self.policy.acquire_timeout if timeout is None else timeout
        first = self.slots.first  # usually another task holds it, which is the quickest answer
        if limit != 0 and (first is None or not first.is_active or holder in first.holders):
            warn_of_deadlock(self, holder, self._supervisor.now())
        if limit is not None:
            return self._slot_in_time(holder, limit)
        if not self.is_slow and self.policy.max_waiters is None:  # as `_queue_up`, without the call
            assert self.loop is not None
            waiter = self.waiters.join(holder, self.loop)
            if not self.slots.is_complete:
                self._supervisor.provide()
            return waiter
        if self._hooks.on_acquire is not None or self.free:
            return self._agreed_slot(holder, LEASE)
        return self._queue_up(holder, self.gate.admit(), LEASE)

    def user(self) -> TaskRef:
        """The task that wants a slot. Raises when the caller is no task of the loop in which the pool was opened."""
        self.gate.admit()
        self.thread = get_ident()
        return current_user()

    async def another_slot(self, slot: Slot, holder: TaskRef) -> Slot:
        """Another slot, instead of one that was lost between being handed over and being checked."""
        self.give_back(slot, holder)
        return await self._agreed_slot(holder, LEASE, back=True)

    async def slot_for_call(self, caller: TaskRef, *, is_patient: bool, avoided: Collection[Slot] = ()) -> Slot:
        """The slot for a call without a lease: the least busy one that nobody leases.

        Args:
            caller: the task that calls.
            is_patient: whether the call waits through an outage.
            avoided: slots through which the call has failed: other slots are preferred.
        """
        shares = self.policy.leases_per_connection > 1
        back = False
        while True:
            await self.lookout.heard()
            loop = self.gate.admit()
            slot = self.slots.least_busy(avoided) if shares or not self.waiters else None
            if slot is not None:
                slot.callers.append(caller)
                if not slot.room:
                    self.slots.leave_free(slot)
                return slot
            wants = CALL | PATIENT if is_patient else CALL
            waiter = self._queue_up(caller, loop, wants, turn=self.waiters.turn() if back else None)
            try:
                slot = await waiter
            except BaseException:
                self.leave(waiter, caller, wants)
                raise
            if slot.is_clean:
                return slot
            back = True
            self.end_call(slot, caller)

    async def _slot_in_time(self, holder: TaskRef, limit: float) -> Slot:
        if limit == 0:
            return await self._slot_at_once(holder)
        try:
            return await within(limit, self._agreed_slot(holder, PATIENT))
        except ExpiredError:
            raise self.timed_out(limit) from self.slots.cause

    def timed_out(self, limit: float) -> PoolTimeoutError:
        """The error for a caller whose time is up, who is counted."""
        self._counts.timeouts += 1
        return timed_out(self, limit, self.slots.cause)

    async def _slot_at_once(self, holder: TaskRef) -> Slot:
        """A free slot, now. Nothing is started and nothing waits, except for `on_acquire`."""
        self.gate.admit()
        await self.lookout.heard()
        self.gate.admit()
        while self.free:
            slot = self._take_free(holder)
            if await self._is_agreed(slot, holder, is_last=False):
                return slot
        self._counts.timeouts += 1
        raise PoolTimeoutError(f"{self!r}: no connection is free, and the caller does not wait")

    async def _agreed_slot(self, holder: TaskRef, wants: int, *, back: bool = False) -> Slot:
        """A slot in service that `on_acquire` has accepted. `back`: it replaces one that was refused or lost."""
        # The hook may take longer for some callers than for others, so callers keep the order in which they came.
        turn = self.waiters.turn() if back or self._hooks.on_acquire is not None else 0
        refusals, most = 0, len(self.slots)
        while True:
            loop = self.gate.admit()
            if self.free:
                slot = self._take_free(holder)
            else:
                waiter = self._queue_up(holder, loop, wants, turn=turn if back or refusals else None)
                try:
                    slot = await waiter
                except BaseException:
                    self.leave(waiter, holder, wants)
                    raise
            if holder in slot.holders and await self._is_agreed(slot, holder, is_last=refusals >= most):
                return slot
            refusals += 1
            turn = turn or self.waiters.turn()

    async def _is_agreed(self, slot: Slot, holder: TaskRef, *, is_last: bool) -> bool:
        """Whether `on_acquire` accepted the slot, and it is still in service.

        When the hook refuses or is interrupted, the link is replaced. For the last slot, the hook's error is raised.
        """
        generation = slot.generation
        if self._hooks.on_acquire is not None:
            try:
                await ask("on_acquire", self._hooks.on_acquire, slot.conn, self.policy.hook_timeout)
            except BaseException as error:
                slot.is_doubtful = True
                if not generation.is_over:  # otherwise its loss has been told already
                    was_clean = slot.is_clean
                    slot.try_to_fire(SlotTrigger.SPOIL)
                    if was_clean and isinstance(error, Exception):
                        self._supervisor.hook_failed(slot, "on_acquire", error)
                    self.give_back(slot, holder)
                if is_last or not isinstance(error, Exception):
                    raise
                return False
            slot.is_doubtful = False
        if not generation.is_over:
            if slot.is_clean:
                return True
            self.give_back(slot, holder)
        return False

    def _take_free(self, holder: TaskRef) -> Slot:
        """A free slot, the least busy one."""
        if self.slots.is_spread:
            load = self.slots.load()
            slot = min(
                reversed(self.free), key=lambda each: (each.target.is_doubtful, load[each.target], _burden(each))
            )
        else:
            slot = min(reversed(self.free), key=_burden)
        slot.holders.append(holder)
        if slot.room == 0:
            self.free.remove(slot)
        return slot

    def _queue_up(
        self, user: TaskRef, loop: asyncio.AbstractEventLoop, wants: int, *, turn: int | None = None
    ) -> asyncio.Future[Slot]:
        """Wait for a slot that is given back, or for one that is started now."""
        most = None if turn is not None or wants & CALL else self.policy.max_waiters
        if most is not None and self.waiters.leases >= most + self.slots.to_come(loop.time()):
            self._counts.refused += 1
            raise PoolFullError(f"{self!r}: {most} wait for a connection already, and max_waiters allows no more")
        waiter = self.waiters.join(user, loop, wants, turn=turn)
        self._supervisor.provide()
        return waiter

    def leave(self, waiter: asyncio.Future[Slot], user: TaskRef, wants: int = LEASE) -> None:
        """The waiter was refused or cancelled, perhaps in the moment in which it was served."""
        self.waiters.leave(waiter, wants)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            if wants & CALL:
                self.end_call(waiter.result(), user)
            else:
                self.give_back(waiter.result(), user)

    # --- giving back --------------------------------------------------------------------------------------------

    def returned(self, slot: Slot, holder: TaskRef, generation: Generation) -> None:
        """A lease is over."""
        if get_ident() != self.thread:
            self._call_soon(slot, holder, generation)
        elif generation.is_over:
            return  # the lease ended when its link was lost
        elif self.is_slow or not generation.is_plain:
            self._returned_slowly(slot, holder, generation)
        else:
            slot.holders.remove(holder)
            if self.waiters.waiting:
                self.pass_on(slot)
            else:
                self.free.append(slot)

    def pass_on(self, slot: Slot) -> None:
        """Hand a slot that can be leased, and that nobody leases any more, to the first waiting caller."""
        clock = self.clock
        now = clock()
        if now >= self.due and asyncio._get_running_loop() is not None:
            self.lookout.look(slot)  # not when the loop was closed: then there are no turns to wait for
        elif not self.waiters.serve(slot, now):
            self.free.append(slot)
        elif slot.callers:
            self._supervisor.put(slot)  # it may take more calls

    def spoil(self, slot: Slot) -> None:
        """The slot is about to be given back, and nobody may use its link again."""
        if get_ident() != self.thread:
            if self.loop is not None and not self.loop.is_closed():
                self.loop.call_soon_threadsafe(slot.try_to_fire, SlotTrigger.SPOIL)
        else:
            slot.try_to_fire(SlotTrigger.SPOIL)

    def _returned_slowly(self, slot: Slot, holder: TaskRef, generation: Generation) -> None:
        if self.loop is not None and not self.loop.is_closed() and not _is_running(self.loop):
            self._call_soon(slot, holder, generation)  # what is to be done needs the loop
            return
        try:
            if self._supervisor.is_serving and slot.is_clean:
                self._reset(slot)
        finally:
            self.give_back(slot, holder)

    def _call_soon(self, slot: Slot, holder: TaskRef, generation: Generation) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._returned_here, slot, holder, generation)

    def _returned_here(self, slot: Slot, holder: TaskRef, generation: Generation) -> None:
        """Give back the slot in the loop, in whatever thread the loop runs by now."""
        self.thread = get_ident()
        self.returned(slot, holder, generation)

    def give_back(self, slot: Slot, holder: TaskRef) -> None:
        """The holder does not use the slot any more, unless it was taken from the holder before."""
        if holder in slot.holders:
            slot.holders.remove(holder)
        self._settle(slot)

    def end_call(self, slot: Slot, caller: TaskRef) -> None:
        """A call that went through the slot has ended."""
        slot.callers.remove(caller)
        self._settle(slot)

    def _settle(self, slot: Slot) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self._supervisor.settle(slot)

    def _reset(self, slot: Slot) -> None:
        """Have the link's `reset` and `on_release` clean up; nobody gets the slot before they have ended."""
        conn, hook = slot.conn, self._hooks.on_release
        if slot.has_reset:
            slot.reset("reset", using(conn, lambda link: link.reset(link.driver)))
        if hook is None:
            return
        try:
            outcome = begun(hook, conn)
        except BaseException as error:
            slot.try_to_fire(SlotTrigger.SPOIL)
            if not isinstance(error, Exception):
                raise
            self._supervisor.hook_failed(slot, "on_release", error)
            return
        if inspect.isawaitable(outcome):
            slot.reset("on_release", outcome)

    # --- leases that are not released -------------------------------------------------------------------------------

    def overdue(self, lease: object, place: str) -> None:
        """A lease has been held for longer than its limit."""
        _log.warning("%r has been held for %g s, and is perhaps forgotten%s", lease, self.policy.lease_limit, place)

    def forgotten(self, slot: Slot, holder: TaskRef, generation: Generation, what: str) -> None:
        """A lease was dropped: recover its slot. Called from any thread, because garbage is collected in any."""
        if not generation.is_over:
            self._counts.leaked += 1
            _log.error("%s", what)
            self._call_soon(slot, holder, generation)


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is called from `loop`."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _burden(slot: Slot) -> tuple[bool, int]:
    return slot.is_doubtful or slot.is_old, len(slot.holders)

"""Decides about slots: which callers they serve, and which slots are woken, opened, replaced and closed.

The rules that hold here:

- The supervisor decides by what slots report and by the clock. It looks into no connection.
- A slot is free exactly when it is ready and has room for a lease. While a caller waits, no slot is free.
- Overflow is opened as soon as a caller would have to wait for a lease to be returned. It is tried again, with pauses,
  as long as a caller waits.
- When no slot is in service and every attempt has failed, callers without a timeout get the error at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from fsm_conn._util.text import said, traced
from fsm_conn.links.target import Target
from fsm_conn.pool.errors import HookTimeoutError, PoolUnavailableError
from fsm_conn.pool.gate import Gate
from fsm_conn.pool.leasing.lookout import Lookout
from fsm_conn.pool.leasing.waiters import CALL, Waiters
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.reasons import unavailable
from fsm_conn.pool.slots.kind import Kind
from fsm_conn.pool.slots.slot import SOON, Slot
from fsm_conn.pool.slots.slots import Plan, Slots
from fsm_conn.pool.slots.table import SlotState, SlotTrigger
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.targets.moves import Moves
from fsm_conn.pool.targets.target import PoolTarget
from fsm_conn.pool.targets.targets import Targets

__all__ = ["Supervisor"]

_log = logging.getLogger("fsm_conn.pool")


class Supervisor:
    """The part of a pool to which its slots report.

    Args:
        gate: names the pool in messages.
        policy: the pool's.
        targets: the pool's.
        make: makes a slot of a kind, for a target; the slot reports to the given owner.
        counts: the pool's.

    Attributes:
        slots: the slots.
        moves: moves the slots between targets.
        waiters: the queue of callers.
        lookout: checks slots before they are handed out, when the loop was blocked.
        is_serving: whether free slots go to callers, rather than being closed.
        is_open: whether all connections have been up once, so that more are started for waiting callers.
        news: set whenever something has changed.
        lender: hands out the slots, and takes them back.
    """

    lender: Any

    def __init__(
        self,
        gate: Gate,
        policy: PoolPolicy,
        targets: Targets,
        make: Callable[[Kind, Supervisor, PoolTarget], Slot],
        counts: PoolStats,
    ) -> None:
        self.slots = Slots(policy, counts, targets)
        self.waiters = Waiters(counts)
        self.lookout = Lookout(self)
        self.is_serving = self.is_open = False
        self.news = asyncio.Event()
        self.policy, self._gate, self._targets, self._make = policy, gate, targets, make
        self.moves = Moves(self.slots, targets, self._made, self.retire)
        self._told: deque[tuple[str, type, str]] = deque(maxlen=8)
        self._told_cause, self._counts = "", counts

    def begin(self) -> None:
        """Start to make slots, which may then be woken."""
        self.news = asyncio.Event()  # an event belongs to one loop
        for target in self._targets:
            target.forget()
        made: list[Slot] = []
        for _ in range(self.policy.size + self.policy.standby):
            made.append(self._make(Kind.REGULAR, self, self._targets.place(made)))
        self.slots.add(*made)
        self.is_serving, self.is_open, self.moves.is_open = True, False, False

    def open(self) -> None:
        """All connections have been up once: from here on start more for waiting callers."""
        self.is_open = self.moves.is_open = True

    def end(self) -> None:
        """Serve nobody any more."""
        self.is_serving = self.is_open = False
        self.slots.free.clear()
        for slot in self.slots:
            slot.subscribers.dismiss()
        self.news.set()

    # --- reports of slots -----------------------------------------------------------------------------------------

    def slot_moved(self, slot: Slot, *, was_in_service: bool) -> None:
        """A slot has entered a state."""
        if slot.in_service is not was_in_service:
            self.slots.recount()
        if slot.in_service and not was_in_service:
            self._came_up(slot)
        elif was_in_service and not slot.in_service:
            self._went_down(slot)
        elif slot.in_service:
            self.settle(slot)
        elif slot.state == SlotState.CLOSED:
            self.slots.leaving.discard(slot)
        elif slot.state == SlotState.OPENING and self.is_serving and self.moves.starts(slot):
            self.provide()
        self.news.set()

    def slot_in_trouble(self, slot: Slot) -> None:
        """An attempt to connect has failed."""
        is_gone = self.is_serving and self.moves.in_trouble(slot, self.now(), self.policy)
        self.provide()
        self.news.set()
        if is_gone:
            return
        if slot.is_overflow and slot.backoff.failures:
            self.slots.pause_overflow(slot, self.now())
        if slot.is_overflow and slot in self.slots and not self.waiters:
            self.retire(slot)

    def slot_probed(self, slot: Slot) -> None:
        """A probe of the slot's driver, which cannot be leased meanwhile, has begun or ended."""
        if self.is_serving:
            self.put(slot)
            self.news.set()

    def gave_up(self, slot: Slot, *, is_news: bool) -> None:
        """A connection has given up. When several fail alike, only the first log line has all of the error."""
        text, before = "" if slot.cause is None else said(slot.cause), self._told_cause
        self._told_cause = text
        why = "the same error" if text == before else text
        then = f", and is tried again in {slot.backoff.wait:.3g} s" if self.is_open else ""  # or the pool gives up, too
        _log.log(logging.WARNING if is_news else logging.DEBUG, "%r has given up%s: %s", slot.conn, then, why)

    def hook_failed(self, slot: Slot, hook: str, error: Exception) -> None:
        """A hook has raised. An error that many slots report alike is logged in full once."""
        told = hook, type(error), str(error)
        if isinstance(error, HookTimeoutError):  # where it was cancelled, the error does not tell
            _log.warning("%r: %s, so its link is replaced", slot.conn, error)
        elif told not in self._told:
            self._told.append(told)
            _log.warning("%r: %s failed, so its link is replaced", slot.conn, hook, exc_info=traced(error))
        else:
            _log.warning("%r: %s failed as before: %s", slot.conn, hook, said(error))

    def _came_up(self, slot: Slot) -> None:
        slot.target.came_up()
        self._told_cause = ""
        self.waiters.calls_share = not slot.is_exclusive or slot.policy.leases_per_connection > 1
        if slot.predecessor is not None:
            if not self.moves.takes_place(slot, slot.predecessor):
                self.retire(slot)
                return
            self._succeed(slot, slot.predecessor)
        elif (other := self.slots.successor(slot)) is not None and other.target is slot.target:
            self.retire(other)  # the link is fresh anyway
        if slot.is_overflow or self.slots.active() < self.policy.size:
            slot.activate(True)
        self.settle(slot)
        self.provide()  # for callers that counted on a slot that has become standby
        self.news.set()

    def _went_down(self, slot: Slot) -> None:
        self.slots.leave_free(slot)
        if slot.conn.state not in slot.conn.serving_states:
            slot.target.is_doubtful = True
        was_active = slot.is_active
        slot.activate(False)
        if not self.is_serving:
            return
        if slot.is_replaced and slot in self.slots:
            self.retire(slot)
        if was_active and not slot.is_overflow and (other := self.slots.standby()) is not None:
            other.activate(True)
            self.put(other)
        self.provide()
        self.news.set()

    # --- decisions ------------------------------------------------------------------------------------------------

    def settle(self, slot: Slot) -> None:
        """Do what is due to a slot that has changed. If nothing is due, let callers lease it."""
        if not self.is_serving or slot.is_retired:
            self.news.set()
            return
        if not slot.is_used and slot.in_service:
            slot.idle_since = self.now()
            if self._renew(slot):
                return
        self.put(slot)

    def _renew(self, slot: Slot) -> bool:
        """Nobody uses the slot: replace its link or close it, if that is due. Return whether it was."""
        is_extra = slot.is_overflow and self.slots.serving() > 0  # overflow that alone serves is kept
        is_spare = is_extra and (self.policy.overflow_linger == 0 or slot.is_old) and not self.waiters
        if slot.is_replaced or is_spare:
            self.retire(slot)
        elif slot.is_stale or (slot.is_old and (is_extra or self.slots.may_replace(slot))):
            slot.try_to_fire(SlotTrigger.REPLACE)
        else:
            if slot.is_old and not slot.is_overflow and self.slots.serving() <= 1:
                self._have_succeeded(slot)
            return False
        return True

    def _have_succeeded(self, old: Slot) -> None:
        """This is the last slot in service: open another, and close this one when the other is up."""
        if self.slots.successor(old) is None and (slot := self._made(Kind.REGULAR, old.target)) is not None:
            slot.predecessor = old
            self.slots.add(slot)
            slot.fire(SlotTrigger.WAKE)

    def _succeed(self, slot: Slot, old: Slot) -> None:
        slot.predecessor = None
        if old in self.slots:
            is_active = old.is_active
            self.slots.give_up(old)
            slot.activate(is_active)
            if old.in_service:
                self.settle(old)
            else:
                self.retire(old)

    def put(self, slot: Slot) -> None:
        """Serve waiting callers from a slot, as long as it has room; if room is left, the slot is free."""
        if slot.is_ready and self.waiters and self.lookout.is_due():
            self.lookout.look(slot)
            return
        if slot.is_ready:
            while (wants := self.waiters.head()) is not None:
                if not (slot.takes_calls if wants & CALL else slot.room) or not self.waiters.serve(slot):
                    break
        if slot.is_ready and slot.room:
            self.slots.put_free(slot)
        else:
            self.slots.leave_free(slot)

    def provide(self) -> None:
        """A caller waits: wake or make as many slots as needed, or fail the callers when none can be had."""
        if not self.slots.is_complete and self.waiters and self.is_open:
            self.news.set()  # something else may be due now
            self._follow(self.slots.plan(self.waiters.demand, self.now()))

    def _follow(self, plan: Plan) -> None:
        if plan.is_hopeless:
            self._counts.refused += self.waiters.refuse(self.why_unavailable, patient_too=False)
            if not self.waiters:
                return
        for slot in plan.wake:
            slot.try_to_fire(SlotTrigger.WAKE)
        for _ in range(plan.overflow):
            if not self._open_overflow():
                break

    def _open_overflow(self) -> bool:
        """Open one more; return whether that worked. An error of its constructor does not reach any caller."""
        if (slot := self._made(Kind.OVERFLOW, self._targets.place(self.slots))) is None:
            return False
        self.slots.add(slot)
        slot.fire(SlotTrigger.WAKE)
        slot.backoff.forget(self.slots.overflow_failures)
        return True

    def _made(self, kind: Kind, target: PoolTarget) -> Slot | None:
        try:
            return self._make(kind, self, target)
        except Exception:
            _log.exception("%r: a connection beyond its size could not be made", self._gate)
            return None

    # --- what is due ------------------------------------------------------------------------------------------------

    def clean_up(self) -> float | None:
        """Do what is due. Return when more will be due, by the loop's clock, if nothing happens meanwhile."""
        now = self.now()
        later = self.moves.clean_up(now)
        for slot in [each for each in self.slots if each.is_old and each.in_service and not each.is_used]:
            self._renew(slot)
        for slot in tuple(self.slots):
            for due, chore in ((slot.expires_at, self._expire), (self._idle_until(slot, now), self._close)):
                if due is None or not slot.in_service:
                    continue
                if due > now + SOON:
                    later.append(due)
                elif chore == self._expire or not slot.is_used:
                    chore(slot)
        if self.waiters:
            self._follow(self.slots.plan(self.waiters.demand, now))
            slow = [slot.slow_at for slot in self.slots]
            later += [due for due in (*slow, self.slots.overflow_at) if due is not None and due > now + SOON]
        return min(later, default=None)

    def _expire(self, slot: Slot) -> None:
        """The link is too old: replace it when nobody uses it and another slot serves."""
        slot.expire()
        self.slots.leave_free(slot)
        self.settle(slot)

    def expire_all(self) -> None:
        """Have all present links replaced, one after the other, as they become unused and others serve."""
        for slot in tuple(self.slots):
            slot.outdate()
            self.slots.leave_free(slot)
            self.settle(slot)
        self.news.set()

    def resize(self, policy: PoolPolicy) -> None:
        """Apply a policy of another size: start more slots, or close surplus ones when nobody uses them."""
        more = policy.size - self.policy.size
        self.policy = policy
        self.slots.follow(policy)
        for _ in range(more if self.is_open else 0):
            if (slot := self._made(Kind.REGULAR, self._targets.place(self.slots))) is not None:
                self.slots.add(slot)
                slot.fire(SlotTrigger.WAKE)
        for slot in self.slots.to_spare(-more):
            if (successor := self.slots.successor(slot)) is not None:
                self.retire(successor)
            self.slots.give_up(slot)
            if not slot.is_used:
                self.retire(slot)
        self._even_active()
        self.provide()

    def _even_active(self) -> None:
        """Make as many regular slots active as allowed, those in use first: the others are standby."""
        regular = [slot for slot in self.slots if not (slot.is_overflow or slot.is_replaced) and slot.in_service]
        for number, slot in enumerate(sorted(regular, key=lambda slot: (not slot.is_used, not slot.is_active))):
            slot.activate(number < self.policy.size)
            self.put(slot)

    def add_target(self, target: Target) -> None:
        """Start to connect to one more target."""
        self._targets.add(target)
        if self.is_serving:
            self.moves.join()
        self.provide()
        self.news.set()

    def remove_target(self, target: Target) -> list[Slot]:
        """Stop using a target. Return the slots that are still to be closed."""
        gone = self._targets.remove(target)
        if self.is_serving:
            self.moves.leave(gone)
            self._even_active()
        self.provide()
        self.news.set()
        return [slot for slot in (*self.slots, *self.slots.leaving) if slot.target is gone]

    def _idle_until(self, slot: Slot, now: float) -> float | None:
        """When a slot will have been idle for too long, if nobody uses it from now on; None: never."""
        since = now if slot.is_used else slot.idle_since
        if slot.is_overflow:
            return since + self.policy.overflow_linger if self.slots.serving() else None
        if self.policy.max_idle is None or self.slots.serving() <= self.policy.min_idle + self.policy.standby:
            return None
        return since + self.policy.max_idle

    def _close(self, slot: Slot) -> None:
        """Nobody needs the slot: overflow is retired, another slot sleeps until it is needed."""
        if slot.is_overflow:
            self.retire(slot)
        else:
            slot.try_to_fire(SlotTrigger.SLEEP)

    def retire(self, slot: Slot) -> None:
        """Take the slot out of the pool, and with it a successor that is not up yet."""
        if (other := self.slots.successor(slot)) is not None:
            self.retire(other)
        self.slots.remove(slot)
        self.slots.leaving.add(slot)
        slot.fire(SlotTrigger.RETIRE)

    # --- for messages -------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """The time by the loop's clock."""
        return asyncio.get_running_loop().time()

    def why_unavailable(self, what: str = "has no connection") -> PoolUnavailableError:
        """The error that says that the pool has no connection, with all causes."""
        causes = [slot.cause for slot in self.slots if slot.cause is not None]
        if len(self._targets) > 1:
            causes += [target.cause for target in self._targets if target.cause not in (None, *causes)]  # type: ignore[misc]
        return unavailable(f"{self._gate!r} {what}", causes)

"""The slots of a pool: regular ones, standby and overflow, and which of them are free.

The rules that hold here:

- Of the regular slots in service, at most `size` are *active*, which means that they can be leased. The others are
  standby. When an active slot goes out of service, a standby slot becomes active at once.
- Only slots in service are capacity. A slot that hangs, fails or sleeps does not count towards a minimum, and does not
  prevent another from being started.
- `plan` computes what to start for waiting callers. It changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sized

import attrs

from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.slot import SOON, Slot
from fsm_conn.pool.slots.table import SlotState
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.targets.target import PoolTarget
from fsm_conn.pool.users import TaskRef

__all__ = ["Plan", "Slots"]


@attrs.frozen
class Plan:
    """What to do for the callers that wait."""

    wake: tuple[Slot, ...] = ()
    """Sleeping slots that are needed."""
    overflow: int = 0
    """Connections to open beyond the pool's size."""
    is_hopeless: bool = False
    """Whether no slot is in service or on its way, and every attempt has failed."""


class Slots:
    """The slots of one pool.

    Args:
        policy: the pool's.
        counts: keeps the counts of slots that have left the pool.
        targets: the pool's targets.

    Attributes:
        free: slots that are ready and have room for a lease, in reverse order: the last one is taken first.
        set_aside: slots that were free, and are checked before they are handed out.
        leaving: slots that were retired, and are still being closed.
        first: one of the slots, if there are any.
        is_complete: whether there is usually nothing that could be started. A quick test: it is asked on every wait.
        overflow_failures: how many times in a row overflow has failed.
        overflow_at: when overflow may be opened again, by the loop's clock.
    """

    def __init__(self, policy: PoolPolicy, counts: PoolStats, targets: Sized) -> None:
        self.policy = policy
        self.free: list[Slot] = []
        self.set_aside: list[Slot] = []
        self.leaving: set[Slot] = set()
        self.overflow_failures = 0
        self.is_complete = False
        self.first: Slot | None = None
        self.overflow_at = 0.0
        self._targets = targets
        self._counts = counts
        self._slots: list[Slot] = []
        self._most = policy.size + policy.standby + policy.max_overflow
        self._is_plain = policy.max_idle is None and policy.max_lifetime is None

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, slot: object) -> bool:
        return slot in self._slots

    # --- which there are ----------------------------------------------------------------------------------------

    def add(self, *slots: Slot) -> None:
        """Add slots."""
        self._slots += slots
        self.recount()

    def remove(self, slot: Slot) -> None:
        """Remove a retired slot, and keep its counts."""
        if slot.is_overflow and slot.in_service:
            self.overflow_failures = 0
        self._slots.remove(slot)
        self.recount()
        self.leave_free(slot)
        self._counts.absorb(slot)
        slot.target.absorb(slot)

    def pause_overflow(self, slot: Slot, now: float) -> None:
        """A slot of overflow has failed: the next one inherits its count of attempts and its pause."""
        self.overflow_failures = slot.backoff.failures
        self.overflow_at = now + slot.backoff.wait

    def clear(self) -> None:
        """All slots have left the pool: when it is opened again, earlier failures do not count."""
        self.overflow_failures, self.overflow_at = 0, 0.0
        for slot in self._slots:
            self._counts.absorb(slot)
            slot.target.absorb(slot)
        self._slots, self.set_aside, self.is_complete, self.first = [], [], False, None
        self.free.clear()
        self.leaving = set()

    def give_up(self, slot: Slot) -> None:
        """The slot is not needed any more, and leaves when nobody uses it."""
        slot.activate(False)
        slot.expire(is_replaced=True)
        self.leave_free(slot)
        self.recount()

    def recount(self) -> None:
        """There are other slots now, or others are in service."""
        self.first = next(iter(self._slots), None)
        extra = sum(slot.is_replaced or slot.predecessor is not None for slot in self._slots)
        self.is_complete = self._is_plain and len(self._slots) - extra >= self._most and self._slots[0].in_service

    def follow(self, policy: PoolPolicy) -> None:
        """Apply another policy, which may allow more or fewer slots."""
        self.policy = policy
        self._most = policy.size + policy.standby + policy.max_overflow
        for slot in self._slots:
            slot.policy = policy
        self.recount()

    def to_spare(self, count: int) -> list[Slot]:
        """The `count` regular slots that would be missed least."""
        regular = [slot for slot in self._slots if not (slot.is_overflow or slot.is_replaced or slot.predecessor)]
        return sorted(regular, key=lambda slot: (slot.in_service, slot.is_used))[: max(0, count)]

    @property
    def cause(self) -> BaseException | None:
        """The last error of a slot that could not connect."""
        return next((slot.cause for slot in self._slots if slot.cause is not None), None)

    @property
    def is_spread(self) -> bool:
        """Whether the slots are spread over several targets."""
        return len(self._targets) > 1

    # --- free slots -----------------------------------------------------------------------------------------------

    def put_free(self, slot: Slot) -> None:
        """The slot can be leased. Slots are taken from the end: overflow, and doubtful or old ones, are taken last."""
        if slot not in self.free:
            is_last = slot.is_overflow or slot.is_doubtful or slot.is_old
            self.free.insert(0 if is_last else len(self.free), slot)

    def leave_free(self, slot: Slot) -> None:
        """The slot cannot be leased any more, if it could."""
        if slot in self.free:
            self.free.remove(slot)

    def are_held_by(self, holder: TaskRef) -> bool:
        """Whether one task holds all active slots, and none is being opened: it would wait for itself."""
        is_any = False
        for slot in self._slots:
            if slot.is_active:
                is_any = True
                if not slot.holders or slot.callers:
                    return False
                for each in slot.holders:
                    if each is not holder:
                        return False
            elif not (slot.in_service or slot.is_asleep):
                return False
        return is_any

    # --- active slots ---------------------------------------------------------------------------------------------

    def active(self) -> int:
        """How many regular slots are active, rather than standby."""
        return sum(slot.is_active and not slot.is_overflow for slot in self._slots)

    def standby(self) -> Slot | None:
        """A standby slot, if there is one."""
        for slot in sorted(self._slots, key=_doubt):
            if slot.in_service and not (slot.is_active or slot.is_overflow or slot.is_replaced):
                return slot
        return None

    def serving(self) -> int:
        """How many regular slots are in service, standby included."""
        return sum(slot.in_service and not slot.is_overflow for slot in self._slots)

    def may_replace(self, old: Slot) -> bool:
        """Whether a slot's link may be closed for its age: only while all others serve, and there are others."""
        others = [slot for slot in self._slots if not (slot is old or slot.is_overflow or slot.is_asleep)]
        return bool(others) and all(slot.in_service for slot in others)

    def successor(self, old: Slot) -> Slot | None:
        """The slot that is to replace `old`, the last one in service."""
        return next((slot for slot in self._slots if slot.predecessor is old), None)

    def least_busy(self, avoided: Collection[Slot] = ()) -> Slot | None:
        """The slot for a call without a lease: preferably one whose link is not to be replaced. None: there is no slot.

        Args:
            avoided: slots through which the call has failed. A slot of another target is better than them; next, any
                other slot.
        """
        usable = [slot for slot in self._slots if slot.takes_calls and slot.is_ready]
        if self.is_spread:
            load, failed = self.load(), {slot.target for slot in avoided}
            return min(
                usable,
                default=None,
                key=lambda each: (
                    each.target in failed,
                    each in avoided,
                    _doubt(each),
                    *_burden(each)[:2],
                    load[each.target],
                    _burden(each),
                ),
            )
        return min(usable, key=lambda each: (each in avoided, _burden(each)), default=None)

    def load(self) -> Counter[PoolTarget]:
        """How many leases and calls each target has."""
        load: Counter[PoolTarget] = Counter()
        for slot in self._slots:
            load[slot.target] += len(slot.holders) + len(slot.callers)
        return load

    # --- what to start ----------------------------------------------------------------------------------------------

    def plan(self, waiting: int, now: float) -> Plan:
        """What to start for `waiting` callers."""
        if self.is_hopeless():
            return Plan(overflow=self._overflow_for(waiting, now), is_hopeless=True)
        asleep = [slot for slot in self._slots if slot.is_asleep]
        if self.is_spread:
            asleep.sort(key=lambda slot: slot.target.is_left_out)
        asleep = asleep[: self._places(now)]
        each = self.policy.leases_per_connection
        missing = -(-(waiting - self.coming(now)) // each)
        wake = tuple(asleep[: max(0, missing)])
        return Plan(wake, self._overflow_for((missing - len(wake)) * each, now))

    def is_hopeless(self) -> bool:
        """Whether no slot is in service, on its way, or asleep, and every attempt has failed."""
        return any(slot.cause is not None for slot in self._slots) and not any(
            slot.is_hopeful or slot.is_asleep for slot in self._slots
        )

    def coming(self, now: float) -> int:
        """How many waiting callers could be served when all starts under way succeed."""
        coming = [slot for slot in self._slots if slot.is_coming(now)]
        fresh = [slot for slot in coming if not slot.in_service]
        rooms = [slot.room for slot in fresh if not slot.is_overflow][: max(0, self.policy.size - self.active())]
        rooms += [slot.room for slot in fresh if slot.is_overflow]
        rooms += [slot.room for slot in coming if slot.state == SlotState.RESETTING]
        rooms += [slot.room for slot in self.set_aside if slot.is_ready]
        rooms += [self.policy.leases_per_connection for slot in coming if slot.in_service and slot.is_ready]  # probed
        return sum(rooms)

    def to_come(self, now: float) -> int:
        """How many waiting callers need no lease to be returned: a connection is, or can be, started for them."""
        possible = self._places(now) + self._room_for_overflow(now)
        return self.coming(now) + possible * self.policy.leases_per_connection

    def _places(self, now: float) -> int:
        """How many of the sleeping slots could be leased if they were woken."""
        asleep = sum(slot.is_asleep for slot in self._slots)
        counted = sum((slot.in_service or slot.is_coming(now)) and not slot.is_overflow for slot in self._slots)
        return max(0, min(self.policy.size - counted, asleep))

    def _overflow_for(self, waiting: int, now: float) -> int:
        each = self.policy.leases_per_connection
        return max(0, min(-(-waiting // each), self._room_for_overflow(now)))

    def _room_for_overflow(self, now: float) -> int:
        if now + SOON < self.overflow_at:
            return 0
        return max(0, self.policy.max_overflow - sum(slot.is_overflow for slot in self._slots))


def _doubt(slot: Slot) -> bool:
    return slot.target.is_doubtful


def _burden(slot: Slot) -> tuple[bool, bool, int]:
    return slot.is_old, slot.is_overflow, len(slot.holders) + len(slot.callers)

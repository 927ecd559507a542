"""Which slots a pool has: the regular ones and the standby, overflow, and those that are free.

The rules that hold here:

- Of the regular slots in service, at most `size` are *active*, which means leased; the others are standby, and take the
  place of an active one in the moment in which it goes out of service.
- Only what serves is capacity. What hangs, fails or sleeps neither counts for a minimum, nor holds back what could be
  started.
- What is to be started for those who wait is worked out by `plan`, which changes nothing.
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
    """What is to be done for those who wait."""

    wake: tuple[Slot, ...] = ()
    """Slots that are asleep, and are needed."""
    overflow: int = 0
    """Connections to open beyond the pool's size."""
    is_hopeless: bool = False
    """Whether nothing is in service or on its way, and all that was tried has failed."""


class Slots:
    """The slots of one pool.

    Args:
        policy: the pool's.
        counts: what keeps the counts of slots that are gone.
        targets: what they are to.

    Attributes:
        free: those that are ready and have room for a lease; what is to be taken last comes first.
        set_aside: those that were free, and are looked at before they are handed out.
        leaving: those that were retired, and are still being closed.
        overflow_failures: how often overflow has failed, in a row.
        overflow_at: when overflow may be opened again, by the loop's clock.
    """

    def __init__(self, policy: PoolPolicy, counts: PoolStats, targets: Sized) -> None:
        self.policy = policy
        self.free: list[Slot] = []
        self.set_aside: list[Slot] = []
        self.leaving: set[Slot] = set()
        self.overflow_failures = self._extra = 0
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
        """So many more."""
        self._slots += slots
        self._recount()

    def remove(self, slot: Slot) -> None:
        """It is retired; what it has counted stays."""
        if slot.is_overflow and slot.in_service:
            self.overflow_failures = 0
        self._slots.remove(slot)
        self._recount()
        self.leave_free(slot)
        self._counts.absorb(slot)
        slot.target.absorb(slot)

    def pause_overflow(self, slot: Slot, now: float) -> None:
        """A slot of overflow has failed: the next one has its attempts counted on, and its pause."""
        self.overflow_failures = slot.backoff.failures
        self.overflow_at = now + slot.backoff.wait

    def clear(self) -> None:
        """All of them are gone."""
        for slot in self._slots:
            self._counts.absorb(slot)
            slot.target.absorb(slot)
        self._slots, self.set_aside, self._extra = [], [], 0
        self.free.clear()
        self.leaving = set()

    def give_up(self, slot: Slot) -> None:
        """It is not needed any more, and goes when nobody uses it."""
        slot.activate(False)
        slot.expire(is_replaced=True)
        self.leave_free(slot)
        self._recount()

    def _recount(self) -> None:
        """Those that go, and those that are to take the place of others, are beside those that there may be."""
        self._extra = sum(slot.is_replaced or slot.predecessor is not None for slot in self._slots)

    def follow(self, policy: PoolPolicy) -> None:
        """There may be more or fewer from now on."""
        self.policy = policy
        self._most = policy.size + policy.standby + policy.max_overflow
        for slot in self._slots:
            slot.policy = policy

    def to_spare(self, count: int) -> list[Slot]:
        """So many regular slots that would be missed least."""
        regular = [slot for slot in self._slots if not (slot.is_overflow or slot.is_replaced or slot.predecessor)]
        return sorted(regular, key=lambda slot: (slot.in_service, slot.is_used))[: max(0, count)]

    @property
    def is_spread(self) -> bool:
        """Whether they are to several targets."""
        return len(self._targets) > 1

    # --- which are free -------------------------------------------------------------------------------------------

    def put_free(self, slot: Slot) -> None:
        """It can be leased. Taken from the end: overflow, and what is doubtful or old, come last."""
        if slot not in self.free:
            is_last = slot.is_overflow or slot.is_doubtful or slot.is_old
            self.free.insert(0 if is_last else len(self.free), slot)

    def leave_free(self, slot: Slot) -> None:
        """It cannot be leased any more, if it could."""
        if slot in self.free:
            self.free.remove(slot)

    def are_held_by(self, holder: TaskRef) -> bool:
        """Whether one task holds all that serve, and nobody else could give one back. Asked by all who wait."""
        is_any = False
        for slot in self._slots:
            if slot.in_service:
                is_any = True
                if not slot.holders or slot.callers:
                    return False
                for each in slot.holders:
                    if each is not holder:
                        return False
        return is_any

    # --- which are active -----------------------------------------------------------------------------------------

    def active(self) -> int:
        """How many regular slots are leased, rather than standby."""
        return sum(slot.is_active and not slot.is_overflow for slot in self._slots)

    def standby(self) -> Slot | None:
        """One that stands by, if there is one."""
        for slot in sorted(self._slots, key=_doubt):
            if slot.in_service and not (slot.is_active or slot.is_overflow or slot.is_replaced):
                return slot
        return None

    def serving(self) -> int:
        """How many regular slots are in service, standby included."""
        return sum(slot.in_service and not slot.is_overflow for slot in self._slots)

    def may_replace(self, old: Slot) -> bool:
        """Whether the link of a slot may be given up for its age: when all others serve, and there are others."""
        others = [slot for slot in self._slots if not (slot is old or slot.is_overflow or slot.is_asleep)]
        return bool(others) and all(slot.in_service for slot in others)

    def successor(self, old: Slot) -> Slot | None:
        """The slot that is to take the place of the last one that serves."""
        return next((slot for slot in self._slots if slot.predecessor is old), None)

    def is_complete(self) -> bool:
        """Whether there is nothing that could be started, as a rule; told in short, for it is asked by all who wait."""
        return self._is_plain and len(self._slots) - self._extra >= self._most and self._slots[0].in_service

    def least_busy(self, avoided: Collection[Slot] = ()) -> Slot | None:
        """The slot for a call without a lease: one with a link that is to stay, if there is one; None: none at all.

        Args:
            avoided: those through which the call has failed; what is to another target comes first, then another link.
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

    # --- what is to be started --------------------------------------------------------------------------------------

    def plan(self, waiting: int, now: float) -> Plan:
        """What is to be started for so many who wait."""
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
        """Whether nothing is in service or on its way or could be woken, and all that was tried has failed."""
        return any(slot.cause is not None for slot in self._slots) and not any(
            slot.is_hopeful or slot.is_asleep for slot in self._slots
        )

    def coming(self, now: float) -> int:
        """For how many who wait there will be room when what is under way succeeds."""
        fresh = [slot for slot in self._slots if slot.is_coming(now)]
        rooms = [slot.room for slot in fresh if not slot.is_overflow][: max(0, self.policy.size - self.active())]
        rooms += [slot.room for slot in fresh if slot.is_overflow]
        rooms += [slot.room for slot in self._slots if slot.state == SlotState.RESETTING]
        rooms += [slot.room for slot in self.set_aside if slot.is_ready]
        return sum(rooms)

    def to_come(self, now: float) -> int:
        """How many who wait need not wait for a lease to be returned, for a connection is, or can be, started."""
        possible = self._places(now) + self._room_for_overflow(now)
        return self.coming(now) + possible * self.policy.leases_per_connection

    def _places(self, now: float) -> int:
        """How many of the slots that are asleep would be leased if they were woken."""
        asleep = sum(slot.is_asleep for slot in self._slots)
        counted = sum((slot.in_service or slot.is_coming(now)) and not slot.is_overflow for slot in self._slots)
        return max(0, min(self.policy.size - counted, asleep))

    def _overflow_for(self, waiting: int, now: float) -> int:
        each = self.policy.leases_per_connection
        return max(0, min(-(-waiting // each), self._room_for_overflow(now)))

    def _room_for_overflow(self, now: float) -> int:
        if now + SOON < self.overflow_at:
            return 0
        return self.policy.max_overflow - sum(slot.is_overflow for slot in self._slots)


def _doubt(slot: Slot) -> bool:
    return slot.target.is_doubtful


def _burden(slot: Slot) -> tuple[bool, bool, int]:
    return slot.is_old, slot.is_overflow, len(slot.holders) + len(slot.callers)

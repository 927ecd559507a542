"""Moves slots from one target of a pool to another, and decides when to try a failed target again.

The rules that hold here:

- A slot whose attempt fails moves at once to a target that is not left out, if there is one. It moves once without a
  pause; after that it is on trial, and moves when its pause is over.
- A target that is left out is tried by one additional slot at a time. That slot takes the place of another only if it
  comes up, so the trial costs no capacity. Nobody counts on the trial.
- When a target has at least two connections fewer than another, one connection moves there at a time. The old one
  leaves when the new one is up and nobody uses the old one.
- With one target, none of this happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.kind import Kind
from fsm_conn.pool.slots.slot import SOON, Slot
from fsm_conn.pool.slots.slots import Slots
from fsm_conn.pool.slots.table import STARTING, SlotState, SlotTrigger
from fsm_conn.pool.targets.target import PoolTarget
from fsm_conn.pool.targets.targets import Targets

__all__ = ["Moves"]


class Moves:
    """Moves the slots of one pool between its targets.

    Args:
        slots: the slots.
        targets: the targets.
        make: makes a slot of a kind for a target; returns None when that fails.
        retire: retires a slot.

    Attributes:
        is_open: whether the pool is open. While the pool is opening, each connection makes all of its own attempts.
    """

    def __init__(
        self,
        slots: Slots,
        targets: Targets,
        make: Callable[[Kind, PoolTarget], Slot | None],
        retire: Callable[[Slot], None],
    ) -> None:
        self._slots = slots
        self._targets = targets
        self._make = make
        self._retire = retire
        self.is_open = False

    # --- what happens to slots ------------------------------------------------------------------------------------

    def in_trouble(self, slot: Slot, now: float, policy: PoolPolicy) -> bool:
        """An attempt of a slot has failed. Return whether the slot was retired for that; another may replace it."""
        slot.target.failed(slot.cause, now, policy.replacement)
        if slot not in self._slots:
            return False
        if slot.predecessor is not None and slot.predecessor.target is not slot.target:
            self._retire(slot)
            return True
        return slot.backoff.failures <= 1 and self._targets.has_better(slot.target) and self._move(slot)

    def starts(self, slot: Slot) -> bool:
        """A slot that is out of service is to connect. Return whether it was retired; another may replace it."""
        is_trial = slot.predecessor is not None
        return slot in self._slots and not is_trial and self._targets.has_better(slot.target) and self._move(slot)

    def takes_place(self, slot: Slot, old: Slot) -> bool:
        """Whether a slot that has come up is to replace the slot for which it was made."""
        if old.target is slot.target or not old.in_service or old.target.is_leaving or old not in self._slots:
            return True
        count = self._count()
        return count[old.target] - (count[slot.target] - 1) > 1

    def _move(self, slot: Slot) -> bool:
        """Replace a slot by one for a better target; return whether it left. Overflow and spare slots only leave."""
        if slot.holders:
            return False  # the next link of this connection was promised to somebody
        if slot.is_overflow or slot.is_replaced:
            self._retire(slot)
            return True
        new = self._replaced(slot, self._targets.place(self._slots))
        if new is None:
            return False
        self._retire(slot)
        new.fire(SlotTrigger.WAKE)
        if self.is_open:
            new.backoff.forget(max(1, slot.backoff.failures))
        return True

    def _replaced(self, slot: Slot, target: PoolTarget) -> Slot | None:
        """Another, sleeping slot to replace this one, which is still there."""
        if (new := self._make(Kind.REGULAR, target)) is None:
            return None
        if (successor := self._slots.successor(slot)) is not None:
            successor.predecessor = new
        new.predecessor, slot.predecessor = slot.predecessor, None
        self._slots.add(new)
        return new

    # --- what is due ----------------------------------------------------------------------------------------------

    def clean_up(self, now: float) -> list[float]:
        """Try targets that are left out, and even out the others. Return when more is due, by the loop's clock."""
        if len(self._targets) == 1:
            return []
        later = []
        for target in self._targets:
            if not target.is_left_out or any(self._is_tried_by(slot, target) for slot in self._slots):
                continue
            if target.retry_at > now + SOON:
                later.append(target.retry_at)
            else:
                target.retry_at = min(target.retry_at, now)  # timers may fire early; failures count from now on
                self._begin_instead(self._fullest(), target)
        self._even_out()
        return later

    def _is_tried_by(self, slot: Slot, target: PoolTarget) -> bool:
        """Whether a slot will find out whether the target accepts connections."""
        return slot.target is target and (slot.state in STARTING or slot.state == SlotState.BACKING_OFF)

    def _even_out(self) -> None:
        usable = [target for target in self._targets if not target.is_left_out]
        if len(usable) < 2 or any(self._is_move(slot) for slot in self._slots):
            return
        count = self._count()
        fewest, most = min(usable, key=count.__getitem__), max(usable, key=count.__getitem__)
        if count[most] - count[fewest] > 1:
            old = self._movable(most)
            if old is not None and old.is_asleep:
                if self._replaced(old, fewest) is not None:
                    self._retire(old)
            elif old is not None and old.in_service:
                self._begin_instead(old, fewest)

    def _is_move(self, slot: Slot) -> bool:
        old = slot.predecessor
        return old is not None and old.target is not slot.target and not slot.target.is_left_out

    def _begin_instead(self, old: Slot | None, target: PoolTarget) -> None:
        """Open a connection to a target; if it comes up, it may replace another."""
        if old is not None and (slot := self._make(Kind.REGULAR, target)) is not None:
            slot.predecessor = old
            self._slots.add(slot)
            slot.fire(SlotTrigger.WAKE)
            slot.cause = target.cause  # so that nobody counts on it when that has failed before

    def _fullest(self) -> Slot | None:
        """A slot of the target with the most connections."""
        count = self._count()
        found = [each for target in {slot.target for slot in self._slots} if (each := self._movable(target))]
        return max(found, key=lambda slot: (not slot.in_service, count[slot.target]), default=None)

    def _movable(self, target: PoolTarget) -> Slot | None:
        """The slot of a target that would be missed least, among those that have no successor yet."""
        found = [
            slot
            for slot in self._slots
            if slot.target is target
            and not (slot.is_overflow or slot.is_replaced)
            and slot.predecessor is None
            and self._slots.successor(slot) is None
        ]
        return min(found, key=lambda slot: (not slot.is_asleep, not slot.in_service, slot.is_used), default=None)

    def _count(self) -> Counter[PoolTarget]:
        return Counter(slot.target for slot in self._slots if not (slot.is_overflow or slot.is_replaced))

    # --- targets that come and go -------------------------------------------------------------------------------------

    def join(self) -> None:
        """There is a new target: slots that are pausing need not wait until their pauses end."""
        for slot in tuple(self._slots):
            if slot.state == SlotState.BACKING_OFF:
                self.starts(slot)

    def leave(self, target: PoolTarget) -> None:
        """Send nothing new to a removed target: its slots are replaced, and leave when nobody uses them."""
        for slot in [each for each in self._slots if each.target is target]:
            if slot not in self._slots or slot.is_replaced:
                continue
            if slot.predecessor is not None and slot.predecessor.target is not target:
                self._retire(slot)
                continue
            new = None if slot.is_overflow else self._replaced(slot, self._targets.place(self._slots))
            if new is not None and not slot.is_asleep:
                new.fire(SlotTrigger.WAKE)
            self._slots.give_up(slot)
            if not slot.is_used:
                self._retire(slot)

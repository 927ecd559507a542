"""Watches which links a pool gives up though nothing is wrong with them, and what else serves in that moment."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

from fsm_conn.machine.records import TransitionRecord
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.pool.slots.table import IN_SERVICE, SlotState, SlotTrigger
from fsm_conn.pool.table import PoolState

__all__ = ["Serving"]


class Serving:
    """The knowledge of an observer of all slots.

    Args:
        pool: the pool.

    Attributes:
        told: what was given up too soon; None: nothing.
        slots: the slots that the pool has, or had.
        overflow: slots of overflow that came into service.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self.told: str | None = None
        self.overflow: set[Slot] = set()
        self.slots: WeakSet[Slot] = WeakSet()
        self._pool = pool

    def look(self) -> None:
        """Watch the slots that are new."""
        for slot in self._pool.slots:
            if slot not in self.slots:
                self.slots.add(slot)
                slot.on_transition(self._watch(slot))

    def _watch(self, slot: Slot) -> Callable[[TransitionRecord], None]:
        def moved(record: TransitionRecord) -> None:
            if record.dest == SlotState.READY and slot.is_overflow:
                self.overflow.add(slot)
            if record.source == SlotState.READY and record.dest not in IN_SERVICE:
                self._gave_up(slot, record)

        return moved

    def _gave_up(self, slot: Slot, record: TransitionRecord) -> None:
        pool, policy = self._pool, self._pool.policy
        if pool.state != PoolState.OPEN or self.told is not None:
            return
        others = [each for each in pool.slots if each is not slot and not each.is_overflow]
        serving = sum(each.in_service for each in others)
        if record.trigger == SlotTrigger.SLEEP and serving < policy.min_idle + policy.standby:
            self.told = f"{slot!r} was idle and went to sleep, and only {serving} others serve"
        elif slot.is_overflow and not slot.target.is_leaving:
            if record.trigger in (SlotTrigger.REPLACE, SlotTrigger.RETIRE) and not serving:
                self.told = f"{slot!r} was closed, and it alone served"
        elif record.trigger == SlotTrigger.REPLACE and not all(
            each.in_service or _was_asleep(each, record) for each in others
        ):
            self.told = f"the link of {slot!r} was closed for its age, and another does not serve"
        elif record.trigger == SlotTrigger.REPLACE and not serving:
            self.told = f"the link of {slot!r} was closed for its age, and it alone served"


def _was_asleep(slot: Slot, record: TransitionRecord) -> bool:
    """Whether the slot was asleep when another moved: it may have been woken because of that."""
    last = slot.last_record
    return slot.is_asleep or (last is not None and last.trigger == SlotTrigger.WAKE and last.at >= record.at)

"""The counts of a pool."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fsm_conn.pool.slots.table import SlotState

if TYPE_CHECKING:
    from fsm_conn.pool.policy import PoolPolicy
    from fsm_conn.pool.slots.slot import Slot

__all__ = ["PoolStats", "leased"]

KEPT_WAITS = 1024
"""How many of the last waits the percentiles are computed from."""


class PoolStats:
    """Counts since the pool was created. The current slots hold their own counts.

    Attributes:
        created: links that came into service, of slots that have left the pool.
        leases: leases of slots that have left the pool.
        misses: leases of slots that have left the pool, for which a connection was opened beyond the pool's size.
        overflow_used: slots that have left the pool and had a link beyond the pool's size.
        timeouts: acquires that timed out.
        refused: acquires that were refused: closed, full, or unavailable.
        leaked: leases that were dropped without being released.
        waits: how often a waiting caller got a connection.
        wait_seconds: how long each of the last waiting callers waited.
        waited: how long all waiting callers waited altogether, in seconds.
    """

    def __init__(self) -> None:
        self.created = self.leases = self.misses = self.overflow_used = 0
        self.timeouts = self.refused = self.leaked = self.waits = 0
        self.waited = 0.0
        self.wait_seconds: deque[float] = deque(maxlen=KEPT_WAITS)

    def absorb(self, slot: Slot) -> None:
        """Add the counts of a slot that leaves the pool."""
        self.created += slot.links
        self.leases += slot.leases
        self.overflow_used += slot.is_overflow and slot.links > 0
        self.misses += _misses((slot,))

    def as_dict(
        self, policy: PoolPolicy, slots: Iterable[Slot], free: Iterable[Slot], waiting: tuple[int, int]
    ) -> dict[str, Any]:
        """The documented keys and some more; see `ConnectionPool.get_pool_stats`."""
        slots = tuple(slots)
        misses = self.misses + _misses(slots)
        hits = self.leases + sum(slot.leases for slot in slots) - misses
        return {
            "pool_size": policy.size,
            "total_connections": sum(slot.in_service for slot in slots),
            "overflow_connections": sum(slot.in_service and slot.is_overflow for slot in slots),
            "available_in_pool": sum(slot.room for slot in free if slot.is_ready),
            "standby": sum(slot.in_service and not slot.is_active for slot in slots),
            "leased": leased(slots),
            "waiting": waiting[0],
            "calls_waiting": waiting[1],
            "given_up": sum(slot.state == SlotState.BACKING_OFF for slot in slots),
            "wait_ms": _percentiles(self.wait_seconds),
            "stats": {
                "connections_created": self.created + sum(slot.links for slot in slots),
                "connections_reused": hits,
                "pool_hits": hits,
                "pool_misses": misses,
                "overflow_used": self.overflow_used + sum(slot.is_overflow and slot.links > 0 for slot in slots),
                "waits": self.waits,
                "wait_seconds": self.waited,
                "timeouts": self.timeouts,
                "refused": self.refused,
                "leaked": self.leaked,
            },
        }


def leased(slots: Iterable[Slot]) -> int:
    """How many leases are held, without those that were cut off."""
    return sum(len(slot.holders) for slot in slots if not slot.is_retired)


def _misses(slots: Iterable[Slot]) -> int:
    """How many leases were the first one of an overflow connection."""
    return sum(slot.is_overflow and slot.leases > 0 for slot in slots)


def _percentiles(seconds: Iterable[float]) -> dict[str, float]:
    waits = list(seconds)
    if len(waits) < 2:
        waits = (waits or [0.0]) * 2
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {f"p{share}": round(cuts[share - 1] * 1000, 3) for share in (50, 95, 99)}

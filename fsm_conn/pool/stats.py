"""What a pool counts, and how it tells of it."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fsm_conn.pool.slots import Kind, Slot

if TYPE_CHECKING:
    from fsm_conn.pool.policy import PoolPolicy

__all__ = ["PoolStats"]

KEPT_WAITS = 1024
"""Waits that the percentiles are computed from: the last ones."""


class PoolStats:
    """Counts since the pool was made.

    Attributes:
        created: links that came into service.
        leases: leases that were handed out.
        overflow_used: connections that were opened beyond the pool's size.
        timeouts: acquires that ended for want of time.
        refused: acquires that were refused: closed, full, or unavailable.
        leaked: leases that were dropped without having been released.
        wait_seconds: the last waits for a connection that was not free at once.
    """

    def __init__(self) -> None:
        self.created = self.leases = self.overflow_used = self.timeouts = self.refused = self.leaked = 0
        self.waits = 0
        self.wait_seconds: deque[float] = deque(maxlen=KEPT_WAITS)

    def waited(self, seconds: float) -> None:
        """Somebody got a connection after a wait."""
        self.waits += 1
        self.wait_seconds.append(seconds)

    def as_dict(self, policy: PoolPolicy, slots: Sequence[Slot], waiting: int) -> dict[str, Any]:
        """The documented keys, and `waiting`, `leased`, `wait_ms` beside them."""
        overflow = [slot for slot in slots if slot.kind is Kind.OVERFLOW]
        open_now = [slot for slot in slots if slot.in_service]
        leases = self.leases + sum(slot.served for slot in slots)
        return {
            "pool_size": policy.size,
            "total_connections": len(open_now),
            "overflow_connections": len(overflow),
            "available_in_pool": sum(slot.is_free for slot in slots),
            "standby": sum(slot.in_service and not slot.active for slot in slots),
            "leased": sum(len(slot.holders) for slot in slots),
            "waiting": waiting,
            "wait_ms": _percentiles(self.wait_seconds),
            "stats": {
                "connections_created": self.created,
                "connections_reused": max(0, leases - self.created),
                "pool_hits": leases - self.waits,
                "pool_misses": self.waits,
                "overflow_used": self.overflow_used,
                "timeouts": self.timeouts,
                "refused": self.refused,
                "leaked": self.leaked,
            },
        }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    cuts = statistics.quantiles([*seconds, seconds[-1]], n=100, method="inclusive")
    return {name: round(cuts[at - 1] * 1000, 3) for name, at in (("p50", 50), ("p95", 95), ("p99", 99))}

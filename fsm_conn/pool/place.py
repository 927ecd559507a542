"""One place of a pool: who uses it, and whether it may be leased.

The rules that hold here:

- It is a book, kept up to date by others: nothing here awaits, and nobody is told of anything.
- `is_ready` follows from the other facts, and is worked out anew whenever one of them changes; for it is looked at more
  often than they change.
- Who uses a place is remembered by a weak reference: it must not keep alive what has forgotten it.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from fsm_conn.pool.policy import PoolPolicy

__all__ = ["Holder", "Kind", "Place", "current_holder"]

Holder = ref[asyncio.Task[Any]]
"""Who uses a place: the task."""


def current_holder() -> Holder:
    """The running task, as who uses a slot.

    Raises:
        RuntimeError: none is running, as in a callback of the loop.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a pool is used by tasks: await what it returns in one, not in a callback of the loop")
    return ref(task)


class Kind(StrEnum):
    """What a slot is there for."""

    REGULAR = "regular"
    """One of the pool's `size`, or of its standby."""
    OVERFLOW = "overflow"
    """Opened because all others were leased; closed when it was not needed for a while."""


class Place:
    """What is known of one place.

    Args:
        kind: what it is there for.
        policy: the pool's.

    Attributes:
        is_overflow: whether it is there for a while only.
        in_service: whether a link is open and agreed with.
        is_active: whether it is one of those that are leased, rather than standby.
        is_stale: whether its link is to be replaced before the next lease.
        is_old: whether its link is to be replaced when nobody uses it.
        resets: how many leases' leftovers are being cleaned up.
        is_ready: all of that in one: whether it may be leased, but for the leases that it has already.
        is_closed: whether it is closed for good.
        holders: those who lease it.
        callers: those whose calls, made without a lease, go through it.
        leases: how many leases it had.
        expires_at: when the present link is to be replaced, by the loop's clock; None: never.
        idle_since: since when nobody has used it, by the loop's clock.
    """

    __slots__ = (
        "_policy",
        "callers",
        "expires_at",
        "holders",
        "idle_since",
        "in_service",
        "is_active",
        "is_closed",
        "is_old",
        "is_overflow",
        "is_ready",
        "is_stale",
        "kind",
        "leases",
        "resets",
    )

    def __init__(self, kind: Kind, policy: PoolPolicy) -> None:
        self.kind = kind
        self.is_overflow = kind is Kind.OVERFLOW
        self.in_service = self.is_active = self.is_ready = self.is_stale = self.is_old = self.is_closed = False
        self.holders: list[Holder] = []
        self.callers: list[Holder] = []
        self.resets = self.leases = 0
        self.expires_at: float | None = None
        self.idle_since = 0.0
        self._policy = policy

    # --- what follows from it -----------------------------------------------------------------------------------

    @property
    def is_used(self) -> bool:
        """Whether there is somebody whom closing it would hurt."""
        return bool(self.holders or self.callers or self.resets)

    @property
    def is_leasable(self) -> bool:
        """Whether it may be leased to somebody who would have to wait otherwise: as long as an old link is used, it may
        be used by more than one.
        """
        worn = self.is_old and self.is_active and self.in_service and not self.is_stale and not self.resets
        return self.is_ready or (worn and self.is_used)

    @property
    def room(self) -> int:
        """How many more leases it could have."""
        return max(0, self._policy.leases_per_connection - len(self.holders))

    @property
    def load(self) -> int:
        """How many use it, and clean up after a use."""
        return len(self.holders) + len(self.callers) + self.resets

    # --- what the pool makes of it ------------------------------------------------------------------------------

    def activate(self, active: bool) -> None:
        """Count it among those that are leased, or not."""
        self.is_active = active
        self._judge()

    def outdate(self) -> None:
        """Have its link replaced before the next lease."""
        self.is_stale = True
        self._judge()

    def expire(self) -> None:
        """Its link has become too old."""
        self.is_old = True
        self.expires_at = None
        self._judge()

    def begin_reset(self) -> None:
        """What a lease has left is being cleaned up."""
        self.resets += 1
        self._judge()

    def end_reset(self) -> None:
        """It was cleaned up."""
        self.resets -= 1
        self._judge()

    def _judge(self) -> None:
        usable = self.is_active and self.in_service and not self.is_stale and not self.resets
        self.is_ready = usable and not self.is_old

"""What a pool must be at every moment, told by a model so simple that it cannot be wrong.

The model knows who waits, in which order, who holds a lease, and how many were served or refused: lists and counters
kept by the users themselves. What must hold between it and the pool stands in `rules`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from fsm_conn.links.base import Link
from fsm_conn.pool.errors import PoolClosed, PoolError, PoolFullError, PoolTimeoutError, PoolUnavailableError
from fsm_conn.pool.leasing.lease import Lease
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.testing.lives.pools.asking import PoolPeer

__all__ = ["PoolModel", "PoolUser"]

STALE = 0.3
"""Seconds after which nobody is given a link that was lost, however long the loop was blocked."""


@attrs.define(eq=False)
class PoolUser:
    """Somebody who has acquired a lease, or waits for one."""

    timeout: float | None
    task: asyncio.Task[Any] = attrs.field(init=False)
    word: asyncio.Future[str] = attrs.field(init=False)
    """Done when it is to give the lease back; tells how."""
    deadline: float | None = None
    lease: Lease | None = None
    link: Link | None = None
    """The link of the lease, as it was when that was acquired."""

    @property
    def is_holding(self) -> bool:
        """Whether it holds a lease."""
        return self.lease is not None and not self.word.done()

    @property
    def word_is_given(self) -> bool:
        """Whether it was told to give the lease back, or has not begun."""
        return not hasattr(self, "word") or self.word.done()


class PoolModel:
    """What the users know.

    Args:
        acquire_timeout: that of the pool's policy.
        peer: what the links are to.

    Attributes:
        waiting: those who wait, in the order in which they came.
        holding: those who hold a lease.
        served_since: those who were served since the last look.
        doubtful: links that `on_acquire` has refused, or was broken off with.
        asking: links that `on_acquire` is looking at, and for how many users.
        unclean: links that `on_release` is to finish with, and for how many leases.
        grants, timeouts, refusals, leaked: counts, as the statistics of the pool have them.
        unavailable: how many were told that nothing can connect, since the last look.
        links_before: the links that were in service at the last look.
        losses: links that were lost since the last look.
        expired: links that are to be replaced as soon as that can be.
        removed: numbers of targets that were removed.
        size: what the pool was resized to; None: it was not.
        until: the deadlines of calls without a lease.
        lost_at: when links were lost.
    """

    def __init__(self, acquire_timeout: float | None, peer: PoolPeer) -> None:
        self.acquire_timeout = acquire_timeout
        self.peer = peer
        self.expired: set[Link | None] = set()
        self.removed: set[int] = set()
        self.size: int | None = None
        self.until: dict[asyncio.Task[Any], float] = {}
        self.lost_at: dict[Link, float] = {}
        self.waiting: list[PoolUser] = []
        self.holding: list[PoolUser] = []
        self.waited_before: list[PoolUser] = []
        self.served_since: list[PoolUser] = []
        self.arrivals: dict[PoolUser, int] = {}
        self.grants = self.timeouts = self.refusals = self.leaked = self.losses = 0
        self.unavailable = 0
        self.links_before: list[Link | None] = []
        self.called: Callable[[], Iterable[Link]] = tuple
        """The links through which calls without a lease go at present."""
        self.asking: Counter[Link | None] = Counter()
        self.doubtful: set[Link | None] = set()
        self.unclean: Counter[Link | None] = Counter()
        self.unexpected: BaseException | None = None

    def arrived(self, user: PoolUser, now: float) -> None:
        """It acquires."""
        timeout = self.acquire_timeout if user.timeout is None else user.timeout
        user.deadline = None if timeout is None else now + timeout
        self.arrivals[user] = len(self.arrivals)
        self.waiting.append(user)

    def served(self, user: PoolUser, lease: Lease, now: float) -> None:
        """It was given a lease."""
        user.lease = lease
        user.link = lease.connection.link if lease.is_held else None
        self.waiting.remove(user)
        if user.link is not None and now > self.lost_at.get(user.link, now) + STALE:
            self.unexpected = AssertionError("a link that was lost long before, while the loop was blocked")
        if self.unclean[user.link] and lease._leases.policy.leases_per_connection == 1:
            self.unexpected = AssertionError("a link that on_release has not finished with")
        if user.link in self.doubtful:
            self.unexpected = AssertionError("a link of which nobody knows the state, for its check was broken off")
        self.holding.append(user)
        self.served_since.append(user)
        self.grants += 1

    def refused(self, user: PoolUser, error: BaseException) -> None:
        """It was told why not, or was cancelled."""
        self.waiting.remove(user)
        self.timeouts += isinstance(error, PoolTimeoutError)
        self.refusals += isinstance(error, (PoolClosed, PoolFullError, PoolUnavailableError))
        self.unavailable += isinstance(error, PoolUnavailableError) and "has no connection" in str(error)
        was_told = isinstance(error, PoolUnavailableError) and "has no connection" in str(error)
        if was_told and user.deadline is not None:
            self.unexpected = AssertionError(f"long before the time that he had named, {error}")
        elif not isinstance(error, (PoolError, asyncio.CancelledError, OSError)):
            self.unexpected = error

    def asked(self, slot: Slot) -> int:
        """For how many users `on_acquire` is looking at the link of a slot."""
        return 0 if slot.is_retired else self.asking[slot.conn.link]

    def let_go(self, user: PoolUser) -> None:
        """It does not hold the lease any more."""
        self.holding.remove(user)
        user.lease = user.link = None

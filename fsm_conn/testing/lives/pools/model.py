"""A simple model of what a pool must be at every moment. It is so simple that it cannot be wrong.

The model knows which users wait, in which order, which hold a lease, and how many were served or refused. It consists
of lists and counters that the users, and their leases, keep themselves. `rules` compares it with the pool.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from weakref import ref

import attrs

from fsm_conn.links.base import Link
from fsm_conn.pool.errors import PoolClosed, PoolError, PoolFullError, PoolTimeoutError, PoolUnavailableError
from fsm_conn.pool.leasing.lease import Lease
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.testing.lives.pools.asking import PoolPeer

__all__ = ["HOOK_FAILED", "SLACK", "PoolModel", "PoolUser"]

HOOK_FAILED = "the hook failed"
"""What a simulated hook says."""
SLACK = 0.01
"""Seconds by which a deadline may be missed, because timers are no finer."""

STALE = 0.3
"""Seconds after which no user may get a lost link any more, however long the loop was blocked."""


def _nothing() -> None:
    """No lease."""


@attrs.define(eq=False)
class PoolUser:
    """Somebody who has a lease, or waits for one."""

    timeout: float | None
    is_stranger: bool = False
    """Whether this is code of the class's own, rather than a user in a step of the life."""
    task: asyncio.Task[Any] = attrs.field(init=False)
    word: asyncio.Future[str] = attrs.field(init=False)
    """Done when the user is to give the lease back; its result says how."""
    deadline: float | None = None
    stale: int = 0
    """How many links were in service when the user came: all of them may be stale."""
    refusals: int = 0
    """How many links `on_acquire` has refused for the user."""
    link: Link | None = None
    """The link of the lease at the time when it was acquired."""
    reference: Callable[[], Lease | None] = _nothing
    """The lease, referred to weakly: one that is dropped must be seen to be dropped."""

    @property
    def lease(self) -> Lease | None:
        """The lease; None when there is none, or it was dropped."""
        return self.reference()

    @property
    def is_holding(self) -> bool:
        """Whether the user holds a lease."""
        return self.lease is not None and not self.word.done()

    @property
    def word_is_given(self) -> bool:
        """Whether the user was told to give the lease back, or has not begun."""
        return not hasattr(self, "word") or self.word.done()


class PoolModel:
    """The knowledge of the users.

    Args:
        acquire_timeout: the value in the pool's policy.
        peer: the peer of the links.

    Attributes:
        waiting: users that wait, in the order in which they came.
        holding: users that hold a lease.
        coming: users that are about to ask for a lease, by their task.
        served_since: users that were served since the last check.
        doubtful: links that `on_acquire` has refused, or during whose check it was interrupted.
        asking: links that `on_acquire` is checking, and for how many users.
        unprepared: links that `on_open` has not finished with.
        unclean: links that `on_release` has yet to finish with, and for how many leases.
        grants, timeouts, refusals, leaked: counts, as in the pool's statistics.
        unavailable: how many users were told since the last check that nothing can connect.
        links_before: the links that were in service at the last check.
        losses: links that were lost since the last check.
        expired: links that are to be replaced as soon as possible.
        targets: numbers of the targets that the pool was given and that were not removed.
        removed: numbers of targets that were removed, and whose links are closed.
        slots: the slots that the pool has, or had.
        overflow: how many slots of overflow came into service.
        size: the size to which the pool was resized; None: it was not resized.
        until: the deadlines of calls without a lease.
        close_by: when the time for leases is up that was given to `close_all()`; None while it is not being closed.
        lost_at: when links were lost.
    """

    def __init__(self, acquire_timeout: float | None, peer: PoolPeer) -> None:
        self.acquire_timeout = acquire_timeout
        self.peer = peer
        self.expired: set[Link | None] = set()
        self.targets: set[int] = set()
        self.removed: set[int] = set()
        self.slots: Callable[[], Iterable[Slot]] = tuple
        self.overflow: Callable[[], int] = int
        self.size: int | None = None
        self.until: dict[asyncio.Task[Any], float] = {}
        self.close_by: float | None = None
        self.lost_at: dict[Link, float] = {}
        self.waiting: list[PoolUser] = []
        self.holding: list[PoolUser] = []
        self.coming: dict[Any, PoolUser] = {}
        self.waited_before: list[PoolUser] = []
        self.served_since: list[PoolUser] = []
        self.arrivals: dict[PoolUser, int] = {}
        self.grants = self.timeouts = self.refusals = self.leaked = self.losses = 0
        self.unavailable = 0
        self.links_before: list[Link | None] = []
        self.called: Callable[[], Iterable[Link]] = tuple
        """The links that calls without a lease use at present."""
        self.asking: Counter[Link | None] = Counter()
        self.doubtful: set[Link | None] = set()
        self.unprepared: set[Link | None] = set()
        self.unclean: Counter[Link | None] = Counter()
        self.unexpected: BaseException | None = None

    def arrived(self, timeout: float | None, task: asyncio.Task[Any] | None, now: float) -> PoolUser:
        """A task asks for a lease: that of a user, or one of the class's own."""
        user = self.coming.pop(task, None) or PoolUser(timeout, is_stranger=True)
        timeout = self.acquire_timeout if timeout is None else timeout
        user.deadline = None if timeout is None else now + timeout
        user.stale = sum(slot.in_service for slot in self.slots())
        self.arrivals[user] = len(self.arrivals)
        self.waiting.append(user)
        return user

    def refused_one(self, task: asyncio.Task[Any] | None) -> None:
        """`on_acquire` has refused a link for the user with this task."""
        for user in self.waiting:
            user.refusals += getattr(user, "task", None) is task

    def blocked(self, now: float) -> None:
        """The loop was blocked until now: nobody could be told in time."""
        for user in self.waiting:
            user.deadline = None if user.deadline is None else max(user.deadline, now)

    def _ended(self, user: PoolUser, now: float) -> None:
        """An acquire has ended."""
        if user.timeout != 0 and user.deadline is not None and now > user.deadline + SLACK:
            self.unexpected = AssertionError(f"an acquire ended {now - user.deadline:g} s after its deadline")

    def served(self, user: PoolUser, lease: Lease, now: float) -> None:
        """The user got a lease."""
        user.reference = ref(lease)
        user.link = lease.connection.link if lease.is_held else None
        self.waiting.remove(user)
        self._ended(user, now)
        if user.link is not None and now > self.lost_at.get(user.link, now) + STALE:
            self.unexpected = AssertionError("a link that was lost long before, while the loop was blocked")
        if self.unclean[user.link] and lease._leases.policy.leases_per_connection == 1:
            self.unexpected = AssertionError("a link that on_release has not finished with")
        if user.link in self.unprepared:
            self.unexpected = AssertionError("a link that on_open has not finished with")
        if user.link in self.doubtful:
            self.unexpected = AssertionError("a link of which nobody knows the state, for its check was broken off")
        self.holding.append(user)
        self.served_since.append(user)
        self.grants += 1

    def refused(self, user: PoolUser, error: BaseException, now: float) -> None:
        """The user got an error, or was cancelled."""
        self.waiting.remove(user)
        self._ended(user, now)
        if str(error) == HOOK_FAILED and user.refusals <= user.stale and not user.is_stranger:
            self.unexpected = AssertionError(
                f"{error}, and {user.stale} links may be stale, {user.refusals} were refused"
            )
        self.timeouts += isinstance(error, PoolTimeoutError)
        self.refusals += isinstance(error, (PoolClosed, PoolFullError, PoolUnavailableError))
        self.unavailable += isinstance(error, PoolUnavailableError) and "has no connection" in str(error)
        was_told = isinstance(error, PoolUnavailableError) and "has no connection" in str(error)
        if was_told and user.deadline is not None:
            self.unexpected = AssertionError(f"long before the time that he had named, {error}")
        elif not isinstance(error, (PoolError, asyncio.CancelledError, OSError)):
            self.unexpected = error

    def given(self, user: PoolUser, lease: Lease) -> None:
        """The user was given this lease, perhaps not the first one that its task has acquired."""
        first = next((each for each in self.holding if each.lease is lease), user)
        first.reference, user.reference = user.reference, first.reference
        first.link, user.link = user.link, first.link
        if user not in self.holding:
            self.holding[self.holding.index(first)] = user

    def looked_at(self, slots: Iterable[Slot]) -> None:
        """The pool is at rest, and was compared with this model."""
        self.waited_before, self.served_since = list(self.waiting), []
        self.losses = self.unavailable = 0
        self.holding = [each for each in self.holding if not each.is_stranger or _is_held(each)]
        self.links_before = [slot.conn.link for slot in slots if slot.in_service]

    def asked(self, slot: Slot) -> int:
        """For how many users `on_acquire` is checking the link of a slot."""
        return 0 if slot.is_retired else self.asking[slot.conn.link]

    def let_go(self, user: PoolUser) -> None:
        """The user does not hold the lease any more."""
        self.holding.remove(user)
        user.reference, user.link = _nothing, None

    def held_by_strangers(self) -> int:
        """How many leases code of the class's own holds."""
        return sum(each.is_stranger and _is_held(each) for each in self.holding)


def _is_held(user: PoolUser) -> bool:
    return user.lease is not None and user.lease.is_held

"""One target of a pool, and how it is doing.

The rules that hold here:

- A target is *left out* from a failed attempt to connect to it until a link to it comes up. Meanwhile no new
  connection is made to it while another target is not left out, except for one attempt at a time, after a pause.
- A target is *doubtful* from the loss of a link until a link comes up. Its open connections are used last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from fsm_conn.connection.connection import Connection
    from fsm_conn.connection.policy import RetryPolicy
    from fsm_conn.links.target import Target

__all__ = ["PoolTarget"]

SHORTEST_PAUSE = 0.01
"""Seconds between two attempts to connect to a target that is left out, whatever the policy says."""


class PoolTarget:
    """What a pool knows about one of its targets.

    Args:
        target: the target as it was given.
        name: the target's name, unique in the pool.
        connect: makes a connection to the target, with a given name.
        rng: the source of jitter.

    Attributes:
        is_leaving: whether the target was removed, while some of its leases are still held.
        is_doubtful: whether a link to the target was lost, and none has come up since.
        failures: failed attempts, with pauses between them, since a link last came up.
        retry_at: when the target is tried again, by the loop's clock.
        cause: the error of the last failed attempt; None when none has failed since a link last came up.
        links: links that came into service, of slots that have left the pool.
        leases: leases of slots that have left the pool.
    """

    def __init__(
        self, target: Target, name: str, connect: Callable[[str | None], Connection], rng: random.Random
    ) -> None:
        self.target = target
        self.name = name
        self.connect = connect
        self.is_leaving = self.is_doubtful = False
        self.failures = self.links = self.leases = 0
        self.retry_at = 0.0
        self.cause: BaseException | None = None
        self._pause = 0.0
        self._rng = rng

    @property
    def is_left_out(self) -> bool:
        """Whether no new connection is made to it while another target is not left out."""
        return self.failures > 0

    def came_up(self) -> None:
        """A link to the target is open."""
        self.failures, self.cause, self._pause, self.is_doubtful = 0, None, 0.0, False

    def failed(self, cause: BaseException | None, now: float, policy: RetryPolicy) -> None:
        """An attempt has failed. Further failures before `retry_at` do not count."""
        self.cause = cause
        if self.is_left_out and now < self.retry_at:
            return
        self.failures += 1
        self._pause = policy.delay(self.failures, self._pause, self._rng)
        self.retry_at = now + max(self._pause, SHORTEST_PAUSE)

    def forget(self) -> None:
        """The pool is opened anew: earlier failures do not count."""
        self.came_up()
        self.retry_at = 0.0

    def absorb(self, slot: Any) -> None:
        """Add the counts of a slot that leaves the pool."""
        self.links += slot.links
        self.leases += slot.leases

    def __repr__(self) -> str:
        how = "removed" if self.is_leaving else f"left out after {self.failures}" if self.is_left_out else "well"
        return f"<target {self.name!r}, {how}>"

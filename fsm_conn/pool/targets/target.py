"""One target of a pool, and how it is doing.

The rules that hold here:

- A target is *left out* from the moment in which an attempt to connect to it has failed until a link to it comes up:
  no new connection is made to it while another target is not left out, but for one attempt at a time, after a pause.
- It is *doubtful* from the loss of a link until a link comes up: what is open to it still is used last.
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
    """What a pool knows of one of its targets.

    Args:
        target: as it was given.
        name: what to call it; no other of the pool has the same.
        connect: makes a connection to it, of a given name.
        rng: where jitter is drawn from.

    Attributes:
        is_leaving: whether it was removed, and what is leased of it is waited for.
        is_doubtful: whether a link to it was lost, and none has come up since.
        failures: attempts that have failed, with pauses between, since a link last came up.
        retry_at: when it is tried again, by the loop's clock.
        cause: what the last attempt failed with; None when none did since a link last came up.
        links: links of slots that are gone, that came into service.
        leases: leases of slots that are gone.
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
        """Whether no new connection is made to it while there is another target that is not left out."""
        return self.failures > 0

    def came_up(self) -> None:
        """A link to it is there."""
        self.failures, self.cause, self._pause, self.is_doubtful = 0, None, 0.0, False

    def failed(self, cause: BaseException | None, now: float, policy: RetryPolicy) -> None:
        """An attempt has failed. Those that fail while it is left out, before its time, are no news."""
        self.cause = cause
        if self.is_left_out and now < self.retry_at:
            return
        self.failures += 1
        self._pause = policy.delay(self.failures, self._pause, self._rng)
        self.retry_at = now + max(self._pause, SHORTEST_PAUSE)

    def forget(self) -> None:
        """The pool is opened anew: what has been does not count."""
        self.came_up()
        self.retry_at = 0.0

    def absorb(self, slot: Any) -> None:
        """A slot goes; what it has counted stays."""
        self.links += slot.links
        self.leases += slot.leases

    def __repr__(self) -> str:
        how = "removed" if self.is_leaving else f"left out after {self.failures}" if self.is_left_out else "well"
        return f"<target {self.name!r}, {how}>"

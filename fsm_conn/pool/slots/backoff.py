"""Counts a pool's own attempts after a connection has given up, and computes the pauses between them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from fsm_conn.connection.policy import RetryPolicy

if TYPE_CHECKING:
    import random

__all__ = ["Backoff", "now"]

SHORTEST_PAUSE = 0.01
"""Seconds between two attempts of a connection that gives up at once, whatever the policy says."""


def now() -> float:
    """The time by the loop's clock."""
    return asyncio.get_running_loop().time()


class Backoff:
    """Counts the failures of one connection, and computes how long to pause.

    Args:
        replacement: the pool's policy for connections that have given up; only its delays count.
        retry: the connection's own policy; its `stable_after` and its restart intensity count.
        rng: the source of jitter.

    Attributes:
        failures: failed attempts since the connection gave up, the attempt by which it gave up included.
        wait: seconds to pause before the next attempt.
    """

    def __init__(self, replacement: RetryPolicy, retry: RetryPolicy, rng: random.Random) -> None:
        self.failures = 0
        self.wait = 0.0
        self._replacement = replacement
        self._retry = retry
        self._rng = rng
        self._pause = 0.0
        self._up_since: float | None = None
        self._losses: deque[float] = deque()

    def forget(self, failures: int = 0) -> None:
        """Start anew; `failures`: the count of another connection to the same peer."""
        self.failures, self._pause = failures, 0.0

    def is_on_trial(self, now: float) -> bool:
        """Whether the connection had given up, and no link has been stable since."""
        return self.failures > 0 and not self._has_been_stable(now)

    def came_up(self, now: float) -> None:
        """A link is in service at last; if the one that it renews was stable, earlier failures do not count."""
        self.went_down(now)
        self._up_since = now

    def went_down(self, now: float) -> None:
        """The link is gone, or will be; if it was stable, earlier failures do not count."""
        if self._has_been_stable(now):
            self.forget()
        self._up_since = None

    def lost(self, now: float) -> None:
        """A link was lost, rather than replaced by the pool."""
        if self._retry.max_restarts is not None:
            self._losses.append(now)
            while len(self._losses) > self._retry.max_restarts + 1:
                self._losses.popleft()

    def failed(self, now: float) -> None:
        """One more attempt has failed: compute `wait`."""
        self.failures += 1
        self._pause = self._replacement.delay(self.failures, self._pause, self._rng)
        self.wait = max(self._pause, SHORTEST_PAUSE, self._until_restart(now))

    def _has_been_stable(self, now: float) -> bool:
        return self._up_since is not None and now - self._up_since >= self._retry.stable_after

    def _until_restart(self, now: float) -> float:
        """Seconds until the connection's restart intensity allows one more link."""
        if self._retry.max_restarts is None or len(self._losses) <= self._retry.max_restarts:
            return 0.0
        return self._losses[0] + self._retry.restart_window - now

"""Counts attempts and losses: the arithmetic behind the guards and effects.

It is pure: the time, the random source and the policy, which may be replaced at any time, are arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from fsm_conn.links.errors import StartTimeoutError

if TYPE_CHECKING:
    import random

    from fsm_conn.connection.policy import RetryPolicy

__all__ = ["Losses", "Outage", "too_late"]


@attrs.define
class Outage:
    """The attempts of one outage. See `RetryPolicy` for when one begins and ends."""

    since: float = 0.0
    """When it began; its deadline runs from here."""
    is_half_open: bool = attrs.field(default=False, kw_only=True)
    """Whether the first failure ends it."""
    attempts: int = attrs.field(default=0, init=False)
    """Attempts that have begun."""
    pause: float = attrs.field(default=0.0, init=False)
    """Seconds before the current attempt."""
    next_pause: float = attrs.field(default=0.0, init=False)
    """Seconds before the next one, drawn when the current one began, because guards draw nothing."""
    opened: int = attrs.field(default=0, init=False)
    """Links that came up."""

    def begin(self, now: float, *, is_half_open: bool = False) -> None:
        """Begin another outage in the place of this one."""
        self.since, self.is_half_open = now, is_half_open
        self.attempts = self.opened = 0
        self.pause = self.next_pause = 0.0

    def count(self, policy: RetryPolicy, rng: random.Random) -> int:
        """Count an attempt that begins; return its number."""
        self.attempts += 1
        self.pause = self.next_pause
        self.next_pause = policy.delay(self.attempts, self.pause, rng)
        return self.attempts

    def permits(self, policy: RetryPolicy, now: float) -> bool:
        """Whether one more attempt may be made."""
        return not self.is_half_open and policy.permits(self.attempts, now - self.since, self.next_pause)

    def note_opened(self) -> None:
        """Count a link that came up. An outage's first link is replaced at once if lost, later ones after a delay."""
        self.opened += 1
        if self.opened == 1:
            self.next_pause = 0.0

    def time_left(self, policy: RetryPolicy, now: float) -> float | None:
        """Seconds left of the policy's deadline; zero or less when it has passed; None without one."""
        return None if policy.deadline is None else self.since + policy.deadline - now


def too_late(policy: RetryPolicy) -> StartTimeoutError:
    """The error of an attempt after the deadline."""
    return StartTimeoutError(f"the retry policy's deadline of {policy.deadline:g} s has passed")


class Losses:
    """The times when open links were lost, as far back as the policy looks."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: tuple[float, ...] = ()

    def note(self, policy: RetryPolicy, now: float) -> None:
        """Count one more loss. Losses beyond what the policy needs are not remembered."""
        if policy.max_restarts is None:
            return
        since = now - policy.restart_window
        recent = [at for at in self._times if at > since]
        self._times = (*recent[-policy.max_restarts :], now) if policy.max_restarts else (now,)

    def forget(self) -> None:
        """Count from zero."""
        self._times = ()

    def recent(self, policy: RetryPolicy, now: float) -> int:
        """How many lie within the policy's window."""
        since = now - policy.restart_window
        return sum(at > since for at in self._times)

    def ages(self, policy: RetryPolicy, now: float) -> tuple[float, ...]:
        """Seconds since each of those within the policy's window."""
        return tuple(now - at for at in self._times if now - at < policy.restart_window)

    def permit(self, policy: RetryPolicy, now: float) -> bool:
        """Whether the link just lost may be replaced."""
        return policy.max_restarts is None or policy.permits_restart(1 + self.recent(policy, now))

    def __len__(self) -> int:
        return len(self._times)

"""Everything that a connection remembers, as a value, for comparing two moments of its life."""

from __future__ import annotations

from typing import NamedTuple

from fsm_conn.connection.demand import Demand
from fsm_conn.connection.link_holder import LinkHolder
from fsm_conn.connection.outage import Losses, Outage
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy
from fsm_conn.connection.prober import LEAST_PAUSE, Probes

__all__ = ["Memory", "memory_of"]


class Memory(NamedTuple):
    """What a connection remembers at one moment, as far as its policies may still depend on it."""

    attempt: int
    """The number of the attempt in its records."""
    attempts: int
    opened: int
    is_half_open: bool
    pause: float
    next_pause: float
    """As in `Outage`."""
    time_left: float | None
    """Seconds left of the outage's deadline; None without one."""
    losses: tuple[float, ...]
    """Seconds since each loss within the restart window."""
    failed_probes: int
    is_used: bool
    up_for: float | None
    """Seconds that the link has been up, at most `stable_after`; None while it is not."""
    silent_for: float
    """Seconds since the peer's last sign of life, capped at what the health policy can distinguish."""
    calls: tuple[float, ...]
    """The ages of the calls under way in seconds, the oldest first; capped likewise."""
    verified: float
    """Seconds since the peer was last probed because of a call's deadline; capped likewise."""


def memory_of(
    now: float,
    attempt: int,
    policies: tuple[RetryPolicy, HealthPolicy],
    counted: tuple[Outage, Losses, Probes, Demand],
    holder: LinkHolder,
) -> Memory:
    """The memory of a connection at `now`."""
    (retry, health), (outage, losses, probes, demand) = policies, counted
    horizon = max(health.interval or 0.0, health.busy_limit) + health.timeout
    return Memory(
        attempt,
        outage.attempts,
        outage.opened,
        outage.is_half_open,
        outage.pause,
        outage.next_pause,
        outage.time_left(retry, now),
        losses.ages(retry, now),
        probes.failed,
        demand.is_used,
        None if holder.up_since is None else min(now - holder.up_since, retry.stable_after),
        min(now - holder.traffic.heard_at, horizon),
        tuple(min(age, horizon) for age in holder.traffic.ages(now)),
        min(now - probes.verified_at, LEAST_PAUSE),
    )

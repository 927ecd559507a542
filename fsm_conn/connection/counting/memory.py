"""What a connection remembers, as a value: for those who ask whether two moments of its life are alike."""

from __future__ import annotations

from typing import NamedTuple

from fsm_conn.connection.demand import Demand
from fsm_conn.connection.link_holder import LinkHolder
from fsm_conn.connection.outage import Losses, Outage
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy
from fsm_conn.connection.prober import LEAST_PAUSE, Probes

__all__ = ["Memory", "memory_of"]


class Memory(NamedTuple):
    """What a connection remembers that its policy may still judge by, at the moment that was asked about."""

    attempt: int
    """The attempt that its records tell."""
    attempts: int
    opened: int
    is_half_open: bool
    pause: float
    next_pause: float
    """As in `Outage`."""
    time_left: float | None
    """Seconds of the outage's deadline; None: there is none."""
    losses: tuple[float, ...]
    """Seconds since each loss within the restart window."""
    failed_probes: int
    is_used: bool
    up_for: float | None
    """Seconds that the link has been up, at most `stable_after`; None: it is not."""
    silent_for: float
    """Seconds since the peer's last sign of life, no more than matter to its health policy."""
    calls: tuple[float, ...]
    """Seconds since each call under way began, the oldest first; likewise."""
    verified: float
    """Seconds since the peer was last asked because of a call's deadline; likewise."""


def memory_of(
    now: float,
    attempt: int,
    policies: tuple[RetryPolicy, HealthPolicy],
    counted: tuple[Outage, Losses, Probes, Demand],
    holder: LinkHolder,
) -> Memory:
    """What the parts of a connection remember at `now`."""
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

"""The policy of a client of a cluster, as one immutable value."""

from __future__ import annotations

import attrs

from fsm_conn._util.keywords import explained_class
from fsm_conn._util.validators import seconds, whole
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy

__all__ = ["MEMBER_RETRY", "ClusterPolicy"]

MEMBER_RETRY = RetryPolicy(max_attempts=None, max_delay=10.0)
"""The default `retry` of the connection to a member: without an end, with pauses that double from 0.25 up to 10
seconds."""


@explained_class
@attrs.frozen(kw_only=True)
class ClusterPolicy:
    """Sets how a `ClusterPool` balances, waits and limits."""

    wait_timeout: float = attrs.field(default=30.0, validator=seconds(zero=True))
    """Seconds that a call without a timeout waits for a serving member, and that `open` waits for the first."""
    slow_start: float = attrs.field(default=10.0, validator=seconds(zero=True))
    """Seconds in which the share of a new member grows from a tenth to the whole."""
    sick_after: int = attrs.field(default=5, validator=whole(1))
    """How many calls in a row must fail (lost, answered UNAVAILABLE or CANCELLED, or not answered in time) before a
    member counts as sick."""
    sick_pause: float = attrs.field(default=1.0, validator=seconds(zero=False))
    """Seconds for which a sick member is left out the first time; doubled each further time, until a call is
    answered."""
    longest_pause: float = attrs.field(default=30.0, validator=seconds(zero=False))
    """The longest such pause, in seconds."""
    drain_timeout: float = attrs.field(default=30.0, validator=seconds(zero=True))
    """Seconds for the calls under way on a leaving member."""
    local_slack: int = attrs.field(default=8, validator=whole(0))
    """How many more calls than the least loaded other member a member on this machine may have and still be
    preferred."""
    subset: int | None = attrs.field(default=None, validator=whole(1, none=True))
    """How many members a client connects to, in addition to those on its own machine; None: all."""
    max_leases: int = attrs.field(default=4, validator=whole(1))
    """Simultaneous leases on one member, each with a connection of its own."""
    retry: RetryPolicy = attrs.field(default=MEMBER_RETRY, validator=attrs.validators.instance_of(RetryPolicy))
    """Sets when the connection to a member is opened again."""
    health: HealthPolicy | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.instance_of(HealthPolicy))
    )
    """Sets how members are probed; None: only their connections are watched."""

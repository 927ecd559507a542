"""What a client of a cluster may do, as one frozen value."""

from __future__ import annotations

import attrs

from fsm_conn._util.keywords import explained_class
from fsm_conn._util.validators import seconds, whole
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy

__all__ = ["MEMBER_RETRY", "ClusterPolicy"]

MEMBER_RETRY = RetryPolicy(max_attempts=None, max_delay=10.0)
"""By what the connection to a member is opened again: for ever, with pauses that double from 0.25 up to 10 seconds."""


@explained_class
@attrs.frozen(kw_only=True)
class ClusterPolicy:
    """Balancing, patience and limits of a `ClusterPool`."""

    wait_timeout: float = attrs.field(default=30.0, validator=seconds(zero=True))
    """Seconds that a call without a timeout waits for a member that serves, and that `start` waits for the first."""
    slow_start: float = attrs.field(default=10.0, validator=seconds(zero=True))
    """Seconds in which the share of a member that has just come grows from a tenth to the whole."""
    sick_after: int = attrs.field(default=5, validator=whole(1))
    """Calls that fail one after another (lost, refused as UNAVAILABLE, or not answered in time), after which a member
    counts as sick."""
    sick_pause: float = attrs.field(default=1.0, validator=seconds(zero=False))
    """Seconds for which a sick member is left out the first time; twice as long each further time, until a call is
    answered."""
    longest_pause: float = attrs.field(default=30.0, validator=seconds(zero=False))
    """No such pause is longer, in seconds."""
    drain_timeout: float = attrs.field(default=30.0, validator=seconds(zero=True))
    """Seconds for calls under way on a member that goes."""
    local_slack: int = attrs.field(default=8, validator=whole(0))
    """By how many calls a member on this machine may be busier than the best other one, and still be preferred."""
    subset: int | None = attrs.field(default=None, validator=whole(1, none=True))
    """To how many members a client connects, those on its own machine besides; None: to all."""
    max_leases: int = attrs.field(default=4, validator=whole(1))
    """Leases on one member at one time, each with a connection of its own."""
    retry: RetryPolicy = attrs.field(default=MEMBER_RETRY, validator=attrs.validators.instance_of(RetryPolicy))
    """When the connection to a member is opened again."""
    health: HealthPolicy | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.instance_of(HealthPolicy))
    )
    """How members are probed; None: not, their connections are watched."""

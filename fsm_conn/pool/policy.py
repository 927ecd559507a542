"""The policy of a pool, as an immutable value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from fsm_conn._util.keywords import explained_class
from fsm_conn._util.validators import flag, seconds, share, whole
from fsm_conn.connection.policy import RetryPolicy

if TYPE_CHECKING:
    import random

__all__ = ["PoolPolicy"]

_REPLACEMENT = RetryPolicy(max_attempts=None, initial_delay=0.5, max_delay=60.0)


@explained_class
@attrs.frozen(kw_only=True)
class PoolPolicy:
    """Sets how many connections a pool keeps, for how long, and how callers wait for them.

    The names are those of SQLAlchemy's and psycopg's pools. The defaults of `size` and `max_overflow` are the
    documented ones.
    """

    size: int = attrs.field(default=5, validator=whole(1))
    """Connections that the pool keeps."""
    max_overflow: int = attrs.field(default=2, validator=whole(0))
    """Connections beyond `size` that are opened at once when all others are leased. A server that limits its
    connections has to allow `size + standby + max_overflow + 1`, and those that are just being closed: the last link
    that serves is closed when its successor is open, and what leaves the pool is closed beside the others."""
    standby: int = attrs.field(default=0, validator=whole(0))
    """Spare connections beyond `size`, which are kept open and leased only when another one is lost."""
    leases_per_connection: int = attrs.field(default=1, validator=whole(1))
    """Simultaneous leases of one connection. gRPC carries many calls at once, but a plugin may handle one at a time."""
    acquire_timeout: float | None = attrs.field(default=None, validator=seconds(zero=False, none=True))
    """Seconds that `acquire()` waits when it is given no timeout. None: no limit."""
    max_waiters: int | None = attrs.field(default=None, validator=whole(0, none=True))
    """How many callers may wait for a lease to be released; one more is refused at once. A caller for whom a connection
    is being started is not counted. None: no limit."""
    max_lifetime: float | None = attrs.field(default=None, validator=seconds(zero=False, none=True))
    """Seconds after which a link is replaced by a fresh one, once nobody uses it. None: never."""
    max_idle: float | None = attrs.field(default=None, validator=seconds(zero=False, none=True))
    """Seconds without use after which a connection is closed, down to `min_idle` (and `standby`), until it is needed
    again. None: never."""
    min_idle: int = attrs.field(default=0, validator=whole(0))
    """Connections that stay open even when unused."""
    overflow_linger: float = attrs.field(default=5.0, validator=seconds(zero=True))
    """Seconds for which a connection beyond `size` stays open without use."""
    jitter: float = attrs.field(default=0.1, validator=share)
    """The largest share (0 to 1) by which `max_lifetime` is shortened, drawn for each link, so that not all end
    together."""
    lease_limit: float | None = attrs.field(default=None, validator=seconds(zero=False, none=True))
    """Seconds after which a held lease is logged as perhaps forgotten. None: never."""
    track_leases: bool = attrs.field(default=False, validator=flag)
    """Whether each lease remembers where it was acquired, for such log lines. This makes each lease slower."""
    hook_timeout: float | None = attrs.field(default=30.0, validator=seconds(zero=False, none=True))
    """Seconds that `on_acquire` and `on_release` may take each. A slower hook is cancelled, and the link that it
    worked on is replaced. None: no limit. `on_open` has the connection's `start_timeout`."""
    lease_outlives_link: bool = attrs.field(default=False, validator=flag)
    """Whether a lease continues on the next link of its connection when its own is lost. By default a lease is of one
    link: after a loss, everything through it raises `LeaseLostError`."""
    replacement: RetryPolicy = attrs.field(default=_REPLACEMENT, validator=attrs.validators.instance_of(RetryPolicy))
    """Sets the pauses between the attempts of a connection that has given up, until a link has been up for the
    connection's `stable_after`. Only its delays count: the attempts never end, so that capacity returns with the peer.
    By default half a second at first, and a minute at most: some ninety starts an hour."""

    def __attrs_post_init__(self) -> None:
        if self.min_idle > self.size:
            raise ValueError(f"PoolPolicy(min_idle={self.min_idle!r}): give at most size={self.size}")

    def lifetime(self, rng: random.Random) -> float | None:
        """The lifetime of a new link, in seconds; None: no limit."""
        return None if self.max_lifetime is None else self.max_lifetime * (1 - self.jitter * rng.random())

"""Policies: immutable values and pure functions that set what a connection may do.

The guards of the table ask the policies. A policy has no clock, event loop or random source; times and random
sources are arguments, so that every decision can be repeated exactly.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import attrs

from fsm_conn._util.keywords import explained_class
from fsm_conn._util.validators import factor, flag, seconds, share, text, whole

if TYPE_CHECKING:
    import random

__all__ = ["DEFAULT_RETRY", "HealthPolicy", "Jitter", "RetryPolicy"]


class Jitter(StrEnum):
    """How delays are randomised, so that many connections that lost one peer do not return in step.

    The names are those of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
    """

    NONE = "none"
    """The delay as computed."""
    EQUAL = "equal"
    """Between half the delay and the whole of it."""
    FULL = "full"
    """Between zero and the delay."""
    DECORRELATED = "decorrelated"
    """Between `initial_delay` and three times the previous delay, capped."""


def _jitter(value: object) -> Jitter:
    try:
        return Jitter(value)  # type: ignore[arg-type]
    except ValueError:
        kinds = ", ".join(repr(str(kind)) for kind in Jitter)
        raise ValueError(f"RetryPolicy(jitter={value!r}): give one of {kinds}") from None


@explained_class
@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Sets how often a link is opened again, and after how long.

    An *outage* begins with `connect()`, with `reconnect()`, or with the loss of a link that had been up for
    `stable_after`; it ends when a link stays up that long. `max_attempts` and `deadline` are per outage, so
    a plugin that starts and dies at once, again and again, runs out of attempts. The first attempt of an
    outage is made at once, and so is the one after its first link came up; all others wait.

    The defaults allow five starts, with ten seconds up to count as recovered, which is what systemd allows a
    service (StartLimitBurst=5, StartLimitIntervalSec=10s); the delays begin at a quarter of a second, about
    one cold start of a Python plugin, and double, as in the gRPC connection backoff specification's shape.
    """

    max_attempts: int | None = attrs.field(default=5, validator=whole(1, none=True, why="the first one counts: "))
    """Attempts to open a link in one outage, the first one included. None: no limit."""
    initial_delay: float = attrs.field(default=0.25, validator=seconds(zero=True))
    """Seconds before the second attempt, before jitter."""
    multiplier: float = attrs.field(default=2.0, validator=factor)
    """The factor from each delay to the next."""
    max_delay: float = attrs.field(default=30.0, validator=seconds(zero=True))
    """The longest delay, in seconds."""
    jitter: Jitter = attrs.field(default=Jitter.EQUAL, converter=_jitter, repr=lambda jitter: repr(str(jitter)))
    """How delays are randomised; a `Jitter` or its name."""
    deadline: float | None = attrs.field(default=None, validator=seconds(zero=False, none=True))
    """Seconds for a whole outage: no attempt starts later, and none runs past it. None: no limit. An outage lasts until
    a link has been up for `stable_after`: with a deadline shorter than that, a link that is lost after the deadline and
    before `stable_after` is not replaced."""
    stable_after: float = attrs.field(default=10.0, validator=seconds(zero=True))
    """Seconds a link must stay up before the outage counts as over and attempts start from zero."""
    max_restarts: int | None = attrs.field(default=None, validator=whole(0, none=True))
    """How many losses of an open link within `restart_window` are followed by a reconnect; one more ends in `failed`,
    even when each reconnect succeeded. The *intensity* of Erlang's supervisors. None: no limit."""
    restart_window: float = attrs.field(default=60.0, validator=seconds(zero=False))
    """Seconds in which losses are counted for `max_restarts`; the *period* of Erlang's supervisors."""
    recover_after: float | None = attrs.field(default=None, validator=seconds(zero=False, none=True))
    """Seconds in `failed` before one careful attempt. If that fails, or its link does not stay up for `stable_after`,
    the connection returns to `failed`. The *half-open* state of a circuit breaker (Nygard, "Release It!"). There is no
    such attempt after a permanent error or a bug. None: stay in `failed` until `connect()` or `reconnect()`."""
    recover_unused: bool = attrs.field(default=True, validator=flag)
    """Whether `recover_after` also holds for a connection that was never connected. If not, a `connect()` that fails
    leaves nothing running."""

    def delay(self, attempts: int, previous: float, rng: random.Random) -> float:
        """The pause in seconds between attempt number `attempts` and the next.

        Args:
            attempts: attempts made in this outage; at 0 there is no pause.
            previous: the pause before the last attempt, in seconds; only decorrelated jitter reads it.
            rng: the source of jitter.
        """
        if attempts == 0:
            return 0.0
        if self.jitter is Jitter.DECORRELATED:
            low = min(self.initial_delay, self.max_delay)
            return min(self.max_delay, rng.uniform(low, max(low, previous * 3)))
        whole = self._exponential(attempts)
        if self.jitter is Jitter.EQUAL:
            return whole * (0.5 + rng.random() * 0.5)
        if self.jitter is Jitter.FULL:
            return whole * rng.random()
        return whole

    def permits(self, attempts: int, elapsed: float, delay: float) -> bool:
        """Whether one more attempt may be made, `delay` seconds from now.

        Args:
            attempts: attempts made in this outage.
            elapsed: seconds since the outage began.
            delay: the pause before the attempt, in seconds.
        """
        if self.max_attempts is not None and attempts >= self.max_attempts:
            return False
        return self.deadline is None or elapsed + delay < self.deadline

    def permits_restart(self, losses: int) -> bool:
        """Whether an open link may be replaced after so many losses within `restart_window`, this one included."""
        return self.max_restarts is None or losses <= self.max_restarts

    def recovery_pause(self, rng: random.Random) -> float:
        """Seconds in `failed` before the careful attempt: `recover_after`, with jitter up to half as much again.

        The jitter keeps connections that failed together from coming back together.
        """
        assert self.recover_after is not None
        spread = 0.0 if self.jitter is Jitter.NONE else 0.5
        return self.recover_after * (1 + spread * rng.random())

    def _exponential(self, attempts: int) -> float:
        try:
            return float(min(self.max_delay, self.initial_delay * float(self.multiplier) ** (attempts - 1)))
        except OverflowError:
            return self.max_delay if self.initial_delay else 0.0


DEFAULT_RETRY = RetryPolicy(recover_after=3.0, recover_unused=False)
"""The default policy of a `Connection`: as `RetryPolicy()`, but once connected it never gives up for good. After the
attempts of an outage, one more is made every 3 to 4.5 seconds, so that it is connected again within 5 seconds of its
peer's return. Meanwhile, calls that do not wait fail at once."""


@explained_class
@attrs.frozen(kw_only=True)
class HealthPolicy:
    """Sets how the health of a peer is watched while connected.

    Probes use the gRPC health-checking protocol (https://github.com/grpc/grpc/blob/master/doc/health-checking.md):
    `Check` at the interval, and at once when the peer's `Watch` stream announces a change, but then not before a
    second, or a tenth of the interval if that is less, since the last probe. A peer without the health service is
    watched by its link alone.

    A peer that hangs is noticed within `interval + timeout`, and given up after `failure_threshold` such failures in a
    row: with the defaults after 3 x (30 + 5) s = 105 s. While calls are under way, it is given up no sooner than
    `busy_limit` after its last answer. Simultaneous failed probes count once. `failure_threshold` is the default of
    Kubernetes' probes, and `timeout` a usual value there.

    Whatever the interval, when a call passes the `timeout` of its `CallOptions`, the peer is probed once, at once. If
    it answers neither that nor anything else within this policy's `timeout`, the link counts as lost. So callers notice
    a peer that vanished silently. A host whose own event loop was blocked probes again before it blames the peer.
    """

    interval: float | None = attrs.field(default=30, validator=seconds(least=0.01, none=True))
    """The longest time between two probes, in seconds; 0.01 or more. None: no probes except by `probe()`."""
    timeout: float = attrs.field(default=5.0, validator=seconds(zero=False))
    """Seconds for the answer to one probe."""
    failure_threshold: int = attrs.field(default=3, validator=whole(1))
    """Failed probes in a row that count as a lost link."""
    service: str = attrs.field(default="", validator=text)
    """The full name of the service whose health is asked for; empty: the peer as a whole."""
    jitter: float = attrs.field(default=0.1, validator=share)
    """The share of the interval (0 to 1) by which a probe may come early, so that many connections do not probe in
    step."""
    skip_when_busy: bool = attrs.field(default=True, validator=flag)
    """Whether any answer to a call is a sign of life, after which no probe is made for an interval."""
    busy_limit: float = attrs.field(default=60.0, validator=seconds(zero=True))
    """Seconds after its last sign of life for which a peer that does not answer a probe counts as busy, as long as a
    call that began before the probe is under way: a plugin may have a single thread, which works on that call."""
    ready_timeout: float | None = attrs.field(default=None, validator=seconds(zero=True, none=True))
    """Seconds for a new peer to report SERVING before it counts as connected: for peers that answer NOT_SERVING, or
    nothing, while they warm up. A peer without a health service need not. If it takes longer, the attempt fails.
    0: it counts as connected at once. None: where there is an `interval` and the peer speaks gRPC, 60 s for one that
    first answers NOT_SERVING."""
    watch: bool = attrs.field(default=True, validator=flag)
    """Whether to listen to the peer's `Watch` stream."""

    def pause(self, rng: random.Random) -> float:
        """Seconds between the last sign of life and the next probe."""
        assert self.interval is not None
        return self.interval * (1 - self.jitter * rng.random())

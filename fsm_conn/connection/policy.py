"""Policies: what a connection may do, as frozen values and pure functions.

A policy decides nothing by itself: the guards of the table ask it. It knows no clock, no event loop and no
random source of its own; all three are arguments, so that every decision can be repeated exactly.
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
    """How a delay is spread, so that many connections that lost one peer do not return in step.

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
    """When a link is opened again, and after how long.

    An *outage* begins with `connect()`, with `reconnect()`, or with the loss of a link that had been up for
    `stable_after`; it ends when a link stays up that long. `max_attempts` and `deadline` are per outage, so
    a plugin that starts well and dies at once, again and again, does run out of attempts. The first attempt
    of an outage is made at once, and so is the one after the first link that came up; all others wait.

    The defaults allow five starts, with ten seconds up to count as recovered, which is what systemd allows a
    service (StartLimitBurst=5, StartLimitIntervalSec=10s); the delays begin at a quarter of a second, about
    one cold start of a Python plugin, and double, as in the gRPC connection backoff specification's shape.
    """

    max_attempts: int | None = attrs.field(default=5, validator=whole(1, none=True, why="the first one counts: "))
    """Links opened, or tried to be, in one outage; the first one counts. None: no limit."""
    initial_delay: float = attrs.field(default=0.25, validator=seconds(zero=True))
    """Seconds before the second attempt, before jitter."""
    multiplier: float = attrs.field(default=2.0, validator=factor)
    """Each delay is this many times the one before."""
    max_delay: float = attrs.field(default=30.0, validator=seconds(zero=True))
    """No delay is longer, in seconds."""
    jitter: Jitter = attrs.field(default=Jitter.EQUAL, converter=_jitter, repr=lambda jitter: repr(str(jitter)))
    """How delays are spread; a `Jitter` or its name."""
    deadline: float | None = attrs.field(default=None, validator=seconds(zero=False, none=True))
    """Seconds for a whole outage: no attempt starts later, and none runs past it. None: no limit. An outage lasts until
    a link has been up for `stable_after`: with a deadline shorter than that, a link that is lost after the deadline and
    before `stable_after` is not replaced."""
    stable_after: float = attrs.field(default=10.0, validator=seconds(zero=True))
    """Seconds a link must stay up before the outage counts as over and attempts start from zero."""
    max_restarts: int | None = attrs.field(default=None, validator=whole(0, none=True))
    """Losses of an open link within `restart_window` that are made good; one more, which counts too, ends in `failed`,
    however well each recovery went. The *intensity* of Erlang's supervisors. None: no limit."""
    restart_window: float = attrs.field(default=60.0, validator=seconds(zero=False))
    """Seconds in which losses are counted for `max_restarts`; the *period* of Erlang's supervisors."""
    recover_after: float | None = attrs.field(default=None, validator=seconds(zero=False, none=True))
    """Seconds in `failed` after which one careful attempt is made: if it fails, or its link does not stay up for
    `stable_after`, back to `failed`. The *half-open* state of a circuit breaker (Nygard, "Release It!"). Errors that
    cannot get better, and bugs, are not recovered from. None: stay until somebody asks."""
    recover_unused: bool = attrs.field(default=True, validator=flag)
    """Whether that is done for a connection, too, that nobody uses: one whose `connect()` has failed. If not,
    a `connect()` that fails leaves nothing behind."""

    def delay(self, attempts: int, previous: float, rng: random.Random) -> float:
        """The pause, in seconds, after `attempts` attempts (0 or more) and before the next.

        Args:
            attempts: attempts made in this outage; after none there is no pause.
            previous: the pause before the last attempt, in seconds; only decorrelated jitter reads it.
            rng: where jitter is drawn from.
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
        """Seconds to stay in `failed` before the careful attempt: `recover_after`, or up to half as much again when
        there is jitter, so that many connections that failed together do not come back together.
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
"""What a `Connection` goes by that is given no policy: as `RetryPolicy()`, and once it has been connected it never
gives up for good: after the attempts of an outage, one more is made every 3 to 4.5 seconds, so that it is connected
again within 5 seconds of its peer's return. Callers that do not wait are told at once meanwhile."""


@explained_class
@attrs.frozen(kw_only=True)
class HealthPolicy:
    """How the health of a peer is watched while connected.

    The peer is asked by the gRPC health-checking protocol (https://github.com/grpc/grpc/blob/master/doc/health-checking.md):
    `Check` at the interval, and at once when its `Watch` stream, where it has one, says that something has changed; but
    however much it says, the next such probe comes a second after the last, or a tenth of the interval if that is less.
    A peer without the health service is watched by its link alone.

    A peer that hangs is noticed within `interval + timeout`, and given up after `failure_threshold` such failures in a
    row: with the defaults after 3 x (30 + 5) s, which is 105 s, and while calls are under way no sooner than
    `busy_limit` after its last answer. Probes at one time that fail are one failure. `timeout` and `failure_threshold`
    have the values that Kubernetes' probes are usually given and default to.

    Whatever the interval, a call that ran into the `timeout` of its `CallOptions` has the peer asked once, at once: if
    that is not answered within this policy's `timeout`, and nothing else is, the link counts as lost. So a peer that
    vanished without a word is noticed by those who call it. A host whose own event loop was blocked asks again before
    it blames the peer.
    """

    interval: float | None = attrs.field(default=30, validator=seconds(least=0.01, none=True))
    """Seconds between two probes, at most; 0.01 or more. None: no probes but those made by `probe()`."""
    timeout: float = attrs.field(default=5.0, validator=seconds(zero=False))
    """Seconds for the answer to one probe."""
    failure_threshold: int = attrs.field(default=3, validator=whole(1))
    """Failed probes in a row that count as a lost link."""
    service: str = attrs.field(default="", validator=text)
    """The service to ask for, by its full name; empty: the peer as a whole."""
    jitter: float = attrs.field(default=0.1, validator=share)
    """The share of the interval by which a probe may come early, so that many connections do not probe in step."""
    skip_when_busy: bool = attrs.field(default=True, validator=flag)
    """Whether a call that is answered, whatever the answer, is a sign of life, after which no probe is made for an
    interval."""
    busy_limit: float = attrs.field(default=60.0, validator=seconds(zero=True))
    """Seconds after its last sign of life for which a peer that does not answer a probe is taken for busy, as long as a
    call that began before the probe is under way: a plugin may have one thread only, and that may be at work for us."""
    ready_timeout: float | None = attrs.field(default=None, validator=seconds(zero=True, none=True))
    """Seconds for a peer that was opened to say that it is well, before it counts as connected: for peers that say
    NOT_SERVING, or nothing, while they warm up. One that has no way to tell need not. If it takes longer, the attempt
    has failed. 0: it counts as connected at once. None: where there is an `interval`, and the peer speaks gRPC, 60 s
    for one that says NOT_SERVING when it is first asked."""
    watch: bool = attrs.field(default=True, validator=flag)
    """Whether to listen to the peer's `Watch` stream."""

    def pause(self, rng: random.Random) -> float:
        """Seconds between the last sign of life and the next probe."""
        assert self.interval is not None
        return self.interval * (1 - self.jitter * rng.random())

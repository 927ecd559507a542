"""Watches the health of a peer while a connection is connected. It decides when to probe, not what follows.

A probe is made one interval after the last sign of life, and earlier when the peer announces a change of its health:
at once, but, because announcements may flood in, not before a minimal pause since the last probe. The table decides
what the outcome means; this module does not know it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

from fsm_conn._util.timing import ExpiredError, either, end, finish, within
from fsm_conn.connection.hooks import unless_lost
from fsm_conn.connection.link_holder import awaitable
from fsm_conn.links.errors import NotServingError, ProbeError, ProbeTimeoutError
from fsm_conn.machine.errors import is_expected

if TYPE_CHECKING:
    import random

    from fsm_conn.connection.calling.traffic import Traffic
    from fsm_conn.connection.policy import HealthPolicy
    from fsm_conn.links.base import Link

__all__ = ["LEAST_PAUSE", "HealthStatus", "Prober", "Probes", "ask", "is_excused", "until_ready"]

_log = logging.getLogger("fsm_conn")

_SOON = 0.001
"""The resolution of timers, in seconds: what is due this soon is due now."""
LEAST_PAUSE = 1.0
"""The pause in seconds before a probe that was announced; a tenth of the interval where that is shorter."""


NEVER = float("-inf")
_BLOCKED = 0.02
"""Seconds. A time limit that is noticed this much late shows that the loop was blocked."""
_TRIES = 3
READY_TIMEOUT = 60.0
"""Seconds for a peer to become ready, unless the policy sets `ready_timeout`."""
_WARMING = 0.25
"""Seconds between two probes of a peer that is not ready yet."""


class HealthStatus(StrEnum):
    """The outcome of the last health probe of a connection."""

    UNKNOWN = "unknown"
    """The current link was not probed yet, or there is no link."""
    SERVING = "serving"
    """The peer answered that it serves."""
    NOT_SERVING = "not serving"
    """The peer answered that it does not serve."""
    NO_ANSWER = "no answer"
    """The peer did not answer in time, or could not be probed."""
    UNSUPPORTED = "no health service"
    """The peer has no health service: only its link is watched."""


class Probes:
    """The results of the probes of a link.

    Attributes:
        failed: how many failed in a row.
        counted: how many failures have counted since the connection was made; simultaneous ones count once.
        status: the outcome of the last one.
        verified_at: when a peer was last probed because a call's deadline had passed.
    """

    __slots__ = ("counted", "failed", "status", "verified_at")

    def __init__(self) -> None:
        self.failed = self.counted = 0
        self.status = HealthStatus.UNKNOWN
        self.verified_at = NEVER


async def ask(link: Link, service: str, timeout: float, name: str) -> tuple[HealthStatus, ProbeError | None]:
    """Probe a peer once, and return the status and the error.

    When the time limit is noticed much too late, this process's own loop was blocked, and the answer may be waiting to
    be read. Then the peer is probed again, a few times, before it is blamed.
    """
    clock = asyncio.get_running_loop().time
    for _ in range(_TRIES):
        began = clock()
        try:
            told = await within(timeout, link.probe(service))
        except ExpiredError:
            if clock() - began - timeout < _BLOCKED:
                break
        except NotServingError as error:
            return HealthStatus.NOT_SERVING, error
        except ProbeError as error:
            return HealthStatus.NO_ANSWER, error
        else:
            return HealthStatus.SERVING if told else HealthStatus.UNSUPPORTED, None
    late = ProbeTimeoutError(f"{name}: no answer to a health probe within {timeout:g} s")
    return HealthStatus.NO_ANSWER, late


def is_excused(failure: ProbeError | None, policy: HealthPolicy, traffic: Traffic, asked_at: float, now: float) -> bool:
    """Whether a peer that did not answer a probe is busy, or has sent another answer meanwhile."""
    if not isinstance(failure, ProbeTimeoutError):
        return False
    has_spoken = policy.skip_when_busy and traffic.heard_at > asked_at
    return has_spoken or traffic.excuses(asked_at, now, policy.busy_limit)


async def until_ready(link: Link, policy: HealthPolicy, name: str) -> None:
    """Wait until a peer, whose link was just opened, answers that it serves, or has no health service.

    Raises:
        NotServingError: it did not become ready within the policy's `ready_timeout`.
        Exception: the link was lost by this error meanwhile.
    """
    limit = policy.ready_timeout
    if limit is None:
        limit = READY_TIMEOUT if link.may_warm_up and policy.interval is not None else 0
    if not limit:
        return
    try:
        await unless_lost(link, _ready(link, policy, name, limit), limit, name, "until_ready")
    except ExpiredError:
        raise NotServingError(f"it did not report that it serves within {limit:g} s (ready_timeout)") from None


async def _ready(link: Link, policy: HealthPolicy, name: str, limit: float) -> None:
    """Probe until it serves. A silent peer is waited for if the policy says so, or if it has answered before."""
    is_patient, has_told = policy.ready_timeout is not None, False
    while True:
        _, failure = await ask(link, policy.service, policy.timeout, name)
        if not isinstance(failure, NotServingError) and not (is_patient and isinstance(failure, ProbeTimeoutError)):
            return
        if not has_told:
            _log.info("%s: not ready yet (%s): waiting for %g s at most (ready_timeout)", name, failure, limit)
        is_patient = has_told = True
        await asyncio.sleep(_WARMING)


class Prober:
    """The probe loop of one link.

    Args:
        policy: the policy.
        link: the link of the peer.
        traffic: the calls through the link.
        probe: probes once and handles the outcome.
        rng: the source of jitter.
    """

    def __init__(
        self,
        policy: HealthPolicy,
        link: Link,
        traffic: Traffic,
        probe: Callable[[], Awaitable[Any]],
        rng: random.Random,
    ) -> None:
        self._policy = policy
        self._link = link
        self._traffic = traffic
        self._probe = probe
        self._rng = rng
        self._clock = asyncio.get_running_loop().time
        self._sign_of_life = self._clock()
        self._least_pause = min(LEAST_PAUSE, (policy.interval or 0.0) / 10)
        self._not_before = self._sign_of_life
        self._news = asyncio.Event()
        self._is_well = True

    async def until_lost(self) -> Exception:
        """Probe until the link is lost, and return the reason."""
        probes = asyncio.ensure_future(self.run())
        loss: asyncio.Future[Exception] = asyncio.ensure_future(awaitable(self._link.lost(), self._link, "lost"))
        try:
            await either(probes, loss)
            return loss.result() if loss.done() else await probes
        finally:
            probes.cancel()
            try:
                await end(self._link, "lost()", loss)
            finally:
                await finish(asyncio.gather(probes, return_exceptions=True))

    async def run(self) -> NoReturn:
        """Probe until cancelled. Unexpected errors of a probe or of the link's watch are raised as they are."""
        # No TaskGroup: it holds the task it is in, which, once cancelled, holds it: a cycle, with the connection in it.
        listening = asyncio.ensure_future(self._listen())
        try:
            await self._ask(listening)
        finally:
            await end(self._link, "watch()", listening)

    async def _ask(self, listening: asyncio.Future[None]) -> NoReturn:
        while True:
            await self._until_due()
            if listening.done():
                listening.result()
            await self._probe()
            self._sign_of_life = self._clock()
            self._not_before = self._sign_of_life + self._least_pause
            await asyncio.sleep(0)  # perhaps neither the wait nor the probe has paused: give other tasks a turn

    async def _until_due(self) -> None:
        """Wait for an interval without a sign of life, or for an announcement and the minimal pause."""
        pause = self._policy.pause(self._rng)
        while (left := self._last_sign() + pause - self._clock()) > _SOON:
            try:
                await within(left, self._news.wait())
            except ExpiredError:
                continue
            await asyncio.sleep(max(0.0, self._not_before - self._clock()))
            break
        self._news.clear()

    def _last_sign(self) -> float:
        return max(self._sign_of_life, self._traffic.heard_at) if self._policy.skip_when_busy else self._sign_of_life

    async def _listen(self) -> None:
        if not self._policy.watch:
            return
        try:
            async for is_well in self._link.watch(self._policy.service):
                if not (is_well and self._is_well):
                    self._news.set()
                self._is_well = is_well
        except Exception as error:
            self._news.set()
            if not is_expected(error):
                raise

"""Keeps one link: the guards, effects and activities that the table of `lifecycle` names.

The rules that hold here:

- Guards read, effects count, activities wait. Nothing here assigns a state: triggers are fired, and the table decides.
- A link has one owner. `_open_link` hands it to this object, `_release` takes it away, once, and closes it in bounded
  time, through any cancellation.
- Time is the loop's, and chance comes from `_rng`, drawn by effects and activities, never by guards.

Nothing here knows of callers; see `connection` for what applications call.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from fsm_conn._util.text import named
from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.connection.call_observers import CallCallback, CallObservers
from fsm_conn.connection.options import shared_rng
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy
from fsm_conn.connection.prober import HealthStatus, Prober
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import STATES, TRANSITIONS, ConnectionState, LinkState, Trigger
from fsm_conn.links.base import Link
from fsm_conn.links.errors import LinkLostError, NotServingError, ProbeError, ProbeTimeoutError, StartTimeoutError
from fsm_conn.links.target import LazyFactory
from fsm_conn.machine.machine import StateMachine, finish, is_expected, strip_tracebacks
from fsm_conn.machine.table import Fires, State

if TYPE_CHECKING:
    import random

    from fsm_conn.connection.budget import RetryBudget

__all__ = ["LinkHolder"]

_log = logging.getLogger("fsm_conn")
_DEFAULT_RETRY = RetryPolicy()
_BY_HAND = HealthPolicy(interval=None)


class LinkHolder(StateMachine):
    """The part of a connection that its table drives."""

    states: ClassVar[Sequence[State | str]] = STATES
    transitions: ClassVar[Sequence[Any]] = TRANSITIONS
    required_triggers = tuple(Trigger)
    linked_states: ClassVar[frozenset[str]]
    """The states throughout which a link is open."""
    serving_states: ClassVar[frozenset[str]]
    """The states in which calls are served."""

    record_type = ConnectionRecord
    attempt: int = 0
    """The attempt of this outage that has begun; 0 before the first."""
    name: str = ""
    retry: RetryPolicy = _DEFAULT_RETRY
    health: HealthPolicy = _BY_HAND
    budget: RetryBudget | None = None
    start_timeout: float = 10.0
    close_timeout: float = 5.0
    """Seconds a link may take to close before it is told to give up everything at once."""

    _make_link: Callable[[], Any]
    _rng: random.Random | None = None
    _link: Link | None = None
    _closing: asyncio.Task[None] | None = None
    _unclosed: Link | None = None
    _outage_since: float = 0.0
    _backoff: float = 0.0
    _next_backoff: float = 0.0
    _opened: int = 0
    _is_half_open: bool = False
    _up_since: float | None = None
    """When the present link was first called connected."""
    _losses: deque[float] | None = None
    _failed_probes: int = 0
    _failures_counted: int = 0
    _entry_reason: BaseException | None = None
    _calls: CallObservers | None = None
    _health_status: HealthStatus = HealthStatus.UNKNOWN

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        states = cls.lifecycle.states
        cls.linked_states = frozenset(name for name, state in states.items() if isinstance(state, LinkState))
        cls.serving_states = frozenset(name for name in cls.linked_states if getattr(states[name], "serves", False))

    if TYPE_CHECKING:  # its records have more than those of any machine

        @property
        def history(self) -> tuple[ConnectionRecord, ...]: ...  # noqa: D102
        @property
        def records(self) -> Sequence[ConnectionRecord]: ...  # noqa: D102
        @property
        def last_record(self) -> ConnectionRecord | None: ...  # noqa: D102
        async def reach(self, states: Collection[str]) -> ConnectionRecord: ...  # noqa: D102
        def on_transition(  # noqa: D102
            self, callback: Callable[[ConnectionRecord], Awaitable[None] | None]
        ) -> Callable[[], None]: ...

    # --- guards: they read, and change nothing --------------------------------------------------------------

    def may_retry(self, reason: BaseException | None) -> bool:
        """Whether the policy lets a link be opened once more. Never after an error that cannot get better."""
        if getattr(reason, "permanent", False):
            return False
        if self._has_been_stable():
            return self.retry.permits(0, 0.0, 0.0)
        if self._is_half_open:
            return False
        return self.retry.permits(self.attempt, self._now() - self._outage_since, self._next_backoff)

    def may_restart(self, reason: BaseException | None) -> bool:
        """Whether the policy lets an open link that was lost be replaced, so soon after the last ones that were."""
        return self.retry.max_restarts is None or self.retry.permits_restart(1 + self._recent_losses())

    def may_recover(self, reason: BaseException | None) -> bool:
        """Whether one more attempt may help: not after a bug, nor after an error that cannot get better."""
        cause = self._entry_reason
        is_hopeless = cause is not None and (not is_expected(cause) or getattr(cause, "permanent", False))
        return self.retry.recover_after is not None and not is_hopeless

    def is_unhealthy(self, reason: BaseException | None) -> bool:
        """Whether this failed probe is one too many."""
        return self._failed_probes + 1 >= self.health.failure_threshold

    # --- effects: they count, and wait for nothing ----------------------------------------------------------

    def begin_outage(self, reason: BaseException | None) -> None:
        """Attempts are counted, and the deadline runs, from here."""
        self.attempt = 0
        self._outage_since = self._now()
        self._next_backoff = 0.0
        self._opened = 0
        self._is_half_open = False

    def begin_half_open(self, reason: BaseException | None) -> None:
        """A new outage, of which one failure is enough."""
        self.begin_outage(reason)
        self._is_half_open = True

    def count_attempt(self, reason: BaseException | None) -> None:
        """One more attempt begins. The pause after it is drawn now, so that guards have nothing to draw."""
        self.attempt += 1
        self._backoff = self._next_backoff
        self._next_backoff = self.retry.delay(self.attempt, self._backoff, self._random())

    def reset_if_stable(self, reason: BaseException | None) -> None:
        """A link that had been up for `stable_after` ended its outage: what follows is a new one."""
        if self._has_been_stable():
            self.begin_outage(reason)

    def note_loss(self, reason: BaseException | None) -> None:
        """One more open link was lost; of those that are too old, nothing is remembered."""
        if self.retry.max_restarts is None:
            return
        losses = self._losses = self._losses or deque()
        since = self._now() - self.retry.restart_window
        while losses and (losses[0] <= since or len(losses) > self.retry.max_restarts):
            losses.popleft()
        losses.append(self._now())

    def forget_losses(self, reason: BaseException | None) -> None:
        """Somebody wants the connection, whatever has been."""
        self._losses = None

    def note_opened(self, reason: BaseException | None) -> None:
        """The first link of an outage that came up is replaced at once when it is lost; later ones after a delay."""
        self._opened += 1
        if self._opened == 1:
            self._next_backoff = 0.0

    def forget_probes(self, reason: BaseException | None) -> None:
        """Failed probes count only when they follow one another on one link."""
        self._failed_probes = 0

    def note_failed_probe(self, reason: BaseException | None) -> None:
        """One more failed probe in a row."""
        self._failed_probes += 1

    def mark_unresponsive(self, reason: BaseException | None) -> None:
        """A peer that does not answer will not answer a farewell either: its link is to be closed without one."""
        if self._link is not None and isinstance(reason, ProbeTimeoutError):
            self._link.mark_unresponsive()

    # --- activities: what takes time ------------------------------------------------------------------------

    async def while_connecting(self) -> Annotated[str, Fires(Trigger.OPENED)]:
        """Make the first attempt of an outage."""
        await self._release()
        await self._open_link()
        return Trigger.OPENED

    async def while_connected(self) -> Annotated[str, Fires(Trigger.PROBE_PASSED, Trigger.PROBE_FAILED)]:
        """Watch the link until it is lost, and the health of the peer if the policy says so."""
        assert self._link is not None
        reason = await (self._link.lost() if self.health.interval is None else self._lost_or_ailing(self._link))
        if is_expected(reason):
            raise reason
        raise LinkLostError(f"the link was lost: {named(reason)}") from reason

    async def while_reconnecting(self) -> Annotated[str, Fires(Trigger.OPENED)]:
        """Give back the old link, wait out the delay, and make a further attempt."""
        await self._release()
        await asyncio.sleep(self._backoff)
        if self.budget is not None:
            await self._admitted(self.budget)
        await self._open_link()
        return Trigger.OPENED

    async def while_disconnecting(self) -> Annotated[str, Fires(Trigger.CLOSED)]:
        """Close the link."""
        await self._release()
        return Trigger.CLOSED

    async def while_failed(self) -> Annotated[str | None, Fires(Trigger.RECOVER)]:
        """Give back the link that was lost, and rest; for a while, if the policy has it try once more."""
        await self._release()
        if self.retry.recover_after is None:
            return None
        self.rest()
        await asyncio.sleep(self.retry.recovery_pause(self._random()))
        return Trigger.RECOVER

    # --- what others may ask --------------------------------------------------------------------------------

    @property
    def link(self) -> Link | None:
        """The open link, for what is particular to its kind, such as a plugin's `pid`; None when there is none."""
        return self._link

    @property
    def health_status(self) -> HealthStatus:
        """What the last probe of the present link has shown."""
        return self._health_status if self._state in self.serving_states else HealthStatus.UNKNOWN

    def on_call(self, callback: CallCallback) -> Callable[[], None]:
        """Have `callback(record)` told of every call by `call`, `stream` and by attribute, when it has ended.

        It runs in the context of the caller, so keep it short. It cannot hurt: what it raises is logged and counted.
        Calls through a compiled stub are gRPC's own; watch these with an interceptor of gRPC.

        Returns:
            a function that unregisters it.

        Raises:
            TypeError: it is async, or cannot be called at all.
        """
        self._calls = self._calls or CallObservers()
        return self._calls.add(callback)

    @property
    def observer_errors(self) -> int:
        """How many times an observer, of transitions or of calls, raised, or was cancelled for taking too long."""
        return super().observer_errors + (self._calls.errors if self._calls is not None else 0)

    # --- how it is done -------------------------------------------------------------------------------------

    def entered(self, reason: BaseException | None) -> None:
        """Remember since when the link is up, and why the state was entered."""
        self._entry_reason = reason
        if self._state not in self.linked_states:
            self._up_since = None
        elif self._up_since is None and self._state in self.serving_states:
            self._up_since = self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _random(self) -> random.Random:
        self._rng = self._rng or shared_rng()
        return self._rng

    def _has_been_stable(self) -> bool:
        """Whether the link has been up long enough, in whatever states beside `connected` meanwhile."""
        return self._up_since is not None and self._now() - self._up_since >= self.retry.stable_after

    def _recent_losses(self) -> int:
        since = self._now() - self.retry.restart_window
        return sum(at > since for at in self._losses or ())

    async def _lost_or_ailing(self, link: Link) -> Exception:
        """Wait for the loss of the link, and probe meanwhile; what the probes say, the table decides."""
        monitor = Prober(self.health, link, partial(self._probe, link, self.health.timeout), self._random())
        deafen = self.on_call(monitor.heard)
        probes = asyncio.ensure_future(monitor.run())
        loss = asyncio.ensure_future(link.lost())
        try:
            await asyncio.wait((probes, loss), return_when=asyncio.FIRST_COMPLETED)
            return loss.result() if loss.done() else await probes
        finally:
            deafen()
            for task in (probes, loss):
                task.cancel()
            await finish(asyncio.gather(probes, loss, return_exceptions=True))

    async def _probe(self, link: Link, timeout: float) -> ProbeError | None:
        """Ask once, have the table decide what that means, and return what was wrong.

        Failures at one time are one: only what began after the last failure that counted is one more in a row.
        """
        visit, counted = self.visit, self._failures_counted
        status, failure = await self._ask(link, timeout)
        strip_tracebacks(failure)
        if visit == self.visit:
            self._health_status = status
            if failure is None and self.handles(Trigger.PROBE_PASSED):
                self.fire(Trigger.PROBE_PASSED)
            elif failure is not None and counted == self._failures_counted and self.handles(Trigger.PROBE_FAILED):
                self._failures_counted += 1
                self.fire(Trigger.PROBE_FAILED, failure)
        return failure

    async def _ask(self, link: Link, timeout: float) -> tuple[HealthStatus, ProbeError | None]:
        try:
            told = await within(timeout, link.probe(self.health.service))
        except ExpiredError:
            late = ProbeTimeoutError(f"{self.name}: no answer to a health probe within {timeout:g} s")
            return HealthStatus.NO_ANSWER, late
        except NotServingError as error:
            return HealthStatus.NOT_SERVING, error
        except ProbeError as error:
            return HealthStatus.NO_ANSWER, error
        return HealthStatus.SERVING if told else HealthStatus.UNSUPPORTED, None

    async def _open_link(self) -> None:
        if isinstance(self._make_link, LazyFactory):
            await self._make_link.load()
        link, visit = self._make_link(), self.visit
        if not isinstance(link, Link):
            raise TypeError(f"{self.name}: the target made {link!r:.60}, which is not a Link")
        async with link.start_slot():
            await self._open_in_time(link)
            if visit != self.visit:
                # It ignored its cancellation, and was opened for a state that was left long ago.
                await self._close(link)
                raise asyncio.CancelledError
            self._link = link
            self._health_status = HealthStatus.UNKNOWN

    async def _open_in_time(self, link: Link) -> None:
        limit = self._time_to_open()
        try:
            await within(limit, link.open())
        except ExpiredError:
            raise StartTimeoutError(f"did not open within {limit:g} s", evidence=link.diagnostics()) from None

    async def _admitted(self, budget: RetryBudget) -> None:
        """Wait for the budget, no longer than the outage may last."""
        try:
            await within(self._time_left(), budget.admit())
        except ExpiredError:
            raise self._too_late() from None

    def _time_to_open(self) -> float:
        left = self._time_left()
        return self.start_timeout if left is None else min(self.start_timeout, left)

    def _time_left(self) -> float | None:
        """Seconds of the outage's deadline; None: there is none."""
        if self.retry.deadline is None:
            return None
        left = self._outage_since + self.retry.deadline - self._now()
        if left <= 0:
            raise self._too_late()
        return left

    def _too_late(self) -> StartTimeoutError:
        return StartTimeoutError(f"the retry policy's deadline of {self.retry.deadline:g} s has passed")

    async def _release(self) -> None:
        """Close the link if there is one, in bounded time, through any cancellation."""
        link, self._link = self._link, None
        if link is not None:
            self._unclosed = link
            self._closing = asyncio.get_running_loop().create_task(self._close(link), name=f"{self!r}.close")
        closing = self._closing
        if closing is not None:
            try:
                await finish(closing)
                if not closing.cancelled():
                    closing.result()  # what it raises is no mere error: those are logged
            finally:
                self._closing = None
                del closing  # which holds what it raised, which holds this frame
                if link is not None and self._unclosed is link:
                    # The loop ends, and the task was cancelled before it had begun.
                    await self._close(link)

    async def _close(self, link: Link) -> None:
        self._unclosed = None
        try:
            await within(self.close_timeout, link.close())
        except Exception:
            _log.warning("%r: the link did not close well", self, exc_info=True)

    async def on_loop_end(self) -> None:
        """Close the link."""
        await self._release()

    def on_loop_lost(self) -> None:
        """The link went with its loop."""
        self._link = self._closing = None

    def come_to_rest(self) -> None:
        """Disconnect, without the activities: each state on the way ends as if its own had failed."""
        if self.handles(Trigger.DISCONNECT):
            self.fire(Trigger.DISCONNECT)
        for _ in self.lifecycle.states:
            if self._state == ConnectionState.DISCONNECTED:
                return
            on_error = str(self.lifecycle.states[self._state].on_error)
            self.fire(next(filter(self.handles, (Trigger.CLOSED, on_error, Trigger.FAULT))))

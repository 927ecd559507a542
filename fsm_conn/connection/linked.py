"""A machine whose states may own a link: the guards, effects and activities that the table of `table` names.

The rules that hold here:

- Guards read, effects count, activities wait. Nothing here assigns a state: triggers are fired, and the table decides.
- What they read, count and wait for are parts, each with its own module: the outage, the losses, the link, the probes
  and the demand. A part is made when it is first used, so that a connection which was never connected has none.
- Time is the loop's, and chance comes from `_rng`, drawn by effects and activities, never by guards.

What applications call stands in `connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from fsm_conn._util.part import Part
from fsm_conn._util.text import named
from fsm_conn._util.timing import ExpiredError, finish, within
from fsm_conn.connection.calling.observers import CallCallback, CallObservers
from fsm_conn.connection.counting.memory import Memory, memory_of
from fsm_conn.connection.demand import AT_REST, ENDED, Demand
from fsm_conn.connection.hooks import OpenHook, call_hook, run_on_open
from fsm_conn.connection.link_holder import LinkHolder
from fsm_conn.connection.options import shared_rng
from fsm_conn.connection.outage import Losses, Outage, too_late
from fsm_conn.connection.policy import DEFAULT_RETRY, HealthPolicy, RetryPolicy
from fsm_conn.connection.prober import HealthStatus, Prober, Probes, ask, is_excused, until_ready
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.status_log import StatusLog
from fsm_conn.connection.table import STATES, TRANSITIONS, ConnectionState, LinkState, Trigger
from fsm_conn.links.base import Link
from fsm_conn.links.errors import GoingAwayError, LinkLostError, ProbeError, ProbeTimeoutError
from fsm_conn.machine.errors import DeclarationError, is_expected, strip_tracebacks
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Fires, State

if TYPE_CHECKING:
    import random

    from fsm_conn.connection.budget import RetryBudget

__all__ = ["OPENS", "RELEASES", "LinkedMachine"]

_BY_HAND = HealthPolicy(interval=None)
RENEWAL_PAUSE = 1.0
"""Seconds that a link is kept at least before it is renewed: a peer may send each of them away at once."""


class LinkedMachine(StateMachine):
    """The part of a connection that its table drives."""

    states: ClassVar[Sequence[State | str]] = STATES
    transitions: ClassVar[Sequence[Any]] = TRANSITIONS
    required_triggers = tuple(Trigger)
    linked_states: ClassVar[frozenset[str]]
    """The states throughout which a link is open."""
    serving_states: ClassVar[frozenset[str]]
    """The states in which calls are served."""

    begins_at_rest = True
    record_type = ConnectionRecord
    attempt: int = 0
    """The attempt of this outage that has begun; 0 before the first."""
    name: str = ""
    retry: RetryPolicy = DEFAULT_RETRY
    health: HealthPolicy = _BY_HAND
    budget: RetryBudget | None = None
    start_timeout: float = 60.0
    """Seconds for one attempt to open a link; 60 by default, as in go-plugin: a peer that is dead is noticed sooner."""
    close_timeout: float = 5.0
    """Seconds a link may take to close before it is told to give up everything at once; 5 by default."""
    drain_timeout: float = 30.0
    """Seconds for the calls under way on a link that its peer closes in good order; 30 by default."""
    hook_timeout: float = 30.0
    """Seconds that `on_open` may take on a link; 30 by default. The deadline of the retry policy may leave less."""
    _make_link: Callable[[], Any]
    _open_hook: OpenHook[Any] | None = None
    _rng: random.Random | None = None
    _entry_reason: BaseException | None = None
    _outage = Part(Outage)
    _losses = Part(Losses)
    _holder = Part(LinkHolder)
    _probes = Part(Probes)
    _demand = Part(Demand)
    _calls = Part(CallObservers)
    _status_log = Part(StatusLog)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        states = cls.lifecycle.states
        cls.linked_states = frozenset(name for name, state in states.items() if isinstance(state, LinkState))
        cls.serving_states = frozenset(name for name in cls.linked_states if getattr(states[name], "serves", False))

    def __post_init__(self) -> None:
        raise DeclarationError(
            f"{type(self).__name__}: a dataclass or attrs has replaced the __init__ of a connection, which then has "
            "no target; write an __init__, or a __post_init__ (of attrs: __attrs_post_init__) that calls "
            "Connection.__init__(self, target)"
        )

    __attrs_post_init__ = __post_init__

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
        outage = Outage(self._now()) if self._has_been_stable() else self._outage
        return outage.permits(self.retry, self._now())

    def may_restart(self, reason: BaseException | None) -> bool:
        """Whether the policy lets an open link that was lost be replaced, so soon after the last ones that were."""
        return self._losses.permit(self.retry, self._now())

    def may_recover(self, reason: BaseException | None) -> bool:
        """Whether one more attempt may help: not after a bug, nor after an error that cannot get better."""
        cause = self._entry_reason
        is_hopeless = cause is not None and (not is_expected(cause) or getattr(cause, "permanent", False))
        return self._may_come_back() and not is_hopeless

    def is_unhealthy(self, reason: BaseException | None) -> bool:
        """Whether this failed probe is one too many."""
        return getattr(reason, "conclusive", False) or self._probes.failed + 1 >= self.health.failure_threshold

    # --- effects: they count, and wait for nothing ----------------------------------------------------------

    def begin_outage(self, reason: BaseException | None) -> None:
        """Start an outage: attempts are counted, and the deadline runs, from here."""
        self._outage = Outage(self._now())
        self.attempt = 0

    def begin_half_open(self, reason: BaseException | None) -> None:
        """Start a half-open outage, which one failure ends; from here on the connection lives for its policy's sake."""
        self._outage = Outage(self._now(), is_half_open=True)
        self.attempt = 0
        self._demand.is_used = True

    def count_attempt(self, reason: BaseException | None) -> None:
        """Count one more attempt, which begins; in a new outage, if a link had been up for `stable_after`."""
        self.reset_if_stable(reason)
        self.attempt = self._outage.count(self.retry, self._random())

    def reset_if_stable(self, reason: BaseException | None) -> None:
        """If the link was up for `stable_after`, start a new outage."""
        if self._has_been_stable():
            self.begin_outage(reason)

    def note_loss(self, reason: BaseException | None) -> None:
        """Count one more open link that was lost."""
        self._losses.note(self.retry, self._now())

    def forget_losses(self, reason: BaseException | None) -> None:
        """Count losses from zero: somebody wants the connection, whatever has been."""
        self._losses = Losses()

    def note_opened(self, reason: BaseException | None) -> None:
        """Count one more link that came up in this outage."""
        self._outage.note_opened()

    def forget_probes(self, reason: BaseException | None) -> None:
        """Count failed probes from zero: they count only when they follow one another on one link."""
        self._probes.failed = 0

    def note_failed_probe(self, reason: BaseException | None) -> None:
        """Count one more failed probe in a row."""
        self._probes.failed += 1

    def mark_unresponsive(self, reason: BaseException | None) -> None:
        """After a probe timeout, have the link close without waiting for the peer."""
        if self._holder.link is not None and isinstance(reason, ProbeTimeoutError):
            self._holder.link.mark_unresponsive()

    # --- activities: what takes time ------------------------------------------------------------------------

    async def while_connecting(self) -> Annotated[str, Fires(Trigger.OPENED)]:
        """Make the first attempt of an outage: open a link, and have `on_open` prepare it."""
        await self._release()
        await self._open_link()
        return Trigger.OPENED

    async def while_connected(
        self,
    ) -> Annotated[str, Fires(Trigger.GOING_AWAY, Trigger.PROBE_PASSED, Trigger.PROBE_FAILED)]:
        """Watch the link until it is lost, and the health of the peer if the policy says so."""
        link = self._holder.link
        assert link is not None
        reason = await (link.lost() if self.health.interval is None else self._lost_or_ailing(link))
        if isinstance(reason, GoingAwayError) and self.handles(Trigger.GOING_AWAY):
            return Trigger.GOING_AWAY
        if is_expected(reason):
            raise reason
        raise LinkLostError(f"the link was lost: {named(reason)}") from reason

    async def while_renewing(self) -> Annotated[str, Fires(Trigger.OPENED)]:
        """Open the next link beside the one that goes away, which finishes its calls whether or not that succeeds."""
        try:
            await asyncio.sleep(max(0.0, self._holder.traffic.opened_at + RENEWAL_PAUSE - self._now()))
            await self._open_link()
        except Exception:
            self._holder.retire(self, self.drain_timeout, self.close_timeout)
            raise
        return Trigger.OPENED

    async def while_reconnecting(self) -> Annotated[str, Fires(Trigger.OPENED)]:
        """Give back the old link, wait out the delay, and make a further attempt."""
        await self._release()
        await asyncio.sleep(self._outage.pause)
        if self.budget is not None:
            await self._admitted(self.budget)
        await self._open_link()
        return Trigger.OPENED

    async def while_disconnecting(self) -> Annotated[str, Fires(Trigger.CLOSED)]:
        """Close the link, and what is left of those that went away."""
        await self._release()
        await self._holder.release_all(self, self.close_timeout)
        return Trigger.CLOSED

    async def while_failed(self) -> Annotated[str | None, Fires(Trigger.RECOVER)]:
        """Give back the link that was lost, and rest; for a while, if the policy has it try once more."""
        await self._release()
        if not self._may_come_back():
            return None
        self.rest()
        await asyncio.sleep(self.retry.recovery_pause(self._random()))
        return Trigger.RECOVER

    # --- what others may ask --------------------------------------------------------------------------------

    async def on_open(self) -> None:
        """Prepare each new link, before it serves: log in, configure, subscribe. By default, call the `on_open` given.

        For subclasses. Calls made here go by the new link. What is raised, or takes longer than `hook_timeout`, is a
        failed attempt; the policy decides about the next. In `renewing`, the old link serves the others meanwhile.
        """
        if self._open_hook is not None:
            await call_hook(self._open_hook, self)

    @property
    def link(self) -> Link | None:
        """The open link, for what is particular to its kind, such as a plugin's `pid`; None when there is none."""
        incoming = self._holder.incoming
        return incoming[0] if incoming is not None and self.in_activity() else self._holder.link

    @property
    def health_status(self) -> HealthStatus:
        """The outcome of the last probe of the present link."""
        return self._probes.status if self._state in self.serving_states else HealthStatus.UNKNOWN

    def memory(self, now: float) -> Memory:
        """Everything remembered at `now` on which later decisions can depend, for comparing two moments."""
        counted = self._outage, self._losses, self._probes, self._demand
        return memory_of(now, self.attempt, (self.retry, self.health), counted, self._holder)

    def on_call(self, callback: CallCallback) -> Callable[[], None]:
        """Have `callback(record)` told of every call by `call`, `stream` and by attribute, when it has ended.

        It runs in the context of the caller, so keep it short. It cannot hurt: what it raises is logged and counted.
        Calls through a compiled stub are gRPC's own; watch these with an interceptor of gRPC.

        Returns:
            a function that unregisters it.

        Raises:
            TypeError: it is async, or cannot be called at all.
        """
        return self._calls.add(callback)

    @property
    def observer_errors(self) -> int:
        """How many times an observer, of transitions or of calls, raised, or was cancelled for taking too long."""
        return super().observer_errors + self._calls.errors

    # --- how it is done -------------------------------------------------------------------------------------

    def entered(self, reason: BaseException | None) -> None:
        """Remember since when the link is up, and why the state was entered; have the log told."""
        self._entry_reason = reason
        since = self._holder.entered(self._state in self.linked_states, self._state in self.serving_states, self._now)
        self._status_log.entered(self, reason, since, self._now)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _random(self) -> random.Random:
        self._rng = self._rng or shared_rng()
        return self._rng

    def _may_come_back(self) -> bool:
        """Whether the policy has it come back from `failed`."""
        return self.retry.recover_after is not None and (self.retry.recover_unused or self._demand.is_used)

    def _has_been_stable(self) -> bool:
        return self._holder.has_been_up(self.retry.stable_after, self._now())

    def _settled(self) -> frozenset[str]:
        """The states that end the wait of `connect()`."""
        return self.serving_states | AT_REST

    async def _abandon_if_last(self) -> None:
        """The caller was cancelled. Nobody else waits, and nobody was told of success: then nobody wants it."""
        if self._demand.ends_with_this_caller() and self.handles(Trigger.DISCONNECT):
            self.fire(Trigger.DISCONNECT)
            await finish(asyncio.ensure_future(self.reach(ENDED)))

    async def _lost_or_ailing(self, link: Link) -> Exception:
        """Wait for the loss of the link, and probe meanwhile; what the probes say, the table decides."""
        probe = partial(self._probe, link, self.health.timeout)
        return await Prober(self.health, link, self._holder.traffic, probe, self._random()).until_lost()

    async def _probe(self, link: Link, timeout: float) -> ProbeError | None:
        """Ask once, have the table decide what that means, and return what was wrong.

        Failures at one time are one: only what began after the last failure that counted is one more in a row.
        """
        probes, visit, asked_at = self._probes, self.visit, self._now()
        counted = probes.counted
        status, failure = await ask(link, self.health.service, timeout, self.name)
        strip_tracebacks(failure)
        traffic = self._holder.traffic
        if visit == self.visit and not is_excused(failure, self.health, traffic, asked_at, self._now()):
            probes.status = status
            if failure is None and self.handles(Trigger.PROBE_PASSED):
                self.fire(Trigger.PROBE_PASSED)
            elif failure is not None and counted == probes.counted and self.handles(Trigger.PROBE_FAILED):
                probes.counted += 1
                self.fire(Trigger.PROBE_FAILED, failure)
        return failure

    async def _open_link(self) -> None:
        visit, make, limits = self.visit, self._make_link, (self.drain_timeout, self.close_timeout)
        await self._holder.open(make, self, self._time_to_open, lambda: visit == self.visit, self._prepare, *limits)
        self._probes.status = HealthStatus.UNKNOWN

    async def _prepare(self, link: Link) -> None:
        await until_ready(link, self.health, self.name)
        if self._open_hook is not None or type(self).on_open is not LinkedMachine.on_open:
            left = self._time_left()
            limit = self.hook_timeout if left is None else min(self.hook_timeout, left)
            await run_on_open(self.on_open(), link, limit, self.name)

    async def _release(self) -> None:
        await self._holder.release(self, self.close_timeout)

    async def _admitted(self, budget: RetryBudget) -> None:
        """Wait for the budget, no longer than the outage may last."""
        try:
            await within(self._time_left(), budget.admit())
        except ExpiredError:
            raise too_late(self.retry) from None

    def _time_to_open(self) -> float:
        left = self._time_left()
        return self.start_timeout if left is None else min(self.start_timeout, left)

    def _time_left(self) -> float | None:
        left = self._outage.time_left(self.retry, self._now())
        if left is not None and left <= 0:
            raise too_late(self.retry)
        return left

    async def on_loop_end(self) -> None:
        """Close the link, and what is left of those that went away."""
        await self._holder.release_all(self, self.close_timeout)

    def on_loop_lost(self) -> None:
        """Let go of the link, which went with its loop."""
        self._holder.let_go()

    def come_to_rest(self) -> None:
        """Disconnect, without the activities: each state on the way ends as if its own had failed."""
        if self.handles(Trigger.DISCONNECT):
            self.fire(Trigger.DISCONNECT)
        for _ in self.lifecycle.states:
            if self._state == ConnectionState.DISCONNECTED:
                return
            on_error = str(self.lifecycle.states[self._state].on_error)
            self.fire(next(filter(self.handles, (Trigger.CLOSED, on_error, Trigger.FAULT))))


OPENS, RELEASES = LinkedMachine._open_link.__name__, LinkedMachine._release.__name__
"""By what an activity opens a link, and gives it back. Checks look for these in the activities of subclasses."""

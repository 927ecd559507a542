"""A machine whose states may own a link: the guards, effects and activities that the table names.

The rules that hold here:

- Guards read, effects count, activities wait. Nothing here assigns a state: triggers are fired, and the table decides.
- They work on parts with their own modules: the outage, the losses, the link, the probes and the demand. A part is
  created at its first use, so a connection that was never connected has none.
- Time is the loop's. Random numbers come from `_rng`, and only effects and activities draw them, never guards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from fsm_conn._util.part import Part, expect_attributes
from fsm_conn._util.text import named
from fsm_conn._util.timing import ExpiredError, finish, within
from fsm_conn.connection.calling.observers import CallCallback, CallObservers
from fsm_conn.connection.counting.memory import Memory, memory_of
from fsm_conn.connection.demand import AT_REST, ENDED, Demand
from fsm_conn.connection.hooks import OPENING, OpenHook, call_hook, run_on_open
from fsm_conn.connection.link_holder import LinkHolder, awaitable
from fsm_conn.connection.options import ATTRIBUTES, shared_rng
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
"""The minimal age of a link, in seconds, before it is renewed: a peer may close each link at once."""


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
    """The number of the current attempt of this outage; 0 before the first."""
    name: str = ""
    retry: RetryPolicy = DEFAULT_RETRY
    health: HealthPolicy = _BY_HAND
    budget: RetryBudget | None = None
    start_timeout: float = 60.0
    """Seconds for one attempt to open a link; 60 by default, as in go-plugin. A dead peer is noticed sooner."""
    close_timeout: float = 5.0
    """Seconds a link may take to close before it is told to stop at once; 5 by default."""
    drain_timeout: float = 30.0
    """Seconds for the calls under way on a link whose peer closes it in good order; 30 by default."""
    hook_timeout: float = 30.0
    """Seconds that `on_open` may take; 30 by default. The deadline of the retry policy may leave less."""
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
        expect_attributes(cls, ATTRIBUTES)
        linked = {name: state for name, state in cls.lifecycle.states.items() if isinstance(state, LinkState)}
        cls.linked_states, cls.serving_states = frozenset(linked), frozenset(n for n in linked if linked[n].serves)

    def __post_init__(self) -> None:
        raise DeclarationError(
            f"{type(self).__name__}: a dataclass or attrs has replaced the __init__ of a connection, which then has "
            "no target; write an __init__, or a __post_init__ (of attrs: __attrs_post_init__) that calls "
            "Connection.__init__(self, target)"
        )

    __attrs_post_init__ = __post_init__

    if TYPE_CHECKING:  # its records have a field more than those of other machines

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
        """Whether the policy permits one more attempt. Never after a permanent error."""
        if getattr(reason, "permanent", False):
            return False
        return (Outage(self._now()) if self._has_been_stable() else self._outage).permits(self.retry, self._now())

    def may_restart(self, reason: BaseException | None) -> bool:
        """Whether the policy permits replacing a lost link, so soon after earlier losses."""
        return self._losses.permit(self.retry, self._now())

    def may_recover(self, reason: BaseException | None) -> bool:
        """Whether one more attempt may help: not after a bug or a permanent error."""
        cause = self._entry_reason
        may_help = cause is None or (is_expected(cause) and not getattr(cause, "permanent", False))
        return self._may_come_back() and may_help

    def is_unhealthy(self, reason: BaseException | None) -> bool:
        """Whether this failed probe reaches the policy's `failure_threshold`."""
        return getattr(reason, "conclusive", False) or self._probes.failed + 1 >= self.health.failure_threshold

    # --- effects: they count, and wait for nothing ----------------------------------------------------------

    def begin_outage(self, reason: BaseException | None) -> None:
        """Start an outage: attempts are counted, and the deadline runs, from here."""
        self._outage.begin(self._now())
        self.attempt = 0

    def begin_half_open(self, reason: BaseException | None) -> None:
        """Start a half-open outage, which ends at the first failure; from now on the policy wants the connection."""
        self._outage.begin(self._now(), is_half_open=True)
        self.attempt = 0
        self._demand.is_used = True

    def count_attempt(self, reason: BaseException | None) -> None:
        """Count one more attempt; in a new outage if a link had been up for `stable_after`."""
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
        """Count losses from zero: a caller asks for the connection."""
        self._losses.forget()

    def note_opened(self, reason: BaseException | None) -> None:
        """Count one more link that came up in this outage."""
        self._outage.note_opened()

    def forget_probes(self, reason: BaseException | None) -> None:
        """Count failed probes from zero: only failures in a row on one link count."""
        self._probes.failed = 0

    def note_failed_probe(self, reason: BaseException | None) -> None:
        """Count one more failed probe in a row."""
        self._probes.failed += 1

    def mark_unresponsive(self, reason: BaseException | None) -> None:
        """After a probe timeout, let the link close without waiting for the peer."""
        if self._holder.link is not None and isinstance(reason, ProbeTimeoutError):
            self._holder.link.mark_unresponsive()

    # --- activities: what takes time ------------------------------------------------------------------------

    async def while_connecting(self) -> Annotated[str, Fires(Trigger.OPENED, steps=OPENING)]:
        """Make the first attempt of an outage: open a link and run `on_open`."""
        await self._release()
        await self._open_link()
        return Trigger.OPENED

    async def while_connected(
        self,
    ) -> Annotated[str, Fires(Trigger.GOING_AWAY, Trigger.PROBE_PASSED, Trigger.PROBE_FAILED)]:
        """Watch the link until it is lost, and the health of the peer if the policy has an interval."""
        link = self._holder.link
        assert link is not None
        reason = await (self._lost_or_ailing(link) if self.health.interval else awaitable(link.lost(), link, "lost"))
        if isinstance(reason, GoingAwayError) and self.handles(Trigger.GOING_AWAY):
            return Trigger.GOING_AWAY
        try:
            if is_expected(reason):
                raise reason
            raise LinkLostError(f"the link was lost: {named(reason)}") from reason
        finally:
            del reason

    async def while_renewing(self) -> Annotated[str, Fires(Trigger.OPENED, steps=OPENING)]:
        """Open the next link beside the one that closes, which finishes its calls in any case."""
        leaving = self._holder.link
        try:
            await asyncio.sleep(max(0.0, self._holder.traffic.opened_at + RENEWAL_PAUSE - self._now()))
            await self._open_link()
        except Exception:
            self._holder.retire(self, self.drain_timeout, self.close_timeout, leaving)
            raise
        return Trigger.OPENED

    async def while_reconnecting(self) -> Annotated[str, Fires(Trigger.OPENED, steps=("delay", *OPENING))]:
        """Close the old link, wait for the delay, and make a further attempt."""
        await self._release()
        await asyncio.sleep(self._outage.pause)
        if self.budget is not None:
            await self._admitted(self.budget)
        await self._open_link()
        return Trigger.OPENED

    async def while_disconnecting(self) -> Annotated[str, Fires(Trigger.CLOSED)]:
        """Close the link and the retired ones."""
        await self._release()
        await self._holder.release_all(self, self.close_timeout)
        return Trigger.CLOSED

    async def while_failed(self) -> Annotated[str | None, Fires(Trigger.RECOVER)]:
        """Close the lost link, and rest; for a while, if the policy plans one more attempt."""
        await self._release()
        if not self._may_come_back():
            return None
        self.rest()
        await asyncio.sleep(self.retry.recovery_pause(self._random()))
        return Trigger.RECOVER

    # --- what others may ask --------------------------------------------------------------------------------

    async def on_open(self) -> None:
        """Prepare each new link before it serves: log in, configure, subscribe. By default, call the given `on_open`.

        For subclasses. Calls made here use the new link. An error, or taking longer than `hook_timeout`, makes the
        attempt fail; the policy decides about the next one. In `renewing`, the old link serves other callers meanwhile.
        """
        if self._open_hook is not None:
            await call_hook(self._open_hook, self)

    @property
    def link(self) -> Link | None:
        """The open link, for attributes of its kind, such as a plugin's `pid`; None when there is none."""
        incoming = self._holder.incoming
        return incoming[0] if incoming is not None and self.in_activity() else self._holder.link

    @property
    def health_status(self) -> HealthStatus:
        """The outcome of the last probe of the current link."""
        return self._probes.status if self._state in self.serving_states else HealthStatus.UNKNOWN

    def memory(self, now: float) -> Memory:
        """Everything remembered at `now` that later decisions can depend on, for comparing two moments."""
        counted = self._outage, self._losses, self._probes, self._demand
        return memory_of(now, self.attempt, (self.retry, self.health), counted, self._holder)

    def on_call(self, callback: CallCallback) -> Callable[[], None]:
        """Call `callback(record)` for every call by `call`, by `stream` and by attribute, when it has ended.

        It runs in the context of the caller, so keep it short. What it raises is logged and counted, and harms nothing.
        Calls through a compiled stub are gRPC's own; watch these with a gRPC interceptor.

        Returns:
            a function that unregisters it.

        Raises:
            TypeError: it is async, or not callable.
        """
        return self._calls.add(callback)

    @property
    def observer_errors(self) -> int:
        """How often an observer of transitions or calls raised, or was cancelled for taking too long."""
        return super().observer_errors + self._calls.errors

    # --- how it is done -------------------------------------------------------------------------------------

    def entered(self, reason: BaseException | None) -> None:
        """Remember since when the link is up and why the state was entered; write the status log."""
        self._entry_reason = reason
        since = self._holder.entered(self._state in self.linked_states, self._state in self.serving_states, self._now)
        self._status_log.entered(self, reason, since, self._now)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _random(self) -> random.Random:
        self._rng = self._rng or shared_rng()
        return self._rng

    def _may_come_back(self) -> bool:
        """Whether the policy lets it recover from `failed`."""
        return self.retry.recover_after is not None and (self.retry.recover_unused or self._demand.is_used)

    def _has_been_stable(self) -> bool:
        return self._holder.up_since is not None and self._holder.has_been_up(self.retry.stable_after, self._now())

    def _settled(self) -> frozenset[str]:
        """The states that end the wait of `connect()`."""
        return self.serving_states | AT_REST

    async def _abandon_if_last(self) -> None:
        """After a caller was cancelled: abandon the attempt if nobody else waits and nobody uses the connection."""
        if self._demand.ends_with_this_caller() and self.handles(Trigger.DISCONNECT):
            self.fire(Trigger.DISCONNECT)
            await finish(asyncio.ensure_future(self.reach(ENDED)))

    async def _lost_or_ailing(self, link: Link) -> Exception:
        """Wait for the loss of the link, and probe meanwhile; the table decides about the outcomes."""
        probe = partial(self._probe, link, self.health.timeout)
        return await Prober(self.health, link, self._holder.traffic, probe, self._random()).until_lost()

    async def _probe(self, link: Link, timeout: float) -> ProbeError | None:
        """Probe once, let the table decide about the outcome, and return the error.

        Simultaneous failures count once: only a probe that began after the last counted failure counts.
        """
        probes, visit, asked_at = self._probes, self.visit, self._now()
        counted = probes.counted
        status, failure = await ask(link, self.health.service, timeout, self.name)
        strip_tracebacks(failure)
        if visit == self.visit and not is_excused(failure, self.health, self._holder.traffic, asked_at, self._now()):
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
        """Wait for the budget, but no longer than the outage may last."""
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
        """Close the link and the retired ones."""
        await self._holder.release_all(self, self.close_timeout)

    def on_loop_lost(self) -> None:
        """Drop the link, which ended with its loop."""
        self._holder.let_go()

    def come_to_rest(self) -> None:
        """Disconnect without the activities: each state on the way ends as if its activity had failed."""
        if self.handles(Trigger.DISCONNECT):
            self.fire(Trigger.DISCONNECT)
        for _ in self.lifecycle.states:
            if self._state == ConnectionState.DISCONNECTED:
                return
            on_error = str(self.lifecycle.states[self._state].on_error)
            self.fire(next(filter(self.handles, (Trigger.CLOSED, on_error, Trigger.FAULT))))


OPENS, RELEASES = LinkedMachine._open_link.__name__, LinkedMachine._release.__name__
"""The methods by which an activity opens and closes a link. Checks look for them in the activities of subclasses."""

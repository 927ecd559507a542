"""One slot of a pool: a connection, and its life as the slot's table describes it.

The rules that hold here:

- While a link is open and `on_open` has finished with it, the slot is *in service*. The connection's transitions tell
  the slot of a lost link, and it goes out of service at once.
- Every link is a *generation*, and a lease belongs to one. Releasing a lease of an earlier generation has no effect.
- A connection that has given up is tried again for ever, one attempt at a time, with the pauses of `backoff`.
- A slot knows neither waiters nor leases. It tells its owner of each state that it enters.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.connection.errors import ConnectAbandonedError, ConnectFailedError
from fsm_conn.connection.table import ConnectionState
from fsm_conn.links.driver import has_reset, probed_since, watch_probes
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Fires, State
from fsm_conn.pool.hooks import Cleanups, Hook, run
from fsm_conn.pool.slots.backoff import Backoff, now
from fsm_conn.pool.slots.generation import Generation
from fsm_conn.pool.slots.kind import Kind, SlotOwner
from fsm_conn.pool.slots.subscribers import Subscribers
from fsm_conn.pool.slots.table import IN_SERVICE, SLOT_STATES, SLOT_TRANSITIONS, STARTING, SlotState, SlotTrigger
from fsm_conn.pool.slots.watch import is_loss, meddling, told_by

if TYPE_CHECKING:
    import random

    from fsm_conn.connection.connection import Connection
    from fsm_conn.links.base import Link
    from fsm_conn.machine.records import TransitionRecord
    from fsm_conn.pool.policy import PoolPolicy
    from fsm_conn.pool.targets.target import PoolTarget
    from fsm_conn.pool.users import TaskRef

__all__ = ["SOON", "Slot"]

_log = logging.getLogger("fsm_conn.pool")
_S, _T = SlotState, SlotTrigger

SOON = 0.001
"""Seconds. What is due within this time is done now: timers are no finer."""
SLOW_START = 1.0
"""Seconds after which a connection that is still being opened is not counted on any more."""


class Slot(StateMachine):
    """A connection of a pool, and its users.

    Args:
        conn: the connection.
        kind: the slot's purpose.
        owner: the owner, told of each change.
        target: the connection's target.
        policy: the pool's policy.
        rng: the source of jitter.
        on_open: run with the connection for each new link, before the slot is in service.

    Attributes:
        holders: the tasks that lease the present link.
        callers: the tasks that make calls through it without a lease.
        subscribers: those callers that wait for a reply of a subscription.
        generation: what the leases of the present link have in common.
        links, leases: how many links came into service, and how many leases the slot had.
        in_service: whether a link is open and `on_open` has finished with it.
        is_active: whether the slot can be leased, rather than being standby.
        is_ready: whether the slot may be leased, apart from the leases that it has already.
        is_old: whether the link is to be replaced once nobody uses it and another slot serves.
        is_replaced: whether another slot has taken this one's place, so that this one leaves when nobody uses it.
        predecessor: the slot that this one replaces when it comes up.
        is_doubtful: whether `on_acquire` refused it, or it was being checked, when it was last to be leased.
        is_retired: whether the slot has left the pool.
        is_exclusive, has_reset: whether its link carries one call at a time; whether it is cleaned up after a lease.
        cause: the connection's last error since it was in service; None when there was none.
        backoff: counts the failures, and computes the pauses.
        expires_at, idle_since: when the link is to be replaced (None: never); since when nobody uses the slot.
    """

    states: ClassVar[Sequence[State | str]] = SLOT_STATES
    transitions: ClassVar[Sequence[Any]] = SLOT_TRANSITIONS
    required_triggers = tuple(SlotTrigger)
    accepted_findings: ClassVar[dict[str, str]] = {
        "FSM104": "a link that is of use comes before a pause, and being retired before being wanted",
        "FSM113": "the pool fires `spoil`, too",
    }

    def __init__(
        self,
        conn: Connection,
        kind: Kind,
        owner: SlotOwner,
        target: PoolTarget,
        *,
        policy: PoolPolicy,
        rng: random.Random,
        on_open: Hook | None,
    ) -> None:
        self.conn, self.kind, self.target = conn, kind, target
        self.is_overflow = kind is Kind.OVERFLOW
        self.holders: list[TaskRef] = []
        self.callers: list[TaskRef] = []
        self.generation, self.links, self.leases = Generation(owner.lender, self), 0, 0
        self.is_active = self.is_ready = self.is_old = self.is_doubtful = self.is_retired = False
        self.is_exclusive = self.is_wanted_again = self.is_replaced = self._needs_fresh_link = self.in_service = False
        self.has_reset, self.predecessor = False, cast("Slot | None", None)
        self.cause: BaseException | None = None
        self.expires_at: float | None = None
        self.idle_since = self._began = 0.0
        self.policy, self._owner, self._rng, self._on_open = policy, owner, rng, on_open
        self.backoff = Backoff(policy.replacement, conn.retry, rng)
        self.subscribers = Subscribers()
        self._link = self._outdated = self._configured = self._condemned = cast("Link | None", None)
        self._cleanups, self._meddling = Cleanups(conn, policy.hook_timeout), ""
        self.keep_context()
        self._unsubscribe = conn.on_transition(self._conn_moved)

    def __repr__(self) -> str:
        return f"<{self.kind} slot of {self.conn!r}, {self._state}, leases={len(self.holders)}>"

    # --- what the pool may ask -----------------------------------------------------------------------------------

    @property
    def is_stale(self) -> bool:
        """Whether the link is to be replaced before the next lease."""
        return self._state == _S.STALE

    @property
    def is_clean(self) -> bool:
        """Whether the slot is in service with a usable link."""
        return self._state in (_S.READY, _S.RESETTING)

    @property
    def is_asleep(self) -> bool:
        """Whether the slot could be woken."""
        is_free = not self.is_retired and not self.is_wanted_again
        return self._state == _S.ASLEEP or (self._state == _S.CLOSING and is_free)

    @property
    def is_hopeful(self) -> bool:
        """Whether the slot is in service, or is being opened and nothing has failed yet."""
        return self.in_service or (self.cause is None and (self._state in STARTING or self.is_wanted_again))

    def is_coming(self, at: float) -> bool:
        """Whether the slot will be free soon: it is opened, cleaned up or probed, without failing or hanging."""
        return (slow_at := self.slow_at) is not None and at + SOON < slow_at

    @property
    def slow_at(self) -> float | None:
        """When an opening, a clean-up or a probe takes too long to be counted on, by the loop's clock."""
        is_plain = self.in_service and self._state != _S.RESETTING
        since = probed_since(self._link) if is_plain else self._began if self.is_hopeful else None
        return None if since is None else since + SLOW_START

    @property
    def is_used(self) -> bool:
        """Whether closing the slot would break a lease or a call."""
        return bool(self.holders or self.callers or self._state == _S.RESETTING)

    @property
    def room(self) -> int:
        """How many more leases the slot could have: one at most, unless the policy allows several."""
        most = self.policy.leases_per_connection if probed_since(self._link) is None else 0
        return max(0, most - len(self.holders) - (most == 1 and bool(self.callers)))

    @property
    def takes_calls(self) -> bool:
        """Whether a call without a lease may go through the slot now, beside its leases and calls."""
        others = self.holders or (self.is_exclusive and self.callers)
        return probed_since(self._link) is None and (not others or self.policy.leases_per_connection > 1)

    def users(self) -> Iterator[Any]:
        """The tasks that use the slot."""
        yield from self.holders
        yield from self.callers
        if self._state == _S.RESETTING and self.activity_task is not None:
            yield self.activity_task

    def activate(self, active: bool) -> None:
        """Make the slot active, or standby."""
        self.is_active = active
        self._judge()

    def expire(self, *, is_replaced: bool = False) -> None:
        """The link has become too old, or another slot has taken this one's place."""
        self.is_old, self.is_replaced, self.expires_at = True, self.is_replaced or is_replaced, None
        self._judge()
        self.subscribers.dismiss()

    def outdate(self) -> None:
        """The present link is to be replaced as soon as nobody uses it."""
        self._outdated = self.conn.link
        if self.in_service:
            self.expire()

    def reset(self, name: str, cleanup: Awaitable[None]) -> None:
        """A lease is over: nobody gets the slot before `cleanup` has ended."""
        self._cleanups.add(name, cleanup)
        self.fire(_T.RESET)

    def try_to_fire(self, trigger: SlotTrigger) -> None:
        """Fire the trigger, if the present state handles it."""
        if self.handles(trigger):
            self.fire(trigger)

    async def end(self) -> None:
        """The loop is ending: close the connection now."""
        self.is_retired = True
        await self.give_up()

    # --- guards and effects ---------------------------------------------------------------------------------------

    def is_connected(self, reason: BaseException | None) -> bool:
        """Whether the connection serves, and `on_open` need not run for another link."""
        serves = self.conn.state in self.conn.serving_states
        return serves and (self._state != _S.CONFIGURING or self.conn.link is self._configured)

    def needs_configuring(self, reason: BaseException | None) -> bool:
        """Whether there is an `on_open` that has not run for this link."""
        return self._on_open is not None and self.conn.link is not self._configured

    def is_condemned(self, reason: BaseException | None) -> bool:
        """Whether the link is still the one of unknown state."""
        return self.conn.link is self._condemned

    def is_on_trial(self, reason: BaseException | None) -> bool:
        """Whether the connection had given up, and no link has been stable since."""
        return self.backoff.is_on_trial(now())

    def must_pause(self, reason: BaseException | None) -> bool:
        """Whether the pool, rather than the connection, makes the next attempt."""
        is_gone = self.conn.state not in self.conn.linked_states
        return is_gone and (self.conn.state == ConnectionState.FAILED or self.is_on_trial(reason))

    def was_retired(self, reason: BaseException | None) -> bool:
        """Whether the slot has left the pool."""
        return self.is_retired

    def is_wanted(self, reason: BaseException | None) -> bool:
        """Whether the slot was woken while it was being closed."""
        return self.is_wanted_again

    def forget_failures(self, reason: BaseException | None) -> None:
        """The slot is needed: earlier failures do not count."""
        self.cause, self.is_wanted_again = None, False
        self.backoff.forget()

    def wake_again(self, reason: BaseException | None) -> None:
        """The slot is needed again as soon as it is closed."""
        self.is_wanted_again, self.cause, self._began = True, None, now()

    def note_cause(self, reason: BaseException | None) -> None:
        """An attempt has failed."""
        if isinstance(reason, ConnectFailedError):
            reason = reason.reason or reason
        self.cause = reason or RuntimeError("it could not be opened")
        self._owner.slot_in_trouble(self)

    def note_failure(self, reason: BaseException | None) -> None:
        """The connection has given up: the next attempt is made after a pause."""
        self.backoff.failed(now())
        self.note_cause(reason)
        self._owner.gave_up(self, is_news=self.backoff.failures == 1)

    def begin_service(self, reason: BaseException | None) -> None:
        """The link can be leased."""
        began = self.idle_since = now()
        self.cause = None
        if self.conn.link is not self._link:
            self.backoff.came_up(began)
            self._link = self.conn.link
            self.is_exclusive = self._link is not None and self._link.one_at_a_time
            self.has_reset = has_reset(self._link)
            watch_probes(self._link, lambda: self._owner.slot_probed(self))
            self.links += 1
            self.expires_at = None if (life := self.policy.lifetime(self._rng)) is None else began + life
            self.is_old = self._link is self._outdated

    def end_service(self, reason: BaseException | None) -> None:
        """The link is out of service."""
        self.backoff.went_down(now())

    def ask_for_fresh_link(self, reason: BaseException | None) -> None:
        """Have the link closed and another opened."""
        self._needs_fresh_link = True

    def condemn_link(self, reason: BaseException | None) -> None:
        """The state of the present link is unknown: it must not be leased again."""
        self._condemned = self.conn.link

    def cut_off(self, reason: BaseException | None) -> None:
        """The slot has left the pool, whoever holds it."""
        self.is_retired = True
        self.generation = self.generation.end(None)

    # --- activities -----------------------------------------------------------------------------------------------

    async def while_opening(self) -> Annotated[str, Fires(_T.CONNECTED)]:
        """Connect."""
        conn, fresh = self.conn, self._needs_fresh_link
        self._needs_fresh_link = False
        if self.backoff.failures and conn.budget is not None and conn.state not in conn.serving_states:
            await conn.budget.admit()
        while True:
            with suppress(ConnectAbandonedError):  # somebody has disconnected it; try once more
                await (conn.reconnect() if fresh else conn.connect())
                return _T.CONNECTED

    async def while_configuring(self) -> Annotated[str | None, Fires(_T.CONFIGURED, _T.OPEN_FAILED)]:
        """Run `on_open` for the link."""
        assert self._on_open is not None
        conn = self.conn
        link = conn.link
        try:
            await run("on_open", self._on_open, conn, conn.start_timeout)
            if self._meddling:
                raise ConnectAbandonedError(f"{conn.name}: {self._meddling} while on_open ran")
        except Exception as error:  # of the application, of any kind
            self._owner.hook_failed(self, "on_open", error)
            self.fire(_T.OPEN_FAILED, error)
            return None
        self._configured = link
        return _T.CONFIGURED

    async def while_resetting(self) -> Annotated[str, Fires(_T.RESET_DONE, _T.SPOIL)]:
        """Have `on_release` clean up after leases that are over."""
        try:
            await self._cleanups.run()
        except Exception as error:  # of the application, of any kind
            self._owner.hook_failed(self, self._cleanups.running, error)
            return _T.SPOIL
        return _T.RESET_DONE

    async def while_backing_off(self) -> Annotated[str, Fires(_T.RETRY)]:
        """Pause, unless the connection recovers on its own."""
        conn, until = self.conn, now() + self.backoff.wait
        if conn.state != ConnectionState.FAILED:
            try:
                await conn.disconnect()
            except Exception:  # of a subclass
                _log.exception("%r: could not be disconnected", conn)
        with suppress(ExpiredError):
            await within(until - now(), conn.wait_for_state(*conn.serving_states))
        return _T.RETRY

    async def while_closing(self) -> Annotated[str, Fires(_T.DISCONNECTED)]:
        """Close the connection."""
        await self.conn.disconnect()
        return _T.DISCONNECTED

    def _conn_moved(self, record: TransitionRecord) -> None:
        """The connection moved: take the slot out of service at once, whatever else runs in the loop first."""
        linked = self.conn.linked_states
        if is_loss(record, linked):
            self.backoff.lost(now())
        is_gone = record.dest not in linked or self.conn.link is not self._link
        if is_gone and not self.policy.lease_outlives_link:
            self._end_leases(record.reason)
        if self._state == _S.CONFIGURING:
            self._meddling = self._meddling or meddling(record)
        if (trigger := told_by(record, self._state, linked, self.conn.serving_states)) and not self._meddling:
            self.fire(trigger, record.reason)

    def _end_leases(self, reason: BaseException | None) -> None:
        """The link is gone: end its leases."""
        if self.holders:
            self.generation = self.generation.end(reason)
            self.holders = []

    def entered(self, reason: BaseException | None) -> None:
        """Tell the owner."""
        if self._state in (_S.OPENING, _S.RESETTING):
            self._began = now()
        elif self._state == _S.CLOSED:
            self._unsubscribe()
        if self._state != _S.RESETTING:
            self._cleanups.drop()
        self._meddling = ""
        was_in_service, self.in_service = self.in_service, self._state in IN_SERVICE
        self._judge()
        self._owner.slot_moved(self, was_in_service=was_in_service)

    def _judge(self) -> None:
        self.is_ready = self._state == _S.READY and self.is_active and not self.is_replaced
        self.generation.is_plain = self.is_ready and not (self.is_overflow or self.is_old or self.has_reset)

    async def on_loop_end(self) -> None:
        """Close the connection."""
        await self.conn.disconnect()

    def come_to_rest(self) -> None:
        """Close, without running the activities."""
        for trigger in (_T.RETIRE, _T.DISCONNECTED) if self.is_retired else (_T.SLEEP, _T.DISCONNECTED):
            self.try_to_fire(trigger)

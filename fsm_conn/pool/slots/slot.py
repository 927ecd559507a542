"""One slot of a pool: a connection, and the life that its table gives it.

The rules that hold here:

- While a link is open that `on_open` has finished with, the slot is *in service*; it goes out of service in the moment
  in which the link is lost, told by the connection's transitions.
- Every link is a *generation*. A lease is of one: what is given back to an earlier one changes nothing.
- A connection that has given up is tried again for ever, one attempt at a time, with the pauses of `backoff`.
- A slot knows neither waiters nor leases. It tells its owner of each state that it enters.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.connection.errors import ConnectAbandonedError, ConnectFailedError
from fsm_conn.connection.table import ConnectionState
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.table import Fires, State
from fsm_conn.pool.hooks import Cleanups, Hook, run
from fsm_conn.pool.slots.backoff import Backoff, now
from fsm_conn.pool.slots.kind import Kind, SlotOwner
from fsm_conn.pool.slots.subscribers import Subscribers
from fsm_conn.pool.slots.table import IN_SERVICE, SLOT_STATES, SLOT_TRANSITIONS, STARTING, SlotState, SlotTrigger
from fsm_conn.pool.slots.watch import meddling, told_by

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
"""Seconds. What is due so soon is due now: timers are no finer."""
SLOW_START = 1.0
"""Seconds after which a connection that is still on its way is not counted on any more."""


class Slot(StateMachine):
    """A connection of a pool, and who uses it.

    Args:
        conn: the connection.
        kind: what it is there for.
        owner: whom it tells what becomes of it.
        target: what the connection is to.
        policy: the pool's.
        rng: where jitter is drawn from.
        on_open: run with the connection for each of its links, before the slot is in service.

    Attributes:
        holders: the tasks that lease its present link.
        callers: the tasks whose calls, made without a lease, go through it.
        subscribers: those of them who wait for a reply of a subscription.
        generation: how many times its leases have ended because the link was lost, or the pool closed.
        links, leases: how many links came into service, and how many leases it had.
        in_service: whether a link is open that `on_open` has finished with.
        is_active: whether it is one of those that are leased, rather than standby.
        is_ready: whether it may be leased, but for the leases that it has already.
        is_plain: whether it is ready, no overflow, and not old.
        is_old: whether its link is to be replaced when nobody uses it, and something else serves.
        is_replaced: whether another slot has taken its place, so that it goes when nobody uses it.
        predecessor: the slot whose place it takes when it comes up.
        is_doubtful: whether it was refused by `on_acquire`, or was being looked at, when it was last to be leased.
        is_retired: whether it does not belong to the pool any more.
        cause: what the connection last failed with, since it was in service; None when it did not.
        backoff: how often it has failed, and how long it pauses.
        expires_at, idle_since: when its link is to be replaced (None: never); since when nobody uses it.
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
        self.generation = self.links = self.leases = 0
        self.is_active = self.is_ready = self.is_old = self.is_doubtful = self.is_retired = self.is_plain = False
        self.is_wanted_again = self.is_replaced = self._needs_fresh_link = self.in_service = False
        self.predecessor: Slot | None = None
        self.cause = self.loss = cast("BaseException | None", None)
        self.expires_at: float | None = None
        self.idle_since = self._began = 0.0
        self.policy = policy
        self._owner, self._rng, self._on_open = owner, rng, on_open
        self.backoff = Backoff(policy.replacement, conn.retry, rng)
        self.subscribers = Subscribers()
        self._link = self._outdated = self._configured = self._condemned = cast("Link | None", None)
        self._cleanups = Cleanups(policy.hook_timeout)
        self._meddling = ""
        self.keep_context()
        self._unsubscribe = conn.on_transition(self._conn_moved)

    def __repr__(self) -> str:
        return f"<{self.kind} slot of {self.conn!r}, {self._state}, leases={len(self.holders)}>"

    # --- what the pool may ask of it -----------------------------------------------------------------------------

    @property
    def is_stale(self) -> bool:
        """Whether its link is to be replaced before the next lease."""
        return self._state == _S.STALE

    @property
    def is_clean(self) -> bool:
        """Whether it is in service with a link that is of use."""
        return self._state in (_S.READY, _S.RESETTING)

    @property
    def is_asleep(self) -> bool:
        """Whether it could be woken."""
        is_free = not self.is_retired and not self.is_wanted_again
        return self._state == _S.ASLEEP or (self._state == _S.CLOSING and is_free)

    @property
    def is_hopeful(self) -> bool:
        """Whether it is in service, or on its way and nothing has failed yet."""
        return self.in_service or (self.cause is None and (self._state in STARTING or self.is_wanted_again))

    def is_coming(self, at: float) -> bool:
        """Whether it is on its way and can be counted on: nothing has failed, and it does not hang."""
        return self.is_hopeful and not self.in_service and at + SOON < self._began + SLOW_START

    @property
    def slow_at(self) -> float | None:
        """When it will not be counted on any more, by the loop's clock; None when it is not on its way."""
        return self._began + SLOW_START if self.is_hopeful and not self.in_service else None

    @property
    def is_used(self) -> bool:
        """Whether closing it would break a lease or a call."""
        return bool(self.holders or self.callers or self._state == _S.RESETTING)

    @property
    def room(self) -> int:
        """How many more leases it could have. A lease shares with nobody, unless the policy has several of them."""
        most = self.policy.leases_per_connection
        return max(0, most - len(self.holders) - (most == 1 and bool(self.callers)))

    @property
    def takes_calls(self) -> bool:
        """Whether calls without a lease may go through it, as far as its leases are concerned."""
        return not self.holders or self.policy.leases_per_connection > 1

    def users(self) -> Iterator[Any]:
        """The tasks that use it."""
        yield from self.holders
        yield from self.callers
        if self._state == _S.RESETTING and self.activity_task is not None:
            yield self.activity_task

    def activate(self, active: bool) -> None:
        """Count it among those that are leased, or not."""
        self.is_active = active
        self._judge()

    def expire(self, *, is_replaced: bool = False) -> None:
        """Its link has become too old; or another slot has taken its place."""
        self.is_old, self.is_replaced, self.expires_at = True, self.is_replaced or is_replaced, None
        self._judge()
        self.subscribers.dismiss()

    def outdate(self) -> None:
        """Its present link is to be replaced, as soon as nobody uses it."""
        self._outdated = self.conn.link
        if self.in_service:
            self.expire()

    def reset(self, cleanup: Awaitable[None]) -> None:
        """A lease is over: nobody gets it before the cleanup has ended, which `on_release` has returned."""
        self._cleanups.add(cleanup)
        self.fire(_T.RESET)

    def try_to_fire(self, trigger: SlotTrigger) -> None:
        """Fire it, if the present state knows it."""
        if self.handles(trigger):
            self.fire(trigger)

    async def end(self) -> None:
        """The loop ends: close the connection, now."""
        self.is_retired = True
        await self.give_up()

    # --- guards and effects ---------------------------------------------------------------------------------------

    def is_connected(self, reason: BaseException | None) -> bool:
        """Whether the connection serves, and `on_open` need not see another link of it."""
        serves = self.conn.state in self.conn.serving_states
        return serves and (self._state != _S.CONFIGURING or self.conn.link is self._configured)

    def needs_configuring(self, reason: BaseException | None) -> bool:
        """Whether there is an `on_open` that has not seen this link."""
        return self._on_open is not None and self.conn.link is not self._configured

    def is_condemned(self, reason: BaseException | None) -> bool:
        """Whether the link is still the one of unknown state."""
        return self.conn.link is self._condemned

    def is_on_trial(self, reason: BaseException | None) -> bool:
        """Whether the connection had given up, and no link has lasted since."""
        return self.backoff.is_on_trial(now())

    def must_pause(self, reason: BaseException | None) -> bool:
        """Whether the next attempt is not the connection's own business."""
        return self.conn.state == ConnectionState.FAILED or self.is_on_trial(reason)

    def was_retired(self, reason: BaseException | None) -> bool:
        """Whether it does not belong to the pool any more."""
        return self.is_retired

    def is_wanted(self, reason: BaseException | None) -> bool:
        """Whether it was woken while it was being closed."""
        return self.is_wanted_again

    def forget_failures(self, reason: BaseException | None) -> None:
        """It is needed: what has been does not count."""
        self.cause, self.is_wanted_again = None, False
        self.backoff.forget()

    def wake_again(self, reason: BaseException | None) -> None:
        """It is needed as soon as it is closed."""
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
        level = logging.WARNING if self.backoff.failures == 1 else logging.DEBUG
        why = self.cause and said(self.cause)
        _log.log(level, "%r has given up, and is tried again in %.3g s: %s", self.conn, self.backoff.wait, why)

    def note_loss(self, reason: BaseException | None) -> None:
        """One more link was lost."""
        self.backoff.lost(now())

    def begin_service(self, reason: BaseException | None) -> None:
        """The link is there for leases."""
        began = self.idle_since = now()
        self.backoff.came_up(began)
        self.cause = None
        if self.conn.link is not self._link:
            self._link = self.conn.link
            self.links += 1
            lifetime = self.policy.lifetime(self._rng)
            self.expires_at = None if lifetime is None else began + lifetime
            self.is_old = self._link is self._outdated

    def end_service(self, reason: BaseException | None) -> None:
        """The link serves no more."""
        self.backoff.went_down(now())

    def ask_for_fresh_link(self, reason: BaseException | None) -> None:
        """The link is closed, and another is opened."""
        self._needs_fresh_link = True

    def condemn_link(self, reason: BaseException | None) -> None:
        """Nobody knows the state of the present link: it is not to be leased again."""
        self._condemned = self.conn.link

    def cut_off(self, reason: BaseException | None) -> None:
        """It does not belong to the pool any more, whoever holds it."""
        self.is_retired = True
        self.generation += 1

    # --- activities -----------------------------------------------------------------------------------------------

    async def while_opening(self) -> Annotated[str, Fires(_T.CONNECTED)]:
        """Connect."""
        conn, fresh = self.conn, self._needs_fresh_link
        self._needs_fresh_link = False
        if self.backoff.failures and conn.budget is not None and conn.state not in conn.serving_states:
            await conn.budget.admit()
        while True:
            with suppress(ConnectAbandonedError):  # somebody has disconnected it under us; once more, then
                await (conn.reconnect() if fresh else conn.connect())
                return _T.CONNECTED

    async def while_configuring(self) -> Annotated[str | None, Fires(_T.CONFIGURED, _T.OPEN_FAILED)]:
        """Have `on_open` work on the link."""
        assert self._on_open is not None
        conn = self.conn
        link = conn.link
        try:
            await run(f"{conn.name}: on_open", self._on_open, conn, conn.start_timeout)
            if self._meddling:
                raise ConnectAbandonedError(f"{conn.name}: {self._meddling} while on_open ran")
        except Exception as error:  # of the application's, whatever it is
            self._owner.hook_failed(self, "on_open", error)
            self.fire(_T.OPEN_FAILED, error)
            return None
        self._configured = link
        return _T.CONFIGURED

    async def while_resetting(self) -> Annotated[str, Fires(_T.RESET_DONE, _T.SPOIL)]:
        """Have `on_release` clean up after the leases that are over."""
        try:
            await self._cleanups.run()
        except Exception as error:  # of the application's, whatever it is
            self._owner.hook_failed(self, "on_release", error)
            return _T.SPOIL
        return _T.RESET_DONE

    async def while_backing_off(self) -> Annotated[str, Fires(_T.RETRY)]:
        """Pause, unless the connection recovers by itself."""
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

    # --- how it is done -------------------------------------------------------------------------------------------

    def _conn_moved(self, record: TransitionRecord) -> None:
        """The connection moved: the slot is out of service at once, whoever wins the race for the loop."""
        is_gone = record.dest not in self.conn.linked_states or self.conn.link is not self._link
        if is_gone and not self.policy.lease_outlives_link:
            self._end_leases(record.reason)
        if self._state == _S.CONFIGURING:
            self._meddling = self._meddling or meddling(record)
        if (trigger := told_by(record, self._state, self.conn.serving_states)) and not self._meddling:
            self.fire(trigger, record.reason)

    def _end_leases(self, reason: BaseException | None) -> None:
        """The link is gone, and with it the leases, which were of it."""
        if self.holders:
            self.generation += 1
            self.holders, self.loss = [], reason

    def entered(self, reason: BaseException | None) -> None:
        """Tell the owner."""
        if self._state == _S.OPENING:
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
        self.is_plain = self.is_ready and not self.is_overflow and not self.is_old

    async def on_loop_end(self) -> None:
        """Close the connection."""
        await self.conn.disconnect()

    def come_to_rest(self) -> None:
        """Close, without the activities."""
        for trigger in (_T.RETIRE, _T.DISCONNECTED) if self.is_retired else (_T.SLEEP, _T.DISCONNECTED):
            self.try_to_fire(trigger)

"""Faults of a pool, sown on purpose: small ones, of a kind that a programmer makes. The harness must find every one.

Each function puts one fault in by `patch`, which takes it out again. It says which lives find it, if not those of pools.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from threading import get_ident
from typing import Any

import attrs
import pytest

from fsm_conn._util import timing
from fsm_conn.connection.calling import calls
from fsm_conn.links.driver import DriverLink
from fsm_conn.links.errors import ConnectionLostError, ProbeError
from fsm_conn.links.process.start_limiter import StartLimiter, _Ticket
from fsm_conn.machine.machine import StateMachine
from fsm_conn.pool import driver_pool, hooks, options
from fsm_conn.pool.drain import Drain
from fsm_conn.pool.driver_pool import DriverLease
from fsm_conn.pool.leasing import leases as leases_module
from fsm_conn.pool.leasing import lookout
from fsm_conn.pool.leasing.lease import Lease
from fsm_conn.pool.leasing.leases import Leases
from fsm_conn.pool.leasing.waiters import Waiters
from fsm_conn.pool.opening import Opening
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.pool.slots import slot as slot_module
from fsm_conn.pool.slots.backoff import Backoff
from fsm_conn.pool.slots.generation import Generation
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.pool.slots.slots import Slots
from fsm_conn.pool.slots.table import SlotState
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.supervisor import Supervisor
from fsm_conn.pool.targets.moves import Moves
from fsm_conn.pool.users import current_user

from . import drivers, starts
from . import hunting as pools

__all__ = ["MUTANTS", "Mutant"]

Apply = Callable[[pytest.MonkeyPatch], None]


@attrs.frozen
class Mutant:
    """One fault."""

    name: str
    about: str
    """What is wrong, in a sentence."""
    apply: Apply
    live: Callable[[int], None]
    """The life of a seed that may find it."""
    seed: int
    """Of the life that found it last, where the first ones do not. It is lived first, before all others are."""


MUTANTS: list[Mutant] = []


def mutant(about: str, live: Callable[[int], None] = pools.live, seed: int = 0) -> Callable[[Apply], Apply]:
    """Put a function on the list."""

    def decorate(apply: Apply) -> Apply:
        MUTANTS.append(Mutant(getattr(apply, "__name__", ""), about, apply, live, seed))
        return apply

    return decorate


def nothing(*args: Any, **options: Any) -> None:
    """Does nothing."""


# --- leases and waiters -------------------------------------------------------------------------------------------


@mutant("a waiter that is cancelled as it is served keeps the slot", seed=46)
def served_and_cancelled_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "leave", lambda self, waiter, holder, wants=0: self.waiters.leave(waiter, wants))


@mutant("a hook that ignores its cancellation keeps its slot", pools.deaf_live, seed=70)
def deaf_hooks_keep_the_slot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hooks, "GRACE", 1e9)


@mutant("waiters are served last come, first served", seed=13)
def last_come_first_served(patch: pytest.MonkeyPatch) -> None:
    def serve(self: Waiters, slot: Slot, now: float | None = None) -> bool:
        while self._queue:
            waiter, user, _, wants = self._queue.pop()
            if not waiter.done():
                (slot.callers if wants & 1 else slot.holders).append(user)
                self._count_out(wants)
                waiter.set_result(slot)
                return True
        return False

    patch.setattr(Waiters, "serve", serve)


@mutant("a slot is handed to a waiter that has gone", seed=13)
def serves_the_gone(patch: pytest.MonkeyPatch) -> None:
    def serve(self: Waiters, slot: Slot, now: float | None = None) -> bool:
        if not self._queue:
            return False
        waiter, user, _, wants = self._queue.popleft()
        (slot.callers if wants & 1 else slot.holders).append(user)
        if not waiter.done():
            self._count_out(wants)
            waiter.set_result(slot)
        return True

    patch.setattr(Waiters, "serve", serve)


def _always_returned(patch: pytest.MonkeyPatch, returned: Any) -> None:
    """Also where a lease that is left does it by itself."""

    async def leave(self: Lease, *error: Any) -> None:
        if self._slot is not None:
            self.release()

    patch.setattr(Leases, "returned", returned)
    patch.setattr(Lease, "__aexit__", leave)


@mutant("a returned slot is put back while somebody waits", seed=17)
def returned_past_the_line(patch: pytest.MonkeyPatch) -> None:
    def returned(self: Leases, slot: Slot, holder: Any, generation: Generation) -> None:
        if slot.generation == generation:
            slot.holders.remove(holder)
            if slot.is_ready and slot not in self.free:
                self.free.append(slot)

    _always_returned(patch, returned)


@mutant("a returned slot is put back also when its link is not to be used again", seed=7)
def spoilt_slots_are_free(patch: pytest.MonkeyPatch) -> None:
    def returned(self: Leases, slot: Slot, holder: Any, generation: Generation) -> None:
        if slot.generation == generation:
            slot.holders.remove(holder)
            if not self.waiters.serve(slot):
                self.free.append(slot)

    _always_returned(patch, returned)


@mutant("a lease whose link was lost gives the next one's slot back", seed=17)
def given_back_twice(patch: pytest.MonkeyPatch) -> None:
    def returned(self: Leases, slot: Slot, holder: Any, generation: Generation) -> None:
        self.give_back(slot, holder)
        if slot.is_ready and slot.room and slot not in self.free:
            self.free.append(slot)
        elif slot.generation != generation and slot.is_ready and slot.holders:
            slot.holders.pop()
            self.free.append(slot)

    _always_returned(patch, returned)


@mutant("a lease that was dropped never comes back", seed=11)
def forgotten_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "forgotten", nothing)


@mutant("the slot keeps its leases alive, so that none is ever seen to be dropped", seed=11)
def slots_hold_leases(patch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    entered = Lease.__aenter__

    async def enter(self: Lease) -> Lease:
        kept.append(self)
        return await entered(self)

    patch.setattr(Lease, "__aenter__", enter)


@mutant("a slot that on_acquire has refused is not given back", seed=13)
def refused_is_lost(patch: pytest.MonkeyPatch) -> None:
    give_back = Leases.give_back

    def unless_refused(self: Leases, slot: Slot, holder: Any) -> None:
        if not slot.is_doubtful:
            give_back(self, slot, holder)

    patch.setattr(Leases, "give_back", unless_refused)


@mutant("a link that on_acquire has refused, or was interrupted with, is leased again", seed=13)
def doubtful_is_leased_again(patch: pytest.MonkeyPatch) -> None:
    agreed = Leases._is_agreed

    async def is_agreed(self: Leases, slot: Slot, holder: Any, *, is_last: bool) -> bool:
        def spoil_nothing(trigger: str) -> None:
            if trigger != "spoil":
                type(slot).try_to_fire(slot, trigger)

        slot.try_to_fire = spoil_nothing  # type: ignore[method-assign, assignment]
        return await agreed(self, slot, holder, is_last=is_last)

    patch.setattr(Leases, "_is_agreed", is_agreed)


@mutant("a slot is leased again before it was reset", seed=6)
def leased_before_reset(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "reset", lambda self, name, cleanup: cleanup.close())
    patch.setattr(Slot, "_judge", _judged_in_service)


def _judged_in_service(self: Slot) -> None:
    self.is_ready = self._state in ("ready", "resetting") and self.is_active and not self.is_old


@mutant("a slot whose reset has ended stays out of service")
def reset_for_ever(patch: pytest.MonkeyPatch) -> None:
    async def while_resetting(self: Slot) -> None:
        await asyncio.get_running_loop().create_future()

    patch.setattr(Slot, "while_resetting", while_resetting)


@mutant("a slot that is lost stays among the free ones")
def lost_and_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "_went_down", lambda self, slot: slot.activate(False))


@mutant("as many refusals of on_acquire as the pool has regular slots reach the caller", pools.refusing_live, seed=338)
def overflow_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "__len__", lambda self: self.policy.size)


@mutant("who is late is told at leisure", seed=2)
def late_and_later(patch: pytest.MonkeyPatch) -> None:
    async def within(limit: float, slot: Any) -> Any:
        try:
            return await timing.within(limit, slot)
        except timing.ExpiredError:
            await asyncio.sleep(0.05)
            raise

    patch.setattr(leases_module, "within", within)


@mutant("all links that expire have successors at once", pools.leases_live, seed=4)
def successors_of_all(patch: pytest.MonkeyPatch) -> None:
    def expire_all(self: Supervisor) -> None:
        for slot in tuple(self.slots):
            slot.outdate()
            self._have_succeeded(slot)

    patch.setattr(Supervisor, "expire_all", expire_all)


@mutant("a clean-up that takes long is counted on", pools.leases_live, seed=13)
def long_cleanups_are_coming(patch: pytest.MonkeyPatch) -> None:
    coming = Slots.coming

    def with_all(self: Slots, now: float) -> int:
        late = [each for each in self if each.state == SlotState.RESETTING and not each.is_coming(now)]
        return coming(self, now) + sum(each.room for each in late)

    patch.setattr(Slots, "coming", with_all)


@mutant("a timeout is forgotten")
def no_timeouts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "_slot_in_time", lambda self, holder, limit: self._agreed_slot(holder, 2))


@mutant("a slot with room for one more lease is taken for full", seed=2)
def room_is_one_too_few(patch: pytest.MonkeyPatch) -> None:
    room = property(lambda self: max(0, self.policy.leases_per_connection - len(self.holders) - bool(self.holders)))
    patch.setattr(Slot, "room", room)


@mutant("a slot is leased once more than it may be")
def room_is_one_too_many(patch: pytest.MonkeyPatch) -> None:
    room = property(lambda self: max(0, self.policy.leases_per_connection + 1 - len(self.holders)))
    patch.setattr(Slot, "room", room)


@mutant("a lease goes on with the next link as if nothing had happened", seed=2)
def leases_outlive_links(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "_end_leases", nothing)


@mutant("a call without a lease goes through a connection that somebody leases", seed=6)
def calls_through_leases(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "takes_calls", property(lambda self: True))
    patch.setattr(Slots, "least_busy", lambda self, avoided=(): next((each for each in self if each.in_service), None))


@mutant("a connection is leased while calls without a lease go through it", seed=2)
def leases_under_calls(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "room", property(lambda self: max(0, self.policy.leases_per_connection - len(self.holders))))


@mutant("a call that has ended keeps its slot", seed=2)
def calls_never_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "end_call", nothing)


# --- slots ----------------------------------------------------------------------------------------------------------


@mutant("a connection that has given up is never tried again")
def never_tried_again(patch: pytest.MonkeyPatch) -> None:
    async def while_backing_off(self: Slot) -> None:
        await asyncio.get_running_loop().create_future()

    patch.setattr(Slot, "while_backing_off", while_backing_off)


@mutant("a connection that has given up is tried again at once")
def tried_again_at_once(patch: pytest.MonkeyPatch) -> None:
    async def while_backing_off(self: Slot) -> str:
        await asyncio.sleep(0.01)
        return "retry"

    patch.setattr(Slot, "while_backing_off", while_backing_off)


@mutant("a link that dies as soon as it is open is no failure", seed=2)
def crashes_do_not_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "must_pause", lambda self, reason: False)


@mutant("a slot that is retired does not close its connection")
def left_connected(patch: pytest.MonkeyPatch) -> None:
    async def while_closing(self: Slot) -> str:
        return "disconnected"

    patch.setattr(Slot, "while_closing", while_closing)


@mutant("a lost link does not take its slot out of service")
def loss_goes_unnoticed(patch: pytest.MonkeyPatch) -> None:
    made = Slot.__init__

    def init(self: Slot, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        self._unsubscribe()

    patch.setattr(Slot, "__init__", init)


@mutant("a slot that is on its way counts for nothing")
def only_the_present_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "is_hopeful", property(lambda self: self.in_service))


@mutant("nobody takes the place of an active slot that is lost", seed=12)
def standby_sleeps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "standby", nothing)


@mutant("standby is leased as all others are", seed=3)
def standby_is_active(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "active", lambda self: 0)


@mutant("overflow is never opened")
def no_overflow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "_room_for_overflow", lambda self, now: 0)


@mutant("overflow knows no limit")
def endless_overflow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "_room_for_overflow", lambda self, now: 10)
    patch.setattr(Slots, "recount", nothing)


@mutant("what hangs holds back overflow")
def hanging_is_coming(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "is_coming", lambda self, now: self.is_hopeful and not self.in_service)


@mutant("overflow that was closed stays on the list")
def closed_overflow_is_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "retire", lambda self, slot: slot.fire("retire"))


@mutant("a slot that was closed stays on the list of those that leave")
def closed_and_leaving(patch: pytest.MonkeyPatch) -> None:
    slot_moved = Supervisor.slot_moved

    def moved(self: Supervisor, slot: Slot, *, was_in_service: bool) -> None:
        leaving = set(self.slots.leaving)
        slot_moved(self, slot, was_in_service=was_in_service)
        self.slots.leaving |= leaving

    patch.setattr(Supervisor, "slot_moved", moved)


@mutant("what another thread gives back is lost", seed=11)
def threads_give_nothing_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "_call_soon", nothing)


@mutant("who waits is not told that nothing can connect")
def hope_against_hope(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "is_hopeless", lambda self: False)


@mutant("who waits is told that nothing can connect as soon as one connection cannot", seed=44)
def gives_up_at_the_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "is_hopeless", lambda self: any(slot.cause is not None for slot in self))


@mutant("who has named a time to wait is told at once that nothing can connect", seed=2)
def patience_is_not_heeded(patch: pytest.MonkeyPatch) -> None:
    refuse = Waiters.refuse
    patch.setattr(Waiters, "refuse", lambda self, why, *, patient_too=True: refuse(self, why))


@mutant("a slot that came up while others waited is not given to them", seed=3)
def offered_and_forgotten(patch: pytest.MonkeyPatch) -> None:
    def came_up(self: Supervisor, slot: Slot) -> None:
        slot.activate(slot.is_overflow or self.slots.active() < self.policy.size)
        self.slots.free.append(slot)
        self.news.set()

    patch.setattr(Supervisor, "_came_up", came_up)


@mutant("a slot that is asleep is not woken")
def sleeps_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "_places", lambda self, now: 0)


@mutant("what maintains the pool is not woken by those who wait", seed=9)
def waiting_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    def provide(self: Supervisor) -> None:
        if not self.slots.is_complete and self.waiters and self.is_open:
            self._follow(self.slots.plan(self.waiters.demand, self.now()))

    patch.setattr(Supervisor, "provide", provide)


@mutant("what maintains the pool does not look at the clock", seed=9)
def nothing_is_ever_due(patch: pytest.MonkeyPatch) -> None:
    clean_up = Supervisor.clean_up
    patch.setattr(Supervisor, "clean_up", lambda self: clean_up(self) and None)


@mutant("the only link that serves is closed for its age")
def the_last_is_too_old(patch: pytest.MonkeyPatch) -> None:
    def may_replace(self: Slots, old: Slot) -> bool:
        return all(each.in_service for each in self if not (each is old or each.is_overflow or each.is_asleep))

    patch.setattr(Slots, "may_replace", may_replace)


@mutant("a link is closed for its age while another does not serve")
def all_are_too_old_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "may_replace", lambda self, old: self.serving() > 1)


@mutant("what does not serve counts for the minimum of idle connections")
def idle_beside_what_fails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "serving", lambda self: sum(not slot.is_overflow for slot in self))


@mutant("overflow that alone serves is closed for being idle", seed=40)
def overflow_that_serves_is_idle(patch: pytest.MonkeyPatch) -> None:
    idle_until = Supervisor._idle_until

    def until(self: Supervisor, slot: Slot, now: float) -> float | None:
        if not slot.is_overflow:
            return idle_until(self, slot, now)
        return (now if slot.is_used else slot.idle_since) + self.policy.overflow_linger

    patch.setattr(Supervisor, "_idle_until", until)


@mutant("a connection that has lost too many links is tried again as soon as any other", seed=44)
def restarts_are_not_limited(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Backoff, "_until_restart", lambda self, now: 0.0)


@mutant("a connection that has lost too many links waits for longer than its policy says", seed=29)
def restarts_wait_too_long(patch: pytest.MonkeyPatch) -> None:
    until = Backoff._until_restart
    patch.setattr(Backoff, "_until_restart", lambda self, now: 3 * until(self, now))


@mutant("overflow that never came up was used", seed=4)
def overflow_is_used_in_vain(patch: pytest.MonkeyPatch) -> None:
    absorb = PoolStats.absorb

    def count(self: PoolStats, slot: Slot) -> None:
        absorb(self, slot)
        self.overflow_used += slot.is_overflow and not slot.links

    patch.setattr(PoolStats, "absorb", count)


@mutant("nobody waits for the end of a slot that has left", seed=2)
def left_and_forgotten(patch: pytest.MonkeyPatch) -> None:
    retire = Supervisor.retire

    def forget(self: Supervisor, slot: Slot) -> None:
        retire(self, slot)
        self.slots.leaving.discard(slot)

    patch.setattr(Supervisor, "retire", forget)


# --- the life -----------------------------------------------------------------------------------------------------


@mutant("closing does not wake those who wait")
def waiters_are_not_woken(patch: pytest.MonkeyPatch) -> None:
    def end_service(self: ConnectionPool, reason: BaseException | None) -> None:
        self._leases.is_slow = True
        self._supervisor.end()

    patch.setattr(ConnectionPool, "end_service", end_service)


@mutant("what is free is still leased while the pool is closed")
def free_while_draining(patch: pytest.MonkeyPatch) -> None:
    def end_service(self: ConnectionPool, reason: BaseException | None) -> None:
        self._counts.refused += self._line.refuse(lambda: RuntimeError("closed"))
        self._supervisor.news.set()

    patch.setattr(ConnectionPool, "end_service", end_service)


@mutant("closing waits for leases without regard to its limit", seed=9)
def drains_for_ever(patch: pytest.MonkeyPatch) -> None:
    async def returned(self: Drain) -> None:
        while self._awaited():
            self._supervisor.news.clear()
            await self._supervisor.news.wait()

    patch.setattr(Drain, "_returned_by_all", returned)


@mutant("an opening that failed leaves what had been opened")
def failed_opening_stays(patch: pytest.MonkeyPatch) -> None:
    async def run(self: Drain) -> None:
        await self._returned_by_all()

    patch.setattr(Drain, "run", run)


@mutant("the leases of a pool that is closed are counted twice")
def counted_twice(patch: pytest.MonkeyPatch) -> None:
    clear = Slots.clear

    def forget(self: Slots) -> None:
        for slot in self:
            self._counts.absorb(slot)
        clear(self)

    patch.setattr(Slots, "clear", forget)


# --- calls, hooks, threads --------------------------------------------------------------------------------------------


@mutant("an idempotent call that ends its links is sent again for ever", seed=16)
def calls_are_repeated_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(calls, "MOST_REPEATS", 1000)


@mutant("a call that ends its links is sent again once more than it may be", seed=16)
def calls_are_repeated_once_more(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(calls, "MOST_REPEATS", calls.MOST_REPEATS + 1)


@mutant("a call that has waited has all of its time before it", pools.calls_live, seed=3)
def deadlines_begin_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(calls.Patience, "what_is_left", lambda self: self._options)


@mutant("hooks have no limit", pools.hanging_live, seed=12)
def hooks_without_limit(patch: pytest.MonkeyPatch) -> None:
    async def unbounded(name: str, conn: Any, outcome: Any, limit: float | None) -> None:
        await outcome

    patch.setattr(hooks, "_bounded", unbounded)


@mutant("another event loop is served", seed=20)
def foreign_loops_are_served(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "user", lambda self: current_user())


@mutant("what another thread gives back goes past those who wait", seed=58)
def returned_by_threads_past_the_line(patch: pytest.MonkeyPatch) -> None:
    returned = Leases.returned

    def slowly(self: Leases, slot: Slot, holder: Any, generation: Generation) -> None:
        if get_ident() == self.thread:
            returned(self, slot, holder, generation)
        elif slot.generation == generation:
            slot.holders.remove(holder)
            self.free.append(slot)

    patch.setattr(Leases, "returned", slowly)


@mutant("what another thread gives back does not wake the loop", seed=2)
def threads_do_not_wake_the_loop(patch: pytest.MonkeyPatch) -> None:
    def call_soon(self: Leases, slot: Slot, holder: Any, generation: int) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon(self._returned_here, slot, holder, generation)

    patch.setattr(Leases, "_call_soon", call_soon)


@mutant("a call that was not sent is not sent through another connection", seed=34)
def unsent_and_told(patch: pytest.MonkeyPatch) -> None:
    after_loss = calls._Repeats.after_loss

    def told(self: Any, error: ConnectionLostError) -> None:
        if not error.maybe_executed:
            raise error
        after_loss(self, error)

    patch.setattr(calls._Repeats, "after_loss", told)


@mutant("a connection serves before on_open has prepared it")
def served_unprepared(patch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []

    async def while_configuring(self: Slot) -> str:
        outcome = self._on_open(self.conn) if self._on_open is not None else None
        if inspect.isawaitable(outcome):
            kept.append(asyncio.ensure_future(outcome))
        self._configured = self.conn.link
        return "configured"

    patch.setattr(Slot, "while_configuring", while_configuring)


class Here:
    """A context that is none: what is run in it is run in that of the caller."""

    def copy(self) -> Here:
        return self

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


@mutant("a connection is opened in the context of who needs it first")
def contexts_of_users(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StateMachine, "keep_context", nothing)
    patch.setattr(options, "copy_context", Here)


@mutant("what was lost while the loop was blocked is handed out", seed=67)
def nobody_looks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lookout, "FRESH", 1e9)


# --- what people ask for ----------------------------------------------------------------------------------------------


@mutant("a lease that is discarded is given back as any other", seed=44)
def discarded_and_leased(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "spoil", nothing)


@mutant("what is in use when all links expire is forgotten", seed=15)
def expired_and_kept(patch: pytest.MonkeyPatch) -> None:
    def expire_all(self: Supervisor) -> None:
        for slot in self.slots:
            if not slot.is_used:
                slot.outdate()

    patch.setattr(Supervisor, "expire_all", expire_all)


@mutant("a pool that is to be larger opens nothing more")
def never_larger(patch: pytest.MonkeyPatch) -> None:
    def resize(self: Supervisor, policy: Any) -> None:
        self.policy = policy
        self.slots.follow(policy)

    patch.setattr(Supervisor, "resize", resize)


@mutant("a pool that is to be smaller keeps all connections")
def never_smaller(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slots, "to_spare", lambda self, count: [])


@mutant("an acquire that does not wait does")
def acquire_zero_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "_slot_at_once", lambda self, holder: self._agreed_slot(holder, 0))


@mutant("an opening that is to wait for nothing waits for all")
def opens_all_or_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Opening, "at_least", property(lambda self: None, nothing), raising=False)


@mutant("a target that is removed keeps its connections", seed=3)
def removed_and_kept(patch: pytest.MonkeyPatch) -> None:
    async def removed(self: Drain, slots: Any, timeout: float | None) -> None: ...

    patch.setattr(Moves, "leave", nothing)
    patch.setattr(Drain, "removed", removed)


@mutant("a target that is removed while the pool is closed has its connections replaced", seed=5)
def replaced_while_draining(patch: pytest.MonkeyPatch) -> None:
    def remove_target(self: Supervisor, target: Any) -> list[Slot]:
        gone = self._targets.remove(target)
        self.moves.leave(gone)
        return [slot for slot in (*self.slots, *self.slots.leaving) if slot.target is gone]

    patch.setattr(Supervisor, "remove_target", remove_target)


@mutant("connections never move to a target that has too few of them", seed=7)
def never_evened_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Moves, "clean_up", lambda self, now: [])


@mutant("a target that is added is forgotten", seed=3)
def added_and_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "add_target", nothing)


@mutant("a target that was left out is never tried again", seed=7)
def left_out_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Moves, "_is_tried_by", lambda self, slot, target: True)


# --- drivers ------------------------------------------------------------------------------------------------------


@mutant("an error of a driver that connects is a bug, which ends all attempts", drivers.live)
def driver_errors_are_bugs(patch: pytest.MonkeyPatch) -> None:
    async def open(self: DriverLink[Any]) -> None:
        self._gone = asyncio.get_running_loop().create_future()
        self._driver = await self.connect()

    patch.setattr(DriverLink, "open", open)


@mutant("an error of a driver that is probed is a bug", drivers.live)
def ping_errors_are_bugs(patch: pytest.MonkeyPatch) -> None:
    probe = DriverLink.probe

    async def bare(self: DriverLink[Any], service: str = "") -> bool:
        try:
            return await probe(self, service)
        except ProbeError as error:
            raise (error.__cause__ or error) from None

    patch.setattr(DriverLink, "probe", bare)


@mutant("a driver is probed during a query", drivers.live)
def probes_cut_queries(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DriverLink, "users", property(lambda self: 0, nothing), raising=False)


@mutant("a lease of a driver does not count as use", drivers.live)
def leases_are_no_use(patch: pytest.MonkeyPatch) -> None:
    async def enter(self: DriverLease[Any]) -> Any:
        link: Any = (await self.lease).connection.link
        return link.driver

    async def leave(self: DriverLease[Any], *error: Any) -> None:
        self.lease.release()

    patch.setattr(DriverLease, "__aenter__", enter)
    patch.setattr(DriverLease, "__aexit__", leave)


@mutant("a query does not wait for the end of a ping", drivers.live)
def queries_during_pings(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(slot_module, "probed_since", nothing)
    patch.setattr(DriverLink, "_pinging", property(lambda self: None, nothing), raising=False)


@mutant("who does not wait for a lease waits for the end of a ping", drivers.live, seed=20)
def probed_drivers_are_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(slot_module, "probed_since", nothing)
    patch.setattr(driver_pool, "within", lambda seconds, awaitable: awaitable)


@mutant("a driver is probed while on_acquire checks it", drivers.live, seed=21)
def checked_during_pings(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hooks, "begun", lambda hook, conn: hook(conn))


@mutant("a driver stays in use for ever, and so is never probed again", drivers.live)
def uses_never_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DriverLink, "end_use", nothing)


@mutant("a driver is taken for one that does several things at once", drivers.live)
def several_things_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DriverLink, "one_at_a_time", False)


@mutant("a driver is used again after its exchange was cut off", drivers.live)
def cut_off_and_used(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DriverLink, "_cut_off", nothing)


@mutant("a driver is leased again after its user was cancelled", drivers.live)
def cancelled_and_leased(patch: pytest.MonkeyPatch) -> None:
    async def leave(self: DriverLease[Any], *error: Any) -> None:
        if self._link is not None:
            self.release()

    patch.setattr(DriverLease, "__aexit__", leave)


@mutant("a link that is marked lost is kept", drivers.live)
def marked_and_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DriverLink, "mark_lost", nothing)


@mutant("nobody asks a driver whether its connection is lost", drivers.live)
def losses_are_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    async def poll(self: DriverLink[Any], driver: Any) -> None: ...

    patch.setattr(DriverLink, "_poll", poll)


@mutant("a driver is not reset after its lease", drivers.live)
def never_reset(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(slot_module, "has_reset", lambda link: False)


@mutant("the driver of a link that is closed stays open", drivers.live)
def drivers_stay_open(patch: pytest.MonkeyPatch) -> None:
    async def close(self: DriverLink[Any]) -> None:
        self.mark_lost()

    patch.setattr(DriverLink, "close", close)


@mutant("a lease of a driver that is discarded is given back as any other", drivers.live)
def discarded_drivers_are_leased(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DriverLease, "discard", DriverLease.release)


# --- the gate of all starts ---------------------------------------------------------------------------------------


@mutant("all starts wait in one queue, whatever they start", starts.live)
def starts_in_one_queue(patch: pytest.MonkeyPatch) -> None:
    slot = StartLimiter.slot
    patch.setattr(StartLimiter, "slot", lambda self, what=None: slot(self))


@mutant("what hangs in its start has its turns as all else", starts.live)
def what_hangs_has_its_turns(patch: pytest.MonkeyPatch) -> None:
    def advance(self: StartLimiter) -> None:
        while self._waiting and len(self._out) < self._capacity:
            what = next(iter(self._waiting))
            tickets = self._waiting.pop(what)
            ticket = tickets.popleft()
            if tickets:
                self._waiting[what] = tickets
            if ticket.tell():
                self._grant(ticket)

    patch.setattr(StartLimiter, "_advance", advance)


@mutant("the slot of a start that hangs is never taken back", starts.live)
def slots_are_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StartLimiter, "_take_back", nothing)


@mutant("the slot of a start is taken back as soon as somebody has waited a little", starts.live)
def slots_are_taken_at_once(patch: pytest.MonkeyPatch) -> None:
    take_back = StartLimiter._take_back
    patch.setattr(
        StartLimiter, "_take_back", lambda self, old, recent, mine: take_back(self, self._serial, self._serial, mine)
    )


@mutant("what is known to hang keeps its slots as long as all else", starts.live)
def hanging_is_not_known(patch: pytest.MonkeyPatch) -> None:
    take_back = StartLimiter._take_back
    patch.setattr(StartLimiter, "_take_back", lambda self, old, recent, mine: take_back(self, old, old, mine))


@mutant("what once hung comes after all else for ever", starts.live)
def hanging_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StartLimiter, "_forget_late", nothing)


@mutant("a start that is cancelled as it is let in keeps its slot", starts.live)
def cancelled_at_the_gate(patch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def slot(self: StartLimiter, what: Hashable = None) -> AsyncIterator[None]:
        ticket = _Ticket(asyncio.get_running_loop(), what)
        if not self._enter(ticket):
            await self._wait(ticket)
        try:
            yield
        finally:
            self._leave(ticket)

    patch.setattr(StartLimiter, "slot", slot)

"""Faults of a pool, sown on purpose: small ones, of a kind that a programmer makes. The harness must find every one.

Each function puts one fault in by `patch`, which takes it out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from fsm_conn.pool.desk import Desk
from fsm_conn.pool.keeper import PoolKeeper
from fsm_conn.pool.lease import Lease
from fsm_conn.pool.place import Kind
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.pool.roster import Roster
from fsm_conn.pool.slots import Slot
from fsm_conn.pool.waiters import Waiters

__all__ = ["MUTANTS", "Mutant"]

Apply = Callable[[pytest.MonkeyPatch], None]


@attrs.frozen
class Mutant:
    """One fault."""

    name: str
    about: str
    """What is wrong, in a sentence."""
    apply: Apply


MUTANTS: list[Mutant] = []


def mutant(about: str) -> Callable[[Apply], Apply]:
    """Put a function on the list."""

    def decorate(apply: Apply) -> Apply:
        MUTANTS.append(Mutant(getattr(apply, "__name__", ""), about, apply))
        return apply

    return decorate


def nothing(*args: Any, **options: Any) -> None:
    """Does nothing."""


# --- leases and waiters -------------------------------------------------------------------------------------------


@mutant("a waiter that is cancelled as it is served keeps the slot")
def served_and_cancelled_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Desk, "_leave_line", lambda self, waiter, holder: self._line.leave(waiter))


@mutant("waiters are served last come, first served")
def last_come_first_served(patch: pytest.MonkeyPatch) -> None:
    def serve(self: Waiters, slot: Slot) -> bool:
        while self._queue:
            waiter, holder, _ = self._queue.pop()
            if not waiter.done():
                slot.holders.append(holder)
                waiter.set_result(slot)
                return True
        return False

    patch.setattr(Waiters, "serve", serve)


@mutant("a slot is handed to a waiter that has gone")
def serves_the_gone(patch: pytest.MonkeyPatch) -> None:
    def serve(self: Waiters, slot: Slot) -> bool:
        if not self._queue:
            return False
        waiter, holder, _ = self._queue.popleft()
        slot.holders.append(holder)
        if not waiter.done():
            waiter.set_result(slot)
        return True

    patch.setattr(Waiters, "serve", serve)


@mutant("a returned slot is put back while somebody waits")
def returned_past_the_line(patch: pytest.MonkeyPatch) -> None:
    def returned(self: Desk, slot: Slot, holder: Any) -> None:
        slot.holders.remove(holder)
        if slot.is_ready and slot not in self._free:
            self._free.append(slot)

    patch.setattr(Desk, "_returned", returned)


@mutant("a returned slot is put back also when its link was lost meanwhile")
def lost_slots_are_free(patch: pytest.MonkeyPatch) -> None:
    def returned(self: Desk, slot: Slot, holder: Any) -> None:
        slot.holders.remove(holder)
        if not self._line.serve(slot):
            self._free.append(slot)

    patch.setattr(Desk, "_returned", returned)


@mutant("a lease that was dropped never comes back")
def forgotten_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Desk, "_forgotten", nothing)


@mutant("the slot keeps its leases alive, so that none is ever seen to be dropped")
def slots_hold_leases(patch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    entered = Lease.__aenter__

    async def enter(self: Lease) -> Lease:
        kept.append(self)
        return await entered(self)

    patch.setattr(Lease, "__aenter__", enter)


@mutant("a slot that on_acquire has refused is not given back")
def refused_is_lost(patch: pytest.MonkeyPatch) -> None:
    ask = Desk._ask

    async def asked(self: Desk, hook: Any, slot: Slot, holder: Any, *, last: bool) -> None:
        holders = list(slot.holders)
        try:
            await ask(self, hook, slot, holder, last=last)
        except Exception:
            slot.holders[:] = holders
            raise

    patch.setattr(Desk, "_ask", asked)


@mutant("cancelled while on_acquire looks at it, a slot is lost")
def lost_while_asked(patch: pytest.MonkeyPatch) -> None:
    async def ask(self: Desk, hook: Any, slot: Slot, holder: Any, *, last: bool) -> None:
        try:
            outcome = hook(slot.conn)
            if asyncio.iscoroutine(outcome):
                await outcome
        except Exception:
            slot.outdate()

    patch.setattr(Desk, "_ask", ask)


@mutant("a slot is leased again before it was reset")
def leased_before_reset(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "begin_reset", nothing)


@mutant("a slot whose reset has failed stays out of service")
def reset_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "end_reset", nothing)


@mutant("a slot that is lost stays among the free ones")
def lost_and_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Roster, "_withdrawn", lambda self, slot: slot.activate(False))


@mutant("a timeout is forgotten")
def no_timeouts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Desk, "_slot_in_time", lambda self, holder, limit: self._agreed_slot(holder))


@mutant("a slot with room for one more lease is taken for full")
def room_is_one_too_few(patch: pytest.MonkeyPatch) -> None:
    room = property(lambda self: max(0, self._policy.leases_per_connection - len(self.holders) - bool(self.holders)))
    patch.setattr(Slot, "room", room)


@mutant("a slot is leased once more than it may be")
def room_is_one_too_many(patch: pytest.MonkeyPatch) -> None:
    room = property(lambda self: max(0, self._policy.leases_per_connection + 1 - len(self.holders)))
    patch.setattr(Slot, "room", room)


# --- slots ----------------------------------------------------------------------------------------------------------


@mutant("a connection that has given up is never tried again")
def never_tried_again(patch: pytest.MonkeyPatch) -> None:
    async def keep(self: Slot, before: Any) -> None:
        try:
            await self._serve()
            await asyncio.get_running_loop().create_future()
        finally:
            await self.conn.disconnect()

    patch.setattr(Slot, "_keep", keep)


@mutant("a slot that is dismissed does not close its connection")
def left_connected(patch: pytest.MonkeyPatch) -> None:
    async def keep(self: Slot, before: Any) -> None:
        while True:
            await self._serve()
            await asyncio.sleep(1)

    patch.setattr(Slot, "_keep", keep)


@mutant("a lost link does not take its slot out of service")
def loss_goes_unnoticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "_moved", nothing)


@mutant("a slot that is on its way counts for nothing")
def only_the_present_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "is_hopeful", property(lambda self: self.in_service))


@mutant("nobody takes the place of an active slot that is lost")
def standby_sleeps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Roster, "_promote", nothing)


@mutant("standby is leased as all others are")
def standby_is_active(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Roster, "_active", lambda self: 0)


@mutant("overflow is never opened")
def no_overflow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Roster, "_room_for_overflow", lambda self: 0)


@mutant("overflow knows no limit")
def endless_overflow(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Roster, "_room_for_overflow", lambda self: 10)
    patch.setattr(Roster, "_provide", _without_the_short_cut)


def _without_the_short_cut(self: Roster) -> None:
    if self._line and self._is_open():
        missing = len(self._line) - self._coming()
        for _ in range(missing):
            self._open_overflow()


@mutant("overflow that was closed stays on the list")
def closed_overflow_is_counted(patch: pytest.MonkeyPatch) -> None:
    def close(self: Roster, slot: Slot) -> None:
        self._watch_closing(slot.dismiss() if slot.is_overflow else slot.sleep())

    patch.setattr(Roster, "_close", close)


@mutant("who waits is not told that nothing can connect")
def hope_against_hope(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Roster, "_is_hopeless", lambda self: False)


@mutant("who waits is told that nothing can connect as soon as one connection cannot")
def gives_up_at_the_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Roster, "_is_hopeless", lambda self: any(slot.cause is not None for slot in self._slots))


@mutant("a slot that came up while others waited is not given to them")
def offered_and_forgotten(patch: pytest.MonkeyPatch) -> None:
    def offered(self: Roster, slot: Slot, *, is_new: bool) -> None:
        self._counts.created += is_new
        slot.activate(slot.kind is Kind.OVERFLOW or self._active() < self.policy.size)
        self._free.append(slot)
        self._tell()

    patch.setattr(Roster, "_offered", offered)


@mutant("a slot that is asleep is not woken")
def sleeps_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Roster, "_places", lambda self: 0)


# --- the life -----------------------------------------------------------------------------------------------------


@mutant("closing does not wake those who wait")
def waiters_are_not_woken(patch: pytest.MonkeyPatch) -> None:
    def end_service(self: PoolKeeper, reason: BaseException | None) -> None:
        self._is_slow = True
        self._free.clear()

    patch.setattr(PoolKeeper, "end_service", end_service)


@mutant("what is free is still leased while the pool is closed")
def free_while_draining(patch: pytest.MonkeyPatch) -> None:
    def end_service(self: PoolKeeper, reason: BaseException | None) -> None:
        self._counts.refused += self._line.refuse(lambda: self._closed_for(reason))
        self._tell()

    patch.setattr(PoolKeeper, "end_service", end_service)


@mutant("closing waits for leases without regard to its limit")
def drains_for_ever(patch: pytest.MonkeyPatch) -> None:
    async def returned(self: PoolKeeper) -> None:
        while any(self._awaited()):
            await self._change()

    patch.setattr(PoolKeeper, "_returned_by_all", returned)


@mutant("an opening that failed leaves what had been opened")
def failed_opening_stays(patch: pytest.MonkeyPatch) -> None:
    async def while_draining(self: PoolKeeper) -> str:
        await self._returned_by_all()
        return "drained"

    patch.setattr(PoolKeeper, "while_draining", while_draining)


@mutant("the leases of a pool that is closed are counted twice")
def counted_twice(patch: pytest.MonkeyPatch) -> None:
    absorb = ConnectionPool.forget_slots

    def forget(self: ConnectionPool, reason: BaseException | None) -> None:
        for slot in self._slots:
            self._counts.absorb(slot)
        absorb(self, reason)

    patch.setattr(ConnectionPool, "forget_slots", forget)

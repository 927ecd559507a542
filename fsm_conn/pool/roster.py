"""Which slots there are: the regular ones and the standby, overflow, what is renewed, and what is closed when idle.

The rules that hold here:

- The roster decides by what slots tell (`_offered`, `_withdrawn`, `_troubled`) and by what the clock says; it never
  looks into a connection's driver.
- Of the regular slots in service, at most `size` are *active*, which means leased; the others are standby, and take the
  place of an active one in the moment in which it goes out of service.
- Overflow is opened in the moment in which somebody must wait for a lease to be returned. It is tried again, with
  pauses, as long as somebody waits.
- When nothing is in service, and all that was tried has failed, those who wait are told why at once.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fsm_conn._util.text import said
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.options import shared_rng
from fsm_conn.pool.desk import Desk, Hook, called
from fsm_conn.pool.errors import PoolUnavailableError
from fsm_conn.pool.place import Kind
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots import Slot

if TYPE_CHECKING:
    import random

__all__ = ["Roster"]

_log = logging.getLogger("fsm_conn.pool")

SOON = 0.001
"""Seconds. What is due so soon is due now: timers are no finer."""


class Roster(Desk):
    """The part of a pool that makes slots, and closes them.

    Args:
        policy: the pool's.
        make: makes a connection of a given name.
        on_open: called with a connection after each of its links came up.
        on_acquire: called with a connection before it is leased.
        on_release: called with a connection after it was.
        rng: where jitter is drawn from.
    """

    def __init__(
        self,
        policy: PoolPolicy,
        make: Callable[[str | None], Connection],
        on_open: Hook | None,
        on_acquire: Hook | None,
        on_release: Hook | None,
        rng: random.Random | None,
    ) -> None:
        super().__init__(policy, on_acquire, on_release)
        self._make = make
        self._on_open = on_open
        self._rng = rng
        self._slots: list[Slot] = []
        self._most = policy.size + policy.standby + policy.max_overflow
        self._is_plain = policy.max_idle is None and policy.max_lifetime is None
        self._closing: set[asyncio.Task[None]] = set()
        self._made = 0
        self._news: asyncio.Event | None = None
        self._watchers: set[asyncio.Future[None]] = set()

    @abc.abstractmethod
    def is_ending(self) -> bool:
        """Whether the loop ends, so that nothing is to be begun any more."""

    # --- what slots tell --------------------------------------------------------------------------------------

    def _offered(self, slot: Slot, *, is_new: bool) -> None:
        self._counts.created += is_new
        if slot.is_overflow or self._active() < self.policy.size:
            slot.activate(True)
        self._tidy(slot)
        self._provide()  # for who counted on a slot that has become standby
        self._tell()

    def _withdrawn(self, slot: Slot) -> None:
        self._leave_free(slot)
        was_active = slot.is_active
        slot.activate(False)
        if not self._is_serving():
            return
        if was_active and not slot.is_overflow:
            self._promote()
        self._provide()
        self._tell()

    def _troubled(self, slot: Slot) -> None:
        self._provide()
        self._tidy(slot)
        self._tell()

    def _vacated(self, slot: Slot) -> None:
        if not self._is_loop_closed():
            self._tidy(slot)

    def _stopped(self, slot: Slot) -> None:
        if self._is_serving() and not self.is_ending():
            slot.wake()

    def _promote(self) -> None:
        """One of the standby takes the place of a slot that is out of service."""
        for other in self._slots:
            if other.in_service and not other.is_active and not other.is_overflow:
                other.activate(True)
                self._put(other)
                return

    # --- what is decided ----------------------------------------------------------------------------------------

    def _tidy(self, slot: Slot) -> None:
        """Do what is to be done to a slot that has changed; lease it if there is nothing."""
        if not self._is_serving() or slot.is_closed:
            self._tell()
            return
        if not slot.is_used:
            slot.idle_since = self._now()
            if slot.is_stale or slot.is_old:
                slot.renew()
            elif slot.is_overflow and self._is_spare(slot):
                self._close(slot)
                return
        self._put(slot)

    def _is_spare(self, overflow: Slot) -> bool:
        """Whether it is of no use any more: nobody waits, and it would not stay, or cannot be had."""
        lingers = self.policy.overflow_linger > 0 and overflow.in_service
        return not lingers and not self._line and (overflow.in_service or not overflow.is_hopeful)

    def _provide(self) -> None:
        """Somebody waits: wake or make as many slots as would serve them, or tell them that none can be had."""
        if self._is_plain and len(self._slots) >= self._most and self._slots[0].in_service:
            return  # as a rule there is nothing to decide
        if not self._line or not self._is_open():
            return
        if self._is_hopeless():
            self._counts.refused += self._line.refuse(self._why_unavailable)
            return
        for slot in self._slots:
            if slot.is_old and slot.is_leasable:
                self._put(slot)
        asleep, overflow = self._asleep(), self._room_for_overflow()
        missing, wanted = len(self._line) - self._coming(), self._places()
        while missing > 0 and (wanted or overflow):
            if wanted:
                wanted -= 1
                asleep.pop().wake()
            else:
                overflow = overflow - 1 if self._open_overflow() else 0
            missing -= self.policy.leases_per_connection

    def _is_hopeless(self) -> bool:
        """Whether nothing is in service or on its way, and all that was tried has failed."""
        for slot in self._slots:
            if slot.is_hopeful:
                return False
        return any(slot.cause is not None for slot in self._slots)

    def _open_overflow(self) -> bool:
        """Whether there is one more. What the constructor raises must hurt neither who waits nor who is served."""
        try:
            slot = self._new_slot(Kind.OVERFLOW)
        except Exception:
            _log.exception("%r: a connection beyond its size could not be made", self)
            return False
        self._slots.append(slot)
        self._counts.overflow_used += 1
        slot.wake()
        return True

    def _asleep(self) -> list[Slot]:
        return [] if self.policy.max_idle is None else [slot for slot in self._slots if not slot.is_awake]

    def _room_for_overflow(self) -> int:
        return self._most - len(self._slots)

    def _coming(self) -> int:
        """For how many who wait there will be room when what is under way succeeds."""
        fresh = [slot for slot in self._slots if slot.is_hopeful and not slot.in_service]
        rooms = [slot.room for slot in fresh if not slot.is_overflow][: max(0, self.policy.size - self._active())]
        rooms += [slot.room for slot in fresh if slot.is_overflow]
        rooms += [slot.room for slot in self._slots if slot.resets and slot.in_service]
        return sum(rooms)

    def _places(self) -> int:
        """How many of the slots that are asleep would be leased if they were woken."""
        awake = sum(slot.is_awake and not slot.is_overflow for slot in self._slots)
        return max(0, min(self.policy.size - awake, len(self._asleep())))

    def _to_come(self) -> int:
        possible = self._places() + self._room_for_overflow()
        return self._coming() + possible * self.policy.leases_per_connection

    def _active(self) -> int:
        return sum(slot.is_active and not slot.is_overflow for slot in self._slots)

    def _new_slot(self, kind: Kind) -> Slot:
        self._made += 1
        return Slot(
            self._make(f"{self.name}#{self._made}"),
            kind,
            self,
            policy=self.policy,
            rng=self._rng or shared_rng(),
            greet=None if self._on_open is None else self._greet,
        )

    async def _greet(self, conn: Connection) -> None:
        assert self._on_open is not None
        await called("on_open", self._on_open, conn)

    # --- what is due --------------------------------------------------------------------------------------------

    def _clean_up(self) -> float | None:
        """Do what is due; and return when more will be, by the loop's clock, if nothing happens meanwhile."""
        now, later = self._now(), []
        for slot in tuple(self._slots):
            for due, chore in ((slot.expires_at, self._retire), (self._idle_until(slot, now), self._close)):
                if due is None or not slot.in_service:
                    continue
                if due > now + SOON:
                    later.append(due)
                elif chore == self._retire or not slot.is_used:
                    chore(slot)
        return min(later, default=None)

    def _retire(self, slot: Slot) -> None:
        """It is too old: its link is replaced, now or when it is not used any more."""
        slot.expire()
        self._leave_free(slot)
        self._tidy(slot)

    def _idle_until(self, slot: Slot, now: float) -> float | None:
        """When a slot will have been idle for too long, if nobody uses it from now on; None: never."""
        since = now if slot.is_used else slot.idle_since
        if slot.is_overflow:
            return since + self.policy.overflow_linger
        awake = sum(other.is_awake and not other.is_overflow for other in self._slots)
        if self.policy.max_idle is None or awake <= self.policy.min_idle + self.policy.standby:
            return None
        return since + self.policy.max_idle

    def _close(self, slot: Slot) -> None:
        """Nobody needs it: overflow goes, another slot sleeps until it is needed."""
        if slot.is_overflow:
            self._slots.remove(slot)
            self._counts.absorb(slot)
        self._watch_closing(slot.dismiss() if slot.is_overflow else slot.sleep())

    def _watch_closing(self, task: asyncio.Task[None] | None) -> None:
        if task is not None and not task.done():
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # --- how it is done -----------------------------------------------------------------------------------------

    @abc.abstractmethod
    def _is_open(self) -> bool:
        """Whether all connections have been there once, and nobody has asked to close them."""

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _tell(self) -> None:
        """Something has changed: whoever waits for it may look again."""
        if self._news is not None:
            self._news.set()
        if self._watchers:
            watchers, self._watchers = self._watchers, set()
            for watcher in watchers:
                if not watcher.done():
                    watcher.set_result(None)

    async def _change(self) -> None:
        """Wait until something changes."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.add(watcher)
        try:
            await watcher
        finally:
            self._watchers.discard(watcher)

    def _why_unavailable(self) -> PoolUnavailableError:
        return self._unavailable("has no connection")

    def _unavailable(self, what: str) -> PoolUnavailableError:
        """What tells that it has no connection, with all causes."""
        return unavailable(f"{self!r} {what}", [slot.cause for slot in self._slots if slot.cause is not None])


def unavailable(what: str, causes: Iterable[BaseException]) -> PoolUnavailableError:
    """An error with its causes, each told once."""
    causes = tuple(causes)
    told = "; ".join(dict.fromkeys(map(said, causes))) or "none is in service"
    error = PoolUnavailableError(f"{what}: {told}", causes=causes)
    error.__cause__ = causes[0] if causes else None
    return error

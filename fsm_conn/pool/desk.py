"""Who gets a connection: the leases, those who wait for one, and what the hooks have to say.

The rules that hold here:

- Who gets what is decided synchronously: nothing awaits between finding a slot and handing it over, so nothing can be
  cancelled in between. Whoever was cancelled after that gives it back, in the same step.
- A slot is in `_free` exactly when it is ready and has room for a lease. While somebody waits, nothing is free.
- Whatever is raised, by a hook or by anybody, a slot that was taken is given back: it is in the `holders` of the slot,
  and nowhere else, that a lease counts.

Which slots there are is not decided here; see `roster`.
"""

from __future__ import annotations

import abc
import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.connection.connection import Connection
from fsm_conn.pool.errors import PoolClosed, PoolFullError, PoolTimeoutError
from fsm_conn.pool.lease import Lease, WatchedLease
from fsm_conn.pool.place import Holder, current_holder
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots import Slot
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.waiters import Waiters

__all__ = ["Desk", "Hook", "called"]

Hook = Callable[[Connection], Awaitable[None] | None]

_log = logging.getLogger("fsm_conn.pool")


async def called(name: str, hook: Hook, conn: Connection) -> None:
    """Call a hook, plain or async.

    Raises:
        RuntimeError: it let a cancellation pass that was not meant for the task which runs it.
    """
    try:
        outcome = hook(conn)
        if inspect.isawaitable(outcome):
            await outcome
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError(f"{name} awaited something that was cancelled, and let that pass") from cancelled


class Desk(abc.ABC):
    """The part of a pool that hands out leases and takes them back.

    Args:
        policy: the pool's.
        on_acquire: called with a connection before it is leased.
        on_release: called with a connection after it was.
    """

    name: str
    _loop: asyncio.AbstractEventLoop | None

    def __init__(self, policy: PoolPolicy, on_acquire: Hook | None, on_release: Hook | None) -> None:
        self.policy = policy
        self._on_acquire = on_acquire
        self._on_release = on_release
        self._free: list[Slot] = []
        self._resets: set[asyncio.Task[None]] = set()
        self._counts = PoolStats()
        self._line = Waiters(self._counts)
        self._is_slow = True
        """Whether there may be more to a lease than taking what is free and giving it back."""
        watched = policy.lease_limit is not None or policy.track_leases
        self._lease_class: type[Lease] = WatchedLease if watched else Lease

    # --- what the other parts of the pool do ------------------------------------------------------------------

    @abc.abstractmethod
    def _admit(self) -> asyncio.AbstractEventLoop:
        """The running loop, if anybody is served in it; else raise what tells why not."""

    @abc.abstractmethod
    def _closed(self) -> PoolClosed:
        """What tells that the pool is closed, and what to do."""

    @abc.abstractmethod
    def _provide(self) -> None:
        """Somebody waits: have more slots come, or refuse those who wait."""

    @abc.abstractmethod
    def _to_come(self) -> int:
        """How many who wait need not wait for a lease to be returned, for a connection is, or can be, started."""

    @abc.abstractmethod
    def _tidy(self, slot: Slot) -> None:
        """The slot is not leased any more, or has changed: do what is to be done to it before it is leased again."""

    @abc.abstractmethod
    def _is_serving(self) -> bool:
        """Whether what is given back is for others, rather than to be closed."""

    # --- taking -----------------------------------------------------------------------------------------------

    def _slot_for(self, holder: Holder, timeout: float | None) -> Awaitable[Slot]:
        """The slot for a lease, when there is more to it than taking what is free.

        When there is no more to it than waiting, it is the waiter itself that is returned, for it is cheaper to await
        than a coroutine; then `_leave_line` is to be called when that fails.
        """
        limit = self.policy.acquire_timeout if timeout is None else timeout
        if limit is not None:
            return self._slot_in_time(holder, limit)
        if not self._is_slow:  # so it is open, no hook has a say, and nothing is free
            assert self._loop is not None
            return self._queue_up(holder, self._loop)
        if self._on_acquire is not None or self._free:
            return self._agreed_slot(holder)
        return self._queue_up(holder, self._admit())

    def _stranger(self) -> Holder:
        """Who wants a slot, when that is no task of the loop that the pool was opened in; raise what tells why not."""
        self._admit()
        return current_holder()

    async def _another_slot(self, slot: Slot, holder: Holder) -> Slot:
        """Instead of one that was lost between being handed over and being looked at."""
        self._given_back(slot, holder)
        return await self._agreed_slot(holder, back=True)

    async def _slot_in_time(self, holder: Holder, limit: float) -> Slot:
        try:
            return await within(limit, self._agreed_slot(holder))
        except ExpiredError:
            self._counts.timeouts += 1
            raise PoolTimeoutError(f"{self!r}: no connection became free within {limit:g} s") from None

    async def _agreed_slot(self, holder: Holder, *, back: bool = False) -> Slot:
        """A slot that is still in service, and that `on_acquire` agrees with; `back`: instead of one that was not."""
        # The hook may take longer for some than for others, so the order is that in which they came.
        turn = self._line.turn() if back or self._on_acquire is not None else 0
        refusals = 0
        while True:
            loop = self._admit()
            if self._free:
                slot = self._take_free(holder)
            else:
                waiter = self._queue_up(holder, loop, turn=turn if back or refusals else None)
                try:
                    slot = await waiter
                except BaseException:
                    self._leave_line(waiter, holder)
                    raise
            if self._on_acquire is not None:
                await self._ask(self._on_acquire, slot, holder, last=refusals >= self.policy.size)
            if slot.in_service and not slot.is_stale:
                return slot
            refusals += 1
            turn = turn or self._line.turn()
            self._given_back(slot, holder)

    async def _ask(self, hook: Hook, slot: Slot, holder: Holder, *, last: bool) -> None:
        """Have `on_acquire` check. When it refuses, the slot is stale; the last time, that is an error."""
        try:
            await called("on_acquire", hook, slot.conn)
        except BaseException as error:
            if isinstance(error, Exception):
                slot.outdate()
                _log.warning("%r: on_acquire refused %r, so its link is replaced", self, slot.conn, exc_info=True)
            if last or not isinstance(error, Exception):
                self._given_back(slot, holder)
                raise

    def _take_free(self, holder: Holder) -> Slot:
        """What is free, and has least to do."""
        slot = min(reversed(self._free), key=_leases)
        slot.holders.append(holder)
        if slot.room == 0:
            self._free.remove(slot)
        return slot

    def _queue_up(
        self, holder: Holder, loop: asyncio.AbstractEventLoop, *, turn: int | None = None
    ) -> asyncio.Future[Slot]:
        """Wait for what others give back, or for what is started now."""
        most = self.policy.max_waiters
        if most is not None and turn is None and len(self._line) >= most + self._to_come():
            self._counts.refused += 1
            raise PoolFullError(f"{self!r}: {most} wait for a connection already, and max_waiters allows no more")
        waiter = self._line.join(holder, loop, turn=turn)
        self._provide()
        return waiter

    def _leave_line(self, waiter: asyncio.Future[Slot], holder: Holder) -> None:
        """Refused or cancelled; perhaps in the moment in which it was served."""
        self._line.leave(waiter)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self._given_back(waiter.result(), holder)

    # --- giving back --------------------------------------------------------------------------------------------

    def _returned(self, slot: Slot, holder: Holder) -> None:
        """A lease is over."""
        if self._is_slow or slot.is_overflow or not slot.is_ready:
            if self._loop is not None and not self._is_loop_closed() and not _is_running(self._loop):
                self._loop.call_soon_threadsafe(self._returned, slot, holder)  # what is to be done needs it to run
                return
            try:
                if self._on_release is not None and slot.in_service and not slot.is_stale and self._is_serving():
                    self._reset(self._on_release, slot)
            finally:
                self._given_back(slot, holder)
        else:
            slot.holders.remove(holder)
            if not self._line.serve(slot):
                self._free.append(slot)

    def _given_back(self, slot: Slot, holder: Holder) -> None:
        slot.holders.remove(holder)
        if not self._is_loop_closed():
            self._tidy(slot)

    def _is_loop_closed(self) -> bool:
        """Whether the loop was closed under the pool: then there is nobody to be told of anything."""
        return self._loop is not None and self._loop.is_closed()

    def _put(self, slot: Slot) -> None:
        """Serve whoever waits from a slot, as long as it has room; what room is left is free."""
        room = slot.room if slot.is_leasable else 0
        while room and self._line.serve(slot):
            room -= 1
        if not room or not slot.is_ready:
            self._leave_free(slot)
        elif slot not in self._free:
            # Taken from the end: what is there for a while only comes last.
            self._free.insert(0 if slot.is_overflow else len(self._free), slot)

    def _leave_free(self, slot: Slot) -> None:
        if slot in self._free:
            self._free.remove(slot)

    def _reset(self, hook: Hook, slot: Slot) -> None:
        """Have `on_release` clean up; nobody gets the slot before it has."""
        try:
            outcome = hook(slot.conn)
        except BaseException as error:
            self._could_not_reset(slot)
            if not isinstance(error, Exception):
                raise
            return
        if inspect.isawaitable(outcome):
            slot.begin_reset()
            self._leave_free(slot)
            task = asyncio.get_running_loop().create_task(self._finish_reset(slot, outcome))
            self._resets.add(task)
            task.add_done_callback(lambda task: self._reset_ended(slot, task, outcome))

    async def _finish_reset(self, slot: Slot, outcome: Awaitable[None]) -> None:
        try:
            await outcome
        except Exception:
            self._could_not_reset(slot)

    def _reset_ended(self, slot: Slot, task: asyncio.Task[None], outcome: Awaitable[None]) -> None:
        """However it has ended, also cancelled before it had begun."""
        self._resets.discard(task)
        if inspect.iscoroutine(outcome):
            outcome.close()
        if task.cancelled():
            slot.outdate()
        slot.end_reset()
        self._tidy(slot)

    def _could_not_reset(self, slot: Slot) -> None:
        _log.warning("%r: on_release failed for %r, so its link is replaced", self, slot.conn, exc_info=True)
        slot.outdate()
        self._leave_free(slot)

    # --- leases that nobody gives back ----------------------------------------------------------------------------

    def _overdue(self, lease: Lease, place: str) -> None:
        limit = self.policy.lease_limit
        _log.warning("%r has been held for %g s, and is perhaps forgotten%s", lease, limit, place)

    def _forgotten(self, slot: Slot, holder: Holder, what: str) -> None:
        """A lease was dropped. The slot is not lost with it. Called from any thread, as garbage is collected in any."""
        if slot.is_closed:
            return
        self._counts.leaked += 1
        _log.error("%s; use 'async with pool.acquire()'", what)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._returned, slot, holder)


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is called from `loop`."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _leases(slot: Slot) -> int:
    return len(slot.holders)

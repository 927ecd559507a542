"""`ConnectionPool`: which connections there are, and who gets one.

The rules that hold here:

- Who gets what is decided synchronously, in `_decide`, `_put` and `_returned`: nothing awaits between finding a slot
  and handing it over, so nothing can be cancelled in between.
- A slot is in `_free` exactly when it is active, in service, not about to be renewed or reset, and has room for a
  lease. While somebody waits, nothing is free.
- The pool decides by what slots tell (`offer`, `withdraw`, `troubled`); it never looks into a connection's driver.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import attrs

from fsm_conn.calls import call_patiently, split_arguments, stream_when_ready
from fsm_conn.connection import Connection
from fsm_conn.driver import Driver
from fsm_conn.errors import (
    PoolClosed,
    PoolFullError,
    PoolTimeoutError,
    PoolUnavailableError,
)
from fsm_conn.lifecycle import State
from fsm_conn.options import shared_rng
from fsm_conn.pool.lease import Lease
from fsm_conn.pool.lifecycle import POOL_STATES, POOL_TRANSITIONS, PoolState, PoolTrigger
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots import CountedLink, Kind, Slot
from fsm_conn.pool.stats import PoolStats
from fsm_conn.pool.waiters import Waiters
from fsm_conn.timing import ExpiredError, within

if TYPE_CHECKING:
    import random

    from fsm_conn.links.base import Link
    from fsm_conn.links.target import Target

__all__ = ["ConnectionPool"]

Hook = Callable[[Connection], Awaitable[None] | None]

_log = logging.getLogger("fsm_conn.pool")
_OPEN = PoolState.OPEN
DRAIN_TIMEOUT = 10.0
"""Seconds that `close_all()` waits for leases when it is not told otherwise."""


class ConnectionPool(Driver):
    """Connections to one target, leased to whoever needs one.

        async with ConnectionPool(["python", "calculator.py"], pool_size=3) as pool:
            async with pool.acquire(timeout=2.0) as client:
                reply = await client.calculator.Add(a=1, b=2)
            reply = await pool.call("calculator.Add", a=1, b=2)

    Args:
        target: as for `Connection`: a command, an address, or a callable that makes a `Link`.
        pool_size: connections to keep; 5, unless the policy says otherwise.
        max_overflow: connections beyond that, opened at once when all are leased; 2, unless the policy says otherwise.
        policy: everything else, see `PoolPolicy`.
        connection_class: what the connections are: `Connection`, or the application's own subclass of it.
        on_open: called with each connection after each of its links came up, before it is leased: to authenticate, for
            instance. If it raises, the link is given up, and another is made after a pause.
        on_acquire: called with the connection before it is leased: to check it. If it raises, the link is replaced, and
            the caller gets another connection; the error, when there is none left to try.
        on_release: called with the connection after a lease: to clean up. If it raises, the link is replaced.
        name: what to call this pool in messages; by default the program or the address.
        rng: where jitter is drawn from, for lives that can be repeated.
        options: what else `connection_class` takes, such as `retry`, `env`, `mtls`, `services`.

    Hooks may be plain or async functions. Making a pool starts nothing.
    """

    states: ClassVar[Sequence[State | str]] = POOL_STATES
    transitions: ClassVar[Sequence[Any]] = POOL_TRANSITIONS
    required_triggers = tuple(PoolTrigger)

    _rng: random.Random | None = None
    _drain_timeout: float | None = DRAIN_TIMEOUT
    _failure: BaseException | None = None
    _progress: Callable[[int, int], None] | None = None
    _news: asyncio.Event | None = None
    _watchers: tuple[asyncio.Future[None], ...] = ()
    _closer: asyncio.Task[Any] | None = None
    _was_forked: bool = False

    def __init__(
        self,
        target: Target,
        pool_size: int | None = None,
        max_overflow: int | None = None,
        *,
        policy: PoolPolicy | None = None,
        connection_class: type[Connection] = Connection,
        on_open: Hook | None = None,
        on_acquire: Hook | None = None,
        on_release: Hook | None = None,
        name: str | None = None,
        rng: random.Random | None = None,
        **options: Any,
    ) -> None:
        self.policy = _merged(policy, pool_size, max_overflow)
        if not (isinstance(connection_class, type) and issubclass(connection_class, Connection)):
            raise TypeError(f"connection_class={connection_class!r}: give a subclass of Connection")
        for what, hook in (("on_open", on_open), ("on_acquire", on_acquire), ("on_release", on_release)):
            if hook is not None and not callable(hook):
                raise TypeError(f"{what}={hook!r}: give a function that takes a connection")
        self._target, self._class, self._options = target, connection_class, options
        self._on_open, self._on_acquire, self._on_release = on_open, on_acquire, on_release
        self.name = self._connection(name).name  # made here, so that wrong options are refused here
        if rng is not None:
            self._rng = rng
        self._slots: list[Slot] = []
        self._free: list[Slot] = []
        self._line = Waiters()
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts = PoolStats()
        self._made = 0
        self._is_slow = True
        self._context = copy_context()
        _pools.add(self)

    # --- effects --------------------------------------------------------------------------------------------

    def make_slots(self, reason: BaseException | None) -> None:
        """The regular slots and the standby; none is awake yet."""
        self._failure = None
        self._slots = [self._new_slot(Kind.REGULAR) for _ in range(self.policy.size + self.policy.standby)]

    def note_failure(self, reason: BaseException | None) -> None:
        """Why it could not be opened, or what went wrong."""
        self._failure = reason

    def refuse_waiters(self, reason: BaseException | None) -> None:
        """Whoever waits learns at once that nobody is served any more."""
        self._free.clear()
        self._is_slow = True
        self._line.refuse(self._closed)

    # --- activities -----------------------------------------------------------------------------------------

    async def while_opening(self) -> str:
        """Wake all slots, and wait until they are in service. The first that cannot be ends it."""
        self._news = asyncio.Event()
        for slot in self._slots:
            slot.wake()
        while (ready := sum(slot.in_service for slot in self._slots)) < len(self._slots):
            self._report(ready)
            causes = [slot.cause for slot in self._slots if slot.cause is not None and slot.has_given_up]
            if causes:
                raise self._unavailable("could not be opened", causes)
            await self._news.wait()
            self._news.clear()
        self._report(ready)
        return PoolTrigger.OPENED

    async def while_open(self) -> None:
        """Replace what is too old, and close what nobody needs."""
        self._is_slow = self._is_eventful()
        self._decide()
        while True:
            await self._pause(self._until_due())
            self._clean_up(self._now())

    async def while_draining(self) -> str:
        """Wait for the leases, as long as was said, then close all connections under whoever still holds them."""
        self._is_slow = True
        self._free.clear()
        limit = self._drain_timeout
        try:
            await within(limit, self._until_returned())
        except ExpiredError:
            _log.warning("%r: %d leases were not returned within %g s", self, self._leased_now(), limit)
        closing = {task for slot in self._slots if (task := slot.dismiss()) is not None} | self._tasks
        if closing:
            await asyncio.wait(closing)
        self._slots = []
        return PoolTrigger.DRAINED

    # --- what applications call -----------------------------------------------------------------------------

    async def initialize(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Open all connections, at most one start per core at a time. Returns at once when it is open.

        Args:
            progress: called with how many connections are up, and how many there will be, whenever that changes.

        Raises:
            PoolUnavailableError: one could not be made; has all causes. Nothing is left behind.
            PoolClosed: `close_all()` was called meanwhile.
        """
        self._check_loop(asyncio.get_running_loop())
        if self._state == PoolState.DRAINING:
            await self._reach((PoolState.CLOSED,))
        if self._state == PoolState.CLOSED:
            self._progress = progress
            self.fire(PoolTrigger.OPEN)
        record = await self._reach((PoolState.OPEN, PoolState.DRAINING, PoolState.CLOSED))
        if record.dest == PoolState.OPEN:
            return
        await self._reach((PoolState.CLOSED,))
        if self._failure is not None:
            raise self._failure
        raise self._closed()

    async def close_all(self, timeout: float | None = DRAIN_TIMEOUT) -> None:
        """Refuse everybody from now on, wait for the leases that are held, and close all connections.

        Whoever waits for a connection gets `PoolClosed` at once. Leases of the calling task are not waited for. The
        pool can be opened again. Joins a closing that is under way.

        Args:
            timeout: seconds to wait for leases; then their connections are closed under them. None: without limit.
        """
        if timeout is not None and (not isinstance(timeout, (int, float)) or not timeout >= 0):
            raise ValueError(f"close_all(timeout={timeout!r}): give a number of seconds, or None for no limit")
        if self._state in (PoolState.OPENING, PoolState.OPEN):
            self._drain_timeout = timeout
            self._closer = asyncio.current_task()
            self.fire(PoolTrigger.CLOSE)
        await self._reach((PoolState.CLOSED,))
        await self._observed()

    async def aclose(self) -> None:
        """The same as `close_all()`, for `contextlib.aclosing`."""
        await self.close_all()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close_all()

    def acquire(self, timeout: float | None = None) -> Lease:
        """A lease: `async with pool.acquire() as client`, or `client = await pool.acquire()` and `client.release()`.

        First come, first served. When all connections are leased, one more is opened at once, up to `max_overflow`.

        Args:
            timeout: seconds to wait, starting a connection included; None: the policy's `acquire_timeout`.

        Raises: when it is entered or awaited,
            PoolClosed: the pool is not open.
            PoolTimeoutError: nothing became free in time.
            PoolFullError: as many wait already as the policy allows.
            PoolUnavailableError: no connection can be made at present, with the causes.
        """
        if timeout is not None and (not isinstance(timeout, (int, float)) or not timeout > 0):
            raise ValueError(f"acquire(timeout={timeout!r}): give a number of seconds, more than zero, or None")
        return Lease(self, timeout)

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call through whichever connection has least to do; no lease is held. As `Connection.call` otherwise.

        Raises: as `Connection.call`, and as `acquire` when there is no connection.
        """
        request, options = split_arguments(method, args)
        if options is not None and (options.idempotent or options.wait_for_ready):
            return await call_patiently(self, method, request, fields, options)
        slot = self._least_busy()
        slot.calls += 1
        try:
            return await slot.conn.call(method, *args, **fields)
        finally:
            slot.calls -= 1

    async def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `call`, for a method that answers with a stream."""
        request, options = split_arguments(method, args)
        if options is not None and (options.idempotent or options.wait_for_ready):
            async for reply in stream_when_ready(self, method, request, fields, options):
                yield reply
            return
        slot = self._least_busy()
        slot.calls += 1
        try:
            async for reply in slot.conn.stream(method, *args, **fields):
                yield reply
        finally:
            slot.calls -= 1

    def get_pool_stats(self) -> dict[str, Any]:
        """Every documented number, and some more; see `PoolStats`."""
        return self._counts.as_dict(self.policy, self._slots, len(self._line))

    def __repr__(self) -> str:
        serving = sum(slot.in_service for slot in self._slots)
        return (
            f"<{type(self).__name__} {self.name!r} {self._state} {serving} of {self.policy.size} in service, "
            f"{self._leased_now()} leased, {len(self._line)} waiting>"
        )

    # --- leases: who gets what ------------------------------------------------------------------------------

    async def _slot_for(self, lease: Lease) -> Slot:
        """What a lease that is acquired gets, when there is more to it than taking what is free."""
        timeout = lease._timeout if lease._timeout is not None else self.policy.acquire_timeout
        try:
            if timeout is None and self._on_acquire is None:
                slot = self._take_free(lease) or await self._wait_for_slot(lease)
            else:
                slot = await within(timeout, self._agreed_slot(lease))
        except ExpiredError:
            self._counts.timeouts += 1
            raise self._too_late(timeout or 0.0) from None
        if self.policy.track_leases:
            lease._remember_where()
        if self.policy.lease_limit is not None:
            loop = asyncio.get_running_loop()
            lease._timer = loop.call_later(self.policy.lease_limit, self._report_lease, weakref.ref(lease))
        return slot

    async def _agreed_slot(self, lease: Lease) -> Slot:
        """A slot whose connection `on_acquire` agrees with."""
        refusals: list[Exception] = []
        while True:
            slot = self._take_free(lease) or await self._wait_for_slot(lease)
            try:
                if self._on_acquire is not None:
                    await _called(self._on_acquire, slot.conn)
            except BaseException as error:
                slot.stale = slot.stale or isinstance(error, Exception)
                self._returned(lease, slot)
                if not isinstance(error, Exception):
                    raise
                _log.warning("%r: on_acquire refused %r, so its link is replaced", self, slot.conn, exc_info=True)
                refusals.append(error)
                if len(refusals) > self.policy.size:
                    raise
            else:
                return slot

    def _take_free(self, lease: Lease) -> Slot | None:
        """What is free, at once; None when nothing is."""
        if self._state not in (PoolState.OPEN, PoolState.OPENING) or self._was_forked:
            self._counts.refused += 1
            raise self._closed()
        if not self._free:
            return None
        slot = min(self._free, key=_load)
        slot.holders.append(lease)
        if not slot.is_free:
            self._free.remove(slot)
        return slot

    async def _wait_for_slot(self, lease: Lease) -> Slot:
        since = self._now()
        if self.policy.max_waiters is not None and len(self._line) >= self.policy.max_waiters:
            self._counts.refused += 1
            raise PoolFullError(
                f"{self!r}: {self.policy.max_waiters} wait for a connection already, and max_waiters allows no more"
            )
        waiter = self._line.join(lease)
        self._decide()
        try:
            slot = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._returned(lease, waiter.result())
            raise
        finally:
            waiter.cancel()
        self._counts.waited(self._now() - since)
        return slot

    def _returned(self, lease: Lease, slot: Slot) -> None:
        """A lease is over. Whoever waits is served; else the slot is free, if nothing is to be done to it first."""
        slot.holders.remove(lease)
        if self._is_slow or slot.kind is Kind.OVERFLOW or not slot.is_leasable:
            self._returned_with_chores(lease, slot)
        elif not self._line.serve(slot):
            self._free.append(slot)

    def _returned_with_chores(self, lease: Lease, slot: Slot) -> None:
        if lease._timer is not None:
            lease._timer.cancel()
        slot.idle_since = self._now()
        if self._state == PoolState.DRAINING:
            self._tell()
            return
        if self._on_release is not None and slot.in_service and not slot.stale:
            self._reset(self._on_release, slot)
        if slot.stale and not slot.holders:
            slot.renew()
        self._put(slot)

    def _reset(self, hook: Hook, slot: Slot) -> None:
        """Have `on_release` clean up; nobody gets the slot before it has."""
        try:
            outcome = hook(slot.conn)
        except Exception:
            self._could_not_reset(slot)
            return
        if inspect.isawaitable(outcome):
            slot.resetting = True
            self._leave_free(slot)
            self._run(self._finish_reset(slot, outcome))

    async def _finish_reset(self, slot: Slot, outcome: Awaitable[None]) -> None:
        try:
            await outcome
        except Exception:
            self._could_not_reset(slot)
        finally:
            slot.resetting = False
        if slot.stale and not slot.holders:
            slot.renew()
        self._put(slot)

    def _could_not_reset(self, slot: Slot) -> None:
        _log.warning("%r: on_release failed for %r, so its link is replaced", self, slot.conn, exc_info=True)
        slot.stale = True
        self._leave_free(slot)

    # --- slots: what they tell, and what is decided ------------------------------------------------------------

    def _offered(self, slot: Slot) -> None:
        """It came into service: lease it, or keep it as standby."""
        self._counts.created += 1
        if slot.kind is Kind.OVERFLOW or self._active() < self.policy.size:
            slot.active = True
            self._put(slot)
        self._tell()

    def _withdrawn(self, slot: Slot) -> None:
        """It went out of service: one of the standby takes its place."""
        self._leave_free(slot)
        if slot.active:
            slot.active = False
            for other in self._slots:
                if other.in_service and not other.active and slot.kind is Kind.REGULAR:
                    other.active = True
                    self._put(other)
                    break
        self._tell()

    def _troubled(self, slot: Slot) -> None:
        """Its connection could not be made. When none can, whoever waits is told the cause."""
        self._decide()
        self._tell()

    def _put(self, slot: Slot) -> None:
        """Serve whoever waits from a slot, as long as it has room; what room is left is free."""
        while slot.is_free:
            if not self._line.serve(slot):
                if slot not in self._free:
                    self._free.append(slot)
                break
        if not slot.is_free:
            self._leave_free(slot)

    def _leave_free(self, slot: Slot) -> None:
        if slot in self._free:
            self._free.remove(slot)

    def _decide(self) -> None:
        """Somebody waits: wake or make as many slots as would serve them, or tell them that none can."""
        if not self._line or self._state != PoolState.OPEN:
            return
        missing = len(self._line) - self._coming()
        for slot in self._slots:
            if missing > 0 and not slot.is_awake:
                slot.wake()
                missing -= self.policy.leases_per_connection
        overflow = sum(slot.kind is Kind.OVERFLOW for slot in self._slots)
        if self._can_serve_nobody() and overflow == 0 and self._slots:
            self._counts.refused += len(self._line)
            self._line.refuse(self._why_unavailable)
            return
        while missing > 0 and overflow < self.policy.max_overflow:
            slot = self._new_slot(Kind.OVERFLOW)
            self._slots.append(slot)
            self._counts.overflow_used += 1
            slot.wake()
            overflow += 1
            missing -= self.policy.leases_per_connection
            self._tell()

    def _coming(self) -> int:
        """For how many who wait there will be room when what is under way succeeds."""
        fresh = sum(slot.is_hopeful and not slot.in_service for slot in self._slots)
        return fresh * self.policy.leases_per_connection

    def _can_serve_nobody(self) -> bool:
        return not any(slot.is_hopeful for slot in self._slots)

    def _active(self) -> int:
        return sum(slot.active and slot.kind is Kind.REGULAR for slot in self._slots)

    def _new_slot(self, kind: Kind) -> Slot:
        self._made += 1
        return Slot(
            self._connection(f"{self.name}#{self._made}"),
            kind,
            policy=self.policy,
            rng=self._rng or shared_rng(),
            on_open=None if self._on_open is None else self._opened_hook,
            offer=self._offered,
            withdraw=self._withdrawn,
            troubled=self._troubled,
        )

    async def _opened_hook(self, conn: Connection) -> None:
        assert self._on_open is not None
        await _called(self._on_open, conn)

    def _connection(self, name: str | None) -> Connection:
        return self._class(self._target, name=name, **self._options)

    # --- chores -----------------------------------------------------------------------------------------------

    def _is_eventful(self) -> bool:
        """Whether more is to be done for a lease than taking what is free and giving it back."""
        policy = self.policy
        return (
            policy.leases_per_connection > 1
            or policy.max_idle is not None
            or policy.lease_limit is not None
            or policy.track_leases
            or self._on_acquire is not None
            or self._on_release is not None
        )

    def _clean_up(self, now: float) -> None:
        """Do what is due: replace old links, close what was idle for too long."""
        for slot in list(self._slots):
            if slot.expires_at is not None and slot.in_service and now >= slot.expires_at - _SOON:
                slot.expires_at = None
                slot.stale = True
                self._leave_free(slot)
                if not slot.holders:
                    slot.renew()
            elif self._is_idle(slot) and now >= slot.idle_since + self._patience_with(slot) - _SOON:
                self._close(slot)

    def _until_due(self) -> float | None:
        """When something will be due, as far as that is known now."""
        due = [slot.expires_at for slot in self._slots if slot.expires_at is not None and slot.in_service]
        due += [slot.idle_since + self._patience_with(slot) for slot in self._slots if self._may_be_closed(slot)]
        return min(due, default=None)

    def _patience_with(self, slot: Slot) -> float:
        if slot.kind is Kind.OVERFLOW:
            return self.policy.overflow_linger
        return self.policy.max_idle or 0.0

    def _may_be_closed(self, slot: Slot) -> bool:
        """Whether being idle for long enough is a reason to close it."""
        if not slot.in_service or not slot.active:
            return False
        if slot.kind is Kind.OVERFLOW:
            return True
        awake = sum(other.is_awake and other.kind is Kind.REGULAR for other in self._slots) - self.policy.standby
        return self.policy.max_idle is not None and awake > self.policy.min_idle

    def _is_idle(self, slot: Slot) -> bool:
        return self._may_be_closed(slot) and slot.is_free and not slot.holders and slot.calls == 0

    def _close(self, slot: Slot) -> None:
        """Nobody needs it: an overflow slot goes, another sleeps until it is needed."""
        if slot.kind is Kind.OVERFLOW:
            self._slots.remove(slot)
            self._counts.leases += slot.served
        task = slot.dismiss() if slot.kind is Kind.OVERFLOW else slot.sleep()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pause(self, due: float | None) -> None:
        """Wait until `due`, or until something happens that may make something due earlier."""
        assert self._news is not None
        self._news.clear()
        try:
            # What is leased now may become idle without a word; it cannot be due before that long from now.
            limits = [self.policy.overflow_linger if self._has_overflow() else None, self.policy.max_idle]
            waits = [limit for limit in limits if limit is not None] if due is None else [due - self._now()]
            await within(max(_SOON, min(waits)) if waits else None, self._news.wait())
        except ExpiredError:
            return

    def _has_overflow(self) -> bool:
        return any(slot.kind is Kind.OVERFLOW for slot in self._slots)

    async def _until_returned(self) -> None:
        assert self._news is not None
        while any(lease._task is not self._closer for slot in self._slots for lease in slot.holders):
            self._news.clear()
            await self._news.wait()

    def _report_lease(self, reference: weakref.ref[Lease]) -> None:
        lease = reference()
        if lease is not None and lease.is_held:
            limit = self.policy.lease_limit
            _log.warning("%r has been held for %g s, and is perhaps forgotten%s", lease, limit, lease._place())

    def _lost_lease(self, lease: Lease, slot: Slot) -> None:
        """It was dropped without having been released. The slot is not to be lost with it."""
        self._counts.leaked += 1
        _log.error("%r was never released: use 'async with pool.acquire()'%s", lease, lease._place())
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._returned, lease, slot)

    # --- for calls without a lease, in the words of `calls` -----------------------------------------------------

    def _least_busy(self) -> Slot:
        usable = [slot for slot in self._slots if slot.active and slot.in_service]
        if self._state != _OPEN:
            raise self._closed()
        if not usable:
            raise self._why_unavailable()
        return min(usable, key=_load)

    async def _link_when_ready(self) -> Link:
        while not any(slot.active and slot.in_service for slot in self._slots):
            if self._state not in (PoolState.OPEN, PoolState.OPENING):
                raise self._closed()
            if self._can_serve_nobody():
                raise self._why_unavailable()
            watcher = asyncio.get_running_loop().create_future()
            self._watchers += (watcher,)
            await watcher
        slot = self._least_busy()
        assert slot.conn.link is not None
        return CountedLink(slot, slot.conn.link)

    async def _left_link(self, link: Link, limit: float) -> None:
        assert isinstance(link, CountedLink)
        await link.slot.conn._left_link(link.link, limit)

    # --- how it is done -----------------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _leased_now(self) -> int:
        return sum(len(slot.holders) for slot in self._slots)

    def _tell(self) -> None:
        """Something has changed: whoever waits for it may look again."""
        if self._news is not None:
            self._news.set()
        watchers, self._watchers = self._watchers, ()
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _report(self, ready: int) -> None:
        if self._progress is not None:
            self._progress(ready, len(self._slots))

    def _closed(self) -> PoolClosed:
        if self._was_forked:
            return PoolClosed(f"{self!r} belongs to the parent of this process; make a pool of its own here")
        if self._state == PoolState.CLOSED:
            return PoolClosed(f"{self!r} is closed: 'await pool.initialize()' first, or use 'async with'")
        return PoolClosed(f"{self!r} is being closed and serves nobody any more")

    def _too_late(self, timeout: float) -> PoolTimeoutError:
        return PoolTimeoutError(f"{self!r}: no connection became free within {timeout:g} s")

    def _why_unavailable(self) -> PoolUnavailableError:
        return self._unavailable("has no connection", [slot.cause for slot in self._slots if slot.cause is not None])

    def _unavailable(self, what: str, causes: Sequence[BaseException]) -> PoolUnavailableError:
        told = "; ".join(dict.fromkeys(str(cause) for cause in causes)) or "none is in service"
        error = PoolUnavailableError(f"{self!r} {what}: {told}", causes=causes)
        error.__cause__ = causes[0] if causes else None
        return error


def _load(slot: Slot) -> int:
    return len(slot.holders) + slot.calls


async def _called(hook: Hook, conn: Connection) -> None:
    outcome = hook(conn)
    if inspect.isawaitable(outcome):
        await outcome


def _merged(policy: PoolPolicy | None, size: int | None, overflow: int | None) -> PoolPolicy:
    if policy is None:
        policy = PoolPolicy()
    elif not isinstance(policy, PoolPolicy):
        raise TypeError(f"policy={policy!r}: give a PoolPolicy")
    if size is not None:
        policy = attrs.evolve(policy, size=size)
    return policy if overflow is None else attrs.evolve(policy, max_overflow=overflow)


_SOON = 0.001
"""Seconds. What is due so soon is due now: timers are no finer."""

_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()


def _after_fork() -> None:
    """A child shares its parent's sockets and knows none of its processes: it must not use its pools."""
    for pool in tuple(_pools):
        pool._was_forked = True
        pool._is_slow = True
        pool._free.clear()


os.register_at_fork(after_in_child=_after_fork)

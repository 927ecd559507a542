"""The right to use one connection of a pool for a while.

`ConnectionPool.acquire` returns a lease, which holds a connection from when it is entered or awaited until it is
released, and refuses everything afterwards. Releasing is synchronous: it cannot be cancelled half-way.

A lease is created for every use, so creating, entering and leaving one are as short as possible: there is no
constructor, no avoidable call, and no look-up of the running loop, which is slow on Python 3.11.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio import current_task
from collections.abc import AsyncIterator, Callable, Generator
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from fsm_conn._util.text import said
from fsm_conn.connection.calling.calls import Calls
from fsm_conn.connection.calling.catalog import Offers, attributes
from fsm_conn.connection.calling.proxies import ServiceProxy, Services, public_first
from fsm_conn.connection.calling.route import RoutedCall, present_channel, present_link
from fsm_conn.connection.errors import NotConnectedError
from fsm_conn.connection.table import ConnectionState
from fsm_conn.links.stubs import ReconnectingChannel
from fsm_conn.pool.errors import LeaseError, LeaseLostError, PoolError
from fsm_conn.pool.leasing.deadlocks import callers_frames, shown_frames
from fsm_conn.pool.slots.table import IN_SERVICE, SlotState

if TYPE_CHECKING:
    import traceback

    from fsm_conn.connection.connection import Connection
    from fsm_conn.pool.leasing.leases import Leases
    from fsm_conn.pool.slots.generation import Generation
    from fsm_conn.pool.slots.slot import Slot
    from fsm_conn.pool.users import TaskRef

__all__ = ["Lease", "WatchedLease"]

_log = logging.getLogger("fsm_conn.pool")
_StubT = TypeVar("_StubT")

_current_task = current_task if sys.version_info >= (3, 12) else asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]
"""On Python 3.11, `current_task` is a Python function, which costs as much as taking a slot."""


class Lease:
    """A lease of a pool's connection.

        async with pool.acquire() as client:
            reply = await client.calculator.Add(a=1, b=2)

    or, where a block does not fit: `client = await pool.acquire()`, and `client.release()` at the end. It makes calls
    as a `Connection` does; `client.connection` is the connection itself.

    It is exclusive, and of one link: when that is lost, everything through the lease raises `LeaseLostError`, instead
    of silently continuing on another link.

    A lease that is garbage-collected unreleased is released then, with a warning in the log.
    """

    __slots__ = ("__weakref__", "_generation", "_holder", "_timeout")

    _timeout: float | None
    _generation: Generation
    _holder: TaskRef

    if not TYPE_CHECKING:  # type checkers report this mistake before anything runs

        def __enter__(self) -> None:
            raise TypeError("use 'async with pool.acquire()'; fsm_conn.blocking.ConnectionPool needs no await")

        def __exit__(self, *reason: object) -> None: ...

    async def __aenter__(self) -> Lease:
        before = self._generation
        leases: Leases = before.lender
        if before is not leases.before:
            raise self._misused("acquired a second time")
        task = _current_task(leases.loop) if get_ident() == leases.thread else None
        holder = ref(task) if task is not None else leases.user()
        free, clock = leases.free, leases.clock  # a function in a local costs less to call than an attribute
        if free and not leases.is_slow and clock() < leases.due:
            slot = free.pop()
            slot.holders.append(holder)
        else:
            self._generation = leases.after
            try:
                awaited = leases.slot_for(holder, self._timeout)
                try:
                    slot = await awaited
                except BaseException:
                    if isinstance(awaited, asyncio.Future):
                        leases.leave(awaited, holder)
                    raise
                if not slot.is_ready and (slot.is_stale or not slot.in_service):
                    slot = await leases.another_slot(slot, holder)
            except BaseException as error:
                self._generation = before
                if isinstance(error, PoolError):
                    await asyncio.sleep(0)  # a caller that retries in a tight loop must not starve the loop
                raise
        slot.leases += 1
        self._holder = holder
        self._generation = slot.generation
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        generation = self._generation
        slot = generation.slot
        if slot is not None:
            leases: Leases = generation.lender
            self._generation = leases.after
            if kind is not None or leases.is_slow or not generation.is_plain or get_ident() != leases.thread:
                if isinstance(error, Exception):
                    self._doubt()
                leases.returned(slot, self._holder, generation)
            else:  # the same without the call
                slot.holders.pop()
                if leases.waiters.waiting:
                    leases.pass_on(slot)
                else:
                    leases.free.append(slot)

    def __await__(self) -> Generator[Any, None, Lease]:
        return self.__aenter__().__await__()

    def __del__(self) -> None:
        if (slot := self._slot) is not None:
            what = f"{self!r} was never released: use 'async with pool.acquire()'{self._place()}"
            self._leases.forgotten(slot, self._holder, self._generation, what)

    def release(self) -> None:
        """Release the connection. Does not wait.

        Raises:
            LeaseError: it was released already, or not acquired yet.
        """
        generation, leases = self._generation, self._leases
        if generation.slot is None:
            raise self._misused("released before it was acquired" if self._is_new else "released again")
        self._generation = leases.after
        if isinstance(sys.exc_info()[1], Exception):
            self._doubt()
        leases.returned(generation.slot, self._holder, generation)

    def discard(self) -> None:
        """Release the connection and have its link replaced, so that nobody else gets this link. Does not wait.

        Raises:
            LeaseError: as `release`.
        """
        if (slot := self._slot) is not None and self.is_held:
            self._leases.spoil(slot)
        self.release()

    @property
    def _leases(self) -> Leases:
        return self._generation.lender  # type: ignore[no-any-return]

    @property
    def _slot(self) -> Slot | None:
        return self._generation.slot  # type: ignore[no-any-return]

    @property
    def _is_new(self) -> bool:
        return self._generation is self._leases.before

    def _doubt(self) -> None:
        """Something speaks for a loss of the link: the pool leases no connection before it has looked for losses."""
        self._leases.lookout.doubt()

    @property
    def is_held(self) -> bool:
        """Whether the connection can be used: it was acquired, not released, and its link was not lost."""
        return self._slot is not None and not self._generation.is_over

    def is_connected(self) -> bool:
        """As `Connection.is_connected`; False when the lease is not held."""
        return self.is_held and self.connection.is_connected()

    @property
    def connection(self) -> Connection:
        """The connection itself. Do not keep it: others will use it later.

        Raises:
            LeaseError: the lease is not held.
            LeaseLostError: the link under it was lost.
            PoolClosed: the pool was closed meanwhile, and the connection with it.
        """
        slot = self._slot
        if slot is None:
            raise self._misused("used before it was acquired" if self._is_new else "used after it had been released")
        if self._generation.is_over:
            raise self._lost(slot)
        return slot.conn

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """As `Connection.call`, but only through the link of the lease, so it is never repeated.

        Raises: as `Connection.call`, and
            LeaseError: the lease is not held.
            LeaseLostError: the link under it was lost.
        """
        return await self._calls().unary(method, args, fields)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `Connection.stream`, through the link of the lease. Raises as `call`."""
        return self._calls().stream(method, args, fields)

    def stub(self, stub_class: Callable[[Any], _StubT]) -> _StubT:
        """As `Connection.stub`; the stub can be used while the lease is held."""
        return stub_class(ReconnectingChannel(lambda: present_channel(self.connection)))

    @property
    def services(self) -> Services:
        """As `Connection.services`."""
        return Services(self)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return ServiceProxy(self, name)

    def __dir__(self) -> list[str]:
        return public_first([*super().__dir__(), *attributes(self._offers())])

    def _offers(self) -> Offers:
        return {} if (slot := self._slot) is None else slot.conn._offers()

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled: it is released once")

    def __repr__(self) -> str:
        if (slot := self._slot) is not None:
            return f"<lease of {slot.conn!r}>"
        return f"<lease of {self._leases.gate.name!r}, {'not acquired yet' if self._is_new else 'released'}>"

    def _calls(self) -> Calls:
        conn = self.connection
        return Calls(LeaseRoute(self, conn), conn._calls)

    def _place(self) -> str:
        return "; PoolPolicy(track_leases=True) tells where it was acquired"

    def _lost(self, slot: Slot) -> Exception:
        """The error to raise after the link of this lease was lost, or the pool closed."""
        if slot.is_retired and not slot.target.is_leaving:
            return self._leases.gate.why_closed()
        if slot.is_retired:
            return LeaseLostError(
                f"{slot.conn.name}: its target was removed from the pool, and its leases have had their time: "
                "release this one, and begin again with another"
            )
        known = self._generation.loss
        why = "" if known is None else f": {said(known)}"
        error = LeaseLostError(
            f"{slot.conn.name}: the link of this lease was lost{why}; what was under way on it is lost too: "
            "release the lease, and begin again with another"
        )
        error.__cause__ = known
        return error

    def _misused(self, what: str) -> LeaseError:
        return LeaseError(f"{self!r} was {what}; acquire a lease for each use: async with pool.acquire() as client")


class LeaseRoute:
    """Routes a call through a lease to its link only.

    Args:
        lease: the lease.
        conn: its connection.
    """

    __slots__ = ("_lease", "owner")

    is_patient = False
    may_repeat = False
    """A call that began on one link does not continue on another."""
    endings = excused = 0

    def __init__(self, lease: Lease, conn: Connection) -> None:
        self._lease = lease
        self.owner = conn

    @property
    def reason(self) -> BaseException | None:
        """The connection's last error."""
        return self.owner.reason

    def ready(self) -> None:
        """None: the route has to look for the link each time."""

    async def now(self) -> RoutedCall:
        """The link of the lease. Raises, after a turn of the loop, when it cannot be used."""
        try:
            conn, slot = self._lease.connection, self._lease._slot
            if conn.state == ConnectionState.RENEWING and slot is not None and not slot.policy.lease_outlives_link:
                raise LeaseLostError(
                    f"{conn.name}: the peer closes the link of this lease, and takes no more calls through it: "
                    "release the lease, and begin again with another"
                )
            if slot is not None and not slot.in_service:
                raise NotConnectedError(f"{conn.name}: its next link is not ready yet", state=conn.state)
            return RoutedCall(conn, present_link(conn))
        except ConnectionError:
            await asyncio.sleep(0)
            raise

    async def next(self, end: float | None) -> RoutedCall:
        """As `now`; a lease that outlives its link waits for the next link, and for `on_open` to finish with it."""
        slot = self._lease._slot
        if slot is not None and self._lease.is_held and not slot.in_service:
            await slot.wait_for_state(*IN_SERVICE, SlotState.CLOSED)
        return await self.now()


class WatchedLease(Lease):
    """A lease that is logged when it is held for too long, and may remember where it was acquired."""

    __slots__ = ("_timer", "_where")

    _timer: asyncio.TimerHandle | None
    _where: list[traceback.FrameSummary] | None

    async def __aenter__(self) -> Lease:
        where: list[traceback.FrameSummary] | None = None
        policy = self._leases.policy
        if policy.track_leases:
            where = callers_frames()
        await super().__aenter__()
        self._timer, self._where = None, where
        self._leases.watched.add(self)
        if policy.lease_limit is not None:
            self._timer = asyncio.get_running_loop().call_later(policy.lease_limit, _report, ref(self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._slot is not None:
            self.release()

    def release(self) -> None:
        """As any lease."""
        super().release()
        self._leases.watched.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _place(self) -> str:
        if not self._where:
            return super()._place()
        return "; it was acquired at\n" + shown_frames(self._where)


def _report(reference: ref[WatchedLease]) -> None:
    lease = reference()
    if lease is not None and lease.is_held:
        lease._leases.overdue(lease, lease._place())

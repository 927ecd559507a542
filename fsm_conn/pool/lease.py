"""The right to use one connection of a pool for a while.

A lease is what `ConnectionPool.acquire` returns: before it holds anything, while it does, and afterwards, when it
refuses everything. Returning it is synchronous: there is no await at which it could be cancelled half-way.

A lease is made for every use, so making, entering and leaving one are as short as they can be: there is no constructor,
no call that can be done without, and nobody asks for the running loop, which is dear on Python 3.11.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from asyncio import current_task
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from fsm_conn.connection.calling.proxies import ServiceProxy, Services
from fsm_conn.links.stubs import ReconnectingChannel
from fsm_conn.pool.errors import LeaseError, PoolError

if TYPE_CHECKING:
    from fsm_conn.connection.connection import Connection
    from fsm_conn.pool.desk import Desk
    from fsm_conn.pool.place import Holder
    from fsm_conn.pool.slots import Slot

__all__ = ["Lease", "WatchedLease"]

_StubT = TypeVar("_StubT")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
FRAMES = 8
"""Lines of the traceback that a watched lease keeps."""


class Lease:
    """A connection of a pool, for as long as it is held.

        async with pool.acquire() as client:
            reply = await client.calculator.Add(a=1, b=2)

    or, where a block does not fit: `client = await pool.acquire()`, and `client.release()` at the end. It is called as
    a `Connection` is; what else a connection has is reached by `client.connection`.

    A lease that is dropped without having been released is given back by itself, and the log says so.
    """

    __slots__ = ("__weakref__", "_holder", "_pool", "_slot", "_timeout")

    _pool: Desk
    _timeout: float | None
    _slot: Slot | None
    _holder: Holder | None

    async def __aenter__(self) -> Lease:
        if self._holder is not None:
            raise self._misused("acquired a second time")
        pool = self._pool
        task = current_task(pool._loop)
        self._holder = holder = ref(task) if task is not None else pool._stranger()
        if pool._free and not pool._is_slow:
            slot = pool._free.pop()
            slot.holders.append(holder)
        else:
            try:
                awaited = pool._slot_for(holder, self._timeout)
                try:
                    slot = await awaited
                except BaseException:
                    if isinstance(awaited, asyncio.Future):
                        pool._leave_line(awaited, holder)
                    raise
                if not slot.is_ready and (slot.is_stale or not slot.in_service):
                    slot = await pool._another_slot(slot, holder)
            except BaseException as error:
                self._holder = None
                if isinstance(error, PoolError):
                    await asyncio.sleep(0)  # who asks again at once, for ever, must not keep the loop from all else
                raise
        slot.leases += 1
        self._slot = slot
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        slot = self._slot
        if slot is not None:  # as `release`, without the call
            self._slot = None
            self._pool._returned(slot, self._holder)  # type: ignore[arg-type]

    def __await__(self) -> Generator[Any, None, Lease]:
        return self.__aenter__().__await__()

    def __del__(self) -> None:
        if self._slot is not None and self._holder is not None:
            self._pool._forgotten(self._slot, self._holder, f"{self!r} was never released{self._place()}")

    def release(self) -> None:
        """Give the connection back. Does not wait.

        Raises:
            LeaseError: it was given back already, or nothing was acquired yet.
        """
        slot = self._slot
        if slot is None:
            raise self._misused("released again" if self._holder is not None else "released before it was acquired")
        self._slot = None
        self._pool._returned(slot, self._holder)  # type: ignore[arg-type]

    @property
    def is_held(self) -> bool:
        """Whether the connection may be used."""
        return self._slot is not None and not self._slot.is_closed

    def is_connected(self) -> bool:
        """As `Connection.is_connected`; False when the lease is not held."""
        return self._slot is not None and not self._slot.is_closed and self._slot.conn.is_connected()

    @property
    def connection(self) -> Connection:
        """The connection itself. Do not keep it: others will use it.

        Raises:
            LeaseError: it is not held.
            PoolClosed: the pool was closed meanwhile, and the connection with it.
        """
        if self._slot is None:
            raise self._misused(
                "used after it had been released" if self._holder is not None else "used before it was acquired"
            )
        if self._slot.is_closed:
            raise self._pool._closed()
        return self._slot.conn

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """As `Connection.call`. Raises `LeaseError` when the lease is not held."""
        return await self.connection.call(method, *args, **fields)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `Connection.stream`. Raises `LeaseError` when the lease is not held."""
        return self.connection.stream(method, *args, **fields)

    def stub(self, stub_class: Callable[[Any], _StubT]) -> _StubT:
        """As `Connection.stub`; the stub can be used as long as the lease is held."""
        return stub_class(ReconnectingChannel(lambda: self.connection._present_channel()))

    @property
    def services(self) -> Services:
        """As `Connection.services`."""
        return Services(self)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return ServiceProxy(self, name)

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled: it is given back once")

    def __repr__(self) -> str:
        if self._slot is not None:
            return f"<lease of {self._slot.conn!r}>"
        return f"<lease of {self._pool.name!r}, {'released' if self._holder is not None else 'not acquired yet'}>"

    def _place(self) -> str:
        return "; PoolPolicy(track_leases=True) tells where it was acquired"

    def _misused(self, what: str) -> LeaseError:
        return LeaseError(f"{self!r} was {what}; acquire a lease for each use: async with pool.acquire() as client")


class WatchedLease(Lease):
    """A lease that is reported when it is held for too long, and may remember where it was acquired."""

    __slots__ = ("_timer", "_where")

    _timer: asyncio.TimerHandle | None
    _where: list[traceback.FrameSummary] | None

    async def __aenter__(self) -> Lease:
        await super().__aenter__()
        self._timer = self._where = None
        policy = self._pool.policy
        if policy.track_leases:
            self._where = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(_PACKAGE)]
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
        if self._timer is not None:
            self._timer.cancel()

    def _place(self) -> str:
        if not self._where:
            return super()._place()
        return "; it was acquired at\n" + "".join(traceback.format_list(self._where[-FRAMES:]))


def _report(reference: ref[WatchedLease]) -> None:
    lease = reference()
    if lease is not None and lease.is_held:
        lease._pool._overdue(lease, lease._place())

"""The right to use one connection of a pool for a while.

A lease is what `ConnectionPool.acquire` returns: before it holds anything, while it does, and afterwards, when it
refuses everything. Returning it is synchronous: there is no await at which it could be cancelled half-way.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from fsm_conn.calls import ServiceProxy, Services
from fsm_conn.errors import LeaseError

if TYPE_CHECKING:
    from fsm_conn.connection import Connection
    from fsm_conn.pool.pool import ConnectionPool
    from fsm_conn.pool.slots import Slot

__all__ = ["Lease"]

_StubT = TypeVar("_StubT")


class Lease:
    """A connection of a pool, for as long as it is held.

        async with pool.acquire() as client:
            reply = await client.calculator.Add(a=1, b=2)

    or, where a block does not fit: `client = await pool.acquire()`, and `client.release()` at the end. It is called as
    a `Connection` is; what else a connection has is reached by `client.connection`.
    """

    __slots__ = ("__weakref__", "_pool", "_slot", "_task", "_timeout", "_timer", "_was_held", "_where")

    def __init__(self, pool: ConnectionPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._slot: Slot | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._where = ""
        self._was_held = False

    async def __aenter__(self) -> Lease:
        pool = self._pool
        if self._was_held:
            raise self._misused("acquired a second time")
        if pool._free and not pool._is_slow:
            slot = pool._free.pop()
            slot.holders.append(self)
        else:
            slot = await pool._slot_for(self)
        self._slot = slot
        self._was_held = True
        self._task = asyncio.current_task()
        slot.served += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._slot is not None:
            self.release()

    def __await__(self) -> Generator[Any, None, Lease]:
        return self.__aenter__().__await__()

    def __del__(self) -> None:
        if self._slot is not None:
            self._pool._lost_lease(self, self._slot)

    def release(self) -> None:
        """Give the connection back. Does not wait.

        Raises:
            LeaseError: it was given back already, or nothing was acquired yet.
        """
        slot = self._slot
        if slot is None:
            raise self._misused("released again" if self._was_held else "released before it was acquired")
        self._slot = self._task = None
        self._pool._returned(self, slot)

    @property
    def is_held(self) -> bool:
        """Whether the connection may be used."""
        return self._slot is not None

    @property
    def connection(self) -> Connection:
        """The connection itself. Do not keep it: others will use it.

        Raises:
            LeaseError: it is not held.
        """
        if self._slot is None:
            raise self._misused("used after it had been released" if self._was_held else "used before it was acquired")
        return self._slot.conn

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """As `Connection.call`. Raises `LeaseError` when the lease is not held."""
        return await self.connection.call(method, *args, **fields)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """As `Connection.stream`. Raises `LeaseError` when the lease is not held."""
        return self.connection.stream(method, *args, **fields)

    def stub(self, stub_class: Callable[[Any], _StubT]) -> _StubT:
        """As `Connection.stub`; the stub can be used as long as the lease is held."""
        from fsm_conn.links.stubs import ReconnectingChannel

        return stub_class(ReconnectingChannel(lambda: self.connection._present_channel()))

    @property
    def services(self) -> Services:
        """As `Connection.services`."""
        return Services(self)

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return ServiceProxy(self, name)

    def __repr__(self) -> str:
        if self._slot is not None:
            return f"<lease of {self._slot.conn!r}>"
        return f"<lease of {self._pool.name!r}, {'released' if self._was_held else 'not acquired yet'}>"

    def _remember_where(self) -> None:
        """Keep where it was acquired, without what belongs to this package."""
        frames = [frame for frame in traceback.extract_stack() if "fsm_conn" not in frame.filename.split("/")]
        self._where = "".join(traceback.format_list(frames[-8:]))

    def _place(self) -> str:
        return (
            f"; it was acquired at\n{self._where}"
            if self._where
            else "; where, is told with PoolPolicy(track_leases=True)"
        )

    def _misused(self, what: str) -> LeaseError:
        return LeaseError(f"{self!r} was {what}; acquire a lease for each use: async with pool.acquire() as client")

"""`ConnectionPool` for synchronous code, shared by any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from fsm_conn._util.keywords import explained
from fsm_conn.blocking.background import Background, background
from fsm_conn.blocking.proxies import BlockingService, BlockingStub
from fsm_conn.links.target import Target
from fsm_conn.pool.errors import LeaseError
from fsm_conn.pool.leasing.lease import Lease as AsyncLease
from fsm_conn.pool.pool import ConnectionPool as AsyncPool

__all__ = ["ConnectionPool", "Lease"]

_StubT = TypeVar("_StubT")


class Lease:
    """A lease of a pool's connection, for one thread at a time: `with pool.acquire() as client`."""

    def __init__(self, background: Background, pool: AsyncPool, timeout: float | None) -> None:
        self._background = background
        self._pool = pool
        self._timeout = timeout
        self._lease: AsyncLease | None = None

    def __enter__(self) -> Self:
        async def acquired() -> AsyncLease:
            return await self._pool.acquire(self._timeout)

        self._lease = self._background.run(acquired)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lease is not None:
            self.release()

    def release(self) -> None:
        """Release the connection.

        Raises:
            LeaseError: it was released already.
        """
        lease, self._lease = self._held(), None
        self._background.call(lease.release)

    def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """As `Connection.call`."""
        lease = self._held()

        async def called() -> Any:
            return await lease.call(method, *args, **fields)

        return self._background.run(called)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> Iterator[Any]:
        """As `Connection.stream`."""
        lease = self._held()
        return self._background.iterate(lambda: lease.stream(method, *args, **fields))

    def stub(self, stub_class: Callable[[Any], _StubT]) -> _StubT:
        """As `Connection.stub`, for as long as the lease is held."""
        made = self._background.call(self._held().stub, stub_class)
        return cast("_StubT", BlockingStub(self._background, made))

    def __getattr__(self, name: str) -> BlockingService:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return BlockingService(lambda method, args, fields: self.call(method, *args, **fields), name)

    def _held(self) -> AsyncLease:
        if self._lease is None:
            raise LeaseError("this lease is not held: enter it by 'with pool.acquire() as client', and use it inside")
        return self._lease


class ConnectionPool:
    """A pool without `await`: as `fsm_conn.ConnectionPool`, with methods that block. Thread-safe.

        with ConnectionPool(["python", "calculator.py"], pool_size=3) as pool:
            with pool.acquire(timeout=2.0) as client:
                client.calculator.Add(a=1, b=2)

    Args:
        target: as for `fsm_conn.ConnectionPool`.
        pool_size: connections to keep; 5, unless the policy says otherwise.
        max_overflow: connections beyond that; 2, unless the policy says otherwise.
        options: further arguments of `fsm_conn.ConnectionPool`.
    """

    def __init__(
        self, target: Target, pool_size: int | None = None, max_overflow: int | None = None, **options: Any
    ) -> None:
        self._background = background()
        self._pool = self._background.call(lambda: AsyncPool(target, pool_size, max_overflow, **options))
        self._background.keep(self._pool)

    @explained()
    def initialize(self) -> None:
        """Open all connections."""
        self._background.run(self._pool.initialize)

    @explained()
    def close_all(self, timeout: float | None = 30.0) -> None:
        """Refuse new callers, wait for the leases that are held, and close all connections.

        Args:
            timeout: seconds to wait for leases; None: no limit.
        """
        self._background.run(self._pool.close_all, timeout)

    def close(self) -> None:
        """The same as `close_all()`, for `contextlib.closing`."""
        self.close_all()

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close_all()

    @explained()
    def acquire(self, timeout: float | None = None) -> Lease:
        """Lease a connection: `with pool.acquire() as client`. Entering waits and raises as the async lease does."""
        return Lease(self._background, self._pool, timeout)

    def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call through the least loaded connection."""

        async def called() -> Any:
            return await self._pool.call(method, *args, **fields)

        return self._background.run(called)

    def stream(self, method: str, /, *args: Any, **fields: Any) -> Iterator[Any]:
        """As `call`, for a method that answers with a stream."""
        return self._background.iterate(lambda: self._pool.stream(method, *args, **fields))

    def subscribe(self, method: str, /, *args: Any, **fields: Any) -> Iterator[Any]:
        """As `stream`, but opened again through the next link, with a `Gap` among the replies then."""
        return self._background.iterate(lambda: self._pool.subscribe(method, *args, **fields))

    def get_pool_stats(self) -> dict[str, Any]:
        """The numbers of the pool, as `fsm_conn.ConnectionPool.get_pool_stats`."""
        return self._background.call(self._pool.get_pool_stats)

    @property
    def state(self) -> str:
        """The current state."""
        return str(self._pool.state)

    def __repr__(self) -> str:
        return f"<blocking {self._pool!r}>"

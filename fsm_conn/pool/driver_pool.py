"""A pool of a driver's own connections: a lease yields the driver's object, with its types."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.links.driver import DriverLink, has_reset
from fsm_conn.links.errors import LinkLostError
from fsm_conn.pool.leasing.lease import Lease
from fsm_conn.pool.pool import ConnectionPool

__all__ = ["DriverLease", "DriverPool"]

T = TypeVar("T")


class DriverLease(Generic[T]):
    """The right to use a driver's object: `async with pool.acquire() as db`, or `db = await lease` and `release()`.

    Do not keep the object after the block: others use it then.

    Args:
        acquire: as `ConnectionPool.acquire`.
        timeout: its timeout.

    Attributes:
        lease: the lease of its connection.
    """

    def __init__(self, acquire: Callable[[float | None], Lease], timeout: float | None) -> None:
        self._link: DriverLink[T] | None = None
        self.lease = acquire(timeout)
        self._acquire = acquire
        self._timeout = timeout

    if not TYPE_CHECKING:  # type checkers report this mistake before anything runs
        __enter__, __exit__ = Lease.__enter__, Lease.__exit__

    async def __aenter__(self) -> T:
        clock = asyncio.get_running_loop().time
        leases = self.lease._leases
        limit = leases.policy.acquire_timeout if self._timeout is None else self._timeout
        end = None if limit is None else clock() + limit
        while True:
            lease = await self.lease
            try:
                link = cast("DriverLink[T]", lease.connection.link)
                driver = await within(None if end is None else max(0.0, end - clock()), link.begin_use())
                self._link = link
                return driver
            except BaseException as error:
                lease.release()
                if isinstance(error, ExpiredError):  # it was probed all the time
                    raise leases.timed_out(limit or 0.0) from None
                if not isinstance(error, LinkLostError):
                    raise
            self.lease = self._acquire(None if end is None else max(0.0, end - clock()))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is None:
            return
        if isinstance(error, asyncio.CancelledError) and self._link.one_at_a_time and not has_reset(self._link):
            self.discard()  # what it did was cut off, perhaps, and the next user would read its answer
        else:
            self.release()

    def __await__(self) -> Generator[Any, None, T]:
        return self.__aenter__().__await__()

    def __del__(self) -> None:
        self._done()

    def __repr__(self) -> str:
        return repr(self.lease)

    @property
    def is_held(self) -> bool:
        """Whether the object may be used: its connection was not released, and its link was not lost."""
        return self.lease.is_held

    def release(self) -> None:
        """Give the connection back. Raises as `Lease.release`."""
        self._done()
        self.lease.release()

    def discard(self) -> None:
        """Release it and have its link replaced, so that nobody else gets this link. Raises as `Lease.release`."""
        self._done()
        self.lease.discard()

    def _done(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.end_use()
            if self.lease.is_held and link.is_gone():  # a driver may know of a loss before we do
                self.lease._doubt()


class DriverPool(ConnectionPool, Generic[T]):
    """A `ConnectionPool` whose leases are a driver's own objects.

        async with DriverPool(Postgres, 5) as pool, pool.acquire() as db:
            await db.fetchval("SELECT 1")

    Args:
        target: makes a `DriverLink`: usually the class itself. Or a list of several such.
        pool_size: as for `ConnectionPool`, and so are all other arguments.
    """

    def __init__(
        self,
        target: Callable[[], DriverLink[T]] | Sequence[Callable[[], DriverLink[T]]],
        pool_size: int | None = None,
        max_overflow: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(target, pool_size, max_overflow, **options)

    def acquire(self, timeout: float | None = None) -> DriverLease[T]:  # type: ignore[override]
        """A lease of a driver's object. Arguments and errors as for `ConnectionPool.acquire`."""
        return DriverLease(super().acquire, timeout)

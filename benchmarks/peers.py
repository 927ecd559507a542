"""The pools of other libraries, on connections that cost nothing, so that only their own work is measured.

Each is an async context manager that yields how to acquire: called, it gives a context manager to be entered with
`async with`. One that is not installed is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

__all__ = ["PEERS", "SIZE", "Acquire", "installed"]

SIZE = 10
"""Connections of each pool."""

Acquire = Callable[[], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def asyncio_connection_pool() -> AsyncIterator[Acquire]:
    library: Any = importlib.import_module("asyncio_connection_pool")

    class Strategy(library.ConnectionStrategy):  # type: ignore[misc]
        async def make_connection(self) -> object:
            return object()

        def connection_is_closed(self, conn: object) -> bool:
            return False

        async def close_connection(self, conn: object) -> None: ...

    yield library.ConnectionPool(strategy=Strategy(), max_size=SIZE).get_connection


@asynccontextmanager
async def redis_pool() -> AsyncIterator[Acquire]:
    library: Any = importlib.import_module("redis.asyncio")

    class Nothing(library.Connection):  # type: ignore[misc]
        async def connect(self) -> None: ...
        async def can_read(self, *args: Any) -> bool:
            return False

        can_read_destructive = can_read

        async def disconnect(self, nowait: bool = False, **options: Any) -> None: ...

    pool = library.BlockingConnectionPool(connection_class=Nothing, max_connections=SIZE)

    @asynccontextmanager
    async def acquire() -> AsyncIterator[Any]:
        conn = await pool.get_connection()
        try:
            yield conn
        finally:
            await pool.release(conn)

    yield acquire


@asynccontextmanager
async def sqlalchemy_pool() -> AsyncIterator[Acquire]:
    engines: Any = importlib.import_module("sqlalchemy.ext.asyncio")
    pools: Any = importlib.import_module("sqlalchemy.pool")
    engine = engines.create_async_engine(
        "sqlite+aiosqlite://", poolclass=pools.AsyncAdaptedQueuePool, pool_size=SIZE, max_overflow=0
    )
    yield engine.connect
    await engine.dispose()


PEERS: dict[str, tuple[str, Callable[[], AbstractAsyncContextManager[Acquire]]]] = {
    "asyncio-connection-pool": ("asyncio_connection_pool", asyncio_connection_pool),
    "redis-py": ("redis", redis_pool),
    "SQLAlchemy": ("aiosqlite", sqlalchemy_pool),
}
"""By name: the module that must be there, and the pool."""


def installed() -> dict[str, Callable[[], AbstractAsyncContextManager[Acquire]]]:
    """Those that can be compared with."""
    return {name: make for name, (module, make) in PEERS.items() if importlib.util.find_spec(module) is not None}

"""The pools of other libraries, on connections that cost nothing, so that only their own work is measured.

Each is an async context manager that yields how to acquire: called, it gives a context manager to be entered with
`async with`. One that is not installed is left out. No database is needed: where a library's connections talk to one,
they are given something that answers at once, or nothing to ask.
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace
from typing import Any, Self

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


@asynccontextmanager
async def psycopg_pool() -> AsyncIterator[Acquire]:
    library: Any = importlib.import_module("psycopg_pool")
    idle: Any = importlib.import_module("psycopg.pq").TransactionStatus.IDLE

    class Nothing:
        autocommit = True
        pgconn = SimpleNamespace(transaction_status=idle)

        @classmethod
        async def connect(cls, *args: Any, **options: Any) -> Self:
            return cls()

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *error: object) -> None: ...

        async def close(self) -> None: ...

    async with library.AsyncConnectionPool(connection_class=Nothing, min_size=SIZE, close_returns=False) as pool:
        await pool.wait()
        yield pool.connection


class _NoProtocol:
    """What an asyncpg connection asks its server for."""

    queries_count = 0

    def get_settings(self) -> Any:
        return SimpleNamespace(server_version="17.0")

    def is_connected(self) -> bool:
        return True

    def is_in_transaction(self) -> bool:
        return False

    def _is_cancelling(self) -> bool:
        return False

    def abort(self) -> None: ...


@asynccontextmanager
async def asyncpg_pool() -> AsyncIterator[Acquire]:
    library: Any = importlib.import_module("asyncpg")

    class Nothing(library.Connection):  # type: ignore[misc]
        def get_reset_query(self) -> str:
            return ""

    async def connect(*args: Any, loop: Any, **options: Any) -> Nothing:
        config = SimpleNamespace(statement_cache_size=0, max_cached_statement_lifetime=0)
        return Nothing(_NoProtocol(), None, loop, None, config, None)

    pool = await library.create_pool(connect=connect, connection_class=Nothing, min_size=SIZE, max_size=SIZE)
    yield pool.acquire
    pool.terminate()


PEERS: dict[str, tuple[str, Callable[[], AbstractAsyncContextManager[Acquire]]]] = {
    "asyncio-connection-pool": ("asyncio_connection_pool", asyncio_connection_pool),
    "asyncpg": ("asyncpg", asyncpg_pool),
    "psycopg_pool": ("psycopg_pool", psycopg_pool),
    "redis-py": ("redis", redis_pool),
    "SQLAlchemy": ("aiosqlite", sqlalchemy_pool),
}
"""By name: the module that must be there, and the pool."""


def installed() -> dict[str, Callable[[], AbstractAsyncContextManager[Acquire]]]:
    """Those that can be compared with."""
    return {name: make for name, (module, make) in PEERS.items() if importlib.util.find_spec(module) is not None}

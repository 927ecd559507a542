"""A pool of PostgreSQL connections, by asyncpg: what is leased is asyncpg's own object.

    POSTGRES=postgresql://user@localhost/shop python examples/postgres.py

When a backend is killed, whoever has leased it is told so by asyncpg, and the next lease is of another link.
"""

import asyncio
import os

import asyncpg

from fsm_conn import DriverLink, DriverPool


class Postgres(DriverLink[asyncpg.Connection]):
    """One connection to PostgreSQL."""

    async def connect(self) -> asyncpg.Connection:
        db = await asyncpg.connect(os.environ["POSTGRES"])
        db.add_termination_listener(lambda _: self.mark_lost())
        return db

    async def disconnect(self, db: asyncpg.Connection) -> None:
        await db.close()

    async def ping(self, db: asyncpg.Connection) -> None:
        await db.execute("SELECT 1")

    async def reset(self, db: asyncpg.Connection) -> None:
        await db.reset()


async def main() -> None:
    """Move money in a transaction, lose a backend, and go on."""
    async with DriverPool(Postgres, 2, name="shop") as pool:
        async with pool.acquire() as db:
            await db.execute("CREATE TABLE IF NOT EXISTS accounts (name text PRIMARY KEY, cents int NOT NULL)")
            await db.execute("INSERT INTO accounts VALUES ('ann', 100), ('bob', 0) ON CONFLICT DO NOTHING")
        async with pool.acquire() as db, db.transaction():
            await db.execute("UPDATE accounts SET cents = cents - 10 WHERE name = 'ann'")
            await db.execute("UPDATE accounts SET cents = cents + 10 WHERE name = 'bob'")
        try:
            async with pool.acquire() as db, db.transaction():
                await db.execute("UPDATE accounts SET cents = cents - 10 WHERE name = 'ann'")
                await db.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            print("lost:", type(error).__name__)
        async with pool.acquire(timeout=10) as db:
            print("cents in all:", await db.fetchval("SELECT sum(cents) FROM accounts"))


if __name__ == "__main__":
    asyncio.run(main())

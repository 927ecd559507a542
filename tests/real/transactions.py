"""Money that is moved by transactions through a pool while backends of the database are killed, and what is left of it.

Who moves a cent between two accounts writes the number of the move in the same transaction, and keeps a ledger of what he
was told. What is in the database afterwards is held against that.
"""

from __future__ import annotations

import asyncio
import importlib
import random
from typing import Any

import attrs

from fsm_conn import (
    ConnectionLostError,
    ConnectionPool,
    DriverLink,
    DriverPool,
    HealthPolicy,
    LeaseLostError,
    PoolError,
    RetryPolicy,
)

__all__ = ["KINDS", "Outcome", "link_to", "run"]

ACCOUNTS, CENTS = 10, 100
KINDS = ("calls", "driver")
"""How a lease is used: by calls through the link, or by the driver's own object."""
USERS, SIZE = 8, 4
KILLS_EACH = 0.05
"""Seconds between two kills."""
KILLED = RetryPolicy(stable_after=0.0)
"""No pauses because of the kills: the faster the machine, the sooner the pool would have nothing open that can be killed."""
HEALED = 120.0
"""Seconds for all connections to be back."""


@attrs.frozen
class Outcome:
    """What became of the moves."""

    kills: int
    committed: set[int]
    """Moves whose user was told that they were made."""
    unknown: set[int]
    """Moves that were interrupted while they were being committed."""
    failed: int
    made: set[int]
    """Moves that are in the database."""
    cents: int
    capacity: int
    """Leases that could be had at the end, when no backend was killed any more."""

    def problems(self) -> list[str]:
        """What there must not be."""
        found = {
            f"there were {ACCOUNTS * CENTS} cents, and there are {self.cents}": self.cents != ACCOUNTS * CENTS,
            f"{len(self.committed - self.made)} moves were committed, and are not made": self.committed - self.made,
            "moves are made of which nobody was told": self.made - self.committed - self.unknown,
            f"{self.capacity} of {SIZE} connections came back": self.capacity < SIZE,
            "no backend was killed": not self.kills,
            "nothing was moved": not self.committed,
        }
        return [problem for problem, is_so in found.items() if is_so]

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {len(self.committed)} moves committed, {self.failed} failed, {len(self.unknown)} of "
            f"them while they were being committed ({len(self.unknown & self.made)} of which are made)"
        )


def link_to(server: Any) -> type[DriverLink[Any]]:
    """A kind of link to the server."""
    asyncpg: Any = importlib.import_module("asyncpg")  # which has no types

    class Postgres(DriverLink[Any]):
        async def connect(self) -> Any:
            db = await asyncpg.connect(**server)
            db.add_termination_listener(lambda _: self.mark_lost())
            return db

        async def ping(self, db: Any) -> None:
            await db.execute("SELECT 1")

        async def reset(self, db: Any) -> None:
            await db.reset()

    return Postgres


class Ledger:
    """Who moves money, and what became of it as far as he knows."""

    def __init__(self) -> None:
        self.committed: set[int] = set()
        self.unknown: set[int] = set()
        self.failed = 0
        self.number = 0

    def next(self) -> int:
        self.number += 1
        return self.number

    def note(self, number: int, *, was_committing: bool) -> None:
        """It was interrupted: nobody knows, if that was while it was being committed."""
        self.failed += 1
        if was_committing:
            self.unknown.add(number)


def is_of_the_world(error: Exception) -> bool:
    """Whether it is a loss, or the driver's own: a deadlock, or a backend that says that it is killed."""
    is_driver = type(error).__module__.partition(".")[0] == "asyncpg"
    return is_driver or isinstance(error, (ConnectionLostError, LeaseLostError, PoolError, OSError))


async def by_calls(pool: Any, ledger: Ledger, rng: random.Random) -> None:
    """Move a cent by statements through a lease, as through any link; between them others may kill the backend."""
    number, committing = ledger.next(), False
    one, other = rng.sample(range(ACCOUNTS), 2)
    statements = (
        "BEGIN",
        f"UPDATE accounts SET cents = cents - 1 WHERE number = {one}",
        f"INSERT INTO moves VALUES ({number})",
        f"UPDATE accounts SET cents = cents + 1 WHERE number = {other}",
        "COMMIT",
    )
    try:
        async with pool.acquire(timeout=200) as client:
            for statement in statements:
                committing = statement == "COMMIT"
                await client.call("execute", statement)
                await asyncio.sleep(rng.random() * 0.02)
            committing = False
        ledger.committed.add(number)
    except Exception as error:
        if not is_of_the_world(error):
            raise
        ledger.note(number, was_committing=committing)


async def by_driver(pool: Any, ledger: Ledger, rng: random.Random) -> None:
    """The same, by the driver's own object."""
    number, committing = ledger.next(), False
    one, other = rng.sample(range(ACCOUNTS), 2)
    try:
        async with pool.acquire(timeout=200) as db:
            transaction = db.transaction()
            await transaction.start()
            await db.execute("UPDATE accounts SET cents = cents - 1 WHERE number = $1", one)
            await asyncio.sleep(rng.random() * 0.02)
            await db.execute("INSERT INTO moves VALUES ($1)", number)
            await db.execute("UPDATE accounts SET cents = cents + 1 WHERE number = $1", other)
            committing = True
            await transaction.commit()
        ledger.committed.add(number)
    except Exception as error:
        if not is_of_the_world(error):
            raise
        ledger.note(number, was_committing=committing)


async def run(server: Any, kind: str, seconds: float, seed: int = 17) -> Outcome:
    """Have users move money through a pool of one kind, for so long, while backends are killed."""
    asyncpg: Any = importlib.import_module("asyncpg")  # which has no types

    admin = await asyncpg.connect(**server)
    try:
        await admin.execute("DROP TABLE IF EXISTS accounts; DROP TABLE IF EXISTS moves")
        await admin.execute(
            "CREATE TABLE accounts (number int PRIMARY KEY, cents int); CREATE TABLE moves (number int)"
        )
        rows = [(number, CENTS) for number in range(ACCOUNTS)]
        await admin.executemany("INSERT INTO accounts VALUES ($1, $2)", rows)
        ledger = Ledger()
        kills, capacity = await _moved(admin, server, kind, seconds, ledger, random.Random(seed))
        made = {record["number"] for record in await admin.fetch("SELECT number FROM moves")}
        cents = await admin.fetchval("SELECT sum(cents) FROM accounts")
    finally:
        await admin.close()
    return Outcome(kills, ledger.committed, ledger.unknown, ledger.failed, made, cents, capacity)


async def _moved(
    admin: Any, server: Any, kind: str, seconds: float, ledger: Ledger, rng: random.Random
) -> tuple[int, int]:
    make: Any = ConnectionPool if kind == "calls" else DriverPool
    move = by_calls if kind == "calls" else by_driver
    health, clock, kills = HealthPolicy(interval=0.2, timeout=5.0), asyncio.get_running_loop().time, 0

    async def use() -> None:
        while clock() < end:
            await move(pool, ledger, rng)

    async with make(link_to(server), SIZE, 2, health=health, retry=KILLED) as pool:
        end = clock() + seconds
        users = [asyncio.create_task(use()) for _ in range(USERS)]
        # However slow the machine is: until something was moved, and something was killed.
        while clock() < end or (not (kills and ledger.committed) and clock() < end + HEALED):
            await asyncio.sleep(KILLS_EACH)
            kills += await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS one"
            )
        await asyncio.gather(*users)
        end = clock() + HEALED
        while (capacity := pool.get_pool_stats()["available_in_pool"]) < SIZE and clock() < end:
            await asyncio.sleep(0.05)
    return kills, capacity

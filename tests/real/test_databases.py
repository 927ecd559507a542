"""Pools of real databases' connections: what the examples show, and transactions under backends that are killed.

The servers are Debian's, started on loopback by the test; where they are not installed, it is skipped. By hand, longer:

    CHAOS_SECONDS=300 python -m pytest tests/real/test_databases.py -k transactions -s
"""

from __future__ import annotations

import asyncio
import os
import random
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import (
    ConnectionLostError,
    ConnectionPool,
    DriverLink,
    DriverPool,
    HealthPolicy,
    LeaseLostError,
    LinkError,
    PoolError,
    PoolUnavailableError,
    RetryPolicy,
)

from .servers import free_port, postgres, redis

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SECONDS = float(os.environ.get("CHAOS_SECONDS", "5"))
ACCOUNTS = 10


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, Any]]:
    pytest.importorskip("asyncpg")
    with postgres() as where:
        yield where


def example(name: str, monkeypatch: Any, capsys: Any, **environ: str) -> str:
    """What an example prints."""
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return str(capsys.readouterr().out)


def test_the_example_of_postgresql(server: Any, monkeypatch: Any, capsys: Any) -> None:
    """A backend is killed in a transaction, of which nothing stays."""
    address = "postgresql://{user}@{host}:{port}/{database}".format(**server)
    told = example("postgres.py", monkeypatch, capsys, POSTGRES=address)
    assert told.splitlines()[-1] == "cents in all: 100"
    assert told.startswith("lost: ")


def test_the_example_of_redis(monkeypatch: Any, capsys: Any) -> None:
    """A connection is killed, and the next lease is of another."""
    pytest.importorskip("redis")
    with redis() as where:
        told = example("redis_pool.py", monkeypatch, capsys, REDIS="redis://{host}:{port}".format(**where))
    assert told.splitlines() == ["visits: 42", "visits: 43"]


@pytest.mark.parametrize("name", ["postgres.py", "redis_pool.py"])
def test_a_link_of_ones_own_takes_fewer_than_twenty_lines(name: str) -> None:
    """Docstring and blank lines included."""
    lines = (EXAMPLES / name).read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("class "))
    end = next(number for number, line in enumerate(lines) if number > begin and line[:1] not in ("", " "))
    assert len("\n".join(lines[begin:end]).rstrip().splitlines()) < 20


# --- transactions and kills -------------------------------------------------------------------------------------------


def link_to(server: Any) -> type[DriverLink[Any]]:
    """A kind of link to the server."""
    import asyncpg

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
        async with pool.acquire(timeout=30) as client:
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
        async with pool.acquire(timeout=30) as db:
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


@pytest.mark.parametrize("kind", ["calls", "driver"])
async def test_no_transaction_is_committed_by_half(server: Any, kind: str) -> None:
    """Counted in the database: as much money as ever, every move that was told to be made, and no other."""
    import asyncpg

    admin = await asyncpg.connect(**server)
    await admin.execute("DROP TABLE IF EXISTS accounts; DROP TABLE IF EXISTS moves")
    await admin.execute("CREATE TABLE accounts (number int PRIMARY KEY, cents int); CREATE TABLE moves (number int)")
    await admin.executemany("INSERT INTO accounts VALUES ($1, 100)", [(number,) for number in range(ACCOUNTS)])
    ledger, rng, kills = Ledger(), random.Random(17), 0
    clock = asyncio.get_running_loop().time
    end = clock() + SECONDS
    make: Any = ConnectionPool if kind == "calls" else DriverPool
    move = by_calls if kind == "calls" else by_driver
    options: dict[str, Any] = {"on_release": _clean} if kind == "calls" else {}
    health = HealthPolicy(interval=0.2, timeout=5.0)

    async def use() -> None:
        while clock() < end:
            await move(pool, ledger, rng)

    async with make(link_to(server), 4, 2, health=health, retry=RetryPolicy(stable_after=0.5), **options) as pool:
        users = [asyncio.create_task(use()) for _ in range(8)]
        while clock() < end:
            await asyncio.sleep(0.05)
            kills += await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS one"
            )
        await asyncio.gather(*users)
        async with asyncio.timeout(60):
            while pool.get_pool_stats()["available_in_pool"] < 4:
                await asyncio.sleep(0.05)
    made = {record["number"] for record in await admin.fetch("SELECT number FROM moves")}
    cents = await admin.fetchval("SELECT sum(cents) FROM accounts")
    await admin.close()
    told = f"{kills} kills, {len(ledger.committed)} moves, {ledger.failed} failed, {len(ledger.unknown)} unknown"
    print(f"\n{kind}: {told}")
    assert cents == ACCOUNTS * 100, told
    assert ledger.committed <= made <= ledger.committed | ledger.unknown, told
    assert kills
    assert ledger.committed


async def _clean(conn: Any) -> None:
    """End what a lease has begun and not ended."""
    await conn.link.driver.reset()


async def test_a_server_that_is_not_there_is_an_outage_with_its_reason(server: Any) -> None:
    """Also when the driver raises something of its own for it."""
    pool = DriverPool(link_to({**server, "port": free_port()}), 1, retry=RetryPolicy(max_attempts=1))
    with pytest.raises(PoolUnavailableError):
        await pool.initialize()
    pool = DriverPool(link_to({**server, "database": "missing"}), 1, retry=RetryPolicy(max_attempts=1))
    with pytest.raises(PoolUnavailableError, match="does not exist; it is tried again") as caught:
        await pool.initialize()
    assert isinstance(caught.value.causes[0], LinkError)


async def test_probes_do_not_cut_a_long_query(server: Any) -> None:
    """A driver that is leased is not asked meanwhile whether it is well."""
    health = HealthPolicy(interval=0.05, timeout=0.2, failure_threshold=1)
    async with DriverPool(link_to(server), 1, health=health) as pool:
        async with pool.acquire() as db:
            mine = await db.fetchval("SELECT pg_backend_pid()")
            await db.fetchval("SELECT pg_sleep(0.8)")
        async with pool.acquire() as db:
            assert await db.fetchval("SELECT pg_backend_pid()") == mine

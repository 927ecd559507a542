"""Pools of real databases' connections: what the examples show, and transactions under backends that are killed.

The servers are Debian's, started on loopback by the test; where they are not installed, it is skipped. For minutes, it is
`python -m benchmarks.transactions`.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from fsm_conn import (
    ConnectionPool,
    DriverPool,
    HealthPolicy,
    LinkError,
    PoolUnavailableError,
    RetryPolicy,
)

from .servers import postgres, redis
from .transactions import KINDS, link_to, run

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SECONDS = 5.0


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


@pytest.mark.parametrize("kind", KINDS)
async def test_no_transaction_is_committed_by_half(server: Any, kind: str) -> None:
    """Counted in the database: as much money as ever, every move that was told to be made, and no other."""
    outcome = await run(server, kind, SECONDS)
    assert outcome.problems() == [], str(outcome)


async def test_a_server_that_is_not_there_is_an_outage_with_its_reason(server: Any) -> None:
    """Also when the driver raises something of its own for it."""
    pool = DriverPool(link_to({**server, "port": free_port()}), 1, retry=RetryPolicy(max_attempts=1))
    with pytest.raises(PoolUnavailableError):
        await pool.initialize()
    pool = DriverPool(link_to({**server, "database": "missing"}), 1, retry=RetryPolicy(max_attempts=1))
    with pytest.raises(PoolUnavailableError, match="does not exist") as caught:
        await pool.initialize()
    assert isinstance(caught.value.causes[0], LinkError)


async def test_probes_do_not_cut_a_long_query(server: Any) -> None:
    """A driver that is leased is not asked meanwhile whether it is well."""
    health = HealthPolicy(interval=0.5, timeout=0.2, failure_threshold=1)
    async with DriverPool(link_to(server), 1, health=health) as pool, pool.acquire() as db:
        mine = await db.fetchval("SELECT pg_backend_pid()")
        await db.fetchval("SELECT pg_sleep(1.5)")
        assert await db.fetchval("SELECT pg_backend_pid()") == mine


@pytest.mark.parametrize("make", [ConnectionPool, DriverPool])
@pytest.mark.parametrize("end", ["leave", "raise"])
async def test_what_a_lease_leaves_in_its_session_does_not_reach_the_next(server: Any, make: Any, end: str) -> None:
    """Settings, locks and an open transaction: the link's `reset` ends them, in every pool."""
    asyncpg = pytest.importorskip("asyncpg")
    admin = await asyncpg.connect(**server)
    await admin.execute("DROP TABLE IF EXISTS purse; CREATE TABLE purse (name text, cents int)")

    @asynccontextmanager
    async def session() -> AsyncIterator[Any]:
        async with pool.acquire(timeout=60) as lease:
            yield lease if make is DriverPool else lease.connection.link.driver

    async with make(link_to(server), 1, 0) as pool:
        with suppress(ZeroDivisionError):
            async with session() as db:
                mine = await db.fetchval("SELECT pg_backend_pid()")
                usual = await db.fetchval("SHOW work_mem")
                await db.execute("SET work_mem = '7MB'")
                await db.execute("SELECT pg_advisory_lock(17)")
                await db.execute("BEGIN")
                await db.execute("INSERT INTO purse VALUES ('ann', 100)")
                if end == "raise":
                    raise ZeroDivisionError
        async with session() as db:
            assert await db.fetchval("SELECT pg_backend_pid()") == mine, "it was reset, not replaced"
            assert await db.fetchval("SHOW work_mem") == usual
            assert await db.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
            assert not db.is_in_transaction()
            assert await db.fetchval("SELECT count(*) FROM purse") == 0
    await admin.close()


STATEMENTS = (
    "BEGIN",
    "UPDATE purse SET cents = cents - 10 WHERE name = 'ann'",
    "UPDATE purse SET cents = cents + 10 WHERE name = 'bob'",
    "COMMIT",
)


@pytest.mark.parametrize("before", range(len(STATEMENTS)))
async def test_a_backend_that_is_killed_before_a_statement(server: Any, before: int, caplog: Any) -> None:
    """All of the transaction or nothing of it; who comes next has another backend, and the log tells of the loss."""
    asyncpg = pytest.importorskip("asyncpg")
    admin = await asyncpg.connect(**server)
    await admin.execute("DROP TABLE IF EXISTS purse; CREATE TABLE purse (name text, cents int)")
    await admin.execute("INSERT INTO purse VALUES ('ann', 100), ('bob', 0)")
    async with DriverPool(link_to(server), 1, 0, name="pool") as pool:
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)):
            async with pool.acquire() as db:
                mine = await db.fetchval("SELECT pg_backend_pid()")
                for number, statement in enumerate(STATEMENTS):
                    if number == before:
                        await admin.execute(f"SELECT pg_terminate_backend({mine})")
                    await db.execute(statement)
        async with pool.acquire(timeout=60) as db:
            assert await db.fetchval("SELECT pg_backend_pid()") != mine
            assert [row["cents"] for row in await db.fetch("SELECT cents FROM purse ORDER BY name")] == [100, 0]
    await admin.close()
    assert any("lost after" in record.getMessage() for record in caplog.records)


async def test_many_calls_at_once_each_have_a_connection(server: Any) -> None:
    """A second one on the same is refused by asyncpg."""
    async with DriverPool(link_to(server), 2, 1) as pool:
        replies = await asyncio.gather(*(pool.call("fetchval", f"SELECT {n}, pg_sleep(0.01)") for n in range(20)))
        assert replies == list(range(20))

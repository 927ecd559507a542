"""The promises of `ConnectionPool`, kept with real plugin processes."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import (
    CallOptions,
    CommandNotFoundError,
    ConnectionPool,
    LeaseLostError,
    PoolPolicy,
    PoolUnavailableError,
)
from fsm_conn.pool.leasing.lookout import FRESH

from .conftest import CALCULATOR, children, eventually, is_alive

pytestmark = pytest.mark.usefixtures("no_leaks")

IDEMPOTENT = CallOptions(idempotent=True, timeout=100)

DOCUMENTED = '''
import asyncio

from fsm_conn import ConnectionPool

async def connection_pool_example():
    """Example using connection pool for high-throughput operations."""

    pool = ConnectionPool(["python", "calculator.py"], pool_size=3, max_overflow=2)
    await pool.initialize()

    try:
        # Concurrent operations using pool
        async def calculate(operation_id: int):
            async with pool.acquire() as client:
                # Verify connection is healthy
                assert client.is_connected()
                result = await client.calculator.Add(a=operation_id, b=operation_id * 2)
                print(f"Operation {operation_id}: {operation_id} + {operation_id * 2} = {result.result}")
                return result.result

        # Launch 10 concurrent calculations
        tasks = [calculate(i) for i in range(10)]
        results = await asyncio.gather(*tasks)

        print(f"Completed {len(results)} calculations")
        print(f"Pool stats: {pool.get_pool_stats()}")

    finally:
        await pool.close_all()

asyncio.run(connection_pool_example())
'''


def pool_of(size: int, overflow: int = 0, **options: Any) -> ConnectionPool:
    return ConnectionPool(CALCULATOR, size, overflow, name="calculator", **options)


def pids(pool: ConnectionPool) -> list[int]:
    """The processes of the slots that are in service, the active ones first."""
    serving = sorted((slot for slot in pool.slots if slot.in_service), key=lambda slot: not slot.is_active)
    return [int(slot.conn.link.pid) for slot in serving]  # type: ignore[union-attr]


def test_the_documented_usage_runs_as_printed(tmp_path: Path) -> None:
    """In a directory that has a `calculator.py`, with `python` on the path."""
    (tmp_path / "calculator.py").write_text("from fsm_conn.demo.calculator import main\nmain()\n")
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "usage.py").write_text(textwrap.dedent(DOCUMENTED))
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    run = subprocess.run(
        [sys.executable, "usage.py"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    assert "Operation 7: 7 + 14 = 21.0" in run.stdout
    assert "Completed 10 calculations" in run.stdout
    assert "'pool_size': 3" in run.stdout


async def test_the_documented_default_pool_is_leased_as_a_whole() -> None:
    """All five and two of overflow at once, each with a process of its own; then a call without a lease."""
    async with ConnectionPool(CALCULATOR) as pool:
        leases = await asyncio.gather(*(_taken(pool) for _ in range(7)))
        plugins = {lease.connection.link.pid for lease in leases}  # type: ignore[union-attr]
        assert len(plugins) == 7
        replies = await asyncio.gather(*(lease.calculator.Add(a=number, b=1) for number, lease in enumerate(leases)))
        assert [reply.result for reply in replies] == [1, 2, 3, 4, 5, 6, 7]
        assert pool.get_pool_stats()["stats"]["overflow_used"] == 2
        for lease in leases:
            lease.release()
        assert (await pool.call("calculator.Add", a=2, b=3)).result == 5
    assert not any(map(is_alive, plugins))


async def _taken(pool: ConnectionPool) -> Any:
    return await pool.acquire(timeout=60)


async def test_standby_serves_when_a_slot_is_killed() -> None:
    """The next call is answered without waiting for a start, and the killed one is replaced."""
    async with pool_of(1, policy=PoolPolicy(standby=1)) as pool:
        await pool.call("calculator.Add", IDEMPOTENT, a=1, b=2)
        created = pool.get_pool_stats()["stats"]["connections_created"]
        first, second = pids(pool)
        os.kill(first, signal.SIGKILL)
        assert (await pool.call("calculator.Add", IDEMPOTENT, a=1, b=2)).result == 3
        assert pool.get_pool_stats()["stats"]["connections_created"] == created
        assert pids(pool)[0] == second
        await eventually(lambda: pool.get_pool_stats()["standby"] == 1)


async def test_idempotent_calls_are_all_answered_while_slots_are_killed() -> None:
    """By 50 callers at a time; each of them has an answer between two kills, for no call is repeated without end."""
    answers, is_over = [0] * 50, asyncio.Event()

    async def call(number: int) -> None:
        while not is_over.is_set():
            assert (await pool.call("calculator.Add", IDEMPOTENT, a=number, b=1)).result == number + 1
            answers[number] += 1

    async def kill() -> None:
        for _ in range(6):
            await asyncio.sleep(0.5)
            for pid in pids(pool)[:1]:  # none, while all of them start anew
                os.kill(pid, signal.SIGKILL)
            before = [*answers]
            await eventually(lambda before=before: all(map(operator.gt, answers, before)))
        is_over.set()

    async with pool_of(2, policy=PoolPolicy(standby=1)) as pool:
        await asyncio.gather(kill(), *map(call, range(len(answers))))
        await eventually(lambda: pool.get_pool_stats()["total_connections"] == 3)
        assert pool.get_pool_stats()["leased"] == 0


async def test_a_slot_that_is_killed_under_its_lease_comes_back() -> None:
    """Its holder is told that his process is gone, and does not go on with the next one."""
    async with pool_of(1) as pool:
        async with pool.acquire(timeout=100) as client:
            os.kill(pids(pool)[0], signal.SIGKILL)
            await eventually(lambda: not client.is_connected())
            with pytest.raises(LeaseLostError):
                await client.call("calculator.Add", IDEMPOTENT, a=1, b=2)
        async with pool.acquire(timeout=100) as client:
            assert (await client.calculator.Add(a=2, b=2)).result == 4


async def test_a_command_that_does_not_exist_is_told_at_once() -> None:
    """With the cause, and nothing left."""
    pool = ConnectionPool(["/no/such/plugin"])
    with pytest.raises(PoolUnavailableError, match="/no/such/plugin") as caught:
        await pool.initialize()
    assert isinstance(caught.value.causes[0], CommandNotFoundError)


async def test_closing_ends_every_process_under_its_holders() -> None:
    """However many leases are held."""
    pool = pool_of(2, 1)
    await pool.initialize(lambda ready, of: None)
    leases = [await pool.acquire(timeout=60) for _ in range(3)]
    plugins = [lease.connection.link.pid for lease in leases]  # type: ignore[union-attr]
    await pool.close_all(timeout=0)
    assert not any(map(is_alive, plugins))
    assert not any(lease.is_held for lease in leases)


def test_the_end_of_the_loop_ends_every_process() -> None:
    """Without `close_all()`."""

    async def main() -> None:
        pool = pool_of(2)
        await pool.initialize()
        await pool.acquire()
        assert len(children()) >= 2

    before = children()
    asyncio.run(main())
    assert children() <= before


def kill_and_block(pid: int) -> None:
    """The plugin is dead when this returns, and the event loop has had no turn, for longer than a look lasts."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    time.sleep(1.5 * FRESH)


async def test_a_plugin_that_died_while_the_loop_was_blocked_is_not_handed_out() -> None:
    """Whoever acquires at once gets the other one."""
    async with pool_of(2) as pool:
        async with pool.acquire() as client:
            dead = client.connection
        kill_and_block(dead.link.pid)  # type: ignore[union-attr]
        async with pool.acquire(timeout=100) as client:
            assert client.connection is not dead
            assert (await client.calculator.Add(a=1, b=2)).result == 3

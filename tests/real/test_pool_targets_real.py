"""A pool of two real gRPC servers, one of which is killed, started again, and removed."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import CallOptions, ConnectionPool, Endpoint, PoolPolicy, RetryPolicy
from fsm_conn.demo import calculator_pb2

from .conftest import PLUGINS, PYTHON, eventually

pytestmark = pytest.mark.usefixtures("no_leaks")

IDEMPOTENT = CallOptions(idempotent=True, timeout=60)
SOON = RetryPolicy(initial_delay=0.05, max_delay=0.5)


def serving(address: str) -> subprocess.Popen[bytes]:
    server = subprocess.Popen([PYTHON, str(PLUGINS / "plain_server.py"), address], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline().decode().strip() == address
    return server


def ended(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.communicate()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Two of them, by their addresses."""
    addresses = [f"unix:{tmp_path}/{name}" for name in "ab"]
    running = {address: serving(address) for address in addresses}
    yield running
    for server in running.values():
        ended(server)


async def test_one_of_two_servers_is_killed_and_comes_back(servers: dict[str, subprocess.Popen[bytes]]) -> None:
    """Every idempotent call is answered, all capacity stays, and what is back gets its share again."""
    first, second = servers
    pool = ConnectionPool(
        [Endpoint(first), Endpoint(second)],
        pool_size=4,
        policy=PoolPolicy(replacement=SOON, max_overflow=0),
        retry=RetryPolicy(max_attempts=None, initial_delay=0.05, max_delay=0.5),
        services=calculator_pb2,
    )
    answers = 0

    def told(target: str) -> dict[str, Any]:
        found: dict[str, Any] = pool.get_pool_stats()["targets"][target]
        return found

    async def call_until(end: asyncio.Event) -> None:
        nonlocal answers
        while not end.is_set():
            assert (await pool.call("calculator.Add", IDEMPOTENT, a=1, b=2)).result == 3
            answers += 1
            await asyncio.sleep(0)

    async with pool:
        assert [told(target)["connections"] for target in servers] == [2, 2]
        end = asyncio.Event()
        calling = [asyncio.create_task(call_until(end)) for _ in range(6)]
        await eventually(lambda: answers > 50)
        await asyncio.to_thread(ended, servers[first])
        await eventually(lambda: told(first)["is_left_out"] and told(second)["connections"] == 4)
        before = answers
        await eventually(lambda: answers > before + 50)
        servers[first] = await asyncio.to_thread(serving, first)
        await eventually(lambda: [told(target)["connections"] for target in servers] == [2, 2])
        assert not told(first)["is_left_out"]
        end.set()
        await asyncio.gather(*calling)
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_server_is_removed_while_it_is_leased(servers: dict[str, subprocess.Popen[bytes]]) -> None:
    """Its lease goes on to the end, and then nothing is connected to it."""
    first, second = servers
    async with ConnectionPool([Endpoint(first), Endpoint(second)], 2, 0, services=calculator_pb2) as pool:
        leases = [await pool.acquire() for _ in range(2)]
        held = next(lease for lease in leases if lease.connection.name.startswith(first))
        removing = asyncio.create_task(pool.remove_target(first, timeout=60))
        await eventually(lambda: pool.get_pool_stats()["targets"][second]["connections"] == 2)
        assert (await held.calculator.Add(a=1, b=2)).result == 3
        assert not removing.done()
        for lease in leases:
            lease.release()
        await removing
        assert pool.targets == (Endpoint(second),)
        for _ in range(4):
            assert (await pool.calculator.Add(a=1, b=2)).result == 3

"""A cluster of Dask's on this machine, four workers with two plugins each: start, kills, drain, `map`, busy workers.

    python benchmarks/cluster_dask.py [--quick]

Each row is printed with its goal, and the load of the machine, as soon as it is measured. `--quick` maps a tenth of the
requests.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import distributed

from fsm_conn import CallOptions, ConnectionPool, Plugin
from fsm_conn.cluster import ClusterPolicy, ClusterPool, Recipe, ServeLimits, StaticMembers, serve
from fsm_conn.cluster.dask import DaskMembers

COMMAND = (sys.executable, "-m", "fsm_conn.demo.calculator")
WORKERS, PLUGINS = 4, 2
PATIENT = 120.0
SAFE = CallOptions(idempotent=True, timeout=PATIENT)
POLICY = ClusterPolicy(slow_start=0.0, wait_timeout=PATIENT)
KILLS = 5
Client: Any = distributed.Client
LocalCluster: Any = distributed.LocalCluster
Call = Callable[[], Awaitable[Any]]


def row(what: str, found: float, unit: str, goal: float) -> None:
    """Print a row: what was found is to be the goal at most."""
    verdict = "met" if found <= goal else "MISSED"
    print(f"{what:58} {found:8.2f} {unit:5} goal <= {goal:g}  {verdict}  (load {os.getloadavg()[0]:.1f})", flush=True)


def add(pool: ClusterPool | ConnectionPool) -> Call:
    """A call that may be repeated."""
    return lambda: pool.call("calculator.Add", SAFE, a=1, b=2)


@asynccontextmanager
async def cluster(*, prefork: bool, per_worker: int = PLUGINS) -> AsyncIterator[tuple[Any, ClusterPool]]:
    """All of it, from nothing: Dask's processes, the plugins, and a pool."""
    recipe = Recipe(plugin=Plugin(COMMAND, prefork=prefork), limits=ServeLimits(announce=0.1))
    async with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, asynchronous=True) as dask,
        Client(dask, asynchronous=True) as client,
        ClusterPool(DaskMembers(client, recipe, per_worker=per_worker), recipe, policy=POLICY) as pool,
    ):
        yield client, pool


async def until_all_serve(pool: ClusterPool) -> None:
    async with asyncio.timeout(PATIENT):
        while pool.stats()["serving"] < WORKERS * PLUGINS:
            await asyncio.sleep(0.05)


async def median(call: Call, count: int = 300) -> float:
    """Seconds of a call alone."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


async def slowest_of(call: Call, kill: Callable[[], Awaitable[Any]]) -> float:
    """Seconds of the slowest call of eight callers around a kill."""
    slowest, is_over = 0.0, False

    async def caller() -> None:
        nonlocal slowest
        while not is_over:
            began = time.perf_counter()
            await call()
            slowest = max(slowest, time.perf_counter() - began)

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    await asyncio.sleep(0.3)
    slowest = 0.0
    await kill()
    await asyncio.sleep(1.5)
    is_over = True
    await asyncio.gather(*callers)
    return slowest


async def local_kills() -> float:
    """The same with a plugin of a local pool, for comparison: the median of some."""
    found = []
    for _ in range(KILLS):
        async with ConnectionPool(COMMAND, 2, 0) as pool:
            pid = pool.slots[0].conn.pid
            assert pid is not None

            async def kill(pid: int = pid) -> None:
                os.kill(pid, signal.SIGKILL)

            found.append(await slowest_of(add(pool), kill))
    return statistics.median(found)


async def server_kills() -> float:
    """One of two servers, each a program of its own."""
    found = []
    for _ in range(KILLS):
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fsm_conn", "serve", "--plugins", "2", "--", *COMMAND), stdout=-1
            )
            for _ in range(2)
        ]
        addresses = [(await each.stdout.readline()).decode().split()[-1] for each in processes if each.stdout]
        try:
            async with ClusterPool(StaticMembers(addresses, connections=2), policy=POLICY) as pool:
                await pool._until_serving(4)

                async def kill(process: Any = processes[0]) -> None:
                    process.kill()

                found.append(await slowest_of(add(pool), kill))
        finally:
            for each in processes:
                if each.returncode is None:
                    each.terminate()
                await each.wait()
    return statistics.median(found)


async def worker_kills(client: Any, pool: ClusterPool) -> float:
    """A worker, whose plugins are its nanny's."""
    found = []
    for _ in range(KILLS):
        pids = await client.run(os.getpid)
        pid = next(iter(pids.values()))

        async def kill(pid: int = pid) -> None:
            os.kill(pid, signal.SIGKILL)

        found.append(await slowest_of(add(pool), kill))
        await client.wait_for_workers(WORKERS)
        await until_all_serve(pool)
    return statistics.median(found)


async def drained() -> int:
    """Calls lost of 2,000, which must not be repeated, while one of two servers ends."""
    recipe = Recipe(plugin=COMMAND, plugins=2, limits=ServeLimits(announce=0.1))
    lost = 0
    async with serve(recipe) as one, serve(recipe) as two:  # noqa: SIM117 - the pool is closed first
        async with ClusterPool(StaticMembers([one.address, two.address], connections=2), policy=POLICY) as pool:
            await pool._until_serving(4)
            stopping: list[asyncio.Task[None]] = []

            async def call(number: int) -> None:
                nonlocal lost
                if number == 500:
                    stopping.append(asyncio.create_task(one.stop()))
                try:
                    await pool.call("calculator.Add", a=number, b=1)
                except Exception as error:
                    lost += 1
                    print("lost:", error)

            await _each(20, 2000, call)
            await stopping[0]
    return lost


async def _each(callers: int, count: int, call: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def mapped(pool: ClusterPool, count: int) -> tuple[float, float]:
    """Seconds for so many calls, and by how many MiB this process has grown at most."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    async with aclosing(pool.map("calculator.Add", ({"a": n, "b": 1} for n in range(count)), SAFE)) as replies:
        found = [int(reply.result) async for reply in replies]
    assert found == [*range(1, count + 1)]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return time.perf_counter() - began, grown / 1024


def burn(seconds: float, number: int) -> int:
    """A task of Python's, on a worker."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number += 1
    return number


async def busy(client: Any, pool: ClusterPool) -> float:
    """The ratio of the latency while all workers are busy to that while none is.

    While the workers are idle, as many programs burn beside them: there are fewer cores than workers, and what that
    costs is not what is asked.
    """
    burners = [await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass") for _ in range(WORKERS)]
    idle = await median(add(pool))
    for each in burners:
        each.kill()
        await each.wait()
    tasks = client.map(burn, [1000.0] * WORKERS, range(WORKERS), pure=False)
    await asyncio.sleep(1.0)
    found = await median(add(pool))
    await client.cancel(tasks, force=True)
    return found / idle


async def main(quick: bool) -> None:
    """Measure, and print."""
    if not Path(cache_from_source(distributed.__file__)).exists():
        print("The libraries are not compiled (python -m compileall): each process spends seconds on compiling them.")
    for prefork, goal in ((False, 4.0), (True, 3.0)):
        began = time.perf_counter()
        async with cluster(prefork=prefork) as (client, pool):
            await add(pool)()
            name = "first answer from nothing" + (", with prefork" if prefork else "")
            row(name, time.perf_counter() - began, "s", goal)
            if not prefork:
                continue
            await until_all_serve(pool)
            count = 1000 if quick else 10_000
            await mapped(pool, 100)
            seconds, grown = await mapped(pool, count)
            row(f"map of {count:,} calls", seconds, "s", 5.0)
            row("  grown by it", grown, "MiB", 20.0)
            row("latency with busy workers, to idle ones", await busy(client, pool), "x", 2.0)
        async with cluster(prefork=True) as (client, pool):
            await until_all_serve(pool)
            local = await local_kills()
            found = await worker_kills(client, pool) / local
            row("slowest call, a worker killed; to a local plugin killed", found, "x", 2)
    row("slowest call, a server killed; to a local plugin killed", await server_kills() / local, "x", 2)
    row("calls lost while a member drains, of 2,000", await drained(), "", 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A cluster of Dask's on this machine, measured.")
    parser.add_argument("--quick", action="store_true")
    asyncio.run(main(parser.parse_args().quick))

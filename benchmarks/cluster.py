"""A call through a server of plugins, over mutual TLS, against the same call on a local pool, in one run.

    python benchmarks/cluster.py [--rounds N]

Both have two plugins; the server is a program of its own, `fsm-conn serve`. A local call has mutual TLS, too: it is the
default of plugins that can do it. The machine may be busy, so calls alone alternate one by one, and all else in rounds;
what is printed are medians of the ratios of neighbours. CPU is that of this process, the server and the plugins.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from certificates import Authority  # type: ignore[import-not-found,unused-ignore]

from fsm_conn import ConnectionPool
from fsm_conn.cluster import (
    ClusterPolicy,
    ClusterPool,
    MemberInfo,
    Recipe,
    ServeLimits,
    StaticMembers,
)

COMMAND = (sys.executable, "-m", "fsm_conn.demo.calculator")
Call = Callable[[], Awaitable[Any]]
IN_TURN, CALLS = 400, 1000
LATENCY, FASTEST = "latency, one caller", "latency, one caller, the fastest tenth"
FIFTY, MANY, CPU = "throughput, 50 callers", "throughput, 500 callers", "CPU a call"
GOALS = {LATENCY: ("<=", 1.25), FASTEST: ("<=", 1.25), FIFTY: (">=", 0.85), MANY: (">=", 0.75), CPU: ("<=", 1.3)}


async def latency(here: Call, there: Call) -> dict[str, float]:
    """The ratios of calls alone, which alternate: of all, and of those that had not to wait for a core."""
    taken: dict[Call, list[float]] = {here: [], there: []}
    for _ in range(IN_TURN):
        for call, seconds in taken.items():
            began = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - began)
    theirs, ours = (statistics.quantiles(taken[call], n=10) for call in (there, here))
    return {LATENCY: theirs[4] / ours[4], FASTEST: theirs[0] / ours[0]}


async def throughput(call: Call, callers: int) -> float:
    """Seconds for as many calls as there are, by so many callers."""
    left = [None] * CALLS

    async def caller() -> None:
        while left:
            left.pop()
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return time.perf_counter() - began


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU of this process and of others, all their threads."""
    found = 0
    for pid in (os.getpid(), *pids):
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            found += int(task.read_text().split()[0])
    return found / 1e9


def children(pid: int) -> tuple[int, ...]:
    """The processes that another one has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return tuple(int(child) for task in tasks for child in task.read_text().split())


async def measured(call: Call, pids: Iterable[int]) -> dict[str, float]:
    """Throughput and CPU, once."""
    found, before = {}, cpu(pids)
    for callers, name in ((50, FIFTY), (500, MANY)):
        found[name] = 1 / await throughput(call, callers)
    found[CPU] = cpu(pids) - before
    return found


@asynccontextmanager
async def served(recipe: Recipe) -> AsyncIterator[tuple[str, int]]:
    """`fsm-conn serve`: its address, and its process."""
    assert recipe.tls is not None
    files = ("--cert", recipe.tls.certificate, "--key", recipe.tls.key, "--cacert", str(recipe.tls.authorities))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fsm_conn", "serve", "--plugins", str(recipe.plugins), *files, "--", *COMMAND),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().split()[-1], process.pid
    finally:
        process.terminate()
        await process.wait()


async def run(rounds: int, directory: Path) -> dict[str, list[float]]:
    """The ratios of each round."""
    authority = Authority(directory)
    recipe = Recipe(
        plugin=COMMAND,
        plugins=2,
        tls=authority.files("server"),
        client_tls=authority.files("client"),
        limits=ServeLimits(announce=0),
    )
    ratios: dict[str, list[float]] = {}
    async with ConnectionPool(COMMAND, 2, 0) as local, served(recipe) as (address, server):
        members = StaticMembers([MemberInfo("one", target=address, connections=2)])
        async with ClusterPool(members, recipe, policy=ClusterPolicy(slow_start=0.0)) as cluster:
            pids = [slot.conn.pid for slot in local.slots if slot.conn.pid is not None]
            theirs = [server, *children(server)]

            def here() -> Awaitable[Any]:
                return local.call("calculator.Add", a=1, b=2)

            def there() -> Awaitable[Any]:
                return cluster.call("calculator.Add", a=1, b=2)

            await asyncio.sleep(1.0)
            for number in range(rounds + 1):
                found = await latency(here, there)
                local_ones, served_ones = await measured(here, pids), await measured(there, theirs)
                found |= {name: value / local_ones[name] for name, value in served_ones.items()}
                for name, value in found.items() if number else ():  # the first round warms up
                    ratios.setdefault(name, []).append(value)
    return ratios


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        ratios = asyncio.run(run(given.rounds, Path(directory)))
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, found in ratios.items():
        result, (sign, goal) = statistics.median(found), GOALS[name]
        is_met = result <= goal if sign == "<=" else result >= goal
        spread = f"{min(found):.2f} to {max(found):.2f}, {len(found)} rounds"
        print(f"{name:42} {result:5.2f} x  goal {sign} {goal:g}  {'met' if is_met else 'MISSED'}  ({spread})")


if __name__ == "__main__":
    main()

"""A call through a server of plugins, over mutual TLS, against the same call on a local pool, in one run.

    python benchmarks/cluster.py [--rounds N]

Both have two plugins. Rounds alternate, and what is printed are medians of ratios of neighbours, for the machine may be
busy. Everything, the server included, runs in this process but for the plugins, so CPU is that of client, server and
plugins together.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
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
    serve,
)

COMMAND = (sys.executable, "-m", "fsm_conn.demo.calculator")
Call = Callable[[], Awaitable[Any]]
IN_TURN, CALLS = 200, 1000


async def latency(call: Call) -> float:
    """Seconds of a call alone, the median."""
    taken = []
    for _ in range(IN_TURN):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


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


def cpu(plugins: tuple[int, ...]) -> float:
    """Seconds of CPU of this process and the plugins."""
    ticks = 0
    for pid in plugins:
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


async def measured(call: Call, plugins: tuple[int, ...]) -> dict[str, float]:
    """All of it, once."""
    found = {"latency, one caller": await latency(call)}
    before = cpu(plugins)
    for callers in (50, 500):
        found[f"time for {CALLS} calls, {callers} callers"] = await throughput(call, callers)
    found["CPU a call"] = cpu(plugins) - before
    return found


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
    async with ConnectionPool(COMMAND, 2, 0) as local, serve(recipe) as server:
        members = StaticMembers([MemberInfo("one", target=server.address, connections=2)])
        async with ClusterPool(members, recipe, policy=ClusterPolicy(slow_start=0.0)) as cluster:
            pids = tuple(slot.conn.pid for slot in local.slots if slot.conn.pid is not None)
            await asyncio.sleep(1.0)
            for number in range(rounds + 1):
                here = await measured(lambda: local.call("calculator.Add", a=1, b=2), pids)
                there = await measured(lambda: cluster.call("calculator.Add", a=1, b=2), server.pids)
                for name, value in there.items() if number else ():  # the first round warms up
                    ratios.setdefault(name, []).append(value / here[name])
    return ratios


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        ratios = asyncio.run(run(given.rounds, Path(directory)))
    for name, found in ratios.items():
        print(f"{name}: {statistics.median(found):.2f} x ({min(found):.2f} to {max(found):.2f}, {len(found)} rounds)")


if __name__ == "__main__":
    main()

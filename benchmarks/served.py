"""Plugins that are served to other machines: what a call costs more than a local one, and how soon a cluster is up.

The relay is measured by `cluster.py`: a server of two plugins, over mutual TLS, in turn with a local pool of two. The
cluster is Dask's, of four workers in this process with two plugins each: from making the scheduler to the first answer,
with plugins that are spawned and with such as are forked; then ten thousand calls by `ClusterPool.map`. It is left out
where Dask is not installed.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import cluster
from benchmarks.core import RATIO, Progress, Row, row_of
from benchmarks.plugin import COMMAND
from fsm_conn import CallOptions, Plugin
from fsm_conn.cluster import ClusterPolicy, ClusterPool, Recipe, ServeLimits

GOALS = {"latency": 1.25, "50 callers": 1 / 0.85, "500 callers": 1 / 0.75, "CPU": 1.3}
RELAYED = (
    "Every call crosses the server's relay twice, once each way, which is one process more that has to wake up, and is "
    "encrypted on the way to it. The local pool has neither."
)
WORKERS, PLUGINS = 4, 2
UP, UP_FORKED, MAPPED = 4.0, 3.0, 5.0
"""Seconds: the goals."""
CALLS = 10_000
POLICY = ClusterPolicy(wait_timeout=60.0, slow_start=0.0)
PATIENT = CallOptions(idempotent=True, timeout=60)
BUSY = "It is a time and no ratio: eight interpreters start on the cores of this machine, and four workers beside them."


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    progress.at(0, 2, "relay")
    with tempfile.TemporaryDirectory() as directory:
        ratios = asyncio.run(cluster.run(2 if quick else 7, Path(directory)))
    found = [_ratio(name, values) for name, values in ratios.items()]
    if find_spec("distributed") is None:
        return found
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    progress.at(1, 2, "Dask")
    return [*found, *asyncio.run(_dask(1 if quick else 3, CALLS // 10 if quick else CALLS))]


def _ratio(name: str, values: list[float]) -> Row:
    goal = next(goal for words, goal in GOALS.items() if words in name)
    return row_of(
        values, name=name, work="served over mutual TLS, against a local pool", unit=RATIO, goal=goal, why=RELAYED
    )


async def _dask(rounds: int, calls: int) -> list[Row]:
    taken = {forked: [await _up(forked, calls) for _ in range(rounds)] for forked in (False, True)}
    work = f"Dask in this process, {WORKERS} workers with {PLUGINS} plugins each"
    maps = [seconds for each in taken.values() for _, seconds in each]
    return [
        *(
            row_of(
                [seconds for seconds, _ in taken[forked]],
                name=f"from nothing to the first answer, {'forked' if forked else 'spawned'}",
                work=work,
                unit="s",
                goal=UP_FORKED if forked else UP,
                why=BUSY,
            )
            for forked in (False, True)
        ),
        row_of(
            maps,
            name=f"map of {calls:,} calls",
            work=work,
            unit="s",
            goal=MAPPED * calls / CALLS,
            detail=f"{calls / statistics.median(maps):,.0f} calls a second",
            why=BUSY,
        ),
    ]


async def _up(forked: bool, calls: int) -> tuple[float, float]:
    """Seconds to the first answer, and for so many calls."""
    import distributed

    from fsm_conn.cluster.dask import DaskMembers

    dask: Any = distributed  # which has few types
    recipe = Recipe(plugin=Plugin(COMMAND, prefork=forked), limits=ServeLimits(announce=0))
    began = time.perf_counter()
    async with (
        dask.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=False, dashboard_address=None, asynchronous=True
        ) as engine,
        dask.Client(engine, asynchronous=True) as client,
        ClusterPool(DaskMembers(client, recipe, per_worker=PLUGINS), recipe, policy=POLICY) as pool,
    ):
        await pool.call("calculator.Add", PATIENT, a=1, b=2)
        up = time.perf_counter() - began
        while sum(member.is_serving for member in pool.members) < WORKERS:
            await asyncio.sleep(0.05)
        began = time.perf_counter()
        requests = ({"a": number, "b": 1} for number in range(calls))
        answers = 0
        async for _ in pool.map("calculator.Add", requests, PATIENT, limit=64):
            answers += 1
        assert answers == calls
        return up, time.perf_counter() - began

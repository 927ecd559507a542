"""Plugins that are forked from a template, against the same ones spawned, and against pyvider-rpcplugin's own client.

The calculator is connected, killed with -9 and called again, with `prefork` and without, in turn with the bare client's
own start, which does not close its plugin in the measured time. The template is warm, but for the pools: a pool of
sixty-four is opened in turn either way, and the time of the forked one begins when not even its template is there.
While they are open the memory of all the plugins is added up, as shares (PSS): a page that several processes have in
common counts for each by its part. The template's own share is added to that of the forked ones. So is its CPU time to
theirs: the CPU time that opening takes, of this process and of all plugins, says more than the time where the machine
is busy with other things, too.

Last, one of four forked plugins of a pool is killed every 0.3 s for a minute, while twenty callers call on and on.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from pathlib import Path

import attrs

from benchmarks.core import RATIO, Progress, Row, against, row_of, turns
from benchmarks.leftovers import children, is_alive
from benchmarks.plugin import COMMAND, bare_client, pid_of
from fsm_conn import CallOptions, Connection, ConnectionPool, Plugin, RetryPolicy
from fsm_conn.links.process import prefork

PATIENT = CallOptions(idempotent=True, timeout=60)
UNTIRING = RetryPolicy(max_attempts=None, initial_delay=0.0, stable_after=0.0)
"""Each kill is an outage of its own, so that no pause is measured that the policy makes."""
PLUGINS = 64
CALLERS = 20
KILL_EVERY = 0.3
LIMIT = 120.0
"""Seconds for a plugin to start, on whatever machine this is."""
PAUSE = 0.1
"""Seconds for what one part has left to the system."""


@attrs.define
class Times:
    """What was measured: seconds, and bytes."""

    cold: list[float] = attrs.field(factory=list)
    warm: list[float] = attrs.field(factory=list)
    bare: list[float] = attrs.field(factory=list)
    spawned_again: list[float] = attrs.field(factory=list)
    forked_again: list[float] = attrs.field(factory=list)
    spawned_pool: list[float] = attrs.field(factory=list)
    forked_pool: list[float] = attrs.field(factory=list)
    spawned_cpu: list[float] = attrs.field(factory=list)
    forked_cpu: list[float] = attrs.field(factory=list)
    spawned_memory: list[float] = attrs.field(factory=list)
    forked_memory: list[float] = attrs.field(factory=list)
    calls: list[float] = attrs.field(factory=list)
    unanswered: int = 0
    kills: int = 0


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    return _table(asyncio.run(_measured(quick, progress)), 8 if quick else PLUGINS)


def _target(forked: bool) -> Plugin:
    return Plugin(COMMAND, prefork=forked)


async def _measured(quick: bool, progress: Progress) -> Times:
    times = Times()
    async with Connection(_target(forked=True), start_timeout=LIMIT):  # so that the template stays
        parts = (_bare, _spawned, _forked)
        for part in parts:
            await part(Times())
        for _, part in turns(parts, 4 if quick else 20, progress, "starts"):
            await asyncio.sleep(PAUSE)
            await part(times)
    for _, forked in turns((False, True), 1 if quick else 2, progress, "pools"):
        await _until_no_template()
        await _pool(times, 8 if quick else PLUGINS, forked=forked)
    await _under_fire(times, 6 if quick else 60, progress)
    await _until_no_template()
    return times


async def _until_no_template() -> None:
    while prefork.templates():
        await asyncio.sleep(PAUSE)


async def _bare(times: Times) -> None:
    began = time.perf_counter()
    async with bare_client():
        times.bare.append(time.perf_counter() - began)


async def _spawned(times: Times) -> None:
    await _life(False, times.cold, times.spawned_again)


async def _forked(times: Times) -> None:
    await _life(True, times.warm, times.forked_again)


async def _life(forked: bool, started: list[float], again: list[float]) -> None:
    began = time.perf_counter()
    async with Connection(_target(forked), start_timeout=LIMIT) as conn:
        started.append(time.perf_counter() - began)
        await conn.call("calculator.Add", a=1, b=2)
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        os.kill(pid_of(conn), signal.SIGKILL)
        await conn.call("calculator.Add", PATIENT, a=1, b=2)
        again.append(time.perf_counter() - began)


async def _pool(times: Times, plugins: int, *, forked: bool) -> None:
    before = children()
    began, ours = time.perf_counter(), time.process_time()
    async with ConnectionPool(_target(forked), plugins, 0, start_timeout=LIMIT) as pool:
        while pool.get_pool_stats()["total_connections"] < plugins:
            await asyncio.sleep(0.01)
        took, ours = time.perf_counter() - began, time.process_time() - ours
        started = children() - before
        cpu = ours + sum(map(_cpu, started))
        await asyncio.sleep(PAUSE)
        memory = float(sum(map(_share, started)))
    (times.forked_pool if forked else times.spawned_pool).append(took)
    (times.forked_cpu if forked else times.spawned_cpu).append(cpu)
    (times.forked_memory if forked else times.spawned_memory).append(memory)


def _cpu(pid: int) -> float:
    """The seconds of CPU time that a process has had."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _share(pid: int) -> int:
    """The bytes of a process, as its share of what it has in common with others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


async def _under_fire(times: Times, seconds: float, progress: Progress) -> None:
    clock = time.perf_counter
    async with ConnectionPool(_target(forked=True), 4, 0, retry=UNTIRING, start_timeout=LIMIT) as pool:
        while pool.get_pool_stats()["total_connections"] < 4:
            await asyncio.sleep(PAUSE)
        end = clock() + seconds

        async def caller() -> None:
            while (began := clock()) < end:
                try:
                    await pool.call("calculator.Add", PATIENT, a=1, b=2)
                except Exception:
                    times.unanswered += 1
                times.calls.append(clock() - began)

        async def killer() -> None:
            rng = random.Random(1)
            while (now := clock()) < end:
                progress.at(int(seconds - (end - now)), int(seconds), "kills")
                await asyncio.sleep(KILL_EVERY)
                templates = {template.pid for template in prefork.templates()}
                if victims := [pid for pid in sorted(children() - templates) if is_alive(pid)]:
                    os.kill(rng.choice(victims), signal.SIGKILL)
                    times.kills += 1

        await asyncio.gather(killer(), *(caller() for _ in range(CALLERS)))


def _table(times: Times, plugins: int) -> list[Row]:
    work = "calculator, template warm"
    against_spawned = f"{work}, against spawned"
    shared = f"{plugins} calculators"
    of_many = plugins == PLUGINS  # a small pool has not much to share a template's start and memory among
    p99 = statistics.quantiles(times.calls, n=100)[98] * 1e3
    fire = f"4 forked plugins, one killed every {KILL_EVERY} s, {CALLERS} callers"
    return [
        _ratio("connect", times.warm, times.cold, against_spawned, 0.1),
        _ratio("connect", times.warm, times.bare, f"{work}, against the bare client", None),
        _ratio("kill -9 to the next answer", times.forked_again, times.cold, f"{work}, against a cold start", 0.12),
        _ratio("kill -9 to the next answer", times.forked_again, times.spawned_again, against_spawned, None),
        _ratio(
            "pool, open",
            times.forked_pool,
            times.spawned_pool,
            f"{shared}, none warm, against spawned",
            0.15 if of_many else None,
        ),
        _ratio(
            "pool, CPU of opening",
            times.forked_cpu,
            times.spawned_cpu,
            f"{shared}, against spawned",
            0.15 if of_many else None,
        ),
        row_of(
            against(times.forked_memory, times.spawned_memory),
            name="memory of the plugins",
            work=f"{shared}, sum of PSS with the template's, against spawned",
            unit=RATIO,
            goal=0.35 if of_many else None,
            detail=f"{_each(times.forked_memory, plugins)} against {_each(times.spawned_memory, plugins)} MiB each",
        ),
        Row(
            name="idempotent calls unanswered",
            work=fire,
            value=times.unanswered,
            unit=f"of {len(times.calls)}",
            goal=0,
            detail=f"{times.kills} kills",
        ),
        Row(
            name="a call, p99",
            work=fire,
            value=p99,
            unit="ms",
            goal=150,
            strict=True,
            detail=f"median {statistics.median(times.calls) * 1e3:.1f} ms, worst {max(times.calls) * 1e3:.0f} ms",
        ),
    ]


def _each(memory: list[float], plugins: int) -> str:
    return f"{statistics.median(memory) / plugins / 2**20:.1f}"


def _ratio(name: str, ours: list[float], theirs: list[float], work: str, goal: float | None) -> Row:
    mine, other = (statistics.median(each) * 1e3 for each in (ours, theirs))
    detail = f"{mine:.0f} against {other:.0f} ms"
    return row_of(against(ours, theirs), name=name, work=work, unit=RATIO, goal=goal, detail=detail)

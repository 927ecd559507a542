"""A pool: what a lease costs over other libraries' pools, and what a killed slot costs its callers.

On links that cost nothing, one task acquires and releases; then a hundred tasks do on ten connections, each giving way
to the others once while it holds one. The pools take turns in one run, so a ratio can be trusted where a time cannot;
the rows are against the fastest of those that are installed. Fairness is told by a run that ends after a time: how many
leases the task with the most of them had for each of the one with the fewest.

On real plugins: all seven of the documented default pool are leased at once; the only slot is killed while one stands
by, and the next idempotent call is timed; fifty callers go on while one of two slots is killed every half second; and
calls that keep a core busy go through two plugins and through one, in turn. Then many are opened by one pool: how long
that takes, against the CPU time of one start, in the plugin and here, for each of them on all cores; what part of the
time in which a start has its turn its plugin neither runs nor waits for a core, which does not depend on what others do
on the machine; how late the loop runs what is due meanwhile; and how long closing takes.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.core import Progress, Row, against, row_of, turns
from benchmarks.leftovers import children
from benchmarks.peers import PEERS, SIZE, Acquire, installed
from benchmarks.plugin import COMMAND
from fsm_conn import CallOptions, Connection, ConnectionPool, Link, PoolPolicy, RetryPolicy
from fsm_conn.links.plugin.link import PluginLink
from fsm_conn.links.process.system import usable_cores

PAIRS = 2000
"""Leases of one task in one turn."""
TASKS = 100
EACH = 20
"""Leases of each task in one turn."""
IDEMPOTENT = CallOptions(idempotent=True, timeout=60)
BURNER = [sys.executable, "-m", "benchmarks.burner"]
ROUNDS = 400_000
"""Of the loop of one call that keeps a core busy: some 20 ms."""
BURNING = 240
"""Such calls of one turn, by eight callers."""


class Timed(PluginLink):
    """A plugin that notes which part of its turn among the starts its main thread has slept, or was not there yet."""

    slept: ClassVar[list[float]] = []

    @asynccontextmanager
    async def start_slot(self) -> AsyncIterator[None]:
        """As any plugin's."""
        async with super().start_slot():
            began = time.perf_counter()
            yield
            took = time.perf_counter() - began
            running, waiting = map(int, Path(f"/proc/{self.pid}/schedstat").read_text().split()[:2])
            self.slept.append(1 - (running + waiting) / 1e9 / took)


class Nothing(Link):
    """A link that costs nothing."""

    async def open(self) -> None:
        self.gone: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def close(self) -> None: ...

    async def lost(self) -> Exception:
        return await self.gone


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    found = asyncio.run(_side_by_side(5 if quick else 40, 0.5 if quick else 2.0, progress))
    found += asyncio.run(_on_plugins(5 if quick else 30, 3.0 if quick else 30.0, progress))
    found.append(asyncio.run(_busy_cores(2 if quick else 8, progress)))
    return found + asyncio.run(_many(8 if quick else 64, progress))


# --- on links that cost nothing -------------------------------------------------------------------------------------


async def _side_by_side(rounds: int, seconds: float, progress: Progress) -> list[Row]:
    alone: dict[str, list[float]] = {}
    crowded: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(ConnectionPool(Nothing, SIZE, 0))
        parts: dict[str, Acquire] = {"fsm_conn": pool.acquire}
        for name, make in installed().items():
            parts[name] = await stack.enter_async_context(make())
        for _, (name, acquire) in turns(tuple(parts.items()), rounds, progress, "leases"):
            alone.setdefault(name, []).append(await _alone(acquire))
            crowded.setdefault(name, []).append(await _crowded(acquire))
        fairness = await _fairness(pool.acquire, seconds)
    missing = sorted(set(PEERS) - set(parts))
    note = f"; not installed: {', '.join(missing)}" if missing else ""
    return [
        _against_the_fastest(alone, "acquire and release", "one task", 0.75, note),
        _against_the_fastest(crowded, "acquire and release, waiting", f"{TASKS} tasks on {SIZE}", 1 / 1.2, note),
        Row(
            name="fairness",
            work=f"{TASKS} tasks on {SIZE}: most leases of a task for the fewest",
            value=fairness[1] / fairness[0],
            unit="x",
            goal=1.01,
            detail=f"{fairness[0]} to {fairness[1]}",
        ),
    ]


def _against_the_fastest(times: dict[str, list[float]], name: str, work: str, goal: float, note: str) -> Row:
    medians = {peer: statistics.median(taken) for peer, taken in times.items()}
    told = ", ".join(f"{peer} {seconds * 1e6:.2f} us" for peer, seconds in medians.items())
    ours = times.pop("fsm_conn")
    if not times:
        return row_of([taken * 1e6 for taken in ours], name=name, work=work, unit="us", detail=told + note)
    fastest = min(times, key=medians.__getitem__)
    return row_of(
        against(ours, times[fastest]),
        name=name,
        work=f"{work}, against {fastest}",
        unit="x",
        goal=goal,
        detail=told + note,
    )


async def _alone(acquire: Acquire) -> float:
    began = time.perf_counter()
    for _ in range(PAIRS):
        async with acquire():
            pass
    return (time.perf_counter() - began) / PAIRS


async def _crowded(acquire: Acquire) -> float:
    async def use() -> None:
        for _ in range(EACH):
            async with acquire():
                await asyncio.sleep(0)

    began = time.perf_counter()
    await asyncio.gather(*(use() for _ in range(TASKS)))
    return (time.perf_counter() - began) / (TASKS * EACH)


async def _fairness(acquire: Acquire, seconds: float) -> tuple[int, int]:
    counts = [0] * TASKS
    end = time.perf_counter() + seconds

    async def use(number: int) -> None:
        while time.perf_counter() < end:
            async with acquire():
                await asyncio.sleep(0)
                counts[number] += 1

    await asyncio.gather(*map(use, range(TASKS)))
    return min(counts), max(counts)


# --- on real plugins ------------------------------------------------------------------------------------------------


async def _on_plugins(kills: int, seconds: float, progress: Progress) -> list[Row]:
    return [await _all_seven(), await _standby(kills, progress), await _under_fire(seconds)]


async def _all_seven() -> Row:
    async with ConnectionPool(COMMAND) as pool:
        began = time.perf_counter()
        leases = await asyncio.gather(*(_taken(pool) for _ in range(7)))
        took = time.perf_counter() - began
        for lease in leases:
            lease.release()
    return Row(
        name="the default pool, all leased at once",
        work="seven leases, two of them overflow that is started",
        value=took,
        unit="s",
        detail=f"{len(leases)} leased",
    )


async def _taken(pool: ConnectionPool) -> Any:
    return await pool.acquire(timeout=60)


async def _standby(kills: int, progress: Progress) -> Row:
    taken = []
    retry = RetryPolicy(stable_after=0.0)  # or a plugin that is killed every second is taken for one that cannot live
    async with ConnectionPool(COMMAND, 1, 0, policy=PoolPolicy(standby=1), retry=retry) as pool:
        for done in range(kills):
            progress.at(done, kills, "kills")
            while pool.get_pool_stats()["standby"] < 1:
                await asyncio.sleep(0.05)
            for slot in pool.slots:  # each plugin has been called: the first call looks its methods up
                await slot.conn.call("calculator.Add", a=1, b=2)
            victim: Any = next(slot for slot in pool.slots if slot.is_active).conn.link
            began = time.perf_counter()
            os.kill(victim.pid, signal.SIGKILL)
            await pool.call("calculator.Add", IDEMPOTENT, a=1, b=2)
            taken.append((time.perf_counter() - began) * 1e3)
    return row_of(
        taken, name="kill -9 to the next answer", work="one slot, one standby", unit="ms", goal=25, strict=True
    )


async def _under_fire(seconds: float) -> Row:
    end = time.monotonic() + seconds
    answered = failed = 0

    async def use(pool: ConnectionPool) -> None:
        nonlocal answered, failed
        while time.monotonic() < end:
            try:
                await pool.call("calculator.Add", IDEMPOTENT, a=1, b=2)
                answered += 1
            except Exception as error:
                failed += 1
                print(f"not answered: {error!r}")

    async with ConnectionPool(COMMAND, 2, 0, policy=PoolPolicy(standby=1)) as pool:
        callers = [asyncio.create_task(use(pool)) for _ in range(50)]
        while time.monotonic() < end:
            await asyncio.sleep(0.5)
            for slot in pool.slots:
                link: Any = slot.conn.link
                if slot.is_active and link is not None:
                    os.kill(link.pid, signal.SIGKILL)
                    break
        await asyncio.gather(*callers)
    return Row(
        name="calls that were not answered",
        work="50 callers, idempotent, a slot killed every 0.5 s",
        value=failed,
        unit="",
        goal=0,
        detail=f"{answered} answered in {seconds:g} s",
    )


async def _busy_cores(rounds: int, progress: Progress) -> Row:
    taken: dict[str, list[float]] = {"pool": [], "one": []}
    async with ConnectionPool(BURNER, 2, 0) as pool, Connection(BURNER) as conn:
        parts = (("pool", pool.call), ("one", conn.call))
        for _, call in parts:
            await _burn(call)  # the first call looks the method up
        for _, (name, call) in turns(parts, rounds, progress, "turns"):
            taken[name].append(await _burn(call))
    medians = {name: statistics.median(seconds) / BURNING * 1e3 for name, seconds in taken.items()}
    cores = usable_cores()
    return row_of(
        against(taken["pool"], taken["one"]),
        name="calls that keep a core busy",
        work=f"two plugins, against one, on {cores} cores",
        unit="x",
        goal=1 / 1.8 if cores >= 2 else None,
        detail=f"{medians['pool']:.1f} against {medians['one']:.1f} ms a call",
        why=(
            "A turn that is short ends raggedly, with one plugin waiting for the last calls of the "
            "other: with 40 calls a turn it was 0.53 to 0.60, with 240, as since then, 0.50 to 0.53. "
            "Two bare processes reached 0.51."
        ),
    )


async def _burn(call: Callable[..., Coroutine[Any, Any, Any]]) -> float:
    async def use(calls: int) -> None:
        for _ in range(calls):
            assert (await call("calculator.Add", a=0, b=ROUNDS)).result == ROUNDS

    began = time.perf_counter()
    await asyncio.gather(*(use(BURNING // 8) for _ in range(8)))
    return time.perf_counter() - began


# --- many at once ---------------------------------------------------------------------------------------------------


async def _many(count: int, progress: Progress) -> list[Row]:
    cores = usable_cores()
    one = statistics.median([await _cpu_of_one_start() for _ in range(5)])
    lags: list[float] = []
    Timed.slept.clear()
    pool = ConnectionPool(lambda: Timed(COMMAND), count, 0)
    watcher = asyncio.create_task(_watch(lags))
    began, taken = time.perf_counter(), _taken_by_others()
    await pool.initialize(lambda ready, of: progress.at(ready, of, "starts"))
    opening, taken = time.perf_counter() - began, _taken_by_others() - taken
    watcher.cancel()
    began = time.perf_counter()
    await pool.close_all()
    closing = time.perf_counter() - began
    work, least = f"{count} plugins on {cores} cores", one * count / cores
    return [
        Row(
            name="opening many",
            work=f"{work}, against the CPU time of their starts; without the time that others had the cores",
            value=max(0.0, opening - taken / cores) / least,
            unit="x",
            goal=1.15,
            detail=f"{opening:.2f} against {least:.2f} s; others had {taken / cores / opening:.0%} of the cores",
            why=(
                "What there is above 1 is that starts are slower beside one another than alone, by the caches that "
                "they share, and the part of its turn in which each plugin sleeps."
            ),
        ),
        Row(
            name="part of its turn that a start sleeps",
            work=f"{work}: its plugin neither runs nor waits for a core",
            value=statistics.median(Timed.slept),
            unit="",
            goal=0.1,
            detail=f"at most {max(Timed.slept):.3f}",
            why="It is not there yet, or waits for this process to connect to it.",
        ),
        Row(name="loop lag while opening many", work=work, value=max(lags) * 1e3, unit="ms", goal=100, strict=True),
        Row(name="closing many", work=work, value=closing, unit="s", goal=3),
        Row(name="processes left of many", work=work, value=len(children()), unit="", goal=0),
    ]


async def _cpu_of_one_start() -> float:
    """Seconds, of the plugin and of this process; what closing it takes is little, and part of it."""
    began = _cpu()
    async with ConnectionPool(COMMAND, 1, 0):
        pass
    return _cpu() - began


def _taken_by_others() -> float:
    """Seconds of the machine's cores so far that neither this process had nor its plugins, and that were not idle."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split(None, 9)[1:9])
    ours = 0
    for pid in children():
        with suppress(OSError):
            ours += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return (user + nice + system + irq + softirq + steal - ours) / os.sysconf("SC_CLK_TCK") - _cpu()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime + time.process_time()


async def _watch(lags: list[float]) -> None:
    """How much later than asked a sleep ends, again and again."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.01)
        lags.append(time.perf_counter() - began - 0.01)

"""Ten thousand connections in one loop, each losing its link again and again: what one costs, and how that grows.

In virtual time, on links that cost next to nothing: opening takes ten milliseconds, and within ten seconds every
connection loses its link once, all at different moments, and replaces it. What is taken is the CPU time of this process
for one loss made good, while a hundred, a thousand and ten thousand connections do so; and the memory of one that is
connected and has been through it, by tracemalloc, in a run of its own. The sizes take turns. A cost that grows
with the number of connections shows as a ratio above 1, of what one costs among ten thousand to what it costs among a
hundred. The garbage collector is on, as in an application.

What the loop itself makes of large numbers is told beside it: bare tasks, each of which waits for the same futures and
sleeps as long, under an `asyncio.timeout`, and does nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
import tracemalloc

from benchmarks.core import RATIO, Progress, Row, against, row_of, turns
from fsm_conn import Connection, ConnectionState, Link, LinkLostError, RetryPolicy, Trigger
from fsm_conn.testing.virtual import run_virtually

SIZES = (100, 1_000, 10_000)
PERIOD = 10.0
"""Seconds of virtual time in which every connection loses its link once."""
PERIODS = 3
OPENING = 0.01
"""Seconds of virtual time."""
LINEAR = 1.2
"""Among more than the caches of the processor hold, the same work takes a little longer."""
WHY = (
    "The work does not grow, the memory that it is spread over does. Counted by valgrind's cachegrind, a loss takes "
    "786,000 instructions among a hundred and 468,000 among five thousand, where losses share the rounds of the loop; "
    "but of what it touches, 14 lines are missing in a cache of 2 MB, such as this processor has, against 637. A "
    "connection has 7 kB: a hundred of them stay in the cache, and ten thousand do not. Beyond the cache the cost is "
    "level, as the growth from 1,000 to 10,000 shows. A tenth of all is the garbage collector."
)


class Thread(Link):
    """A link that hangs by a thread."""

    async def open(self) -> None:
        await asyncio.sleep(OPENING)
        self.torn: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def close(self) -> None: ...

    async def lost(self) -> Exception:
        return await self.torn


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    sizes, rounds = (SIZES[:2], 2) if quick else (SIZES, 5)
    costs: dict[int, list[float]] = {size: [] for size in sizes}
    bare: dict[int, list[float]] = {size: [] for size in sizes}
    for _, size in turns(sizes, rounds, progress, "flapping"):
        # Often for a small number, for what is short is measured badly.
        repeats = max(1, sizes[-1] // size // 5)
        costs[size].append(statistics.median(run_virtually(_cpu(size)) for _ in range(repeats)))
        bare[size].append(statistics.median(run_virtually(_bare(size)) for _ in range(repeats)))
    memory = {size: run_virtually(_memory(size)) for size in sizes}
    return _table(costs, bare, memory)


async def _cpu(number: int) -> float:
    """Microseconds of this process for one loss made good, in all it takes: noticing, closing, opening, records."""
    conns = _made(number)
    await asyncio.gather(*(conn.connect() for conn in conns))
    gc.collect()
    began = time.process_time()
    await _flap(conns)
    took = time.process_time() - began
    await _end(conns)
    return took / (number * PERIODS) * 1e6


async def _bare(number: int) -> float:
    """As `_cpu`, of tasks that have nothing but the futures and the timers."""
    loop = asyncio.get_running_loop()
    torn: list[asyncio.Future[None]] = [loop.create_future() for _ in range(number)]

    async def hang(index: int) -> None:
        while True:
            await torn[index]
            async with asyncio.timeout(PERIOD):
                await asyncio.sleep(OPENING)
            torn[index] = loop.create_future()

    tasks = [asyncio.create_task(hang(index)) for index in range(number)]
    await asyncio.sleep(1)
    gc.collect()
    began = time.process_time()
    for seed in range(PERIODS):
        for index in random.Random(seed).sample(range(number), number):
            torn[index].set_result(None)
            await asyncio.sleep(PERIOD / number)
    took = time.process_time() - began
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return took / (number * PERIODS) * 1e6


async def _memory(number: int) -> float:
    """Kilobytes of one that is connected, with its link, its tasks and its records."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        conns = _made(number)
        await asyncio.gather(*(conn.connect() for conn in conns))
        await _flap(conns)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await _end(conns)
    return (after - before) / number / 1000


def _made(number: int) -> list[Connection]:
    return [Connection(Thread, retry=RetryPolicy(max_attempts=None)) for _ in range(number)]


async def _flap(conns: list[Connection]) -> None:
    order = list(conns)
    for seed in range(PERIODS):
        random.Random(seed).shuffle(order)
        for conn in order:
            link = conn.link
            assert isinstance(link, Thread), "a link was not replaced in time"
            link.torn.set_result(LinkLostError("it was torn"))
            await asyncio.sleep(PERIOD / len(order))
    await asyncio.sleep(1)


async def _end(conns: list[Connection]) -> None:
    """See that all has happened that was to be measured, and give back everything."""
    for conn in conns:
        assert conn.state == ConnectionState.CONNECTED, "a link was not replaced"
        assert sum(record.trigger == Trigger.LOST for record in conn.history) == PERIODS, "a link was not lost"
    await asyncio.gather(*(conn.disconnect() for conn in conns))


def _table(costs: dict[int, list[float]], bare: dict[int, list[float]], memory: dict[int, float]) -> list[Row]:
    work = f"each lost {PERIODS} times in {PERIODS * PERIOD:g} s, virtual time"
    found = []
    for size, taken in costs.items():
        found += [
            row_of(taken, name=f"a loss made good, of {size:,}", work=work, unit="us"),
            Row(name=f"memory of a connection, of {size:,}", work=f"{work}, connected", value=memory[size], unit="kB"),
        ]
    few, many = min(costs), max(costs)
    grown = _sides(many, few)
    return [
        *found,
        _growth("growth of the CPU time of a loss", costs, grown, LINEAR, WHY),
        *(
            _growth("its growth beyond the cache", {size: costs[size], many: costs[many]}, _sides(many, size), LINEAR)
            for size in sorted(costs)[1:-1]
        ),
        _growth("the same of bare tasks with the same timers", bare, grown, None, "It is asyncio's own growth."),
        Row(
            name="growth of the memory of a connection",
            work=grown,
            value=memory[many] / memory[few],
            unit=RATIO,
            goal=LINEAR,
            detail=f"{memory[many]:.1f} against {memory[few]:.1f} kB",
        ),
    ]


def _sides(many: int, few: int) -> str:
    return f"{many:,} against {few:,}"


def _growth(name: str, costs: dict[int, list[float]], work: str, goal: float | None, why: str = "") -> Row:
    few, many = costs[min(costs)], costs[max(costs)]
    return row_of(
        against(many, few),
        name=name,
        work=work,
        unit=RATIO,
        goal=goal,
        detail=f"{statistics.median(many):.0f} against {statistics.median(few):.0f} us",
        why=why,
    )

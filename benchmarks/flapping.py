"""Ten thousand connections in one loop, each losing its link again and again: what one costs, and how that grows.

In virtual time, on links that cost next to nothing: opening takes ten milliseconds, and within ten seconds every
connection loses its link once, all at different moments, and replaces it. What is taken is the CPU time of this process
for one loss made good, while a hundred, a thousand and ten thousand connections do so; and the memory of one that is
connected and has been through it, by tracemalloc, in a run of its own. The sizes take turns. A cost that grows
with the number of connections shows as a ratio above 1, of what one costs among many to what it costs among few.

The garbage collector is on, as in an application, and it comes by the number of what was made and kept, not by the
time: so every size makes good the same number of losses, a hundred connections a hundred times as many each as ten
thousand. And every size begins with histories that are full, as they are when an application has run for a while: then
a loss makes as many objects as it ends. Otherwise a hundred connections would fill their histories in the first tenth
of the run, and ten thousand would be at it until its end. What that costs is a row of its own.

The loop is asyncio's own, with a clock that jumps: the one of the test harness keeps a reference of its own to each
task, which an application does not have.

What the loop itself makes of large numbers is told beside it: bare tasks, each of which waits for the same futures and
sleeps as long, under an `asyncio.timeout`, and does nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import selectors
import statistics
import time
import tracemalloc
from collections.abc import Coroutine
from typing import Any

from benchmarks.core import RATIO, Progress, Row, against, row_of, turns
from fsm_conn import Connection, ConnectionState, Link, LinkLostError, RetryPolicy, Trigger

SIZES = (100, 1_000, 10_000)
PERIOD = 10.0
"""Seconds of virtual time in which every connection loses its link once."""
PERIODS = 3
"""How many times the connections of the largest size do so; those of the others more often, as they are fewer."""
SHORT, FILLING = 4, 2
"""The records of a short history, and the losses after which it holds what it will always hold."""
OPENING = 0.01
"""Seconds of virtual time."""
LINEAR = 1.1
"""Among more than the caches of the processor hold, the same work takes a little longer."""
KILOBYTES = 4
WHY = (
    "The work does not grow. It finds less in the processor's caches, and how much less depends on who else uses them."
)
FILL = (
    "While histories fill, each loss leaves an error, and the garbage collector comes by that number: a hundred times "
    "in 30,000 losses, nine of them for what it has seen before. It looks at the thirteen objects that each loss "
    "leaves in the place of what it ends. Five of them are ours: the error, the traffic of the new link, and the "
    "context of the activity, which is three; the link makes four, and asyncio the rest. The histories of a hundred "
    "connections are full after 3,000 losses, and it stays away."
)
BYTES = (
    "Some 1.3 kB of them are of asyncio: the task of the activity, with its coroutines, contexts, future and entry "
    "in the set of all tasks. The records of eight transitions, and the errors that three of them tell of, are 1.3 "
    "kB. The connection with its parts is 1.1 kB; the rest is the link of this benchmark."
)


class _Selector(selectors.SelectSelector):
    """Waits for nothing: the clock jumps to the next timer."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits"
        self.now = round(self.now + max(timeout, 0.0), 6)
        return []


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's own, in virtual time."""

    def __init__(self) -> None:
        self._jumps = _Selector()
        super().__init__(self._jumps)
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._jumps.now


def _run(main: Coroutine[Any, Any, float]) -> float:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


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
    filling: dict[int, list[float]] = {size: [] for size in (sizes[0], sizes[-1])}
    for _, size in turns(sizes, rounds, progress, "flapping"):
        periods = PERIODS * sizes[-1] // size
        costs[size].append(_run(_cpu(size, periods)))
        bare[size].append(_run(_bare(size, periods)))
        if size in filling:
            filling[size].append(_run(_cpu(size, periods, fills=True)))
    memory = {size: _run(_memory(size)) for size in sizes}
    return _table(costs, bare, filling, memory)


async def _cpu(number: int, periods: int, *, fills: bool = False) -> float:
    """Microseconds of this process for one loss made good, in all it takes: noticing, closing, opening, records."""
    conns = _made(number) if fills else _made(number, SHORT)
    await asyncio.gather(*(conn.connect() for conn in conns))
    if not fills:
        await _flap(conns, FILLING)
    gc.collect()
    began = time.process_time()
    await _flap(conns, periods)
    took = time.process_time() - began
    await _end(conns, periods)
    return took / (number * periods) * 1e6


async def _bare(number: int, periods: int) -> float:
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
    order = random.Random(0).sample(range(number), number)
    for _ in range(periods):
        for index in order:
            torn[index].set_result(None)
            await asyncio.sleep(PERIOD / number)
    took = time.process_time() - began
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return took / (number * periods) * 1e6


async def _memory(number: int) -> float:
    """Kilobytes of one that is connected, with its link, its tasks and its records."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        conns = _made(number)
        await asyncio.gather(*(conn.connect() for conn in conns))
        await _flap(conns, PERIODS)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await _end(conns, PERIODS)
    return (after - before) / number / 1000


def _made(number: int, history: int = Connection.history_size) -> list[Connection]:
    """With a policy by which each loss is an outage of its own, or they would come to wait longer and longer."""
    policy = RetryPolicy(max_attempts=None, stable_after=PERIOD / 2)
    return [Connection(Thread, retry=policy, history=history) for _ in range(number)]


async def _flap(conns: list[Connection], periods: int) -> None:
    order = random.Random(0).sample(conns, len(conns))
    for _ in range(periods):
        for conn in order:
            link = conn.link
            assert isinstance(link, Thread), "a link was not replaced in time"
            link.torn.set_result(LinkLostError("it was torn"))
            await asyncio.sleep(PERIOD / len(order))
    await asyncio.sleep(1)


async def _end(conns: list[Connection], periods: int) -> None:
    """See that all has happened that was to be measured, and give back everything."""
    for conn in conns:
        assert conn.state == ConnectionState.CONNECTED, "a link was not replaced"
        lost = sum(record.trigger == Trigger.LOST for record in conn.history)
        assert lost == min(periods, len(conn.history) // 2), "a link was not lost"
    await asyncio.gather(*(conn.disconnect() for conn in conns))


def _table(
    costs: dict[int, list[float]],
    bare: dict[int, list[float]],
    filling: dict[int, list[float]],
    memory: dict[int, float],
) -> list[Row]:
    sizes = sorted(costs)
    few, many = sizes[0], sizes[-1]
    found = []
    for size in sizes:
        times = PERIODS * many // size
        work = f"each lost {times:,} times in {times * PERIOD:,.0f} s, virtual time"
        found.append(row_of(costs[size], name=f"a loss made good, of {size:,}", work=work, unit="us"))
    for size in sizes:
        work = f"each lost {PERIODS} times, connected"
        found.append(
            Row(
                name=f"memory of a connection, of {size:,}",
                work=work,
                value=memory[size],
                unit="kB",
                goal=KILOBYTES,
                why=BYTES,
            )
        )
    steps = [*itertools.pairwise(sizes), (few, many)] if len(sizes) > 2 else [(few, many)]
    growth = "growth of the CPU time of a loss"
    bare_growth = "the same of bare tasks with the same timers"
    return [
        *found,
        *(_growth(growth, costs[many], costs[few], _sides(many, few), LINEAR, WHY) for few, many in steps),
        _growth(f"{growth}, histories filling", filling[many], filling[few], _sides(many, few), LINEAR, FILL),
        _growth(bare_growth, bare[many], bare[few], _sides(many, few), None, "It is asyncio's own growth."),
        Row(
            name="growth of the memory of a connection",
            work=_sides(many, few),
            value=memory[many] / memory[few],
            unit=RATIO,
            goal=LINEAR,
            detail=f"{memory[many]:.1f} against {memory[few]:.1f} kB",
        ),
    ]


def _sides(many: int, few: int) -> str:
    return f"{many:,} against {few:,}"


def _growth(name: str, many: list[float], few: list[float], work: str, goal: float | None, why: str = "") -> Row:
    return row_of(
        against(many, few),
        name=name,
        work=work,
        unit=RATIO,
        goal=goal,
        detail=f"{statistics.median(many):.0f} against {statistics.median(few):.0f} us",
        why=why,
    )

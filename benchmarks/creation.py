"""100,000 connections made and dropped with the garbage collector off: time, memory, and whether all are freed.

Each is `Connection(command)` with the command of a plugin. Time: made and dropped one after another, in lots, without
anything that traces. Memory: all made and held at once; what the allocator handed out meanwhile, by tracemalloc,
divided by their number, the list's own slots aside. Freed: weak references to all of them must be dead when
they are dropped, by reference counting alone, and a collection afterwards must find nothing.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
import weakref

from benchmarks.core import Progress, Row, row_of
from benchmarks.plugin import COMMAND
from fsm_conn import Connection

TOTAL = 100_000
LOTS = 20


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure. The number is part of the work, so `quick` makes as many, but a tenth of them held."""
    gc.collect()
    gc.disable()
    try:
        return _measured(TOTAL // 10 if quick else TOTAL, progress)
    finally:
        gc.enable()


def _measured(held: int, progress: Progress) -> list[Row]:
    work = f"{TOTAL:,} made and dropped, gc off"
    _lot(1000)
    times = []
    for done in range(LOTS):
        progress.at(done, LOTS + 1)
        times.append(_lot(TOTAL // LOTS))
    garbage = gc.collect()
    kilobytes, alive = _held(held)
    return [
        row_of(times, name="a connection made and dropped", work=work, unit="us", goal=25),
        Row(name="memory of a connection", work=f"{held:,} made and held", value=kilobytes, unit="kB", goal=2),
        Row(
            name="not freed",
            work=f"{work}; {held:,} held, then dropped",
            value=alive + garbage,
            unit=f"of {TOTAL + held:,}",
            goal=0,
            detail=f"{garbage} objects found by a collection",
        ),
    ]


def _lot(number: int) -> float:
    """Microseconds for one."""
    began = time.perf_counter()
    for _ in range(number):
        Connection(COMMAND)
    return (time.perf_counter() - began) / number * 1e6


def _held(number: int) -> tuple[float, int]:
    """The kilobytes of one, and how many are still alive after all were dropped."""
    conns: list[Connection] = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        conns += [Connection(COMMAND) for _ in range(number)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = (after - before - sys.getsizeof(conns)) / number / 1000
    references = [weakref.ref(conn) for conn in conns]
    del conns
    return size, sum(reference() is not None for reference in references)

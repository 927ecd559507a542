"""What a plugin costs in this process, in memory, threads and descriptors, while sixty-four of them are open.

All are opened by one pool; each answers a call, so that everything which is made on first use is there. Memory is what
the system counts as this process's own and not a file's (`RssAnon`), less what it was before, divided by their number;
the plugins' own processes are not in it. Everything was opened and closed once before, so what is imported or cached
once is not in it either, and of the threads only those that come with more plugins. Then all are closed, and what is
still held is told.

How the loop fares while sixty-four start is a row of `pool.py`, and of `many.py` for sixteen without a pool.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import attrs

from benchmarks.core import Progress, Row
from benchmarks.leftovers import descriptors
from benchmarks.plugin import COMMAND
from fsm_conn import ConnectionPool

PLUGINS = 64
FEW = 4
"""Opened before, for all that is made once."""
SETTLE = 0.5
"""Seconds for threads of gRPC to do what they do afterwards."""


@attrs.frozen
class Held:
    """What this process holds."""

    kilobytes: float
    threads: int
    descriptors: int

    def per(self, number: int, before: Held) -> Held:
        """What has come since, for each of so many."""
        return Held(
            (self.kilobytes - before.kilobytes) / number,
            self.threads - before.threads,
            self.descriptors - before.descriptors,
        )


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    return asyncio.run(_measured(8 if quick else PLUGINS, progress))


async def _measured(plugins: int, progress: Progress) -> list[Row]:
    await _opened(FEW, progress)
    return _table(plugins, *await _opened(plugins, progress))


async def _opened(number: int, progress: Progress) -> tuple[Held, Held]:
    """What each costs while so many are open and have been called, and what is left of it when they are closed."""
    before = _now()
    pool = ConnectionPool(COMMAND, number, 0)
    try:
        await pool.initialize(lambda ready, of: progress.at(ready, of, "starts"))
        leases = [await pool.acquire() for _ in range(number)]
        await asyncio.gather(*(lease.call("calculator.Add", a=1, b=2) for lease in leases))
        for lease in leases:
            lease.release()
        del leases, lease
        await asyncio.sleep(SETTLE)
        while_open = _now().per(number, before)
    finally:
        await pool.close_all()
    del pool
    await asyncio.sleep(SETTLE)
    return while_open, _now().per(number, before)


def _now() -> Held:
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Held(int(status["RssAnon"].split()[0]), int(status["Threads"]), descriptors().total())


def _table(plugins: int, many: Held, left: Held) -> list[Row]:
    work = f"{plugins} plugins of one pool"
    return [
        Row(
            name="memory of the host for a plugin",
            work=f"{work}, open",
            value=many.kilobytes,
            unit="KiB",
            detail=f"{many.threads} more threads, {many.descriptors} more descriptors, for all",
        ),
        Row(
            name="memory held after the close, for a plugin",
            work=f"{work}, closed",
            value=left.kilobytes,
            unit="KiB",
            detail=f"{left.threads} more threads, {left.descriptors} more descriptors, for all",
        ),
        Row(name="descriptors left after the close", work=f"{work}, closed", value=left.descriptors, unit="", goal=0),
    ]

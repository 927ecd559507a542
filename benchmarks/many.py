"""Sixteen plugins connected at once: whether all come up, and what the rest of the program feels of it.

All sixteen `connect()` are called at the same moment, in one event loop; then each makes a call, they stay open for a
second, and are closed together. From the first to the last moment one task sleeps for 5 ms again and again, and how
much later it wakes is the loop's lag; another calls `asyncio.to_thread` with an empty function again and again, with
the default executor as it is. Of each round the worst of either counts. The first round runs in an interpreter that has
imported neither grpc nor pyvider, as an application's first connections do; it stands in a row of its own.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import attrs

from benchmarks.core import Progress, Row, row_of
from benchmarks.leftovers import Leftovers
from benchmarks.plugin import COMMAND
from fsm_conn import Connection

PLUGINS = 16
BEAT = 0.005
STAY = 1.0
LIMIT = 120.0
"""Seconds for one round."""

FRESH = (
    "grpc is imported in a thread meanwhile, and its compiled part holds the interpreter's lock while the system loads "
    "it: one stall, as long as that takes on this machine. Who cannot have it imports `grpc.aio` when it starts."
)


@attrs.define
class Round:
    """What one round has shown; times in seconds."""

    up: int = 0
    left: int = 0
    took: float = 0.0
    lags: list[float] = attrs.field(factory=list)
    threads: list[float] = attrs.field(factory=list)


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    rounds = 2 if quick else 6
    seen = []
    for done in range(rounds):
        progress.at(done, rounds)
        seen.append(asyncio.run(_round()))
    return _table(seen)


async def _round() -> Round:
    seen, before = Round(), Leftovers()
    watchers = [asyncio.create_task(_beat(seen.lags)), asyncio.create_task(_thread(seen.threads))]
    await asyncio.sleep(BEAT * 10)
    try:
        async with asyncio.timeout(LIMIT), AsyncExitStack() as stack:
            conns = [Connection(COMMAND, name=f"plugin {number}") for number in range(PLUGINS)]
            began = time.perf_counter()
            stack.push_async_callback(_all, [conn.disconnect() for conn in conns])
            await _all([conn.connect() for conn in conns])
            seen.took = time.perf_counter() - began
            replies = await _all([conn.call("calculator.Add", a=number, b=1) for number, conn in enumerate(conns)])
            seen.up = sum(reply.result == number + 1 for number, reply in enumerate(replies))
            await asyncio.sleep(STAY)
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.wait(watchers)
    seen.left = (await before.after(1.0))["processes"]
    return seen


async def _all(wanted: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    return await asyncio.gather(*wanted)


async def _beat(lags: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(BEAT)
        lags.append(time.perf_counter() - began - BEAT)


async def _thread(taken: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.to_thread(lambda: None)
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(BEAT)


def _table(seen: list[Round]) -> list[Row]:
    work = f"{PLUGINS} plugins connected, open and closed together"
    first, *later = seen
    total = PLUGINS * len(seen)
    return [
        Row(
            name="not up",
            work=work,
            value=total - sum(each.up for each in seen),
            unit=f"of {total}",
            goal=0,
            repeats=len(seen),
            detail=f"all up after {statistics.median(each.took for each in seen):.1f} s",
        ),
        _worst("loop lag at worst", work, [each.lags for each in later]),
        _worst("asyncio.to_thread at worst", work, [each.threads for each in later]),
        _worst("loop lag, first in a fresh interpreter", work, [first.lags], FRESH),
        Row(
            name="processes left after the close",
            work=work,
            value=sum(each.left for each in seen),
            unit="",
            goal=0,
            repeats=len(seen),
        ),
    ]


def _worst(name: str, work: str, rounds: list[list[float]], why: str = "") -> Row:
    usual = statistics.median(sample for samples in rounds for sample in samples)
    return row_of(
        [max(samples) * 1e3 for samples in rounds],
        name=name,
        work=work,
        unit="ms",
        goal=100,
        strict=True,
        detail=f"median {usual * 1e3:.1f} ms, worst of all {max(map(max, rounds)) * 1e3:.0f} ms",
        why=why,
    )

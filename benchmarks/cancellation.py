"""`connect()` cancelled at moments spread evenly over a whole start, and what is left of the attempt.

First a few starts are timed. Then the time of a start is divided into equal parts, and in the middle of each a fresh
`connect()` is cancelled; one that came up before its moment is closed, and tried again at a slightly earlier one. Most
of a start is waiting for the plugin's interpreter, so half as many moments again are spread over its last tenth, where
the channel is made. As soon as the cancelled `connect()` has ended, and once more when there was time to settle, the
processes, asyncio tasks, descriptors and files are counted that were not there before, and the state is looked at. The
garbage collector is off: what only a collection would give back counts as left.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections import Counter
from contextlib import suppress

import attrs

from benchmarks.core import Progress, Row, row_of
from benchmarks.leftovers import Leftovers
from benchmarks.plugin import COMMAND
from fsm_conn import Connection, ConnectionState

SETTLE = 1.0
"""Seconds for what ends by itself, such as the threads of gRPC that close a socket."""
TRIES = 8
"""How often one moment is tried, when starts became faster than they were."""


@attrs.define
class Outcome:
    """What was seen at all moments together."""

    cancelled: int = 0
    elsewhere: int = 0
    """Connections whose state was not `disconnected`."""
    at_once: Counter[str] = attrs.field(factory=Counter)
    settled: Counter[str] = attrs.field(factory=Counter)
    took: list[float] = attrs.field(factory=list)
    """Seconds from the cancellation to the end of the caller."""


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    spread = 10 if quick else 30
    moments = [*_spread(0.0, 1.0, spread), *_spread(0.9, 1.0, spread // 2)]
    gc.disable()
    try:
        return _table(asyncio.run(_measured(moments, progress)), len(moments))
    finally:
        gc.enable()


def _spread(begin: float, end: float, number: int) -> list[float]:
    return [begin + (end - begin) * (index + 0.5) / number for index in range(number)]


async def _measured(moments: list[float], progress: Progress) -> Outcome:
    await _start()
    whole = statistics.median([await _start() for _ in range(3)])
    outcome = Outcome()
    for number, moment in enumerate(moments):
        progress.at(number, len(moments))
        gc.collect()
        await _at(moment * whole, outcome)
    return outcome


async def _at(moment: float, outcome: Outcome) -> None:
    for _ in range(TRIES):
        if await _cancelled(moment, outcome):
            break
        moment *= 0.95


async def _start() -> float:
    conn = Connection(COMMAND)
    began = time.perf_counter()
    async with conn:
        return time.perf_counter() - began


async def _cancelled(moment: float, outcome: Outcome) -> bool:
    """Cancel one start after `moment` seconds. False: it was up before."""
    before = Leftovers()
    conn = Connection(COMMAND)
    caller = asyncio.create_task(conn.connect())
    try:
        await asyncio.wait({caller}, timeout=moment)
        if not caller.cancel():
            return False
        began = time.perf_counter()
        with suppress(asyncio.CancelledError):
            await caller
        if not caller.cancelled():
            return False
        outcome.took.append(time.perf_counter() - began)
        outcome.cancelled += 1
        outcome.elsewhere += conn.state != ConnectionState.DISCONNECTED
        outcome.at_once.update(before.count())
        outcome.settled.update(await before.after(SETTLE))
        return True
    finally:
        await conn.disconnect()


def _table(outcome: Outcome, moments: int) -> list[Row]:
    work = f"connect() cancelled at {outcome.cancelled} of {moments} moments of a start"
    detail = ", ".join(f"{count} {kind}" for kind, count in outcome.settled.items())
    return [
        Row(
            name="left after a cancelled connect()",
            work=work,
            value=outcome.settled.total(),
            unit="",
            goal=0,
            repeats=outcome.cancelled,
            detail=f"{detail}; before settling {outcome.at_once.total()}",
        ),
        Row(
            name="state other than disconnected",
            work=work,
            value=outcome.elsewhere + moments - outcome.cancelled,
            unit=f"of {moments}",
            goal=0,
            repeats=outcome.cancelled,
        ),
        row_of(
            [seconds * 1e3 for seconds in outcome.took],
            name="cancel to the end of the caller",
            work=work,
            unit="ms",
            detail=f"worst {max(outcome.took) * 1e3:.0f} ms",
        ),
    ]

"""What health tracking adds to a call: `HealthMonitoredClient` against `Connection`, on a link that answers at once.

Both are connected to the same kind of link, in memory, so that nothing but the tracking tells them apart: the record of
the call, its counts and latency, and the sign of life that spares a probe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.core import Progress, Row, row_of, turns
from fsm_conn import CallOptions, Connection, HealthMonitoredClient, Link

CALLS = 2000
"""Calls in one sample."""


class Echo(Link):
    """Answers every call at once."""

    async def open(self) -> None:
        """Be there."""

    async def close(self) -> None:
        """Be gone."""

    async def lost(self) -> Exception:
        """Never."""
        never: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        return await never

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """Answer."""
        return fields


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    return asyncio.run(_measured(20 if quick else 200, progress))


async def _measured(rounds: int, progress: Progress) -> list[Row]:
    times: dict[str, list[float]] = {"plain": [], "tracked": []}
    async with Connection(Echo) as plain, HealthMonitoredClient(Echo) as tracked:
        for _, (name, conn) in turns([("plain", plain), ("tracked", tracked)], rounds, progress):
            times[name].append(await _sample(conn))
    added = [tracked - plain for tracked, plain in zip(times["tracked"], times["plain"], strict=True)]
    return [
        row_of(
            added,
            name="health tracking",
            work="one call of HealthMonitoredClient, less one of Connection",
            unit="us",
            goal=5.0,
            why="It is a time and no ratio, so a busy machine stretches it: on one that was less busy it was 4.1 us.",
        )
    ]


async def _sample(conn: Connection) -> float:
    """Microseconds for one call."""
    began = time.perf_counter()
    for _ in range(CALLS):
        await conn.call("x.Y", a=1)
    return (time.perf_counter() - began) / CALLS * 1e6

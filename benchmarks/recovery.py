"""A plugin that is killed with -9: how soon that is noticed, and how soon the next call is answered.

In each round a connection with the default policy is opened, answers a call, and loses its plugin to SIGKILL; at the
same moment the next call is made, marked idempotent. The time to `reconnecting` is taken by an observer, the time to
the answer by the caller. In turn with that, pyvider-rpcplugin's own client is started once on the same command and
makes its first call on a compiled stub: one bare cold start, which is the least that a recovery could cost if noticing,
cleaning up and looking up the method were free. The connection's own cold start, to its first answered call, is taken
on the way. Both clients use TLS, which is the default of both; everything is imported and run once before the clock
starts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time

import attrs

from benchmarks.core import Progress, Row, against, row_of, turns
from benchmarks.plugin import COMMAND, bare_client, calculator_stub, pid_of
from fsm_conn import CallOptions, Connection, ConnectionState

PATIENT = CallOptions(idempotent=True, timeout=60)
PAUSE = 0.1
"""Seconds between two rounds, for what the last one left to the system."""


@attrs.define
class Times:
    """What was measured, in seconds."""

    bare: list[float] = attrs.field(factory=list)
    start: list[float] = attrs.field(factory=list)
    noticed: list[float] = attrs.field(factory=list)
    answered: list[float] = attrs.field(factory=list)


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    return _table(asyncio.run(_measured(4 if quick else 24, progress)))


async def _measured(rounds: int, progress: Progress) -> Times:
    times = Times()
    for part in (_bare, _ours):
        await part(Times())
    for _, part in turns((_bare, _ours), rounds, progress):
        await asyncio.sleep(PAUSE)
        await part(times)
    return times


async def _bare(times: Times) -> None:
    from fsm_conn.demo.calculator_pb2 import Operands

    began = time.perf_counter()
    async with bare_client() as client:
        await calculator_stub(client.grpc_channel).Add(Operands(a=1, b=2))
        times.bare.append(time.perf_counter() - began)


async def _ours(times: Times) -> None:
    noticed: list[float] = []
    conn = Connection(COMMAND)
    conn.on_state_change(ConnectionState.RECONNECTING, lambda old, new: noticed.append(time.perf_counter()))
    began = time.perf_counter()
    async with conn:
        await conn.call("calculator.Add", a=1, b=2)
        times.start.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        os.kill(pid_of(conn), signal.SIGKILL)
        await conn.call("calculator.Add", PATIENT, a=1, b=2)
        times.answered.append(time.perf_counter() - began)
        times.noticed.append(noticed[0] - began)


def _table(times: Times) -> list[Row]:
    bare, answered, start = (statistics.median(each) * 1e3 for each in (times.bare, times.answered, times.start))
    return [
        row_of(
            [seconds * 1e3 for seconds in times.noticed],
            name="kill -9 to reconnecting",
            work="one connection, seen by an observer",
            unit="ms",
            goal=20,
            strict=True,
            detail=f"worst {max(times.noticed) * 1e3:.1f} ms",
        ),
        row_of(
            against(times.answered, times.bare),
            name="kill -9 to the next answer",
            work="against one cold start and call of the bare client",
            unit="x",
            goal=1.15,
            detail=f"{answered:.0f} against {bare:.0f} ms",
        ),
        row_of(
            against(times.start, times.bare),
            name="cold start to the first answer",
            work="against the same of the bare client",
            unit="x",
            detail=f"{start:.0f} against {bare:.0f} ms",
        ),
    ]

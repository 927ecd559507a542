"""A plugin that is killed with -9, and a cold start: against what is done by hand with the client underneath.

In each round a connection with the default policy is opened, answers a call, and loses its plugin to SIGKILL; at the
same moment the next call is made, marked idempotent. The time to `reconnecting` is taken by an observer, the time to
the answer by the caller. A pool of one slot and one standby has the same done to it. In turn with these,
pyvider-rpcplugin's own client is started on the same command, makes its call on a compiled stub, and loses its plugin
too; its user calls again, is told UNAVAILABLE, closes that client, makes and starts another one, and calls once more.
That is what a program without fsm_conn has to do.

On the way, cold starts are timed on both sides, to the first answered call, and whole lives: start, call, close; and
the CPU that such a start costs this process, which is all that passes beside the plugin's own start. One
cold start is the least that a recovery without a standby could cost, if noticing, cleaning up and looking up the method
were free. Both clients use TLS, which is the default of both; everything is imported and run once before the clock
starts. What the bare client's close takes is beside the point of a cold start, but not of a life.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from contextlib import AsyncExitStack
from typing import Any

import attrs

from benchmarks.core import RATIO, Progress, Row, against, row_of, turns
from benchmarks.plugin import COMMAND, bare_client, calculator_stub, pid_of
from fsm_conn import CallOptions, Connection, ConnectionPool, ConnectionState, PoolPolicy

PATIENT = CallOptions(idempotent=True, timeout=60)
START = (
    "Beside the start itself, which is the same on both sides, the new plugin is asked for its services "
    "by reflection on its first call, some 5 ms, where the other side has a compiled stub; `services=` spares that."
)
"""Why ours may be behind."""
AGAIN = f"{START} Before it, the end of the old process is seen and its link closed, some 5 ms."
CLOSE = (
    f"{START} And at the end the plugin is asked to go, so that it can finish its work: the server of "
    "pyvider-rpcplugin lets 100 ms pass between that question and its end. The bare client does not ask, but sends "
    "SIGTERM at once."
)
PAUSE = 0.1
"""Seconds between two rounds, for what the last one left to the system."""


@attrs.define
class Times:
    """What was measured, in seconds."""

    bare: list[float] = attrs.field(factory=list)
    bare_life: list[float] = attrs.field(factory=list)
    by_hand: list[float] = attrs.field(factory=list)
    start: list[float] = attrs.field(factory=list)
    start_cpu: list[float] = attrs.field(factory=list)
    life: list[float] = attrs.field(factory=list)
    noticed: list[float] = attrs.field(factory=list)
    answered: list[float] = attrs.field(factory=list)
    standby: list[float] = attrs.field(factory=list)


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    return _table(asyncio.run(_measured(4 if quick else 24, progress)))


async def _measured(rounds: int, progress: Progress) -> Times:
    times = Times()
    parts = (_bare_life, _life, _by_hand, _recovered, _standing_by)
    for part in parts:
        await part(Times())
    for _, part in turns(parts, rounds, progress):
        await asyncio.sleep(PAUSE)
        await part(times)
    return times


async def _bare_life(times: Times) -> None:
    began = time.perf_counter()
    async with bare_client() as client:
        await _add(client)
        times.bare.append(time.perf_counter() - began)
    times.bare_life.append(time.perf_counter() - began)


async def _life(times: Times) -> None:
    began, before = time.perf_counter(), time.process_time()
    async with Connection(COMMAND) as conn:
        await conn.call("calculator.Add", a=1, b=2)
        times.start.append(time.perf_counter() - began)
        times.start_cpu.append(time.process_time() - before)
    times.life.append(time.perf_counter() - began)


async def _add(client: Any) -> None:
    """A call on a compiled stub."""
    from fsm_conn.demo.calculator_pb2 import Operands

    assert (await calculator_stub(client.grpc_channel).Add(Operands(a=1, b=2))).result == 3


async def _by_hand(times: Times) -> None:
    import grpc.aio

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(bare_client())
        await _add(client)
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        os.kill(client._process.pid, signal.SIGKILL)
        try:
            await _add(client)
        except grpc.aio.AioRpcError:
            await stack.aclose()
            await _add(await stack.enter_async_context(bare_client()))
        else:
            raise AssertionError("a plugin that was killed has answered")
        times.by_hand.append(time.perf_counter() - began)


async def _standing_by(times: Times) -> None:
    async with ConnectionPool(COMMAND, 1, 0, policy=PoolPolicy(standby=1)) as pool:
        while pool.get_pool_stats()["standby"] < 1:
            await asyncio.sleep(PAUSE / 10)
        slots = list(pool.slots)
        for slot in slots:  # as above, each has answered a call before
            await slot.conn.call("calculator.Add", a=1, b=2)
        victim = pid_of(next(slot.conn for slot in slots if slot.is_active))
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        await pool.call("calculator.Add", PATIENT, a=1, b=2)
        times.standby.append(time.perf_counter() - began)


async def _recovered(times: Times) -> None:
    noticed: list[float] = []
    conn = Connection(COMMAND)
    conn.on_state_change(ConnectionState.RECONNECTING, lambda old, new: noticed.append(time.perf_counter()))
    async with conn:
        await conn.call("calculator.Add", a=1, b=2)
        await asyncio.sleep(PAUSE)
        began = time.perf_counter()
        os.kill(pid_of(conn), signal.SIGKILL)
        await conn.call("calculator.Add", PATIENT, a=1, b=2)
        times.answered.append(time.perf_counter() - began)
        times.noticed.append(noticed[0] - began)


def _table(times: Times) -> list[Row]:
    by_hand = "against closing the bare client and starting another"
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
        _ratio("kill -9 to the next answer", times.answered, times.by_hand, by_hand, 1.1, AGAIN),
        _ratio("kill -9 to the next answer, one standing by", times.standby, times.by_hand, by_hand, 0.2),
        _ratio(
            "kill -9 to the next answer", times.answered, times.bare, "against one cold start of the bare client", 1.15
        ),
        _ratio("cold start to the first answer", times.start, times.bare, "against the same of the bare client", 1.1),
        row_of(
            [seconds * 1e3 for seconds in times.start_cpu],
            name="cold start to the first answer",
            work="CPU of this process",
            unit="ms",
            goal=15,
            detail="all that is not the plugin's own start: certificates, the process, TLS, the handshake, reflection",
        ),
        _ratio("start, call, close", times.life, times.bare_life, "against the same of the bare client", 1.1, CLOSE),
        _closing(times),
    ]


def _closing(times: Times) -> Row:
    """What of a life is its end: it explains the row of the whole."""
    ours, theirs = (
        [(life - start) * 1e3 for life, start in zip(lives, starts, strict=True)]
        for lives, starts in ((times.life, times.start), (times.bare_life, times.bare))
    )
    return row_of(
        ours,
        name="close",
        work="of that: the plugin is asked to go, and ends",
        unit="ms",
        detail=f"the bare client, which sends SIGTERM: {statistics.median(theirs):.0f} ms",
    )


def _ratio(name: str, ours: list[float], theirs: list[float], work: str, goal: float, why: str = "") -> Row:
    mine, other = (statistics.median(each) * 1e3 for each in (ours, theirs))
    return row_of(
        against(ours, theirs),
        name=name,
        work=work,
        unit=RATIO,
        goal=goal,
        detail=f"{mine:.0f} against {other:.0f} ms",
        why=why,
    )

"""A unary call on an open connection, against a compiled stub on a plain grpc.aio channel to the same plugin.

The work is one sequential caller adding two numbers. `conn.call("calculator.Add", a=..., b=...)`, a compiled stub from
`conn.stub(...)` and a compiled stub on a plain channel take turns in blocks of a few calls; a block counts as the
median of its calls, and the ratio is that of neighbouring blocks. The plain channel leads to the same socket of the
same process and uses TLS exactly when the connection does, so that only the client's side differs; all of it is done
once with TLS, which is the default, and once without, where a call is cheaper and the same overhead weighs more.
Making the request message is part of every call.

Two channels to one server are never quite alike: one may be faster than the other by a percent for as long as both
live. So everything is repeated with new plugins and channels, and a second plain channel is measured as if it were
ours: how far its ratio is from 1, and how far it spreads, is what this method cannot tell apart.

Beside the time there is the CPU that a call costs this process, gRPC's threads included, in longer blocks.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.core import Progress, Row, against, row_of, turns
from benchmarks.plugin import CHANCE, COMMAND, calculator_stub, plain_channel
from fsm_conn import Connection

BLOCK = 10
"""Calls in a row, before the next one takes its turn."""
CPU_ROUNDS, CPU_BLOCK = 20, 50
"""The same for the CPU of this process, whose clock is coarser."""
GOALS = {"conn.call": 1.03, "conn.stub": 1.01, "second plain channel": None}

OURS = (
    "On the way to the channel lie 1.6 us of `conn.call`, or as much of `conn.stub`: about a hundredth of a call. What "
    "is more is chance, as the second plain channel shows."
)

Call = Callable[[float], Awaitable[object]]
Times = dict[str, list[float]]
"""Microseconds of each block, by the way of the calls."""


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure with TLS and without."""
    plugins, rounds = (1, 50) if quick else (6, 100)
    return [row for mtls in (None, False) for row in _measured(mtls, plugins, rounds, progress)]


def _measured(mtls: bool | None, plugins: int, rounds: int, progress: Progress) -> list[Row]:
    what = "without TLS" if mtls is False else "with TLS"
    times: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for number in range(plugins):
        found = asyncio.run(_on_one_plugin(mtls, rounds, progress, f"{what}, plugin {number + 1} of {plugins}"))
        for all_, some in zip((times, cpu), found, strict=True):
            for name, taken in some.items():
                all_.setdefault(name, []).extend(taken)
    return [*_table(times, what, ""), *_table(cpu, what, "CPU of this process, ")]


async def _on_one_plugin(mtls: bool | None, rounds: int, progress: Progress, what: str) -> tuple[Times, Times]:
    async with Connection(COMMAND, mtls=mtls) as conn, AsyncExitStack() as stack:
        calls = await _calls(conn, stack)
        await _blocks(calls, 10, _block, progress, f"{what}, warming up")
        times = await _blocks(calls, rounds, _block, progress, what)
        return times, await _blocks(calls, CPU_ROUNDS, _cpu_block, progress, f"{what}, CPU")


async def _calls(conn: Connection, stack: AsyncExitStack) -> dict[str, Call]:
    from fsm_conn.demo.calculator_pb2 import Operands

    def through(stub: Any) -> Call:
        add = stub.Add
        return lambda a: add(Operands(a=a, b=2))

    plain, other = [calculator_stub(await stack.enter_async_context(plain_channel(conn))) for _ in range(2)]
    return {
        "plain": through(plain),
        "conn.call": lambda a: conn.call("calculator.Add", a=a, b=2),
        "conn.stub": through(conn.stub(calculator_stub)),
        "second plain channel": through(other),
    }


async def _blocks(
    calls: dict[str, Call], rounds: int, block: Callable[[Call], Awaitable[float]], progress: Progress, what: str
) -> Times:
    times: Times = {name: [] for name in calls}
    for _, (name, call) in turns(list(calls.items()), rounds, progress, what):
        times[name].append(await block(call))
    return times


async def _block(call: Call) -> float:
    """The median time of a call in one block, in microseconds."""
    taken = []
    for number in range(BLOCK):
        began = time.perf_counter()
        await call(number)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


async def _cpu_block(call: Call) -> float:
    """What a call of one block costs this process, in microseconds."""
    began = time.process_time()
    for number in range(CPU_BLOCK):
        await call(number)
    return (time.process_time() - began) / CPU_BLOCK * 1e6


def _table(times: Times, what: str, of_what: str) -> list[Row]:
    plain = times["plain"]
    return [
        row_of(
            against(times[name], plain),
            name=f"{name}, {what}",
            work=f"{of_what}unary call, against a compiled stub on a plain channel",
            unit="x",
            goal=goal,
            detail=f"{statistics.median(times[name]):.0f} against {statistics.median(plain):.0f} us",
            why=CHANCE if goal is None else OURS,
        )
        for name, goal in GOALS.items()
    ]

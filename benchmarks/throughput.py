"""Fifty callers at once, and streams: through a connection, against a compiled stub on a plain grpc.aio channel.

`calls.py` has one caller who waits for each answer; here the plugin, the loop and gRPC are kept busy, and what a call
costs on this side shows as calls a second. Three kinds of work: fifty tasks that add two numbers, one after another
each; one stream of answers read to its end; fifty such streams at once. Each is done by a compiled stub on a plain
channel, by the connection (`conn.call`, `conn.stream`), by `conn.stub`, and by a second plain channel, whose ratio says
what this method cannot tell apart. They take turns; a ratio is that of two neighbours. As in `calls.py` the plain
channels lead to the same process and socket, all of it is done with TLS and without, and with new plugins and channels.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.core import RATIO, Progress, Row, against, row_of, turns
from benchmarks.plugin import CHANCE, COMMAND, calculator_stub, plain_channel
from fsm_conn import Connection

CALLERS = 50
EACH = 4
"""Calls of each caller in one turn."""
LONG = 200
"""Messages of the one stream."""
SHORT = 8
"""Messages of each of fifty."""
GOAL = 1.1
SECOND = "a second plain channel"

Work = Callable[[], Awaitable[None]]
Times = tuple[float, float]
"""Seconds on the clock, and of CPU in this process."""
Key = tuple[str, str]
"""The work, and by what it is done."""


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure with TLS and without."""
    plugins, rounds = (1, 8) if quick else (4, 30)
    return [row for mtls in (None, False) for row in _measured(mtls, plugins, rounds, progress)]


def _measured(mtls: bool | None, plugins: int, rounds: int, progress: Progress) -> list[Row]:
    what = "without TLS" if mtls is False else "with TLS"
    times: dict[Key, list[Times]] = {}
    for number in range(plugins):
        found = asyncio.run(_on_one_plugin(mtls, rounds, progress, f"{what}, plugin {number + 1} of {plugins}"))
        for key, taken in found.items():
            times.setdefault(key, []).extend(taken)
    return [_row(times, work, way, what) for work, way in times if way != "plain"]


async def _on_one_plugin(mtls: bool | None, rounds: int, progress: Progress, what: str) -> dict[Key, list[Times]]:
    times: dict[Key, list[Times]] = {}
    async with Connection(COMMAND, mtls=mtls) as conn, AsyncExitStack() as stack:
        stubs = {
            "plain": calculator_stub(await stack.enter_async_context(plain_channel(conn))),
            "conn.stub": conn.stub(calculator_stub),
            SECOND: calculator_stub(await stack.enter_async_context(plain_channel(conn))),
        }
        works = {"the connection": _by_connection(conn)} | {name: _by_stub(stub) for name, stub in stubs.items()}
        for name in works["plain"]:
            ways = {way: works[way][name] for way in works}
            for _, (way, work) in turns(list(ways.items()), rounds + 2, progress, f"{what}, {name}"):
                times.setdefault((name, way), []).append(await _taken(work))
    return {key: taken[2:] for key, taken in times.items()}


def _by_stub(stub: Any) -> dict[str, Work]:
    from fsm_conn.demo.calculator_pb2 import Limit, Operands

    return _works(lambda a: stub.Add(Operands(a=a, b=2)), lambda limit: stub.Count(Limit(limit=limit)))


def _by_connection(conn: Connection) -> dict[str, Work]:
    return _works(
        lambda a: conn.call("calculator.Add", a=a, b=2), lambda limit: conn.stream("calculator.Count", limit=limit)
    )


def _works(add: Callable[[int], Awaitable[Any]], count: Callable[[int], Any]) -> dict[str, Work]:
    async def caller() -> None:
        for number in range(EACH):
            assert (await add(number)).result == number + 2

    async def reader(messages: int) -> None:
        last = 0
        async for reply in count(messages):
            last = reply.result
        assert last == messages

    async def all_callers() -> None:
        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    async def one_stream() -> None:
        await reader(LONG)

    async def all_streams() -> None:
        await asyncio.gather(*(reader(SHORT) for _ in range(CALLERS)))

    return {
        f"{CALLERS} callers, unary": all_callers,
        f"one stream of {LONG}": one_stream,
        f"{CALLERS} streams of {SHORT}": all_streams,
    }


MESSAGES = {
    f"{CALLERS} callers, unary": CALLERS * EACH,
    f"one stream of {LONG}": LONG,
    f"{CALLERS} streams of {SHORT}": CALLERS * SHORT,
}
"""How many answers each work is about."""


async def _taken(work: Work) -> Times:
    began = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def _row(times: dict[Key, list[Times]], work: str, way: str, what: str) -> Row:
    (ours, cpu), (plain, plain_cpu) = (tuple(zip(*times[work, each], strict=True)) for each in (way, "plain"))
    mine, other = (MESSAGES[work] / statistics.median(each) for each in (ours, plain))
    here = statistics.median(against(cpu, plain_cpu))
    return row_of(
        against(ours, plain),
        name=f"{work}: {way}, {what}",
        work="against a compiled stub on a plain channel",
        unit=RATIO,
        goal=None if way == SECOND else GOAL,
        detail=f"{mine:,.0f} against {other:,.0f} answers a second; CPU of this process {here:.2f} x",
        why=CHANCE if way == SECOND else "",
    )

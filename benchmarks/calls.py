"""A unary call on an open connection, against a compiled stub on a plain grpc.aio channel to the same plugin.

The work is one sequential caller adding two numbers. `conn.call("calculator.Add", a=..., b=...)`, a compiled stub from
`conn.stub(...)` and compiled stubs on two plain channels take turns in blocks of a few calls; a block counts as the
median of its calls, and the ratio is that of neighbouring blocks. The plain channels lead to the same socket of the
same process and use TLS exactly when the connection does, so that only the client's side differs; all of it is done
once with TLS, which is the default, and once without, where a call is cheaper and the same overhead weighs more.
Making the request message is part of every call.

The order of each round is drawn anew. Were it forwards and backwards in turn, the first and the last would follow
themselves every other time, on a channel that has just been used, and those between them never would.

Two channels to one server are never quite alike: one may be faster than the other by a percent for as long as both
live. So everything is repeated with new plugins and channels; ours is compared with either plain channel, each round
giving two ratios; and the second plain channel is compared with the first: how far that ratio is from 1 is what this
method cannot tell apart. Each row tells its standard error besides: a result within it of a goal has neither met nor
missed it for certain.

Beside the time there is the CPU that a call costs this process, gRPC's threads included, in longer blocks. And the CPU
that is ours alone: the same calls, with an answer at hand in the place of gRPC's.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from typing import Any

import attrs

from benchmarks.core import Progress, Row, against, quartiles, row_of
from benchmarks.plugin import CHANCE, COMMAND, calculator_stub, plain_channel
from fsm_conn import Connection

BLOCK = 10
"""Calls in a row, before the next one takes its turn."""
CPU_ROUNDS, CPU_BLOCK = 20, 50
"""The same for the CPU of this process, whose clock is coarser."""
PLAIN, SECOND = "plain", "second plain channel"
GOALS = {"conn.call": 1.03, "conn.stub": 1.01, SECOND: None}

OURS = (
    "What lies on the way to gRPC and back has rows of its own, where nothing else is measured: about a hundredth of a "
    "call. What is more is chance, as the second plain channel shows."
)

Call = Callable[[float], Awaitable[object]]
Times = dict[str, list[float]]
"""Microseconds of each block, by the way of the calls."""


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure with TLS and without."""
    plugins, rounds = (1, 50) if quick else (12, 100)
    return [row for mtls in (None, False) for row in _measured(mtls, plugins, rounds, progress)]


def _measured(mtls: bool | None, plugins: int, rounds: int, progress: Progress) -> list[Row]:
    what = "without TLS" if mtls is False else "with TLS"
    times: Times = {}
    cpu: Times = {}
    ways: Times = {}
    for number in range(plugins):
        found = asyncio.run(_on_one_plugin(mtls, rounds, progress, f"{what}, plugin {number + 1} of {plugins}"))
        for all_, some in zip((times, cpu, ways), found, strict=True):
            for name, taken in some.items():
                all_.setdefault(name, []).extend(taken)
    rows = [*_table(times, what, ""), *_table(cpu, what, "CPU of this process, ")]
    return rows if mtls is None else [*rows, *_way_rows(ways, statistics.median(cpu[PLAIN]))]


async def _on_one_plugin(mtls: bool | None, rounds: int, progress: Progress, what: str) -> tuple[Times, Times, Times]:
    async with Connection(COMMAND, mtls=mtls) as conn, AsyncExitStack() as stack:
        calls = await _calls(conn, stack)
        await _blocks(calls, 10, _block, progress, f"{what}, warming up")
        times = await _blocks(calls, rounds, _block, progress, what)
        cpu = await _blocks(calls, CPU_ROUNDS, _cpu_block, progress, f"{what}, CPU")
        return times, cpu, await _blocks(await _short_cut(conn), rounds, _cpu_block, progress, f"{what}, the way")


async def _calls(conn: Connection, stack: AsyncExitStack) -> dict[str, Call]:
    from fsm_conn.demo.calculator_pb2 import Operands

    def through(stub: Any) -> Call:
        add = stub.Add
        return lambda a: add(Operands(a=a, b=2))

    plain, other = [calculator_stub(await stack.enter_async_context(plain_channel(conn))) for _ in range(2)]
    return {
        PLAIN: through(plain),
        "conn.call": lambda a: conn.call("calculator.Add", a=a, b=2),
        "conn.stub": through(conn.stub(calculator_stub)),
        SECOND: through(other),
    }


class _AtHand:
    """A call of gRPC that has been answered, and whatever leads to it."""

    def __init__(self, reply: object) -> None:
        self._reply = reply

    def __call__(self, *args: object, **kwargs: object) -> _AtHand:
        return self

    unary_unary = __call__

    def __await__(self) -> Generator[None, None, object]:
        yield from ()
        return self._reply


async def _short_cut(conn: Connection) -> dict[str, Call]:
    """The calls, with an answer at hand in the place of gRPC's. After this, `conn` is of no other use."""
    from fsm_conn.demo.calculator_pb2 import Operands

    link: Any = conn.link
    known = link._calls._known
    at_hand = _AtHand(await known["calculator.Add"].invoke(Operands(a=1, b=2)))
    known["calculator.Add"] = attrs.evolve(known["calculator.Add"], invoke=at_hand)
    link.channel._channel = at_hand
    stub = conn.stub(calculator_stub)
    return {
        PLAIN: lambda a: at_hand(Operands(a=a, b=2)),
        "conn.call": lambda a: conn.call("calculator.Add", a=a, b=2),
        "conn.stub": lambda a: stub.Add(Operands(a=a, b=2)),
    }


async def _blocks(
    calls: dict[str, Call], rounds: int, block: Callable[[Call], Awaitable[float]], progress: Progress, what: str
) -> Times:
    times: Times = {name: [] for name in calls}
    order, rng = list(calls), random.Random(0)
    for done in range(rounds):
        progress.at(done, rounds, what)
        rng.shuffle(order)
        for name in order:
            times[name].append(await block(calls[name]))
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


def _way_rows(ways: Times, whole: float) -> list[Row]:
    found = []
    for name in ("conn.call", "conn.stub"):
        ours = [mine - other for mine, other in zip(ways[name], ways[PLAIN], strict=True)]
        found.append(
            row_of(
                ours,
                name=f"{name}, the way to gRPC and back",
                work="CPU of this process, with an answer at hand in the place of gRPC's",
                unit="us",
                detail=f"{statistics.median(ours) / whole:.1%} of what a call costs without TLS, {whole:.0f} us",
            )
        )
    return found


def _table(times: Times, what: str, of_what: str) -> list[Row]:
    return [_row(times, name, goal, what, of_what) for name, goal in GOALS.items()]


def _row(times: Times, name: str, goal: float | None, what: str, of_what: str) -> Row:
    plain = [PLAIN] if name == SECOND else [PLAIN, SECOND]
    ratios = [ratio for each in plain for ratio in against(times[name], times[each])]
    theirs = statistics.median(taken for each in plain for taken in times[each])
    return row_of(
        ratios,
        name=f"{name}, {what}",
        work=f"{of_what}unary call, against a compiled stub on {'the other' if name == SECOND else 'a plain channel'}",
        unit="x",
        goal=goal,
        detail=f"{statistics.median(times[name]):.0f} against {theirs:.0f} us, +-{_error(ratios, len(plain)):.3f}",
        why=CHANCE if goal is None else OURS,
    )


def _error(ratios: list[float], per_round: int) -> float:
    """The standard error of their median.

    Two ratios of one round share our block: their mean has three quarters of the variance of one of them, not half.
    """
    low, _, high = quartiles(ratios)
    spread = (high - low) / 1.349  # of a normal distribution, whose median has 1.2533 times the error of its mean
    return 1.2533 * spread * math.sqrt((1 + 1 / per_round) / 2 / (len(ratios) / per_round))

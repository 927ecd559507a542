"""A call in which the plugin calls its host back through the broker, against a plain call to the same plugin.

The plugin is the counter that comes with fsm_conn, in Python. `Get` answers by itself, and `Put` asks the host's
`Adder` for a sum before it answers: two calls, one in the other, on two connections, and the host serves the inner one.
Both are made by compiled stubs on one channel, and take turns in blocks of a few calls; a block counts as the median of
its calls, and the ratio is that of neighbouring blocks. It is done once with TLS, which is the default, and once
without.

A new service costs a new connection, with TLS its handshake, too: the last rows are what it costs to ask the plugin to
serve one more thing, to dial it, to call it once and to close the channel, against the plain call. A plugin in Go
brings a certificate that gRPC does not take, so that a relay in Python passes its bytes on; that is not measured here,
because the other side needs Go.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.core import Progress, Row, against, row_of, turns
from fsm_conn import Connection, Plugin

BLOCK = 10
"""Calls in a row, before the other kind takes its turn."""
TWO = "It is two calls, one in the other, and this process serves the inner one."
NEW = "It is two calls, a new server and a new connection, and with TLS both sides prove who they are."
CALL_BACK, DIAL = "call back through the broker", "dial of a brokered service"

Call = Callable[[], Awaitable[object]]


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure with TLS and without."""
    rounds = 10 if quick else 100
    return [row for mtls in (None, False) for row in asyncio.run(_measured(mtls, rounds, progress))]


async def _measured(mtls: bool | None, rounds: int, progress: Progress) -> list[Row]:
    from fsm_conn.demo import counter_pb2

    what = "without TLS" if mtls is False else "with TLS"
    async with Connection(_plugin(mtls), services=counter_pb2) as conn:
        calls = await _calls(conn)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            await _block(call)
        for _, (name, call) in turns(list(calls.items()), rounds, progress, what):
            times[name].append(await _block(call))
    return [_row(name, times, what, why) for name, why in ((CALL_BACK, TWO), (DIAL, NEW))]


def _plugin(mtls: bool | None) -> Plugin:
    return Plugin([sys.executable, "-m", "fsm_conn.demo.counter"], mtls=mtls)


async def _calls(conn: Connection) -> dict[str, Call]:
    from fsm_conn.demo import counter_pb2_grpc
    from fsm_conn.demo.counter_pb2 import Key, Nothing, PutRequest, Service, SumRequest, Value

    generated: Any = counter_pb2_grpc  # which has no types

    class Adder(counter_pb2_grpc.AdderServicer):
        async def Sum(self, request: SumRequest, context: object) -> Value:
            return Value(value=request.a + request.b)

    served = await conn.broker.serve(lambda server: generated.add_AdderServicer_to_server(Adder(), server))
    stub = conn.stub(generated.CounterStub)

    async def dialled() -> None:
        browser = await stub.Browse(Service())
        async with await conn.broker.dial(browser.id, timeout=60) as channel:
            async for _ in generated.BrowserStub(channel).Entries(Nothing()):
                pass

    return {
        "plain": lambda: stub.Get(Key(key="a")),
        CALL_BACK: lambda: stub.Put(PutRequest(key="a", value=1, adder=served.id)),
        DIAL: dialled,
    }


async def _block(call: Call) -> float:
    """The median time of a call in one block, in microseconds."""
    taken = []
    for _ in range(BLOCK):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


def _row(name: str, times: dict[str, list[float]], what: str, why: str) -> Row:
    plain = times["plain"]
    return row_of(
        against(times[name], plain),
        name=f"{name}, {what}",
        work="against a plain call to the same plugin",
        unit="x",
        detail=f"{statistics.median(times[name]):.0f} against {statistics.median(plain):.0f} us",
        why=why,
    )

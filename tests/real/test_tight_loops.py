"""The loop belongs to the application: whoever tries again at once, for ever, when the peer is gone keeps nobody else from it.

The peer is killed under three such callers, of every kind of call. What is counted is no time but turns of the loop: how
many attempts a caller makes between two turns of another task.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from fsm_conn import CallOptions, Connection, ConnectionPool, FsmConnError, RetryPolicy
from fsm_conn.demo import calculator_pb2
from fsm_conn.demo.calculator_pb2_grpc import CalculatorStub

from ..links.grpc.server import serving
from .conftest import CALCULATOR

QUICK = RetryPolicy(max_attempts=None, initial_delay=0.02, max_delay=0.1)
CALLERS = 3
TURNS = 400
"""Turns of another task to wait for after the loss is known: nobody is connected again so soon."""
ATTEMPTS = 4
"""How many times a caller may try between two of them: those that are refused give up one turn each time."""
STALLED = 50_000
"""Attempts without a turn of anybody else, after which a caller gives up, so that the test can fail."""

ADD = {"a": 1, "b": 2}
PATIENT = CallOptions(wait_for_ready=True, timeout=5)

Call = Callable[[Any], Awaitable[Any]]


async def _read(replies: Any) -> None:
    async for _ in replies:
        pass


async def _ensured(conn: Any) -> None:
    await conn.ensure_connected()
    await conn.call("calculator.Add", **ADD)


async def _fresh_lease(pool: Any) -> None:
    async with pool.acquire() as client:
        await client.call("calculator.Add", **ADD)


def _held(call: Call) -> Call:
    """A call through a lease that is held, and replaced only when it says that it is lost."""

    async def through(pool: Any) -> None:
        async with pool.acquire() as client:
            while True:
                try:
                    await call(client)
                except (FsmConnError, grpc.aio.AioRpcError):
                    if not client.is_held:
                        raise

    return through


def _stub(owner: Any) -> Any:
    return owner.stub(CalculatorStub)


CALLS: dict[str, Call] = {
    "call": lambda conn: conn.call("calculator.Add", **ADD),
    "by attribute": lambda conn: conn.calculator.Add(**ADD),
    "stream": lambda conn: _read(conn.stream("calculator.Count", limit=2)),
    "stub": lambda conn: _stub(conn).Add(calculator_pb2.Operands(**ADD)),
    "stub's stream": lambda conn: _read(_stub(conn).Count(calculator_pb2.Limit(limit=2))),
}
"""What connections and leases have."""
KINDS: dict[str, Call] = {
    **CALLS,
    "with a timeout": lambda conn: conn.call("calculator.Add", CallOptions(timeout=5), **ADD),
    "ensured": _ensured,
    "patient stream": lambda conn: _read(conn.stream("calculator.Count", PATIENT, limit=2)),
    "probe": lambda conn: conn.probe(),
}
POOLED: dict[str, Call] = {
    "pool's call": lambda pool: pool.call("calculator.Add", **ADD),
    "pool's stream": lambda pool: _read(pool.stream("calculator.Count", limit=2)),
    "lease": _fresh_lease,
    **{f"held lease's {kind}": _held(call) for kind, call in CALLS.items()},
}
OF_PLUGINS = ("call", "ensured", "stub", "pool's call", "held lease's stub")


class Turns:
    """The attempts that each of some callers makes between two turns of another task, and the most that there were."""

    def __init__(self) -> None:
        self.most = 0
        self.attempts = [0] * CALLERS
        self.is_over = False

    async def take(self, number: int) -> None:
        """Have so many turns."""
        for _ in range(number):
            await asyncio.sleep(0)
            self.most = max(self.most, *self.attempts)
            self.attempts = [0] * CALLERS

    async def spin(self, caller: int, call: Call, owner: Any) -> None:
        """Try again at once, whatever happens."""
        while not self.is_over and self.attempts[caller] < STALLED:
            self.attempts[caller] += 1
            try:
                await call(owner)
            except (FsmConnError, grpc.aio.AioRpcError):
                continue


async def spin(call: Call, owner: Any, conn: Connection, kill: Callable[[], Awaitable[None]]) -> Turns:
    """Have some callers spin, kill their peer, and count the turns of another task until well after the loss is known."""
    turns, losses = Turns(), []
    conn.on_transition(lambda record: losses.append(record) if record.trigger == "lost" else None)
    callers = [asyncio.create_task(turns.spin(each, call, owner)) for each in range(CALLERS)]
    try:
        await turns.take(20)
        killing = asyncio.create_task(kill())
        async with asyncio.timeout(200):
            while not (losses and killing.done()):
                await turns.take(1)
        await turns.take(TURNS)
    finally:
        turns.is_over = True
        for caller in callers:
            caller.cancel()  # some wait until it is connected again
        await asyncio.gather(*callers, return_exceptions=True)
    return turns


@pytest.mark.parametrize(
    ("peer", "kind"), [*(("endpoint", kind) for kind in (*KINDS, *POOLED)), *(("plugin", kind) for kind in OF_PLUGINS)]
)
async def test_another_task_has_its_turns(kind: str, peer: str) -> None:
    """As many as the callers, whether the peer is a process that is killed or a server that stops."""
    call = (KINDS | POOLED)[kind]
    async with serving() as served:
        target: Any = list(CALCULATOR) if peer == "plugin" else served.address
        owner: Any
        if kind in POOLED:
            owner = ConnectionPool(target, 1, 0, retry=QUICK, services=calculator_pb2)
        else:
            owner = Connection(target, retry=QUICK, services=calculator_pb2)
        async with owner:
            conn = next(iter(owner._leases.slots)).conn if kind in POOLED else owner

            async def kill() -> None:
                if peer == "plugin":
                    os.kill(conn.pid, signal.SIGKILL)
                else:
                    await served.server.stop(None)

            turns = await spin(call, owner, conn, kill)
    assert turns.most <= ATTEMPTS

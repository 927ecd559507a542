"""Plugins that close their connection in good order, and those that need some time: what lives on is not replaced."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import CallOptions, ConnectFailedError, Connection, ConnectionState, HealthPolicy, LinkError, RetryPolicy
from fsm_conn.connection.prober import HealthStatus
from fsm_conn.demo import calculator_pb2

from .conftest import PLUGINS, PYTHON, children, eventually, is_alive

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("no_leaks")]

ENV = {"PYTHONPATH": str(Path(__file__).parents[2])}
STRICT = RetryPolicy(max_attempts=1, max_restarts=0)
"""With it, whatever counts as an attempt, a loss or a restart ends in `failed`."""
WARMING = [PYTHON, str(PLUGINS / "warming.py")]
S = ConnectionState


def orderly(*options: str, retry: RetryPolicy = STRICT) -> Connection:
    command = [PYTHON, str(PLUGINS / "orderly.py"), *options]
    return Connection(command, env=ENV, services=calculator_pb2, retry=retry, name="orderly")


def resumed(conn: Connection) -> int:
    link: Any = conn.link
    return int(link._calls.connectivity.resumed)


async def add(conn: Connection, *options: CallOptions) -> float:
    return float((await conn.call("calculator.Add", *options, a=1, b=2)).result)


async def test_a_plugin_that_limits_the_age_of_its_connections_goes_on() -> None:
    """The same process: new calls go over the next connection, and a stream over the old one; nothing is counted."""
    go_on = asyncio.Event()

    async def numbers() -> AsyncIterator[dict[str, float]]:
        yield {"value": 1}
        await go_on.wait()
        yield {"value": 2}

    async with orderly("max_connection_age_ms=300") as conn:
        pid = conn.pid
        replies = conn.stream("calculator.Accumulate", numbers())
        assert (await anext(replies)).result == 1
        async with asyncio.timeout(120):
            while resumed(conn) < 3:
                assert await add(conn) == 3
                await asyncio.sleep(0.01)
        go_on.set()
        assert [reply.result async for reply in replies] == [3]
        assert (conn.pid, conn.attempt) == (pid, 1)
        assert [record.dest for record in conn.history] == [S.CONNECTING, S.CONNECTED]


async def test_a_plugin_that_closes_idle_connections_goes_on() -> None:
    """Nobody calls for a while; then it is the same process that answers."""
    async with orderly("max_connection_idle_ms=100") as conn:
        pid = conn.pid
        await eventually(lambda: resumed(conn) >= 3)
        for _ in range(20):
            assert await add(conn) == 3
            await asyncio.sleep(0.05)
        assert (conn.pid, conn.attempt) == (pid, 1)
        assert [record.dest for record in conn.history] == [S.CONNECTING, S.CONNECTED]


async def test_a_plugin_that_stops_in_good_order_finishes_its_calls() -> None:
    """The next one is started beside it, and takes the new calls; nothing is counted."""
    go_on = asyncio.Event()

    async def numbers() -> AsyncIterator[dict[str, float]]:
        yield {"value": 1}
        await go_on.wait()
        yield {"value": 2}

    async with orderly() as conn:
        pid = conn.pid
        assert pid is not None
        replies = conn.stream("calculator.Accumulate", numbers())
        assert (await anext(replies)).result == 1
        os.kill(pid, signal.SIGTERM)
        await conn.wait_for_state(S.RENEWING)
        assert await add(conn, CallOptions(wait_for_ready=True)) == 3
        assert conn.pid != pid
        assert is_alive(pid)
        go_on.set()
        assert [reply.result async for reply in replies] == [3]
        await eventually(lambda: not is_alive(pid))
        assert conn.attempt == 1
        assert [record.dest for record in conn.history] == [S.CONNECTING, S.CONNECTED, S.RENEWING, S.CONNECTED]


async def test_a_plugin_that_ends_while_nobody_calls_is_replaced_at_once() -> None:
    """Its end is a loss, whatever its exit status, so that one that ends again and again is given up."""
    async with orderly(retry=RetryPolicy(max_attempts=2, initial_delay=60)) as conn:
        for _ in range(2):
            pid = conn.pid
            assert pid is not None
            os.kill(pid, signal.SIGTERM)
            await conn.wait_for_state(S.RECONNECTING, S.FAILED)
            assert isinstance(conn.reason, LinkError)
            if conn.state != S.FAILED:
                await conn.wait_for_state(S.CONNECTED)
        assert conn.state == S.FAILED


@pytest.mark.parametrize("watch", [True, False])
async def test_a_plugin_that_warms_up_is_started_once(watch: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It says that it does not serve for longer than a policy lets others say so; that is no ill health."""
    caplog.set_level(logging.INFO, "fsm_conn")
    health = HealthPolicy(interval=0.25, timeout=30, failure_threshold=2, watch=watch)
    conn = Connection(WARMING, env=ENV, services=calculator_pb2, retry=STRICT, name="warming", health=health)
    before = children()
    connecting = asyncio.create_task(conn.connect())
    told = "warming: not ready yet (the health check was answered with NOT_SERVING): waiting for 60 s at most"
    await eventually(lambda: any(message.startswith(told) for message in caplog.messages))
    await asyncio.sleep(1)
    assert (conn.state, connecting.done()) == (S.CONNECTING, False)
    (pid,) = children() - before
    os.kill(pid, signal.SIGUSR1)
    await connecting
    assert await add(conn) == 3
    assert conn.attempt == 1
    await eventually(lambda: conn.health_status is HealthStatus.SERVING)
    assert {record.dest for record in conn.history if not record.internal} == {S.CONNECTING, S.CONNECTED}
    assert sum("not ready yet" in message for message in caplog.messages) == 1
    await conn.disconnect()


async def test_a_plugin_that_is_never_ready_has_a_limit_of_its_own() -> None:
    """`ready_timeout`; 0 does without."""
    conn = Connection(WARMING, env=ENV, retry=STRICT, health=HealthPolicy(ready_timeout=1))
    with pytest.raises(ConnectFailedError, match=r"did not report that it serves within 1 s \(ready_timeout\)"):
        await conn.connect()
    async with Connection(WARMING, env=ENV, retry=STRICT, health=HealthPolicy(ready_timeout=0)):
        pass

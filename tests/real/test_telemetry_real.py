"""The observers on a real plugin: what its answers are called, and that the example shows it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from readings import Otel, Prometheus

from fsm_conn import Connection, ConnectionState, RequestError, UnknownNameError

ROOT = Path(__file__).parents[2]
CALCULATOR = [sys.executable, "-m", "fsm_conn.demo.calculator"]
MEASURED = [sys.executable, str(Path(__file__).parent / "plugins" / "measured.py"), "fsm_conn.demo.calculator"]


async def test_a_life_with_a_real_plugin() -> None:
    """Answers, errors of the plugin, wrong calls, a kill; spans and metrics agree."""
    otel, prometheus = Otel(), Prometheus()
    conn = Connection(MEASURED, name="calc", start_timeout=200)
    otel.observer.attach(conn)
    prometheus.observer.attach(conn)
    async with conn:
        await conn.call("calculator.Add", a=1, b=2)
        with pytest.raises(grpc.aio.AioRpcError):
            await conn.call("calculator.Divide", a=1, b=0)
        with pytest.raises(RequestError):
            await conn.call("calculator.Add", wrong=1)
        with pytest.raises(UnknownNameError):
            await conn.call("calculator.Ad", a=1, b=2)
        os.kill(conn.link.pid, signal.SIGKILL)  # type: ignore[union-attr]
        await conn.wait_for_state(ConnectionState.RECONNECTING)
        await conn.ensure_connected()
        assert prometheus.read("state")["calc", "connected"] == 1
    calls = {key[1:]: count for key, (count, _) in prometheus.read("call").items()}
    assert calls == {
        ("calculator.Add", "succeeded"): 1,
        ("calculator.Divide", "failed"): 1,
        ("calculator.Add", "failed"): 1,
        ("unknown", "failed"): 1,
    }
    ended = [(span.name, span.attributes.get("error.type")) for span in otel.spans if span.attributes]
    assert ended == [
        ("connect calc", None),
        ("calculator/Add", None),
        ("calculator/Divide", "INVALID_ARGUMENT"),
        ("calculator/Add", "fsm_conn.links.errors.RequestError"),
        ("grpc", "fsm_conn.links.errors.UnknownNameError"),
        ("connect calc", None),
    ]
    assert conn.observer_errors == 0


def test_the_example_shows_the_kill() -> None:
    """In its log, and in what is scraped."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    example = str(ROOT / "examples" / "observed.py")
    result = subprocess.run([sys.executable, example], capture_output=True, text=True, timeout=200, check=True, env=env)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert any(line.startswith("WARNING calculator: connected -> reconnecting on lost, attempt 2: ") for line in lines)
    for line in (
        'fsm_conn_state{connection="calculator",state="connected"} 1.0',
        'fsm_conn_attempts_total{connection="calculator",outcome="succeeded"} 2.0',
        'fsm_conn_call_seconds_count{connection="calculator",method="calculator.Add",outcome="succeeded"} 1.0',
        'fsm_conn_call_seconds_count{connection="calculator",method="unknown",outcome="failed"} 1.0',
    ):
        assert line in lines

"""The documented clients on real plugins: the document's own usage, and what it does not show."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import (
    AutoReconnectClient,
    CallOptions,
    Connection,
    ConnectionLostError,
    ConnectionState,
    HealthMonitoredClient,
    HealthPolicy,
    NotServingError,
    ProbeTimeoutError,
    RetryPolicy,
)
from fsm_conn.links.plugin import link as rpcplugin

from .conftest import CALCULATOR, PLUGINS, PYTHON, eventually, is_alive

S = ConnectionState


def pid(conn: Connection) -> int:
    link: Any = conn.link
    return int(link.pid)


# --- the document's usage functions, as they are printed ----------------------------------------------------------

USAGE = Path(__file__).parent / "usage.txt"
"""A copy of the functions, to the letter: also the letters that were lost where the document was printed."""

RUNNER = """
import asyncio, sys
from fsm_conn import *

with open(sys.argv[1], encoding="utf-8") as usage:
    exec(compile(usage.read(), sys.argv[1], "exec"))
asyncio.run(globals()[sys.argv[2]]())
"""

EXAMPLES = (
    "managed_connection_example",
    "health_monitored_example",
    "auto_reconnect_example",
    "stateful_connection_example",
)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """What each function prints, line by line. They run side by side, for they sleep for seconds."""
    programs = tmp_path_factory.mktemp("bin")
    python = programs / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONUTF8": "1",
    }
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", RUNNER, str(USAGE), name],
                    cwd=PLUGINS,  # where calculator.py and flaky_calculator.py are
                    env=env,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                )
            )
            for name in EXAMPLES
        }
        output = {name: program.communicate(timeout=300) for name, program in running.items()}
        assert {name: program.returncode for name, program in running.items()} == dict.fromkeys(EXAMPLES, 0)
        said = {name: err.splitlines() for name, (_, err) in output.items()}
        lost = said.pop("auto_reconnect_example")  # whose plugin dies now and then, as the log tells
        assert not any(said.values())
        assert [line for line in lost if ": lost after " not in line] == []
        yield {name: out.splitlines() for name, (out, _) in output.items()}


def test_the_managed_connection_of_the_document(printed: dict[str, list[str]]) -> None:
    """Two calls with a check of the connection."""
    assert printed["managed_connection_example"] == ["Results: 8.0, 28.0"]


def test_the_health_monitored_client_of_the_document(printed: dict[str, list[str]]) -> None:
    """Five calls and a report."""
    *results, report = printed["health_monitored_example"]
    assert results == [f"Result {i}: {2 * i + 1:.1f}" for i in range(5)]
    shown = report.partition("Health Report: ")[2]
    told = ast.literal_eval(shown)
    assert (told["connected"], told["total_calls"], told["failed_calls"]) == (True, 5, 0)
    assert (told["success_rate_percent"], told["reconnect_count"], told["health"]) == (100.0, 0, "unknown")
    assert told["connected_duration_seconds"] > 0
    assert 0 < told["latency_p50_ms"] <= told["latency_p95_ms"] <= told["latency_p99_ms"]


def test_the_auto_reconnect_client_of_the_document(printed: dict[str, list[str]]) -> None:
    """Each fourth call ends the plugin, and says that it may have been executed; all others are answered."""
    lines = printed["auto_reconnect_example"]
    assert len(lines) == 10
    for i, line in enumerate(lines):
        if i in (3, 7):
            assert re.fullmatch(rf"L Call {i} permanently failed: .*may have been executed.*", line)
        else:
            assert line == f" Call {i}: {i} + {i + 1} = {2 * i + 1:.1f}"


def test_the_stateful_connection_of_the_document(printed: dict[str, list[str]]) -> None:
    """Its callback, its call, and its state."""
    callback, result, info = printed["stateful_connection_example"]
    assert callback == "<\N{REPLACEMENT CHARACTER} Successfully connected!"
    assert result == "Result: 8.0"
    assert ast.literal_eval(info.partition("Connection info: ")[2]) == {
        "current_state": "connected",
        "is_connected": True,
        "can_make_calls": True,
        "metrics": {"connection_count": 1, "disconnection_count": 0, "failed_connection_count": 0, "total_calls": 1},
    }


# --- health -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leaks")
async def test_a_plugin_that_was_stopped_is_noticed_killed_at_once_and_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot hear SIGTERM: who waited for that would wait for an hour here."""
    monkeypatch.setattr(rpcplugin, "GRACE", 3600.0)
    health = HealthPolicy(interval=0.2, timeout=5, failure_threshold=1)  # a busy plugin answers sooner
    client = HealthMonitoredClient(CALCULATOR, health=health)
    client.close_timeout = 3600.0
    async with asyncio.timeout(200):
        await client.connect()
        stopped = pid(client)
        os.kill(stopped, signal.SIGSTOP)
        await client.wait_for_state(S.RECONNECTING)
        assert isinstance(client.history[-1].reason, ProbeTimeoutError)
        await client.ensure_connected()
        assert not is_alive(stopped)
        assert (await client.call_with_health_tracking("calculator.Add", a=5, b=3)).result == 8
        await eventually(lambda: client.health_report().passed_probes)
        report = client.get_health_report()
        assert (report["losses"], report["reconnect_count"], report["failed_probes"]) == (1, 1, 1)
        assert (report["health"], report["failed_calls"]) == ("serving", 0)
        monkeypatch.undo()
        await client.disconnect()


@pytest.mark.usefixtures("no_leaks")
async def test_a_plugin_that_announces_its_illness_is_replaced_at_once() -> None:
    """Long before a probe is due; and the reason is its own word, not its silence."""
    health = HealthPolicy(interval=3600, failure_threshold=1)
    client = HealthMonitoredClient([PYTHON, str(PLUGINS / "ailing.py"), "watch"], health=health)
    async with asyncio.timeout(200), client:
        ill = pid(client)
        os.kill(ill, signal.SIGUSR1)
        await client.wait_for_state(S.RECONNECTING)
        [reason] = [record.reason for record in client.history if record.trigger == "probe_failed"]
        assert type(reason) is NotServingError
        await client.ensure_connected()
        assert not is_alive(ill)
        assert client.health_report().reconnect_count == 1


@pytest.mark.usefixtures("no_leaks")
async def test_a_plugin_without_a_health_service_is_reported_as_one() -> None:
    """It is watched by its process and its channel, and that is said."""
    client = HealthMonitoredClient(
        [PYTHON, str(PLUGINS / "ailing.py"), "none"], health=HealthPolicy(interval=0.05, failure_threshold=1)
    )
    async with asyncio.timeout(200), client:
        await eventually(lambda: client.health_report().passed_probes >= 2)
        report = client.get_health_report()
        assert (report["health"], report["failed_probes"], report["losses"]) == ("no health service", 0, 0)


# --- load on a plugin that is killed again and again --------------------------------------------------------------

LOAD_SECONDS = float(os.environ.get("FSM_CONN_LOAD_SECONDS", "4"))
"""How long to go on; `FSM_CONN_LOAD_SECONDS=30 pytest -s -k killed_every_half_second` shows more, and prints it."""


@contextlib.asynccontextmanager
async def killing(conn: Connection, interval: float) -> AsyncIterator[Counter[str]]:
    """Kill the plugin of a connection at every interval at which there is one."""
    count: Counter[str] = Counter()

    async def kill() -> None:
        while True:
            await asyncio.sleep(interval)
            if conn.state is S.CONNECTED:
                os.kill(pid(conn), signal.SIGKILL)
                count["kills"] += 1

    task = asyncio.create_task(kill())
    try:
        yield count
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def outcome(client: AutoReconnectClient, number: int, idempotent: bool) -> str:
    try:
        reply = await client.call_with_auto_reconnect(
            "calculator.Add", CallOptions(idempotent=idempotent, timeout=60), a=number, b=1
        )
    except ConnectionLostError as error:
        return "maybe" if error.maybe_executed else "unsent"
    assert reply.result == number + 1
    return "answered"


@pytest.mark.usefixtures("no_leaks")
async def test_under_load_with_the_plugin_killed_every_half_second_nothing_is_lost_or_executed_twice(
    tmp_path: Path,
) -> None:
    """By the plugin's own diary. Idempotent calls are all answered; of the others each was executed once, or its caller
    was told that it may have been, or that it was not sent.
    """
    diary = tmp_path / "diary"
    client = AutoReconnectClient(
        [PYTHON, str(PLUGINS / "diary.py")],
        env={"DIARY": str(diary)},
        retry=RetryPolicy(max_attempts=None, initial_delay=0.0, stable_after=0.0),
        start_timeout=200,
    )
    outcomes: dict[bool, dict[int, str]] = {True: {}, False: {}}
    await client.connect()
    end = asyncio.get_running_loop().time() + LOAD_SECONDS
    number = 0
    async with killing(client, 0.5) as count:
        while asyncio.get_running_loop().time() < end or count["kills"] < 2:  # a busy machine needs longer
            number += 1
            idempotent = number % 2 == 0
            outcomes[idempotent][number] = await outcome(client, number, idempotent)
    await client.close()

    executed = Counter(map(int, diary.read_text().split()))
    allowed = {"answered": {1}, "maybe": {0, 1}, "unsent": {0}}
    wrong = {
        number: (told, executed[number])
        for number, told in outcomes[False].items()
        if executed[number] not in allowed[told]
    }
    told = Counter((told, executed[number]) for number, told in outcomes[False].items())
    again = sum(executed[number] > 1 for number in outcomes[True])
    print(
        f"\n{count['kills']} kills in {LOAD_SECONDS:g} s; of {len(outcomes[True])} idempotent calls "
        f"{Counter(outcomes[True].values())['answered']} answered, {again} executed again; of {len(outcomes[False])} "
        f"others, as (told, executed): {dict(told)}"
    )
    assert wrong == {}
    assert set(outcomes[True].values()) == {"answered"}
    assert all(executed[number] >= 1 for number in outcomes[True])

"""The services of `examples/services` serve, while their plugins are killed under them, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from shown_examples import module_of

from .conftest import eventually, is_alive

SERVICES = Path(__file__).parents[2] / "examples" / "services"
PATIENCE = 300.0
"""Seconds for what takes a moment on a machine with nothing else to do."""

pytestmark = pytest.mark.timeout(600)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}


def plugins(host: int) -> set[int]:
    """The calculators among the child processes of a host."""
    found: set[int] = set()
    for task in Path(f"/proc/{host}/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return {pid for pid in found if is_alive(pid) and "fsm_conn.demo.calculator" in command(pid)}


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A server on a port of the system's choice: its process, and its address, which it prints."""
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=SERVICES,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert server.stdout is not None
        printed = b""
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(rb"running on (http://127\.0\.0\.1:\d+)", printed, re.IGNORECASE)):
                line = await server.stdout.readline()
                assert line, f"the server ended: {printed.decode()}"
                printed += line
        reader = asyncio.create_task(server.stdout.read())
        yield server, found[1].decode()
        async with asyncio.timeout(PATIENCE):
            await reader
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()


async def interrupted(server: asyncio.subprocess.Process) -> int:
    """What Ctrl-C does: the exit status."""
    server.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE):
        return await server.wait()


async def asked(session: aiohttp.ClientSession, numbers: Sequence[int]) -> list[float]:
    """The sums of each number and one, asked for one after the other."""
    sums = []
    for number in numbers:
        async with session.get("/add", params={"a": number, "b": 1}) as response:
            assert response.status == 200, await response.text()
            sums.append((await response.json())["result"])
    return sums


async def test_starlette_serves_fifty_callers_while_plugins_are_killed() -> None:
    """All 500 requests are answered, health and metrics are told, and after Ctrl-C no plugin is left."""
    async with (
        serving("-m", "uvicorn", "starlette_service:app", "--port", "0") as (server, address),
        aiohttp.ClientSession(address, timeout=aiohttp.ClientTimeout(PATIENCE)) as session,
    ):
        callers = [asyncio.create_task(asked(session, range(caller * 10, caller * 10 + 10))) for caller in range(50)]
        killed: set[int] = set()
        for _ in range(4):
            await eventually(lambda: len(plugins(server.pid) - killed) >= 2, PATIENCE)
            victim = min(plugins(server.pid) - killed)
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
        sums = [each for caller in callers for each in await caller]
        assert sums == [float(number + 1) for number in range(500)]

        async with session.get("/healthz") as response:
            health = await response.json()
            assert response.status == (200 if health["plugins"] else 503)
        async with session.get("/metrics") as response:
            metrics = await response.text()
        assert re.search(r'^fsm_conn_call_seconds_count\{.*outcome="succeeded"\} 500.0$', metrics, re.MULTILINE)

        left = plugins(server.pid)
        assert await interrupted(server) in (0, -signal.SIGINT)
        assert [pid for pid in left if is_alive(pid)] == []


async def test_flask_serves_threads_while_a_plugin_is_killed() -> None:
    """Ten callers at a time, all answered; Ctrl-C ends it at once, with its plugins."""
    async with (
        serving("-m", "flask", "--app", "flask_service", "run", "--port", "0") as (server, address),
        aiohttp.ClientSession(address, timeout=aiohttp.ClientTimeout(PATIENCE)) as session,
    ):
        callers = [asyncio.create_task(asked(session, range(caller * 5, caller * 5 + 5))) for caller in range(10)]
        await eventually(lambda: len(plugins(server.pid)) >= 2, PATIENCE)
        os.kill(min(plugins(server.pid)), signal.SIGKILL)
        assert [each for caller in callers for each in await caller] == [float(number + 1) for number in range(50)]

        left = plugins(server.pid)
        assert left
        await interrupted(server)
        await eventually(lambda: not any(is_alive(pid) for pid in left), PATIENCE)


@pytest.mark.usefixtures("no_leaks")
async def test_aiohttp_ends_its_plugins_with_the_application() -> None:
    """In its own loop."""
    async with TestClient(TestServer(module_of(SERVICES / "aiohttp_service.py").make())) as client:
        response = await client.get("/add", params={"a": 5, "b": 3})
        assert await response.json() == {"result": 8.0}


def test_django_answers() -> None:
    """By its own test client, in a process of its own."""
    code = "import django_service; from django.test import Client; print(Client().get('/add/5/3').json())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=SERVICES,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "{'result': 8.0}\n"), done.stderr


def test_the_script_reads_and_prints() -> None:
    """Lines in, results out, and nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=SERVICES,
        env=environment(),
        input="1 2\n3 4\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2.0\n12.0\n", "")

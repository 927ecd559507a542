"""The promises of `Connection`, kept with real plugin processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fsm_conn import (
    BadCookieError,
    CallOptions,
    CommandNotExecutableError,
    CommandNotFoundError,
    ConnectFailedError,
    Connection,
    ConnectionLostError,
    ConnectionState,
    HandshakeError,
    IncompatibleProtocolError,
    LinkError,
    NotConnectedError,
    PluginExitedError,
    RequestError,
    RetryPolicy,
    StartTimeoutError,
    UnknownNameError,
)
from fsm_conn.demo import calculator_pb2
from fsm_conn.demo.calculator_pb2 import Limit, Number, Operands
from fsm_conn.demo.calculator_pb2_grpc import CalculatorStub
from fsm_conn.links.plugin.link import PluginLink
from fsm_conn.links.process.system import usable_cores

from .conftest import CALCULATOR, Leftovers, children, descriptors, directories, eventually, hostile, is_alive

pytestmark = pytest.mark.usefixtures("no_leaks")

ONCE = RetryPolicy(max_attempts=1)


def calculator(**options: Any) -> Connection:
    return Connection(CALCULATOR, name="calculator", **options)


def pid(conn: Connection) -> int:
    link: Any = conn.link
    return int(link.pid)


async def lose(conn: Connection) -> None:
    """Kill the plugin, and wait until that was noticed."""
    os.kill(pid(conn), signal.SIGKILL)
    await conn.wait_for_state(ConnectionState.RECONNECTING)


# --- calls ------------------------------------------------------------------------------------------------------


async def test_all_four_kinds_of_methods_by_name_and_by_attribute() -> None:
    """Unary and streams, either way, on a service found by reflection."""
    async with calculator() as conn:
        assert (await conn.call("calculator.Add", a=5, b=3)).result == 8
        assert (await conn.calculator.Multiply(a=4, b=7)).result == 28
        assert [reply.result async for reply in conn.calculator.Count(limit=3)] == [1, 2, 3]
        numbers = [{"value": 1}, Number(value=2.5)]
        assert (await conn.call("calculator.Sum", numbers)).result == 3.5
        assert [reply.result async for reply in conn.stream("calculator.Accumulate", numbers)] == [1, 3.5]
        assert (await conn.call("calculator.Calculator.Add", Operands(a=1, b=1))).result == 2


async def test_services_may_be_given_instead_of_reflected() -> None:
    """A pb2 module, and its own message classes in the replies."""
    async with calculator(services=calculator_pb2) as conn:
        reply = await conn.call("calculator.Add", a=5, b=3)
        assert type(reply) is calculator_pb2.Result


async def test_what_the_plugin_answers_arrives_as_it_is_and_does_not_hurt() -> None:
    """An application error is the caller's; the connection stays."""
    async with calculator() as conn:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await conn.call("calculator.Divide", CallOptions(idempotent=True), a=1, b=0)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(conn.history) == 2


@pytest.mark.once
@pytest.mark.parametrize(
    ("method", "fields", "error", "message"),
    [
        ("calculator.Ad", {}, UnknownNameError, "'Add'"),
        ("calculater.Add", {}, UnknownNameError, "calculator"),
        ("calculator.Add", {"c": 1}, RequestError, "a, b"),
        ("calculator.Add", {"a": "one"}, RequestError, "field 'a' takes a float, not str"),
        ("calculator.Count", {"limit": 1}, RequestError, "async for"),
        ("nonsense", {}, UnknownNameError, "service.Method"),
    ],
)
async def test_wrong_calls_list_what_exists(
    method: str, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Nothing is sent, and the connection stays."""
    async with calculator() as conn:
        with pytest.raises(error, match=message):
            await conn.call(method, **fields)
        assert conn.state is ConnectionState.CONNECTED


async def test_a_stub_goes_on_working_after_a_reconnect() -> None:
    """The same stub object, on the next process."""
    async with calculator() as conn:
        stub = conn.stub(CalculatorStub)
        assert (await stub.Add(Operands(a=1, b=2))).result == 3
        await lose(conn)
        with pytest.raises(NotConnectedError):
            await stub.Add(Operands(a=1, b=2))
        await conn.ensure_connected()
        assert (await stub.Add(Operands(a=1, b=2))).result == 3
        assert [reply.result async for reply in stub.Count(Limit(limit=2))] == [1, 2]


async def test_an_idempotent_call_survives_a_kill() -> None:
    """Sent to a process that is dead already, and answered by the next."""
    async with calculator() as conn:
        for _ in range(3):
            os.kill(pid(conn), signal.SIGKILL)
            reply = await conn.call("calculator.Add", CallOptions(idempotent=True, timeout=200), a=5, b=3)
            assert reply.result == 8


async def test_a_call_under_way_when_the_plugin_dies_says_that_it_may_have_been_executed() -> None:
    """Promptly, and as an error of its own."""
    async with calculator() as conn:
        ready, go = asyncio.Event(), asyncio.Event()

        async def numbers() -> Any:
            yield Number(value=1)
            ready.set()
            await go.wait()

        call = asyncio.create_task(conn.call("calculator.Sum", numbers()))
        await ready.wait()
        os.kill(pid(conn), signal.SIGKILL)
        with pytest.raises(ConnectionLostError) as caught:
            await call
        assert caught.value.maybe_executed


async def test_disconnect_under_a_call_fails_it_without_cancelling_its_caller() -> None:
    """The caller was not cancelled, so it gets an error and no CancelledError."""
    async with calculator() as conn:
        ready, go = asyncio.Event(), asyncio.Event()

        async def numbers() -> Any:
            yield Number(value=1)
            ready.set()
            await go.wait()

        call = asyncio.create_task(conn.call("calculator.Sum", numbers()))
        await ready.wait()
        await conn.disconnect()
        with pytest.raises(ConnectionLostError):
            await call


async def test_health_is_asked_by_the_standard_protocol() -> None:
    """The plugin's server answers, and says how long it took."""
    async with calculator() as conn:
        assert 0 < await conn.probe() < 5


# --- failures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        (["no-such-command-anywhere"], CommandNotFoundError, "no-such-command-anywhere"),
        (["/etc/passwd"], CommandNotExecutableError, "/etc/passwd"),
        (hostile("line", "2|1|unix|/nowhere|grpc|"), IncompatibleProtocolError, r"\|"),
        (hostile("cookie-python"), BadCookieError, "cookie"),
        (hostile("cookie-go"), BadCookieError, "cookie"),
    ],
)
async def test_what_cannot_get_better_is_not_retried(command: list[str], kind: type[Exception], message: str) -> None:
    """One attempt, and an error that says what was wrong."""
    conn = Connection(command)
    with pytest.raises(ConnectFailedError, match=message) as caught:
        await conn.connect()
    assert (type(caught.value.reason), caught.value.attempts) == (kind, 1)


async def test_a_plugin_that_exits_is_retried_and_its_last_words_are_quoted() -> None:
    """As often as the policy says; the error carries its stderr."""
    conn = Connection(hostile("exit"), retry=RetryPolicy(max_attempts=3, initial_delay=0.01))
    with pytest.raises(ConnectFailedError, match=r"(?s)after 3 attempts.*no license found") as caught:
        await conn.connect()
    assert isinstance(caught.value.reason, PluginExitedError)
    assert caught.value.reason.returncode == 3


async def test_a_plugin_that_prints_its_handshake_and_exits_is_an_error_at_once() -> None:
    """No timeout has to pass."""
    conn = Connection(hostile("handshake-exit"), retry=ONCE)
    async with asyncio.timeout(200):
        with pytest.raises(ConnectFailedError, match="died of shame") as caught:
            await conn.connect()
    assert isinstance(caught.value.reason, PluginExitedError)


async def test_a_silent_plugin_ends_by_its_start_timeout_with_its_stderr() -> None:
    """What it said meanwhile explains why it took so long."""
    conn = Connection(["/bin/sh", "-c", "echo starting >&2; exec sleep 100"], retry=ONCE, start_timeout=4)
    with pytest.raises(ConnectFailedError, match=r"(?s)did not open within 4 s.*starting") as caught:
        await conn.connect()
    assert isinstance(caught.value.reason, StartTimeoutError)


async def test_a_program_that_is_no_plugin_is_told_by_the_line_it_printed() -> None:
    """The offending line is quoted."""
    with pytest.raises(ConnectFailedError, match="hello there") as caught:
        await Connection(["/bin/echo", "hello there"], retry=ONCE).connect()
    assert isinstance(caught.value.reason, HandshakeError)


async def test_secrets_do_not_appear_in_errors() -> None:
    """Neither in the message nor in the repr of the connection."""
    conn = Connection(hostile("env", "TOKEN"), env={"TOKEN": "hunter2-hunter2"}, retry=ONCE)
    with pytest.raises(ConnectFailedError) as caught:
        await conn.connect()
    assert "hunter2" not in f"{caught.value} {caught.value.reason!r} {conn!r} {conn.history}".replace(
        repr(conn._make_link), ""
    )


# --- lives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", range(30))
async def test_connect_cancelled_at_thirty_moments_leaves_nothing(moment: int, leftovers: Leftovers) -> None:
    """Spread over a start: no process, task, descriptor or file is left by the time the cancellation goes on."""
    conn = calculator(start_timeout=200)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(moment * 0.01):
            await conn.connect()
            await asyncio.Event().wait()
    if conn.state is not ConnectionState.DISCONNECTED:
        await conn.disconnect()  # connect() had returned, and its caller was cancelled later
    assert conn.state is ConnectionState.DISCONNECTED
    await leftovers.none()


async def test_disconnect_during_a_start_is_immediate_and_final() -> None:
    """A plugin that never answers is gone at once."""
    before = children()
    conn = Connection(hostile("silent"), start_timeout=200)
    waiting = asyncio.create_task(conn.connect())
    while children() == before:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(200):
        await conn.disconnect()
    with pytest.raises(ConnectionError):
        await waiting
    assert children() == before


@pytest.mark.once
async def test_sixteen_plugins_at_once_leave_the_threads_to_the_application() -> None:
    """All come up, more than the default executor has threads, and `to_thread` still works."""
    others = {*threading.enumerate()}
    conns = [calculator(start_timeout=200) for _ in range(16)]
    await asyncio.gather(*(conn.connect() for conn in conns))
    assert {conn.state for conn in conns} == {ConnectionState.CONNECTED}
    async with asyncio.timeout(200):
        assert await asyncio.to_thread(lambda: 1) == 1
    fresh = {*threading.enumerate()} - others
    assert len([thread for thread in fresh if thread.name.startswith("asyncio_")]) == 1
    await asyncio.get_running_loop().shutdown_default_executor()
    replies = await asyncio.gather(*(conn.call("calculator.Add", a=n, b=n) for n, conn in enumerate(conns)))
    assert [reply.result for reply in replies] == [2 * n for n in range(16)]
    await asyncio.gather(*(conn.disconnect() for conn in conns))


async def test_an_endpoint_that_already_runs_is_called_and_reconnected(tmp_path: Path) -> None:
    """By its address: the same calls and the same life, and no process of ours."""
    from fsm_conn.demo.calculator import Calculator
    from fsm_conn.demo.calculator_pb2_grpc import add_CalculatorServicer_to_server

    async def serve() -> grpc.aio.Server:
        server = grpc.aio.server()
        add_CalculatorServicer_to_server(Calculator(), server)
        server.add_insecure_port(f"unix:{tmp_path}/s")
        await server.start()
        return server

    before = children()
    server = await serve()
    retry = RetryPolicy(max_attempts=None, initial_delay=0.01, max_delay=0.1)
    conn = Connection(f"unix:{tmp_path}/s", services=calculator_pb2, retry=retry)
    async with conn:
        assert (await conn.call("calculator.Add", a=1, b=2)).result == 3
        await server.stop(None)
        await conn.wait_for_state(ConnectionState.RECONNECTING)
        server = await serve()
        assert (await conn.call("calculator.Add", CallOptions(wait_for_ready=True), a=1, b=2)).result == 3
    assert children() == before
    await server.stop(None)


@pytest.mark.parametrize("moment", range(24))
def test_the_end_of_the_loop_at_any_moment_of_a_start_leaves_nothing(moment: int) -> None:
    """No process, not even a zombie, no descriptor and no directory, while the host lives on."""

    async def main(seconds: float) -> Connection:
        conn = calculator(start_timeout=200)
        globals()["started"] = asyncio.ensure_future(conn.connect())
        await asyncio.sleep(seconds)
        return conn

    before = asyncio.run(present())
    conn = asyncio.run(main(moment * 0.012))
    assert conn.state is ConnectionState.DISCONNECTED
    asyncio.run(settled(*before))


async def present() -> Any:
    return children(), descriptors(), directories()


async def settled(processes: Any, fds: Any, private: Any) -> None:
    await eventually(lambda: (children(), descriptors() - fds, directories()) == (processes, Counter(), private))


async def test_plugins_start_at_most_one_per_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts many connections at once does not start all processes at once."""
    starting, most = 0, 0

    async def start(link: PluginLink) -> None:
        nonlocal starting, most
        starting += 1
        most = max(most, starting)
        await asyncio.sleep(0.01)
        starting -= 1
        raise LinkError("only counted")

    monkeypatch.setattr(PluginLink, "open", start)
    conns = [calculator(retry=ONCE) for _ in range(4 * usable_cores())]
    await asyncio.gather(*(conn.connect() for conn in conns), return_exceptions=True)
    assert most == usable_cores()


def script(body: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `body` as a host program of its own; `plugin` is the calculator's command."""
    text = (
        f"import asyncio, os, signal, sys\nfrom fsm_conn import *\nplugin = {list(CALCULATOR)!r}\n"
        + textwrap.dedent(body)
    )
    return subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **env},
    )


def test_the_end_of_the_loop_ends_the_plugin() -> None:
    """asyncio.run returns without a disconnect(), the plugin is gone, and nothing was written."""
    result = script("""
        async def main():
            conn = Connection(plugin)
            await conn.connect()
            print(conn.link.pid)
        asyncio.run(main())
    """)
    assert (result.returncode, result.stderr) == (0, "")
    assert not is_alive(int(result.stdout))


def test_a_loop_that_is_just_dropped_ends_the_plugin_with_the_host() -> None:
    """No asyncio.run, nobody cancels anything: the host's exit ends it."""
    result = script("""
        async def main():
            conn = Connection(plugin)
            await conn.connect()
            print(conn.link.pid, flush=True)
            globals()["kept"] = conn
        asyncio.new_event_loop().run_until_complete(main())
    """)
    assert result.returncode == 0
    assert not is_alive(int(result.stdout.split()[0]))


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A TMPDIR that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="h-") as directory:
        yield Path(directory)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_host_killed_with_9_takes_its_plugin_along(short_directory: Path) -> None:
    """Also when the loop runs in a thread. The private directory stays until the next host starts a plugin."""
    result = script(
        """
        import threading
        async def main():
            conn = Connection(plugin)
            await conn.connect()
            print(conn.link.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        thread.join()
        """,
        TMPDIR=str(short_directory),
    )
    assert result.returncode == -signal.SIGKILL
    plugin = int(result.stdout)
    for _ in range(6000):
        if not is_alive(plugin):
            break
        threading.Event().wait(0.01)
    assert not is_alive(plugin)
    left = list(short_directory.glob("fsm-*"))
    assert len(left) == 1
    stranger = short_directory / "fsm-of-somebody"
    stranger.mkdir()
    script(
        """
        async def main():
            async with Connection(plugin):
                pass
        asyncio.run(main())
        """,
        TMPDIR=str(short_directory),
    )
    assert list(short_directory.glob("fsm-*")) == [stranger]


def test_an_interrupt_ends_host_and_plugin_quietly() -> None:
    """Ctrl-C during a connection: KeyboardInterrupt, and no process left."""
    result = script("""
        async def main():
            async with Connection(plugin) as conn:
                print(conn.link.pid, flush=True)
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(60)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert (result.returncode, result.stderr) == (0, "")
    plugin, word = result.stdout.split()
    assert word == "interrupted"
    assert not is_alive(int(plugin))


@pytest.mark.once
def test_the_demo_shows_the_whole_life_and_nothing_else() -> None:
    """Every transition, the kill, the next reply and the recovery; no noise, no traceback, exit status 0."""
    result = subprocess.run(
        [sys.executable, "-m", "fsm_conn", "demo"], capture_output=True, text=True, timeout=240, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    moves = [line.split("s ", 1)[1].split()[:3:2] for line in lines if "->" in line]
    assert moves == [
        ["disconnected", "connecting"],
        ["connecting", "connected"],
        ["connected", "reconnecting"],
        ["reconnecting", "connected"],
        ["connected", "disconnecting"],
        ["disconnecting", "disconnected"],
    ]
    assert "SIGKILL" in result.stdout
    assert "calculator.Multiply(a=4, b=7) = 28" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.once
def test_a_demo_whose_reader_leaves_ends_quietly() -> None:
    """`fsm-conn demo | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "fsm_conn", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        demo.stdout.readline()
        demo.stdout.close()
        assert demo.stderr.read() == b""
        assert demo.wait(timeout=200) == 0


def kill_and_block(pid: int) -> None:
    """The plugin is dead when this returns, and the event loop has had no turn."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    time.sleep(0.15)


@pytest.mark.once
@pytest.mark.parametrize("kind", ["call", "stream", "waiting"])
async def test_what_is_called_after_a_blocked_loop_was_not_sent(kind: str) -> None:
    """The plugin died while a task computed: what is called then was provably not executed, and may go to the next."""
    async with calculator() as conn:
        for _ in range(5):
            assert (await conn.calculator.Add(a=1, b=2)).result == 3
            kill_and_block(pid(conn))
            if kind == "waiting":
                options = CallOptions(wait_for_ready=True, timeout=200)
                assert (await conn.call("calculator.Add", options, a=1, b=2)).result == 3
                continue
            with pytest.raises(ConnectionLostError, match="was not sent: the plugin's process") as caught:
                if kind == "call":
                    await conn.calculator.Add(a=1, b=2)
                else:
                    _ = [each async for each in conn.calculator.Count(limit=1)]
            assert not caught.value.maybe_executed
            await conn.ensure_connected()

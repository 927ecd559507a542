"""Hostile plugins: each fault of the table is told clearly and in time, leaves nothing behind and gives nothing away."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import tempfile
import threading
import traceback
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fsm_conn
from fsm_conn import ConnectFailedError, Connection, ConnectionState, LinkError, RetryPolicy
from fsm_conn.demo import calculator_pb2
from fsm_conn.links.plugin import link as plugin_link
from fsm_conn.links.plugin.link import PluginLink
from fsm_conn.links.process import system

from .conftest import eventually, is_alive
from .faults import FAULTS, Fault, Pulse, hostile_server, meet

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("no_leaks")]

ROOT = str(Path(__file__).parents[2])
SECRETS = {"API_TOKEN": "MARKED-token-4711", "PLUGIN_MAGIC_COOKIE": "MARKED-cookie-0815"}
ENV = {"PYTHONPATH": ROOT, "TELL": "1", **SECRETS}
"""Every plugin begins by printing the secrets on its stderr."""
MEGABYTE = 1 << 20


class Outside:
    """Somebody else's socket, in somebody else's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._server.setblocking(False)

    def assert_untouched(self) -> None:
        assert os.listdir(self.path.parent) == [self.path.name]
        with pytest.raises(BlockingIOError):
            self._server.accept()

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def outside(no_leaks: None) -> Iterator[Outside]:
    with tempfile.TemporaryDirectory() as directory:
        somebody = Outside(Path(directory) / "s")
        yield somebody
        somebody.close()


@pytest.fixture
def everything(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[Any]:
    """Everything that was logged, at any level, and printed; with a secret in the host's own environment, too."""
    monkeypatch.setenv("HOST_PASSWORD", "MARKED-password-1234")
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join([caplog.text, *(repr(vars(record)) for record in caplog.records), *capfd.readouterr()])


def traced(error: BaseException) -> str:
    """The error as tools show it that write tracebacks down, with the variables of each of our frames."""
    said = traceback.TracebackException.from_exception(error, capture_locals=True)
    lines, seen = [], [said]
    for one in seen:
        lines += [f"{one}", *one.format_exception_only()]
        lines += [f"{frame.name} {frame.locals}" for frame in one.stack if _is_of(fsm_conn, frame.filename)]
        seen += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(lines)


def _is_of(package: ModuleType, filename: str) -> bool:
    return filename.startswith(os.path.dirname(str(package.__file__)))


async def met(fault: Fault, outside: Outside) -> tuple[BaseException | None, str]:
    """What the caller of a plugin with a fault is told, within its time, and all that can be seen of the connection."""
    conn = fault.connection(str(outside.path), ENV)
    async with asyncio.timeout(fault.limit):
        error = await meet(conn, fault)
    seen = f"{conn!r} {conn.link!r} {conn.history} {conn.reason!r} {conn.reason}"
    async with asyncio.timeout(200):
        await conn.disconnect()
    assert conn.state is ConnectionState.DISCONNECTED
    return error, f"{seen} {conn!r} {'' if error is None else f'{error!r} {error} {traced(error)}'}"


def judge(fault: Fault, error: BaseException | None) -> None:
    """The error is of its kind, and quotes the evidence."""
    cause = error.reason if isinstance(error, ConnectFailedError) else error
    if fault.error is None:
        assert error is None, traced(cause) if cause else ""
        return
    assert type(cause) is fault.error, repr(cause)
    missing = [words for words in fault.says if words not in str(error)]
    assert not missing, f"{missing} not in: {error}"


async def check(fault: Fault, outside: Outside, everything: Any) -> None:
    error, seen = await met(fault, outside)
    judge(fault, error)
    outside.assert_untouched()
    shown = seen + everything()
    assert "token [redacted] cookie [redacted] host [redacted]" in shown or "hostile" not in str(fault.command)
    assert "MARKED" not in shown
    assert "PRIVATE KEY" not in shown


def by_name(fault: Fault) -> str:
    return fault.name.replace(" ", "-")


@pytest.mark.parametrize("fault", FAULTS, ids=by_name)
async def test_fault(fault: Fault, outside: Outside, everything: Any) -> None:
    """A clear error in time, or none at all; nothing that is not its own was touched, and no secret is shown."""
    await check(fault, outside, everything)


@pytest.fixture
def bare_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without what Linux alone has: descriptors of processes, the parent-death signal, and a look at zombies."""

    def refuse(*arguments: object) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    monkeypatch.delattr(os, "waitid", raising=False)
    monkeypatch.setattr(system, "death_wrapper", lambda: ())
    monkeypatch.setattr(system, "death_hook", lambda: None)


@pytest.mark.usefixtures("bare_system")
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.core], ids=by_name)
async def test_fault_on_a_bare_system(fault: Fault, outside: Outside, everything: Any) -> None:
    """The same, where an exit is noticed by looking again and again."""
    await check(fault, outside, everything)


AT_ONCE = [fault for fault in FAULTS if fault.core and not fault.call and not fault.hangs]


@pytest.mark.parametrize("fault", [FAULTS[0], *AT_ONCE], ids=by_name)
async def test_the_frames_of_an_error_hold_no_secrets(fault: Fault, everything: Any) -> None:
    """Those of a link that is used by itself; a connection's errors have let go of them."""
    link = PluginLink(fault.command, env={**ENV, **fault.env})
    with pytest.raises(LinkError) as caught:
        await link.open()
    shown = traced(caught.value) + repr(link)
    assert "PluginProcess" in shown
    assert "MARKED" not in shown
    assert "PRIVATE KEY" not in shown


FLOODS = [fault for fault in FAULTS if fault.name.startswith("100 MB")]


@pytest.mark.parametrize("fault", FLOODS, ids=by_name)
async def test_a_flood_costs_no_memory_and_does_not_hold_up_the_loop(
    fault: Fault, outside: Outside, everything: Any
) -> None:
    """100 MB are read in little memory, also while somebody listens to the log."""
    await met(next(fault for fault in FAULTS if fault.core and fault.error is None), outside)  # what is made only once
    async with Pulse.taken() as pulse:
        error, _ = await met(fault, outside)
    judge(fault, error)
    assert pulse.grown < 32 * MEGABYTE
    assert pulse.busy < 1  # a twentieth of a second on a machine that has nothing else to do


def serving(kind: str, **options: Any) -> Connection:
    return Connection(hostile_server(kind), env={"PYTHONPATH": ROOT}, services=calculator_pb2, **options)


async def add(conn: Connection) -> float:
    return float((await conn.call("calculator.Add", a=5, b=3)).result)


async def test_what_it_says_last_is_heard_when_it_dies_while_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status is its own, and nobody is held up."""
    monkeypatch.setattr(plugin_link, "ASKED", 60.0)  # on a busy machine it may take its time
    conn = serving("dies-in-close")
    conn.close_timeout = 60.0
    await conn.connect()
    link: Any = conn.link
    async with asyncio.timeout(200):
        await conn.disconnect()
    assert "exited with status 9" in repr(link)
    assert "cannot save" in link.diagnostics()


def child_of(conn: Connection) -> int:
    """The number of the process that the plugin has started, which it tells first."""
    link: Any = conn.link
    return int(link.diagnostics().splitlines()[-1])


async def test_a_child_of_the_plugin_ends_with_it() -> None:
    """Whether the plugin is closed, or dies."""
    for end in (Connection.disconnect, kill):
        conn = serving("child", retry=RetryPolicy(max_attempts=1))
        await conn.connect()
        child = child_of(conn)
        assert is_alive(child)
        await end(conn)
        await eventually(lambda child=child: not is_alive(child))
        await conn.disconnect()


async def kill(conn: Connection) -> None:
    link: Any = conn.link
    os.kill(link.pid, signal.SIGKILL)
    await conn.wait_for_state(ConnectionState.FAILED)


async def test_a_child_that_escapes_with_the_pipes_holds_nobody_up() -> None:
    """It left the group, and cannot be ended with it; but nothing waits for it to close what it inherited."""
    conn = serving("child-escapes")
    await conn.connect()
    child = child_of(conn)
    try:
        async with asyncio.timeout(200):
            await conn.disconnect()
    finally:
        os.kill(child, signal.SIGKILL)


async def test_a_plugin_outlives_the_thread_in_which_it_was_connected() -> None:
    """The parent-death signal means the death of the host, and not that of a thread."""
    loop = asyncio.new_event_loop()
    conn = serving("plain")

    def in_a_thread(work: Coroutine[Any, Any, Any]) -> Any:
        done: list[Any] = []
        thread = threading.Thread(target=lambda: done.append(loop.run_until_complete(work)))
        thread.start()
        thread.join(200)
        return done[0]

    in_a_thread(conn.connect())
    try:
        assert in_a_thread(add(conn)) == 8
        assert conn.state is ConnectionState.CONNECTED
    finally:
        in_a_thread(conn.disconnect())
        loop.close()


async def test_a_socket_may_be_where_the_user_says() -> None:
    """A directory that the user names in place of the private one."""
    with tempfile.TemporaryDirectory() as directory:
        conn = Connection(
            hostile_server("plain"), env={"PYTHONPATH": ROOT, "TMPDIR": directory}, services=calculator_pb2
        )
        async with conn:
            assert os.listdir(directory) == ["s.sock"]
            assert await add(conn) == 8

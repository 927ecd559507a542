"""The faults that plugins are made to have, as data: what each does, and what its host must be told, and how soon.

The tests check each row of the table; `python -m benchmarks.faults` measures them, beside pyvider-rpcplugin's own client.
A fault that is there from the start ends in an error of `connect()`; others show in a call, or not at all.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import grpc.aio

from fsm_conn import (
    BadCookieError,
    CallError,
    CallOptions,
    CommandNotFoundError,
    Connection,
    ConnectionLostError,
    ConnectionState,
    HandshakeError,
    HealthPolicy,
    IncompatibleProtocolError,
    NotConnectedError,
    Plugin,
    PluginExitedError,
    RetryPolicy,
    StartTimeoutError,
)
from fsm_conn.demo import calculator_pb2

__all__ = ["FAULTS", "PLUGINS", "PYTHON", "Fault", "Pulse", "hostile", "meet"]

PLUGINS = Path(__file__).parent / "plugins"
PYTHON = sys.executable

HANG = 4.0
"""Seconds that one which never comes up is given. Its host's error takes as long; whatever ends by itself is sooner."""
WATCHED = HealthPolicy(interval=0.2, timeout=0.5, failure_threshold=2, jitter=0, busy_limit=3)
"""A plugin that hangs while it serves is given up after some four seconds, and one on a busy machine is not."""
ONCE = RetryPolicy(max_attempts=1)


def hostile(kind: str, *arguments: object) -> list[str]:
    """The command of a plugin that misbehaves in one way, before it serves."""
    return [PYTHON, "-S", "-E", str(PLUGINS / "hostile.py"), kind, *map(str, arguments)]


def hostile_server(kind: str, *arguments: object) -> list[str]:
    """The command of a plugin that misbehaves in one way, while it serves."""
    return [PYTHON, str(PLUGINS / "hostile_server.py"), kind, *map(str, arguments)]


@attrs.frozen(kw_only=True)
class Fault:
    """A plugin that misbehaves, and what is to come of it."""

    name: str
    command: list[str] = attrs.field(repr=False)
    """`OUTSIDE` in it stands for the path of a socket that is not the plugin's."""
    error: type[BaseException] | None = None
    """What `connect()` fails for, or else what the call raises. None: the call is answered all the same."""
    says: tuple[str, ...] = ()
    """What the error quotes."""
    call: str = ""
    """The method that is called once it is up, `Add` or `Count`; empty: it does not come up."""
    lost_after: bool = False
    """It is lost after a first call; the next one is told why."""
    timeout: float | None = None
    """Seconds of the call."""
    start_timeout: float = 120.0
    limit: float = 200.0
    """Seconds until the error must be there, on a machine that is busy with other things."""
    health: HealthPolicy | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    max_message: int = 2**31 - 1
    prefork: bool = False
    core: bool = False
    """What must hold wherever we run, also without what Linux alone can do."""

    @property
    def hangs(self) -> bool:
        """Whether it never comes up, and nothing but the time that it is given ends it."""
        return self.error is StartTimeoutError

    def connection(self, outside: str, env: Mapping[str, str]) -> Connection:
        """A connection to the plugin."""
        return Connection(
            Plugin(
                [word.replace("OUTSIDE", outside) for word in self.command],
                env={**env, **self.env},
                max_message=self.max_message,
                prefork=self.prefork,
            ),
            health=self.health,
            retry=ONCE,
            start_timeout=self.start_timeout,
            services=calculator_pb2,
            name="plugin",
        )


def _never_up(name: str, kind: str, *arguments: object, **told: Any) -> Fault:
    return Fault(name=name, command=hostile(kind, *arguments), **told)


def _hangs(name: str, kind: str, *says: str, **told: Any) -> Fault:
    error: Any = StartTimeoutError
    return _never_up(
        name, kind, error=error, says=(f"did not open within {HANG:g} s", *says), start_timeout=HANG, **told
    )


def _line(name: str, line: str, *says: str, error: type[BaseException] = HandshakeError, **told: Any) -> Fault:
    return _never_up(name, "line", line, error=error, says=says, **told)


def _serves(name: str, kind: str, *arguments: object, call: str = "Add", **told: Any) -> Fault:
    return Fault(name=name, command=hostile_server(kind, *arguments), call=call, **told)


FAULTS: tuple[Fault, ...] = (
    # -- before the handshake
    Fault(
        name="no such command",
        command=["no-such-plugin"],
        error=CommandNotFoundError,
        says=("'no-such-plugin' is not in any directory of PATH",),
    ),
    _hangs("says nothing", "silent", "had printed nothing on stdout", "starting", core=True),
    _hangs("stops after half a handshake line", "half-a-line", "had printed '1|1|unix|/tm' on stdout, and no end"),
    _hangs("stopped by SIGSTOP", "stopped", "tired"),
    _hangs("ignores SIGTERM, says nothing", "silent-stubborn", "I stay"),
    _never_up(
        "exits with a message", "exit", error=PluginExitedError, says=("exited with status 3", "no license"), core=True
    ),
    _never_up("exits without a word", "without-a-word", error=PluginExitedError, says=("status 0 before its handsh",)),
    _never_up("crashes", "crash", error=PluginExitedError, says=("killed by SIGSEGV", "about to crash"), core=True),
    _never_up("garbage, and lives on", "garbage", error=HandshakeError, says=("'hello, I am no plugin' is not one",)),
    _never_up("garbage, and exits", "garbage-exit", error=HandshakeError, says=("'usage: thing [op", "with status 2")),
    _never_up("binary garbage", "binary", error=HandshakeError, says=("is not one", r"\\xf0")),
    _never_up("closes stdout", "closed-stdout", error=HandshakeError, says=("closed its stdout before",), core=True),
    _never_up(
        "100 MB on stdout without a newline",
        "no-newline",
        100,
        error=HandshakeError,
        says=("more than 65536 bytes without a handshake line", "zzz"),
    ),
    _never_up("100 MB of lines first", "first-flood", 1, 100, error=HandshakeError, says=("is not one", "xxxx")),
    _never_up(
        "a child keeps the pipes open",
        "child-keeps-pipes",
        error=HandshakeError,
        says=("is not one", "exited with status 5", "parent ends"),
        core=True,
    ),
    # -- in the handshake
    _line("other core version", "2|1|unix|/tmp/x|grpc|", "has core version 2", error=IncompatibleProtocolError),
    _line(
        "other app version",
        "1|7|unix|/tmp/x|grpc|",
        "version 7, and this host offered 5, 6",
        error=IncompatibleProtocolError,
        env={"PLUGIN_PROTOCOL_VERSIONS": "5,6"},
    ),
    _line("net/rpc", "1|1|unix|/tmp/x|netrpc|", "announces net/rpc", error=IncompatibleProtocolError),
    _never_up("refuses the cookie", "cookie-python", error=BadCookieError, says=("refused this host's magic cookie",)),
    Fault(
        name="refuses the cookie (pyvider's own server)",
        command=[PYTHON, "-m", "fsm_conn.demo.calculator"],
        env={"PLUGIN_MAGIC_COOKIE": "MARKED-other-cookie"},
        error=BadCookieError,
        says=("refused this host's magic cookie",),
    ),
    _line("socket outside of its directory", "1|1|unix|OUTSIDE|grpc|", "announces a socket that is outside of the dir"),
    _line("socket path with ..", "1|1|unix|TMPDIR/../s.sock|grpc|", "announces a socket that is outside of the dir"),
    _never_up("socket is a link", "socket-link", error=HandshakeError, says=("that is a symbolic link",)),
    _never_up(
        "socket behind a linked directory",
        "socket-directory-link",
        "OUTSIDE",
        error=HandshakeError,
        says=("is outside of the directory that the plugin was given",),
    ),
    _never_up("socket is a file", "socket-file", error=HandshakeError, says=("that is no socket",)),
    _line("socket does not exist", "1|1|unix|TMPDIR/s.sock|grpc|", "cannot be reached", "No such file"),
    _line("address of another machine", "1|1|tcp|192.0.2.1:80|grpc|", "not on this machine"),
    _line("nobody at its address", "1|1|tcp|127.0.0.1:1|grpc|", "cannot be reached", "Connection refused"),
    _never_up(
        "junk for a certificate",
        "handshake-certificate",
        error=HandshakeError,
        says=("a certificate that cannot be read",),
    ),
    # -- after the handshake
    _never_up(
        "handshake, then exits",
        "handshake-exit",
        error=PluginExitedError,
        says=("exited with status 4 right after its handshake", "died of shame"),
        core=True,
    ),
    _never_up("two handshakes, then exits", "handshake-twice", error=PluginExitedError, says=("exited with status 6",)),
    _hangs("handshake, then hangs", "handshake-hang", "its first line on stdout was '1|1|unix|/"),
    _never_up("handshake, then hangs up", "handshake-hangs-up", error=HandshakeError, says=("cannot be reached",)),
    _never_up("handshake, then speaks HTTP/1", "handshake-http", error=HandshakeError, says=("cannot be reached",)),
    # -- comes up all the same
    _serves("slow to start", "announces-late"),
    _serves("handshake a byte at a time", "announces-in-pieces", core=True),
    _serves("100 MB on stderr before the handshake", "floods-first", 2, 100, core=True),
    _serves("closes stdout after the handshake", "closes-stdout"),
    _serves("deletes its socket", "deletes-its-socket"),
    _serves("100 MB on stdout during a call", "floods-in-call", 1, 100, core=True),
    _serves("100 MB on stderr during a call", "floods-in-call", 2, 100),
    _serves("ignores SIGTERM", "ignores-sigterm"),
    _serves("exits with 9 when closed", "dies-in-close"),
    # -- while it serves
    _serves(
        "dies during a call",
        "dies-in-call",
        error=ConnectionLostError,
        says=("it may have been executed", "exited with status 7", "out of paper"),
        core=True,
    ),
    _serves(
        "dies during a stream",
        "dies-in-stream",
        call="Count",
        error=ConnectionLostError,
        says=("exited with status 7", "out of paper"),
    ),
    _serves(
        "dies between two calls",
        "dies-between-calls",
        error=NotConnectedError,
        says=("exited with status 7", "out of paper"),
        lost_after=True,
        core=True,
    ),
    _serves(
        "stopped during a call",
        "stops-in-call",
        error=ConnectionLostError,
        says=("the peer did not answer any more", "was still there", "going to sleep"),
        health=WATCHED,
        core=True,
    ),
    _serves(
        "stopped during a stream",
        "stops-in-stream",
        call="Count",
        error=ConnectionLostError,
        says=("the peer did not answer any more", "going to sleep"),
        health=WATCHED,
    ),
    _serves(
        "answers neither calls nor probes",
        "neither",
        error=ConnectionLostError,
        says=("the peer did not answer any more",),
        health=WATCHED,
    ),
    _serves(
        "answers calls, not probes",
        "no-health",
        error=NotConnectedError,
        says=("no answer to a health probe within 0.5 s",),
        health=attrs.evolve(WATCHED, busy_limit=60),
        lost_after=True,
    ),
    _serves(
        "answers probes, not calls",
        "no-answer",
        error=grpc.aio.AioRpcError,
        says=("DEADLINE_EXCEEDED",),
        health=HealthPolicy(interval=0.1, timeout=5, jitter=0),
        timeout=1,
    ),
    _serves(
        "reply over the limit",
        "huge-reply",
        error=grpc.aio.AioRpcError,
        says=("larger than max", "4194304"),
        max_message=4 * 1024 * 1024,
    ),
    _serves("reply is junk", "bad-reply", error=CallError, says=("not with a valid calculator.Result",)),
)


async def meet(conn: Connection, fault: Fault) -> BaseException | None:
    """Connect to a plugin with a fault, and call it if it comes up; return what its caller was told. None: its answer."""
    try:
        await conn.connect()
        if fault.lost_after:
            assert (await conn.call("calculator.Add", a=5, b=3)).result == 8
            await conn.wait_for_state(ConnectionState.FAILED)
        options = CallOptions(timeout=fault.timeout)
        if fault.call == "Count":
            assert [reply.result async for reply in conn.stream("calculator.Count", options, limit=1)] == [8]
        elif fault.call:
            assert (await conn.call("calculator.Add", options, a=5, b=3)).result == 8
    except AssertionError:
        raise
    except Exception as error:
        return error
    return None


class Pulse:
    """How the loop and the memory of this process fare.

    Attributes:
        lag: the longest that the loop was kept from what was due, in seconds.
        busy: the longest that the loop's own thread has worked meanwhile, in seconds of its own time.
        grown: by how many bytes the resident memory has grown, at most.
    """

    def __init__(self) -> None:
        self.lag = self.busy = 0.0
        self.grown = 0
        self._before = _resident()

    @classmethod
    @asynccontextmanager
    async def taken(cls) -> AsyncIterator[Pulse]:
        """Take it within a block."""
        pulse = cls()
        beating = asyncio.create_task(pulse._beat())
        try:
            yield pulse
        finally:
            beating.cancel()
            await asyncio.wait((beating,))

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began, busy = clock(), time.thread_time()
            await asyncio.sleep(0.005)
            self.lag = max(self.lag, clock() - began - 0.005)
            self.busy = max(self.busy, time.thread_time() - busy)
            self.grown = max(self.grown, _resident() - self._before)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

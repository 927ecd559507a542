"""Plugins with faults: how soon is each told, and in which words? Beside pyvider-rpcplugin's own client.

    python -m benchmarks.faults [--only WORDS] [--cut-off SECONDS] [--jobs N] [--write FILE] [--json FILE]

The faults are those of the tests, `tests/real/faults.py`. Each is met by fsm_conn, with one attempt, and by the other
client, through its `start()` and a compiled stub; each time in an interpreter of its own, with a temporary directory of
its own, which is ended after the cut-off with all that it started. Measured is the time from `connect()`, or `start()`,
to the error that the caller gets, or to the answer where there is one; imports are not counted. Both are given plugins
that never come up: fsm_conn has a start timeout of 4 s for these, and the other client has no such setting.

"stall" is the longest that the event loop was kept from other work meanwhile, and "memory" by how much the host grew.
The last row is of a host that is killed with SIGKILL: how long its plugin lives on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from benchmarks.leftovers import is_alive
from benchmarks.table import machine
from tests.real.faults import FAULTS, Fault, Pulse, hostile_server, meet

__all__ = ["main"]

CUT_OFF = 40.0
START_LIMIT = 60.0
"""Seconds for an interpreter to import what it needs, on a machine that is busy with other things."""
HOST_KILLED = "its host is killed with SIGKILL"
CLIENTS = ("fsm_conn", "pyvider-rpcplugin")
SHOWN = 150
PAGE = Path(__file__).with_name("FAULTS.md")
HEAD = """# Faults of plugins

Written by `python -m benchmarks.faults`, which the [README](README.md) describes: how soon the caller of each plugin
that misbehaves is told, and what, beside pyvider-rpcplugin's own client. fsm_conn was given one attempt, and a start
timeout of 4 s with plugins that never come up; the other client has its own timeouts and retries.
"""


@attrs.frozen(kw_only=True)
class Met:
    """How one client fared with one fault."""

    seconds: float | None
    """Until the error or the answer; None: there was neither before the cut-off."""
    error: str = ""
    """The kind of the error; empty: the call was answered."""
    says: str = ""
    stall: float = 0.0
    memory: float = 0.0
    """Megabytes."""


# -- in an interpreter of its own ------------------------------------------------------------------------------------


async def _met_by_us(fault: Fault, outside: str) -> BaseException | None:
    return await meet(fault.connection(outside, {}), fault)


async def _met_by_others(fault: Fault, outside: str) -> BaseException | None:
    from pyvider.rpcplugin import plugin_client

    from benchmarks.plugin import calculator_stub
    from fsm_conn.demo.calculator_pb2 import Limit, Operands

    command = [word.replace("OUTSIDE", outside) for word in fault.command]
    client: Any = plugin_client(command, config={"env": dict(fault.env)})
    try:
        await client.start()
        stub = calculator_stub(client.grpc_channel)
        for _ in range(2 if fault.lost_after else 1):
            if fault.call == "Count":
                [reply async for reply in stub.Count(Limit(limit=1))]
            elif fault.call and await stub.Add(Operands(a=5, b=3), timeout=fault.timeout) is None:
                return AssertionError("no error, and no reply either: it is None")
    except Exception as error:
        return error
    return None


async def _measured(by: Callable[[Fault, str], Awaitable[BaseException | None]], fault: Fault, outside: str) -> Met:
    async with Pulse.taken() as pulse:
        began = time.perf_counter()
        error = await by(fault, outside)
        seconds = time.perf_counter() - began
    kind = "" if error is None else type(getattr(error, "reason", None) or error).__name__
    says = "" if error is None else _words(error)
    return Met(seconds=seconds, error=kind, says=says, stall=pulse.lag, memory=pulse.grown / 1e6)


def _words(error: BaseException) -> str:
    import grpc

    if isinstance(error, grpc.RpcError):
        told: Any = error
        return f"{told.code().name}: {told.details()}"
    return str(error).partition("given up at the first attempt: ")[2] or str(error)


async def _come_up(client: str) -> int:
    """Start a plugin that has no fault, and return its number."""
    if client == CLIENTS[0]:
        conn = Fault(name="none", command=hostile_server("plain"), call="Add").connection("", {})
        await conn.connect()
        link: Any = conn.link
        _kept.append(conn)
        return int(link.pid)
    from pyvider.rpcplugin import plugin_client

    other: Any = plugin_client(hostile_server("plain"))
    await other.start()
    _kept.append(other)
    return int(other._process.pid)


_kept: list[Any] = []


async def _alone(client: str, name: str, outside: str) -> None:
    """Meet one fault, write what came of it on stdout, and wait to be ended."""
    import fsm_conn.links.plugin.client  # imports are not counted, on neither side

    assert fsm_conn
    print("ready", flush=True)
    if name == HOST_KILLED:
        found: dict[str, Any] = {"pid": await _come_up(client)}
    else:
        fault = next(each for each in FAULTS if each.name == name)
        by = _met_by_us if client == CLIENTS[0] else _met_by_others
        found = attrs.asdict(await _measured(by, fault, outside))
    print(json.dumps(found), flush=True)
    # Whoever reads this ends us, and all that we have started.
    await asyncio.Event().wait()


# -- from outside ----------------------------------------------------------------------------------------------------


@contextmanager
def _interpreter(client: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """One that meets a fault, with a socket of somebody else's; all of it is gone after the block."""
    # A short path, for sockets are made in it.
    with tempfile.TemporaryDirectory(prefix="ff-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        outside = os.path.join(directory, "outside.sock")
        quiet = {"GRPC_VERBOSITY": "NONE", "PROVIDE_LOG_LEVEL": "CRITICAL", "FOUNDATION_LOG_LEVEL": "CRITICAL"}
        os.mkdir(own := os.path.join(directory, "t"))
        command = [sys.executable, "-m", "benchmarks.faults", "--alone", client, name, outside]
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(outside)
            server.listen()
            env = {**os.environ, **quiet, "TMPDIR": own}
            with subprocess.Popen(
                command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as child:
                try:
                    yield child
                finally:
                    _end([child.pid, *_descendants(child.pid)])


def _descendants(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, thread.read_text().split()):
                yield child
                yield from _descendants(child)


def _end(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _said(child: subprocess.Popen[str], limit: float) -> str:
    """The next line of its stdout; empty when it does not come in time, or never."""
    assert child.stdout is not None
    with ThreadPoolExecutor(1) as reading:
        line = reading.submit(child.stdout.readline)
        try:
            return line.result(limit)
        except TimeoutError:
            _end([*_descendants(child.pid), child.pid])
            return ""


def _meet_alone(client: str, name: str, cut_off: float) -> Met:
    with _interpreter(client, name) as child:
        if not _said(child, START_LIMIT):
            raise RuntimeError(f"the interpreter for {client}, {name!r} did not start")
        said = _said(child, cut_off)
        if not said:
            return Met(seconds=None)
        found = json.loads(said)
        return _outlived(child, found["pid"], cut_off) if name == HOST_KILLED else Met(**found)


def _outlived(child: subprocess.Popen[str], plugin: int, cut_off: float) -> Met:
    """Kill the host, and see how long its plugin lives on."""
    child.kill()
    began = time.perf_counter()
    while is_alive(plugin) and time.perf_counter() - began < cut_off:
        time.sleep(0.001)
    taken = time.perf_counter() - began
    if is_alive(plugin):
        _end([plugin])
        return Met(seconds=None)
    return Met(seconds=taken, error="gone")


def _rows(names: Sequence[str], cut_off: float, jobs: int) -> dict[str, dict[str, Met]]:
    found: dict[str, dict[str, Met]] = {name: {} for name in names}
    # Ours one after another; the others mostly sleep, and would take an hour.
    for name in names:
        found[name][CLIENTS[0]] = _meet_alone(CLIENTS[0], name, cut_off)
        _progress(found, cut_off)
    with ThreadPoolExecutor(jobs) as pool:
        running = {name: pool.submit(_meet_alone, CLIENTS[1], name, cut_off) for name in names}
        for name, met in running.items():
            found[name][CLIENTS[1]] = met.result()
            _progress(found, cut_off)
    return found


def _progress(found: dict[str, dict[str, Met]], cut_off: float) -> None:
    if sys.stderr.isatty():
        done = sum(map(len, found.values()))
        print(f"\r\x1b[K{done}/{2 * len(found)}", end="", file=sys.stderr, flush=True)


# -- the table -------------------------------------------------------------------------------------------------------


def _cells(met: Met, cut_off: float) -> list[str]:
    if met.seconds is None:
        return [f"none in {cut_off:g} s", "", ""]
    said = " / ".join(map(str.strip, met.says.splitlines()))
    text = said if len(said) <= SHOWN else said[: SHOWN - 3] + "..."
    what = f"{met.error}: {text}" if text else met.error or "answered"
    # A table's cells may hold no bars.
    return [f"{met.seconds:.2f} s", what.replace("|", "\\|"), f"{met.stall * 1000:.0f} ms, {met.memory:.0f} MB"]


def _table(found: dict[str, dict[str, Met]], cut_off: float) -> str:
    ours, others = CLIENTS
    headings = ["fault"]
    for client in (ours, others):
        headings += [client, "its caller is told", "stall, memory"]
    lines = [f"| {' | '.join(headings)} |", "|---|--:|---|--:|--:|---|--:|"]
    for name, met in found.items():
        lines.append("| " + " | ".join([name, *_cells(met[ours], cut_off), *_cells(met[others], cut_off)]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    options = _options(arguments)
    if options.alone:
        client, name, outside = options.alone
        asyncio.run(_alone(client, name, outside))
        return 0
    names = [name for name in [*(fault.name for fault in FAULTS), HOST_KILLED] if options.only in name]
    described = {name: value for name, value in machine().items() if name != "peers"}  # pools and machines
    found = _rows(names, options.cut_off, options.jobs)
    page = "\n".join(
        [HEAD, *(f"- {key}: {value}" for key, value in described.items()), "", _table(found, options.cut_off)]
    )
    print(page)
    if options.write:
        options.write.write_text(page + "\n")
    if options.json:
        _write(options.json, options.cut_off, described, found)
    return 0


def _write(path: Path, cut_off: float, described: dict[str, str], found: dict[str, dict[str, Met]]) -> None:
    rows = [
        {"fault": name, **{client: attrs.asdict(met) for client, met in row.items()}} for name, row in found.items()
    ]
    path.write_text(json.dumps({"machine": described, "cut_off": cut_off, "rows": rows}, indent=2) + "\n")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description="Meet plugins with faults.")
    parser.add_argument("--only", default="", metavar="WORDS", help="faults whose names have these words")
    parser.add_argument("--cut-off", type=float, default=CUT_OFF, metavar="SECONDS", help="end a client that hangs")
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="how many of the other clients run at a time")
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=PAGE,
        metavar="FILE",
        help="write the page to FILE (benchmarks/FAULTS.md)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE, too")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

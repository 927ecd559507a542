"""What tests of real processes share: the plugins they start, and a look at what was left behind."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc.aio
import pytest

from fsm_conn._util import workers
from fsm_conn.demo import calculator_pb2
from fsm_conn.links.plugin import client as _pyvider  # imported here, so that no test pays for it
from fsm_conn.links.process import spawner, system, watchdog

from .faults import PLUGINS, PYTHON, hostile

assert _pyvider

__all__ = [
    "CALCULATOR",
    "DEMO",
    "PLUGINS",
    "PYTHON",
    "Leftovers",
    "children",
    "descriptors",
    "directories",
    "eventually",
]
__all__ += ["hostile", "is_alive", "threads"]

GO_SOURCES = Path(__file__).parent / "goplugin"
GO_LIBRARIES = Path("/usr/share/gocode")
GO_NEEDED = ("github.com/hashicorp/go-plugin", "google.golang.org/grpc", "github.com/golang/protobuf")
CALCULATOR = (PYTHON, str(PLUGINS / "lean.py"))
"""What most tests start, for it starts soonest."""
DEMO = (PYTHON, "-m", "fsm_conn.demo.calculator")
"""The calculator of users, on pyvider's library."""


def children() -> set[int]:
    """This process's child processes, zombies included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with _gone_is_fine():
            found.update(map(int, (task / "children").read_text().split()))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptors() -> Counter[str]:
    """Open pipes, process descriptors and sockets, by kind. What gRPC keeps to wake itself with is left out."""
    kinds: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        with _gone_is_fine():
            kind = os.readlink(f"/proc/self/fd/{fd}").split(":[")[0]
            kinds[kind] += kind in ("pipe", "socket", "anon_inode:[pidfd]") or kind.endswith("pidfd]")
    return +kinds


def directories() -> set[str]:
    """The private directories that this process has made."""
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith(f"fsm-{os.getpid()}-")}


def threads() -> Counter[str]:
    """The threads, by the kind of name they have."""
    return Counter(thread.name.rstrip("0123456789") for thread in threading.enumerate())


class _gone_is_fine:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        return kind is not None and issubclass(kind, (FileNotFoundError, ProcessLookupError))


def _others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


async def eventually(check: Callable[[], object], limit: float = 200.0) -> None:
    """Wait until `check()` is true; fail after `limit` seconds."""
    async with asyncio.timeout(limit):
        while not check():
            await asyncio.sleep(0.005)


def needs_go() -> str:
    """Where `go` is; the test is skipped where it, or a library that Debian packages, is missing."""
    go = shutil.which("go")
    missing = [name for name in GO_NEEDED if not (GO_LIBRARIES / "src" / name).is_dir()]
    if go is None or missing:
        pytest.skip(f"needs Go and its libraries as Debian packages them: {', '.join(missing) or 'no go'}")
    return go


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What has been compiled: kept for other runs where these say so, and otherwise for this one."""
    directory = tmp_path_factory.mktemp("go-cache")
    yield os.environ.get("GOCACHE") or str(directory)
    shutil.rmtree(directory, ignore_errors=True)


def built(go: str, directory: Path, cache: str) -> str:
    """The program whose source is in the directory. Of those that are built at one time, the first compiles for all."""
    env = {
        "CGO_ENABLED": "0",
        "GO111MODULE": "off",
        "GOPATH": str(GO_LIBRARIES),
        "GOFLAGS": "",
        "GOCACHE": cache,
    }
    command = [go, "build", "-o", "plugin", "."]
    Path(cache).mkdir(parents=True, exist_ok=True)
    with open(Path(cache) / "fsm-conn.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, cwd=directory, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(directory / "plugin")


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory, cache: str) -> str:
    """The plugin in Go, built."""
    go = needs_go()
    directory = tmp_path_factory.mktemp("go")
    for source in GO_SOURCES.glob("*.go"):
        shutil.copy(source, directory)
    (directory / "calculator.desc").write_bytes(calculator_pb2.DESCRIPTOR.serialized_pb)
    return built(go, directory, cache)


def _shown(pids: set[int]) -> list[str]:
    """Each process as `ps` would show it: the state that it is in, and its command."""
    shown = []
    for pid in pids:
        with _gone_is_fine():
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            shown.append(f"{pid} {state} {Path(f'/proc/{pid}/cmdline').read_text()!r}")
    return shown


class Leftovers:
    """What there was at one moment, to be compared with what there is later."""

    def __init__(self) -> None:
        self.before = self._now()

    def _now(self) -> dict[str, object]:
        return {
            "processes": children(),
            "descriptors": descriptors(),
            "directories": directories(),
            "threads": threads(),
            "tasks": _others(),
        }

    def _grown(self) -> dict[str, object]:
        now = self._now()
        return {kind: more for kind, was in self.before.items() if (more := now[kind] - was)}  # type: ignore[operator]

    async def none(self, limit: float = 200.0) -> None:
        """Wait until nothing is left that was not there before; fail after `limit` seconds."""
        end = time.monotonic() + limit
        while grown := self._grown():
            assert time.monotonic() < end, f"left behind: {grown} {_shown(children() - self.before['processes'])}"  # type: ignore[operator]
            await asyncio.sleep(0.01)


@pytest.fixture(scope="session", autouse=True)
def temporary_directory() -> Iterator[None]:
    """A directory for temporary files of this run alone, so that other runs on the machine leave no traces in it."""
    with tempfile.TemporaryDirectory(prefix="t-") as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", directory)
        patch.setattr(tempfile, "tempdir", directory)
        yield


@pytest.fixture
async def leftovers() -> Leftovers:
    """To be asked within a test: `await leftovers.none()`."""
    await _warm_up()
    return Leftovers()


@pytest.fixture
async def no_leaks() -> AsyncIterator[None]:
    """The test leaves no process, descriptor, private directory, thread or task behind."""
    await _warm_up()
    before = Leftovers()
    yield
    await before.none()


async def _warm_up() -> None:
    """What is made once per process, or once per loop, is no leak."""
    await workers.run("spawner", system.death_wrapper)
    await workers.run("spawner", watchdog.ensure)
    await asyncio.wrap_future(spawner.remove("/nowhere"))
    global _channel
    if _channel is None:
        _channel = grpc.aio.insecure_channel("unix:/nowhere")


_channel: grpc.aio.Channel | None = None

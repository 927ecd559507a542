"""Which event loop a test runs in: virtual time everywhere but where sockets and processes are real."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
import traces
import warm
from hypothesis import HealthCheck, settings

import fsm_conn
from fsm_conn.testing import VirtualLoop

# How long an example takes is the machine's affair, and no property of what is tested.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# What a shell runs in the background ignores Ctrl-C, and with nohup the end of the terminal; and so would all that is
# started here, and then sent these signals.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)

# The demo's plugins set these when they are imported, as some tests do: which of them is the first makes no difference.
os.environ.setdefault("PROVIDE_LOG_LEVEL", "CRITICAL")
os.environ.setdefault("FOUNDATION_LOG_LEVEL", "CRITICAL")

HERE = Path(__file__).parent
REAL = (HERE / "real", HERE / "links", HERE / "blocking")
SEARCHES = tuple(
    HERE / f"{name}.py"
    for name in (
        *("connection/test_beside", "connection/test_long_life", "connection/test_serving"),
        *("pool/test_merging", "pool/test_mutants", "pool/test_storm"),
        *("testing/test_careless", "testing/test_cases", "testing/test_exploring", "testing/test_mutants"),
        *("testing/test_own_ways", "testing/test_premises", "testing/test_reach", "testing/test_schedules"),
        "testing/test_users_faults",
    )
)
"""Thousands of lives, on the search for one that goes wrong."""
ONCE = (
    *SEARCHES,
    *(
        HERE / name
        for name in (
            *("_util", "checks", "cli", "cluster", "diagrams", "inspector", "real", "telemetry", "testing"),
            *("connection/test_patience.py", "pool/test_exploring.py", "pool/test_own_leases.py"),
            *("links/test_fuzz_files.py", "links/grpc/test_fuzz_reflection.py", "links/grpc/test_fuzz_requests.py"),
            *("links/plugin/test_hclog.py", "links/process/test_fuzz_output.py"),
            *("test_benchmarks.py", "test_layers.py", "test_patience.py", "test_platforms.py"),
            *("test_security_document.py", "test_surface.py"),
        )
    ),
)
"""What one interpreter shows for all: texts, pictures, documents, pages, searches by chance and for seeded faults, days
of virtual time, and peers that others wrote. None of that asks more of the interpreter than the tests of machines,
connections and pools do. In files of those, the longest tests of that kind have the mark themselves.
"""
EVERYWHERE = tuple(HERE / "real" / f"test_{name}.py" for name in ("connection_real", "prefork_real", "process"))
"""What of that depends on the interpreter: its processes, its forks, its event loop."""
THOROUGH = (
    *SEARCHES,
    *(HERE / name for name in ("real", "diagrams/test_rendered.py", "diagrams/test_sphinx.py", "test_benchmarks.py")),
    HERE / "testing/test_plugin.py",
)
"""What takes longer than all the rest together: searches, programs, pages, servers and plugins that others wrote."""
LEFT_OUT: dict[str, Callable[[Path], bool]] = {
    "not once": lambda path: runs_once(path),
    "not thorough": lambda path: is_thorough(path),
    "thorough": lambda path: not is_thorough(path),
}
"""Files in which a marker expression chooses nothing."""
LONG = tuple(HERE / name for name in ("real", "testing", "cli", "pool/test_mutants.py", "inspector", "diagrams"))
"""What takes longest begins first, so that no worker has it left when the others are done."""


def pytest_configure(config: pytest.Config) -> None:
    """In development mode asyncio tells of each callback that a busy machine delays, on standard error, which tests of
    programs read: these programs get the warnings of that mode alone.
    """
    is_worker_s = hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None)
    warm.ignore_slow_turns()
    if is_worker_s and os.environ.pop("PYTHONDEVMODE", ""):
        os.environ["PYTHONWARNINGS"] = "default"


def runs_once(path: Path) -> bool:
    """Whether one interpreter is enough for the tests of a file."""
    return path not in EVERYWHERE and _is_in(ONCE, path)


def is_thorough(path: Path) -> bool:
    """Whether the tests of a file are left to `tox -e thorough`."""
    return path not in EVERYWHERE and _is_in(THOROUGH, path)


@cache  # asked for each test, and there are thousands in a few hundred files
def _is_in(parts: tuple[Path, ...], path: Path) -> bool:
    return any(part == path or part in path.parents for part in parts)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what will not run."""
    is_left_out = LEFT_OUT.get(config.option.markexpr)
    if is_left_out is None or collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    return True if is_left_out(collection_path) else None


@pytest.fixture(autouse=True, scope="module")
def as_the_file_found_it(scratch: str) -> Iterator[None]:
    """A file of tests leaves the process as it found it: which files share one differs from run to run."""
    yield from _as_it_was(traces.of_a_file, scratch)
    if not gc.get_freeze_count():  # asked once, for all that is frozen is counted; see `pytest_collection_finish`
        pytest.fail("the process is not as it was found: what was frozen is not any more", pytrace=False)


@pytest.fixture(autouse=True)
def as_the_test_found_it(scratch: str) -> Iterator[None]:
    """So does each test: which of them share a worker is chance."""
    yield from _as_it_was(traces.of_a_test, scratch)


def _as_it_was(look: Callable[[], traces.Traces], scratch: str) -> Iterator[None]:
    before = look()
    yield
    if left := [*traces.changes(before, look(), scratch)]:
        pytest.fail("the process is not as it was found: " + "; ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Below it is every file that tests write."""
    return str(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of libraries: each is read once for all tests of types, and by `tox -e types` before them."""
    known = os.environ.get("MYPY_CACHE_DIR")
    return Path(known).absolute() if known else tmp_path_factory.mktemp("mypy")


@pytest.fixture(scope="session")
def mypy(mypy_cache: Path) -> Callable[..., str]:
    """What mypy says of files, in a process of its own: it sets the collector and the recursion limit as it likes them.

    The package is one that is installed, modules in `beside` are not.
    """
    pytest.importorskip("mypy")
    installed = Path(fsm_conn.__file__).parents[1]

    def run(*arguments: object, beside: Iterable[Path] = (), cwd: Path | None = None) -> str:
        command = [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", mypy_cache, *arguments]
        env = {**os.environ, "PYTHONPATH": str(installed), "MYPYPATH": os.pathsep.join(map(str, beside))}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout + done.stderr

    return run


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Of the workers, one collects before the others: what it has compiled they only read."""
    with open(__file__) as lock:
        if "PYTEST_XDIST_WORKER" in os.environ:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(lock, fcntl.LOCK_SH)
        return (yield)


def pytest_collection_finish() -> None:
    """What was imported stays: who collects garbage need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts real processes (`pytest -m "not real"`), and what need not run on every interpreter or in every run."""
    items.sort(key=lambda item: not _is_in(LONG, item.path))
    for item in items:
        if HERE / "real" in item.path.parents:
            item.add_marker(pytest.mark.real)
        if runs_once(item.path):
            item.add_marker(pytest.mark.once)
        if is_thorough(item.path):
            item.add_marker(pytest.mark.thorough)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    """One factory a test, so that ids stay as they are."""
    real = any(room in item.path.parents for room in REAL)
    return {"real": asyncio.new_event_loop} if real else {"virtual": VirtualLoop}

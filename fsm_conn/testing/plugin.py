"""The pytest plugin: virtual time, a simulated peer and a real plugin process for tests, and transition coverage.

    pytest --fsm-coverage                             which rows of the tables ran, at the end of the run
    pytest --fsm-coverage-fail-under=100              and fail when that was too little
    pytest --fsm-coverage-json=FILE                   and write it down; `Report.from_json` reads it
    pytest --fsm-coverage-only='shop.*'               of these classes only

    @pytest.mark.virtual_time                         an async test, class or module in virtual time

For all tests below a directory, in its `conftest.py`:

    from fsm_conn.testing.plugin import in_virtual_time as pytest_asyncio_loop_factories

The rule that holds here: this module is loaded in every run of pytest wherever the package is installed. So it
imports nothing but pytest until something of it is used, and changes nothing for tests that use nothing of it.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fsm_conn.connection import Connection
    from fsm_conn.testing.coverage import Report
    from fsm_conn.testing.simulated import SimulatedPeer

__all__ = ["VirtualTime", "in_virtual_time", "simulated_peer", "virtual_time"]

_INSTALL = "pip install 'fsm_conn[testing]'"
_WORKER = "fsm_conn_transition_coverage"
_INSTANT = 1e-5
"""Seconds after which everybody waits, in virtual time: more than the resolution of its clock."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the command line."""
    group = parser.getgroup("fsm_conn", "transition coverage (fsm_conn)")
    group.addoption("--fsm-coverage", action="store_true", help="say which rows of the transition tables ran")
    group.addoption(
        "--fsm-coverage-fail-under",
        type=_percentage,
        metavar="PCT",
        help="fail when less than this share of rows was taken and of guards refused; implies --fsm-coverage",
    )
    group.addoption(
        "--fsm-coverage-json", type=Path, metavar="FILE", help="write what ran as JSON; implies --fsm-coverage"
    )
    group.addoption(
        "--fsm-coverage-only",
        action="append",
        metavar="PATTERN",
        help="only classes whose qualified name matches, such as 'shop.*'; may be repeated; implies --fsm-coverage",
    )


def _percentage(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise ValueError(text)
    return value


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, offer the async fixtures, and begin to count if that was asked for."""
    config.addinivalue_line("markers", "virtual_time: run this async test in virtual time (fsm_conn)")
    config.pluginmanager.register(_async_fixtures(), "fsm_conn_async_fixtures")
    names = ("fsm_coverage_fail_under", "fsm_coverage_json", "fsm_coverage_only")
    if config.getoption("fsm_coverage") or any(config.getoption(name) is not None for name in names):
        config.pluginmanager.register(_Coverage(config), "fsm_conn_coverage")


# --- virtual time -------------------------------------------------------------------------------------------


def in_virtual_time(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Virtual time for all async tests below a `conftest.py`: import it there as `pytest_asyncio_loop_factories`."""
    return {"virtual": _needed("fsm_conn.testing.virtual").VirtualLoop}


class _VirtualLoops:
    """Registered only while the parameters of a test in virtual time are made, and so no concern of the others."""

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_asyncio_loop_factories(self, config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
        return in_virtual_time(config, item)


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, Any, Any]:
    """Give the loop in virtual time to a test that is marked so, or that asks for the fixture."""
    marked = metafunc.definition.get_closest_marker("virtual_time") is not None
    if not marked and "virtual_time" not in metafunc.fixturenames:
        return (yield)
    if inspect.iscoroutinefunction(metafunc.function):
        _check_virtual_time_works(metafunc)
    manager, loops = metafunc.config.pluginmanager, _VirtualLoops()
    manager.register(loops)
    try:
        return (yield)
    finally:
        manager.unregister(loops)


def _check_virtual_time_works(metafunc: pytest.Metafunc) -> None:
    if not hasattr(metafunc.config.hook, "pytest_asyncio_loop_factories"):
        pytest.fail(
            f"{metafunc.definition.nodeid}: virtual time needs pytest-asyncio 1.4 or later: {_INSTALL}", pytrace=False
        )
    _needed("fsm_conn.testing.virtual")


class VirtualTime:
    """What the fixture `virtual_time` gives: the clock of the test's loop."""

    def now(self) -> float:
        """What the loop's clock shows, in seconds."""
        return asyncio.get_running_loop().time()

    async def pass_by(self, seconds: float) -> None:
        """Let time pass, and then wait until everybody waits."""
        await asyncio.sleep(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Wait until everybody waits, so that nothing more can happen at the present time."""
        await asyncio.sleep(_INSTANT)


@pytest.fixture
def virtual_time() -> VirtualTime:
    """The async test that asks for it runs in virtual time: delays pass at once, and a deadlock is an error that shows
    who waits for what. `await virtual_time.pass_by(60)`, `await virtual_time.settle()`, `virtual_time.now()`.

    With pytest-asyncio. As a marker, for whole classes and modules: `@pytest.mark.virtual_time`.
    """
    return VirtualTime()


# --- peers --------------------------------------------------------------------------------------------------


@pytest.fixture
def simulated_peer() -> Iterator[SimulatedPeer]:
    """A peer in memory, to be the target of a connection: `Connection(simulated_peer)`.

    It does all it is asked, until the test says otherwise: `simulated_peer.script("open", ["refuse", "ok"])`,
    `simulated_peer.lose()`. The test fails at its end when a link was not used as the contract of `Link` says, for
    instance closed twice.
    """
    peer: SimulatedPeer = _needed("fsm_conn.testing.simulated").SimulatedLink.script()
    yield peer
    if peer.faults:
        pytest.fail(f"the simulated peer saw a rule broken: {'; '.join(peer.faults)}", pytrace=False)


async def _calculator() -> AsyncIterator[Connection]:
    """A connection to the packaged calculator, a real plugin process.

    For instance `(await calculator.call("calculator.Add", a=5, b=3)).result`, which is 8. With pytest-asyncio, in real
    time. It is connected when the test begins, and its process is gone after the test.
    """
    connection: type[Connection] = _needed("fsm_conn.connection").Connection
    if type(asyncio.get_running_loop()).__module__.startswith(("fsm_conn.", "async_solipsism")):
        pytest.fail(
            "the fixture 'calculator' starts a real process, which virtual time does not wait for", pytrace=False
        )
    async with connection([sys.executable, "-m", "fsm_conn.demo.calculator"], name="calculator") as connected:
        yield connected


def _no_calculator() -> None:
    """A connection to the packaged calculator, a real plugin process. Needs pytest-asyncio."""
    pytest.fail(f"the fixture 'calculator' needs pytest-asyncio, which is not loaded: {_INSTALL}", pytrace=False)


def _async_fixtures() -> ModuleType:
    """A plugin of the async fixtures, made by pytest-asyncio if that is loaded, for its strict mode knows no others."""
    pytest_asyncio: Any = sys.modules.get("pytest_asyncio")
    fixture = pytest.fixture(_no_calculator) if pytest_asyncio is None else pytest_asyncio.fixture(_calculator)
    plugin = ModuleType("fsm_conn_async_fixtures")
    vars(plugin)["calculator"] = fixture
    return plugin


def _needed(module: str) -> Any:
    """Import a module of this package, for a test that uses it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        pytest.fail(f"this needs {missing!r}, which is not installed: {_INSTALL}", pytrace=False)


# --- transition coverage ------------------------------------------------------------------------------------


class _Coverage:
    """Counts in this process; under pytest-xdist, the controller adds up what the workers have counted."""

    def __init__(self, config: pytest.Config) -> None:
        coverage = importlib.import_module("fsm_conn.testing.coverage")
        self._read: Callable[[str], Report] = coverage.Report.from_json
        self._counting = coverage.TransitionCoverage()
        self._of_workers: list[Report] = []
        self._lost = 0
        self._problems: list[str] = []
        self._least: float | None = config.getoption("fsm_coverage_fail_under")
        self._file: Path | None = config.getoption("fsm_coverage_json")
        self._only: list[str] | None = config.getoption("fsm_coverage_only")
        self._counting.start()

    def report(self) -> Report:
        """What ran, here and in the workers, of the classes that matter."""
        report: Report = self._counting.report().merge(*self._of_workers)
        return report.only(self._only) if self._only else report.of_interest()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker has ended: take over what it has counted."""
        counted = getattr(node, "workeroutput", {}).get(_WORKER)
        if counted is None:
            self._lost += 1
        else:
            self._of_workers.append(self._read(counted))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """In a worker: hand over what was counted. Otherwise: write it down, and judge it."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_WORKER] = self._counting.report().to_json()
            return
        self._write()
        self._judge()
        if self._problems and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write(self) -> None:
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(self.report().to_json() + "\n", encoding="utf-8")
        except OSError as error:
            self._problems.append(f"the transition coverage could not be written: {error}")

    def _judge(self) -> None:
        report = self.report()
        if self._least is not None and report.percentage < self._least:
            what = f"{report.percentage:.2f} %" if report.counts else "nothing, for no class was counted"
            self._problems.append(f"transition coverage: {self._least:g} % are required, and it is {what}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what ran, what did not, and what is wrong."""
        terminalreporter.section("transition coverage (fsm_conn)")
        for line in self.report().text().splitlines():
            terminalreporter.write_line(line)
        if self._lost:
            terminalreporter.write_line(f"{self._lost} workers died, and what they counted is missing", yellow=True)
        for problem in self._problems:
            terminalreporter.write_line(problem, red=True, bold=True)

    def pytest_unconfigure(self) -> None:
        """Count no more."""
        self._counting.stop()

"""The pytest plugin: virtual time, a simulated peer and a real plugin process for tests, and transition coverage.

    pytest --fsm-coverage                             which rows of the tables ran, at the end of the run
    pytest --fsm-coverage-fail-under=100              and fail when that was too little
    pytest --fsm-coverage-json=FILE                   and write it down; `Report.from_json` reads it
    pytest --fsm-coverage-only='shop.*'               of these classes only

    @pytest.mark.virtual_time                         an async test, class or module in virtual time

For all tests below a directory, in its `conftest.py`:

    from fsm_conn.testing.plugin import in_virtual_time as pytest_asyncio_loop_factories

The rules that hold here: this module is loaded in every run of pytest wherever the package is installed, with the extra
`testing` or without, with any version of pytest's other plugins. So it imports nothing but pytest, not even asyncio,
until something of it is used; it changes nothing for tests that use nothing of it; and what is missing fails the test
that needs it, with the remedy, and no other.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from fsm_conn.connection.connection import Connection
    from fsm_conn.testing.clock import VirtualTime
    from fsm_conn.testing.simulated import SimulatedPeer

__all__ = ["in_virtual_time", "simulated_peer", "virtual_time"]

_INSTALL = "pip install 'fsm_conn[testing]'"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the command line."""
    group = parser.getgroup("fsm_conn", "transition coverage (fsm_conn)")
    group.addoption(
        "--fsm-coverage", action="store_true", help="report at the end which rows of the transition tables never ran"
    )
    group.addoption(
        "--fsm-coverage-fail-under",
        type=_percentage,
        metavar="PCT",
        help="fail below this percentage of rows taken and guards refused; implies --fsm-coverage",
    )
    group.addoption(
        "--fsm-coverage-json", type=Path, metavar="FILE", help="write what ran as JSON; implies --fsm-coverage"
    )
    group.addoption(
        "--fsm-coverage-only",
        action="append",
        metavar="PATTERN",
        help="only classes whose qualified name matches, such as 'shop.*'; may be repeated; implies --fsm-coverage. "
        "Without it: all classes, but of fsm_conn's own only those that ran",
    )


def _percentage(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise ValueError(text)
    return value


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, offer the async fixtures, and begin to count if that was asked for."""
    config.addinivalue_line("markers", "virtual_time: run this async test in virtual time (fsm_conn)")
    config.pluginmanager.register(_async_fixtures(config), "fsm_conn_async_fixtures")
    names = ("fsm_coverage_fail_under", "fsm_coverage_json", "fsm_coverage_only")
    asked = config.getoption("fsm_coverage") or any(config.getoption(name) is not None for name in names)
    if asked and not config.option.collectonly:
        session = importlib.import_module("fsm_conn.testing.session")
        config.pluginmanager.register(session.SessionCoverage(config), "fsm_conn_coverage")


# --- virtual time -------------------------------------------------------------------------------------------


def in_virtual_time(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], AbstractEventLoop]]:
    """Virtual time for all async tests below a `conftest.py`: import it there as `pytest_asyncio_loop_factories`."""
    return {"virtual": _needed("fsm_conn.testing.virtual").VirtualLoop}


class _VirtualLoops:
    """Registered only while the parameters of a test in virtual time are made, and so no concern of the others."""

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_asyncio_loop_factories(self, config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
        return in_virtual_time(config, item)


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, Any, Any]:
    """Give the loop in virtual time to an async test that is marked so, or that asks for the fixture."""
    if not _wants_virtual_time(metafunc.definition) or _lacks_for_virtual_time(metafunc.config):
        return (yield)
    manager, loops = metafunc.config.pluginmanager, _VirtualLoops()
    manager.register(loops)
    try:
        return (yield)
    finally:
        manager.unregister(loops)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that wants virtual time where that cannot be had: it would run, and wait, in real time."""
    if isinstance(item, pytest.Function) and _wants_virtual_time(item):
        lacking = _lacks_for_virtual_time(item.config)
        if lacking:
            pytest.fail(lacking, pytrace=False)


def _wants_virtual_time(test: pytest.Function) -> bool:
    """Whether it is async and marked, or asks for our fixture, and not for one that a project has by the same name."""
    if not _is_async(test.function):
        return False
    if test.get_closest_marker("virtual_time") is not None:
        return True
    fixtures = test._fixtureinfo.name2fixturedefs.get("virtual_time", ())
    return any(each.func.__module__ == __name__ or "virtual_time" in each.argnames for each in fixtures[-1:])


def _is_async(function: Any) -> bool:
    """Whether pytest-asyncio would run it: a coroutine function, or one under Hypothesis' `@given`."""
    given = getattr(function, "hypothesis", None)
    return inspect.iscoroutinefunction(function if given is None else given.inner_test)


def _lacks_for_virtual_time(config: pytest.Config) -> str | None:
    if not hasattr(config.hook, "pytest_asyncio_loop_factories"):
        return f"virtual time needs pytest-asyncio 1.4 or later: {_INSTALL}"
    return _lacks("fsm_conn.testing.virtual")


@pytest.fixture
def virtual_time() -> VirtualTime:
    """Run the async test in virtual time: delays pass at once, and a deadlock is an error that shows which task waits
    where. `await virtual_time.pass_by(60)`, `await virtual_time.settle()`, `virtual_time.now()`.

    With pytest-asyncio. As a marker, for whole classes and modules: `@pytest.mark.virtual_time`.
    """
    _needed("fsm_conn.testing.virtual")
    clock: VirtualTime = _needed("fsm_conn.testing.clock").VirtualTime()
    return clock


# --- peers --------------------------------------------------------------------------------------------------


@pytest.fixture
def simulated_peer() -> Iterator[SimulatedPeer]:
    """A peer in memory, to be the target of a connection: `Connection(simulated_peer)`.

    It answers every request until the test changes that: `simulated_peer.script("open", ["refuse", "ok"])`,
    `simulated_peer.lose()`. The test fails at its end when the connection violated the contract of `Link`, for
    instance by closing a link twice.
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
    connection: type[Connection] = _needed("fsm_conn.connection.connection").Connection
    loop = importlib.import_module("asyncio").get_running_loop()
    if type(loop).__module__.startswith("fsm_conn."):
        pytest.fail(
            "the fixture 'calculator' starts a real process, which virtual time does not wait for", pytrace=False
        )
    async with connection([sys.executable, "-m", "fsm_conn.demo.calculator"], name="calculator") as connected:
        yield connected


def _no_calculator() -> None:
    """A connection to the packaged calculator, a real plugin process. Needs pytest-asyncio."""
    pytest.fail(f"the fixture 'calculator' needs pytest-asyncio, which is not loaded: {_INSTALL}", pytrace=False)


def _async_fixtures(config: pytest.Config) -> ModuleType:
    """A plugin of the async fixtures, made by pytest-asyncio if that is loaded, for its strict mode knows no others."""
    pytest_asyncio: Any = sys.modules.get("pytest_asyncio.plugin")
    is_loaded = pytest_asyncio is not None and config.pluginmanager.is_registered(pytest_asyncio)
    fixture = pytest_asyncio.fixture(_calculator) if is_loaded else pytest.fixture(_no_calculator)
    plugin = ModuleType("fsm_conn_async_fixtures")
    vars(plugin)["calculator"] = fixture
    return plugin


# --- what is missing ----------------------------------------------------------------------------------------


def _needed(module: str) -> Any:
    """A module of this package, for a test that uses it."""
    lacking = _lacks(module)
    if lacking:
        pytest.fail(lacking, pytrace=False)
    return sys.modules[module]


def _lacks(module: str) -> str | None:
    """What a module of this package lacks, and the remedy; None when it can be imported."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        if missing.partition(".")[0] == "fsm_conn":
            raise  # nothing that the extra would bring
        return f"this needs {missing!r}, which is not installed: {_INSTALL}"
    return None

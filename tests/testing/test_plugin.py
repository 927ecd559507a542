"""The pytest plugin, as its users meet it: in a run of pytest of their own."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fsm_conn import testing
from fsm_conn.machine import binding as machine
from fsm_conn.testing.coverage import Report

pytest_plugins = ["pytester"]

NAME = "fsm_conn.testing.plugin"
SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
PLUGIN = ("-p", NAME, *SCOPE)
ROOT = Path(__file__).parents[2]
needs_xdist = pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")

DOOR = """
from fsm_conn import State, Transition
from fsm_conn.machine.machine import StateMachine

class Door(StateMachine):
    states = (State("shut", initial=True, final=True), "open")
    transitions = (
        Transition("push", "shut", "open", guards="may_open"),
        Transition("push", ("shut", "open"), None),
        Transition("pull", "open", "shut"),
    )

    def may_open(self, reason):
        return True
"""
DOOR_TESTS = """
import asyncio
from shop import Door

async def fire(*triggers):
    door = Door()
    for trigger in triggers:
        door.fire(trigger)

def test_push():
    asyncio.run(fire("push"))

def test_push_twice():
    asyncio.run(fire("push", "push"))
"""
ONLY = "--fsm-coverage-only=shop.*or"
"""For runs in this process, where other classes exist."""


@pytest.fixture
def shop(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with a table of its own, of whose four outcomes its tests reach two."""
    pytester.makepyfile(shop=DOOR, test_shop=DOOR_TESTS)
    monkeypatch.syspath_prepend(pytester.path)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    return pytester


def run(pytester: pytest.Pytester, *arguments: object) -> pytest.RunResult:
    """Run pytest in this process."""
    return pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider", *map(str, arguments))


# --- transition coverage ------------------------------------------------------------------------------------


def test_the_summary_says_what_ran_and_what_did_not(shop: pytest.Pytester) -> None:
    """In the terminal, at the end; classes of the package that never ran are left out."""
    result = shop.runpytest_subprocess(*PLUGIN, "--fsm-coverage")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*transition coverage (fsm_conn)*",
            "transition coverage: 50.0 %, 2 of 4 (rows taken, guards refused)",
            "  shop.Door   50.0 %, 2 of 4",
            "    never refused  push: shut -> open [[]may_open]",
            "    never taken    pull: open -> shut",
        ]
    )
    result.stdout.no_fnmatch_line("*fsm_conn.connection.connection*")
    assert result.ret == 0


def test_nothing_is_said_and_nothing_counted_unless_asked(shop: pytest.Pytester) -> None:
    """Without an option, a run is as it was."""
    result = run(shop)
    result.stdout.no_fnmatch_line("*transition coverage*")
    assert result.ret == 0


@pytest.mark.parametrize(("least", "status"), [("0", 0), ("50", 0), ("50.1", 1)])
def test_too_little_fails_the_run(shop: pytest.Pytester, least: str, status: int) -> None:
    """Though all tests passed; the last line says why."""
    result = run(shop, ONLY, f"--fsm-coverage-fail-under={least}")
    result.assert_outcomes(passed=2)
    assert result.ret == status
    result.stdout.fnmatch_lines(["transition coverage: 50.0 %, 2 of 4 *"])
    if status:
        result.stdout.fnmatch_lines(["transition coverage: 50.1 % are required, and it is 50.00 %"])


def test_a_failed_run_stays_failed(shop: pytest.Pytester) -> None:
    """Enough coverage does not mend a test; too little does not hide why a run was broken off."""
    shop.makepyfile(test_more="def test_it(): assert 0")
    assert run(shop, ONLY, "--fsm-coverage-fail-under=0").ret == 1
    shop.makepyfile(test_more="import nonesuch")
    assert run(shop, ONLY, "--fsm-coverage-fail-under=100").ret == 2


def test_no_class_at_all_is_too_little(shop: pytest.Pytester) -> None:
    """A pattern with a slip in it must not pass for everything covered."""
    result = run(shop, "--fsm-coverage-only=shpo.*", "--fsm-coverage-fail-under=1")
    result.stdout.fnmatch_lines(["*1 % are required, and it is nothing, for no class was counted"])
    assert result.ret == 1


@pytest.mark.parametrize("wrong", ["-1", "101", "many", "nan"])
def test_a_wrong_percentage_is_refused(shop: pytest.Pytester, wrong: str) -> None:
    """Before anything runs."""
    result = run(shop, f"--fsm-coverage-fail-under={wrong}")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--fsm-coverage-fail-under: invalid*value: *"])


def test_json_is_written_where_it_was_asked_for(shop: pytest.Pytester) -> None:
    """Directories are made; what is read back is what ran."""
    path, hooks = shop.path / "build" / "coverage.json", list(machine.on_bound)
    assert run(shop, ONLY, f"--fsm-coverage-json={path}").ret == 0
    report = Report.from_json(path.read_text())
    assert report.overlay("shop.Door") == {
        ("push", "shut", "open"): 2,
        ("push", "shut", None): 0,
        ("push", "open", None): 1,
        ("pull", "open", "shut"): 0,
    }
    assert machine.on_bound == hooks, "it counts no more after the run"


def test_json_that_cannot_be_written_fails_the_run(shop: pytest.Pytester) -> None:
    """With a line that says why, and no traceback."""
    result = run(shop, ONLY, f"--fsm-coverage-json={shop.path}")
    result.stdout.fnmatch_lines(["the transition coverage could not be written: *"])
    assert result.ret == 1


@needs_xdist
def test_workers_are_added_up(shop: pytest.Pytester) -> None:
    """Two workers with a test each count the same as one that runs both."""
    path = shop.path / "coverage.json"
    result = run(shop, "-n2", ONLY, f"--fsm-coverage-json={path}", "--fsm-coverage-fail-under=51")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["transition coverage: 50.0 %, 2 of 4 *", "*51 % are required, and it is 50.00 %"])
    assert result.ret == 1
    assert Report.from_json(path.read_text()).overlay("shop.Door")["push", "shut", "open"] == 2
    assert json.loads(path.read_text())["version"] == 1


@needs_xdist
def test_a_worker_that_died_is_told_of(shop: pytest.Pytester) -> None:
    """What it counted is missing, and that is said."""
    shop.makepyfile(test_dies="import os\ndef test_it(): os._exit(1)")
    result = run(shop, "-n1", "--fsm-coverage")
    result.stdout.fnmatch_lines(["the counts of 1 of 2 workers are missing: they died, or were stopped"])


def test_a_run_that_only_collects_is_not_judged(shop: pytest.Pytester) -> None:
    """Nothing ran, so nothing is said, written or failed, though a configuration file asks for it."""
    path = shop.path / "coverage.json"
    result = run(shop, "--collect-only", "--fsm-coverage-fail-under=100", f"--fsm-coverage-json={path}")
    result.stdout.no_fnmatch_line("*transition coverage*")
    assert result.ret == 0
    assert not path.exists()


# --- virtual time -------------------------------------------------------------------------------------------

AUTO = ("-o", "asyncio_mode=auto")
VIRTUAL = """
import asyncio, time
import pytest

def is_virtual():
    return type(asyncio.get_running_loop()).__name__ == "VirtualLoop"

@pytest.mark.virtual_time
async def test_marked():
    assert is_virtual()
    began = time.monotonic()
    await asyncio.sleep(3600)
    assert time.monotonic() - began < 5

async def test_asks(virtual_time):
    began, woken = virtual_time.now(), []
    loop = asyncio.get_running_loop()
    loop.call_later(60, woken.append, 1)
    await virtual_time.settle()
    assert is_virtual() and not woken
    await virtual_time.pass_by(60)
    assert woken and 60 <= virtual_time.now() - began < 61

async def test_real():
    assert not is_virtual()

@pytest.mark.virtual_time
class TestMarked:
    async def test_all(self):
        assert is_virtual()

    def test_sync(self):
        pass
"""


def test_what_is_marked_runs_in_virtual_time(pytester: pytest.Pytester) -> None:
    """By marker or by fixture; nothing else does, and ids stay as they are."""
    pytester.makepyfile(VIRTUAL)
    result = run(pytester, "-v", "--strict-markers", *AUTO)
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["*::test_marked PASSED*", "*::test_asks PASSED*", "*::test_real PASSED*"])


def test_properties_run_in_virtual_time(pytester: pytest.Pytester) -> None:
    """An async test under `@given`, which looks like a sync one."""
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        from hypothesis import given, strategies as st

        @pytest.mark.asyncio
        @pytest.mark.virtual_time
        @given(st.integers(1000, 2000))
        async def test_it(seconds):
            assert type(asyncio.get_running_loop()).__name__ == "VirtualLoop"
            await asyncio.sleep(seconds)
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_async_fixtures_are_in_virtual_time_too(pytester: pytest.Pytester) -> None:
    """A test and its fixtures share a loop, also those that live for a module, where real tests stand in between."""
    pytester.makepyfile(
        """
        import asyncio
        import pytest, pytest_asyncio

        @pytest_asyncio.fixture
        async def loop_of_fixture():
            return asyncio.get_running_loop()

        @pytest.mark.parametrize("again", [1, 2])
        @pytest.mark.virtual_time
        @pytest.mark.asyncio
        async def test_virtual(again, loop_of_fixture):
            assert loop_of_fixture is asyncio.get_running_loop()
            await asyncio.sleep(10_000)

        @pytest.mark.asyncio
        async def test_real(loop_of_fixture):
            assert type(loop_of_fixture).__name__ != "VirtualLoop"
            assert loop_of_fixture is asyncio.get_running_loop()
        """
    )
    run(pytester).assert_outcomes(passed=3)


def test_a_loop_for_a_module_is_not_shared_by_virtual_and_real(pytester: pytest.Pytester) -> None:
    """Where tests of a module share a loop, those in virtual time share another."""
    pytester.makepyfile(
        """
        import asyncio
        import pytest

        pytestmark = pytest.mark.asyncio(loop_scope="module")

        async def kind():
            return type(asyncio.get_running_loop()).__name__

        async def test_a(): assert await kind() != "VirtualLoop"

        @pytest.mark.virtual_time
        async def test_b(): assert await kind() == "VirtualLoop"

        async def test_c(): assert await kind() != "VirtualLoop"

        @pytest.mark.virtual_time
        async def test_d(): assert await kind() == "VirtualLoop"
        """
    )
    run(pytester).assert_outcomes(passed=4)


def test_the_marker_wins_over_the_loops_of_a_conftest(pytester: pytest.Pytester) -> None:
    """A project that has chosen its loops may still mark a test."""
    pytester.makeconftest(
        "import asyncio\ndef pytest_asyncio_loop_factories(config, item): return {'mine': asyncio.new_event_loop}"
    )
    pytester.makepyfile(VIRTUAL)
    run(pytester, *AUTO).assert_outcomes(passed=5)


def test_one_line_in_a_conftest_is_for_all_below_it(pytester: pytest.Pytester) -> None:
    """As its documentation shows it."""
    pytester.makeconftest("from fsm_conn.testing.plugin import in_virtual_time as pytest_asyncio_loop_factories")
    pytester.makepyfile(VIRTUAL)
    result = run(pytester, *AUTO)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_real*"])


def test_a_deadlock_shows_who_waits(pytester: pytest.Pytester) -> None:
    """Instead of hanging."""
    pytester.makepyfile(
        """
        import asyncio, pytest

        @pytest.mark.asyncio
        async def test_it(virtual_time):
            await asyncio.get_running_loop().create_future()
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*DeadlockError*everybody waits*"])


# --- peers --------------------------------------------------------------------------------------------------


def test_the_simulated_peer_does_as_it_is_told(pytester: pytest.Pytester) -> None:
    """Without a word from the test, all goes well."""
    pytester.makepyfile(
        """
        import pytest
        from fsm_conn import Connection, ConnectFailedError, RetryPolicy

        @pytest.mark.asyncio
        async def test_well(virtual_time, simulated_peer):
            async with Connection(simulated_peer) as conn:
                await conn.probe()
            assert (simulated_peer.opened, simulated_peer.closed) == (1, 1)

        @pytest.mark.asyncio
        async def test_badly(virtual_time, simulated_peer):
            simulated_peer.script("open", ["refuse", "refuse", "ok"])
            async with Connection(simulated_peer, retry=RetryPolicy(max_attempts=3)) as conn:
                assert conn.attempt == 3

        @pytest.mark.asyncio
        async def test_rule(virtual_time, simulated_peer):
            link = simulated_peer()
            await link.open()
            await link.close()
            await link.close()
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*the simulated peer saw a rule broken: a link was closed twice*"])


@pytest.mark.real
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_calculator_is_a_real_process(pytester: pytest.Pytester, mode: str) -> None:
    """Connected in the test, and gone after it."""
    pytester.makepyfile(
        """
        import os, pytest
        pids = []

        @pytest.mark.asyncio
        async def test_it(calculator):
            assert (await calculator.call("calculator.Add", a=5, b=3)).result == 8
            pids.append(calculator.link.pid)

        def test_gone():
            with pytest.raises(ProcessLookupError):
                os.kill(pids[0], 0)
        """
    )
    result = pytester.runpytest_subprocess(*PLUGIN, "-o", f"asyncio_mode={mode}")
    result.assert_outcomes(passed=2)


def test_pytest_asyncio_may_be_loaded_by_the_name_of_its_module(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no plugin is loaded by itself, some name them so; the fixtures are async all the same."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        "import pytest\n@pytest.mark.asyncio\n@pytest.mark.virtual_time\nasync def test_it(calculator): ..."
    )
    result = pytester.runpytest_subprocess(*PLUGIN, "-p", "pytest_asyncio.plugin")
    result.stdout.fnmatch_lines(["*'calculator' starts a real process, which virtual time does not wait for*"])


@pytest.mark.real
def test_what_the_documentation_shows_of_it_passes(pytester: pytest.Pytester) -> None:
    """The block of Python that has tests in it."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text("utf-8"), re.DOTALL)
    (shown,) = (block for block in blocks if "import pytest" in block)
    pytester.makepyfile(shown)
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=2)


def test_the_calculator_has_no_place_in_virtual_time(pytester: pytest.Pytester) -> None:
    """It would not be waited for, so that is said."""
    pytester.makepyfile(
        "import pytest\n@pytest.mark.asyncio\n@pytest.mark.virtual_time\nasync def test_it(calculator): ..."
    )
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'calculator' starts a real process, which virtual time does not wait for*"])


# --- what it costs, and what it lacks -------------------------------------------------------------------------


def test_fixtures_and_options_are_documented(pytester: pytest.Pytester) -> None:
    """Each has a docstring, which pytest shows."""
    text = run(pytester, "--fixtures").stdout.str()
    for name in ("virtual_time", "simulated_peer", "calculator"):
        shown = text[text.index(f"\n{name}") :].splitlines()[2]
        assert shown.startswith("    "), shown
        assert "no docstring" not in shown


def test_without_the_extra_the_error_names_it(pytester: pytest.Pytester) -> None:
    """For each thing that needs more than pytest; other tests, in the same file too, go on."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.virtual_time
        async def test_marked(): ...

        async def test_asks(virtual_time): ...

        def test_calculator(calculator): ...

        def test_other(): ...
        """
    )
    result = pytester.runpytest_subprocess(*PLUGIN, "-p", "no:asyncio")
    result.assert_outcomes(errors=3, passed=1)
    result.stdout.fnmatch_lines(
        [
            "virtual time needs pytest-asyncio 1.4 or later: pip install 'fsm_conn[[]testing]'",
            "virtual time needs pytest-asyncio 1.4 or later: pip install 'fsm_conn[[]testing]'",
            "the fixture 'calculator' needs pytest-asyncio*: pip install 'fsm_conn[[]testing]'",
        ]
    )


def test_a_projects_own_fixture_of_the_same_name_is_its_own(pytester: pytest.Pytester) -> None:
    """The plugin is there wherever the package is installed: nobody's `virtual_time` is to change, unless he builds on ours."""
    pytester.makepyfile(
        test_own="""
        import asyncio, pytest

        @pytest.fixture
        def virtual_time(): return 7

        @pytest.mark.asyncio
        async def test_it(virtual_time):
            assert virtual_time == 7
            assert type(asyncio.get_running_loop()).__name__ != "VirtualLoop"
        """,
        test_built="""
        import asyncio, pytest

        @pytest.fixture
        def virtual_time(virtual_time): return virtual_time

        @pytest.mark.asyncio
        async def test_it(virtual_time):
            await virtual_time.pass_by(3600)
            assert type(asyncio.get_running_loop()).__name__ == "VirtualLoop"
        """,
    )
    run(pytester).assert_outcomes(passed=2)


def test_what_the_testing_package_offers_is_there() -> None:
    """Each name comes from its room when it is first asked for; a slip of the pen is told."""
    assert list(testing.__all__) == sorted(testing.__all__)
    assert all(hasattr(testing, name) for name in testing.__all__)
    with pytest.raises(AttributeError, match=r"module 'fsm_conn\.testing' has no attribute 'explor'"):
        testing.explor


@pytest.mark.parametrize("name", ["Report", "TraceWriter", "read_trace"])
def test_what_only_reads_and_writes_needs_no_machine(name: str) -> None:
    """A report can be read, and a trace be written in production, by programs that want nothing else of this package."""
    program = f"import sys; from fsm_conn.testing import {name}; print(sorted({{'fsm_conn.machine.machine', 'transitions', 'hypothesis'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True)
    assert result.stdout == "[]\n"


# --- the entry point ------------------------------------------------------------------------------------------


@pytest.fixture
def installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """The package is installed, as far as entry points are concerned, also where the tests run from the tree."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    info = pytester.mkdir("site") / "fsm_conn-0.dist-info"
    info.mkdir()
    points = config["options.entry_points"]["pytest11"].strip()
    (info / "entry_points.txt").write_text(f"[pytest11]\n{points}\n", encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fsm_conn\nVersion: 0\n", encoding="utf-8")
    (info / "RECORD").write_text("fsm_conn/__init__.py,,\nfsm_conn/testing/plugin.py,,\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(info.parent), prepend=os.pathsep)
    return pytester


@pytest.mark.parametrize(
    "ways", [(), ("-p", NAME), ("-p", NAME, "-p", NAME), ("--fsm-coverage",)], ids=["alone", "-p", "twice", "asked"]
)
def test_installed_it_is_there_with_and_without_being_named(installed: pytest.Pytester, ways: tuple[str, ...]) -> None:
    """Once, however often it is named: on the command line, and in a `conftest.py` too."""
    installed.makeconftest(f"pytest_plugins = [{NAME!r}]")
    installed.makepyfile("def test_it(simulated_peer): ...")
    result = installed.runpytest_subprocess(*ways, *SCOPE, "-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert "fsm_conn" in result.stdout.str()


def test_named_it_is_there_where_no_plugin_is_loaded_by_itself(
    installed: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not, when it is switched off by name."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    installed.makepyfile("def test_it(simulated_peer): ...")
    installed.runpytest_subprocess("-p", NAME).assert_outcomes(passed=1)
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    result = installed.runpytest_subprocess("-p", f"no:{NAME}", *SCOPE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'simulated_peer' not found*"])


def test_a_run_that_uses_nothing_of_it_imports_nothing_of_ours(installed: pytest.Pytester) -> None:
    """No library of the extra need be installed; nothing of the package is imported that a project may want to measure."""
    installed.makepyfile(
        """
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.partition(".")[0] == "fsm_conn"}
            assert ours == {"fsm_conn", "fsm_conn._util", "fsm_conn._util.lazy", "fsm_conn.testing", "fsm_conn.testing.plugin"}
            heavy = {"hypothesis", "pytest_asyncio", "grpc", "google.protobuf", "pyvider",
                     "transitions", "attrs", "attr", "asyncio"}
            assert heavy & set(sys.modules) == set()
        """
    )
    others = [
        f"-pno:{name}"
        for name in ("anyio", "asyncio", "hypothesispytest", "xdist", "xdist.looponfail", "timeout", "pytest_cov")
    ]
    installed.runpytest_subprocess(*others).assert_outcomes(passed=1)


def test_lines_of_a_project_are_measured_as_without_it(installed: pytest.Pytester) -> None:
    """A module that uses the package is imported by its tests, under whoever measures, and not before."""
    pytest.importorskip("coverage")
    installed.makepyfile(
        shop="from fsm_conn import Connection\n\nclass Shop(Connection):\n    pass\n",
        test_shop="def test_it():\n    import shop\n    assert shop.Shop\n",
    )
    measure = ("-m", "coverage", "run", "--include=*shop.py", "-m", "pytest", "-q", *SCOPE)
    assert installed.run(sys.executable, *measure).ret == 0
    result = installed.run(sys.executable, "-m", "coverage", "report", "--fail-under=100")
    assert result.ret == 0, result.stdout.str()

"""No test depends on how fast the machine is: limits of real time are generous, and nobody sleeps until something is done.

Most tests live in virtual time, where this does not matter. These rules are for those that do not.
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REAL = ("real", "links", "blocking")
"""The rooms whose event loop is a real one."""
PROGRAMS = (HERE / "real" / "plugins", HERE / "real" / "hosts")
"""What tests run, and what misbehaves in there on purpose."""
MOMENT, GENEROUS = 1.0, 100.0
"""A limit of up to a moment is one that passes, and the test shows what comes of that. Any other is for what hangs."""
LIMITED = {"asyncio.timeout": 0, "asyncio.wait_for": 1, "eventually": 1}
"""What has a limit, and which of its arguments that is; it may be given by name, too."""
WAITS = {"wait", "join", "result", "settimeout", "communicate", "run", "check_output", "check_call", "eventually"}
"""The last part of a function's name, if its only argument, or the one named `timeout` or `limit`, is a limit."""

SLEEP = {
    "links/process/test_start_limiter.py": {"scene", "hang", "start", "run", "visit", "crowd"},
    "links/plugin/test_tls_relay.py": {
        "listen",
        "test_last_words_of_the_server",
        "test_said_before_anybody_listens",
        "test_server_goes_before_the_channel_comes",
    },
    "links/test_loss.py": {"one"},
    "blocking/test_blocking.py": {"run"},
    "real/test_connection_real.py": {"main", "start", "kill_and_block"},
    "real/test_dask_real.py": {
        "test_kills_of_a_worker_a_nanny_and_the_scheduler",
        "test_who_is_connected_is_served_when_the_scheduler_has_gone",
    },
    "real/test_orderly_plugins.py": {"test_a_plugin_that_warms_up_is_started_once"},
    "real/test_peers.py": {
        "Add",
        "test_a_server_that_closes_idle_connections_does_not_wear_one_out",
        "test_an_endpoint_is_connected_again_soon_after_its_return_and_nobody_asks",
    },
    "real/test_peers_real.py": {"away", "test_etcd_is_restarted_under_idempotent_load"},
    "real/test_plugin_link.py": {"test_asked_under_calls", "test_cancelled"},
    "real/test_pool_real.py": {"kill_and_block"},
    "real/test_prefork_real.py": {"test_its_imports_hang"},
}
"""Who sleeps all the same, once: to see that nothing happens meanwhile, or to take one moment of many. What is shown is
true of any other moment as well, so that a machine that is slow or fast changes what is tried, and not what comes of it.
"""


def trees(*patterns: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules of the tests that match, by their paths."""
    for path in sorted({path for pattern in patterns for path in HERE.glob(pattern)}):
        if not any(programs in path.parents for programs in PROGRAMS):
            yield path.relative_to(HERE).as_posix(), ast.parse(path.read_text("utf-8"))


def constants(tree: ast.Module) -> dict[str, float]:
    """The numbers that have names."""
    return {
        ast.unparse(each.targets[0]): float(each.value.value)
        for each in tree.body
        if isinstance(each, ast.Assign)
        and isinstance(each.value, ast.Constant)
        and isinstance(each.value.value, int | float)
    }


def limit_of(call: ast.Call) -> ast.expr | None:
    """The argument of a call that is the limit of a wait."""
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if name not in LIMITED and last not in WAITS:
        return None
    named = [each.value for each in call.keywords if each.arg in ("timeout", "limit")]
    if named:
        return named[0]
    place = LIMITED.get(name, 0 if len(call.args) == 1 else len(call.args))
    return call.args[place] if place < len(call.args) else None


def limits(path: str, tree: ast.Module) -> Iterator[tuple[int, float]]:
    """The limits of real time in a module, each with its line."""
    known, is_real = constants(tree), path.startswith(REAL)
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not (is_real or not ast.unparse(call.func).startswith("asyncio.")):
            continue
        limit = limit_of(call)
        if isinstance(limit, ast.Constant) and isinstance(limit.value, int | float):
            yield call.lineno, limit.value
        elif limit is not None and ast.unparse(limit) in known:
            yield call.lineno, known[ast.unparse(limit)]


def test_a_limit_is_a_moment_or_generous() -> None:
    """What takes a second on one machine takes a minute on one that has much else to do."""
    tight = [
        f"{path}:{line}: {limit:g} s"
        for path, tree in trees("**/*.py")
        for line, limit in limits(path, tree)
        if MOMENT < limit < GENEROUS
    ]
    assert tight == []


def is_sleep(call: ast.Call) -> bool:
    """Whether real time passes."""
    return ast.unparse(call.func) in ("asyncio.sleep", "time.sleep") and ast.unparse(call.args[0]) != "0"


def sleeps(node: ast.AST, function: str = "", is_repeated: bool = False) -> Iterator[str]:
    """The functions that sleep by themselves; in a loop, it is between two looks."""
    for child in ast.iter_child_nodes(node):
        name, again = function, is_repeated
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name, again = child.name, False
        elif isinstance(child, ast.While | ast.For | ast.AsyncFor):
            again = True
        elif isinstance(child, ast.Call) and not again and is_sleep(child):
            yield name
        yield from sleeps(child, name, again)


def test_nobody_sleeps_until_something_is_done() -> None:
    """A wait is for an event, or looks again and again; the few that sleep have a reason."""
    found = {path: {*sleeps(tree)} for path, tree in trees(*(f"{room}/**/test_*.py" for room in REAL))}
    assert {path: who for path, who in found.items() if who} == SLEEP


def test_a_slow_turn_of_the_loop_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """In development mode asyncio logs each, and on a busy machine any turn may be slow."""

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0
        await asyncio.sleep(0)

    asyncio.run(main(), debug=True)
    assert not caplog.records

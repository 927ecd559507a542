"""The package as a whole: what importing it costs, and that the rooms keep to their doors."""

from __future__ import annotations

import ast
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fsm_conn
from fsm_conn import errors

PACKAGE = Path(fsm_conn.__file__).parent

MAY_IMPORT = {
    "version": set(),
    "errors": set(),
    "saying": set(),
    "record": set(),
    "validators": set(),
    "policy": {"validators"},
    "lifecycle": set(),
    "links.base": set(),
    "hints": set(),
    "engine": set(),
    "timing": set(),
    "machine": {"engine", "errors", "hints", "lifecycle"},
    "observers": {"record", "timing"},
    "driver": {"errors", "hints", "lifecycle", "machine", "observers", "record", "saying"},
    "options": {"budget", "policy", "validators"},
    "budget": {"validators"},
    "health": {"driver", "links.base", "policy", "record", "timing"},
    "streams": set(),
    "callwatch": {"record", "streams"},
    "links.target": {"links", "links.base"},
    "calls": {"errors", "hints", "links.base", "saying", "streams", "timing", "connection"},  # the last for types only
    "keeper": {
        "budget",
        "callwatch",
        "driver",
        "errors",
        "health",
        "lifecycle",
        "links.base",
        "links.target",
        "options",
        "policy",
        "saying",
        "timing",
    },
    "uptime": {"keeper", "lifecycle", "record"},  # the first and the last for types only
    "metrics": {"errors", "keeper", "lifecycle", "record", "uptime", "validators"},  # keeper for types only
    "report": {"health"},
    "clients": {
        "calls",
        "connection",
        "errors",
        "lifecycle",
        "links.base",
        "links.target",
        "metrics",
        "policy",
        "report",
        "saying",
        "validators",
    },
    "connection": {
        "budget",
        "calls",
        "driver",
        "errors",
        "keeper",
        "lifecycle",
        "links.base",
        "links.services",
        "links.stubs",
        "links.target",
        "options",
        "policy",
        "record",
        "saying",
        "timing",
        "validators",
    },
    "checks.rules": set(),
    "checks.formats": {"checks.rules", "version"},
    "checks.guards": {"chart"},
    "checks.graph": {"chart", "checks.guards", "lifecycle"},
    "checks.subject": {"chart", "checks.graph", "keeper"},
    "checks.reach": {"driver"},
    "checks.returns": set(),
    "checks.shape": {"chart", "checks.graph", "checks.guards", "checks.subject"},
    "checks.activities": {"chart", "checks.returns", "checks.subject", "hints", "keeper", "lifecycle"},
    "checks.links": {"chart", "checks.reach", "checks.subject", "keeper", "lifecycle"},
    "checks.names": {"checks.reach", "checks.subject", "hints"},
    "checks.running": {
        "checks",
        "checks.rules",
        "checks.subject",
        "errors",
        "hints",
    },
    "pool.lifecycle": {"lifecycle"},
    "pool.policy": {"policy", "validators"},
    "pool.place": {"pool.policy"},
    "pool.slots": {
        "connection",
        "driver",
        "errors",
        "lifecycle",
        "links.base",
        "pool.place",
        "pool.policy",
        "record",
        "saying",
        "timing",
    },
    "pool.counted": {"links.base", "pool.slots", "streams"},
    "pool.waiters": {"pool.place", "pool.slots", "pool.stats"},
    "pool.stats": {"pool.policy", "pool.slots"},
    # The desk for types only, as `calls` has the connection.
    "pool.lease": {"calls", "connection", "errors", "links.stubs", "pool.desk", "pool.place", "pool.slots"},
    "pool.desk": {
        "connection",
        "errors",
        "pool.lease",
        "pool.place",
        "pool.policy",
        "pool.slots",
        "pool.stats",
        "pool.waiters",
        "timing",
    },
    "pool.roster": {
        "connection",
        "errors",
        "options",
        "pool.desk",
        "pool.place",
        "pool.policy",
        "pool.slots",
        "saying",
    },
    "pool.keeper": {
        "driver",
        "errors",
        "lifecycle",
        "pool.lifecycle",
        "pool.place",
        "pool.roster",
        "pool.waiters",
        "saying",
        "timing",
    },
    "pool.pool": {
        "calls",
        "connection",
        "driver",
        "errors",
        "hints",
        "links.base",
        "links.target",
        "options",
        "pool.counted",
        "pool.desk",
        "pool.keeper",
        "pool.lease",
        "pool.lifecycle",
        "pool.place",
        "pool.policy",
        "pool.slots",
        "pool.stats",
        "record",
        "streams",
        "timing",
        "validators",
    },
}


def imported(module: str) -> set[str]:
    """Our own modules that `module` imports, functions included."""
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {name.removeprefix("fsm_conn.") for name in names if name.startswith("fsm_conn.")}


@pytest.mark.parametrize("module", sorted(MAY_IMPORT))
def test_imports_point_one_way(module: str) -> None:
    """Each room imports only from rooms below it."""
    assert imported(module) <= MAY_IMPORT[module]


@pytest.mark.parametrize(
    "module", sorted(f"links.{path.stem}" for path in (PACKAGE / "links").glob("*.py") if path.stem != "__init__")
)
def test_links_know_nothing_of_connections(module: str) -> None:
    """They import one another, errors, and nothing else of ours."""
    assert {name for name in imported(module) if not name.startswith("links")} <= {"errors"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout


def test_importing_the_package_imports_neither_grpc_nor_pyvider() -> None:
    """Nor does making a connection: the first link that needs them does."""
    code = (
        "import sys, fsm_conn; fsm_conn.Connection(['x']); fsm_conn.Connection('h:1'); import fsm_conn.cli;"
        "print([name for name in sys.modules if name.partition('.')[0] in ('grpc', 'google', 'pyvider', 'provide', 'structlog')])"
    )
    assert run(code) == "[]\n"


def test_all_names_exist_and_are_sorted() -> None:
    """`from fsm_conn import *` gives what the documentation names."""
    assert fsm_conn.__all__ == sorted(fsm_conn.__all__)
    assert all(hasattr(fsm_conn, name) for name in fsm_conn.__all__)
    assert set(errors.__all__) <= set(fsm_conn.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module; and what there is can be listed before it was imported."""
    with pytest.raises(AttributeError, match="module 'fsm_conn' has no attribute 'Conection'"):
        fsm_conn.Conection
    assert run("import fsm_conn; print('Connection' in dir(fsm_conn))") == "True\n"


def test_everything_public_has_a_docstring() -> None:
    """Classes and functions, and the methods of each."""
    bare = []
    for name in fsm_conn.__all__:
        thing = getattr(fsm_conn, name)
        members = inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else []
        own = [
            (key, value)
            for key, value in members
            if not key.startswith("_") and value.__module__.startswith("fsm_conn")
        ]
        bare += [key for key, value in [(name, thing), *own] if not (value.__doc__ or "").strip()]
    assert bare == []


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_survive_pickling(name: str) -> None:
    """Test runners and process pools carry them."""
    error = getattr(errors, name)("what was wrong")
    error.note = "kept"
    copy: Any = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.note) == (type(error), "what was wrong", "kept")
    assert isinstance(copy, fsm_conn.FsmConnError)


def test_evidence_is_part_of_the_message() -> None:
    """What the peer said last stands below what was wrong."""
    assert str(errors.LinkError("it ended", evidence="| last words")) == "it ended\n| last words"

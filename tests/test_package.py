"""The package as a whole: what importing it costs, and what it offers."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fsm_conn
import fsm_conn.inspector
import fsm_conn.telemetry
import fsm_conn.testing

PACKAGE = Path(fsm_conn.__file__).parent


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=200).stdout


def test_importing_the_package_imports_neither_grpc_nor_pyvider() -> None:
    """Nor does making a connection: the first link that needs them does."""
    code = (
        "import sys, fsm_conn; fsm_conn.Connection(['x']); fsm_conn.Connection('h:1'); import fsm_conn.cli;"
        "print([name for name in sys.modules if name.partition('.')[0] in ('grpc', 'google', 'pyvider', 'provide', 'structlog')])"
    )
    assert run(code) == "[]\n"


def test_importing_the_package_imports_nothing_else_at_all() -> None:
    """Each name is imported at its first use; even `typing` alone would take ten times as long as all the rest."""
    code = "import sys; before = set(sys.modules); import fsm_conn; print(sorted(sys.modules.keys() - before - {'__future__'}))"
    assert run(code) == "['fsm_conn', 'fsm_conn._util', 'fsm_conn._util.lazy']\n"


def test_all_names_exist_and_are_sorted() -> None:
    """`from fsm_conn import *` gives what the documentation names."""
    assert list(fsm_conn.__all__) == sorted(fsm_conn.__all__)
    assert all(hasattr(fsm_conn, name) for name in fsm_conn.__all__)


def test_type_checkers_see_the_same_names() -> None:
    """What is imported for them is what is imported when it is asked for."""
    for package in (fsm_conn, fsm_conn.inspector, fsm_conn.telemetry, fsm_conn.testing):
        tree = ast.parse(Path(package.__file__).read_text("utf-8"))
        (block,) = (node for node in tree.body if isinstance(node, ast.If))
        told = [
            (each.module, name.asname) for each in block.body if isinstance(each, ast.ImportFrom) for name in each.names
        ]
        assert sorted(name for _, name in told) == list(package.__all__)
        for module, name in told:
            assert getattr(importlib.import_module(module), name) is getattr(package, name)


def test_every_error_is_public() -> None:
    """Whoever catches one need not know the room that raises it."""
    rooms = ("machine", "links", "connection", "pool")
    made = {name for room in rooms for name in importlib.import_module(f"fsm_conn.{room}.errors").__all__}
    assert made <= set(fsm_conn.__all__)
    assert {name for name in fsm_conn.__all__ if name in made} == made


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


ERRORS = [
    name
    for name in fsm_conn.__all__
    if isinstance(getattr(fsm_conn, name), type) and issubclass(getattr(fsm_conn, name), BaseException)
]


@pytest.mark.parametrize("name", ERRORS)
def test_errors_survive_pickling(name: str) -> None:
    """Test runners and process pools carry them."""
    error = getattr(fsm_conn, name)("what was wrong")
    error.note = "kept"
    copy: Any = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.note) == (type(error), "what was wrong", "kept")
    assert isinstance(copy, fsm_conn.FsmConnError)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_can_be_made_as_libraries_that_carry_tracebacks_do(name: str) -> None:
    """Without `__init__`, as tblib does, which Dask installs for every exception."""
    kind: Any = getattr(fsm_conn, name)
    assert isinstance(kind.__new__(kind, "what was wrong"), kind)


def test_evidence_is_part_of_the_message() -> None:
    """What the peer said last stands below what was wrong."""
    assert str(fsm_conn.LinkError("it ended", evidence="| last words")) == "it ended\n| last words"

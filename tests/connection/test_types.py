"""What type checkers say of an application's code: nothing, and of a mistake in it, what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fsm_conn

APPLICATION = Path(__file__).parent / "typed" / "application.py"
SETTINGS = ("--config-file", Path(__file__).parents[2] / "setup.cfg")
"""Strict, and the same with which `tox -e types` reads the package."""
SOURCES = Path(fsm_conn.__file__).parents[1]


def pyright(file: Path, folder: Path) -> str:
    command = Path(sys.executable).parent / "pyright"
    if not command.exists():
        pytest.skip("pyright is not installed")
    if shutil.which("node") is None and not any(Path.home().glob(".cache/pyright-python/nodeenv/bin/node")):
        pytest.skip("pyright has no node to run on")
    settings = f'{{"extraPaths": ["{SOURCES}"], "typeCheckingMode": "strict", "include": ["{file}"]}}'
    (folder / "pyrightconfig.json").write_text(settings)
    done = subprocess.run(
        [command, "--project", folder, "--pythonpath", sys.executable], capture_output=True, text=True, timeout=300
    )
    return done.stdout


def test_an_application_passes_mypy(tmp_path: Path, mypy: Callable[..., str]) -> None:
    """In strict mode, every public name in use."""
    assert mypy(*SETTINGS, APPLICATION) == ""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from fsm_conn import Connection\nx: int = Connection(['x']).state\ny: str = Connection(['x']).pid\n"
    )
    told = mypy(*SETTINGS, wrong)
    assert told.count("error: Incompatible types in assignment") == 2
    assert 'has type "int | None", variable has type "str"' in told


def test_the_project_of_the_tutorial_passes_mypy(mypy: Callable[..., str], mypy_cache: Path) -> None:
    """With its own configuration, which is strict."""
    greeter = Path(__file__).parents[2] / "examples" / "tutorial" / "greeter"
    for name in ("greeter_plugin", "configured", "test_greeter"):
        assert (greeter / f"{name}.py").is_file()
    assert mypy(".", "--cache-dir", mypy_cache / "tutorial", cwd=greeter) == ""


def test_an_application_passes_pyright(tmp_path: Path) -> None:
    """In strict mode, too."""
    assert "0 errors" in pyright(APPLICATION, tmp_path)

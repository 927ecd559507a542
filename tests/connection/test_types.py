"""What type checkers say of an application's code: nothing, and of a mistake in it, what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fsm_conn

APPLICATION = Path(__file__).parent / "typed" / "application.py"
SETTINGS = Path(__file__).parents[2] / "setup.cfg"
"""Strict, and the same with which `tox -e types` reads the package."""
SOURCES = Path(fsm_conn.__file__).parents[1]


def mypy(file: Path, cache: Path) -> str:
    api = pytest.importorskip("mypy.api")
    told: tuple[str, str, int] = api.run(
        ["--no-error-summary", "--cache-dir", str(cache), "--config-file", str(SETTINGS), str(file)]
    )
    return told[0] + told[1]


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


def test_an_application_passes_mypy(tmp_path: Path, mypy_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In strict mode, every public name in use."""
    monkeypatch.setenv("MYPYPATH", "" if SOURCES.name == "site-packages" else str(SOURCES))  # mypy looks there anyway
    assert mypy(APPLICATION, mypy_cache) == ""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from fsm_conn import Connection\nx: int = Connection(['x']).state\ny: str = Connection(['x']).pid\n"
    )
    told = mypy(wrong, mypy_cache)
    assert told.count("error: Incompatible types in assignment") == 2
    assert 'has type "int | None", variable has type "str"' in told


def test_the_project_of_the_tutorial_passes_mypy(monkeypatch: pytest.MonkeyPatch, mypy_cache: Path) -> None:
    """With its own configuration, which is strict."""
    api = pytest.importorskip("mypy.api")
    greeter = Path(__file__).parents[2] / "examples" / "tutorial" / "greeter"
    for name in ("greeter_plugin", "configured", "test_greeter"):
        assert (greeter / f"{name}.py").is_file()
    monkeypatch.setenv("MYPYPATH", "" if SOURCES.name == "site-packages" else str(SOURCES))
    monkeypatch.chdir(greeter)
    told: tuple[str, str, int] = api.run(["--no-error-summary", "--cache-dir", str(mypy_cache / "tutorial"), "."])
    assert told == ("", "", 0)


def test_an_application_passes_pyright(tmp_path: Path) -> None:
    """In strict mode, too."""
    assert "0 errors" in pyright(APPLICATION, tmp_path)

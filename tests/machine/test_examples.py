"""The examples of plain machines: each runs, is sound, and passes type checkers as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import fsm_conn
from fsm_conn.checks import check

EXAMPLES = Path(__file__).parents[2] / "examples"
SOURCES = Path(fsm_conn.__file__).parents[1]
SETTINGS = Path(__file__).parents[2] / "setup.cfg"
NAMES = ("door", "order", "upload")

SAID = {
    "door": """locked (stays) on enter
locked -> closed on enter
closed -> open on push
'lock' is refused in 'open'; allowed: pull
open -> closed on pull
closed -> locked on lock
locked, 1 visit, 0 mistakes
""",
    "order": """thank you for 10
shipped
cancelled: placed has lasted longer than 0.01 s; 0 are given back
cancelled
""",
    "upload": """idle -> sending on send
sending -> sending on broken: ConnectionResetError
sending -> done on sent
done after 2 attempts
idle -> sending on send
sending -> sending on broken: ConnectionResetError
sending -> sending on broken: ConnectionResetError
sending -> failed on broken: ConnectionResetError
failed after 3 attempts
""",
}


def example(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return getattr(import_module(name), name.title())


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name: str) -> None:
    """And says what it did."""
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (SAID[name], "", 0)


@pytest.mark.parametrize("name", NAMES)
def test_its_table_is_sound(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No check finds anything that is not meant."""
    assert [str(finding) for finding in check(example(name, monkeypatch))] == []


def test_mypy_has_nothing_to_say(tmp_path: Path, mypy_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In strict mode; and a state is a string, and a record's data are anything's."""
    api = pytest.importorskip("mypy.api")
    beside = [] if SOURCES.name == "site-packages" else [str(SOURCES)]  # where mypy looks anyway
    monkeypatch.setenv("MYPYPATH", os.pathsep.join([*beside, str(EXAMPLES)]))
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from door import Door\nx: int = Door('1').state\nDoor('1').fire('push', 5)\n")
    files = [str(EXAMPLES / f"{name}.py") for name in NAMES]
    options = ["--no-error-summary", "--cache-dir", str(mypy_cache), "--config-file", str(SETTINGS)]
    assert api.run([*options, *files])[:2] == ("", "")
    told = api.run([*options, str(wrong)])[0]
    assert 'expression has type "str", variable has type "int"' in told
    assert 'Argument 2 to "fire" of "StateMachine" has incompatible type "int"' in told


def test_pyright_has_nothing_to_say(tmp_path: Path) -> None:
    """In strict mode, too."""
    command = Path(sys.executable).parent / "pyright"
    if not command.exists() or (
        shutil.which("node") is None and not any(Path.home().glob(".cache/pyright-python/nodeenv/bin/node"))
    ):
        pytest.skip("pyright is not installed, or has no node to run on")
    files = ", ".join(f'"{EXAMPLES / name}.py"' for name in NAMES)
    settings = f'{{"extraPaths": ["{SOURCES}"], "typeCheckingMode": "strict", "include": [{files}]}}'
    (tmp_path / "pyrightconfig.json").write_text(settings)
    done = subprocess.run(
        [command, "--project", tmp_path, "--pythonpath", sys.executable], capture_output=True, text=True, check=False
    )
    assert "0 errors" in done.stdout, done.stdout

"""The examples of plain machines: each runs, is sound, and passes type checkers as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from shown_examples import EXAMPLES, example

import fsm_conn
from fsm_conn.checks import check

SOURCES = Path(fsm_conn.__file__).parents[1]
SETTINGS = ("--config-file", Path(__file__).parents[2] / "setup.cfg")
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


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name: str) -> None:
    """And says what it did."""
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (SAID[name], "", 0)


@pytest.mark.parametrize("name", NAMES)
def test_its_table_is_sound(name: str) -> None:
    """No check finds anything that is not meant."""
    assert [str(finding) for finding in check(getattr(example(name), name.title()))] == []


def test_mypy_has_nothing_to_say(tmp_path: Path, mypy: Callable[..., str]) -> None:
    """In strict mode; and a state is a string, and a record's data are anything's."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from door import Door\nx: int = Door('1').state\nDoor('1').fire('push', 5)\n")
    assert mypy(*SETTINGS, *(EXAMPLES / f"{name}.py" for name in NAMES), beside=[EXAMPLES]) == ""
    told = mypy(*SETTINGS, wrong, beside=[EXAMPLES])
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

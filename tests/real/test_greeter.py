"""The tutorial's programs do what its pages show, and its tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import warm

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
GREETER = ROOT / "examples" / "tutorial" / "greeter"
PAGES = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
SESSION = re.compile(r"^```console\n\$ (.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSIONS = dict(found for page in PAGES for found in SESSION.findall(page.read_text("utf-8")))
PATIENCE = 500.0
"""Seconds, for a machine that has much else to do."""

pytestmark = pytest.mark.timeout(600)


def environment(*paths: Path) -> dict[str, str]:
    path = os.pathsep.join([*map(str, paths), *sys.path])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Programs, as by the interpreter's command line, among the greeter's."""
    with warm.started(environment()) as process:
        yield partial(process.run, cwd=GREETER)


def without_times(text: str) -> str:
    """How long things took, and which process it was, is different each time."""
    return re.sub(r"(pid |process |after )[\d.e+-]+", r"\1N", text)


def test_every_program_is_shown_with_what_it_prints() -> None:
    """But for the plugin, which only a host starts, and the tests."""
    programs = {path.name for path in GREETER.glob("*.py") if "_pb2" not in path.name}
    assert {command.split()[1] for command in SESSIONS} == programs - {"greeter_plugin.py", "test_greeter.py"}
    included = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert {name for name in programs if f"greeter/{name}\n" not in included} == set()


@pytest.mark.parametrize("command", SESSIONS)
def test_a_program_prints_what_its_page_shows(run: Run, command: str) -> None:
    """Letter by letter, but for times and numbers of processes."""
    program, *arguments = command.split()[1:]
    done = run(str(GREETER / program), *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert without_times(done.stdout) == without_times(SESSIONS[command])


def test_the_plugin_says_that_a_host_is_to_start_it(run: Run) -> None:
    """In one line."""
    done = run(str(GREETER / "greeter_plugin.py"))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"greeter: this is a plugin, for a host to start: .*\n", done.stderr)


def test_the_command_of_the_first_page_calls_it(run: Run) -> None:
    """As it is written there."""
    page = (ROOT / "docs" / "tutorial" / "plugin.md").read_text("utf-8")
    command = re.search(r"^fsm-conn (call .*?)\n```", page, re.MULTILINE | re.DOTALL)
    assert command is not None
    words = command[1].replace("\\\n", " ").split()
    words.insert(words.index("--"), "--start-timeout=100")
    done = run("-m", "fsm_conn", *(sys.executable if word == "python" else word for word in words))
    assert (done.returncode, done.stderr) == (0, "")
    assert '"text": "Hello, Ada!"' in done.stdout


def test_its_tests_pass(tmp_path: Path) -> None:
    """In a run of their own, with the configuration that stands beside them; with fewer lives than a user's has."""
    (tmp_path / "fewer.py").write_text(
        "from hypothesis import settings\n"
        "settings.register_profile('fewer', max_examples=20, deadline=None, database=None)\n"
        "settings.load_profile('fewer')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "fewer"]
    env = environment(tmp_path)
    done = subprocess.run(command, cwd=GREETER, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert re.search(r"^4 passed in ", done.stdout, re.MULTILINE), done.stdout + done.stderr

"""What the README shows, and the examples, do what they say."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import warm
from shown_examples import module_of

from fsm_conn import Connection
from fsm_conn.cli import app
from fsm_conn.diagrams import diagram

pytestmark = pytest.mark.timeout(600)

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
EXAMPLES = sorted(
    str(path.relative_to(ROOT / "examples"))
    for path in (*(ROOT / "examples").glob("*.py"), *(ROOT / "examples" / "recipes").glob("*.py"))
    if "async def main" in path.read_text()
    and "plugin" not in path.stem
    and path.stem not in ("authenticated", "postgres", "redis_pool")
)
"""Of those that need a server, and of what `authenticated.py` prints, there are tests of their own."""


def blocks(language: str, pages: Iterable[str]) -> list[str]:
    return [block for page in pages for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)]


def shown() -> list[Any]:
    """Each block of Python of README and documentation, but for tests, which pytest runs elsewhere."""
    return [
        pytest.param(block, id=f"{name}-{number}")
        for name, page in PAGES.items()
        for number, block in enumerate(blocks("python", [page]))
        if "import pytest" not in block
    ]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Programs, as by the interpreter's command line."""
    with warm.started() as process:
        yield process.run


PRINTED = {
    "was: CalculatorStub": "8.0",
    "prefork=True": "8.0",
    "conn.broker.serve": "3 apples 3",
    "CalculatorStub": "8.0 28.0 1.0 2.0 3.0 7.0 2.0",
    '"calculator.Accumulate", numbers()': "3.0 6.0 1.0 3.0 6.0",
    "on its successor": "8.0 1.0 2.0 3.0 28.0",
    "received=received": "8.0 None {}",
    "isinstance(item, Gap)": "1.0 2.0 3.0",
    "class Upload": "done",
    "print(door.state)": "open",
    "class Lamp": "on 1",
    "ThreadPoolExecutor": "8.0 1.0 2.0 3.0 10.0",
    "HealthMonitoredClient": "1 100.0 unknown 3.0",
    "remove_target": "3.0 5.0 1",
    "ConnectionPool, PoolPolicy": "3.0 4.0 2",
    "run_coroutine_threadsafe": "8.0",
    "cluster.map(": "3.0 [1, 2, 3, 4]",
    "DaskMembers, local_pool": "3.0 5.0",
    "Recipe, serve": "8.0 2",
}
"""What those blocks print that print something, by a word that is only in them."""


@pytest.mark.parametrize("block", shown())
def test_the_python_blocks_run(run: Run, block: str, tmp_path: Path) -> None:
    """On real plugins, or as declarations and configuration; without an error, and they print what they promise."""
    result = run("-c", block, cwd=tmp_path)
    expected = next((text for word, text in PRINTED.items() if word in block), "")
    if "print(diagram(Connection))" in block:
        expected = str(diagram(Connection))
    assert (result.returncode, result.stdout.split(), result.stderr) == (0, expected.split(), "")


def test_the_cells_of_the_notebook_run(run: Run) -> None:
    """One after the other, in one event loop, with `await` outside of functions."""
    cells = blocks("{code-block} python", [PAGES["docs/howto/scripts.md"]])
    code = f"""
import ast, asyncio, types
async def main():
    space = {{}}
    for cell in {cells!r}:
        code = compile(cell, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = types.FunctionType(code, space)()
        if result is not None:
            await result
    print(space["conn"].state)
asyncio.run(main())
"""
    assert len(cells) == 3
    result = run("-c", code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "disconnected\n", "")


def test_the_test_recipes_pass(tmp_path: Path) -> None:
    """Each block is a file of tests, run by pytest without this project's configuration."""
    recipes = blocks("python", [PAGES["docs/howto/testing.md"]])
    for number, block in enumerate(recipes):
        (tmp_path / f"test_recipe_{number}.py").write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider", "."]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert re.search(r"^6 passed in ", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_every_logger_is_documented() -> None:
    """Also those that only say what went wrong."""
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "fsm_conn").rglob("*.py"))
    loggers = set(re.findall(r'getLogger\("(fsm_conn[.\w]*)"\)', sources))
    rows = set(re.findall(r"^\| `(fsm_conn[.\w]*)` \|", PAGES["docs/signals.md"], re.MULTILINE))
    assert len(loggers) > 5
    assert loggers <= rows


def test_the_two_commands_are_one_line_each_and_set_up_all_they_need() -> None:
    """An environment of their own, then the demo, and the tests; CI runs the second."""
    demo, tests = (block.strip() for block in blocks("sh", [README]))
    for command in (demo, tests):
        assert "\n" not in command
        assert command.startswith("python3.11 -m venv .venv && .venv/bin/pip install -q ")
    assert demo.endswith(" '.[cli]' && .venv/bin/fsm-conn demo")
    assert tests.endswith(" tox && .venv/bin/tox")
    assert re.search(r"\^python3\.\* tox", (ROOT / ".ci" / "run").read_text())


@pytest.mark.parametrize("page", PAGES)
def test_rows_of_tables_have_as_many_cells_as_their_heads(page: str) -> None:
    """A bar in a cell must be written with a backslash, or it begins the next cell and the last one vanishes."""
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert set(cells) == {cells[0]}, table.splitlines()[cells.index(max(cells))]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Files that a page names exist."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page])
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []


def test_the_readme_is_short_and_names_every_page() -> None:
    """What is longer belongs into the documentation; what is there can be found from the first page."""
    assert len(README.splitlines()) <= 150
    docs = ROOT / "docs"
    guides = {path.name for path in docs.glob("*.md")} - {"index.md", "tables.md", "api.md"}
    guides |= {f"{path.parent.name}/index.md" for path in docs.glob("*/index.md")}
    assert {name for name in guides if f"(docs/{name})" not in README} == set()
    for directory in {path.parent for path in docs.rglob("*.md")}:
        listed = set((directory / "index.md").read_text().split())
        assert {path.stem for path in directory.glob("*.md")} - {"index"} <= listed, directory
        assert {f"{path.parent.name}/index" for path in directory.glob("*/index.md")} <= listed


def test_what_is_generated_is_current() -> None:
    """Defaults, errors and names are those of the code."""
    generate = module_of(ROOT / "docs" / "generate.py")
    for name, page in PAGES.items():
        assert generate.renewed(page) == page, f"{name} is stale: run `python docs/generate.py`"


def test_every_public_name_has_its_entry() -> None:
    """In the reference, in the words of its docstring: of each package that is not private, nor a part of another."""
    inner = {"connection", "links", "machine", "pool", "cli", "demo"}
    packages = {path.parent.name for path in (ROOT / "fsm_conn").glob("[a-z]*/__init__.py")} - inner
    for package in ("fsm_conn", *(f"fsm_conn.{name}" for name in packages)):
        section = (
            PAGES["docs/api.md"].partition(f"\n.. currentmodule:: {package}\n")[2].partition("\n.. currentmodule::")[0]
        )
        entries = re.findall(r"^\.\. [a-z:]+:: (\w+)$", section, re.MULTILINE)
        assert sorted(importlib.import_module(package).__all__) == sorted(entries), package


LOGGED = re.compile(r"^[\w.]+: (lost after|gave up after) ")
"""What the log of a connection says by itself, on stderr where nobody has configured logging."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(run: Run, name: str) -> None:
    """To its end, without a word on stderr but what the log says of plugins that were killed."""
    result = run(str(ROOT / "examples" / name))
    assert (result.returncode, [line for line in result.stderr.splitlines() if not LOGGED.search(line)]) == (0, [])


def test_the_authenticated_example_logs_in_again_after_the_kill(run: Run) -> None:
    """The additional state is lived through on the way back, and the secret is served by the new session."""
    result = run(str(ROOT / "examples" / "authenticated.py"))
    assert (result.returncode, [line for line in result.stderr.splitlines() if not LOGGED.search(line)]) == (0, [])
    assert result.stdout.splitlines() == [
        "the secret called first",
        "connected -> reconnecting on lost: PluginExitedError",
        "reconnecting -> authenticating on opened",
        "authenticating -> connected on authenticated",
        "the secret called second",
        "connected -> disconnecting on disconnect",
        "disconnecting -> disconnected on closed",
    ]


def test_a_wrong_token_is_not_tried_again(run: Run) -> None:
    """The example's permanent error ends in failed at the first attempt."""
    code = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from authenticated import Authenticated
from fsm_conn import ConnectFailedError
async def main():
    conn = Authenticated([sys.executable, sys.argv[1] + "/vault_plugin.py"], "wrong", env={"VAULT_TOKEN": "right-token"})
    try:
        await conn.connect()
    except ConnectFailedError as error:
        print(error.attempts, error.reason)
asyncio.run(main())
"""
    result = run("-c", code, str(ROOT / "examples"))
    assert result.stdout == "1 the plugin refused our token: wrong token\n"
    assert result.stderr == "vault_plugin.py: gave up after 1 attempt: the plugin refused our token: wrong token\n"


COMMANDS = {
    row.split()[1]: row.split()[2:]
    for row in re.findall(r"^\| `(fsm-conn [^`]+)` \|", PAGES["docs/command.md"], re.MULTILINE)
}
"""Those of the table, each with its arguments."""


def test_the_table_of_commands_has_all_of_them() -> None:
    """But for the one that makes the others complete, which stands below it."""
    assert {*COMMANDS, "completion"} == set(app.COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"inspect", "serve", "trace", "watch"}))
def test_a_command_of_the_table_does_what_it_says(run: Run, command: str, tmp_path: Path) -> None:
    """As it stands there, with a plugin and a class that exist, of which fewer lives are lived. (`inspect`, `serve` and `watch` have no end, and `trace` needs what it wrote.)"""
    given = {
        "module:Class": ["fsm_conn:Connection"],
        "python": [sys.executable],
        "plugin.py": ["-m", "fsm_conn.demo.calculator"],
    }
    arguments = [word for each in COMMANDS[command] for word in given.get(each, [each])]
    if command == "call":
        arguments.insert(0, "--start-timeout=100")
    if command == "explore":
        arguments[:0] = ["--depth=2", "--lives=20"]
    result = run("-m", "fsm_conn", command, *arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert bool(result.stdout) != (command == "diagram")
    written = {"diagram": ["life.svg"], "new": ["my-plugin"]}.get(command, [])
    assert [path.name for path in tmp_path.iterdir()] == written

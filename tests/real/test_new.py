"""`fsm-conn new`: what it writes runs, passes its own tests and the type checker, and can be called and compiled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import warm
from google.protobuf import descriptor_pb2
from screens import COMMAND, clean_environment

import fsm_conn

SOURCES = Path(fsm_conn.__file__).parents[1]
FILES = {
    *("README.md", "host.py", "pyproject.toml", "test_my_plugin.py", "my_plugin.proto", "my_plugin_pb2.py"),
    *("my_plugin_pb2.pyi", "my_plugin_pb2_grpc.py", "my_plugin_plugin.py"),
}


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Programs of Python, by a process that has imported what most of them import."""
    with warm.started(clean_environment(), measured=True) as process:

        def ran(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
            assert command[0] == sys.executable
            return process.run(*command[1:], cwd=cwd)

        yield ran


@pytest.fixture(scope="module")
def project(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, as the command writes it."""
    here = tmp_path_factory.mktemp("new")
    made = run(*COMMAND, "new", "my-plugin", cwd=here)
    assert (made.returncode, made.stderr) == (0, "")
    assert "Next:\n  cd my-plugin\n  python host.py" in made.stdout
    return here / "my-plugin"


def test_its_own_tests_pass(run: Run, project: Path) -> None:
    """The host, a refusal, a plugin that is killed, and a loss in virtual time."""
    assert {path.name for path in project.iterdir()} >= FILES
    options = ("-q", "-p", "no:cacheprovider", "-p", "fsm_conn.testing.plugin", "--asyncio-mode=strict")
    tested = run(sys.executable, "-m", "pytest", *options, cwd=project)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "4 passed" in tested.stdout


def test_its_types_are_right(project: Path, mypy_cache: Path) -> None:
    """By mypy --strict."""
    pytest.importorskip("mypy")
    path = "" if SOURCES.name == "site-packages" else str(SOURCES)  # mypy looks there anyway
    env = clean_environment(MYPYPATH=path, PYTHONPATH="")
    command = (sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(mypy_cache), ".")
    checked = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=600)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Success" in checked.stdout


def test_it_is_called_as_its_readme_says(run: Run, project: Path) -> None:
    """With the cookie that was drawn for it."""
    text = (project / "README.md").read_text()
    found = re.search(r"COOKIE=(PLUGIN_MAGIC_COOKIE=my-plugin-[0-9a-f]{8})\n", text)
    assert found is not None
    assert "name=Ada --env $COOKIE -- python my_plugin_plugin.py" in text
    plugin = ("--env", found[1], "--", sys.executable, "my_plugin_plugin.py")
    called = run(*COMMAND, "call", "my_plugin.Greet", "name=Ada", *plugin, cwd=project)
    assert (called.returncode, called.stderr) == (0, "")
    assert json.loads(called.stdout) == {"text": "Hello, Ada!"}
    alone = subprocess.run(
        [sys.executable, "my_plugin_plugin.py"], cwd=project, env=clean_environment(), capture_output=True, text=True
    )
    assert alone.returncode == 1
    assert alone.stderr.startswith("my_plugin: this is a plugin, for a host to start: ")


def test_the_protocol_is_that_of_the_proto(project: Path) -> None:
    """The file that was compiled without a compiler says what the text says, message by message and method by method."""
    script = "import my_plugin_pb2, sys; sys.stdout.buffer.write(my_plugin_pb2.DESCRIPTOR.serialized_pb)"
    made = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, check=True, timeout=100)
    file: Any = descriptor_pb2.FileDescriptorProto.FromString(made.stdout)
    text = (project / "my_plugin.proto").read_text()
    kinds = {1: "double", 3: "int64", 9: "string"}
    fields = {(each.name, kinds[field.type], field.name) for each in file.message_type for field in each.field}
    assert set(re.findall(r"message (\w+) \{\n  (\w+) (\w+) = 1;", text)) == fields
    methods = {
        (each.name, each.input_type.rpartition(".")[2], "stream " * each.server_streaming, each.output_type[11:])
        for each in file.service[0].method
    }
    assert set(re.findall(r"rpc (\w+)\((\w+)\) returns \((stream )?(\w+)\)", text)) == methods
    assert (file.package, file.service[0].name) == ("my_plugin", "MyPlugin")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("My-Plugin", "'My-Plugin' will not do as a name: give lower-case letters"),
        ("1st", "will not do as a name"),
        ("a" * 41, "40 characters at most"),
        ("class", "means something in the project's code"),
        ("none", "means something in the project's code"),
        ("greet-request", "means something in the project's code"),
        ("there", "is there already, and not empty"),
    ],
)
def test_what_cannot_be_written_is_refused(run: Run, tmp_path: Path, name: str, told: str) -> None:
    """In a line, and nothing is written."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    before = sorted(os.listdir(tmp_path))
    refused = run(*COMMAND, "new", name, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("fsm-conn new: ")
    assert told in refused.stderr
    assert sorted(os.listdir(tmp_path)) == before

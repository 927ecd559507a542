"""What the library advises is told by commands as their own options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fsm_conn
from fsm_conn.cli.own_words import OPTIONS, in_options

PACKAGE = Path(fsm_conn.__file__).parent
ARGUMENT = re.compile(r"\b(services|env|start_timeout|mtls|versions|tls|token)=")
"""The arguments of the library that commands have options for."""
WRITTEN_BY_PROGRAMS = (
    "links/checking.py",
    "links/plugin/broker.py",
    "links/target.py",
    "links/services.py",
    "connection/options.py",
)
"""Where arguments are checked: commands check their own."""


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    """Each text of the rooms that raise while a peer is reached, called or served, without docstrings."""
    return list(sentences())


def sentences() -> Iterator[tuple[str, str]]:
    """The same, one after the other."""
    rooms = ("links", "connection", "cluster/serving")
    for path in sorted(path for room in rooms for path in (PACKAGE / room).rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        documents = {
            id(node.value) for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
                yield path.relative_to(PACKAGE).as_posix(), node.value


@pytest.mark.parametrize("said", OPTIONS)
def test_the_library_still_says_so(said: str, texts: list[tuple[str, str]]) -> None:
    assert any(said in text for _, text in texts)


def test_no_remedy_is_left_in_words_that_commands_do_not_have(texts: list[tuple[str, str]]) -> None:
    """Every sentence that names such an argument is said in another way, unless only programs can meet it."""
    left = {
        (path, text)
        for path, text in texts
        if ARGUMENT.search(in_options(text)) and not any(part in path for part in WRITTEN_BY_PROGRAMS)
    }
    assert left == set()


def test_what_a_plugin_says_is_left_alone() -> None:
    words = "unknown option services=3, env=prod, mtls=True"
    assert in_options(words) == words


def test_tls_is_an_option_too() -> None:
    remedy = "give 'a:1', and Endpoint('a:1', credentials=Tls()) for TLS"
    assert in_options(remedy) == "give 'a:1', and --tls for TLS"

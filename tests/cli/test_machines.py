"""What `module:Class` means, and what is said when it means nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from fsm_conn import Connection
from fsm_conn.cli.machines import ConnectionClass, Machine
from fsm_conn.testing.lives.culprits import place

APP = """
from transitions import Machine
from fsm_conn import Connection, ConnectionPool
class Mine(Connection):
    class Inner(Connection): ...
class _Hidden(Connection): ...
light = Machine(states=["red", "green"], initial="red")
number = 5
class Nothing: ...
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of a user's, with modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    (tmp_path / "app_of_mine.py").write_text(APP)
    return tmp_path


def found(text: str, kind: Machine | None = None) -> Any:
    return (kind or Machine()).convert(text, None, None)


def test_a_module_of_the_current_directory() -> None:
    """As with `python -m`, wherever the command itself is installed."""
    assert found("app_of_mine:Mine").__name__ == "Mine"
    assert found("app_of_mine:Mine.Inner").__qualname__ == "Mine.Inner"
    assert found("app_of_mine:light").initial == "red"
    assert found("fsm_conn:Connection") is Connection


def test_a_file(here: Path) -> None:
    """With its neighbours, as `python file.py` sees them; also when it is named as a module of Python's."""
    room = here / "room"
    room.mkdir()
    (room / "neighbour.py").write_text("NAME = 'Neighbour'")
    (room / "json.py").write_text(
        "from neighbour import NAME\nfrom fsm_conn import Connection\nclass A(Connection): ..."
    )
    import json

    assert found("room/json.py:A").__module__ == "json_"
    assert sys.modules["json"] is json
    assert found(f"{here}/app_of_mine.py:Mine").__module__ == "app_of_mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("app_of_mine:Min", "'app_of_mine' has no 'Min' (did you mean 'Mine'?); 'app_of_mine' has these: Connection, ConnectionPool, Mine, light"),
        ("app_of_mine:number", "'app_of_mine:number' is of type 'int', and not a state machine; 'app_of_mine' has these: Connection"),
        ("app_of_mine:Machine", "'app_of_mine:Machine' is a class of machines, of which one that was made can be named, and not a state machine"),
        ("app_of_mine:Nothing", "'app_of_mine:Nothing' is another kind of class, and not a state machine; 'app_of_mine' has these: Connection"),
        ("app_of_mine:Mine.name.x", "'app_of_mine' has no 'Mine.name.x'"),
        ("app_of_mine", "'app_of_mine': give module:Class; 'app_of_mine' has these: Connection, ConnectionPool, Mine, light."),
        ("app_of_mine:", "'app_of_mine:': give module:Class; 'app_of_mine' has these: Connection"),
        ("json:Class", "'json' has no 'Class'; 'json' has no state machine"),
        ("app_of_yours:Mine", "cannot import 'app_of_yours': ModuleNotFoundError: No module named 'app_of_yours'"),
        ("nowhere/app.py:Mine", "cannot import 'nowhere/app.py': FileNotFoundError: there is no file 'nowhere/app.py'"),
        (":Mine", "cannot import ':Mine'"),
        ("..x:Mine", "cannot import '..x'"),
    ],
)  # fmt: skip
def test_what_is_not_there(text: str, said: str) -> None:
    """The module is named, with what it offers."""
    with pytest.raises(click.ClickException) as caught:
        found(text)
    assert said in caught.value.format_message()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero ("),
        ("def f():\n    import no_such_module\nf()", "ModuleNotFoundError: No module named 'no_such_module' ("),
        ("class A(:", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3 ("),
        ("raise ValueError('one\\ntwo')", "ValueError: one ("),
        (
            "from fsm_conn import Connection\nclass A(Connection):\n    states = ()",
            "DeclarationError: ",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_error(here: Path, code: str, said: str) -> None:
    """In one line, and where it was raised."""
    (here / "broken.py").write_text(code)
    with pytest.raises(click.ClickException) as caught:
        found("broken:A")
    message = caught.value.format_message()
    assert message.startswith(f"cannot import 'broken': {said}")
    assert "\n" not in message
    assert "broken.py" in message


def test_a_module_without_a_colon_that_cannot_be_imported_says_why() -> None:
    """That is what is wrong with it first."""
    with pytest.raises(click.ClickException, match="cannot import 'app_of_yours'"):
        found("app_of_yours")


def test_who_needs_connections_is_content_with_nothing_else() -> None:
    """Neither with a pool, nor with a machine of transitions."""
    assert found("fsm_conn:AutoReconnectClient", ConnectionClass())
    for name in ("ConnectionPool", "light"):
        with pytest.raises(click.ClickException, match="and not a subclass of Connection") as caught:
            found(f"app_of_mine:{name}", ConnectionClass())
        assert caught.value.format_message().endswith("; 'app_of_mine' has these: Connection, Mine")


def test_a_working_directory_that_was_deleted(here: Path) -> None:
    """What does not need it is found all the same; for what may have been in it, that is said."""
    gone = here / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert found("fsm_conn:Connection") is Connection
    assert found(f"{here}/app_of_mine.py:Mine").__name__ == "Mine"
    assert place(f"{here}/app_of_mine.py", 7) == f"{here}/app_of_mine.py:7"
    for text in ("app_of_yours:Mine", "app.py:Mine", "room/app.py:Mine"):
        with pytest.raises(click.ClickException, match="the working directory does not exist any more") as caught:
            found(text)
        assert "Errno" not in caught.value.message

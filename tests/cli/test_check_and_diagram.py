"""`fsm-conn check` and `fsm-conn diagram`: what the libraries behind them find and draw, with the right exit status."""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from screens import Terminal
from transitions import Machine

from fsm_conn import Connection, ConnectionPool, StatefulConnection, cli
from fsm_conn.cli.commands.check import command as check_command
from fsm_conn.diagrams import diagram

APP = '''
from fsm_conn import Connection, State, Transition
class Trapped(Connection):
    """Has a state that nothing leads to, and one that nothing leads out of."""
    states = (*Connection.states, State("nowhere"))
    transitions = Connection.transitions
'''


@pytest.fixture(autouse=True)
def trapped(tmp_path: Path) -> str:
    """A class with mistakes, as an argument."""
    file = tmp_path / "trapped_app.py"
    file.write_text(APP)
    return f"{file}:Trapped"


def test_a_machine_without_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    """Says so, with status 0; several at once too."""
    assert cli.main(["check", "fsm_conn:Connection", "fsm_conn:ConnectionPool"]) == 0
    assert capsys.readouterr() == ("nothing found in 2 machines\n", "")


def test_mistakes_are_shown_with_the_remedy(trapped: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, and how many in a line on stderr."""
    assert cli.main(["check", trapped]) == 1
    shown = capsys.readouterr()
    assert "error FSM101 Trapped: nowhere: " in shown.out
    assert "\n    Add a row that leads there, or remove the state.\n" in shown.out
    assert shown.err.startswith("fsm-conn check: ")
    assert "error" in shown.err


def test_mistakes_are_shown_where_the_working_directory_was_removed(
    trapped: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the whole path."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert cli.main(["check", trapped]) == 1
    assert capsys.readouterr().out.startswith(f"{tmp_path}/trapped_app.py:")


def test_the_formats_for_programs(trapped: str, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and SARIF on stdout, with the same exit status."""
    assert cli.main(["check", "--format", "json", trapped]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert ("FSM101", "nowhere") in {(each["code"], each["place"]) for each in findings}
    assert cli.main(["check", "--format", "sarif", trapped]) == 1
    results = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert {each["code"] for each in findings} == {each["ruleId"] for each in results}


def test_what_is_meant_is_accepted_with_a_reason(trapped: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By its code; without a reason it is refused."""
    cli.main(["check", "--format", "json", trapped])
    codes = {each["code"] for each in json.loads(capsys.readouterr().out)["findings"]}
    accept = [word for code in sorted(codes) for word in ("--accept", f"{code}=it is meant")]
    assert cli.main(["check", *accept, trapped]) == 0
    capsys.readouterr()
    assert cli.main(["check", "--accept", "FSM101=", trapped]) == 2
    assert "--accept takes CODE=REASON" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["mermaid", "dot", "markdown", "rst", "svg"])
def test_a_diagram_on_stdout_is_that_of_the_library(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Letter by letter, but for the end of the last line."""
    assert cli.main(["diagram", "--format", form, "fsm_conn:ConnectionPool"]) == 0
    assert capfd.readouterr().out.rstrip("\n") == str(diagram(ConnectionPool, form)).rstrip("\n")


def test_a_file_gets_what_its_suffix_says(tmp_path: Path) -> None:
    """Unless a format is given; a PNG is one."""
    for name in ("c.dot", "c.png"):
        assert cli.main(["diagram", "-o", str(tmp_path / name), "--theme", "dark", "fsm_conn:Connection"]) == 0
    assert (tmp_path / "c.dot").read_text() == diagram(Connection, "dot", theme="dark")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["diagram", "-o", str(tmp_path / "c.txt"), "--format", "rst", "fsm_conn:Connection"]) == 0
    assert (tmp_path / "c.txt").read_text() == diagram(Connection, "rst")


def test_the_present_state_is_lit(capsys: pytest.CaptureFixture[str]) -> None:
    """By its name; another name is refused with those there are."""
    assert cli.main(["diagram", "--format", "dot", "--state", "failed", "fsm_conn:Connection"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == diagram(Connection, "dot", state="failed").rstrip("\n")
    assert cli.main(["diagram", "--state", "failing", "fsm_conn:Connection"]) == 1
    assert "Connection has no state 'failing'" in capsys.readouterr().err


def test_what_is_added_to_a_base_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    """As the library marks it."""
    assert cli.main(["diagram", "--base", "fsm_conn:Connection", "fsm_conn:StatefulConnection"]) == 0
    shown = capsys.readouterr().out
    assert shown.rstrip("\n") == diagram(StatefulConnection, base=Connection).rstrip("\n")
    assert shown.rstrip("\n") != diagram(StatefulConnection).rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "c.gif"), "'c.gif': a diagram's file ends in one of .mmd"),
        (("-o", "/no/such/place.svg"), "cannot write '/no/such/place.svg': No such file or directory"),
        (("--coverage", "{app}"), "not a coverage report"),
    ],
)
def test_what_cannot_be_drawn_or_written(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, status 1."""
    given = [each.format(app=tmp_path / "trapped_app.py") for each in arguments]
    assert cli.main(["diagram", *given, "fsm_conn:Connection"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"fsm-conn diagram: {said}")
    assert shown.err.count("\n") == 1


def test_a_picture_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names it."""
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    assert cli.main(["diagram", "--format", "svg", "fsm_conn:Connection"]) == 1
    assert "pip install 'fsm_conn[diagrams]'" in capsys.readouterr().err


def test_a_terminal_is_not_shown_a_picture() -> None:
    """It could not, and would obey what is in it."""
    with Terminal("diagram", "--format", "png", "fsm_conn:Connection") as terminal:
        assert terminal.ended() == 2
        assert terminal.text.startswith("fsm-conn diagram: A PNG is no text: give -o FILE.")


def test_findings_are_coloured_on_a_terminal_and_nowhere_else(trapped: str) -> None:
    """And not with NO_COLOR, or on a dumb terminal, which gets no escape code at all."""
    with Terminal("check", trapped, columns=200) as terminal:
        assert terminal.ended() == 1
        assert {each.fg for each in terminal.styles("error FSM101")} == {"red"}
    with Terminal("check", trapped, columns=200, NO_COLOR="1") as terminal:
        assert terminal.ended() == 1
        assert {each.fg for each in terminal.styles("error FSM101")} == {"default"}
    with Terminal("check", trapped, columns=200, TERM="dumb") as terminal:
        assert terminal.ended() == 1
        assert b"\x1b" not in terminal.written


ANY_NAME = st.text(st.sampled_from("ab\n\t\r\x1b\x9b\u2028\u202e[]"), min_size=1, max_size=6)


@given(st.lists(ANY_NAME, min_size=2, max_size=4, unique=True), ANY_NAME, ANY_NAME)
def test_names_neither_end_lines_nor_command_the_terminal(states: list[str], name: str, accepted: str) -> None:
    """Whatever machines, states and accepted places are called, a finding has two lines, and its remedy the second."""
    machine = Machine(states=states, initial=states[0], name=name)
    assert check_command.callback is not None
    with redirect_stdout(io.StringIO()) as shown, pytest.raises(click.ClickException, match=r"^\d errors?\b"):
        check_command.callback((machine,), "text", {f"FSM101 {accepted}": "it is meant"}, False)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", shown.getvalue())
    lines = shown.getvalue().split("\n")[:-1]
    assert len(lines) >= 2
    assert all(re.match("(error|warning|note) FSM", line) for line in lines[::2])
    assert all(re.match("    [A-Z]", line) for line in lines[1::2])


def test_a_state_that_there_is_not_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names with the end of a line in them are shown by its escape."""
    file = tmp_path / "odd_names.py"
    file.write_text(r"""from transitions import Machine
odd = Machine(states=["a\nb"], initial="a\nb", name="c\nd")""")
    assert cli.main(["diagram", "--state", "x\ny", f"{file}:odd"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert r"a\nb" in said


def test_a_diagram_has_the_detail_and_the_title_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagram", "fsm_conn:Connection", "--detail", "states", "--title", "A life"]) == 0
    assert capsys.readouterr() == (diagram(Connection, detail="states", title="A life"), "")


def test_what_mermaid_does_not_draw_is_told_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vast_app.py").write_text(
        "from transitions import Machine\n"
        "m = Machine(None, [f's{n}' for n in range(600)], initial='s0', auto_transitions=False)\n"
        "for n in range(599): m.add_transition('go', f's{n}', f's{n + 1}')\n"
    )
    assert cli.main(["diagram", f"{tmp_path}/vast_app.py:m"]) == 0
    shown = capsys.readouterr()
    assert "s598 --> s599 : go" in shown.out
    assert shown.err.startswith("Warning: Machine: it has 600 edges, and Mermaid draws ")

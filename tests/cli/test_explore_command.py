"""`fsm-conn explore`: it finds what is wrong with a class, says so in the shortest way, and ends when it is told to."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from screens import Terminal

import fsm_conn
from fsm_conn import cli
from fsm_conn.testing import Report

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "examples" / "tutorial"


def test_a_class_that_is_in_order(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What was walked and lived, how much of the table ran; status 0. The coverage is what `diagram` reads."""
    path = tmp_path / "seen.json"
    assert cli.main(["explore", "--depth", "1", "--lives", "20", "--coverage", str(path), "fsm_conn:Connection"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert re.match(r"\d+ moments and \d+ edges up to depth 1, all of them, in ", shown.out)
    assert "20 random lives with seed 0\ntransition coverage: " in shown.out
    report = Report.from_json(path.read_text())
    assert report.owners == ("fsm_conn.connection.connection.Connection",)
    assert f"{report.covered} of {report.total}" in shown.out
    assert cli.main(["diagram", "--coverage", str(path), "fsm_conn:Connection"]) == 0
    taken = max(count.taken for count in report.counts.values())
    assert str(taken) in capsys.readouterr().out


def test_a_violation_is_shown_by_the_shortest_life_as_a_program_and_as_a_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Status 1, and the invariant in the line on stderr. The program is that of the tutorial."""
    assert cli.main(["explore", f"{TUTORIAL}/before.py:PatientLogin"]) == 1
    shown = capsys.readouterr()
    program = ["life = Life(PatientLogin)", "life.connect()", "life.answer('open', 'ok')", "life.disconnect()"]
    assert "".join(f"    {line}\n" for line in program) in shown.out
    assert "0.000 s  disconnect  logging_in    -> disconnecting" in shown.out
    assert shown.err == ("fsm-conn explore: before.PatientLogin violates activities_end_with_their_state\n")


def test_what_the_walk_is_too_shallow_for_the_random_lives_find(capsys: pytest.CaptureFixture[str]) -> None:
    """And the same seed finds the same life."""
    command = ["explore", "--depth", "1", "--seed", "7", f"{TUTORIAL}/before.py:PatientLogin"]
    assert cli.main(command) == 1
    first = capsys.readouterr()
    assert "random lives with seed 7, the last of which failed" in first.out
    assert "\n    life = Life(PatientLogin" in first.out
    assert cli.main(command) == 1
    assert re.sub(r"in [\d.]+ s .*", "", capsys.readouterr().out) == re.sub(r"in [\d.]+ s .*", "", first.out)


def test_an_invariant_that_need_not_hold_is_ignored_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """By name; a name that does not exist is refused, with those that do."""
    machine = f"{TUTORIAL}/before.py:PatientLogin"
    ignore = ("--ignore", "activities_end_with_their_state=it is known")
    assert cli.main(["explore", "--depth", "3", *ignore, machine]) == 1
    assert capsys.readouterr().err == "fsm-conn explore: before.PatientLogin violates links_are_owned\n"
    assert cli.main(["explore", "--ignore", "nothing=x", machine]) == 1
    assert "there is no invariant 'nothing'; there are activities_end" in capsys.readouterr().err


def test_time_that_is_up_ends_it_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing further is begun, and what was done is reported as what it is."""
    assert cli.main(["explore", "--depth", "50", "--lives", "1000000", "--seconds", "0.01", "fsm_conn:Connection"]) == 0
    out = capsys.readouterr().out
    assert "as far as the limit allowed, in " in out
    assert re.search(r"\n\d+ random lives with seed 0, as far as the limit allowed\n", out)


def test_constructors_that_take_more_need_one_who_makes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it the error says so; with it the class is explored."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from fsm_conn import Connection\n"
        "class Mine(Connection):\n"
        "    def __init__(self, target, token, **options):\n"
        "        super().__init__(target, **options)\n"
        "def make(link, options):\n"
        "    return Mine(link, 'token', **options)\n"
    )
    assert cli.main(["explore", f"{file}:Mine"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("fsm-conn explore: no Mine could be made, TypeError: Mine.__init__() missing 1 required")
    assert said.endswith("; give what makes one with --make\n")
    command = ["explore", "--depth", "1", "--lives", "5", "--make", f"{file}:make", f"{file}:Mine"]
    assert cli.main(command) == 0


@pytest.mark.parametrize("name", ["hypothesis"])
def test_without_the_extra_one_line_says_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As everywhere in `fsm_conn.testing`."""
    for module in [each for each in sys.modules if each == name or each.startswith(("fsm_conn.testing", f"{name}."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "fsm_conn.cli.lives", raising=False)
    monkeypatch.setattr(fsm_conn, "testing", fsm_conn.testing)  # which becomes another one until the end of the test
    monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["explore", "fsm_conn:Connection"]) == 1
    assert capsys.readouterr().err == (
        f"fsm-conn explore: fsm_conn.testing needs {name!r}, which is not installed: pip install 'fsm_conn[testing]'\n"
    )


def test_a_terminal_shows_how_far_it_is_and_forgets_it_in_the_end() -> None:
    """The bar of the walk, then that of the lives; afterwards only the result is left."""
    with Terminal("explore", "--depth", "5", "--lives", "60", "fsm_conn:Connection") as terminal:
        terminal.until(lambda text: re.search(r"every life, step .* of 5 \d+ moments", text))
        shown = terminal.until(lambda text: re.search(r"random lives .* \d+ of 60", text))
        assert "every life" not in shown.partition("up to depth 5")[0]
        assert terminal.ended() == 0
        lines = terminal.text.splitlines()
    assert lines[0].split()[1:2] == ["moments"]
    assert not [line for line in lines if "every life" in line or " of 60" in line]


def test_ctrl_c_ends_it_at_once() -> None:
    """With status 130 and without a word, whatever is under way."""
    with Terminal("explore", "--depth", "9", "fsm_conn:Connection") as terminal:
        terminal.until("every life, step")
        terminal.interrupt()
        assert terminal.ended() == 130
        assert "Traceback" not in terminal.text
    with Terminal("explore", "--depth", "1", "--lives", "100000", "fsm_conn:Connection") as terminal:
        terminal.until(lambda text: re.search(r"random lives .* \d+ of 100000", text))
        terminal.interrupt()
        assert terminal.ended() == 130
        assert "Traceback" not in terminal.text


def test_a_report_that_could_not_be_written_is_refused_before_any_life(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not hours later."""
    assert cli.main(["explore", "--coverage", str(tmp_path / "none" / "seen.json"), "fsm_conn:Connection"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(f"there is no directory '{tmp_path}/none'\n")

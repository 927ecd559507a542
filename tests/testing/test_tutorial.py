"""The tutorial tells the truth: its programs are the files beside it, and what it shows is what is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from fsm_conn.testing import ViolationError, explore, lifecycle_test, replay

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "examples" / "tutorial"
README = (TUTORIAL / "README.md").read_text("utf-8")

SESSIONS = re.findall(r"^```console\n\$ python (.*?)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
LISTINGS = re.findall(r"^```python (\S+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the tutorial, as its neighbours see it."""
    monkeypatch.syspath_prepend(TUTORIAL)
    for each in ("before", "after", "regression"):
        monkeypatch.setitem(sys.modules, each, sys)  # so that it is taken out again afterwards
        del sys.modules[each]
    return __import__(name)


def test_the_readme_has_something_to_check() -> None:
    """Three sessions, and a listing of every file that a reader meets."""
    assert len(SESSIONS) == 3
    assert {name for name, _ in LISTINGS} == {"before.py", "find.py", "regression.py", "after.py", "lives.py"}


@pytest.mark.parametrize(("command", "shown"), SESSIONS, ids=[command for command, _ in SESSIONS])
def test_what_the_readme_shows_is_what_is_printed(command: str, shown: str) -> None:
    """Letter by letter."""
    done = subprocess.run([sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == shown


@pytest.mark.parametrize(("name", "listing"), LISTINGS, ids=[name for name, _ in LISTINGS])
def test_listings_are_from_the_files(name: str, listing: str) -> None:
    """Nothing was copied by hand and then forgotten."""
    assert listing in (TUTORIAL / name).read_text("utf-8")


def test_before_and_after_differ_in_the_fix_alone() -> None:
    """A reader who compares the files sees the bug, and nothing else."""
    before, after = ((TUTORIAL / name).read_text("utf-8").splitlines()[2:] for name in ("before.py", "after.py"))
    changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert [[line.strip() for line in pair] for pair in changed] == [
        ["except (TimeoutError, asyncio.CancelledError):", "except TimeoutError:"]
    ]


def test_the_regression_test_fails_with_the_bug_and_passes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is worth something only if it does both."""
    regression = loaded("regression", monkeypatch)
    regression.test_a_login_under_way_can_be_ended()
    monkeypatch.setattr(regression, "PatientLogin", loaded("before", monkeypatch).PatientLogin)
    with pytest.raises(ViolationError, match="activities_end_with_their_state"):
        regression.test_a_login_under_way_can_be_ended()


def test_a_replay_shows_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace of the violation lives again, and ends in the same words."""
    violation = explore(loaded("before", monkeypatch).PatientLogin, depth=4).violation
    assert violation is not None
    assert violation.script is not None
    with pytest.raises(ViolationError) as again:
        replay(violation.script)
    assert str(again.value) == str(violation)


def test_random_lives_pass_after_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `lives.py` makes of the class, with fewer lives."""
    case = lifecycle_test(loaded("after", monkeypatch).PatientLogin, max_examples=30)
    case.settings = settings(case.settings, derandomize=True, database=None)
    case("runTest").runTest()

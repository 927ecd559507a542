"""The benchmarks run, and tell what they found: as a table, as JSON, and as a page that passes over nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last, for fsm_conn is to be the one that was installed

from benchmarks import SUITE, __main__  # noqa: E402
from benchmarks.core import Row, against, quartiles, row_of, turns  # noqa: E402
from benchmarks.results import UNEXPLAINED, markdown  # noqa: E402
from benchmarks.table import machine, text  # noqa: E402

GOOD = Row(name="good", work="some", value=0.9, unit="x", goal=1)
MISSED = Row(name="missed", work="hard", value=30, unit="ms", goal=20, why="It rains.")
SECRETIVE = Row(name="secretive", work="hard", value=2, unit="", goal=0)
BEHIND = Row(name="behind", work="a | b", value=1.5, unit="x", why="They do less.")
CLOSE = Row(name="close", work="some", value=1.1, unit="x", why="Not to be shown.")


@pytest.mark.parametrize(
    ("value", "goal", "strict", "met"),
    [(1, 1, False, True), (1, 1, True, False), (2, 1, False, False), (0.5, 1, True, True), (1, None, False, None)],
)
def test_goals(value: float, goal: float | None, strict: bool, met: bool | None) -> None:
    """A goal is met at most at its value, a strict one below it, and no goal is neither met nor missed."""
    assert Row(name="", work="", value=value, unit="", goal=goal, strict=strict).met is met


def test_what_falls_short() -> None:
    """What missed its goal falls short, and so does a ratio of more than a tenth behind; what is close does not."""
    short = [row.name for row in (GOOD, MISSED, SECRETIVE, BEHIND, CLOSE) if row.falls_short]
    assert short == ["missed", "secretive", "behind"]


def test_medians_and_turns() -> None:
    """Rows are medians with quartiles; ratios are of neighbours; turns go forwards and backwards."""
    assert quartiles([3, 1, 2, 5, 4]) == (2, 3, 4)
    assert quartiles([7]) == (7, 7, 7)
    assert against([1, 4], [2, 2]) == [0.5, 2]
    assert [part for _, part in turns("ab", 3)] == ["a", "b", "b", "a", "a", "b"]
    row = row_of([3, 1, 2], name="n", work="w", unit="us", why="so")
    assert (row.value, row.low, row.high, row.repeats, row.why) == (2, 1.5, 2.5, 3, "so")


def test_the_table() -> None:
    """The table has a line for each row, and says of each goal whether it was met."""
    heading, *lines = text([GOOD, MISSED, BEHIND]).splitlines()
    assert heading.split() == ["measured", "result", "quartiles", "repeats", "goal", "met", "from", "work"]
    assert [line.split()[0] for line in lines] == ["good", "missed", "behind"]
    assert ["yes" in line.split() for line in lines] == [True, False, False]
    assert ["NO" in line.split() for line in lines] == [False, True, False]


def test_the_page_passes_over_nothing() -> None:
    """What falls short stands on the page with its reason, or as not explained; what did not run is named."""
    page = markdown({"system": "a machine"}, {"calls": [GOOD, MISSED], "pool": [SECRETIVE, BEHIND, CLOSE]}, quick=False)
    assert "- system: a machine\n" in page
    assert "1 of 3 goals were met." in page
    assert "**calls: missed**, hard: 30 ms, missing <= 20. It rains." in page
    assert f"**pool: secretive**, hard: 2, missing <= 0. {UNEXPLAINED}" in page
    assert "**pool: behind**, a | b: 1.500 x. They do less." in page
    assert "Not to be shown." not in page
    assert "quick look" not in page
    left = re.search(r"Not run: (.*)\.", page)
    assert left is not None
    assert set(left[1].split(", ")) == set(SUITE) - {"calls", "pool"}


def test_tables_of_the_page_are_tables() -> None:
    """Each line has as many cells as the heading, whatever the texts of a row hold."""
    page = markdown({}, {"pool": [GOOD, BEHIND]}, quick=False)
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {9}
    assert r"a \| b" in lines[-1]


def test_a_page_without_shortcomings() -> None:
    """With nothing short, and nothing left out, the page says neither; each benchmark is told with its question."""
    page = markdown({}, {name: [GOOD] for name in SUITE}, quick=True)
    assert "## What falls short" not in page
    assert "Not run" not in page
    assert "quick look" in page
    for name in SUITE:  # each with what its docstring asks
        assert re.search(rf"^## {name}\n\n\S.*", page, re.MULTILINE)


def test_a_benchmark_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    """The exit status tells a failure from a missed goal from success, and the page names what failed."""

    def run(name: str, quick: bool, env: Any) -> list[Row]:
        if name == "pool":
            raise subprocess.CalledProcessError(1, name)
        return [GOOD]

    monkeypatch.setattr(__main__, "_run", run)
    monkeypatch.setattr(__main__, "_compiled", lambda directory: {})
    page = tmp_path / "page.md"
    assert __main__.main(["--only", "pool", "calls", "--results", str(page)]) == 2
    assert "## pool\n\n" in page.read_text()
    assert page.read_text().endswith("It failed.\n")
    assert "pool failed" in capsys.readouterr().err
    assert __main__.main(["--only", "calls"]) == 0
    monkeypatch.setattr(__main__, "_run", lambda *args: [GOOD, MISSED])
    assert __main__.main(["--only", "calls"]) == 1


def test_the_machine_is_told_with_all_that_is_compared() -> None:
    """Every package of the files of requirements is told with its version, or as not installed."""
    found = machine()
    wanted = {"date", "system", "processor", "python", "packages", "peers", "load before"}
    assert set(found) == wanted
    for path in (ROOT / "benchmarks").glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            if not line.startswith("#"):
                name = re.split(r"[\[<>=]", line)[0]
                assert f"{name} " in found["peers"]


def test_the_readme_names_every_benchmark() -> None:
    """The table of the README, the suite and the modules are the same."""
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert set(re.findall(r"^\| `(\w+)\.py` \|", readme, re.MULTILINE)) == set(SUITE)
    assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in SUITE)


def test_a_quick_run(tmp_path: Path) -> None:
    """Two benchmarks run in interpreters of their own, and table, JSON, page and exit status agree."""
    told, page = tmp_path / "rows.json", tmp_path / "page.md"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "tracking", "dispatch"]
    command += ["--json", str(told), "--results", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(told.read_text())
    assert found["quick"] is True
    assert {row["benchmark"] for row in found["rows"]} == {"tracking", "dispatch"}
    assert all(row["value"] > 0 and row["repeats"] > 1 for row in found["rows"])
    assert done.returncode == any(row["met"] is False for row in found["rows"])
    for row in found["rows"]:
        assert row["name"] in done.stdout
        assert f"| {row['name']} |" in page.read_text()
    assert "load after" in page.read_text()

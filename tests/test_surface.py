"""The public surface changes only together with the changelog."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import surface

from fsm_conn.version import __version__

ROOT = Path(__file__).parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"
SECTION = re.compile(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", re.MULTILINE)


def sections(changelog: str) -> dict[str, str]:
    """The text below each heading of a version."""
    found = list(SECTION.finditer(changelog))
    ends = [each.start() for each in found[1:]] + [len(changelog)]
    return {each[1]: changelog[each.end() : end] for each, end in zip(found, ends, strict=True)}


def name_of(line: str) -> str:
    """What a line of the surface is about, as a changelog would name it: `Class.method`, or `function`."""
    path = re.split(r"[(= ]", line, maxsplit=1)[0]
    return re.sub(r"^(fsm_conn\.)?(?:[a-z_]+\.(?=[A-Z]))?", "", path)


def unsaid(released: list[str], present: list[str], changelog: str) -> list[str]:
    """The changes of the surface that a changelog does not name: by the whole name, or by that of the class."""
    changed = {name_of(line) for line in set(released) ^ set(present)}
    words = set(re.findall(r"[\w.]+", changelog))
    return sorted(
        name
        for name in changed
        if not words & {name, name.removesuffix(".__init__"), name.partition(".")[0], name.rpartition(".")[2]}
    )


def test_a_change_of_the_surface_is_in_the_changelog() -> None:
    """Since the last release. `python tests/surface.py` writes what is released; only a release does that."""
    released = surface.TEXT.read_text("utf-8").splitlines()
    assert unsaid(released, surface.lines(), sections(CHANGELOG.read_text("utf-8"))["Unreleased"]) == []


def test_what_the_watch_sees() -> None:
    """A name that goes, one that comes, an argument, a default; and where an entry of the changelog is enough."""
    before = ["fsm_conn.A(B)", "fsm_conn.A.run(self, x: 'int' = 1)", "fsm_conn.cli.f(a)", "fsm_conn.A.limit = 3"]
    assert unsaid(before, before, "") == []
    assert unsaid(before, before[:2] + before[3:], "") == ["cli.f"]
    assert unsaid(before, [*before, "fsm_conn.testing.New()"], "") == ["New"]
    assert unsaid(before, ["fsm_conn.A.run(self, x: 'int' = 2)", before[0], *before[2:]], "") == ["A.run"]
    assert unsaid(before, [*before[:3], "fsm_conn.A.limit = 4"], "`limit` is 4 now") == []
    assert unsaid(before, [*before[:3], "fsm_conn.A.limit = 4"], "`A` has a greater limit") == []


def test_the_surface_holds_what_users_write() -> None:
    """Signatures with their defaults, fields, values, and no address of an object."""
    lines = surface.lines()
    assert any(line.startswith("fsm_conn.Connection.call(self, method") for line in lines)
    assert any(line.startswith("fsm_conn.RetryPolicy.__init__(") and "'float' = 0.25" in line for line in lines)
    assert "fsm_conn.ConnectionState.FAILED = 'failed'" in lines
    assert not [line for line in lines if "0x" in line or re.search(r"\bobject>", line)]


def test_the_newest_version_of_the_changelog_is_that_of_the_package() -> None:
    """What is unreleased stands above it."""
    named = list(sections(CHANGELOG.read_text("utf-8")))
    assert named[:2] == ["Unreleased", __version__]


def release() -> Any:
    path = ROOT / ".ci" / "release.py"
    spec = importlib.util.spec_from_file_location("release", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_release_dates_what_was_unreleased() -> None:
    """And begins a new section."""
    before = "# Changelog\n\n## [Unreleased]\n\n- It flies.\n\n## [0.2.0] - 2026-01-01\n\n- It walks.\n"
    after = release().dated(before, "0.3.0", "2026-02-02")
    assert after == (
        "# Changelog\n\n## [Unreleased]\n\n## [0.3.0] - 2026-02-02\n\n- It flies.\n\n## [0.2.0] - 2026-01-01\n\n- It walks.\n"
    )


@pytest.mark.parametrize(
    ("changelog", "version", "word"),
    [
        ("## [Unreleased]\n\n## [0.2.0] - 2026-01-01\n", "0.3.0", "nothing"),
        ("## [0.2.0] - 2026-01-01\n", "0.3.0", "Unreleased"),
        ("## [Unreleased]\n\n- It flies.\n\n## [0.2.0] - 2026-01-01\n", "0.2.0", "newer"),
        ("## [Unreleased]\n\n- It flies.\n\n## [0.10.0] - 2026-01-01\n", "0.9.9", "newer"),
        ("## [Unreleased]\n\n- It flies.\n\n## [0.2.0] - 2026-01-01\n", "next", "MAJOR.MINOR.PATCH"),
    ],
)
def test_a_release_that_cannot_be(changelog: str, version: str, word: str) -> None:
    """Nothing to release, no newer version, no version at all: refused, saying so."""
    with pytest.raises(SystemExit, match=word):
        release().dated(changelog, version, "2026-02-02")

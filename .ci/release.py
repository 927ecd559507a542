"""Prepares a release: what can be done is done, and what is left for a person is said.

    python .ci/release.py 0.3.0

dates the changelog's section "Unreleased", sets the version, writes down the public surface that is promised from now
on, commits that, runs all that CI runs and the jobs for a release, and says what is left. It neither tags nor uploads.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
JOBS = (("tox",), ("tox", "-p", "-m", "rest"), ("tox", "-e", "lowest,sbom,audit"))
"""The commands of Python's -m, one after the other; searches go three times as far as usual."""
UNRELEASED = "## [Unreleased]\n"
WRITTEN = ("CHANGELOG.md", "fsm_conn/version.py", "tests/surface.txt")
LEFT = """\
Left for you:
  1. Read the changelog once more as a user: `git show HEAD -- CHANGELOG.md`. Two minutes must do.
  2. Look at .tox/release/dist, .tox/sbom and the site in .tox/site.
  3. git tag -s v{version} && git push --follow-tags
  4. twine upload .tox/release/dist/*
"""


def number(version: str) -> tuple[int, ...]:
    """A version to be compared."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SystemExit(f"{version!r} is no version: write MAJOR.MINOR.PATCH, such as 0.3.0")
    return tuple(map(int, version.split(".")))


def dated(changelog: str, version: str, date: str) -> str:
    """Return a changelog in which what was unreleased is a version."""
    if UNRELEASED not in changelog:
        raise SystemExit("CHANGELOG.md has no section [Unreleased]")
    before, _, after = changelog.partition(UNRELEASED)
    text, heading, rest = after.partition("\n## [")
    if not text.strip():
        raise SystemExit("there is nothing to release: the section [Unreleased] of CHANGELOG.md is empty")
    if heading and number(version) <= number(rest.partition("]")[0]):
        raise SystemExit(f"{version} is not newer than {rest.partition(']')[0]}, the last version in CHANGELOG.md")
    return f"{before}{UNRELEASED}\n## [{version}] - {date}\n{text}{heading}{rest}"


def run(*command: str) -> None:
    """Run a command in the project, and stop when it fails."""
    print("+", *command, flush=True)
    if status := subprocess.run(command, cwd=HERE).returncode:
        raise SystemExit(f"failed with exit status {status}: {' '.join(command)}")


def main() -> None:
    """Prepare the release of the version that is named."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python .ci/release.py MAJOR.MINOR.PATCH")
    version = sys.argv[1]
    if subprocess.run(["git", "status", "--porcelain"], cwd=HERE, capture_output=True, check=True).stdout:
        raise SystemExit("there are changes that are not committed: commit or remove them first")
    changelog = HERE / "CHANGELOG.md"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    changelog.write_text(dated(changelog.read_text("utf-8"), version, today), "utf-8")
    module = HERE / "fsm_conn" / "version.py"
    module.write_text(re.sub(r'(__version__ = ")[^"]*', rf"\g<1>{version}", module.read_text("utf-8")), "utf-8")
    run(sys.executable, "tests/surface.py")
    run("git", "commit", "-q", "-m", f"Release {version}", "--", *WRITTEN)
    os.environ.setdefault("SEARCH", "3")
    for job in JOBS:
        run(sys.executable, "-m", *job)
    print(LEFT.format(version=version))


if __name__ == "__main__":
    main()

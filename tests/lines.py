"""Which lines and branches of the package run in the tests: `LINES_SEEN=FOLDER python -m pytest -p lines` (`tox -e py,thorough,lines`).

SlipCover takes its marks away where a line has been seen, so that searches that run the same lines thousands of times
take no longer for it. Each process of the tests writes what it has seen into a file of that folder, and so does each
program that `warm` forks for a test that asks for it. `python tests/lines.py FOLDER PERCENT` puts all together, and
without a percentage forgets what is there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import time
from fnmatch import fnmatch
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from slipcover import Slipcover, merge_coverage, print_coverage
from slipcover.importer import SlipcoverLoader

NOT_COUNTED = ["if TYPE_CHECKING:", r"\.\.\.$", "@overload"]
OMITTED = ["*_pb2*.py"]
FRAMES = sys._current_frames


def package() -> str:
    """The folder of the package that is tested, which is not imported for that."""
    found = importlib.util.find_spec("fsm_conn")
    assert found is not None
    assert found.submodule_search_locations is not None
    return found.submodule_search_locations[0]


class Finder(PathFinder):
    """Has the package watched as it is imported: also where pytest, whose plugin it has, would rewrite its asserts."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """What finds a module of the package; None for any other module."""
        found = super().find_spec(fullname, path, target) if fullname.partition(".")[0] == "fsm_conn" else None
        if found is not None and SEEN is not None and not fnmatch(found.name, "*_pb2*"):
            found.loader = SlipcoverLoader(SEEN, found.loader, found.origin)
        return found


class Counter(Slipcover):
    """Takes marks away without a look at what runs: to look at its variables would keep them, and what they refer to."""

    def deinstrument_seen(self) -> None:
        """Take away the marks of lines that were seen (Python 3.11)."""
        sys._current_frames = dict
        try:
            super().deinstrument_seen()
        finally:
            sys._current_frames = FRAMES


FOLDER = os.environ.get("LINES_SEEN")
SEEN = Counter(branch=True, exclude_lines=NOT_COUNTED) if FOLDER else None
if SEEN is not None:
    sys.meta_path.insert(0, Finder)


def write() -> None:
    """Write down what this process has seen."""
    if SEEN is not None and FOLDER is not None:
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
        (Path(FOLDER) / f"{os.getpid()}-{time.time_ns()}.json").write_text(json.dumps(_relative(SEEN.get_coverage())))


def _relative(coverage: Any) -> Any:
    """The same with names of files that do not say where the package is: `py` and `thorough` have one each."""
    coverage["files"] = {os.path.relpath(name, package()): seen for name, seen in coverage["files"].items()}
    return coverage


pytest_sessionfinish = write


def pytest_configure() -> None:
    """What pytest was told so that it finds this module is not for the programs that tests run."""
    os.environ.pop("PYTHONPATH", None)


def main(folder: str, least: str = "") -> int:
    """Print what was not run, file by file; exit status 1 where it is too much. Without a percentage, forget it all."""
    if not least:
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    known = Slipcover(branch=True, source=[package()], omit=OMITTED, exclude_lines=NOT_COUNTED)
    everything = _relative(known.get_coverage())
    for file in Path(folder).glob("*.json"):
        merge_coverage(everything, json.loads(file.read_text()))
    print_coverage(everything, skip_covered=True, missing_width=60)
    covered = everything["summary"]["percent_covered"]
    print(f"TOTAL {covered:.2f} % of lines and branches were run; it must be {least} %")
    return int(covered < float(least))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Writes each block of Python of README and documentation into a file of its own, for type checkers to read.

Called as `python docs/snippets.py DIRECTORY`.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(directory: Path) -> None:
    """Empty the directory, and fill it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        name = "_".join(page.relative_to(ROOT).with_suffix("").parts).lower().replace("-", "_")
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)):
            (directory / f"{name}_{number}.py").write_text(block, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What a run has found, as a Markdown page to be kept: the machine, a table for each benchmark, and what falls short.

The rules that hold here:

- The page is made of the rows alone and is never edited: the reason why a result falls short is the `why` of its row,
  in the benchmark that measures it, so it is there again after the next run.
- What falls short is what has missed its goal, and what is clearly behind what it is compared with, whatever its goal.
  It is shown with its reason, and where there is none, that is said: nothing is passed over.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks import SUITE
from benchmarks.core import Row
from benchmarks.table import HEADINGS, TO_THE_RIGHT, cells

__all__ = ["markdown"]

UNEXPLAINED = "**Not explained yet.**"
INTRODUCTION = """\
Written by `python -m benchmarks --results`, and not to be edited: what is measured, and why something falls short,
stands in the modules. [README.md](README.md) says how to read it."""


def markdown(described: Mapping[str, str], found: Mapping[str, Sequence[Row] | None], quick: bool) -> str:
    """The page.

    Args:
        described: what the measurements depend on, by name.
        found: the rows of each benchmark that ran; None for one that failed.
        quick: the repeats were fewer, which the page must say.
    """
    parts = ["# Results", INTRODUCTION, _list(described), _verdict(found, quick), _short(found)]
    for name, rows in found.items():
        parts += [f"## {name}", _question(name), "It failed." if rows is None else _table(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _list(described: Mapping[str, str]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in described.items())


def _verdict(found: Mapping[str, Sequence[Row] | None], quick: bool) -> str:
    aimed = [row for rows in found.values() for row in rows or () if row.goal is not None]
    said = [f"{sum(row.met is True for row in aimed)} of {len(aimed)} goals were met."]
    if left := [name for name in SUITE if name not in found]:
        said.append(f"Not run: {', '.join(left)}.")
    if quick:
        said.append("**This was a quick look, with few repeats, and is no measurement.**")
    return " ".join(said)


def _short(found: Mapping[str, Sequence[Row] | None]) -> str:
    """What falls short, each with its reason."""
    rows = [(name, row) for name, rows in found.items() for row in rows or () if row.falls_short]
    return "\n\n".join(["## What falls short", *(_reason(name, row) for name, row in rows)]) if rows else ""


def _reason(name: str, row: Row) -> str:
    _, value, _, _, goal, *_ = cells(row)
    aim = f", missing {goal}" if row.met is False else ""
    return f"**{name}: {row.name}**, {row.work}: {value}{aim}. {row.why or UNEXPLAINED}"


def _question(name: str) -> str:
    """The first paragraph of the benchmark's docstring, read without importing it."""
    path = Path(__file__).with_name(f"{name}.py")
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    return doc.partition("\n\n")[0]


def _table(rows: Sequence[Row]) -> str:
    rule = ("---:" if heading in TO_THE_RIGHT else "---" for heading in HEADINGS)
    return "\n".join([_line(HEADINGS), _line(rule), *(_line(map(_escaped, cells(row))) for row in rows)])


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")

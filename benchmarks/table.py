"""The rows as text, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from benchmarks.core import Row

__all__ = ["machine", "text"]

PACKAGES = ("transitions", "grpcio", "protobuf", "pyvider-rpcplugin")
HEADINGS = ("measured", "result", "quartiles", "repeats", "goal", "met", "from", "work")
TO_THE_RIGHT = frozenset({"result", "quartiles", "repeats", "goal"})


def machine() -> dict[str, str]:
    """What the measurements depend on."""
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return {
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {load}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def text(rows: Sequence[Row]) -> str:
    """The rows as a table of aligned columns."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (
        cell.rjust(width) if heading in TO_THE_RIGHT else cell.ljust(width)
        for cell, width, heading in zip(cells, widths, HEADINGS, strict=True)
    )
    return "  ".join(aligned).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    spread = "" if row.low is None or row.high is None else f"{_number(row.low)} .. {_number(row.high)}"
    goal = "" if row.goal is None else f"{'<' if row.strict else '<='} {_number(row.goal)}"
    met = {None: "", True: "yes", False: "NO"}[row.met]
    value = f"{_number(row.value)} {row.unit}".rstrip()
    return row.name, value, spread, str(row.repeats), goal, met, row.detail, row.work


def _number(value: float) -> str:
    """Four digits, or all digits of a count."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"

"""The rows as text, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.core import Row

__all__ = ["HEADINGS", "TO_THE_RIGHT", "after", "cells", "machine", "text"]

PACKAGES = ("transitions", "grpcio", "protobuf", "pyvider-rpcplugin")
HERE = Path(__file__).parent
HEADINGS = ("measured", "result", "quartiles", "repeats", "goal", "met", "from", "work")
TO_THE_RIGHT = frozenset({"result", "quartiles", "repeats", "goal"})


def machine() -> dict[str, str]:
    """What the measurements depend on."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": _versions(PACKAGES),
        "peers": _versions(_peers()),
        "load before": _load(),
    }


def after() -> dict[str, str]:
    """What the machine did meanwhile, to be added when everything has run: a run on a busy machine says so."""
    return {"load after": _load()}


def _load() -> str:
    """Of one, five and fifteen minutes. The benchmarks themselves make about one."""
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _peers() -> list[str]:
    """The packages that are compared with, as the files of requirements beside this one name them."""
    lines = [line for path in sorted(HERE.glob("requirements*.txt")) for line in path.read_text().splitlines()]
    names = (re.match(r"[\w.-]+", line) for line in lines)
    return sorted({found.group() for found in names if found}, key=str.casefold)


def _versions(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {_version(name)}" for name in names)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def text(rows: Sequence[Row]) -> str:
    """The rows as a table of aligned columns."""
    lines = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (
        cell.rjust(width) if heading in TO_THE_RIGHT else cell.ljust(width)
        for cell, width, heading in zip(cells, widths, HEADINGS, strict=True)
    )
    return "  ".join(aligned).rstrip()


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table, a text for each heading."""
    spread = "" if row.low is None or row.high is None else f"{_number(row.low)} .. {_number(row.high)}"
    goal = "" if row.goal is None else f"{'<' if row.strict else '<='} {_number(row.goal)}"
    met = {None: "", True: "yes", False: "NO"}[row.met]
    value = f"{_number(row.value)} {row.unit}".rstrip()
    return row.name, value, spread, str(row.repeats), goal, met, row.detail, row.work


def _number(value: float) -> str:
    """Four digits, or all digits of a count, or two of what is next to nothing."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"

"""`import fsm_conn` in a fresh interpreter: what it costs beyond the interpreter, and what it leaves alone.

Each repeat is a whole process, from its start to its end: one that imports fsm_conn, and one that does nothing, in
turn. Their difference is the import, with the reading of its files, which are compiled already and in the cache of the
system. A third process imports asyncio alone, which no program that uses fsm_conn can do without: that row has no goal,
and says which part of the first is not ours. In one more process the modules of grpc and pyvider that were imported on
the way are counted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.core import Progress, Row, row_of, turns

IMPORT = "import fsm_conn"
ASYNCIO = "import asyncio"
NOTHING = "pass"
COUNT = """
import fsm_conn, sys
print(*(name for name in sys.modules if name.partition(".")[0] in ("grpc", "grpc_health", "grpc_reflection", "google",
    "pyvider", "provide")))
"""


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    heavy = _output(COUNT).split()
    programs = (NOTHING, ASYNCIO, IMPORT)
    times: dict[str, list[float]] = {program: [_taken(program)] for program in programs}
    for _, program in turns(programs, 15 if quick else 60, progress):
        times[program].append(_taken(program))
    return [
        _beyond(times, IMPORT, 80),
        _beyond(times, ASYNCIO, None),
        Row(
            name="modules of grpc and pyvider imported",
            work=IMPORT,
            value=len(heavy),
            unit="",
            goal=0,
            detail=" ".join(heavy[:3]),
        ),
    ]


def _beyond(times: dict[str, list[float]], program: str, goal: float | None) -> Row:
    """What a program takes beyond the bare interpreter. The first of each went to fill the caches."""
    ours, bare = times[program][1:], times[NOTHING][1:]
    return row_of(
        [mine - other for mine, other in zip(ours, bare, strict=True)],
        name=program,
        work="a process that does, less one that does nothing",
        unit="ms",
        goal=goal,
        strict=True,
        detail=f"{statistics.median(ours):.0f} less {statistics.median(bare):.0f} ms; "
        f"fastest {min(ours):.0f} less {min(bare):.0f}",
    )


def _output(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def _taken(program: str) -> float:
    """Milliseconds for a whole process. Without a timeout, with which `run` looks only every 50 ms whether it ended."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return (time.perf_counter() - began) * 1e3

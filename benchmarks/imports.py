"""`import fsm_conn` in a fresh interpreter: what it costs beyond the interpreter, and what it leaves alone.

Each repeat is the CPU of a whole process, which is nearly all that it takes where nothing else wants the cores: of one
that imports fsm_conn, and of one that does nothing, in turn. Their difference is the import, with the reading of its
files, which are compiled already and in the cache of the system. The package imports its modules when a name of them is
first used: another process uses the largest, a connection. And one imports asyncio alone, which no program that uses
fsm_conn can do without. These two rows have no goal; the second says which part of the first is not ours. `fsm-conn
--help` is a whole process, too, the interpreter included, where the command's extra is installed. In one more process
the modules of grpc and pyvider that were imported on the way are counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from importlib.util import find_spec

from benchmarks.core import Progress, Row, row_of, turns

IMPORT = "import fsm_conn"
USE = "from fsm_conn import Connection"
ASYNCIO = "import asyncio"
NOTHING = "pass"
HELP = """
import os
os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
from fsm_conn.cli import main
main(["--help"])
"""
COUNT = """
import fsm_conn, sys
print(*(name for name in sys.modules if name.partition(".")[0] in ("grpc", "grpc_health", "grpc_reflection", "google",
    "pyvider", "provide")))
"""


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    heavy = _output(COUNT).split()
    programs = (NOTHING, ASYNCIO, USE, IMPORT, *([HELP] if find_spec("click") and find_spec("rich") else []))
    times: dict[str, list[float]] = {program: [_taken(program)] for program in programs}
    for _, program in turns(programs, 15 if quick else 60, progress):
        times[program].append(_taken(program))
    return [
        _beyond(times, IMPORT, 15),
        _beyond(times, USE, None),
        _beyond(times, ASYNCIO, None),
        Row(
            name="modules of grpc and pyvider imported",
            work=IMPORT,
            value=len(heavy),
            unit="",
            goal=0,
            detail=" ".join(heavy[:3]),
        ),
        *(
            row_of(
                times[each][1:],
                name="fsm-conn --help",
                work="a whole process",
                unit="ms",
                goal=150,
                strict=True,
            )
            for each in programs[4:]
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
    """Milliseconds of CPU of a whole process."""
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, program)
    return (used.ru_utime + used.ru_stime) * 1e3

"""An event loop that ends without `disconnect()`: whether `asyncio.run` returns, how soon, and what it leaves.

Each repeat is an interpreter of its own, which opens a connection, makes a call, and leaves `asyncio.run` with the
connection still open: by returning, by an exception, or by `sys.exit`. It says when its coroutine ended and when
`asyncio.run` had, and which process was its plugin; when the interpreter has ended, that process must be gone, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from benchmarks.core import Progress, Row, row_of, turns
from benchmarks.leftovers import is_alive
from benchmarks.plugin import COMMAND

LIMIT = 60.0
"""Seconds for one interpreter. One that takes longer counts as one whose `asyncio.run` did not return."""

SCRIPT = """
import asyncio, json, sys, time
from fsm_conn import Connection

async def main(command, way):
    conn = Connection(command)
    await conn.connect()
    await conn.call("calculator.Add", a=1, b=2)
    told["plugin"] = conn.link.pid
    print(json.dumps(told), flush=True)
    told["ended"] = time.perf_counter()
    if way == "raises":
        raise KeyError(way)
    if way == "exits":
        sys.exit(0)

told = {}
try:
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2]))
except (KeyError, SystemExit):
    pass
told["took"] = time.perf_counter() - told["ended"]
print(json.dumps(told), flush=True)
"""


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    took, stuck, left, total = [], 0, 0, 0
    for _, way in turns(("returns", "raises", "exits"), 1 if quick else 5, progress):
        told = _told(way)
        total += 1
        stuck += "took" not in told
        left += _is_left(int(told["plugin"]))
        took += [told["took"] * 1e3] if "took" in told else []
    work = "asyncio.run left with an open connection, by return, raise and exit"
    return [
        Row(name="plugins left by the loop's end", work=work, value=left, unit=f"of {total}", goal=0, repeats=total),
        Row(name="asyncio.run that did not return", work=work, value=stuck, unit=f"of {total}", goal=0, repeats=total),
        row_of(took or [float("nan")], name="end of main() to end of asyncio.run", work=work, unit="ms"),
    ]


def _told(way: str) -> dict[str, float]:
    """What one interpreter said last. It is killed when it takes too long, and when we are interrupted."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(COMMAND), way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            said, errors = child.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            child.kill()
            said, errors = child.communicate()
        except BaseException:
            child.kill()
            raise
    if not said:
        raise RuntimeError(f"the interpreter that was to be measured failed:\n{errors}")
    last: dict[str, float] = json.loads(said.splitlines()[-1])
    return last


def _is_left(pid: int) -> bool:
    left = is_alive(pid)
    if left:
        os.kill(pid, signal.SIGKILL)
    return left

"""Runs one benchmark in this interpreter, for `benchmarks.__main__`: `python -m benchmarks.alone NAME [--quick]`.

An interpreter for each, so that none inherits the threads, the memory or the imports of another; and a temporary
directory for each, so that what is left in it is known to be its own. The rows go to stdout as JSON; whatever else is
printed meanwhile goes to stderr. Libraries are told to log nothing, ours and those that we are compared with.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import tempfile
from contextlib import suppress

import attrs

from benchmarks import SUITE
from benchmarks.core import Benchmark, Progress, Row
from benchmarks.leftovers import children

__all__ = ["main"]


def main(name: str, quick: bool) -> None:
    """Measure, and write the rows."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Read by grpc, and by what pyvider-rpcplugin stands on, when they are imported; there is no later way to say it.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("PROVIDE_LOG_LEVEL", "CRITICAL")
    os.environ.setdefault("FOUNDATION_LOG_LEVEL", "CRITICAL")
    logging.getLogger("fsm_conn").setLevel(logging.CRITICAL)
    # A short path, for sockets are made in it.
    with tempfile.TemporaryDirectory(prefix="fb-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        os.environ["TMPDIR"] = tempfile.tempdir = directory
        try:
            found = _rows(name, quick)
        finally:
            _end_children()
    json.dump([attrs.asdict(row) for row in found], out)
    out.close()


def _rows(name: str, quick: bool) -> list[Row]:
    benchmark: Benchmark = importlib.import_module(f"benchmarks.{name}")
    progress = Progress(name)
    try:
        return benchmark.rows(quick, progress)
    finally:
        progress.end()


def _end_children() -> None:
    """However the benchmark has ended: no process of it goes on."""
    for pid in children():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            print(f"{pid} was left running, and is killed", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in SUITE:
        sys.exit(f"usage: python -m benchmarks.alone {{{','.join(SUITE)}}} [--quick]")
    # Whatever was inherited: asyncio turns this one into a cancellation, so that everything is cleaned up.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(sys.argv[1], "--quick" in sys.argv[2:])
    except KeyboardInterrupt:
        sys.exit(130)

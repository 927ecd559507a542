"""Runs the benchmarks one after another, each in an interpreter of its own, and prints one table.

Exit status: 0 when every goal was met, 1 when one was missed, 2 when a benchmark failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from benchmarks import SUITE
from benchmarks.core import Row
from benchmarks.results import markdown
from benchmarks.table import after, machine, text

COMPILE = "import fsm_conn, fsm_conn.demo.calculator, fsm_conn.links.plugin.link, fsm_conn.links.plugin.client"
LIMIT = 1800.0
"""Seconds for one benchmark, on a machine that is busy with other things."""
CLEANING = 30.0
"""Seconds that an interrupted benchmark has for cleaning up."""
RESULTS = Path(__file__).with_name("RESULTS.md")
"""Where the results are kept that the project shows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    options = _options(arguments)
    names = [name for name in SUITE if name in (options.only or SUITE)]
    described = machine()
    found: dict[str, list[Row] | None] = {}
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="fb-", ignore_cleanup_errors=True) as directory:
        env = _compiled(directory)
        for number, name in enumerate(names, 1):
            _say(f"[{number}/{len(names)}] {name}")
            began = time.monotonic()
            try:
                found[name] = _run(name, options.quick, env)
            except subprocess.SubprocessError as error:
                found[name] = None
                print(f"{name} failed: {error}", file=sys.stderr)
            times[name] = time.monotonic() - began
    described |= {"minutes": _minutes(times)} | after()
    rows = [row for each in found.values() for row in each or ()]
    print("\n".join(f"{key}: {value}" for key, value in described.items()), end="\n\n")
    print(text(rows))
    if options.json:
        _write(options.json, options.quick, described, found)
    if options.results:
        options.results.write_text(markdown(described, found, options.quick))
    return 2 if None in found.values() else 1 if any(row.met is False for row in rows) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure fsm_conn on real plugins.")
    parser.add_argument("--only", nargs="+", choices=SUITE, metavar="NAME", help=f"of: {', '.join(SUITE)}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a look, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE, too")
    parser.add_argument(
        "--results",
        type=Path,
        nargs="?",
        const=RESULTS,
        metavar="FILE",
        help="write what was found, with the reasons of what falls short, as Markdown to FILE (benchmarks/RESULTS.md)",
    )
    return parser.parse_args(arguments)


def _minutes(times: Mapping[str, float]) -> str:
    """How long it took, and what took longest."""
    longest = sorted(times, key=times.__getitem__, reverse=True)[:5]
    each = ", ".join(f"{name} {times[name] / 60:.1f}" for name in longest)
    return f"{sum(times.values()) / 60:.1f}, of which {each}"


def _say(message: str) -> None:
    if sys.stderr.isatty():
        print(message, file=sys.stderr, flush=True)


def _compiled(directory: str) -> dict[str, str]:
    """An environment in which everything is compiled already, as an installed package is, whatever this one says."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = directory
    subprocess.run([sys.executable, "-c", COMPILE], check=True, env=env, timeout=LIMIT)
    return env


def _run(name: str, quick: bool, env: dict[str, str]) -> list[Row]:
    command = [sys.executable, "-m", "benchmarks.alone", name, *(["--quick"] if quick else [])]
    # A group of its own, so that Ctrl-C reaches it once, from here, and not twice.
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, process_group=0) as child:
        try:
            out, _ = child.communicate(timeout=LIMIT)
        except BaseException:
            _interrupt(child)
            raise
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return [Row(**fields) for fields in json.loads(out)]


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    """Let it clean up, and kill it if it does not."""
    child.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        child.wait(CLEANING)
    child.kill()


def _write(path: Path, quick: bool, described: dict[str, str], found: Mapping[str, Sequence[Row] | None]) -> None:
    listed = [
        {"benchmark": name} | attrs.asdict(row) | {"met": row.met} for name, rows in found.items() for row in rows or ()
    ]
    path.write_text(json.dumps({"machine": described, "quick": quick, "rows": listed}, indent=2) + "\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

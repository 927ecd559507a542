"""Five minutes of faults: a pool of four real plugins, twenty callers, and something done to a plugin every 0.3 s.

    python -m benchmarks.chaos [--seconds SECONDS] [--seed N] [--write FILE]

The plugins are killed, stopped, let go on, made to flood stderr and to answer slowly, each as often as the other, in an
order that the seed decides. They write what they execute into a ledger, and each call has a number of its own, so that
what its caller was told can be held against what happened. The run is that of the tests, `tests/real/chaos.py`.

Exit status: 0 when every promise was kept, 1 when one was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.leftovers import Leftovers
from benchmarks.table import machine
from tests.real.chaos import Account, run
from tests.real.ledger import IDEMPOTENT, OTHER

__all__ = ["main"]

PAGE = Path(__file__).with_name("CHAOS.md")
GONE = 5.0
"""Seconds for the last process to be gone."""
HEAD = """# Chaos

Written by `python -m benchmarks.chaos`, which the [README](README.md) describes: what the callers of a pool were told
while its plugins were killed, stopped and kept busy, and what the plugins' own ledger says that they executed.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    options = _options(arguments)
    logging.getLogger("fsm_conn").setLevel(logging.CRITICAL)  # each kill would be a line
    described = {name: value for name, value in machine().items() if name != "peers"}
    with tempfile.TemporaryDirectory(prefix="fb-") as name:
        directory = Path(name)
        with _temporary(_made(directory / "t")):
            account, left = asyncio.run(_watched(directory, options.seconds, options.seed))
    problems = [*account.problems(), *(f"{count} {kind} left" for kind, count in left.items() if count)]
    page = _page(described, account, left, problems)
    print(page, end="")
    if options.write:
        options.write.write_text(page)
    return 1 if problems else 0


@contextmanager
def _temporary(directory: Path) -> Iterator[None]:
    """Has temporary files made in `directory`, so that what is left there is seen."""
    before, tempfile.tempdir = tempfile.tempdir, str(directory)
    try:
        yield
    finally:
        tempfile.tempdir = before


async def _watched(directory: Path, seconds: float, seed: int) -> tuple[Account, dict[str, int]]:
    # What a process makes once is no leak: gRPC's threads and descriptors, the thread that starts processes.
    await run(_made(directory / "first"), 0.0, seed)
    before, threads = Leftovers(), threading.active_count()
    account = await run(_made(directory / "second"), seconds, seed, _progress)
    left = await before.after(GONE)
    return account, left | {"threads": threading.active_count() - threads}


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _progress(left: float) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{max(left, 0):.0f} s left", end="" if left > 0 else "\n", file=sys.stderr, flush=True)


def _page(described: dict[str, str], account: Account, left: dict[str, int], problems: list[str]) -> str:
    lines = [HEAD, *(f"- {name}: {value}" for name, value in described.items())]
    lines += [f"- run: {account.seconds:g} s, seed {account.seed}", ""]
    lines += ["| fault | times |", "|---|--:|", *(f"| {name} | {n} |" for name, n in sorted(account.faults.items()))]
    lines += [f"| all | {account.faults.total()} |", ""]
    lines += ["| calls | its caller was told | executed | calls of these |", "|---|---|--:|--:|"]
    for kind in (IDEMPOTENT, OTHER):
        of_it = {key[1:]: count for key, count in account.calls.items() if key[0] == kind}
        lines += [f"| {kind} | {told} | {times} x | {count} |" for (told, times), count in sorted(of_it.items())]
        lines += [f"| {kind} | all | | {sum(of_it.values())} |"]
    kept = ", ".join(f"{count} {kind}" for kind, count in left.items())
    lines += ["", f"Left afterwards: {kept}. Memory grew by {account.grown / 1024:.1f} MiB.", ""]
    lines += ["Every promise was kept." if not problems else "Broken promises:", *(f"- {each}" for each in problems)]
    return "\n".join(lines) + "\n"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description="Callers amid faults, and a ledger."
    )
    parser.add_argument("--seconds", type=float, default=300.0, metavar="SECONDS", help="how long (300)")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="of the faults' order (7)")
    parser.add_argument(
        "--write", type=Path, nargs="?", const=PAGE, metavar="FILE", help="write the page to FILE (benchmarks/CHAOS.md)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

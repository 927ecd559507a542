"""Minutes of transactions through a pool while PostgreSQL backends are killed: nothing is committed by half.

    python -m benchmarks.transactions [--seconds SECONDS] [--seed N] [--write FILE]

Eight users move cents between accounts through four connections and two of overflow; a backend is killed every 0.05 s,
whatever it does. Once by calls through leases, where nothing but the lease says that the link was lost, and once by the
driver's own object. What the users were told is held against what is in the database. The run is that of the tests,
`tests/real/transactions.py`; it starts a server of its own on loopback (Debian's `postgresql`) and needs asyncpg.

Exit status: 0 when every promise was kept, 1 when one was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import machine
from tests.real.servers import postgres
from tests.real.transactions import KINDS, run

__all__ = ["main"]

PAGE = Path(__file__).with_name("TRANSACTIONS.md")
HEAD = """# Transactions and kills

Written by `python -m benchmarks.transactions`, which the [README](README.md) describes: what became of transactions
through a pool while backends of PostgreSQL were killed, counted in the database.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for: half of the time for each kind of use."""
    parser = argparse.ArgumentParser(prog="benchmarks.transactions", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="how long, in all (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=17, help="decides who is paid by whom (default: %(default)s)")
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, help="also write the page (default: %(const)s)")
    options = parser.parse_args(arguments)
    about = {name: value for name, value in machine().items() if name != "peers"}
    lines = [HEAD, *(f"- {name}: {value}" for name, value in about.items())]
    lines += [f"- run: {options.seconds:g} s, seed {options.seed}", ""]
    problems: list[str] = []
    with postgres() as server:
        for kind in KINDS:
            outcome = asyncio.run(run(server, kind, options.seconds / len(KINDS), options.seed))
            lines.append(f"- by {kind}: {outcome}")
            problems += [f"by {kind}: {problem}" for problem in outcome.problems()]
    page = "\n".join([*lines, "", *(problems or ["Every promise was kept."]), ""])
    print(page, end="")
    if options.write:
        options.write.write_text(page)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

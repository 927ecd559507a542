"""A plugin that prints a good handshake and exits: how soon that is an error, and whether it says why.

The plugin is a Python process that writes a word on stderr and a handshake line on stdout, and exits with status 3; it
imports nothing, so most of the time measured is ours. One attempt is allowed. The error must quote what the plugin
wrote on stderr. (pyvider-rpcplugin's own client waits 30 s in this place, for a socket that never comes.)
"""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks.core import Progress, Row, row_of
from fsm_conn import ConnectFailedError, Connection, RetryPolicy

LAST_WORDS = "the disk is full"
SCRIPT = f"""
import sys
print({LAST_WORDS!r}, file=sys.stderr, flush=True)
print("1|1|unix|/nowhere/at-all.sock|grpc|", flush=True)
sys.exit(3)
"""
COMMAND = [sys.executable, "-S", "-E", "-c", SCRIPT]


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    return asyncio.run(_measured(5 if quick else 30, progress))


async def _measured(rounds: int, progress: Progress) -> list[Row]:
    await _failure()
    taken, silent = [], 0
    for done in range(rounds):
        progress.at(done, rounds)
        began = time.perf_counter()
        message = await _failure()
        taken.append(time.perf_counter() - began)
        silent += LAST_WORDS not in message
    work = "plugin that prints its handshake and exits"
    return [
        row_of(taken, name="exit after the handshake to its error", work=work, unit="s", goal=1, strict=True),
        Row(
            name="errors that do not quote its stderr",
            work=work,
            value=silent,
            unit=f"of {rounds}",
            goal=0,
            repeats=rounds,
        ),
    ]


async def _failure() -> str:
    conn = Connection(COMMAND, retry=RetryPolicy(max_attempts=1))
    try:
        await conn.connect()
    except ConnectFailedError as error:
        return str(error)
    finally:
        await conn.disconnect()
    raise AssertionError("a plugin that had exited was taken for one that runs")

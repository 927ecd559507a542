"""A pool of real plugins under faults of every kind, and what its callers were told of it, beside the plugins' ledger.

A run gives an `Account`; its `problems()` are the broken promises. The tests make a short run, and
`python -m benchmarks.chaos` a long one.
"""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from fsm_conn import ConnectionPool, HealthPolicy, RetryPolicy

from .faults import PLUGINS
from .ledger import Told, broken_promises, sent

__all__ = ["FAULTS", "Account", "run"]

SLOTS = 4
CALLERS = 20
INTERVAL = 0.3
"""Seconds between two faults."""
FAULTS = {
    "kill": signal.SIGKILL,
    "stop": signal.SIGSTOP,
    "go on": signal.SIGCONT,
    "flood stderr": signal.SIGUSR1,
    "answer slowly": signal.SIGUSR2,
}
MEMORY = 48 * 1024
"""KiB by which this process may be larger at the end: allocators keep what they had at the worst moment."""


@attrs.frozen
class Account:
    """What came of a run."""

    seconds: float
    seed: int
    faults: Counter[str]
    calls: Counter[tuple[str, str, int]]
    """How many of a kind were told what, and were executed how often."""
    unknown: int
    """Executions of what nobody called."""
    grown: int
    """KiB of memory, from before the faults to after."""

    def problems(self) -> Iterator[str]:
        """The promises that were broken."""
        yield from broken_promises(self.calls, self.unknown, FAULTS.keys() - self.faults.keys())
        if self.grown >= MEMORY:
            yield f"grown by {self.grown} KiB"


async def run(directory: Path, seconds: float, seed: int, tell: Callable[[float], None] = lambda left: None) -> Account:
    """Let callers call for `seconds`, while a fault strikes every `INTERVAL`, and hold what they were told against the ledger.

    Everything is closed in the end; whether anything is left is for the caller to see. `tell` is given the seconds that
    are left, each time that a fault strikes.
    """
    ledger = directory / "ledger"
    pool = ConnectionPool(
        [sys.executable, str(PLUGINS / "chaotic.py")],
        SLOTS,
        0,
        env={"LEDGER": str(ledger)},
        retry=RetryPolicy(max_attempts=None, initial_delay=0.0, stable_after=0.0),
        health=HealthPolicy(interval=0.3, timeout=1.0, failure_threshold=1),
        start_timeout=60,
    )
    await pool.initialize()
    told, done, loop = Told(), Counter[str](), asyncio.get_running_loop()
    await asyncio.gather(*(told.call(pool) for _ in range(200)))
    memory = _resident()
    end = loop.time() + seconds
    weather = asyncio.create_task(_strike(pool, random.Random(seed), done, lambda: tell(end - loop.time())))
    await asyncio.gather(*(told.go_on(pool, lambda: loop.time() > end) for _ in range(CALLERS)))
    weather.cancel()
    await asyncio.wait((weather,))
    if not weather.cancelled():
        weather.result()
    grown = _resident() - memory
    await pool.close_all()
    executed = Counter(map(int, ledger.read_text().split()))
    return Account(seconds, seed, done, told.held_against(executed), told.unknown_to(executed), grown)


async def _strike(pool: ConnectionPool, rng: random.Random, done: Counter[str], tell: Callable[[], None]) -> None:
    """One plugin after the other has something done to it. At the end all go on."""
    deck: list[str] = []
    try:
        while True:
            await asyncio.sleep(INTERVAL)
            tell()
            if serving := _plugins(pool):
                deck = deck or rng.sample(tuple(FAULTS), len(FAULTS))
                name = deck.pop()
                done[name] += sent(rng.choice(serving), FAULTS[name])
    finally:
        for pid in _plugins(pool):
            sent(pid, signal.SIGCONT)


def _plugins(pool: ConnectionPool) -> list[int]:
    """The processes that serve at the moment."""
    links: list[Any] = [slot.conn.link for slot in pool.slots]
    return [link.pid for link in links if link is not None and link.pid is not None]


def _resident() -> int:
    """KiB of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024

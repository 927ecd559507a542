"""A pool of real plugins under faults of every kind, and callers who are told the truth: by the plugins' own ledger.

`FSM_CONN_CHAOS_SECONDS=300 pytest -s tests/real/test_chaos.py` goes on for longer, and prints what came of it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import CallOptions, ConnectionLostError, ConnectionPool, HealthPolicy, RetryPolicy

from .conftest import PLUGINS, Leftovers

SECONDS = float(os.environ.get("FSM_CONN_CHAOS_SECONDS", "10"))
SEED = int(os.environ.get("FSM_CONN_CHAOS_SEED", "7"))
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


def plugins(pool: ConnectionPool) -> list[int]:
    """The processes that serve at the moment."""
    links: list[Any] = [slot.conn.link for slot in pool._slots]
    return [link.pid for link in links if link is not None and link.pid is not None]


async def faults(pool: ConnectionPool, rng: random.Random, done: Counter[str]) -> None:
    """One plugin after the other has something done to it. At the end all go on."""
    deck: list[str] = []
    try:
        while True:
            await asyncio.sleep(INTERVAL)
            if serving := plugins(pool):
                deck = deck or rng.sample(tuple(FAULTS), len(FAULTS))
                name = deck.pop()
                os.kill(rng.choice(serving), FAULTS[name])
                done[name] += 1
    finally:
        for pid in plugins(pool):
            os.kill(pid, signal.SIGCONT)


class Told:
    """What callers were told of each call, by its number. Even ones are idempotent."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    async def call(self, pool: ConnectionPool) -> None:
        number = len(self.outcomes)
        self.outcomes.append("nothing")
        try:
            options = CallOptions(idempotent=number % 2 == 0, timeout=120)
            reply = await pool.call("calculator.Add", options, a=number, b=1)
        except ConnectionLostError as error:
            self.outcomes[number] = "maybe executed" if error.maybe_executed else "not sent"
        else:
            assert reply.result == number + 1
            self.outcomes[number] = "answered"

    async def go_on(self, pool: ConnectionPool, is_over: Callable[[], bool]) -> None:
        while not is_over():
            await self.call(pool)


def resident() -> int:
    """KiB of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


@pytest.mark.timeout(300 + 2 * SECONDS)
async def test_chaos(tmp_path: Path, leftovers: Leftovers) -> None:
    """Idempotent calls are all answered; no other is executed twice, and what its caller was told is true; and nothing
    is left: no process, descriptor, task, thread or directory, nor memory.
    """
    ledger = tmp_path / "ledger"
    pool = ConnectionPool(
        [sys.executable, str(PLUGINS / "chaotic.py")],
        4,
        0,
        env={"LEDGER": str(ledger)},
        retry=RetryPolicy(max_attempts=None, initial_delay=0.0, stable_after=0.0),
        health=HealthPolicy(interval=0.3, timeout=1.0, failure_threshold=1),
        start_timeout=60,
    )
    await pool.initialize()
    told, done, loop = Told(), Counter[str](), asyncio.get_running_loop()
    await asyncio.gather(*(told.call(pool) for _ in range(200)))
    memory = resident()
    end = loop.time() + SECONDS
    weather = asyncio.create_task(faults(pool, random.Random(SEED), done))
    await asyncio.gather(*(told.go_on(pool, lambda: loop.time() > end) for _ in range(CALLERS)))
    weather.cancel()
    await asyncio.wait((weather,))
    grown = resident() - memory
    await pool.close_all()
    await leftovers.none()
    assert weather.cancelled()

    executed = Counter(map(int, ledger.read_text().split()))
    idempotent, others = ({n: how for n, how in enumerate(told.outcomes) if n % 2 == odd} for odd in (0, 1))
    print(f"\n{SECONDS:g} s, seed {SEED}: faults {dict(done)}; memory grown by {grown} KiB")
    for kind, outcomes in (("idempotent", idempotent), ("not idempotent", others)):
        for (how, times), count in sorted(Counter((how, executed[n]) for n, how in outcomes.items()).items()):
            print(f"  {count:7} {kind}, {how}, executed {times} times")
    allowed = {"answered": {1}, "maybe executed": {0, 1}, "not sent": {0}}
    assert {n: (how, executed[n]) for n, how in others.items() if executed[n] not in allowed[how]} == {}
    assert set(idempotent.values()) == {"answered"}
    assert all(executed[number] for number in idempotent)
    assert max(executed) < len(told.outcomes)
    assert set(done) == set(FAULTS), "each fault was tried"
    assert grown < MEMORY

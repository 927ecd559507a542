"""A thousand connections lose their peer at one moment: how many attempts a second it meets while it is away.

In virtual time, so nothing here depends on the machine. The peer is gone for a minute, refuses whoever comes after 10
milliseconds, and then is back. All connections have the same policy: a quarter of a second, doubled up to 30 seconds,
without end; what differs is the jitter, and whether they share a `RetryBudget`. Counted are the attempts in the busiest
second. That is the first one, for a link that had been up is replaced at once, which no jitter can spread; so the
busiest of the later ones is told beside it, and how long after the peer's return the last connection was back.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from benchmarks.core import Progress, Row
from fsm_conn import Connection, Link, LinkError, LinkLostError, RetryBudget, RetryPolicy
from fsm_conn.testing.virtual import run_virtually

CONNECTIONS = 1000
AWAY = 60.0
"""Seconds."""
REFUSAL = 0.01
"""Seconds that an attempt takes to be refused, or to succeed."""
RATE = 50
"""Attempts a second that the budget allows, and as many at once."""


class Peer:
    """Counts who comes, and lets them in while it is there."""

    def __init__(self) -> None:
        self.is_there = True
        self.gone = asyncio.Event()
        self.attempts: list[float] = []

    def __call__(self) -> Door:
        return Door(self)

    def leave(self) -> None:
        """Every link to it is lost."""
        self.is_there = False
        self.attempts.clear()
        self.gone.set()
        self.gone = asyncio.Event()


class Door(Link):
    """One attempt at the peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def open(self) -> None:
        """Succeed or be refused."""
        self._peer.attempts.append(asyncio.get_running_loop().time())
        await asyncio.sleep(REFUSAL)
        if not self._peer.is_there:
            raise LinkError("nobody there")
        self._gone = self._peer.gone

    async def close(self) -> None:
        """Nothing to give back."""

    async def lost(self) -> Exception:
        """The peer went away."""
        await self._gone.wait()
        return LinkLostError("the peer went away")


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Count."""
    number = CONNECTIONS // 10 if quick else CONNECTIONS
    ways: Mapping[str, dict[str, Any]] = {
        "no jitter, no budget": {"jitter": "none"},
        "equal jitter": {"jitter": "equal"},
        "full jitter": {"jitter": "full"},
        "no jitter, a budget": {"jitter": "none", "rate": RATE},
        "equal jitter and a budget": {"jitter": "equal", "rate": RATE},
    }
    found = []
    for done, (name, way) in enumerate(ways.items()):
        progress.at(done, len(ways), name)
        found.append(_row(name, number, *run_virtually(_storm(number, **way))))
    return found


async def _storm(number: int, jitter: str, rate: float | None = None) -> tuple[list[float], float]:
    peer, loop = Peer(), asyncio.get_running_loop()
    budget = None if rate is None else RetryBudget(rate, burst=int(rate))
    policy = RetryPolicy(max_attempts=None, jitter=jitter)
    conns = [Connection(peer, retry=policy, budget=budget, rng=random.Random(seed)) for seed in range(number)]
    await asyncio.gather(*(conn.connect() for conn in conns))
    await asyncio.sleep(policy.stable_after)
    peer.leave()
    left = loop.time()
    await asyncio.sleep(AWAY)
    attempts = [at - left for at in peer.attempts]
    peer.is_there = True
    await asyncio.gather(*(conn.connect() for conn in conns))
    back = loop.time() - left - AWAY
    await asyncio.gather(*(conn.disconnect() for conn in conns))
    return attempts, back


def busiest(times: list[float], seconds: float = 1.0) -> int:
    """The most of `times`, which are sorted, that lie within any so many seconds."""
    return max((bisect_right(times, at + seconds) - index for index, at in enumerate(times)), default=0)


def _row(name: str, number: int, attempts: list[float], back: float) -> Row:
    later = busiest([at for at in attempts if at >= 1])
    return Row(
        name="storm",
        work=f"{number} connections lose one peer: {name}",
        value=busiest(attempts),
        unit="/s",
        goal=None if name.endswith(("jitter", "no budget")) else 2 * RATE,
        detail=f"later {later}/s at most; {len(attempts)} attempts in all; all back {back:.1f} s after the peer",
    )

"""A state machine of fsm_conn beside those of other libraries: a trigger, the making of one, and its memory.

All live the same small life (`machine_peers.py`): six triggers once round, one guard, one effect. Ours is a
`StateMachine` with that table, which also writes a record of each transition and keeps the last 64; the others do what
they do by themselves. They take turns in lots of a few walks, all in a running event loop, the async ones awaited.
Made is one at a time, from a class or machine that is there already where the library lets it be shared. Memory is
what the allocator handed out while many were made and held, by tracemalloc, divided by their number.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks.core import RATIO, Progress, Row, against, row_of, turns
from benchmarks.machine_peers import OURS, PEERS, WALK, Peer, installed

WALKS = 10
"""Walks in one turn."""
MADE = 20
"""Machines made in one turn."""
HELD = 500
"""Machines held at once."""

Ready = tuple[Peer, Callable[[], Any], Callable[[Any], Any], Any]
"""A peer, how to make one, how to take it round, and one that was made."""


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    return asyncio.run(_measured(10 if quick else 100, progress))


async def _measured(rounds: int, progress: Progress) -> list[Row]:
    ready = [await _ready(peer) for peer in (OURS, *installed())]
    walked: list[list[float]] = [[] for _ in ready]
    made: list[list[float]] = [[] for _ in ready]
    for index, (_, make, walk, one) in turns(ready, rounds, progress):
        walked[index].append(await _walks(walk, one))
        made[index].append(_making(make))
    held = [[_memory(make)] for _, make, _, _ in ready]
    peers = [peer for peer, *_ in ready]
    return [
        *_compared("trigger", "us", walked, peers),
        *_compared("making", "us", made, peers),
        *_compared("memory", "kB", held, peers),
        *(_missing(peers) if len(peers) <= len(PEERS) else ()),
    ]


async def _ready(peer: Peer) -> Ready:
    make, walk = peer.prepare()
    one = make()
    for _ in range(WALKS):
        await _once(walk, one)
    return peer, make, walk, one


async def _once(walk: Callable[[Any], Any], one: Any) -> None:
    waited = walk(one)
    if waited is not None:
        await waited


async def _walks(walk: Callable[[Any], Any], one: Any) -> float:
    """Microseconds for one trigger."""
    began = time.perf_counter()
    for _ in range(WALKS):
        await _once(walk, one)
    return (time.perf_counter() - began) / (WALKS * len(WALK)) * 1e6


def _making(make: Callable[[], Any]) -> float:
    """Microseconds for one machine. What is dropped is freed meanwhile, as in a program that makes them."""
    began = time.perf_counter()
    for _ in range(MADE):
        make()
    return (time.perf_counter() - began) / MADE * 1e6


def _memory(make: Callable[[], Any]) -> float:
    """The kilobytes of one machine."""
    gc.collect()
    held: list[Any] = [None] * HELD
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(HELD):
            held[number] = make()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / HELD / 1000


def _compared(name: str, unit: str, taken: list[list[float]], peers: list[Peer]) -> list[Row]:
    """A row for each peer. Nothing is asked where it is known to be ahead, for a reason that the row tells."""
    ours = statistics.median(taken[0])
    return [
        row_of(
            against(taken[0], theirs),
            name=f"{name} of a machine, against {peer.name}",
            work="six triggers once round, a guard and an effect; ours with a record of each, and the history",
            unit=RATIO,
            goal=None if name in peer.ahead_in else peer.goals.get(name, 1),
            detail=f"{ours:.3g} against {statistics.median(theirs):.3g} {unit}",
            why=peer.why if name in peer.ahead_in else "",
        )
        for peer, theirs in zip(peers[1:], taken[1:], strict=True)
    ]


def _missing(peers: list[Peer]) -> list[Row]:
    """Who is not there to be compared with is told, or nobody would notice."""
    names = [peer.name for peer in PEERS if peer not in peers]
    return [
        Row(name="machines not compared with", work=f"not installed: {', '.join(names)}", value=len(names), unit="")
    ]

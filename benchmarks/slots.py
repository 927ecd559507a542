"""A storm of cancellations, and how many slots a pool has left: of ours, and of other libraries' pools.

Every pool has ten connections that cost nothing. In each round a hundred tasks acquire one, give way to the others a
few times while they hold it, and release it; every one of them is cancelled after as many turns of the loop as a random
number says: while it waits, as it is handed its connection, while it holds it, or as it gives it back. When all tasks
have ended, whoever comes must find ten connections again: so many are acquired at once, and those that are not had
within a second are lost. Each pool meets the same seeds, in a loop of its own, once for each seed.

`by hand` is what is written when there is no library: an `asyncio.Queue` of connections, and `wait_for` around its
`get`. Its slots survive; what it loses, on Python 3.11, are cancellations, so that a task goes on that was told to end.
Those are counted too: a task that was cancelled before it had a connection must not go on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import attrs

from benchmarks.core import Progress, Row
from benchmarks.peers import PEERS, SIZE, Acquire, installed
from benchmarks.pool import Nothing
from fsm_conn import ConnectionPool

TASKS = 100
STEPS = 60
"""Turns of the loop within which all tasks of a round are cancelled."""
HOLD = 3
"""Turns of the loop for which a connection is held."""
PATIENCE = 1.0
"""Seconds for a connection that nobody holds to be had."""
LIMIT = 30.0
"""Seconds for a pool to be made, or closed; some that have lost slots never close."""

Make = Callable[[], AbstractAsyncContextManager[Acquire]]


@attrs.define
class Seen:
    """What a storm has left."""

    usable: int = 0
    cancelled: int = 0
    deaf: int = 0
    """Tasks that went on although they were cancelled while they waited."""


@asynccontextmanager
async def ours() -> AsyncIterator[Acquire]:
    async with ConnectionPool(Nothing, SIZE, 0) as pool:
        yield pool.acquire


@asynccontextmanager
async def by_hand() -> AsyncIterator[Acquire]:
    """What one writes without a library."""
    free: asyncio.Queue[object] = asyncio.Queue()
    for _ in range(SIZE):
        free.put_nowait(object())

    @asynccontextmanager
    async def acquire() -> AsyncIterator[object]:
        taken = await asyncio.wait_for(free.get(), timeout=LIMIT)
        try:
            yield taken
        finally:
            await free.put(taken)

    yield acquire


@asynccontextmanager
async def generic_connection_pool() -> AsyncIterator[Acquire]:
    library: Any = importlib.import_module("generic_connection_pool.asyncio")

    class Manager(library.BaseConnectionManager):  # type: ignore[misc]
        async def create(self, endpoint: str) -> object:
            return object()

        async def dispose(self, endpoint: str, conn: object) -> None: ...

    pool = library.ConnectionPool(Manager(), min_idle=SIZE, max_size=SIZE, total_max_size=SIZE)
    yield lambda: pool.connection("here")
    await pool.close(timeout=PATIENCE)


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Count."""
    seeds, rounds = (2, 5) if quick else (6, 10)
    pools: dict[str, Make] = {"fsm_conn": ours, "by hand": by_hand} | installed()
    if importlib.util.find_spec("generic_connection_pool") is not None:
        pools["generic-connection-pool"] = generic_connection_pool
    found = []
    for done, (name, make) in enumerate(pools.items()):
        progress.at(done, len(pools), name)
        found += _rows(name, [_alone(make, seed, rounds) for seed in range(seeds)])
    missing = sorted({*PEERS, "generic-connection-pool"} - set(pools))
    if missing:
        work = f"pools to compare with: {', '.join(missing)}"
        found.append(Row(name="not installed", work=work, value=len(missing), unit=""))
    return found


def _alone(make: Make, seed: int, rounds: int) -> Seen:
    """One storm, in a loop of its own: what a broken pool leaves behind ends with it."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        return runner.run(_stormed(make, random.Random(seed), rounds))


async def _stormed(make: Make, rng: random.Random, rounds: int) -> Seen:
    seen, stack = Seen(), AsyncExitStack()
    async with asyncio.timeout(LIMIT):
        acquire = await stack.enter_async_context(make())
    async with _all(acquire):
        pass
    for _ in range(rounds):
        await _round(acquire, rng, seen)
    async with _all(acquire) as usable:
        seen.usable = usable
    with suppress(Exception):
        async with asyncio.timeout(LIMIT):
            await stack.aclose()
    return seen


async def _round(acquire: Acquire, rng: random.Random, seen: Seen) -> None:
    waiting: set[asyncio.Task[Any]] = set()
    warned: set[asyncio.Task[Any]] = set()

    async def use() -> None:
        me: Any = asyncio.current_task()
        waiting.add(me)
        async with acquire():
            waiting.discard(me)
            seen.deaf += me in warned
            for _ in range(HOLD):
                await asyncio.sleep(0)

    tasks = [asyncio.create_task(use()) for _ in range(TASKS)]
    plan = [rng.randrange(STEPS) for _ in tasks]
    for step in range(STEPS):
        await asyncio.sleep(0)
        for task, moment in zip(tasks, plan, strict=True):
            if moment == step and task.cancel():
                seen.cancelled += 1
                warned |= {task} & waiting
    await asyncio.wait(tasks, timeout=LIMIT)


@asynccontextmanager
async def _all(acquire: Acquire) -> AsyncIterator[int]:
    """As many as can be had at the same time, up to the size; all are released when the block ends."""
    had, enough = 0, asyncio.Event()

    async def hold() -> None:
        nonlocal had
        async with acquire():
            had += 1
            await enough.wait()

    holders = [asyncio.create_task(hold()) for _ in range(SIZE)]
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while had < SIZE and loop.time() < end:
        await asyncio.sleep(0.005)
    try:
        yield had
    finally:
        enough.set()
        _, stuck = await asyncio.wait(holders, timeout=PATIENCE)
        for holder in stuck:
            holder.cancel()
        if stuck:
            await asyncio.wait(stuck, timeout=PATIENCE)


def _rows(name: str, seen: list[Seen]) -> list[Row]:
    goal = 0 if name == "fsm_conn" else None
    work = f"{SIZE} slots, {TASKS} tasks a round, all cancelled at random moments"
    left = [each.usable for each in seen]
    cancelled = sum(each.cancelled for each in seen)
    return [
        Row(
            name=f"slots lost: {name}",
            work=work,
            value=SIZE - min(left),
            unit=f"of {SIZE}",
            goal=goal,
            repeats=len(seen),
            detail=f"left after each storm: {' '.join(map(str, left))}",
        ),
        Row(
            name=f"cancellations ignored: {name}",
            work=work,
            value=sum(each.deaf for each in seen),
            unit=f"of {cancelled:,}",
            goal=goal,
            repeats=len(seen),
        ),
    ]

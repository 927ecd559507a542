"""Nothing is lost under cancellation, whatever is awaited; and nothing by adversarial lives."""

from __future__ import annotations

import asyncio
import random
from types import ModuleType
from typing import Any

import pytest
from extent import far
from hypothesis import settings
from peer import TRANSIENT, Peer

from fsm_conn import ConnectionPool, FsmConnError, PoolPolicy
from fsm_conn.testing import pool_test, run_virtually

from . import drivers, hunting, starts
from .conftest import begun, make, nothing_is_left, settled

TestPool = pool_test(ConnectionPool, max_examples=far(50))


class Renamed(ConnectionPool):
    """A pool whose constructor takes something else."""

    def __init__(self, region: str, **options: Any) -> None:
        super().__init__(**options)
        self.region = region


TestWithAConstructorOfItsOwn = pool_test(
    Renamed, make=lambda link, options: Renamed("north", target=link, **options), max_examples=far(10), hooks=("",)
)


def test_wrong_use_of_pool_test_is_told() -> None:
    """At once."""
    with pytest.raises(TypeError, match="give a subclass of ConnectionPool"):
        pool_test(int)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give some of"):
        pool_test(ConnectionPool, hooks=("x",))
    assert isinstance(TestPool.settings, settings)


@pytest.mark.parametrize("lives", [hunting, drivers, starts], ids=lambda each: each.__name__.rpartition(".")[2])
@pytest.mark.parametrize("seed", range(0, far(100), 50))
def test_random_lives_are_survived(seed: int, lives: ModuleType) -> None:
    """The same that kill the mutants."""
    for number in range(seed, seed + 50):
        lives.live(number)


async def storm(seed: int, **options: Any) -> None:
    """40 tasks on 10 slots, each cancelled at most once, at any await; links are lost, and refused, meanwhile."""
    rng = random.Random(seed)
    peer = Peer()
    pool = make(peer, 10, **options)
    await pool.initialize()
    peer.script = [rng.choice([None, TRANSIENT]) for _ in range(20)]
    tasks = [asyncio.create_task(use(pool, rng)) for _ in range(40)]
    for victim in rng.sample(tasks, 30):
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        victim.cancel()
        if rng.random() < 0.1:
            lose_one(peer, rng)
    done, hung = await asyncio.wait(tasks, timeout=1000)
    assert hung == set()
    errors = [task.exception() for task in done if not task.cancelled() and task.exception() is not None]
    assert all(isinstance(error, FsmConnError) for error in errors)
    await asyncio.sleep(600)  # one connection may be refused nine times, with growing pauses
    await all_ten_are_usable(pool)
    await pool.close_all()
    await settled()
    nothing_is_left(pool, peer)


async def use(pool: ConnectionPool, rng: random.Random) -> None:
    for _ in range(10):
        async with pool.acquire(timeout=rng.choice([None, 50])):
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)


def lose_one(peer: Peer, rng: random.Random) -> None:
    link = rng.choice([link for link in peer.made if link.is_open and not link.closes])
    if not link.gone.done():
        link.gone.set_result(TRANSIENT)


async def all_ten_are_usable(pool: ConnectionPool) -> None:
    leases = await asyncio.gather(*begun(*(pool.acquire(timeout=1) for _ in range(10))))
    assert len({id(lease.connection) for lease in leases}) == 10
    for lease in leases:
        assert await lease.call("a.B") == "reply"
        lease.release()
    await settled()
    assert pool.get_pool_stats()["available_in_pool"] == 10


@pytest.mark.parametrize("seeds", range(far(4)))
def test_a_storm_of_cancellations(seeds: int) -> None:
    """Afterwards ten of ten slots are usable, and no task hangs; each time ten times."""
    for seed in range(seeds * 10, seeds * 10 + 10):
        run_virtually(storm(seed))


@pytest.mark.parametrize("seed", range(far(4)))
def test_a_storm_with_hooks(seed: int) -> None:
    """The same with hooks that await, overflow and several leases for each connection."""

    async def hook(conn: Any) -> None:
        await asyncio.sleep(0)

    run_virtually(
        storm(seed, on_open=hook, on_acquire=hook, on_release=hook, overflow=None, policy=PoolPolicy(max_overflow=3))
    )

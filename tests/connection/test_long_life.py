"""A day in the life of a connection and a pool: flaps, probes, callers that come and go, and nothing that grows.

In virtual time. `SEARCH=3 pytest -s tests/connection/test_long_life.py` lives the whole day and prints what was
measured every hour; by default it is a third of one. With `PYTHONTRACEMALLOC=1` bytes are measured, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from extent import far
from prometheus_client import CollectorRegistry

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionPool,
    FsmConnError,
    HealthMonitoredClient,
    HealthPolicy,
    PoolPolicy,
    RetryBudget,
    RetryPolicy,
)
from fsm_conn.telemetry import LogObserver, OpenTelemetry, PrometheusMetrics
from fsm_conn.testing import Outcome, SimulatedPeer

HOURS = far(8)
HISTORY = 16
SETTLED = 2
"""Hours after which what is bounded is nearly full: histories, caches, the labels of metrics."""
MOST = {"objects": 500, "grpc": 0, "blocks": 2500, "tasks": 8, "bytes": 300_000}
"""What may be added in all the hours after that: less than one object for every second link."""
RETRY = RetryPolicy(
    max_attempts=4, initial_delay=1, max_delay=20, max_restarts=20, restart_window=300, recover_after=60
)
HEALTH = HealthPolicy(interval=20, timeout=2, failure_threshold=2)
POLICY = PoolPolicy(
    standby=1, max_lifetime=1800, max_idle=300, min_idle=1, overflow_linger=20, acquire_timeout=10, max_waiters=4
)
IDEMPOTENT = CallOptions(idempotent=True, timeout=30)
METHODS = tuple(f"s.M{number}" for number in range(3))


class Calm:
    """Lets everybody act, or holds them back so that can be counted what is left at rest."""

    def __init__(self) -> None:
        self._go = asyncio.Event()
        self._go.set()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._go.wait()

    @contextlib.asynccontextmanager
    async def everything(self) -> Any:
        self._go.clear()
        await asyncio.sleep(400)
        yield
        self._go.set()


def mend(peer: SimulatedPeer) -> None:
    """From now on all goes well, if not at once."""
    peer.heal()
    peer.script("call", (), Outcome("ok", after=0.3))


async def weather(calm: Calm, peer: SimulatedPeer, rng: random.Random, seen: Counter[str]) -> None:
    """Something goes wrong every minute or two, and gets better by itself."""
    while True:
        await calm.pause(rng.uniform(20, 120))
        what = rng.choice(("lose", "refuse", "outage", "ill", "hang", "lost", "unsent", "slow", "announce", "crash"))
        seen[what] += 1
        open_now = [link for link in peer.links if link.is_open]
        if what in ("lose", "refuse", "outage", "crash") and open_now:
            opens = {"refuse": ["refuse"] * 2, "outage": ["refuse", "half"] * 8, "crash": ["crash"]}.get(what, ())
            peer.script("open", opens)
            rng.choice(open_now).lose()
        elif what in ("ill", "hang"):
            peer.script("probe", ["bad" if what == "ill" else "hang"] * rng.randint(1, 6))
        elif what in ("lost", "unsent"):
            peer.script("call", [what] * rng.randint(1, 3))
        elif what == "slow":
            peer.script("close", ["hang", "fail"])
        elif what == "announce":
            peer.announce(False)


async def caller(calm: Calm, client: Any, rng: random.Random, told: Counter[str]) -> None:
    """Calls that are answered, time out, or are cancelled under way."""
    while True:
        await calm.pause(rng.uniform(1, 30))
        try:
            async with asyncio.timeout(rng.choice((0.0, 0.2, 60.0))):
                if isinstance(client, Connection):
                    await client.ensure_connected()
                await client.call(rng.choice(METHODS), IDEMPOTENT, a=1)
            told["answered"] += 1
        except (FsmConnError, TimeoutError) as error:
            told[type(error).__name__] += 1


async def holder(calm: Calm, pool: ConnectionPool, rng: random.Random, told: Counter[str]) -> None:
    """Leases, some of them held while their connection goes."""
    while True:
        await calm.pause(rng.uniform(1, 40))
        try:
            async with pool.acquire(timeout=rng.choice((0.1, 5, None))) as lease:
                await asyncio.sleep(rng.choice((0, 1, 30)))
                await lease.call("s.M", a=1)
            told["leased"] += 1
        except FsmConnError as error:
            told[type(error).__name__] += 1


@pytest.fixture
def quiet() -> Iterator[None]:
    """No log records: pytest would keep them all."""
    log = logging.getLogger("fsm_conn")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    yield
    log.setLevel(level)


def measured() -> dict[str, int]:
    """What there is now, once everything that can be freed is."""
    for _ in range(3):
        gc.collect()
    held = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
    objects = gc.get_objects()
    return {
        "objects": len(objects),
        "grpc": sum(str(type(each).__module__).startswith("grpc") for each in objects),
        "blocks": sys.getallocatedblocks(),
        "tasks": len(asyncio.all_tasks()),
        "bytes": held,
    }


@pytest.mark.usefixtures("quiet")
@pytest.mark.timeout(60 + 30 * HOURS)
async def test_nothing_grows_in_a_long_life() -> None:
    """Objects, memory, tasks, histories and all else that is bounded are as many at the end as after two hours."""
    rng = random.Random(19)
    one, many = SimulatedPeer(), SimulatedPeer()
    for peer in (one, many):
        mend(peer)
    budget = RetryBudget(rate=2, burst=10)
    conn = HealthMonitoredClient(one, retry=RETRY, health=HEALTH, budget=budget, rng=random.Random(1), history=HISTORY)
    pool = ConnectionPool(
        many,
        3,
        2,
        policy=POLICY,
        retry=RETRY,
        health=HEALTH,
        budget=budget,
        rng=random.Random(2),
        name="pool",
        history=HISTORY,
    )
    for observer in (LogObserver(), OpenTelemetry(), PrometheusMetrics(registry=CollectorRegistry())):
        observer.attach(conn)
    await conn.connect()
    await pool.initialize()
    calm, told, seen = Calm(), Counter[str](), Counter[str]()
    tasks = [
        *(asyncio.create_task(weather(calm, peer, rng, seen)) for peer in (one, many)),
        *(asyncio.create_task(caller(calm, client, rng, told)) for client in (conn, pool, pool)),
        *(asyncio.create_task(holder(calm, pool, rng, told)) for _ in range(4)),
    ]
    hours: list[dict[str, int]] = []
    loop = asyncio.get_running_loop()
    for hour in range(1, HOURS + 1):
        await asyncio.sleep(hour * 3600 - 400 - loop.time())
        async with calm.everything():
            for peer in (one, many):
                mend(peer)
            hours.append(measured())
            print(f"hour {hour}: {hours[-1]}")
            assert len(conn.history) <= HISTORY
            assert any(not each.internal for each in conn.history), "probes pushed out all that happened"
            assert all(len(each.history) <= HISTORY for each in _connections(pool))
            assert len(pool.history) <= 64
            assert one.open_now <= 1
            assert many.open_now <= POLICY.standby + 3 + 2
            assert not one.pending
            assert not many.pending
    print(dict(told), dict(seen), f"asked {dict(one.asked)} {dict(many.asked)}, opened {one.opened} and {many.opened}")
    assert min(one.opened, many.opened) > 20 * HOURS, "links came and went"
    assert told["answered"] > 200 * HOURS
    for hour, now in enumerate(hours[SETTLED:], SETTLED + 1):
        grown = {kind: now[kind] - hours[SETTLED - 1][kind] for kind in MOST}
        assert all(grown[kind] <= most for kind, most in MOST.items()), f"by hour {hour} grown by {grown}"
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await pool.close_all()
    await conn.disconnect()
    assert (one.faults, many.faults) == ([], [])
    assert (one.open_now, many.open_now) == (0, 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def _connections(pool: ConnectionPool) -> list[Any]:
    return [slot.conn for slot in pool.slots]

"""A cluster of real servers: under faults of every kind, over mutual TLS, and at the end of a server under load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from certificates import Authority

from fsm_conn import CallOptions, Plugin
from fsm_conn.cluster import ClusterPolicy, ClusterPool, MemberState, Recipe, ServeLimits, StaticMembers, serve

from . import cluster_chaos
from .conftest import CALCULATOR, eventually

LIMIT = 200.0


@pytest.mark.timeout(600)
async def test_chaos(tmp_path: Path) -> None:
    """Plugins and servers are killed and ended under calls all the time: idempotent calls are all answered, no other is
    executed twice, and what its caller was told is true, by the plugins' own ledger.
    """
    account = await cluster_chaos.run(tmp_path, seconds=5, seed=7)
    assert list(account.problems()) == []
    assert {kind for kind, told, _ in account.calls if told == "answered"} == {"idempotent", "not idempotent"}


async def test_the_end_of_a_server_loses_no_call(no_leaks: None, tmp_path: Path) -> None:
    """Over mutual TLS, with calls that may not be repeated: all are answered, each once, while one of two servers ends,
    and is left out.
    """
    authority, diary = Authority(tmp_path), tmp_path / "diary"
    diary.touch()
    plugin = Plugin((CALCULATOR[0], str(cluster_chaos.DIARY)), env={"DIARY": str(diary)})
    recipe = Recipe(
        plugin=plugin,
        tls=authority.files("server"),
        client_tls=authority.files("client"),
        limits=ServeLimits(announce=0.05),
    )
    async with asyncio.timeout(2 * LIMIT), serve(recipe) as one, serve(recipe) as two:
        members = StaticMembers([one.address, two.address])
        async with ClusterPool(members, recipe, policy=ClusterPolicy(slow_start=0.0)) as cluster:
            await eventually(lambda: cluster.stats()["serving"] == 2, LIMIT)
            stopping: list[asyncio.Task[None]] = []

            async def call(number: int) -> float:
                if number == 100:
                    stopping.append(asyncio.create_task(one.stop()))
                return float((await cluster.call("calculator.Add", CallOptions(timeout=LIMIT), a=number, b=1)).result)

            gate = asyncio.Semaphore(20)

            async def gated(number: int) -> float:
                async with gate:
                    return await call(number)

            assert await asyncio.gather(*map(gated, range(500))) == [*range(1, 501)]
            await stopping[0]
            await eventually(lambda: _state(cluster, one.address) == MemberState.LOST, LIMIT)
            assert _state(cluster, two.address) == MemberState.SERVING
    assert sorted(map(int, diary.read_text().split())) == [*range(500)]


def _state(cluster: ClusterPool, name: str) -> str:
    return next(row["state"] for row in cluster.stats()["members"] if row["name"] == name)

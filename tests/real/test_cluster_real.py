"""A cluster of real servers: under faults of every kind, over mutual TLS, and at the end of a server under load."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import grpc.aio
import pytest
from certificates import Authority

from fsm_conn import CallError, CallOptions, Plugin
from fsm_conn.cluster import (
    ClusterPolicy,
    ClusterPool,
    MemberState,
    Recipe,
    ServeLimits,
    StaticMembers,
    Token,
    serve,
)

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


async def test_a_member_that_refuses_the_token_loses_no_call(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has seen none of them: they go to another member, also those that may not be repeated; and it is left out."""
    monkeypatch.setenv("OURS", "a-token-of-some-length")
    monkeypatch.setenv("THEIRS", "another-token-of-some-length")
    ours, theirs = (
        Recipe(plugin=CALCULATOR, token=Token(env=name), limits=ServeLimits(announce=0.05))
        for name in ("OURS", "THEIRS")
    )
    options = CallOptions(timeout=LIMIT)
    async with asyncio.timeout(2 * LIMIT), serve(ours) as one, serve(theirs) as two:
        members, policy = StaticMembers([one.address, two.address]), ClusterPolicy(slow_start=0.0, sick_pause=LIMIT)
        async with ClusterPool(members, ours, policy=policy) as cluster:
            await eventually(lambda: cluster.stats()["serving"] == 2, LIMIT)
            bad = next(member for member in cluster._roster if member.info.name == two.address)
            for number in itertools.count():
                assert (await cluster.call("calculator.Add", options, a=number, b=1)).result == number + 1
                if bad.failures >= policy.sick_after and bad.state == MemberState.LOST:
                    break
            assert "token is wrong" in str(bad.cause)
        async with ClusterPool(
            StaticMembers([two.address]), ours
        ) as cluster:  # nobody else: told at once, in its words
            with pytest.raises((grpc.aio.AioRpcError, CallError), match="token is wrong"):
                await cluster.call("calculator.Add", options, a=1, b=1)

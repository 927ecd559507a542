"""`ClusterPool.map`, in virtual time: order, back-pressure, errors of calls and of requests, and early ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from fsm_conn import ConnectionLostError
from fsm_conn.testing.members import SimulatedMembers

from .test_pool import pool, settled


async def test_map_keeps_the_order() -> None:
    """Results come in the order of the requests, as soon as those before them are there."""
    members = SimulatedMembers(3)
    members["m0"].latency = 0.2
    async with pool(members) as cluster:
        await settled()
        requests = ({"id": number} for number in range(500))
        found = [reply["id"] async for reply in cluster.map("work.Do", requests, limit=20)]
    assert found == [*range(500)]


async def test_map_draws_no_more_than_it_may() -> None:
    """However many requests there are, and however slow their reader is."""
    members = SimulatedMembers(3)
    drawn: list[int] = []

    async def requests() -> AsyncIterator[dict[str, int]]:
        for number in range(1000):
            drawn.append(number)
            yield {"id": number}

    async with pool(members) as cluster:
        await settled()
        replies = cluster.map("work.Do", requests(), limit=10)
        for number in range(5):
            assert (await anext(replies))["id"] == number
            await settled()
            assert len(drawn) <= 11 + number
        await replies.aclose()
        assert cluster.stats()["outstanding"] == 0


async def test_map_and_errors() -> None:
    """An error is raised in its place, and cancels what is under way; or stands in its place, if that is wanted."""
    members = SimulatedMembers(1)
    async with pool(members) as cluster:
        await settled()

        def dying() -> Any:
            for number in range(30):
                if number == 12:
                    asyncio.get_running_loop().call_later(0.001, members["m0"].kill)
                    asyncio.get_running_loop().call_later(1.0, members["m0"].start)
                yield {"id": number}

        found = [each async for each in cluster.map("work.Do", dying(), limit=4, return_exceptions=True)]
        assert len(found) == 30
        assert any(isinstance(each, ConnectionLostError) for each in found)
        with pytest.raises(ConnectionLostError):
            async for _ in cluster.map("work.Do", dying(), limit=4):
                pass
        assert cluster.stats()["outstanding"] == 0
        with pytest.raises(ValueError, match="1 or more"):
            await anext(cluster.map("work.Do", [], limit=0))


async def test_map_tells_what_is_there() -> None:
    """A request may depend on the reply before it: no reply waits for requests that have not come yet."""
    members = SimulatedMembers(2)
    replies: asyncio.Queue[int] = asyncio.Queue()

    async def requests() -> AsyncIterator[dict[str, int]]:
        for number in range(5):
            yield {"id": number}
            assert await replies.get() == number

    async with pool(members) as cluster:
        async for reply in cluster.map("work.Do", requests(), limit=10):
            replies.put_nowait(reply["id"])
    assert sorted(members.ledger.executed) == [*range(5)]


@pytest.mark.parametrize("is_async", [False, True])
async def test_map_and_requests_that_fail(is_async: bool) -> None:
    """Their error is raised in its place: whoever was executed before has been told so."""
    members = SimulatedMembers(2)

    def some() -> Iterator[dict[str, int]]:
        yield from ({"id": number} for number in range(5))
        raise KeyError("no more")

    async def some_async() -> AsyncIterator[dict[str, int]]:
        for each in some():
            yield each

    found = []
    async with pool(members) as cluster:
        with pytest.raises(KeyError, match="no more"):
            async for reply in cluster.map("work.Do", some_async() if is_async else some(), return_exceptions=True):
                found.append(reply["id"])
        assert cluster.stats()["outstanding"] == 0
    assert found == [*range(5)]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("end", ["break", "error", "cancel"])
async def test_map_that_ends_early_leaves_nothing(end: str) -> None:
    """Calls under way, and the generator that is asked for the next request, are cancelled."""
    members = SimulatedMembers(2)
    members["m0"].latency = members["m1"].latency = 0.1
    ended: list[str] = []

    async def requests() -> AsyncIterator[dict[str, int]]:
        try:
            for number in range(3):
                yield {"id": number}
            await asyncio.sleep(3600)
        finally:
            ended.append("requests")

    async def read(cluster: Any) -> None:
        async with aclosing(cluster.map("work.Do", requests(), limit=5)) as replies:
            async for _ in replies:
                if end == "cancel":
                    await asyncio.sleep(3600)
                if end == "error":
                    raise KeyError
                break

    async with pool(members) as cluster:
        reading = asyncio.create_task(read(cluster))
        await asyncio.wait((reading,), timeout=1.0)
        reading.cancel()
        await asyncio.wait((reading,))
        assert cluster.stats()["outstanding"] == 0
        assert ended == ["requests"]
        assert len(asyncio.all_tasks()) < 20
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_map_of_one_at_a_time() -> None:
    """With a limit of one, a request is drawn when the call before it has ended."""
    members = SimulatedMembers(2)
    events: list[str] = []

    def requests() -> Iterator[dict[str, int]]:
        for number in range(3):
            events.append(f"drawn {number}")
            yield {"id": number}

    async with pool(members) as cluster:
        async for reply in cluster.map("work.Do", requests(), limit=1):
            events.append(f"told {reply['id']}")
            await settled()
            assert len(members.ledger.executed) <= reply["id"] + 2
    assert sorted(events) == sorted([f"{what} {number}" for what in ("drawn", "told") for number in range(3)])
    assert events.index("drawn 2") > events.index("told 0")

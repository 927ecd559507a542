"""What people ask pools for: links given up on purpose, partial opening, no waiting, calls by attribute."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from peer import HANG, TRANSIENT, Peer

from fsm_conn import LeaseError, PoolPolicy, PoolTimeoutError, PoolUnavailableError

from .conftest import begun, make, nothing_is_left, now, settled


async def test_a_lease_that_is_discarded_has_its_link_replaced(opened: Any) -> None:
    """Nobody else gets what its holder knows to be of no use."""
    pool, peer = await opened(1)
    lease = await pool.acquire()
    lease.discard()
    with pytest.raises(LeaseError):
        lease.discard()
    async with pool.acquire(timeout=5) as client:
        assert client.connection.link is peer.made[1]
    assert peer.made[0].closes == 1


async def test_a_lost_lease_can_be_discarded(opened: Any) -> None:
    """Which gives up nothing: its link is gone, and the next one is not its own."""
    pool, peer = await opened(1)
    lease = await pool.acquire()
    peer.lose()
    await asyncio.sleep(5)
    lease.discard()
    await settled()
    assert peer.opened == 2


async def test_all_links_are_replaced_when_they_expire_and_some_serve_all_the_time(opened: Any) -> None:
    """What is leased, when it is given back."""
    peer = Peer(delay=1)
    pool, _ = await opened(3, peer=peer)
    old = list(peer.made)
    lease = await pool.acquire()
    pool.expire()
    least = 3
    for _ in range(100):
        await asyncio.sleep(0.1)
        least = min(least, pool.get_pool_stats()["total_connections"])
    assert (least, sum(link.closes for link in old), lease.is_held) == (2, 2, True)
    lease.release()
    await asyncio.sleep(5)
    assert [link.closes for link in old] == [1, 1, 1]
    assert pool.get_pool_stats()["available_in_pool"] == 3


async def test_the_only_link_that_expires_serves_until_there_is_another(opened: Any) -> None:
    """So nobody is refused meanwhile."""
    peer = Peer(delay=1)
    pool, _ = await opened(1, peer=peer)
    pool.expire()
    for _ in range(30):
        async with pool.acquire(timeout=0):
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    assert (peer.opened, peer.open_now, len(pool.slots)) == (2, 1, 1)


async def test_an_acquire_that_does_not_wait_takes_what_is_free_or_nothing(opened: Any) -> None:
    """And starts nothing."""
    pool, peer = await opened(1, 2)
    async with pool.acquire(timeout=0):
        began = now()
        with pytest.raises(PoolTimeoutError, match="no connection is free"):
            await pool.acquire(timeout=0)
        assert (now() - began, peer.tried) == (0, 1)
    assert pool.get_pool_stats()["stats"]["timeouts"] == 1


async def test_a_check_is_made_of_what_is_taken_without_waiting(opened: Any) -> None:
    """What it refuses is not handed out, and another is."""
    refused: list[Any] = []

    async def check(conn: Any) -> None:
        await asyncio.sleep(0.1)
        if not refused:
            refused.append(conn)
            raise ConnectionError("half-open")

    pool, _ = await opened(2, on_acquire=check)
    async with pool.acquire(timeout=0) as client:
        assert client.connection is not refused[0]


async def test_a_pool_opens_with_as_many_as_are_needed() -> None:
    """The others come up afterwards, also when they fail at first."""
    peer = Peer(None, TRANSIENT, TRANSIENT, TRANSIENT)
    pool = make(peer, 3)
    await pool.initialize(at_least=1)
    assert pool.get_pool_stats()["total_connections"] == 1
    async with pool.acquire():
        pass
    await asyncio.sleep(60)
    assert pool.get_pool_stats()["total_connections"] == 3
    await pool.close_all()
    peer.script, peer.then = [None], TRANSIENT
    with pytest.raises(PoolUnavailableError, match="could not be opened"):
        await pool.initialize(at_least=2)
    assert peer.open_now == 0


@pytest.mark.parametrize(
    "given", [{"at_least": -1}, {"at_least": True}, {"at_least": 1.5}, {"at_least": "2"}, {"progress": 2}], ids=str
)
async def test_a_pool_does_not_open_with_wrong_arguments(given: Any) -> None:
    """They are named at once, and nothing is opened."""
    peer = Peer()
    pool = make(peer, 2)
    (name,) = given
    with pytest.raises((TypeError, ValueError), match=rf"^initialize\({name}="):
        await pool.initialize(**given)
    nothing_is_left(pool, peer)
    assert peer.tried == 0


async def test_a_pool_opens_without_waiting_for_anything() -> None:
    """And whoever acquires waits for what comes up."""
    pool = make(Peer(delay=2), 2)
    began = now()
    await pool.initialize(at_least=0)
    assert now() == began
    async with pool.acquire():
        assert now() - began == pytest.approx(2)
    await pool.close_all()


async def test_calls_by_attribute(opened: Any) -> None:
    """As on a connection."""
    pool, peer = await opened(2)
    assert await pool.calculator.Add(a=1, b=2) == "reply"
    assert await pool.services["calculator"].Add(a=1, b=2) == "reply"
    assert [item async for item in pool.calculator.Count(to=3)] == [1, 2, 3]
    assert peer.calls == [("calculator.Add", None, {"a": 1, "b": 2})] * 2
    with pytest.raises(AttributeError, match="ConnectionPool has no method 'get_pool_stat'"):
        pool.get_pool_stat()


async def test_a_task_that_waits_for_itself_is_warned_of_with_both_places(opened: Any, caplog: Any) -> None:
    """Where it waits, and where it has taken what it waits for."""
    pool, _ = await opened(2, policy=PoolPolicy(track_leases=True))

    async def outer() -> None:
        async with pool.acquire(), pool.acquire():
            await inner()

    async def inner() -> None:
        async with pool.acquire(timeout=1):
            pass

    with pytest.raises(PoolTimeoutError):
        await outer()
    assert "this task holds all connections" in caplog.text
    assert "in inner" in caplog.text
    assert caplog.text.count("it holds one since") == 2
    assert "/asyncio/" not in caplog.text, "the loop's own frames say nothing"


async def test_a_task_that_waits_for_itself_is_warned_of_without_tracking_too(opened: Any, caplog: Any) -> None:
    """With the place where it waits, and how to learn the others; and nobody else is."""
    pool, _ = await opened(2)

    async def waits_in_vain() -> None:
        async with pool.acquire(timeout=1):
            pass

    async with pool.acquire():
        async with pool.acquire():
            await asyncio.gather(
                asyncio.create_task(waits_in_vain()), return_exceptions=True
            )  # another task: this one may give one back
            assert not caplog.messages
            with pytest.raises(PoolTimeoutError):
                await waits_in_vain()
        await waits_in_vain()
    (told,) = caplog.messages
    assert "in waits_in_vain" in told
    assert "track_leases=True" in told
    caplog.clear()
    held = await pool.acquire()
    (other,) = begun(_use_two(pool))
    await asyncio.sleep(5)
    held.release()
    await other
    assert "this task holds all" not in caplog.text


async def test_who_waits_for_what_is_being_opened_does_not_wait_for_itself(opened: Any, caplog: Any) -> None:
    """However long that has taken, and whatever has failed: it comes without anybody's giving something back."""
    pool, peer = await opened(2)
    peer.then = TRANSIENT
    peer.made[0].gone.set_result(OSError("lost"))
    await settled()
    async with pool.acquire():
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout=5)
    assert "this task holds all" not in caplog.text


async def test_what_stands_by_saves_nobody_from_waiting_for_himself(opened: Any, caplog: Any) -> None:
    """It cannot be leased while as many are as the pool has."""
    pool, _ = await opened(1, policy=PoolPolicy(standby=1))
    async with pool.acquire():
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout=5)
    assert "this task holds all" in caplog.text


async def _use_two(pool: Any) -> None:
    async with pool.acquire(), pool.acquire():
        pass


async def test_what_hangs_while_the_pool_is_partly_open_is_closed_with_it() -> None:
    """Nothing is left of what never came up."""
    peer = Peer(None, then=HANG)
    pool = make(peer, 2)
    await pool.initialize(at_least=1)
    await pool.close_all(timeout=0)
    assert (peer.open_now, pool.slots) == (0, ())


async def test_a_pool_is_made_larger_and_smaller_while_it_is_open(opened: Any) -> None:
    """More are started at once; what is too many goes when nobody uses it."""
    pool, peer = await opened(1, 0)
    held = await pool.acquire()
    (waiting,) = begun(pool.acquire())
    await settled()
    pool.resize(3, 1)
    other = await asyncio.wait_for(waiting, 5)
    await settled()
    assert (pool.pool_size, pool.max_overflow, peer.open_now) == (3, 1, 3)
    pool.resize(1)
    await settled()
    assert (peer.open_now, held.is_held, other.is_held) == (2, True, True)
    other.release()
    held.release()
    await asyncio.sleep(5)
    stats = pool.get_pool_stats()
    assert (stats["total_connections"], stats["available_in_pool"], peer.open_now) == (1, 1, 1)
    await pool.close_all()
    pool.resize(2)
    await pool.initialize()
    assert peer.open_now == 2
    with pytest.raises(ValueError, match="size"):
        pool.resize(0)

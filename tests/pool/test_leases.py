"""Who gets a connection, and how it comes back, in virtual time."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
from typing import Any

import pytest
from peer import HANG, TRANSIENT, Peer

from fsm_conn import (
    Lease,
    LeaseError,
    LinkLostError,
    PoolClosed,
    PoolFullError,
    PoolPolicy,
    PoolTimeoutError,
    PoolUnavailableError,
)

from .conftest import begun, make, now, settled


def lose(peer: Peer, number: int = -1) -> None:
    peer.made[number].gone.set_result(LinkLostError("gone"))


# --- taking and giving back -----------------------------------------------------------------------------------


async def test_a_lease_is_called_as_a_connection_is(opened: Any) -> None:
    """By name, by attribute, as a stream, by `services`; and its connection can be had."""
    pool, peer = await opened(1)
    async with pool.acquire(timeout=2.0) as client:
        assert await client.calculator.Add(a=1, b=2) == "reply"
        assert await client.call("calculator.Add", a=1) == "reply"
        assert await client.services["calculator"].Add(a=1) == "reply"
        assert [item async for item in client.calculator.Count(limit=3)] == [1, 2, 3]
        assert [item async for item in client.stream("calculator.Count")] == [1, 2, 3]
        assert client.connection.state == "connected"
        assert client.is_held
        assert repr(client) == "<lease of <Connection 'pool#1' connected attempt=1>>"
    assert [name for name, _, _ in peer.calls] == ["calculator.Add"] * 3


async def test_a_lease_says_whether_its_connection_is_there(opened: Any) -> None:
    """As the documented pool asks; and never before it is acquired, nor after it was released or cut off."""
    pool, peer = await opened(1)
    client = pool.acquire()
    assert not client.is_connected()
    async with client:
        assert client.is_connected()
        conn = client.connection
        assert conn.is_connected()
        peer.then = HANG
        peer.lose()
        await settled()
        assert (client.is_held, client.is_connected(), conn.is_connected()) == (False, False, False)
        peer.then = None
    assert not client.is_connected()
    await pool.close_all(timeout=0)
    await pool.initialize()
    async with pool.acquire() as client:
        await pool.close_all(timeout=0)
        assert not client.is_connected()


async def test_a_lease_without_a_block(opened: Any) -> None:
    """Awaited, and released by hand."""
    pool, _ = await opened(1)
    client = await pool.acquire()
    assert pool.get_pool_stats()["leased"] == 1
    client.release()
    assert pool.get_pool_stats()["leased"] == 0


async def test_a_lease_released_within_its_block(opened: Any) -> None:
    """Leaving the block does nothing more."""
    pool, _ = await opened(1)
    async with pool.acquire() as client:
        client.release()
        async with pool.acquire():
            pass
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_misuse_of_a_lease_is_told(opened: Any) -> None:
    """Used after release, released twice, used before it was acquired, acquired twice."""
    pool, _ = await opened(2)
    lease = pool.acquire()
    with pytest.raises(LeaseError, match=r"<lease of 'pool', not acquired yet> was used before it was acquired"):
        await lease.call("a.B")
    with pytest.raises(LeaseError, match="was released before it was acquired"):
        lease.release()
    async with lease as client:
        stub = client.calculator
        with pytest.raises(LeaseError, match="was acquired a second time"):
            await lease
    with pytest.raises(LeaseError, match="<lease of 'pool', released> was used after it had been released"):
        await stub.Add(a=1)
    with pytest.raises(LeaseError, match="released again; acquire a lease for each use"):
        client.release()
    with pytest.raises(LeaseError, match="acquired a second time"):
        await lease
    with pytest.raises(AttributeError):
        client._private
    assert pool.get_pool_stats()["available_in_pool"] == 2


async def test_a_lease_is_neither_copied_nor_pickled(opened: Any) -> None:
    """What is given back once must not be had twice."""
    pool, _ = await opened(1)
    async with pool.acquire() as client:
        for spoil in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled: it is released once"):
                spoil(client)
    assert pool.get_pool_stats()["available_in_pool"] == 1


@pytest.mark.parametrize("size", [1, 2])
async def test_who_is_no_task_is_told_so(opened: Any, size: int) -> None:
    """A callback of the loop that drives a lease by hand; whether a connection is free or not."""
    pool, _ = await opened(size)
    told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def drive() -> None:
        try:
            pool.acquire().__aenter__().send(None)
        except BaseException as error:
            told.set_result(error)

    async with pool.acquire():
        asyncio.get_running_loop().call_soon(drive)
        error = await told
    assert isinstance(error, RuntimeError)
    assert "a pool is used by tasks" in str(error)
    assert pool.get_pool_stats()["available_in_pool"] == size


async def test_an_acquire_that_failed_can_be_tried_again(opened: Any) -> None:
    """The same lease object, for it never held anything."""
    pool, _ = await opened(1)
    held = await pool.acquire()
    lease = pool.acquire(timeout=1)
    with pytest.raises(PoolTimeoutError):
        await lease
    held.release()
    assert await lease is lease
    lease.release()


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "2"])
async def test_wrong_timeouts_are_refused(opened: Any, timeout: Any) -> None:
    """When they are given, not when they would pass."""
    pool, _ = await opened(1)
    error = TypeError if isinstance(timeout, str) else ValueError
    with pytest.raises(error, match=r"acquire\(timeout=.*\): give a .*number of seconds"):
        pool.acquire(timeout=timeout)


async def test_a_lease_that_is_dropped_comes_back_and_is_reported(opened: Any, caplog: Any) -> None:
    """Its slot is not lost with it; where it was acquired is told when that is enabled."""
    pool, _ = await opened(1, policy=PoolPolicy(track_leases=True))
    await pool.acquire()
    gc.collect()
    assert "was never released: use 'async with pool.acquire()'; it was acquired at" in caplog.text
    assert "await pool.acquire()" in caplog.text
    assert "fsm_conn/pool" not in caplog.text
    async with pool.acquire(timeout=1):
        pass
    assert pool.get_pool_stats()["stats"]["leaked"] == 1


async def test_a_lease_that_is_acquired_twice_is_watched_on(opened: Any, caplog: Any) -> None:
    """The second attempt is refused, and the first use is reported as if it had not been."""
    pool, _ = await opened(1, policy=PoolPolicy(track_leases=True, lease_limit=10))
    lease = await pool.acquire()
    with pytest.raises(LeaseError, match="acquired a second time"):
        await lease
    await asyncio.sleep(11)
    assert "has been held for 10 s, and is perhaps forgotten; it was acquired at" in caplog.text
    lease.release()


async def test_a_lease_that_was_returned_leaves_no_timer(opened: Any) -> None:
    """However it was returned, and whatever was tried with it meanwhile."""
    pool, _ = await opened(1, policy=PoolPolicy(lease_limit=10))
    for is_twice in (False, True):
        async with pool.acquire() as lease:
            if is_twice:
                with pytest.raises(LeaseError):
                    await lease
    loop: Any = asyncio.get_running_loop()
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []


async def test_a_dropped_lease_says_how_to_learn_more(opened: Any, caplog: Any) -> None:
    """Tracebacks are kept only when that is enabled."""
    pool, _ = await opened(1)
    await pool.acquire()
    assert "PoolPolicy(track_leases=True) tells where" in caplog.text
    await settled()
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_a_lease_dropped_by_a_task_that_failed(opened: Any) -> None:
    """Nothing but the lease itself keeps it: neither its slot nor its task."""
    pool, _ = await opened(1)

    async def fail() -> None:
        lease = await pool.acquire()
        assert lease.is_held
        raise ZeroDivisionError

    gc.disable()
    try:
        await asyncio.gather(*begun(fail()), return_exceptions=True)
        await settled()
        assert pool.get_pool_stats()["available_in_pool"] == 1
    finally:
        gc.enable()


async def test_a_lease_held_for_too_long_is_reported(opened: Any, caplog: Any) -> None:
    """Once, while it is held; and not when it was returned in time."""
    pool, _ = await opened(2, policy=PoolPolicy(lease_limit=10))
    async with pool.acquire():
        async with pool.acquire():
            await asyncio.sleep(9)
        await asyncio.sleep(9)
    assert caplog.text.count("has been held for 10 s, and is perhaps forgotten") == 1
    assert caplog.records[0].levelno == logging.WARNING


# --- waiting --------------------------------------------------------------------------------------------------


async def test_first_come_first_served_also_under_cancellation(opened: Any) -> None:
    """Whoever is cancelled is passed over; the order of the others stays."""
    pool, _ = await opened(1)
    order: list[int] = []

    async def use(number: int) -> None:
        async with pool.acquire():
            order.append(number)
            await asyncio.sleep(1)

    tasks = begun(*(use(number) for number in range(20)))
    await asyncio.sleep(0.5)
    assert pool.get_pool_stats()["waiting"] == 19
    for number in (3, 4, 11, 19):
        tasks[number].cancel()
    await asyncio.sleep(0)
    assert pool.get_pool_stats()["waiting"] == 15
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [number for number in range(20) if number not in (3, 4, 11, 19)]


async def test_those_who_left_do_not_pile_up(opened: Any) -> None:
    """The queue does not grow with acquires that timed out."""
    pool, _ = await opened(1)
    async with pool.acquire():
        for _ in range(20):
            await asyncio.gather(*begun(*(pool.acquire(timeout=1) for _ in range(10))), return_exceptions=True)
        assert len(pool._line._queue) < 50
    assert pool.get_pool_stats()["stats"]["timeouts"] == 200


async def test_a_waiter_that_is_cancelled_as_it_is_served_gives_the_slot_on(opened: Any) -> None:
    """Neither lost nor served twice: the next one has it."""
    pool, _ = await opened(1)
    held = await pool.acquire()
    first, second = begun(pool.acquire(), pool.acquire())
    await settled()
    held.release()
    first.cancel()
    lease = await second
    assert first.cancelled()
    assert lease.is_held
    lease.release()
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_a_waiter_whose_connection_is_lost_as_it_is_served_waits_on(opened: Any) -> None:
    """It gets one that is not lost, and before everybody else."""
    pool, peer = await opened(1)
    held = await pool.acquire()
    first, second = begun(pool.acquire(), pool.acquire())
    await settled()
    conn = held.connection
    held.release()
    conn.fire("reconnect")
    lease = await first
    assert lease.connection.state == "connected"
    assert peer.opened == 2
    lease.release()
    (await second).release()


async def test_a_timeout_is_a_deadline_over_everything(opened: Any) -> None:
    """Waiting and starting together take no longer, and the error says whose and how long."""
    pool, _ = await opened(1, 1, peer=Peer(None, then=HANG))
    async with pool.acquire():
        began = now()
        with pytest.raises(PoolTimeoutError, match=r"1 leased.*no connection became free within 2 s"):
            await pool.acquire(timeout=2)
        assert now() - began == pytest.approx(2)
    assert pool.get_pool_stats()["stats"]["timeouts"] == 1


async def test_the_policys_timeout_holds_when_none_is_given(opened: Any) -> None:
    """And a given one goes before it."""
    pool, _ = await opened(1, policy=PoolPolicy(acquire_timeout=3))
    async with pool.acquire():
        began = now()
        with pytest.raises(PoolTimeoutError, match="3 s"):
            await pool.acquire()
        with pytest.raises(PoolTimeoutError, match="1 s"):
            await pool.acquire(timeout=1)
        assert now() - began == pytest.approx(4)


async def test_wait_for_and_timeout_are_honest(opened: Any) -> None:
    """The standard library's limits work, and nothing is lost by them."""
    pool, _ = await opened(1)
    async with pool.acquire():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.acquire(), 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                async with pool.acquire():
                    pass
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_no_more_wait_than_the_policy_allows(opened: Any) -> None:
    """One more is refused at once; who waits for overflow that is started for him does not count."""
    pool, _ = await opened(1, 1, policy=PoolPolicy(max_waiters=1), peer=Peer(delay=1))
    first = await pool.acquire()
    tasks = begun(pool.acquire(), pool.acquire())
    await settled()
    with pytest.raises(PoolFullError, match="1 wait for a connection already, and max_waiters allows no more"):
        await pool.acquire()
    overflow = await tasks[0]
    first.release()
    overflow.release()
    (await tasks[1]).release()
    assert pool.get_pool_stats()["stats"]["refused"] == 1


@pytest.mark.parametrize("most", [1, 2])
async def test_as_many_wait_when_less_overflow_is_allowed_than_there_is(opened: Any, most: int) -> None:
    """What is still leased beyond the new limit is nobody's place in the queue."""
    pool, _ = await opened(1, 2, policy=PoolPolicy(max_waiters=most))
    leases = [await pool.acquire() for _ in range(3)]
    pool.resize(max_overflow=0)
    tasks = begun(*(pool.acquire() for _ in range(most)))
    await settled()
    assert not any(task.done() for task in tasks)
    with pytest.raises(PoolFullError, match=f"{most} wait for a connection already"):
        await pool.acquire()
    for lease in leases:
        lease.release()
    for task in tasks:
        (await task).release()


async def test_a_task_that_waits_for_itself_is_warned_when_less_overflow_is_allowed(
    opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """No connection can be started for it."""
    pool, _ = await opened(1, 2)
    leases = [await pool.acquire() for _ in range(3)]
    pool.resize(max_overflow=0)
    with pytest.raises(PoolTimeoutError):
        await pool.acquire(timeout=0.1)
    assert "holds" in caplog.text
    for lease in leases:
        lease.release()


async def test_several_leases_of_one_connection(opened: Any) -> None:
    """The one with the fewest is taken; overflow only when all are full."""
    pool, peer = await opened(2, 1, policy=PoolPolicy(leases_per_connection=2))
    leases = [await pool.acquire() for _ in range(4)]
    names = [lease.connection.name for lease in leases]
    assert sorted(names[:2]) == sorted(names[2:]) == ["pool#1", "pool#2"]
    assert peer.tried == 2
    fifth = await pool.acquire()
    assert fifth.connection.name == "pool#3"
    for lease in (*leases, fifth):
        lease.release()
    assert pool.get_pool_stats()["leased"] == 0


# --- hooks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_hooks_are_called_with_the_connection(opened: Any, is_async: bool) -> None:
    """on_open once per link, on_acquire before and on_release after each lease."""
    told: list[tuple[str, str]] = []

    def hook(what: str) -> Any:
        async def slow(conn: Any) -> None:
            await asyncio.sleep(0.1)
            told.append((what, conn.name))

        return slow if is_async else lambda conn: told.append((what, conn.name))

    pool, peer = await opened(1, on_open=hook("open"), on_acquire=hook("acquire"), on_release=hook("release"))
    for _ in range(2):
        async with pool.acquire():
            told.append(("use", ""))
    await asyncio.sleep(1)
    lose(peer)
    await settled()
    async with pool.acquire():
        pass
    await asyncio.sleep(1)
    lease = [("acquire", "pool#1"), ("use", ""), ("release", "pool#1")]
    end = [("open", "pool#1"), ("acquire", "pool#1"), ("release", "pool#1")]
    assert told == [("open", "pool#1"), *lease, *lease, *end]


async def test_nobody_gets_a_connection_before_it_was_reset(opened: Any) -> None:
    """And for one that is being reset no overflow is started."""
    done = asyncio.Event()

    async def reset(conn: Any) -> None:
        await done.wait()

    pool, peer = await opened(1, 1, on_release=reset)
    (await pool.acquire()).release()
    (task,) = begun(pool.acquire())
    await settled()
    assert not task.done()
    assert peer.tried == 1
    done.set()
    (await task).release()
    await settled()
    assert pool.get_pool_stats()["available_in_pool"] == 1


@pytest.mark.parametrize("is_async", [False, True])
async def test_when_on_release_fails_the_link_is_replaced(opened: Any, is_async: bool) -> None:
    """Who waits gets a fresh one."""

    async def slow(conn: Any) -> None:
        raise OSError("could not reset")

    def fast(conn: Any) -> None:
        raise OSError("could not reset")

    pool, peer = await opened(1, on_release=slow if is_async else fast)
    (await pool.acquire()).release()
    async with pool.acquire(timeout=5):
        assert (peer.opened, peer.closed) == (2, 1)


@pytest.mark.parametrize("is_async", [False, True])
async def test_when_on_acquire_refuses_another_connection_is_tried(opened: Any, is_async: bool) -> None:
    """The refused one's link is replaced."""
    refused = ["pool#1", "pool#2"]

    def check(conn: Any) -> None:
        if conn.name in refused:
            refused.remove(conn.name)
            raise OSError("stale")

    async def slow(conn: Any) -> None:
        await asyncio.sleep(0)
        check(conn)

    pool, peer = await opened(3, on_acquire=slow if is_async else check)
    async with pool.acquire():
        await settled()
    leases = [await pool.acquire() for _ in range(3)]
    assert refused == []
    assert peer.opened == 5
    for lease in leases:
        lease.release()


async def test_when_on_acquire_refuses_all_its_error_is_raised(opened: Any) -> None:
    """After one more than there are connections, and nothing is lost."""
    allowed = False

    def check(conn: Any) -> None:
        if not allowed:
            raise OSError("never")

    pool, _ = await opened(2, on_acquire=check)
    with pytest.raises(OSError, match="never"):
        await pool.acquire()
    allowed = True
    await settled()
    assert pool.get_pool_stats()["available_in_pool"] == 2


@pytest.mark.parametrize(("size", "overflow", "standby"), [(1, 2, 0), (1, 0, 2), (5, 2, 1)])
async def test_all_links_may_be_stale(opened: Any, size: int, overflow: int, standby: int) -> None:
    """Also overflow and standby, as after a failover: each is refused and replaced, and the caller gets a fresh one."""
    stale: set[Any] = set()

    def check(conn: Any) -> None:
        if conn.link in stale:
            raise OSError("stale")

    policy = PoolPolicy(standby=standby, overflow_linger=60)
    pool, _ = await opened(size, overflow, on_acquire=check, policy=policy)
    for timeout in (None, 5.0):
        for lease in [await pool.acquire() for _ in range(size + overflow)]:
            lease.release()
        stale |= {conn.link for conn in pool.connections}
        async with pool.acquire(timeout) as client:
            assert client.connection.link not in stale


async def test_on_acquire_has_the_time_of_the_acquire(opened: Any) -> None:
    """A check that hangs ends with the timeout, and gives the connection back; nobody reads what it has left."""

    async def hang(conn: Any) -> None:
        await asyncio.sleep(100)

    pool, peer = await opened(1, on_acquire=hang)
    with pytest.raises(PoolTimeoutError):
        await pool.acquire(timeout=1)
    await settled()
    assert (pool.get_pool_stats()["available_in_pool"], peer.opened) == (1, 2)


async def test_a_connection_lost_under_on_acquire_is_not_leased(opened: Any) -> None:
    """The caller gets one that is not lost."""
    pool, peer = await opened(2, on_acquire=lambda conn: asyncio.sleep(1))
    (task,) = begun(pool.acquire())
    await asyncio.sleep(0.5)
    lose(peer)
    lease = await task
    assert lease.connection.state == "connected"
    lease.release()


async def test_a_hook_that_exits_the_program_does_not_keep_the_slot(opened: Any) -> None:
    """Whatever is raised, the slot is given back."""

    def leave(conn: Any) -> None:
        raise asyncio.CancelledError

    pool, _ = await opened(1, on_release=leave)
    lease = await pool.acquire()
    with pytest.raises(asyncio.CancelledError):
        lease.release()
    assert pool.get_pool_stats()["leased"] == 0


async def test_hooks_and_observers_may_use_the_pool(opened: Any) -> None:
    """A hook that calls the pool, an observer that gives a lease back, and one that acquires."""
    pool: Any = None
    begun_by_observer: list[asyncio.Task[Lease]] = []

    looked = False

    async def look(conn: Any) -> None:
        nonlocal looked
        if not looked:
            looked = True
            async with pool.acquire(timeout=5) as other:
                assert other.connection is not conn

    pool, _ = await opened(2, on_release=look)
    lease = await pool.acquire()

    def observe(record: Any) -> None:
        if record.dest == "reconnecting":
            lease.release()
            begun_by_observer.extend(begun(pool.acquire()))

    lease.connection.on_transition(observe)
    lease.connection.fire("reconnect")
    assert not lease.is_held
    (await begun_by_observer[0]).release()
    await settled(100)
    await asyncio.sleep(1)
    assert pool.get_pool_stats()["available_in_pool"] == 2


# --- when nothing can be had --------------------------------------------------------------------------------------


async def test_who_waits_is_told_promptly_when_nothing_can_connect(opened: Any) -> None:
    """With the causes, if he has named no time to wait; and served again when the peer is back."""
    pool, peer = await opened(2)
    held = [await pool.acquire(), await pool.acquire()]
    peer.then = TRANSIENT
    waiting = begun(pool.acquire())
    began = now()
    lose(peer, 0)
    lose(peer, 1)
    with pytest.raises(PoolUnavailableError, match=r"has no connection: try again$") as caught:
        await waiting[0]
    assert caught.value.causes == (TRANSIENT, TRANSIENT)
    assert caught.value.__cause__ is TRANSIENT
    with pytest.raises(PoolUnavailableError):
        await pool.acquire()
    with pytest.raises(PoolUnavailableError):
        await pool.call("a.B")
    assert now() - began < 1
    for lease in held:
        lease.release()
    await asyncio.sleep(60)
    peer.then = None
    await asyncio.sleep(60)
    assert pool.get_pool_stats()["available_in_pool"] == 2
    async with pool.acquire():
        pass


async def test_a_failed_slot_is_tried_anew_with_growing_pauses(opened: Any) -> None:
    """Also when its connection fails for good each time."""
    peer = Peer()
    pool, _ = await opened(1, peer=peer)
    peer.then = TRANSIENT
    lose(peer)
    await asyncio.sleep(600)
    tries = [later - earlier for earlier, later in zip(peer.open_times, peer.open_times[1:], strict=False)]
    assert len(tries) > 10
    assert 30 <= max(tries) <= 60
    assert max(tries[:3]) < max(tries[-6:])
    peer.then = None
    async with pool.acquire(timeout=61):
        pass
    assert pool.get_pool_stats()["total_connections"] == 1


async def test_waiters_wait_on_while_a_lease_may_come_back(opened: Any) -> None:
    """Overflow that cannot be had is tried again, and the first of both serves."""
    peer = Peer(None)
    pool, _ = await opened(1, 1, peer=peer)
    peer.then = TRANSIENT
    held = await pool.acquire()
    first, second = begun(pool.acquire(), pool.acquire())
    await asyncio.sleep(30)
    assert not first.done()
    assert len(peer.open_times) > 5
    held.release()
    lease = await first
    peer.then = None
    overflow = await second
    assert overflow.connection is not lease.connection
    lease.release()
    overflow.release()


async def test_overflow_that_cannot_be_had_is_given_up_when_nobody_waits(opened: Any) -> None:
    """It is not tried for ever."""
    peer = Peer(None)
    pool, _ = await opened(1, 1, peer=peer)
    peer.then = TRANSIENT
    async with pool.acquire():
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout=1)
    await asyncio.sleep(60)
    tried = peer.tried
    await asyncio.sleep(600)
    assert peer.tried == tried
    assert len(pool.slots) == 1


async def test_a_closed_pool_says_what_to_do(opened: Any) -> None:
    """Acquiring, and calling."""
    pool, _ = await opened(1)
    await pool.close_all()
    for use in (pool.acquire(), pool.call("a.B"), anext(pool.stream("a.B"))):
        with pytest.raises(PoolClosed, match=r"is closed: 'await pool.initialize\(\)' first, or use 'async with'"):
            await use


async def test_a_lease_of_a_pool_that_was_dropped_is_told() -> None:
    """Who acquires from it, when nobody has it any more, is told which pool it was."""
    pool = make(Peer(), name="lost")
    lease = pool.acquire()
    del pool
    gc.collect()
    with pytest.raises(PoolClosed, match=r"^the pool 'lost' is gone$"):
        await lease


async def test_a_lease_that_a_closing_pool_did_not_wait_for_is_told(opened: Any) -> None:
    """It was not the link that was lost."""
    pool, _ = await opened(1)
    lease = await pool.acquire()
    await pool.close_all(timeout=0)
    with pytest.raises(PoolClosed, match=r"is closed: 'await pool.initialize\(\)' first"):
        _ = lease.connection
    lease.release()

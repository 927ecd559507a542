"""The life of a pool, and which connections it has, in virtual time."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import random
import subprocess
import sys
import textwrap
import weakref
from typing import Any

import pytest
from peer import HANG, TRANSIENT, Peer, Permanent

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionLostError,
    ConnectionPool,
    LinkLostError,
    PoolClosed,
    PoolPolicy,
    PoolState,
    PoolUnavailableError,
    Trigger,
    insert_state,
)
from fsm_conn.testing import run_virtually

from .conftest import begun, make, nothing_is_left, now, settled

S = PoolState
IDEMPOTENT = CallOptions(idempotent=True)


def lose(peer: Peer, number: int = -1) -> None:
    peer.made[number].gone.set_result(LinkLostError("gone"))


def states(pool: ConnectionPool) -> list[str]:
    return [str(record.dest) for record in pool.history]


# --- making one -------------------------------------------------------------------------------------------------


async def test_a_whole_life() -> None:
    """Opened, used, closed, and opened again; each state entered once, and nothing left."""
    peer = Peer(delay=1)
    pool = make(peer, 3)
    assert pool.state is S.CLOSED
    for _ in range(2):
        await pool.initialize()
        assert (pool.state, peer.open_now) == (S.OPEN, 3)
        async with pool.acquire():
            pass
        await pool.close_all()
        nothing_is_left(pool, peer)
    assert states(pool) == ["opening", "open", "draining", "closed"] * 2


async def test_async_with_opens_and_closes_also_on_an_error() -> None:
    """As documented."""
    peer = Peer()
    with pytest.raises(ZeroDivisionError):
        async with make(peer) as pool:
            assert pool.state is S.OPEN
            raise ZeroDivisionError
    nothing_is_left(pool, peer)


async def test_the_documented_defaults() -> None:
    """Five, and two of overflow; sizes given beside a policy go before it."""
    assert ConnectionPool(["x"]).policy == PoolPolicy(size=5, max_overflow=2)
    assert ConnectionPool(["x"], 3, 1, policy=PoolPolicy(standby=1)).policy == PoolPolicy(
        size=3, max_overflow=1, standby=1
    )
    pool = ConnectionPool(["x"], policy=PoolPolicy(size=4, max_overflow=3))
    assert (pool.pool_size, pool.max_overflow) == (4, 3)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"pool_size": 0}, ValueError, r"PoolPolicy\(size=0\): give 1 or more"),
        ({"pool_size": "3"}, TypeError, r"size='3'"),
        ({"max_overflow": -1}, ValueError, r"max_overflow=-1"),
        ({"policy": 5}, TypeError, r"policy=5: give a PoolPolicy"),
        ({"connection_class": int}, TypeError, r"give a subclass of Connection"),
        ({"on_open": 1}, TypeError, r"on_open=1: give a function"),
        ({"on_acquire": "x"}, TypeError, r"on_acquire='x'"),
        ({"on_release": []}, TypeError, r"on_release=\[\]"),
        ({"rng": 1}, TypeError, r"rng=1: give a random.Random"),
        ({"start_timeout": 0}, ValueError, r"start_timeout=0"),
        ({"retry": 3}, TypeError, r"retry=3"),
        ({"no_such_option": 3}, TypeError, r"no_such_option"),
    ],
)
async def test_wrong_options_are_refused_when_they_are_given(options: Any, error: Any, match: str) -> None:
    """Not when the first connection is made."""
    with pytest.raises(error, match=match):
        ConnectionPool(Peer(), **options)


@pytest.mark.parametrize(
    "values",
    [
        {"standby": -1},
        {"leases_per_connection": 0},
        {"acquire_timeout": 0},
        {"max_waiters": -1},
        {"max_lifetime": 0},
        {"max_idle": 0},
        {"overflow_linger": -1},
        {"jitter": 2},
        {"lease_limit": 0},
        {"min_idle": 6},
    ],
)
def test_wrong_policies_are_refused(values: Any) -> None:
    """With the value as it was given."""
    name, value = next(iter(values.items()))
    with pytest.raises(ValueError, match=rf"PoolPolicy\({name}={value}\): give"):
        PoolPolicy(**values)
    with pytest.raises(TypeError):
        PoolPolicy(track_leases=1)
    with pytest.raises(TypeError):
        PoolPolicy(replacement=5)


async def test_a_pool_is_neither_copied_nor_pickled() -> None:
    """It says what to do instead."""
    for attempt in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="make another pool for the same target"):
            attempt(make(Peer()))


async def test_a_pool_at_rest_is_freed_by_reference_counting() -> None:
    """Also after it was used."""
    peer = Peer()
    pool = make(peer)
    async with pool, pool.acquire():
        pass
    await settled()
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(pool)
        del pool
        assert gone() is None
    finally:
        gc.enable()


# --- opening -----------------------------------------------------------------------------------------------------


async def test_all_are_opened_together_and_progress_is_told() -> None:
    """At once, as far as links admit it."""
    peer = Peer(delay=1)
    pool = make(peer, 4)
    told: list[tuple[int, int]] = []
    began = now()
    await pool.initialize(lambda ready, of: told.append((ready, of)))
    assert now() - began == pytest.approx(1)
    assert (told[0], told[-1]) == ((0, 4), (4, 4))
    await pool.close_all()


async def test_callers_share_one_opening() -> None:
    """Each connection is made once, and all callers return."""
    peer = Peer(delay=1)
    pool = make(peer, 2)
    await asyncio.gather(*(pool.initialize() for _ in range(10)))
    await pool.initialize()
    assert peer.tried == 2
    await pool.close_all()


async def test_when_one_cannot_be_opened_none_stays_and_all_causes_are_told() -> None:
    """Each caller has an error of his own."""
    peer = Peer(None, Permanent("no such plugin"), None)
    pool = make(peer, 3)
    errors = await asyncio.gather(pool.initialize(), pool.initialize(), *begun(pool.acquire()), return_exceptions=True)
    await settled()
    nothing_is_left(pool, peer)
    assert all(type(error) is PoolUnavailableError for error in errors[:2])
    assert errors[0] is not errors[1]
    assert "could not be opened: no such plugin" in str(errors[0])
    assert [str(cause) for cause in errors[0].causes] == ["no such plugin"]


async def test_who_waits_for_an_opening_that_fails_is_told_the_cause() -> None:
    """And who waits for one that succeeds is served by the first that is up."""
    peer = Peer(TRANSIENT, delay=1, then=TRANSIENT)
    pool = make(peer, 1)
    opening = begun(pool.initialize())
    await settled()
    with pytest.raises(PoolUnavailableError, match="could not be opened: try again"):
        await pool.acquire()
    await asyncio.gather(*opening, return_exceptions=True)
    peer.then = None
    peer.script = [None, HANG]
    pool = make(peer, 2)
    opening = begun(pool.initialize())
    await settled()
    lease = await pool.acquire()
    assert pool.state is S.OPENING
    lease.release()
    await pool.close_all()
    await asyncio.gather(*opening, return_exceptions=True)
    nothing_is_left(pool, peer)


async def test_an_opening_whose_last_caller_is_cancelled_is_abandoned() -> None:
    """By the time the cancellation goes on, nothing is left; one caller of two is cancelled alone."""
    peer = Peer(None, then=HANG)
    pool = make(peer, 2)
    one, other = begun(pool.initialize(), pool.initialize())
    await settled()
    one.cancel()
    await settled()
    assert pool.state is S.OPENING
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(other, 1)
    nothing_is_left(pool, peer)


async def test_closing_ends_an_opening() -> None:
    """Whoever opened, or waits for a lease, is told so at once."""
    peer = Peer(None, then=HANG)
    pool = make(peer, 2)
    tasks = begun(pool.initialize(), pool.initialize())
    await settled()
    async with pool.acquire():
        tasks += begun(pool.acquire())
        await settled()
        await pool.close_all()
    for task in tasks:
        with pytest.raises(PoolClosed):
            await task
    nothing_is_left(pool, peer)


async def test_on_open_that_fails_fails_the_opening(caplog: Any) -> None:
    """With its error as the cause, and nothing left."""

    def greet(conn: Connection) -> None:
        raise PermissionError("wrong token")

    peer = Peer()
    pool = make(peer, 2, on_open=greet)
    with pytest.raises(PoolUnavailableError, match="wrong token") as caught:
        await pool.initialize()
    assert isinstance(caught.value.causes[0], PermissionError)
    assert peer.opened == 2
    nothing_is_left(pool, peer)


async def test_on_open_has_a_limit() -> None:
    """A hook that hangs, or waits for the pool that waits for it, does not hang the opening."""
    peer = Peer()
    pool: Any = make(peer, 1, on_open=lambda conn: pool.initialize(), start_timeout=3)
    with pytest.raises(PoolUnavailableError, match="on_open did not end within 3 s"):
        await pool.initialize()
    nothing_is_left(pool, peer)


async def test_a_link_lost_under_on_open_is_not_leased(opened: Any) -> None:
    """The next one is greeted in its turn."""
    greeted: list[Any] = []

    async def greet(conn: Connection) -> None:
        link = conn.link
        await asyncio.sleep(1)
        greeted.append(link)

    peer = Peer()
    pool = make(peer, 1, on_open=greet)
    opening = begun(pool.initialize())
    await asyncio.sleep(0.5)
    lose(peer)
    await opening[0]
    async with pool.acquire() as client:
        assert client.connection.link is greeted[-1] is peer.made[1]
    await pool.close_all()


async def test_progress_that_raises_ends_the_opening(caplog: Any) -> None:
    """As a bug that can be seen."""
    peer = Peer()
    pool = make(peer)
    with pytest.raises(PoolClosed, match="closed by an error: ZeroDivisionError"):
        await pool.initialize(lambda ready, of: 1 // 0)
    nothing_is_left(pool, peer)


# --- closing ------------------------------------------------------------------------------------------------------


async def test_closing_refuses_wakes_and_waits() -> None:
    """New acquires are refused, waiters are told at once, leases are waited for, and closed under who keeps them."""
    peer = Peer()
    pool = make(peer, 2)
    await pool.initialize()
    good, bad = await pool.acquire(), await pool.acquire()
    (waiter,) = begun(pool.acquire(timeout=100))
    await settled()
    began = now()
    (closing,) = begun(pool.close_all(timeout=5))
    # The leases are this task's, and the closing another's.
    await settled()
    with pytest.raises(PoolClosed, match="is being closed and serves no more callers"):
        await waiter
    with pytest.raises(PoolClosed, match="is being closed and serves no more callers"):
        await pool.acquire()
    assert await good.call("a.B") == "reply"
    good.release()
    await asyncio.sleep(3)
    assert not closing.done()
    await closing
    assert now() - began == pytest.approx(5)
    nothing_is_left(pool, peer)
    assert not bad.is_held
    with pytest.raises(PoolClosed, match="is closed"):
        await bad.call("a.B")
    bad.release()


async def test_closing_ends_when_the_last_lease_is_returned() -> None:
    """Not later; without a limit, it waits as long as that takes."""
    pool = make(Peer(), 1)
    await pool.initialize()
    lease = await pool.acquire()
    (closing,) = begun(pool.close_all(timeout=None))
    await asyncio.sleep(1000)
    began = now()
    lease.release()
    await closing
    assert now() == began


async def test_closing_waits_for_calls_without_a_lease() -> None:
    """They end well, or are cut off when the time is up."""
    peer = Peer()
    answer = asyncio.get_running_loop().create_future()
    pool = make(peer, 1)
    await pool.initialize()

    async def slow_call(*args: Any) -> Any:
        return await answer

    peer.link.call = slow_call  # type: ignore[method-assign]
    (call,) = begun(pool.call("a.B"))
    await settled()
    (closing,) = begun(pool.close_all(timeout=5))
    await asyncio.sleep(2)
    assert not closing.done()
    answer.set_result("late")
    await closing
    assert await call == "late"


async def test_closing_twice_and_at_the_same_time() -> None:
    """Closers join; the shorter limit counts; closing what is closed does nothing."""
    peer = Peer()
    pool = make(peer, 1)
    await pool.close_all()
    await pool.initialize()
    lease = await pool.acquire()
    began = now()
    await asyncio.gather(*begun(pool.close_all(timeout=None), pool.close_all(timeout=3), pool.close_all(timeout=50)))
    assert now() - began == pytest.approx(3)
    await pool.close_all()
    nothing_is_left(pool, peer)
    assert not lease.is_held


async def test_closing_from_a_lease() -> None:
    """What the closing task holds itself is not waited for; what others hold is."""
    peer = Peer()
    pool = make(peer, 2)
    await pool.initialize()

    async def use_and_close() -> None:
        async with pool.acquire():
            await asyncio.sleep(1)
            await pool.close_all(timeout=100)

    began = now()
    await asyncio.gather(*begun(use_and_close(), use_and_close()))
    assert now() - began == pytest.approx(1)
    nothing_is_left(pool, peer)


@pytest.mark.parametrize("hook", ["on_open", "on_acquire", "on_release"])
async def test_closing_from_a_hook(hook: str) -> None:
    """Ends the pool, and hangs nothing."""
    peer = Peer()
    armed = False

    async def close(conn: Connection) -> None:
        if armed:
            await pool.close_all(timeout=100)

    pool: Any = make(peer, 1, **{hook: close})
    await pool.initialize()
    armed, began = True, now()
    if hook == "on_open":
        lose(peer)
    else:
        try:
            async with pool.acquire():
                pass
        except PoolClosed:
            assert hook == "on_acquire"
    await asyncio.sleep(1)
    assert now() - began == pytest.approx(1)
    nothing_is_left(pool, peer)


async def test_closing_from_an_observer() -> None:
    """An async observer of the pool may close it, and use it."""
    peer = Peer()
    pool = make(peer, 1)

    async def close(record: Any) -> None:
        if record.dest == S.OPEN:
            await pool.close_all()

    pool.on_transition(close)
    await pool.initialize()
    await pool.wait_for_state("closed")
    await settled()
    nothing_is_left(pool, peer)


async def test_a_closer_that_is_cancelled_leaves_the_closing_under_way() -> None:
    """And its own leases count again."""
    pool = make(Peer(), 1)
    await pool.initialize()
    lease = await pool.acquire()
    (closing,) = begun(pool.close_all(timeout=10))
    await asyncio.sleep(1)
    closing.cancel()
    await pool.wait_for_state("closed")
    assert not lease.is_held


NO_SECONDS = [(-1, ValueError), (float("nan"), ValueError), (10**5000, ValueError), ("1", TypeError), (True, TypeError)]


@pytest.mark.parametrize(("timeout", "error"), NO_SECONDS, ids=["negative", "nan", "huge", "text", "bool"])
async def test_wrong_limits_are_refused(timeout: Any, error: type[Exception]) -> None:
    """And named, and nothing is acquired, and nothing is closed."""
    async with make(Peer()) as pool:
        with pytest.raises(error, match=r"^close_all\(timeout=.{1,40}\): give a .* or None for no limit$"):
            await pool.close_all(timeout=timeout)
        with pytest.raises(error, match=r"^acquire\(timeout=.{1,40}\): give a .* or None for the policy's$"):
            pool.acquire(timeout)
        assert pool.state is S.OPEN


async def test_a_reset_that_ignores_its_cancellation_does_not_hang_the_closing() -> None:
    """It is left behind after a while."""
    done = asyncio.Event()

    async def stubborn(conn: Connection) -> None:
        while not done.is_set():
            try:
                await done.wait()
            except asyncio.CancelledError:
                continue

    pool = make(Peer(), 1, on_release=stubborn)
    await pool.initialize()
    (await pool.acquire()).release()
    await settled()
    await pool.close_all(timeout=1)
    assert pool.state is S.CLOSED
    done.set()
    await settled()


# --- overflow, standby, idleness, age ---------------------------------------------------------------------------------


async def test_overflow_starts_at_once_and_the_waiter_takes_what_comes_first(opened: Any) -> None:
    """Not after a second; and a returned slot serves as well. It is closed when nobody needs it."""
    peer = Peer(delay=1)
    pool, _ = await opened(1, 1, peer=peer)
    held = await pool.acquire()
    first, second = begun(pool.acquire(), pool.acquire())
    await settled()
    assert peer.tried == 2
    held.release()
    lease = await first
    assert lease.connection.name == "pool#1"
    overflow = await second
    assert overflow.connection.name == "pool#2"
    overflow.release()
    async with pool.acquire() as again:
        assert again.connection.name == "pool#2"
    lease.release()
    async with pool.acquire() as again:
        assert again.connection.name == "pool#1"  # overflow is used last, so that it can go
    stats = pool.get_pool_stats()
    assert (stats["total_connections"], stats["overflow_connections"]) == (2, 1)
    await asyncio.sleep(6)
    stats = pool.get_pool_stats()
    assert (stats["total_connections"], stats["overflow_connections"]) == (1, 0)
    assert stats["stats"]["overflow_used"] == stats["stats"]["pool_misses"] == 1


async def test_overflow_without_linger_is_closed_when_it_is_returned(opened: Any) -> None:
    """Unless somebody waits for it."""
    pool, peer = await opened(1, 1, policy=PoolPolicy(overflow_linger=0))
    async with pool.acquire():
        overflow = await pool.acquire()
        (waiter,) = begun(pool.acquire())
        await settled()
        overflow.release()
        overflow = await waiter
        assert peer.tried == 2
        overflow.release()
        await settled()
        assert peer.open_now == 1


async def test_standby_takes_the_place_of_what_is_lost(opened: Any) -> None:
    """At once, without a start; it is not leased before; and the lost one stands by when it is back."""
    peer = Peer()
    pool, _ = await opened(1, 0, policy=PoolPolicy(standby=1), peer=peer)
    assert peer.opened == 2
    peer.delay = 5
    held = await pool.acquire()
    (waiter,) = begun(pool.acquire())
    await settled()
    assert not waiter.done()
    began = now()
    lose(peer, 0)
    lease = await waiter
    assert now() == began
    assert lease.connection.name == "pool#2"
    await asyncio.sleep(20)
    stats = pool.get_pool_stats()
    assert (stats["standby"], stats["total_connections"], stats["leased"]) == (1, 2, 1)
    held.release()
    assert pool.get_pool_stats()["available_in_pool"] == 0
    lease.release()
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_idle_connections_are_closed_down_to_the_least_and_come_when_needed(opened: Any) -> None:
    """Also when all of them are closed."""
    peer = Peer()
    pool, _ = await opened(3, 0, policy=PoolPolicy(max_idle=10, min_idle=1), peer=peer)
    lease = await pool.acquire()
    await asyncio.sleep(30)
    assert peer.open_now == 1
    lease.release()
    await asyncio.sleep(30)
    assert peer.open_now == 1
    leases = await asyncio.gather(*begun(*(pool.acquire(timeout=5) for _ in range(3))))
    assert peer.open_now == 3
    for lease in leases:
        lease.release()
    pool, peer = await opened(2, 1, policy=PoolPolicy(max_idle=10))
    await asyncio.sleep(30)
    assert (peer.open_now, pool.get_pool_stats()["available_in_pool"]) == (0, 0)
    assert await pool.call("a.B") == "reply"
    async with pool.acquire(), pool.acquire():
        assert pool.get_pool_stats()["stats"]["overflow_used"] == 0


async def test_calls_count_as_use(opened: Any) -> None:
    """A pool that is only called through is not idle."""
    pool, peer = await opened(1, 0, policy=PoolPolicy(max_idle=10))
    for _ in range(10):
        await pool.call("a.B")
        await asyncio.sleep(9)
    assert peer.opened == 1


async def test_links_are_replaced_when_they_are_old(opened: Any) -> None:
    """Each at a moment of its own; never while it is leased."""
    pool, peer = await opened(4, 0, policy=PoolPolicy(max_lifetime=100, jitter=0.5), peer=Peer(), rng=random.Random(1))
    lease = await pool.acquire()
    mine = lease.connection.link
    await asyncio.sleep(99)
    assert peer.closed >= 3
    ages = sorted(peer.open_times[4:7])
    assert len(set(ages)) == 3
    await asyncio.sleep(2)
    assert lease.connection.link is mine
    lease.release()
    await settled()
    assert not mine.is_open or mine.closes == 1
    assert pool.get_pool_stats()["total_connections"] == 4


async def test_a_killed_slot_comes_back(opened: Any) -> None:
    """Whoever held it: the connection reconnects by its own machine."""
    peer = Peer()
    pool, _ = await opened(2, 0, peer=peer)
    lease = await pool.acquire()
    lose(peer, 0)
    lose(peer, 1)
    await asyncio.sleep(5)
    assert pool.get_pool_stats()["available_in_pool"] == 2
    lease.release()
    assert pool.get_pool_stats()["available_in_pool"] == 2


async def test_a_connection_that_was_disconnected_under_the_pool_comes_back(opened: Any) -> None:
    """Whatever a holder does to it."""
    pool, _ = await opened(1)
    async with pool.acquire() as client:
        await client.connection.disconnect()
    await asyncio.sleep(1)
    async with pool.acquire(timeout=1) as client:
        assert await client.call("a.B") == "reply"


async def test_a_slot_whose_task_is_cancelled_is_kept_on(opened: Any) -> None:
    """Nobody can take a slot from a pool."""
    pool, peer = await opened(1)
    peer.delay = 1
    peer.lose()
    await asyncio.sleep(0.5)
    pool.slots[0].activity_task.cancel()
    async with pool.acquire(timeout=10):
        pass


# --- calls without a lease ------------------------------------------------------------------------------------------


async def test_calls_go_through_the_least_busy_connection(opened: Any) -> None:
    """No lease is held; leases count as use."""
    peer = Peer()
    pool, _ = await opened(2, peer=peer)
    used: list[Any] = []
    for link in peer.made:

        async def call(*args: Any, link: Any = link) -> str:
            used.append(link)
            await asyncio.sleep(1)
            return "reply"

        link.call = call  # type: ignore[method-assign]
    await asyncio.gather(*(pool.call("a.B") for _ in range(4)))
    assert sorted(map(used.count, peer.made)) == [2, 2]
    used.clear()
    async with pool.acquire() as client:
        await pool.call("a.B")
        assert used == [link for link in peer.made if link is not client.connection.link]
    assert [item async for item in pool.stream("a.B")] == [1, 2, 3]
    assert [item async for item in pool.stream("a.B", CallOptions(wait_for_ready=True))] == [1, 2, 3]


async def test_an_idempotent_call_is_repeated_on_another_connection(opened: Any) -> None:
    """Others are not."""
    peer = Peer()
    pool, _ = await opened(2, peer=peer)
    peer.call_outcomes = ["unsent", ConnectionLostError("lost"), "reply"]
    assert await pool.call("a.B", IDEMPOTENT, a=1) == "reply"
    peer.call_outcomes = [ConnectionLostError("lost")]
    with pytest.raises(ConnectionLostError):
        await pool.call("a.B")


async def test_observers_of_calls_hear_of_calls_through_the_pool(opened: Any) -> None:
    """Patient or not."""
    pool, _ = await opened(1)
    told: list[str] = []
    pool.slots[0].conn.on_call(lambda record: told.append(record.method))
    await pool.call("a.B")
    await pool.call("a.C", IDEMPOTENT)
    assert [item async for item in pool.stream("a.D")] == [1, 2, 3]
    assert told == ["a.B", "a.C", "a.D"]


# --- statistics -------------------------------------------------------------------------------------------------------


async def test_every_documented_number_and_more(opened: Any) -> None:
    """With waits in milliseconds."""
    pool, _ = await opened(1, 1, policy=PoolPolicy(), peer=Peer(delay=1))
    first = await pool.acquire()
    second = await pool.acquire()
    assert pool.get_pool_stats() == {
        "pool_size": 1,
        "total_connections": 2,
        "overflow_connections": 1,
        "available_in_pool": 0,
        "standby": 0,
        "leased": 2,
        "waiting": 0,
        "calls_waiting": 0,
        "given_up": 0,
        "wait_ms": {"p50": 1000.0, "p95": 1000.0, "p99": 1000.0},
        "stats": {
            "connections_created": 2,
            "connections_reused": 1,
            "pool_hits": 1,
            "pool_misses": 1,
            "overflow_used": 1,
            "waits": 1,
            "wait_seconds": 1.0,
            "timeouts": 0,
            "refused": 0,
            "leaked": 0,
        },
        "targets": {
            "Peer": {
                "connections": 2,
                "leased": 2,
                "calls": 0,
                "is_left_out": False,
                "failures": 0,
                "last_error": None,
                "connections_created": 2,
                "leases": 2,
            }
        },
    }
    first.release()
    second.release()
    await pool.close_all()
    counts = pool.get_pool_stats()["stats"]
    assert (counts["pool_hits"], counts["pool_misses"]) == (1, 1)
    assert repr(pool) == "<ConnectionPool 'pool' closed 0 of 1 in service, 0 leased, 0 waiting>"


# --- connections of the application's own ----------------------------------------------------------------------------


class Authenticated(Connection):
    """Authenticates after every open."""

    states, transitions = insert_state(
        Connection,
        "authenticating",
        trigger=Trigger.OPENED,
        before="connected",
        then="authenticated",
        like="connecting",
    )

    async def while_authenticating(self) -> str:
        await asyncio.sleep(1)
        return "authenticated"


async def test_a_subclass_with_states_of_its_own(opened: Any) -> None:
    """A slot is in service when it is connected, and not before."""
    pool, peer = await opened(2, connection_class=Authenticated)
    async with pool.acquire() as client:
        assert type(client.connection) is Authenticated
        lose(peer)
    await asyncio.sleep(0.5)
    assert pool.get_pool_stats()["total_connections"] == 1
    await asyncio.sleep(1)
    assert pool.get_pool_stats()["total_connections"] == 2


async def test_a_pool_class_of_the_applications_own() -> None:
    """With an effect and an observer of its own."""

    class MyPool(ConnectionPool):
        def make_slots(self, reason: BaseException | None) -> None:
            super().make_slots(reason)
            self.made = len(self._slots)

    async with MyPool(Peer(), 3, 0) as pool:
        assert pool.made == 3


# --- the end of the loop, and forks ------------------------------------------------------------------------------------


def test_the_end_of_the_loop_closes_everything() -> None:
    """Leases held, somebody waiting, overflow on its way, links that take their time; and the pool opens in the next."""
    peer = Peer(close_delay=1)
    pool = make(peer, 2, 1)

    async def main() -> None:
        peer.delay = 0
        await pool.initialize()
        main.leases = [await pool.acquire() for _ in range(2)]  # type: ignore[attr-defined]
        peer.delay = 5
        begun(pool.acquire())
        await asyncio.sleep(0.1)

    for _ in range(2):
        run_virtually(main())
        assert pool.state is S.CLOSED
        assert (peer.open_now, pool.slots) == (0, ())
        assert not main.leases[0].is_held  # type: ignore[attr-defined]


def test_the_end_of_the_loop_while_opening_and_while_draining() -> None:
    """Nothing is left of either."""
    peer = Peer(None, then=HANG)
    pool = make(peer, 2)

    async def opening() -> None:
        begun(pool.initialize())
        await asyncio.sleep(0.1)

    run_virtually(opening())
    assert (pool.state, peer.open_now) == (S.CLOSED, 0)
    peer.then = None

    async def draining() -> None:
        await pool.initialize()
        draining.lease = await pool.acquire()  # type: ignore[attr-defined]
        begun(pool.close_all(timeout=None))
        await asyncio.sleep(0.1)

    run_virtually(draining())
    assert (pool.state, peer.open_now) == (S.CLOSED, 0)


@pytest.mark.parametrize("size", [1, 2])
def test_a_loop_that_was_closed_under_the_pool(size: int) -> None:
    """It begins at rest in the next one, and serves; also when a connection was free."""
    peer = Peer()
    pool = make(peer, size)
    loop = asyncio.new_event_loop()
    lease = loop.run_until_complete(_opened_and_leased(pool))
    tasks = asyncio.all_tasks(loop)
    loop.close()

    async def main() -> None:
        with pytest.raises(PoolClosed):
            await pool.acquire()
        assert not lease.is_held
        async with pool, pool.acquire():
            pass

    run_virtually(main())
    assert pool.state is S.CLOSED
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


async def _opened_and_leased(pool: ConnectionPool) -> Any:
    await pool.initialize()
    return await pool.acquire()


@pytest.mark.parametrize("size", [1, 2])
def test_two_loops_at_a_time_are_refused(size: int) -> None:
    """A pool belongs to the loop in which it was opened; whether a connection is free or not."""
    pool = make(Peer(), size)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_opened_and_leased(pool))

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="lives in another event loop"):
            await pool.acquire()
        with pytest.raises(RuntimeError, match="lives in another event loop"):
            await pool.close_all()

    run_virtually(elsewhere())
    loop.run_until_complete(pool.close_all(timeout=0))
    loop.close()


FORKING = """
import asyncio, os, sys
sys.path.insert(0, {tests!r})
from peer import Peer
from fsm_conn import ConnectionPool, PoolClosed

unopened = ConnectionPool(Peer(), 1, 0)

async def refused(pool, lease):
    assert pool.get_pool_stats()["available_in_pool"] == 0
    for use in (pool.acquire, lambda: pool.call("a.B"), pool.initialize, pool.close_all, lambda: lease.call("a.B")):
        try:
            await use()
        except PoolClosed as error:
            assert "belongs to the parent of this process; make a pool of its own here" in str(error), error
        else:
            raise AssertionError(use)
    async with unopened, unopened.acquire() as client:
        assert await client.call("a.B") == "reply"
    lease.release()
    assert resets == []

resets = []

async def main():
    async with ConnectionPool(Peer(), 2, 0, on_release=resets.append) as pool:
        async with pool.acquire() as lease:
            child = os.fork()
            if not child:
                asyncio._set_running_loop(None)
                try:
                    asyncio.new_event_loop().run_until_complete(refused(pool, lease))
                except BaseException as error:
                    print(repr(error), file=sys.stderr)
                    os._exit(1)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        async with pool.acquire() as client:
            assert await client.call("a.B") == "reply"
        assert len(resets) == 2

asyncio.run(main())
print("fine")
"""


def test_a_forked_child_must_not_use_its_parents_pool() -> None:
    """What was open is refused, leases included; what was not may be used; the parent goes on."""
    from pathlib import Path

    code = textwrap.dedent(FORKING).format(tests=str(Path(__file__).parent.parent))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert (run.stdout, run.returncode) == ("fine\n", 0), run.stderr


# --- the table ----------------------------------------------------------------------------------------------------------


def test_the_table_of_a_pool_has_no_traps() -> None:
    """From every state `closed` can be reached, by asking."""
    lifecycle = ConnectionPool.lifecycle
    assert [str(name) for name in lifecycle.states] == ["closed", "opening", "open", "draining"]
    for state in ("opening", "open"):
        assert lifecycle.handles(state, "close")

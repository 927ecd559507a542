"""What applications do to a pool by mistake: hooks that let a cancellation pass, constructors that raise, leases that are
returned where no loop runs. Whatever it is, no place is lost, nothing spins, and somebody is told.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import aclosing
from typing import Any

import pytest
from peer import Peer

from fsm_conn import CallOptions, Connection, ConnectionPool, LinkLostError, PoolPolicy, PoolUnavailableError

from .conftest import begun, make, nothing_is_left, now, settled


async def cancelled_elsewhere(conn: Any = None) -> None:
    """What awaiting a task does that somebody else has cancelled."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


# --- hooks ----------------------------------------------------------------------------------------------------


async def test_on_open_that_lets_a_cancellation_pass_fails_the_opening() -> None:
    """As any error does; links are not made again and again instead."""
    peer = Peer()
    pool = make(peer, 2, on_open=cancelled_elsewhere)
    with pytest.raises(PoolUnavailableError, match="awaited a task that was cancelled"):
        await asyncio.wait_for(pool.initialize(), 5)
    assert peer.opened == 2
    nothing_is_left(pool, peer)


async def test_on_open_that_lets_a_cancellation_pass_is_tried_again_with_pauses(opened: Any) -> None:
    """In a pool that is open."""
    is_broken = False

    async def greet(conn: Connection) -> None:
        if is_broken:
            await cancelled_elsewhere()

    pool, peer = await opened(1, on_open=greet)
    is_broken = True
    peer.lose()
    await asyncio.sleep(60)
    assert 3 < peer.opened < 100
    is_broken = False
    await asyncio.sleep(60)
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_a_connection_whose_own_methods_fail_is_tried_again_with_pauses(opened: Any, caplog: Any) -> None:
    """Also when that is `disconnect()`."""

    class Fragile(Connection):
        is_broken = False

        async def disconnect(self) -> None:
            await super().disconnect()
            if self.is_broken:
                raise ZeroDivisionError("disconnect")

    def greet(conn: Connection) -> None:
        if Fragile.is_broken:
            raise PermissionError("wrong token")

    pool, peer = await opened(1, connection_class=Fragile, on_open=greet)
    Fragile.is_broken = True
    peer.lose()
    await asyncio.sleep(60)
    assert 3 < peer.opened < 100
    assert "ZeroDivisionError" in caplog.text
    Fragile.is_broken = False
    await asyncio.sleep(60)
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_on_release_that_is_cancelled_leaves_a_link_that_is_replaced(opened: Any) -> None:
    """Nobody gets what was not cleaned up, whatever was raised."""

    def leave(conn: Connection) -> None:
        raise asyncio.CancelledError

    pool, peer = await opened(1, on_release=leave)
    lease = await pool.acquire()
    with pytest.raises(asyncio.CancelledError):
        lease.release()
    assert pool.get_pool_stats()["available_in_pool"] == 0
    await settled()
    assert (peer.opened, pool.get_pool_stats()["available_in_pool"]) == (2, 1)


async def test_who_was_handed_what_another_lease_has_spoilt_gets_a_fresh_link(opened: Any) -> None:
    """When the reset of the other one fails in the moment in which it is handed over."""
    is_broken = False

    def reset(conn: Connection) -> None:
        if is_broken:
            raise ZeroDivisionError

    pool, peer = await opened(1, on_release=reset, policy=PoolPolicy(leases_per_connection=2))
    one, other = await pool.acquire(), await pool.acquire()
    (waiting,) = begun(pool.acquire())
    await settled()
    one.release()
    is_broken = True
    other.release()
    is_broken = False
    lease = await waiting
    assert (lease.connection.link is peer.made[1], peer.opened) == (True, 2)
    lease.release()


async def test_a_reset_that_was_left_behind_does_not_keep_the_next_life_from_ending() -> None:
    """It belongs to a connection that is closed."""
    done = asyncio.Event()

    async def stubborn(conn: Connection) -> None:
        while not done.is_set():
            try:
                await done.wait()
            except asyncio.CancelledError:
                continue

    peer = Peer()
    pool = make(peer, 1, on_release=stubborn)
    await pool.initialize()
    (await pool.acquire()).release()
    await settled()
    await pool.close_all(timeout=0)
    await pool.initialize()
    began = now()
    await pool.close_all()
    assert now() == began
    done.set()
    await settled()
    nothing_is_left(pool, peer)


# --- connections that cannot be made ----------------------------------------------------------------------------


class Counted(Connection):
    """Its constructor fails when there are enough of them."""

    made = 0
    most = 1000

    def __init__(self, *args: Any, **options: Any) -> None:
        if Counted.made >= Counted.most:
            raise OSError("no more descriptors")
        super().__init__(*args, **options)
        Counted.made += 1


@pytest.fixture
def counted() -> type[Counted]:
    Counted.made, Counted.most = 0, 1000
    return Counted


async def test_overflow_that_cannot_even_be_made_is_gone_without(opened: Any, counted: Any, caplog: Any) -> None:
    """Who waits is served by what comes back, and what is in service stays."""
    pool, peer = await opened(1, 2, connection_class=counted)
    counted.most = counted.made
    held = await pool.acquire()
    first, second = begun(pool.acquire(), pool.acquire())
    await settled()
    assert "no more descriptors" in caplog.text
    held.release()
    lease = await first
    lease.release()
    (await second).release()
    assert peer.opened == 1
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_overflow_that_cannot_be_made_does_not_hurt_a_slot_that_comes_up(opened: Any, counted: Any) -> None:
    """While more wait for it than it can serve."""
    pool, peer = await opened(1, 1, connection_class=counted)
    counted.most = counted.made
    peer.lose()
    await settled(5)
    waiting = begun(*(pool.acquire() for _ in range(3)))
    for task in waiting:
        lease = await asyncio.wait_for(task, 5)
        assert lease.is_held
        lease.release()
    assert peer.opened == 2


async def test_a_pool_whose_connections_cannot_be_made_says_so_and_stays_closed(counted: Any) -> None:
    """Also when the first of them could."""
    peer = Peer()
    pool = make(peer, 2, connection_class=counted)
    counted.most = counted.made + 1
    with pytest.raises(OSError, match="no more descriptors"):
        await pool.initialize()
    await settled()
    nothing_is_left(pool, peer)
    counted.most = 1000
    async with pool, pool.acquire() as client:
        assert client.is_held
    nothing_is_left(pool, peer)


# --- leases that are returned where no loop runs ----------------------------------------------------------------


@pytest.mark.parametrize("what", ["plain", "on_release", "overflow", "lost"])
def test_a_lease_may_be_returned_while_the_loop_stands_still(what: str) -> None:
    """Between two runs of it, as in a notebook; nothing is lost by that."""
    resets: list[str] = []

    async def reset(conn: Connection) -> None:
        resets.append(conn.name)

    loop = asyncio.new_event_loop()
    try:
        peer = Peer()
        options = {"on_release": reset} if what == "on_release" else {}
        pool = make(peer, 1, int(what == "overflow"), **options)
        loop.run_until_complete(pool.initialize())
        leases = [loop.run_until_complete(_taken(pool)) for _ in range(1 + (what == "overflow"))]
        if what == "lost":
            peer.made[0].gone.set_result(LinkLostError("gone"))
        for lease in leases:
            lease.release()
        loop.run_until_complete(asyncio.sleep(0.01))
        assert resets == (["pool#1"] if what == "on_release" else [])
        loop.run_until_complete(_usable(pool))
        assert pool.get_pool_stats()["leased"] == 0
        loop.run_until_complete(pool.close_all())
    finally:
        loop.close()


async def _taken(pool: ConnectionPool) -> Any:
    return await pool.acquire(timeout=5)


async def _usable(pool: ConnectionPool) -> None:
    async with pool.acquire(timeout=5) as client:
        assert await client.call("a.B") == "reply"


# --- numbers ----------------------------------------------------------------------------------------------------


async def test_nothing_is_available_while_the_pool_is_closed() -> None:
    """What nobody gets is not counted as free."""
    pool = make(Peer(), 3)
    await pool.initialize()
    held = await pool.acquire()
    assert pool.get_pool_stats()["available_in_pool"] == 2
    (closing,) = begun(pool.close_all(timeout=10))
    await settled()
    assert pool.get_pool_stats()["available_in_pool"] == 0
    held.release()
    await closing


async def test_a_call_avoids_a_connection_that_is_being_reset(opened: Any) -> None:
    """As long as there is one that is not."""
    busy: str | None = None
    done = asyncio.Event()

    async def reset(conn: Any) -> None:
        if conn.name == busy:
            await done.wait()

    pool, _ = await opened(2, on_release=reset)
    for busy in ("pool#1", "pool#2"):
        calls: list[str] = []
        leases = [await pool.acquire(), await pool.acquire()]
        for lease in leases:
            lease.connection.on_call(lambda call, name=lease.connection.name, calls=calls: calls.append(name))
            lease.release()
        await settled()
        await pool.call("a.B")
        assert busy not in calls
        assert calls
        done.set()
        await settled()
        done.clear()


class Restless(ConnectionPool):
    """Opens once more as it closes, and closes that at once."""

    is_restless = False

    def forget_slots(self, reason: BaseException | None) -> None:
        super().forget_slots(reason)
        if self.is_restless:
            self.is_restless = False
            self.fire("open")
            self.fire("close")


async def test_initialize_waits_for_every_closing() -> None:
    """Also for one that somebody else has begun by the time the first has ended."""
    peer = Peer()
    pool = Restless(peer, 1, 0)
    await pool.initialize()
    pool.is_restless = True
    (closing,) = begun(pool.close_all())
    await asyncio.sleep(0)
    assert pool.state == "draining"
    await pool.initialize()
    assert (pool.state, pool.is_restless) == ("open", False)
    await closing
    await pool.close_all()
    nothing_is_left(pool, peer)


# --- what is stopped half-way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_slow", [False, True])
async def test_an_opening_that_is_cancelled_as_it_succeeds_is_abandoned(is_slow: bool) -> None:
    """For nobody is left to close it; also while observers are still told of it."""
    peer = Peer()
    pool = make(peer, 2)

    def cancel(record: Any) -> None:
        if record.dest == "open":
            opening.cancel()

    async def observe(record: Any) -> None:
        await asyncio.sleep(1)
        cancel(record)

    pool.on_transition(observe if is_slow else cancel)
    (opening,) = begun(pool.initialize())
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert (pool.state, peer.open_now) == ("closed", 0)
    await asyncio.sleep(5)  # observers have their time
    nothing_is_left(pool, peer)


async def test_an_opening_that_others_have_is_not_abandoned() -> None:
    """Whoever comes later to what is open has no say in that."""
    pool = make(Peer(), 1)

    async def observe(record: Any) -> None:
        await asyncio.sleep(1)

    pool.on_transition(observe)
    first, second = begun(pool.initialize(), pool.initialize())
    await asyncio.sleep(0.5)
    assert pool.state == "open"
    first.cancel()
    await second
    (late,) = begun(pool.initialize())
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.gather(first, late, return_exceptions=True)
    async with pool.acquire() as client:
        assert client.is_connected()
    await pool.close_all()


async def test_a_stream_that_nobody_wants_more_of_ends_at_once(opened: Any) -> None:
    """With everything under it, when it is closed; not when garbage is collected."""
    pool, _ = await opened(1)
    told: list[str] = []
    pool.slots[0].conn.on_call(lambda call: told.append(call.method))
    for options in ((), (CallOptions(wait_for_ready=True),)):
        told.clear()
        async with aclosing(pool.stream("calculator.Count", *options)) as replies:
            async for _ in replies:
                assert pool.slots[0].callers
                break
        assert (pool.slots[0].callers, told) == ([], ["calculator.Count"])


async def test_progress_is_forgotten_when_all_are_open(opened: Any) -> None:
    """What it refers to is not kept for as long as the pool lives."""

    class Bar:
        def __call__(self, ready: int, of: int) -> None: ...

    bar = Bar()
    kept = weakref.ref(bar)
    pool = make(Peer(), 1)
    await pool.initialize(bar)
    del bar
    gc.collect()
    assert kept() is None
    await pool.close_all()


@pytest.mark.parametrize(
    ("meddles", "told"),
    [("disconnect", "it was disconnected"), ("reconnect", r"its link was replaced by reconnect\(\)")],
)
async def test_on_open_that_ends_its_link_is_tried_again_with_pauses(opened: Any, meddles: str, told: str) -> None:
    """As any that refuses: the peer is not asked for one link after the other, for each of which it is called."""
    refuses = False

    async def greet(conn: Connection) -> None:
        if refuses:
            await getattr(conn, meddles)()

    pool, peer = await opened(1, on_open=greet)
    refuses = True
    peer.lose()
    await asyncio.sleep(5)
    assert 2 < peer.tried < 20
    with pytest.raises(PoolUnavailableError, match=f"{told} while on_open ran"):
        await pool.acquire()
    refuses = False
    await asyncio.sleep(10)
    async with pool.acquire():
        assert peer.open_now == 1


@pytest.mark.parametrize("says_why", [True, False])
async def test_on_open_that_disconnects_fails_the_opening(says_why: bool) -> None:
    """With what it raises, if it does."""

    async def greet(conn: Connection) -> None:
        await conn.disconnect()
        if says_why:
            raise PermissionError("the token is wrong")

    peer = Peer()
    pool = make(peer, on_open=greet)
    with pytest.raises(PoolUnavailableError, match="the token is wrong" if says_why else "while on_open ran"):
        await pool.initialize()
    nothing_is_left(pool, peer)


@pytest.mark.parametrize("timeout", [None, 60])
async def test_on_acquire_that_lets_a_cancellation_pass_has_refused(opened: Any, timeout: float | None) -> None:
    """Its caller was not cancelled, and gets another connection."""
    spoilt = 1

    async def check(conn: Connection) -> None:
        nonlocal spoilt
        if spoilt:
            spoilt -= 1
            inner = asyncio.ensure_future(asyncio.sleep(10))
            inner.cancel()
            await inner

    pool, peer = await opened(1, on_acquire=check)
    async with pool.acquire(timeout):
        assert peer.opened == 2  # what it refused was replaced


async def test_on_acquire_is_cancelled_with_its_caller(opened: Any) -> None:
    """By a timeout of the caller, or of the acquire; the slot comes back, with a link that nobody has left half-used."""
    pool, peer = await opened(1, on_acquire=lambda conn: asyncio.sleep(10))
    for limit in (None, 1):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2), pool.acquire(limit):
                pass
    await settled()
    assert (pool.get_pool_stats()["available_in_pool"], peer.opened) == (1, 3)


@pytest.mark.parametrize(
    ("option", "meant"), [("max_overlow", "max_overflow"), ("polcy", "policy"), ("start_timout", "start_timeout")]
)
def test_a_misspelt_option_is_refused(option: str, meant: str) -> None:
    """Whichever of the two would have taken it."""
    wrong: dict[str, Any] = {option: 1}
    with pytest.raises(TypeError, match=rf"ConnectionPool\({option}=\.\.\.\): give {meant}=\.\.\."):
        ConnectionPool(Peer(), **wrong)


def test_an_option_of_a_subclass_is_its_own_affair() -> None:
    """What its constructor says stands, whatever that takes."""

    class Regional(Connection):
        def __init__(self, target: Any, *, region: str, **options: Any) -> None:
            if not isinstance(region, str):
                raise TypeError("region: give a string")
            super().__init__(target, **options)

    wrong: dict[str, Any] = {"region": 1}
    with pytest.raises(TypeError, match=r"^region: give a string$"):
        ConnectionPool(Peer(), connection_class=Regional, **wrong)
    right: dict[str, Any] = {"region": "north"}
    assert ConnectionPool(Peer(), connection_class=Regional, name="p", **right).name == "p"

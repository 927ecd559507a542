"""A lease is exclusive and of one link; what was interrupted is of unknown state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from peer import HANG, Peer

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionLostError,
    GoingAwayError,
    LeaseLostError,
    LinkLostError,
    NotConnectedError,
    PoolPolicy,
    PoolTimeoutError,
    add_state,
)

from .conftest import begun, now, settled

IDEMPOTENT = CallOptions(idempotent=True)
PATIENT = CallOptions(wait_for_ready=True, timeout=60)


# --- of one link ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), (IDEMPOTENT,), (PATIENT,)], ids=["plain", "idempotent", "patient"])
async def test_a_lease_whose_link_was_lost_says_so_until_it_is_released(opened: Any, options: Any) -> None:
    """A transaction that was begun on one link is not committed on another."""
    pool, peer = await opened(1)
    async with pool.acquire() as client:
        assert await client.call("a.Begin") == "reply"
        peer.lose(LinkLostError("the backend was killed"))
        await asyncio.sleep(30)
        assert peer.open_now == 1  # there is another link by now
        for use in (
            lambda: client.call("a.Commit", *options),
            lambda: anext(client.stream("a.Commit", *options)),
            lambda: client.calculator.Commit(*options),
        ):
            with pytest.raises(LeaseLostError, match=r"was lost: the backend was killed; .* begin again") as caught:
                await use()
            assert isinstance(caught.value.__cause__, LinkLostError)
        with pytest.raises(LeaseLostError):
            client.connection
        assert (client.is_held, client.is_connected()) == (False, False)
        assert [name for name, _, _ in peer.calls] == ["a.Begin"]
    async with pool.acquire() as client:
        assert await client.call("a.Begin") == "reply"
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_a_call_under_which_the_link_was_lost_is_not_repeated_on_the_next(opened: Any) -> None:
    """Not even when it was called idempotent: what went before it is lost."""
    pool, peer = await opened(1)
    async with pool.acquire() as client:
        peer.call_outcomes = ["lost"]
        with pytest.raises(ConnectionLostError):
            await client.call("a.Debit", IDEMPOTENT)
        assert len(peer.calls) == 1


async def test_a_lost_lease_does_not_keep_others_from_the_next_link(opened: Any) -> None:
    """It holds nothing any more; releasing it changes nothing."""
    pool, peer = await opened(1)
    lost = await pool.acquire()
    (waiting,) = begun(pool.acquire())
    await settled()
    peer.lose()
    other = await asyncio.wait_for(waiting, 30)
    lost.release()
    assert (other.is_held, pool.get_pool_stats()["leased"], pool.get_pool_stats()["available_in_pool"]) == (True, 1, 0)
    other.release()
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_a_lost_lease_that_is_dropped_leaks_nothing(opened: Any) -> None:
    """It had nothing to give back."""
    pool, peer = await opened(1)
    lease = await pool.acquire()
    peer.lose()
    await asyncio.sleep(30)
    del lease
    await settled()
    stats = pool.get_pool_stats()
    assert (stats["stats"]["leaked"], stats["available_in_pool"]) == (0, 1)


async def test_a_lease_may_outlive_its_link_where_the_policy_says_so(opened: Any) -> None:
    """It goes on with the next one, as soon as `on_open` has finished with that, and nobody calls through it before."""
    configured: list[Any] = []
    slow = False

    async def configure(conn: Connection) -> None:
        if slow:
            await asyncio.sleep(5)
        configured.append(conn.link)

    pool, peer = await opened(1, on_open=configure, policy=PoolPolicy(lease_outlives_link=True))
    slow = True
    async with pool.acquire() as client:
        peer.lose()
        await asyncio.sleep(2)
        assert peer.open_now == 1
        with pytest.raises(NotConnectedError, match="not ready yet"):
            await client.call("a.B")
        began = now()
        assert await client.call("a.B", PATIENT) == "reply"
        assert 2 < now() - began < 5
        assert configured[-1] is peer.link
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_nobody_calls_through_a_link_before_on_open_has_finished_with_it(opened: Any) -> None:
    """Neither by a call of the pool, nor by one that is repeated."""
    configured: list[Any] = []

    async def configure(conn: Connection) -> None:
        await asyncio.sleep(3)
        configured.append(conn.link)

    pool, peer = await opened(1, on_open=configure)
    used: list[bool] = []

    def note(call: Any) -> None:
        used.append(peer.link in configured)

    pool.slots[0].conn.on_call(note)
    peer.call_outcomes = ["lost"]
    assert await pool.call("a.B", IDEMPOTENT) == "reply"
    assert used == [True, True]


# --- exclusive --------------------------------------------------------------------------------------------------------


async def test_a_call_without_a_lease_does_not_go_through_one(opened: Any) -> None:
    """It waits for its turn, and has its turn before those who came later."""
    pool, peer = await opened(1)
    held = await pool.acquire()
    (call,) = begun(pool.call("a.B"))
    await asyncio.sleep(5)
    assert peer.calls == []
    (later,) = begun(pool.acquire())
    await settled()
    held.release()
    assert await call == "reply"
    (await later).release()


async def test_a_call_has_overflow_opened_when_all_are_leased(opened: Any) -> None:
    """As an acquire does."""
    pool, peer = await opened(1, 1)
    async with pool.acquire():
        assert await pool.call("a.B") == "reply"
    assert peer.opened == 2


async def test_calls_share_with_one_another_and_a_lease_waits_for_them(opened: Any) -> None:
    """And calls that come after whoever waits for a lease wait behind him."""
    peer = Peer()
    pool, _ = await opened(1, peer=peer)
    most = running = 0

    async def call(*args: Any) -> str:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        return "reply"

    peer.link.call = call  # type: ignore[method-assign]
    first = begun(pool.call("a.B"), pool.call("a.B"))
    await asyncio.sleep(0.5)
    (lease,) = begun(pool.acquire())
    await settled()
    later = begun(pool.call("a.B"), pool.call("a.B"))
    held = await lease
    assert (most, running, [task.done() for task in first]) == (2, 0, [True, True])
    await asyncio.sleep(5)
    assert not any(task.done() for task in later)
    held.release()
    assert await asyncio.gather(*later) == ["reply", "reply"]


async def test_leases_that_share_are_shared_with_calls(opened: Any) -> None:
    """For who says that several leases go through one connection has said that it can be shared."""
    pool, _ = await opened(1, policy=PoolPolicy(leases_per_connection=2))
    async with pool.acquire(), pool.acquire():
        assert await pool.call("a.B") == "reply"


# --- interrupted ------------------------------------------------------------------------------------------------------


async def test_what_was_interrupted_by_a_timeout_is_not_handed_out_first_again(opened: Any) -> None:
    """One dead connection of three costs one acquire its time, and not all of them."""
    dead = "pool#3"

    async def check(conn: Connection) -> None:
        if conn.name == dead:
            await asyncio.sleep(1000)

    pool, _ = await opened(3, on_acquire=check)
    served = 0
    for _ in range(10):
        try:
            async with pool.acquire(timeout=1):
                served += 1
        except PoolTimeoutError:
            pass
        await asyncio.sleep(1)
    assert served >= 9


async def test_nobody_reads_what_a_cancelled_check_has_left(opened: Any) -> None:
    """The link of an exchange that was broken off is replaced."""
    is_slow = True

    async def check(conn: Connection) -> None:
        if is_slow:
            await asyncio.sleep(1000)

    pool, peer = await opened(1, on_acquire=check)
    (task,) = begun(pool.acquire())
    await asyncio.sleep(1)
    task.cancel()
    await settled()
    is_slow = False
    async with pool.acquire() as client:
        assert client.connection.link is peer.made[1]


# --- hooks have limits ------------------------------------------------------------------------------------------------


async def test_on_release_that_hangs_costs_its_limit_and_not_the_slot(opened: Any, caplog: Any) -> None:
    """Its link is replaced, and the log says which hook it was."""
    pool, peer = await opened(1, on_release=lambda conn: asyncio.sleep(10_000), policy=PoolPolicy(hook_timeout=5))
    async with pool.acquire():
        pass
    began = now()
    async with pool.acquire(timeout=60):
        assert now() - began == pytest.approx(5, abs=0.1)
    assert peer.opened == 2
    assert "on_release did not end within 5 s, its hook_timeout, so its link is replaced" in caplog.text
    assert "Traceback" not in caplog.text


async def test_overflow_is_opened_beside_on_release_that_hangs(opened: Any) -> None:
    """It is no capacity after a second, as an opening that takes long."""

    async def hang(conn: Any) -> None:
        await asyncio.sleep(1000)

    policy = PoolPolicy(size=1, max_overflow=1, hook_timeout=30.0)
    pool, peer = await opened(None, None, on_release=hang, policy=policy)
    async with pool.acquire():
        pass
    began = now()
    async with pool.acquire(timeout=60):
        assert now() - began == pytest.approx(1, abs=0.1)
    assert peer.open_now == 2


async def test_on_release_that_hangs_ends_with_its_link(opened: Any) -> None:
    """What it cleans up is gone."""
    pool, peer = await opened(1, on_release=lambda conn: asyncio.sleep(10_000), policy=PoolPolicy(hook_timeout=None))
    async with pool.acquire():
        pass
    await settled()
    peer.lose()
    async with pool.acquire(timeout=5):
        pass


async def test_on_acquire_has_a_limit_of_its_own(opened: Any, caplog: Any) -> None:
    """Who has named no time to wait is not kept for ever by a check that hangs."""
    pool, peer = await opened(2, on_acquire=lambda conn: hang(), policy=PoolPolicy(hook_timeout=5))
    hangs = [True]

    async def hang() -> None:
        if hangs.pop() if hangs else False:
            await asyncio.sleep(10_000)

    async with asyncio.timeout(20), pool.acquire():
        pass
    await settled()
    assert "on_acquire did not end within 5 s" in caplog.text
    assert peer.opened == 3


async def test_on_open_that_loses_its_cancellation_does_not_hang_the_closing(opened: Any, caplog: Any) -> None:
    """As plain `asyncio.wait_for` may, on Python 3.11."""
    is_deaf = False

    async def configure(conn: Connection) -> None:
        while is_deaf:
            try:
                await asyncio.sleep(10_000)
            except asyncio.CancelledError:
                continue

    pool, peer = await opened(1, on_open=configure)
    is_deaf = True
    peer.lose()
    await asyncio.sleep(5)
    began = now()
    try:
        await pool.close_all(timeout=1)
        assert now() - began < 30
        assert "ignores its cancellation" in caplog.text
        assert peer.open_now == 0
    finally:
        is_deaf = False


async def test_one_failure_of_many_slots_is_told_at_length_once(opened: Any, caplog: Any) -> None:
    """Three slots do not repeat one traceback three times."""
    is_broken = False

    def configure(conn: Connection) -> None:
        if is_broken:
            raise KeyError("token")

    _, peer = await opened(3, on_open=configure)
    is_broken = True
    for link in list(peer.made):
        link.gone.set_result(LinkLostError("restarted"))
    await asyncio.sleep(0.1)
    assert caplog.text.count("Traceback") == 1
    assert caplog.text.count("on_open failed") == 3


async def test_links_that_hang_are_not_counted_on(opened: Any) -> None:
    """What hangs in its start does not hold back overflow."""
    peer = Peer()
    pool, _ = await opened(1, 1, peer=peer)
    peer.script = [HANG]
    peer.lose()
    await settled(5)
    began = now()
    async with pool.acquire(timeout=60):
        assert now() - began < 3


# --- of unknown state, while its connection serves nobody -----------------------------------------------------------


class Pausing(Connection):
    """Serves nobody for a while, and keeps its link."""

    states, transitions = add_state(Connection, "paused", beside="connected", trigger="pause", back="resume")


async def pausing(opened: Any, **options: Any) -> tuple[Any, Peer, Any]:
    pool, peer = await opened(1, connection_class=Pausing, **options)
    return pool, peer, pool.slots[0].conn


async def test_what_was_refused_stays_refused_after_a_pause(opened: Any) -> None:
    """Somebody else still used the link when it was refused, so it could not be replaced at once."""
    refuses = False

    def check(conn: Connection) -> None:
        nonlocal refuses
        if refuses:
            refuses = False
            raise OSError("stale")

    pool, peer, conn = await pausing(opened, on_acquire=check, policy=PoolPolicy(leases_per_connection=2))
    other = await pool.acquire()
    refuses = True
    (asking,) = begun(pool.acquire(timeout=60))
    await settled()
    assert pool.slots[0].is_stale
    conn.fire("pause")
    await settled()
    conn.fire("resume")
    await settled()
    assert not asking.done()
    other.release()
    lease = await asking
    assert (lease.connection.link is peer.made[1], peer.opened) == (True, 2)
    lease.release()


async def test_a_check_that_fails_in_a_pause_has_the_link_replaced(opened: Any) -> None:
    """Whoever asks next gets another."""
    go: asyncio.Event = asyncio.Event()
    failing = True

    async def check(conn: Connection) -> None:
        nonlocal failing
        if failing:
            await go.wait()
            failing = False
            raise OSError("stale")

    pool, peer, conn = await pausing(opened, on_acquire=check)
    (asking,) = begun(pool.acquire(timeout=60))
    await settled()
    conn.fire("pause")
    await settled()
    go.set()
    await settled()
    conn.fire("resume")
    lease = await asking
    assert (lease.connection.link is peer.made[1], peer.opened) == (True, 2)
    lease.release()


async def test_a_cleanup_that_a_pause_breaks_off_has_the_link_replaced(opened: Any) -> None:
    """What a lease has left there is not cleaned up."""
    go: asyncio.Event = asyncio.Event()

    async def clean_up(conn: Connection) -> None:
        await go.wait()

    pool, peer, conn = await pausing(opened, on_release=clean_up)
    (await pool.acquire()).release()
    await settled()
    conn.fire("pause")
    await settled()
    conn.fire("resume")
    lease = await pool.acquire(timeout=60)
    assert (lease.connection.link is peer.made[1], peer.opened) == (True, 2)
    go.set()
    lease.release()


async def test_a_lease_whose_peer_goes_away_is_told_so_at_once(opened: Any) -> None:
    """Rather than that its next link is not ready, which it never gets; who comes next gets another link."""
    peer = Peer(delay=2.0)
    pool, _ = await opened(1, 0, peer=peer)
    async with pool.acquire() as lease:
        peer.lose(GoingAwayError("the peer is updated"))
        await settled()
        for _ in range(2):
            with pytest.raises(LeaseLostError, match="begin again with another"):
                await lease.call("a.B")
            await asyncio.sleep(5)
    async with pool.acquire(timeout=5) as lease:
        assert await lease.call("a.B") == "reply"


async def test_a_lease_that_outlives_its_link_waits_when_its_peer_goes_away(opened: Any) -> None:
    """It goes on through the next link."""
    peer = Peer(delay=2.0)
    pool, _ = await opened(None, None, peer=peer, policy=PoolPolicy(size=1, lease_outlives_link=True))
    async with pool.acquire() as lease:
        peer.lose(GoingAwayError("the peer is updated"))
        await settled()
        with pytest.raises(NotConnectedError):
            await lease.call("a.B")
        await asyncio.sleep(5)
        assert await lease.call("a.B") == "reply"

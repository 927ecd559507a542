"""Outages: how often a pool tries, who waits through one, and who is told at once."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from peer import HANG, TRANSIENT, Peer, Permanent

from fsm_conn import (
    CallOptions,
    CallTimeoutError,
    Connection,
    ConnectionLostError,
    ConnectionPool,
    PoolPolicy,
    PoolTimeoutError,
    PoolUnavailableError,
    RetryBudget,
    RetryPolicy,
)

from .conftest import begun, make, now, settled

IDEMPOTENT = CallOptions(idempotent=True)
HOUR = 3600.0


class Dying(Peer):
    """A peer whose links die as soon as they are open, from when it is told so."""

    dies = False

    def __call__(self) -> Any:
        link, opened = super().__call__(), None
        opened = link.open

        async def open_and_die() -> None:
            await opened()
            if self.dies:
                asyncio.get_running_loop().call_soon(link.gone.set_result, ConnectionLostError("died"))

        link.open = open_and_die  # type: ignore[method-assign]
        return link


RETRIES = {
    "defaults": RetryPolicy(),
    "once": RetryPolicy(max_attempts=1),
    "no restarts": RetryPolicy(max_restarts=0),
    "three restarts": RetryPolicy(max_restarts=3),
    "recovers": RetryPolicy(recover_after=30.0),
}


# --- crash loops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", RETRIES.values(), ids=RETRIES.keys())
@pytest.mark.parametrize("kind", ["dies", "refuses", "refuses for good"])
async def test_a_crash_loop_has_pauses(opened: Any, retry: RetryPolicy, kind: str) -> None:
    """At most 120 starts an hour for each slot with the defaults, and no more than that with a stricter policy."""
    peer = Dying()
    pool, _ = await opened(5, 2, peer=peer, retry=retry)
    await asyncio.sleep(60)
    before = peer.tried
    if kind == "dies":
        peer.dies = True
    else:
        peer.then = TRANSIENT if kind == "refuses" else Permanent("the license has expired")
    for link in list(peer.made):
        link.gone.set_result(ConnectionLostError("died"))
    await asyncio.sleep(HOUR)
    assert 5 * 20 < peer.tried - before <= 5 * 120
    stats = pool.get_pool_stats()
    assert stats["given_up"] == 5
    peer.dies, peer.then = False, None
    await asyncio.sleep(61)
    assert pool.get_pool_stats()["available_in_pool"] == 5


async def test_who_has_given_up_says_so_in_the_log(opened: Any, caplog: Any) -> None:
    """Once, with the reason, and when it will be tried again."""
    pool, peer = await opened(1)
    peer.then = TRANSIENT
    peer.lose()
    await asyncio.sleep(HOUR)
    told = [record.getMessage() for record in caplog.records if "has given up" in record.getMessage()]
    assert len([text for text in told if "is tried again in" in text and "try again" in text]) == 1
    assert pool.get_pool_stats()["given_up"] == 1


async def test_who_waits_in_vain_is_told_why_nothing_connects(opened: Any) -> None:
    """A lease and a call; but nothing of the kind while all are well, and only leased."""
    pool, peer = await opened(1, policy=PoolPolicy(max_overflow=0, acquire_timeout=5))
    async with pool.acquire():
        with pytest.raises(PoolTimeoutError, match=r"within 5 s$"):
            await pool.acquire()
    peer.then = TRANSIENT
    peer.lose()
    await settled()
    for work in (pool.acquire(timeout=5), pool.call("a.B", CallOptions(idempotent=True))):
        with pytest.raises(PoolTimeoutError, match="within 5 s; the last error was: ") as caught:
            await work
        assert str(caught.value).endswith(str(TRANSIENT))
        assert caught.value.__cause__ is TRANSIENT


async def test_several_that_give_up_for_one_reason_tell_it_once(opened: Any, caplog: Any) -> None:
    """It may be long; and it is told in full again after one has been up."""
    _, peer = await opened(3)
    for _ in range(2):
        peer.then = TRANSIENT
        for link in [each for each in peer.made if each.is_open and not each.gone.done()]:
            link.gone.set_result(TRANSIENT)
        await asyncio.sleep(HOUR)
        told = [text for text in caplog.messages if "has given up" in text]
        assert [text.endswith("s: the same error") for text in told] == [False, True, True]
        peer.then = None
        await asyncio.sleep(HOUR)
        caplog.clear()


async def test_an_opening_that_fails_does_not_promise_another_attempt(caplog: Any) -> None:
    """The pool gives up, too; and each cause is told once, whatever the connections are called."""

    async def hang(conn: Any) -> None:
        await asyncio.sleep(HOUR)

    pool = make(Peer(), 2, on_open=hang, retry=RetryPolicy(max_attempts=1), start_timeout=3)
    with pytest.raises(PoolUnavailableError, match=r"opened: on_open did not end within 3 s, its start_timeout$"):
        await pool.initialize()
    told = [text for text in caplog.messages if "has given up" in text]
    assert [text.rpartition(": ")[2] for text in told] == [
        "on_open did not end within 3 s, its start_timeout",
        "the same error",
    ]
    assert "is tried again" not in caplog.text


async def test_errors_of_hooks_that_take_turns_are_each_shown_once(opened: Any, caplog: Any) -> None:
    """Their tracebacks: of one that came before, only what it says."""
    count = itertools.count()

    def check(conn: Any) -> None:
        raise OSError(f"stale {next(count) % 2}")

    pool, _ = await opened(3, on_acquire=check)
    for _ in range(3):
        with pytest.raises(OSError, match="stale"):
            await pool.acquire()
    told = [record for record in caplog.records if "on_acquire failed" in record.getMessage()]
    assert len(told) == 12
    assert [bool(record.exc_info) for record in told] == [True, True] + 10 * [False]


async def test_restart_intensity_holds_for_replacements(opened: Any) -> None:
    """Links that live for longer than `stable_after`, and die: as many of them as the connection's policy allows."""
    pool, peer = await opened(1, retry=RetryPolicy(max_restarts=2, restart_window=60, stable_after=1))
    for _ in range(200):
        await asyncio.sleep(2)
        if peer.open_now:
            peer.lose()
    assert peer.tried < 1 + 400 / 60 * 4
    assert pool.get_pool_stats()["pool_size"] == 1


@pytest.mark.parametrize("kind", ["dies", "refuses for good"])
async def test_replacements_take_from_the_budget(opened: Any, kind: str) -> None:
    """A budget of one every ten seconds lets no more through than that, but for first attempts."""
    peer = Dying()
    budget = RetryBudget(0.1)
    policy = PoolPolicy(replacement=RetryPolicy(max_attempts=None, initial_delay=0.1, max_delay=0.1))
    pool, _ = await opened(8, 0, peer=peer, retry=RetryPolicy(max_attempts=1), budget=budget, policy=policy)
    before = peer.tried
    if kind == "dies":
        peer.dies = True
    else:
        peer.then = Permanent("the license has expired")
    for link in list(peer.made):
        link.gone.set_result(ConnectionLostError("died"))
    await asyncio.sleep(600)
    assert peer.tried - before <= 8 + 60 + 1
    del pool


async def test_overflow_that_fails_has_pauses_whoever_asks_for_it(opened: Any) -> None:
    """Not one start for each who comes and goes."""
    peer = Peer()
    pool, _ = await opened(1, 1, peer=peer)
    peer.then = TRANSIENT
    async with pool.acquire():
        for _ in range(1000):
            with pytest.raises(PoolTimeoutError):
                await pool.acquire(timeout=0.1)
    assert peer.tried < 30


async def test_a_call_that_kills_its_plugin_is_not_repeated_for_ever(opened: Any) -> None:
    """Poison costs a few links, and not all of them, again and again."""
    pool, peer = await opened(1)
    peer.call_outcomes = ["lost"] * 100
    with pytest.raises(ConnectionLostError, match="perhaps the call itself ends the peer"):
        await asyncio.wait_for(pool.call("a.B", IDEMPOTENT), 1000)
    assert len(peer.calls) == 4


async def test_a_call_that_was_not_sent_is_sent_elsewhere(opened: Any) -> None:
    """Also one that is not idempotent, for nobody has executed it."""
    pool, peer = await opened(2)
    peer.call_outcomes = ["unsent", "reply"]
    assert await pool.call("a.B") == "reply"
    assert len(peer.calls) == 2


# --- who waits --------------------------------------------------------------------------------------------------------


async def test_who_has_named_a_time_waits_through_a_short_restart(opened: Any) -> None:
    """An acquire with a timeout, a call with one, and a call that is idempotent; others are told at once."""
    pool, peer = await opened(2)
    peer.then = TRANSIENT
    for link in list(peer.made):
        link.gone.set_result(ConnectionLostError("restarted"))
    await settled()
    began = now()
    for hurried in (pool.acquire(), pool.call("a.B")):
        with pytest.raises(PoolUnavailableError):
            await hurried
    assert now() == began
    acquire, idempotent, timed = begun(
        pool.acquire(timeout=30),
        pool.call("a.B", IDEMPOTENT),
        pool.call("a.B", CallOptions(timeout=30)),
    )
    await asyncio.sleep(2)
    peer.then = None
    lease = await acquire
    assert 2 <= now() - began < 15
    lease.release()
    assert await idempotent == await timed == "reply"


async def test_who_has_named_a_time_is_told_when_it_is_over(opened: Any) -> None:
    """Of an acquire, and of a call, whose timeout covers the waiting, and is not counted anew."""
    pool, peer = await opened(1)
    async with pool.acquire():
        began = now()
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout=3)
        for call in (pool.call("a.B", CallOptions(timeout=1)), anext(pool.stream("a.B", CallOptions(timeout=1)))):
            with pytest.raises(CallTimeoutError, match="waited 1 s"):
                await call
        assert now() - began == pytest.approx(5)
    (held,) = begun(_held_for(pool, 4))
    await settled()
    assert await pool.call("a.B", CallOptions(timeout=10)) == "reply"
    assert peer.options[-1].timeout == pytest.approx(6)
    await held


async def _held_for(pool: ConnectionPool, seconds: float) -> None:
    async with pool.acquire():
        await asyncio.sleep(seconds)


async def test_what_sleeps_is_woken_before_anybody_is_told_that_nothing_can_connect(opened: Any) -> None:
    """A slot that is asleep may do what one that fails cannot."""
    peer = Peer()
    pool, _ = await opened(2, policy=PoolPolicy(max_idle=10, min_idle=0), peer=peer)
    keep = await pool.acquire()
    await asyncio.sleep(30)
    assert peer.open_now == 1
    peer.script = [TRANSIENT] * 50
    next(link for link in peer.made if link.closes == 0).gone.set_result(ConnectionLostError("died"))
    await asyncio.sleep(0.1)
    peer.script = []
    async with pool.acquire():
        pass
    keep.release()


async def test_what_fails_does_not_count_for_the_minimum(opened: Any) -> None:
    """The last slot that serves is not put to sleep because another one tries to."""
    peer = Peer()
    pool, _ = await opened(2, policy=PoolPolicy(max_idle=10, min_idle=1), peer=peer)
    peer.then = TRANSIENT
    peer.made[0].gone.set_result(ConnectionLostError("died"))
    await asyncio.sleep(60)
    assert pool.get_pool_stats()["total_connections"] == 1


async def test_what_is_too_old_serves_until_there_is_another(opened: Any) -> None:
    """Its age does not take the last link away while no other can be had."""
    peer = Peer()
    pool, _ = await opened(1, 0, policy=PoolPolicy(max_lifetime=100, jitter=0), peer=peer)
    await asyncio.sleep(50)
    peer.then = TRANSIENT
    await asyncio.sleep(100)
    async with pool.acquire() as client:
        assert await client.call("a.B") == "reply"
    peer.then = None
    await asyncio.sleep(120)
    assert peer.made[0].closes == 1
    assert pool.get_pool_stats()["available_in_pool"] == 1


async def test_all_that_are_too_old_are_not_replaced_at_once(opened: Any) -> None:
    """However many links came up together, most of them serve at any time."""
    peer = Peer(delay=2)
    pool, _ = await opened(4, 0, policy=PoolPolicy(max_lifetime=100, jitter=0), peer=peer)
    least = 4
    for _ in range(1200):
        await asyncio.sleep(0.1)
        least = min(least, pool.get_pool_stats()["total_connections"])
    assert least >= 3
    assert peer.opened >= 8


# --- threads, loops and contexts --------------------------------------------------------------------------------------


def test_another_loop_is_refused_also_beside_a_task_that_computes() -> None:
    """In every case, whatever the pool's own loop does in that moment."""
    pool = make(Peer(), 2)
    outcomes: list[str] = []

    async def elsewhere() -> None:
        for _ in range(50):
            try:
                async with pool.acquire():
                    outcomes.append("granted")
            except RuntimeError as error:
                outcomes.append(str(error).partition("another event loop")[1])
            await asyncio.sleep(0)

    async def main() -> None:
        async with pool:
            thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
            thread.start()
            while thread.is_alive():
                sum(range(10_000))
                await asyncio.sleep(0)
            thread.join()
            assert pool.get_pool_stats()["available_in_pool"] == 2

    asyncio.run(main())
    assert set(outcomes) == {"another event loop"}


def test_a_lease_that_is_released_from_a_thread_serves_who_waits_at_once() -> None:
    """The loop is woken, and does not find out when something else wakes it."""

    async def main() -> float:
        async with make(Peer(), 1) as pool:
            lease = await pool.acquire()
            (waiting,) = begun(pool.acquire())
            await asyncio.sleep(0.05)
            began = time.monotonic()
            await asyncio.get_running_loop().run_in_executor(None, lease.release)
            threading.Timer(0, lambda: None).start()
            (await asyncio.wait_for(waiting, 100)).release()
            took = time.monotonic() - began
            assert pool.get_pool_stats()["available_in_pool"] == 1
            return took

    async def from_a_timer() -> float:
        async with make(Peer(), 1) as pool:
            lease = await pool.acquire()
            (waiting,) = begun(pool.acquire())
            await asyncio.sleep(0.05)
            timer = threading.Timer(0.1, lease.release)
            timer.start()
            began = time.monotonic()
            asyncio.get_running_loop().call_later(100, lambda: None)
            (await waiting).release()
            return time.monotonic() - began

    assert asyncio.run(main()) < 50
    assert asyncio.run(from_a_timer()) < 50


async def test_connections_do_not_keep_the_context_of_whoever_needed_them_first() -> None:
    """Overflow, and slots that were woken, are made in the context of the pool."""
    request = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    class Noting(Connection):
        async def while_connecting(self) -> Any:
            seen.append(request.get())
            return await super().while_connecting()

    pool = make(Peer(), 1, 1, connection_class=Noting, on_open=lambda conn: seen.append(request.get()))

    async def use() -> None:
        request.set("mine")
        async with pool.acquire(), pool.acquire():
            pass

    async with pool:
        await asyncio.create_task(use())
    assert seen == ["none"] * 4


# --- small things -----------------------------------------------------------------------------------------------------


async def test_a_pool_that_is_opened_again_does_not_pause_for_what_failed_before(opened: Any) -> None:
    """Neither its connections nor its overflow: whoever opens it again has mended what was wrong."""
    pool, peer = await opened(1, 1, retry=RetryPolicy(max_attempts=1))
    peer.then = TRANSIENT
    async with pool.acquire():
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout=5)
    await pool.close_all()
    peer.then = None
    await pool.initialize()
    async with pool.acquire():
        before = now()
        async with pool.acquire(timeout=50):
            assert now() == before


async def test_overflow_that_never_came_up_was_not_used(opened: Any) -> None:
    """It is counted when it is in service."""
    peer = Peer()
    pool, _ = await opened(1, 1, peer=peer)
    peer.then = HANG
    async with pool.acquire():
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout=1)
    assert pool.get_pool_stats()["stats"]["overflow_used"] == 0


async def test_a_policy_is_not_given_afterwards() -> None:
    """For it would have no effect."""
    pool: Any = make(Peer())
    with pytest.raises(AttributeError):
        pool.policy = PoolPolicy()


async def test_what_belongs_into_the_policy_is_said() -> None:
    """Whoever gives a setting of the policy to the pool is told where it goes."""
    wrong: dict[str, Any] = {"standby": 1}
    with pytest.raises(TypeError, match=r"give policy=PoolPolicy\(standby=\.\.\.\)"):
        ConnectionPool(Peer(), **wrong)


async def test_a_group_of_errors_is_told_by_what_is_in_it(opened: Any) -> None:
    """And not as '1 sub-exception'."""
    group = ExceptionGroup("unhandled errors in a TaskGroup", [PermissionError("wrong token")])

    def configure(conn: Connection) -> None:
        raise group

    pool = make(Peer(), 1, on_open=configure)
    with pytest.raises(PoolUnavailableError, match="wrong token"):
        await pool.initialize()


@pytest.mark.parametrize("how", ["limit", "timeout", "cancel"])
async def test_a_check_that_cannot_be_cancelled_holds_nobody_up(opened: Any, caplog: Any, how: str) -> None:
    """It is left to itself, and its link is replaced; the next one is served."""
    stuck = asyncio.Event()

    async def check(conn: Any) -> None:
        while not stuck.is_set() and conn.link is peer.made[0]:
            with suppress(asyncio.CancelledError):
                await stuck.wait()

    policy = PoolPolicy(hook_timeout=5.0 if how == "limit" else None)
    pool, peer = await opened(1, on_acquire=check, policy=policy)
    acquiring = asyncio.ensure_future(begun(pool.acquire(timeout=3 if how == "timeout" else None))[0])
    if how == "cancel":
        await settled()
        acquiring.cancel()
    began = now()
    await asyncio.wait({acquiring}, timeout=100)
    assert (acquiring.done(), now() - began <= 7) == (True, True)
    if how == "limit":
        acquiring.result().release()  # of the next link
    else:
        with pytest.raises((PoolTimeoutError, asyncio.CancelledError)):
            acquiring.result()
        async with pool.acquire(timeout=30) as client:
            assert client.connection.link is peer.made[1]
    assert "ignores its cancellation and is left behind" in caplog.text
    stuck.set()
    await settled()


@pytest.mark.parametrize("linger", [0, 2])
@pytest.mark.parametrize("is_old", [False, True])
async def test_overflow_that_alone_serves_is_kept(opened: Any, linger: float, is_old: bool) -> None:
    """However long it is idle, and though it is to be replaced; until a connection of the pool's own serves again."""
    policy = PoolPolicy(size=1, max_overflow=1, overflow_linger=linger)
    pool, peer = await opened(1, 1, retry=RetryPolicy(max_attempts=1), policy=policy)
    async with pool.acquire(), pool.acquire() as extra:
        overflow = extra.connection
        peer.then = TRANSIENT
        peer.made[0].gone.set_result(TRANSIENT)
        await asyncio.sleep(1)
        if is_old:
            pool.expire()
    await asyncio.sleep(30)
    async with pool.acquire(timeout=0) as client:
        assert client.connection is overflow
    peer.then = None
    await asyncio.sleep(HOUR)
    (slot,) = pool.slots
    assert not slot.is_overflow

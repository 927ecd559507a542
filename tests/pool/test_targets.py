"""Several targets in one pool: where connections go, who is left out, and what comes and goes while it runs."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import HANG, TRANSIENT, Peer

from fsm_conn import (
    CallOptions,
    CallTimeoutError,
    Connection,
    ConnectionPool,
    Endpoint,
    LeaseLostError,
    LinkLostError,
    Plugin,
    PoolPolicy,
    PoolTimeoutError,
    PoolUnavailableError,
    RetryPolicy,
)
from fsm_conn.testing import run_virtually

from .conftest import begun, make, now, settled

SOON = RetryPolicy(max_attempts=None, initial_delay=1.0, max_delay=4.0, jitter="none")


class Backend(Peer):
    """A peer with a name, that can be down: what is open to it is lost, and attempts fail."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)
        self.__name__ = name
        self.lives_for: float | None = None

    def __call__(self) -> Any:
        link = super().__call__()
        if self.lives_for is not None:
            asyncio.get_running_loop().call_later(self.lives_for, _crash, link)
        return link

    def open_links(self) -> list[Any]:
        return [link for link in self.made if link.is_open and not link.closes and not link.gone.done()]

    def go_down(self, how: Any = TRANSIENT) -> None:
        self.then = how
        for link in self.open_links():
            link.gone.set_result(LinkLostError("the server was killed"))

    def come_back(self) -> None:
        self.then = None


def _crash(link: Any) -> None:
    if not link.gone.done():
        link.gone.set_result(LinkLostError("it crashed"))


async def spread(count: int, size: int, overflow: int = 0, **options: Any) -> tuple[Any, list[Backend]]:
    """A pool on so many backends, open."""
    backends = [Backend(f"b{number}") for number in range(count)]
    pool = make(backends, size, overflow, **{"policy": PoolPolicy(replacement=SOON), **options})
    await pool.initialize()
    return pool, backends


def shares(backends: list[Backend]) -> list[int]:
    return [backend.open_now for backend in backends]


async def closed(pool: ConnectionPool, backends: list[Backend]) -> None:
    await pool.close_all(timeout=0)
    await settled(100)
    assert pool.slots == ()
    assert shares(backends) == [0] * len(backends)


# --- what is given --------------------------------------------------------------------------------------------------------


def test_what_a_list_means() -> None:
    """Strings are a command; values and callables are several targets; anything between is refused."""
    several = ConnectionPool([Endpoint("a:1"), Endpoint("b:1")])
    assert several.name == "a:1, b:1"
    assert several.targets == (Endpoint("a:1"), Endpoint("b:1"))
    assert ConnectionPool(["python", "calculator.py"]).name == "calculator.py"
    assert ConnectionPool([Plugin(["./a"]), Backend("mine")]).name == "a, mine"
    assert ConnectionPool([Endpoint(f"h{number}:1") for number in range(9)]).name == "h0:1, h1:1, h2:1 and 6 more"
    assert ConnectionPool([Endpoint("a:1")], name="shop").name == "shop"
    with pytest.raises(TypeError, match="in a list of targets: give values"):
        ConnectionPool([Endpoint("a:1"), "b:1"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="a pool needs a target"):
        ConnectionPool([])
    with pytest.raises(ValueError, match="is given twice"):
        ConnectionPool([Endpoint("a:1"), Endpoint("a:1")])


def test_targets_of_the_same_name_can_be_told_apart() -> None:
    """Two commands of one program, for instance."""
    pool = ConnectionPool([Plugin(["./calc", "1"]), Plugin(["./calc", "2"])])
    assert list(pool.get_pool_stats()["targets"]) == ["calc", "calc (2)"]


# --- where connections go ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size", "expected"), [(2, 4, [2, 2]), (3, 5, [2, 2, 1]), (3, 2, [1, 1, 0]), (1, 3, [3])]
)
async def test_connections_are_spread(count: int, size: int, expected: list[int]) -> None:
    """As evenly as that can be done."""
    pool, backends = await spread(count, size)
    assert shares(backends) == expected
    await closed(pool, backends)


async def test_connections_say_where_they_go() -> None:
    """By their names, beside the pool's."""
    pool, backends = await spread(2, 2, name="shop")
    assert [slot.conn.name for slot in pool.slots] == ["shop/b0#1", "shop/b1#2"]
    await closed(pool, backends)


async def test_overflow_goes_where_fewest_are() -> None:
    """As all else does."""
    pool, backends = await spread(3, 3, 3)
    leases = await asyncio.gather(*begun(*(pool.acquire() for _ in range(6))))
    assert shares(backends) == [2, 2, 2]
    for lease in leases:
        lease.release()
    await closed(pool, backends)


async def test_the_least_loaded_target_is_leased_first() -> None:
    """Whichever order leases are given back in."""
    pool, backends = await spread(3, 9)
    rng, held = random.Random(1), []
    for _ in range(300):
        if held and (len(held) == 9 or rng.random() < 0.5):
            held.pop(rng.randrange(len(held))).release()
        else:
            load = Counter({backend.__name__: 0 for backend in backends})
            load.update(lease.connection.name.partition("/")[2][:2] for lease in held)
            lease = await pool.acquire()
            assert load[lease.connection.name.partition("/")[2][:2]] == min(load.values())
            held.append(lease)
    for lease in held:
        lease.release()
    await closed(pool, backends)


async def test_calls_go_to_the_least_loaded_target() -> None:
    """Leases are load, too."""
    pool, backends = await spread(2, 4)
    for kept in range(2):
        pair = sorted([await pool.acquire(), await pool.acquire()], key=lambda lease: lease.connection.name)
        pair[1 - kept].release()
        before = [len(backend.calls) for backend in backends]
        await pool.call("a.B")
        assert [len(backend.calls) - count for backend, count in zip(backends, before, strict=True)] == [kept, 1 - kept]
        pair[kept].release()
    for backend in backends:
        backend.calls.clear()
    held = [await pool.acquire() for _ in range(3)]
    free = next(each for each in pool.slots if not each.holders)
    await pool.call("a.B")
    assert [len(backend.calls) for backend in backends] == [free.target.name == "b0", free.target.name == "b1"]
    for lease in held:
        lease.release()
    await closed(pool, backends)


# --- who is left out --------------------------------------------------------------------------------------------------------


async def test_a_dead_target_does_not_keep_the_pool_from_opening() -> None:
    """All connections are there, on the other one."""
    backends = [Backend("dead", then=TRANSIENT), Backend("well")]
    pool = make(backends, 4)
    await pool.initialize()
    assert shares(backends) == [0, 4]
    assert pool.get_pool_stats()["targets"]["dead"]["is_left_out"]
    assert "try again" in pool.get_pool_stats()["targets"]["dead"]["last_error"]
    await closed(pool, backends)


async def test_a_pool_whose_targets_are_all_dead_does_not_open() -> None:
    """The error has what each of them said, and nothing is left."""
    backends = [Backend("a", then=OSError("a is down")), Backend("b", then=OSError("b is down"))]
    pool = make(backends, 2)
    with pytest.raises(PoolUnavailableError, match=r"a is down.*b is down|b is down.*a is down"):
        await pool.initialize()
    await closed(pool, backends)


async def test_a_dead_target_is_left_out_and_all_capacity_moves_at_once() -> None:
    """Nobody waits, and nothing is refused."""
    pool, backends = await spread(2, 4)
    backends[0].go_down()
    await settled()
    assert shares(backends) == [0, 4]
    for _ in range(20):
        await pool.call("a.B")
    assert (len(backends[0].calls), len(backends[1].calls)) == (0, 20)
    await closed(pool, backends)


async def test_a_dead_target_is_tried_with_growing_pauses_by_one_connection() -> None:
    """Which takes nothing from the others."""
    pool, backends = await spread(2, 4)
    backends[0].go_down()
    await settled()
    began, tried = now(), backends[0].tried
    assert tried == 4  # two at the beginning, and each of them once more
    await asyncio.sleep(30)
    times = [at - began for at in backends[0].open_times[tried:]]
    assert times == pytest.approx([1, 3, 7, 11, 15, 19, 23, 27], abs=0.1)
    assert pool.get_pool_stats()["total_connections"] == 4
    await closed(pool, backends)


async def test_a_target_that_is_back_gets_its_share_again() -> None:
    """One connection after the other; the old ones serve until the new ones are there."""
    pool, backends = await spread(2, 6)
    backends[0].go_down()
    await settled()
    backends[0].come_back()
    backends[0].delay = 0.5
    least = 6
    for _ in range(100):
        await asyncio.sleep(0.1)
        least = min(least, pool.get_pool_stats()["total_connections"])
    assert (shares(backends), least) == ([3, 3], 6)
    assert not pool.get_pool_stats()["targets"]["b0"]["is_left_out"]
    await closed(pool, backends)


async def test_leases_keep_their_connections_while_a_target_comes_back() -> None:
    """What is leased moves when it is given back."""
    pool, backends = await spread(2, 2)
    backends[0].go_down()
    await settled()
    leases = [await pool.acquire() for _ in range(2)]
    backends[0].come_back()
    await asyncio.sleep(10)
    assert [lease.is_held for lease in leases] == [True, True]
    for lease in leases:
        lease.release()
    await asyncio.sleep(1)
    assert shares(backends) == [1, 1]
    await closed(pool, backends)


async def test_a_pool_smaller_than_its_targets_finds_the_one_that_serves() -> None:
    """Also when they take turns in being dead."""
    pool, backends = await spread(3, 1)
    for _ in range(3):
        for alive in backends:
            alive.come_back()
            await settled()
            for backend in backends:
                if backend is not alive:
                    backend.go_down()
            await asyncio.sleep(10)
            before = len(alive.calls)
            await pool.call("a.B")
            assert (len(alive.calls), shares(backends).count(1)) == (before + 1, 1)
    await closed(pool, backends)


async def test_all_targets_dead_is_told_at_once_to_who_names_no_time() -> None:
    """And whoever names one is served when any of them is back."""
    pool, backends = await spread(2, 2)
    for backend in backends:
        backend.go_down(OSError(f"{backend.__name__} is down"))
    await asyncio.sleep(30)
    with pytest.raises(PoolUnavailableError, match="b0 is down"):
        await pool.call("a.B")
    call = asyncio.create_task(pool.call("a.B", CallOptions(idempotent=True, timeout=60)))
    await settled()
    backends[0].come_back()
    assert await call == "reply"
    await asyncio.sleep(30)
    assert shares(backends) == [2, 0]
    await closed(pool, backends)


async def test_who_waits_is_served_by_overflow_on_another_target() -> None:
    """Rather than by more of the one that hangs."""
    pool, backends = await spread(2, 2, 2)
    backends[0].go_down(HANG)
    await settled()
    first = await pool.acquire(timeout=5)
    second = await pool.acquire(timeout=5)
    assert shares(backends) == [0, 2]
    first.release()
    second.release()
    await closed(pool, backends)


async def test_standby_of_another_target_takes_the_place_of_one_that_is_lost() -> None:
    """Rather than one of the same, which is perhaps lost in the next moment."""
    pool, backends = await spread(2, 2, policy=PoolPolicy(standby=2, replacement=SOON))
    victim = backends[0].open_links()[0]
    victim.gone.set_result(LinkLostError("killed"))
    backends[0].then = HANG
    await settled()
    active = [slot.target.name for slot in pool.slots if slot.is_active]
    assert active == ["b1", "b1"]
    await closed(pool, backends)


async def test_crash_loops_on_all_targets_have_pauses() -> None:
    """Going from one to another is no way round them: at most some hundred starts for each connection and hour."""
    pool, backends = await spread(2, 2, connection_class=Connection, retry=RetryPolicy(max_attempts=1), policy=None)

    for backend in backends:
        backend.lives_for = 0.05
        backend.go_down(None)
    before = sum(backend.tried for backend in backends)
    await asyncio.sleep(3600)
    assert sum(backend.tried for backend in backends) - before <= 2 * 120
    await closed(pool, backends)


# --- calls that are repeated ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "options"), [("unsent", None), ("lost", CallOptions(idempotent=True))])
async def test_a_call_is_repeated_on_another_target(outcome: str, options: CallOptions | None) -> None:
    """When it was not sent, or may be sent twice."""
    pool, backends = await spread(2, 4)
    for backend in backends:
        backend.call_outcomes = [outcome]
    backends[1].call_outcomes = []
    for _ in range(2):
        assert await pool.call("a.B", *([] if options is None else [options])) == "reply"
    assert (len(backends[0].calls), len(backends[1].calls)) in {(1, 2), (2, 1)}
    await closed(pool, backends)


async def test_a_call_that_was_not_sent_is_repeated_on_another_connection() -> None:
    """Of the same target, when there is no other."""
    pool, (backend,) = await spread(1, 2)
    backend.call_outcomes = ["unsent"]
    chosen: list[Any] = []
    for link in backend.open_links():
        link.call = lambda *args, link=link, call=link.call: (chosen.append(link), call(*args))[1]
    assert await pool.call("a.B") == "reply"
    assert len(set(chosen)) == 2
    await closed(pool, [backend])


# --- while it is open -------------------------------------------------------------------------------------------------------


async def test_a_target_that_is_added_gets_its_share() -> None:
    """Without a moment in which fewer serve."""
    pool, backends = await spread(1, 4)
    more = Backend("more", delay=1)
    pool.add_target(more)
    least = 4
    for _ in range(50):
        await asyncio.sleep(0.1)
        least = min(least, pool.get_pool_stats()["total_connections"])
    assert (shares([*backends, more]), least) == ([2, 2], 4)
    with pytest.raises(ValueError, match="'more' is a target of this pool already"):
        pool.add_target(more)
    await closed(pool, [*backends, more])


async def test_a_target_that_is_added_in_an_outage_serves_at_once() -> None:
    """Nobody waits for the end of a pause."""
    pool, backends = await spread(1, 2, policy=PoolPolicy(replacement=RetryPolicy(initial_delay=50, max_delay=50)))
    backends[0].go_down()
    await asyncio.sleep(20)
    more = Backend("more")
    began = now()
    pool.add_target(more)
    await pool.call("a.B")
    await settled()
    assert (now() - began, shares([more])) == (0, [2])
    await closed(pool, [*backends, more])


async def test_a_target_that_is_removed_drains() -> None:
    """Its leases and calls are waited for, nobody new is served by it, and others take its place at once."""
    pool, backends = await spread(2, 4)
    leases = [await pool.acquire() for _ in range(2)]
    removing = asyncio.create_task(pool.remove_target(backends[0]))
    await settled()
    assert (shares(backends), pool.targets) == ([1, 4], (backends[1],))
    for _ in range(10):
        await pool.call("a.B")
        async with pool.acquire() as client:
            assert "b1" in client.connection.name
    assert not backends[0].calls
    assert [lease.is_held for lease in leases] == [True, True]
    assert not removing.done()
    for lease in leases:
        lease.release()
    await removing
    assert shares(backends) == [0, 4]
    await closed(pool, backends)


async def test_leases_of_a_removed_target_end_when_its_time_is_up() -> None:
    """And say why."""
    pool, backends = await spread(2, 2)
    leases = [await pool.acquire() for _ in range(2)]
    began = now()
    await pool.remove_target("b0", timeout=3)
    assert now() - began == pytest.approx(3)
    lost = [lease for lease in leases if not lease.is_held]
    assert len(lost) == 1
    with pytest.raises(LeaseLostError, match="its target was removed"):
        await lost[0].call("a.B")
    for lease in leases:
        lease.release()
    await closed(pool, backends)


async def test_the_wrong_target_and_the_last_one_are_not_removed() -> None:
    """Told by the names that there are."""
    pool, backends = await spread(2, 2)
    with pytest.raises(ValueError, match=r"'x' is no target of this pool, which has 'b0', 'b1'"):
        await pool.remove_target("x")
    await pool.remove_target(backends[1])
    with pytest.raises(ValueError, match="the last target"):
        await pool.remove_target(backends[0])
    await closed(pool, backends)


async def test_targets_come_and_go_while_the_pool_is_closed_or_being_opened() -> None:
    """As while it is open."""
    backends = [Backend("a", delay=1), Backend("b", delay=1), Backend("c", delay=1)]
    pool = make(backends[:2], 2)
    pool.add_target(backends[2])
    await pool.remove_target(backends[0])
    opening = asyncio.create_task(pool.initialize())
    await asyncio.sleep(0.5)
    assert [backend.tried for backend in backends] == [0, 1, 1]
    removing = asyncio.create_task(pool.remove_target(backends[1]))
    await opening
    await removing
    assert shares(backends) == [0, 0, 2]
    await closed(pool, backends)


# --- always -----------------------------------------------------------------------------------------------------------------

steps = st.one_of(
    st.tuples(st.sampled_from(["down", "hang", "up", "add", "remove"]), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.3, 1.0, 5.0])),
    st.tuples(st.just("acquire"), st.just(0)),
    st.tuples(st.just("release"), st.integers(0, 5)),
    st.tuples(st.just("call"), st.just(0)),
)


@settings(max_examples=60)
@given(st.integers(1, 5), st.integers(0, 2), st.lists(steps, max_size=40))
def test_whatever_happens_to_targets(size: int, overflow: int, life: list[tuple[str, Any]]) -> None:
    """Nobody is given what is dead while something else serves, nothing is lost, and all capacity comes back."""
    run_virtually(lived(size, overflow, life))


class Life:
    """A pool, its backends, and what is held of it."""

    def __init__(self, size: int, overflow: int) -> None:
        self.backends = [Backend(f"b{number}") for number in range(4)]
        self.there = self.backends[:2]
        self.held: list[Any] = []
        self.removals: list[asyncio.Task[None]] = []
        self.pool = make(list(self.there), size, overflow, policy=PoolPolicy(replacement=SOON))

    async def down(self, number: int) -> None:
        self.backends[number].go_down()

    async def hang(self, number: int) -> None:
        self.backends[number].go_down(HANG)

    async def up(self, number: int) -> None:
        self.backends[number].come_back()

    async def add(self, number: int) -> None:
        if self.backends[number] not in self.there:
            self.pool.add_target(self.backends[number])
            self.there.append(self.backends[number])

    async def remove(self, number: int) -> None:
        if self.backends[number] in self.there and len(self.there) > 1:
            self.there.remove(self.backends[number])
            self.removals.append(asyncio.create_task(self.pool.remove_target(self.backends[number], timeout=2)))

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def release(self, number: int) -> None:
        if number < len(self.held):
            self.held.pop(number).release()

    async def acquire(self, _: int) -> None:
        await acquire_one(self.pool, self.held)

    async def call(self, _: int) -> None:
        await call_one(self.pool, self.there)

    async def end(self, size: int) -> None:
        """From now on all goes well."""
        while self.held:
            self.held.pop().release()
        for backend in self.backends:
            backend.come_back()
        await asyncio.sleep(120)  # longer than an attempt that hangs, and all pauses
        await asyncio.gather(*self.removals)
        share, more = divmod(size, len(self.there))
        assert sorted(shares(self.there), reverse=True) == [share + (place < more) for place in range(len(self.there))]
        assert sum(shares(self.backends)) == self.pool.get_pool_stats()["available_in_pool"] == size
        await closed(self.pool, self.backends)


async def lived(size: int, overflow: int, steps: list[tuple[str, Any]]) -> None:
    life = Life(size, overflow)
    await life.pool.initialize()
    for step, what in steps:
        await getattr(life, step)(what)
        await settled(40)
        assert all(slot.target.target in life.there for slot in life.pool._slots.free)
    await life.end(size)


async def acquire_one(pool: ConnectionPool, held: list[Any]) -> None:
    serving = any(each.is_ready and each.room for each in pool.slots)
    try:
        lease = await pool.acquire(timeout=1)
    except PoolTimeoutError:
        assert not serving
    else:
        assert lease.is_connected()
        held.append(lease)


async def call_one(pool: ConnectionPool, there: list[Backend]) -> None:
    serving = [each for each in pool.slots if each.in_service and each.takes_calls and not each.is_replaced]
    calls = [len(backend.calls) for backend in there]
    try:
        await pool.call("a.B", CallOptions(timeout=1))
    except CallTimeoutError:
        assert not serving
    else:
        called = [backend for backend, before in zip(there, calls, strict=True) if len(backend.calls) > before]
        assert [backend.then for backend in called] == [None] or not called

"""A retry budget: however many connections share it, no more attempts than it allows. In virtual time."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import TRANSIENT, Peer

from fsm_conn import ConnectFailedError, Connection, RetryBudget, RetryPolicy, StartTimeoutError
from fsm_conn.testing import VirtualLoop

STUBBORN = RetryPolicy(max_attempts=None, initial_delay=0, jitter="none")


def now() -> float:
    return asyncio.get_running_loop().time()


def most_within(times: list[float], seconds: float) -> int:
    """The most of `times` that lie within any `seconds`."""
    times = sorted(times)
    return max(sum(since <= at <= since + seconds for at in times) for since in times)


async def test_retries_of_many_connections_come_at_the_rate() -> None:
    """A burst at once, then one after the other; nobody starves, for the first to come is the first served."""
    budget = RetryBudget(rate=2, burst=3)
    peers = [Peer() for _ in range(9)]
    conns = [Connection(peer, retry=STUBBORN, budget=budget) for peer in peers]
    await asyncio.gather(*(conn.connect() for conn in conns))
    since = now()
    for peer in peers:
        peer.lose()
    await asyncio.gather(*(conn.wait_for_state("reconnecting") for conn in conns))
    await asyncio.gather(*(conn.ensure_connected() for conn in conns))
    assert [peer.open_times[-1] - since for peer in peers] == [0, 0, 0, 0.5, 1, 1.5, 2, 2.5, 3]
    await asyncio.gather(*(conn.disconnect() for conn in conns))
    assert len(asyncio.all_tasks()) == 1


async def test_a_first_attempt_is_no_retry() -> None:
    """However empty the bucket is."""
    budget = RetryBudget(rate=0.001)
    await budget.admit()
    since = now()
    async with Connection(Peer(), budget=budget):
        assert now() == since


async def test_who_is_cancelled_takes_no_token() -> None:
    """Connections that are disconnected while they wait make no others wait longer."""
    budget = RetryBudget(rate=1)
    await budget.admit()
    since = now()
    waiting = [asyncio.create_task(budget.admit()) for _ in range(5)]
    await asyncio.sleep(0.5)
    for task in waiting[:4]:
        task.cancel()
    await asyncio.wait(waiting)
    assert now() - since == 1
    assert [task.cancelled() for task in waiting] == [True] * 4 + [False]


async def test_disconnect_does_not_wait_for_the_budget() -> None:
    """It ends the wait."""
    budget = RetryBudget(rate=0.001)
    peer = Peer(then=TRANSIENT)
    conn = Connection(peer, retry=STUBBORN, budget=budget)
    connecting = asyncio.create_task(conn.connect())
    await asyncio.sleep(10)
    assert (peer.tried, conn.state) == (2, "reconnecting")
    since = now()
    await conn.disconnect()
    assert now() == since
    await asyncio.wait({connecting})
    assert isinstance(connecting.exception(), ConnectionError)


async def test_the_deadline_of_an_outage_holds_while_waiting_for_the_budget() -> None:
    """It says so, and takes no token."""
    budget = RetryBudget(rate=0.01)
    since = now()
    await budget.admit()
    conn = Connection(Peer(then=TRANSIENT), retry=RetryPolicy(deadline=5, jitter="none"), budget=budget)
    with pytest.raises(ConnectFailedError) as failure:
        await conn.connect()
    assert now() - since == 5
    assert isinstance(failure.value.__cause__, StartTimeoutError)
    assert "the retry policy's deadline of 5 s has passed" in str(failure.value)
    await budget.admit()
    assert now() - since == 100
    await conn.disconnect()


async def test_a_deadline_that_has_passed_takes_no_token() -> None:
    """However full the bucket is: here the old link took so long to close."""
    budget = RetryBudget(rate=0.01)
    peer = Peer(close_delay=4)
    conn = Connection(peer, retry=RetryPolicy(deadline=3, stable_after=1), budget=budget)
    await conn.connect()
    await asyncio.sleep(2)
    peer.lose()
    await conn.wait_for_state("failed")
    assert isinstance(conn.reason, StartTimeoutError)
    since = now()
    await budget.admit()
    assert now() == since
    await conn.disconnect()


def test_a_budget_is_of_one_loop_as_long_as_that_lives() -> None:
    """Two loops would each have a full bucket."""
    budget = RetryBudget(rate=1)
    with (
        asyncio.Runner(loop_factory=VirtualLoop) as first,
        asyncio.Runner(loop_factory=VirtualLoop) as second,
    ):
        first.run(budget.admit())
        with pytest.raises(RuntimeError, match=r"<RetryBudget .*> is used in another event loop; give each loop its"):
            second.run(budget.admit())
        first.close()
        second.run(budget.admit())


@pytest.mark.parametrize("use", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_budget_cannot_be_copied_or_pickled(use: Callable[[RetryBudget], Any]) -> None:
    """A second one would allow as much again."""
    with pytest.raises(TypeError, match=r"<RetryBudget .*> cannot be copied or pickled; share"):
        use(RetryBudget(rate=1))


def test_a_new_loop_begins_with_a_full_bucket() -> None:
    """Time of one loop means nothing in another."""
    budget = RetryBudget(rate=0.1, burst=2)

    async def take_two() -> float:
        await asyncio.sleep(5)
        since = now()
        await asyncio.gather(budget.admit(), budget.admit())
        return now() - since

    for _ in range(2):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            assert runner.run(take_two()) == 0


@given(
    st.floats(0.1, 100),
    st.integers(1, 20),
    st.lists(st.floats(0, 30).map(lambda x: round(x, 3)), min_size=1, max_size=60),
)
def test_never_more_than_the_budget_allows(rate: float, burst: int, asked: list[float]) -> None:
    """In any stretch of time: the burst, and what came back meanwhile. And nobody waits without need."""

    async def run() -> list[float]:
        budget = RetryBudget(rate, burst=burst)
        served: list[float] = []

        async def ask(at: float) -> None:
            await asyncio.sleep(at)
            await budget.admit()
            served.append(now())

        since = now()
        await asyncio.gather(*map(ask, asked))
        return [at - since for at in served]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        served = runner.run(run())
    assert served == sorted(served)
    for seconds in (0, 0.5, 5):
        assert most_within(served, seconds) <= burst + seconds * rate + 1 + 1e-6
    assert max(served) <= max(asked) + len(asked) / rate + 0.001


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rate": 0}, "rate=0.*more than zero"),
        ({"rate": "1"}, "rate='1'.*a number"),
        ({"rate": float("inf")}, "rate=inf.*finite"),
        ({"rate": 10**400}, "rate=<an integer of 1329 bits>.*finite"),
        ({"rate": 1, "burst": 10**400}, "burst=<an integer of 1329 bits>.*finite"),
        ({"rate": 1, "burst": 0}, "burst=0.*1 or more"),
        ({"rate": 1, "burst": True}, "burst=True.*a number"),
    ],
)
def test_wrong_budgets_say_what_to_give(wrong: dict[str, Any], told: str) -> None:
    """Named as they were given."""
    with pytest.raises((TypeError, ValueError), match=rf"RetryBudget\({told}"):
        RetryBudget(**wrong)


def test_a_budget_is_told_by_its_numbers_and_checked() -> None:
    """In `repr`, and where a connection is given one."""
    assert repr(RetryBudget(rate=2, burst=5)) == "<RetryBudget rate=2/s burst=5>"
    with pytest.raises(TypeError, match="budget=5: give a RetryBudget, the same to each connection that shares it"):
        Connection(["x"], budget=5)  # type: ignore[arg-type]

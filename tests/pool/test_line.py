"""The queue of waiters, alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from fsm_conn.pool.leasing.waiters import CALL, FEW, LEASE, PATIENT, Waiters
from fsm_conn.pool.stats import PoolStats


def user() -> Any:
    """Somebody."""
    return SimpleNamespace()


def slot() -> Any:
    """What is handed over, as far as the queue looks at it."""
    return SimpleNamespace(holders=[], callers=[])


async def test_leases_and_calls_are_counted_apart() -> None:
    """As they come, are served, leave and are refused."""
    line, loop = Waiters(PoolStats()), asyncio.get_running_loop()
    calls = [line.join(user(), loop, CALL) for _ in range(4)]
    leases = [line.join(user(), loop, LEASE) for _ in range(3)]
    assert (line.waiting, line.calls, line.leases, line.demand) == (7, 4, 3, 4)
    assert line.serve(slot())
    assert (line.waiting, line.calls, line.leases) == (6, 3, 3)
    line.leave(calls[1], CALL)
    assert (line.waiting, line.calls, line.leases) == (5, 2, 3)
    line.leave(leases[0], LEASE)
    assert (line.waiting, line.calls, line.leases, len(line)) == (4, 2, 2, 4)
    assert line.refuse(lambda: RuntimeError("closed")) == 4
    assert (line.waiting, line.calls, line.demand) == (0, 0, 0)
    assert all(waiter.done() for waiter in (*calls, *leases))
    assert [type(each.exception()) for each in (calls[2], leases[1])] == [RuntimeError, RuntimeError]
    [each.exception() for each in (calls[3], leases[2])]


async def test_who_is_served_is_told_to_the_slot() -> None:
    """Whoever came first; a call is no holder."""
    line, loop = Waiters(PoolStats()), asyncio.get_running_loop()
    caller, holder, given = user(), user(), slot()
    first = line.join(caller, loop, CALL)
    second = line.join(holder, loop, LEASE)
    assert line.head() == CALL
    assert line.serve(given)
    assert line.head() == LEASE
    assert line.serve(given)
    assert not line.serve(given)
    assert (first.result(), second.result()) == (given, given)
    assert (given.callers, given.holders) == ([caller], [holder])
    assert (line.waiting, line.calls) == (0, 0)


async def test_who_comes_back_is_served_first_in_the_order_in_which_he_had_come() -> None:
    """And whoever is there for the first time, after them."""
    line, loop = Waiters(PoolStats()), asyncio.get_running_loop()
    first, second, third = line.turn(), line.turn(), line.turn()
    assert first < second < third
    fresh = line.join(user(), loop)
    back = [line.join(user(), loop, turn=turn) for turn in (third, first, second, first)]
    served = []
    while line.serve(slot()):
        served += [each for each in (fresh, *back) if each.done() and each not in served]
    assert served == [back[1], back[3], back[2], back[0], fresh]


async def test_many_who_have_left_are_taken_out_and_few_are_not() -> None:
    """So that a queue that is never served does not grow, and leaving costs nothing as a rule."""
    line, loop = Waiters(PoolStats()), asyncio.get_running_loop()
    waiters = [line.join(user(), loop) for _ in range(3 * FEW)]
    staying = line.join(user(), loop)
    lengths = []
    for waiter in waiters:
        line.leave(waiter)
        lengths.append(len(line._queue))
    assert lengths == [49] * 40 + [8] * 8  # more than sixteen, and half of all who stand there
    later = [line.join(user(), loop) for _ in range(2 * FEW)]
    lengths = []
    for waiter in later:
        line.leave(waiter)
        lengths.append(len(line._queue))
    assert lengths == [40] * 29 + [3] * 3  # seven had left since
    assert (line.waiting, line.head(), staying.done()) == (1, LEASE, False)


async def test_the_patient_are_not_refused_for_an_outage() -> None:
    """They stay in their place."""
    line, loop = Waiters(PoolStats()), asyncio.get_running_loop()
    patient, hasty = line.join(user(), loop, CALL | PATIENT), line.join(user(), loop, CALL)
    assert line.refuse(lambda: RuntimeError("down"), patient_too=False) == 1
    assert (patient.done(), hasty.done(), line.waiting, line.calls) == (False, True, 1, 1)
    hasty.exception()
    line.forget()
    assert (line.waiting, line.calls, line.head()) == (0, 0, None)

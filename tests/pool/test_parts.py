"""The parts of a pool, each alone: the table of a slot, its pauses, and what is planned for those who wait."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn import RetryPolicy
from fsm_conn.checks import check
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.backoff import Backoff
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.pool.slots.slots import Slots
from fsm_conn.pool.slots.table import IN_SERVICE, SlotState, SlotTrigger
from fsm_conn.pool.stats import PoolStats

from .members import Member

# --- the table ----------------------------------------------------------------------------------------------------------


def test_the_table_of_a_slot_has_nothing_that_checks_find() -> None:
    """No trap, no orphan, no activity that fires what its state does not know."""
    assert not list(check(Slot))


def test_a_slot_is_closed_from_everywhere_and_lost_wherever_it_has_a_link() -> None:
    """Whatever it is doing when it is not needed any more, or when its link goes away."""
    lifecycle = Slot.lifecycle
    for state in SlotState:
        assert lifecycle.handles(state, SlotTrigger.RETIRE) or state == SlotState.CLOSED
        assert lifecycle.handles(state, SlotTrigger.FAULT)
        has_link = state in IN_SERVICE or state == SlotState.CONFIGURING
        assert lifecycle.handles(state, SlotTrigger.WITHDRAWN) == has_link
        may_have_link = has_link or state == SlotState.OPENING  # one that serves nobody for a while
        assert lifecycle.handles(state, SlotTrigger.LOST) == may_have_link


# --- pauses ---------------------------------------------------------------------------------------------------------------

PAUSES = RetryPolicy(max_attempts=None, initial_delay=1.0, max_delay=8.0, jitter="none")


def test_pauses_grow_until_a_link_has_lasted() -> None:
    """One that does not last `stable_after` changes nothing."""
    backoff, waits, at = Backoff(PAUSES, RetryPolicy(stable_after=10), random.Random(1)), [], 0.0
    for lasted in (5.0, 5.0, 5.0, 9.9, 10.0, 1.0):
        backoff.came_up(at)
        at += lasted
        backoff.went_down(at)
        backoff.failed(at)
        waits.append(backoff.wait)
    assert waits == [1, 2, 4, 8, 1, 2]


@pytest.mark.once
@given(st.integers(0, 4), st.lists(st.floats(0, 30), min_size=1, max_size=40))
def test_no_more_links_than_the_restart_intensity_allows(most: int, lives: list[float]) -> None:
    """In any window, whatever each link has lived for."""
    retry = RetryPolicy(max_restarts=most, restart_window=60, stable_after=1)
    backoff, at, losses = Backoff(PAUSES, retry, random.Random(1)), 0.0, []
    for lived in lives:
        backoff.came_up(at)
        at += lived
        backoff.went_down(at)
        backoff.lost(at)
        losses.append(at)
        backoff.failed(at)
        at += backoff.wait
        assert sum(loss > at - 60 for loss in losses) <= most + 1


def test_a_connection_that_failed_once_is_on_trial_until_a_link_has_lasted() -> None:
    """Its first failure counts."""
    backoff = Backoff(PAUSES, RetryPolicy(stable_after=10), random.Random(1))
    assert not backoff.is_on_trial(0.0)
    backoff.failed(0.0)
    assert backoff.is_on_trial(0.0)
    backoff.came_up(1.0)
    assert backoff.is_on_trial(10.0)
    assert not backoff.is_on_trial(11.0)
    backoff.failed(11.0)
    backoff.went_down(12.0)
    backoff.failed(12.0)
    assert backoff.is_on_trial(100.0)


def test_a_restart_that_the_intensity_does_not_allow_is_waited_for() -> None:
    """As many losses as it allows change nothing; one more waits until the first of them is out of the window."""
    backoff = Backoff(PAUSES, RetryPolicy(max_restarts=1, restart_window=60), random.Random(1))
    assert backoff.wait == 0.0
    backoff.lost(100.0)
    backoff.failed(100.0)
    assert backoff.wait == 1.0
    backoff.lost(110.0)
    backoff.failed(110.0)
    assert backoff.wait == 50.0


def test_the_first_pause_that_is_drawn_is_the_initial_one() -> None:
    """At the beginning, and when what was before is forgotten: there is no last one to draw from."""
    drawn = RetryPolicy(max_attempts=None, initial_delay=1.0, max_delay=1000.0, jitter="decorrelated")
    for seed in range(20):
        backoff = Backoff(drawn, RetryPolicy(), random.Random(seed))
        backoff.failed(0.0)
        first = backoff.wait
        backoff.failed(0.0)
        backoff.forget()
        backoff.failed(0.0)
        assert (first, backoff.wait) == (1.0, 1.0)


def test_no_delay_stays_none_however_many_attempts_there_were() -> None:
    """Where the power of the multiplier is beyond what a float can hold; with a delay, it is the longest one then."""
    rng = random.Random(1)
    none = RetryPolicy(max_attempts=None, initial_delay=0.0, multiplier=10.0, max_delay=8.0, jitter="none")
    some = RetryPolicy(max_attempts=None, initial_delay=1.0, multiplier=10.0, max_delay=8.0, jitter="none")
    assert (none.delay(10_000, 0.0, rng), some.delay(10_000, 0.0, rng)) == (0.0, 8.0)


def test_there_is_always_some_pause() -> None:
    """Even where the policy asks for none, so that what fails at once is not tried in a tight loop."""
    none = RetryPolicy(max_attempts=None, initial_delay=0.0, max_delay=0.0, jitter="none")
    backoff = Backoff(none, RetryPolicy(), random.Random(1))
    backoff.failed(0.0)
    assert 0 < backoff.wait < 1


def test_pauses_that_are_drawn_from_the_last_one_grow_from_it() -> None:
    """As decorrelated jitter does: between the first pause and three times the last one."""
    drawn = RetryPolicy(max_attempts=None, initial_delay=1.0, max_delay=1000.0, jitter="decorrelated")
    longest = []
    for seed in range(200):
        backoff = Backoff(drawn, RetryPolicy(), random.Random(seed))
        for _ in range(4):
            backoff.failed(0.0)
        longest.append(backoff.wait)
    assert max(longest) > 9  # three times three


# --- plans ----------------------------------------------------------------------------------------------------------------


def slot(state: str, *, began: float = 0.0, cause: Any = None, holders: int = 0) -> Any:
    return Member(None, state, began=began, cause=cause, holders=["somebody"] * holders)


def slots(*members: Any, **policy: Any) -> Slots:
    made = Slots(PoolPolicy(**policy), PoolStats(), ())
    made.add(*members)
    return made


FAILED = OSError("refused")


@pytest.mark.parametrize(
    ("members", "waiting", "woken", "overflow", "hopeless"),
    [
        ([slot("ready", holders=1), slot("ready", holders=1)], 1, 0, 1, False),
        ([slot("ready", holders=1), slot("asleep")], 1, 1, 0, False),
        ([slot("ready", holders=1), slot("asleep")], 3, 1, 2, False),
        ([slot("ready", holders=1), slot("opening")], 1, 0, 0, False),
        ([slot("ready", holders=1), slot("opening", began=-5)], 1, 0, 1, False),  # it hangs
        ([slot("ready", holders=1), slot("backing_off", cause=FAILED)], 1, 0, 1, False),
        ([slot("backing_off", cause=FAILED), slot("backing_off", cause=FAILED)], 1, 0, 1, True),
        ([slot("backing_off", cause=FAILED), slot("asleep")], 1, 1, 0, False),
        ([slot("backing_off", cause=FAILED), slot("opening", began=-5)], 1, 0, 1, False),
    ],
)
def test_what_is_started_for_those_who_wait(
    members: list[Any], waiting: int, woken: int, overflow: int, hopeless: bool
) -> None:
    """What sleeps before overflow, neither for what is on its way; and only what serves is capacity."""
    plan = slots(*members, size=2, max_overflow=2).plan(waiting, 0.0)
    assert (len(plan.wake), plan.overflow, plan.is_hopeless) == (woken, overflow, hopeless)


@given(
    st.lists(
        st.builds(
            slot,
            st.sampled_from(["ready", "opening", "asleep", "backing_off", "stale"]),
            began=st.sampled_from([0.0, -5.0]),
            holders=st.sampled_from([0, 1]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 8),
    st.integers(0, 3),
)
def test_a_plan_never_exceeds_what_there_may_be(members: list[Any], waiting: int, overflow: int) -> None:
    """Nor does it start more than wait, and working it out changes nothing."""
    there = slots(*members, size=len(members), max_overflow=overflow)
    plan = there.plan(waiting, 0.0)
    assert plan == there.plan(waiting, 0.0)
    assert 0 <= plan.overflow <= overflow
    assert len(plan.wake) + plan.overflow <= waiting
    assert all(each.is_asleep for each in plan.wake)

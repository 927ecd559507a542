"""The arithmetic of attempts and losses, without a connection."""

from __future__ import annotations

import random

import pytest

from fsm_conn import RetryPolicy
from fsm_conn.connection.outage import Losses, Outage, too_late

DICE = random.Random(0)
PLAIN = RetryPolicy(max_attempts=3, initial_delay=2.0, jitter="none", deadline=10.0)
CAREFUL = RetryPolicy(max_restarts=2, restart_window=60.0)


def losses(policy: RetryPolicy, *times: float) -> Losses:
    found = Losses()
    for at in times:
        found.note(policy, at)
    return found


def test_a_deadline_runs_from_the_beginning_of_the_outage() -> None:
    """Whatever the loop's clock shows."""
    outage = Outage(since=100.0)
    outage.count(PLAIN, DICE)
    assert outage.permits(PLAIN, 107.9)
    assert not outage.permits(PLAIN, 108.1)  # the attempt would begin two seconds later
    assert outage.time_left(PLAIN, 104.0) == 6.0
    assert outage.time_left(RetryPolicy(), 104.0) is None


def test_attempts_and_their_pauses() -> None:
    """Each has the pause that was drawn when the one before it began."""
    outage = Outage()
    pauses = []
    for number in (1, 2, 3):
        assert outage.count(PLAIN, DICE) == number
        pauses.append(outage.pause)
    assert pauses == [0.0, 2.0, 4.0]
    assert outage.next_pause == 8.0
    assert not outage.permits(PLAIN, 0.0)


def test_the_next_pause_may_depend_on_this_one() -> None:
    """With decorrelated jitter it is up to three times as long."""
    policy = RetryPolicy(initial_delay=1.0, max_delay=1000.0, jitter="decorrelated")
    dice, outage, pauses = random.Random(1), Outage(), list[float]()
    for _ in range(50):
        outage.count(policy, dice)
        assert 1.0 <= outage.next_pause <= max(1.0, 3 * outage.pause)
        pauses.append(outage.pause)
    assert max(pauses) > 3.0


def test_a_careful_attempt_is_the_only_one() -> None:
    """Its failure ends the outage."""
    outage = Outage(is_half_open=True)
    outage.count(PLAIN, DICE)
    assert not outage.permits(PLAIN, 0.0)


def test_the_first_link_of_an_outage_is_replaced_at_once() -> None:
    """Later ones after the delay."""
    outage = Outage()
    outage.count(PLAIN, DICE)
    outage.note_opened()
    assert (outage.opened, outage.next_pause) == (1, 0.0)
    outage.count(PLAIN, DICE)
    outage.note_opened()
    assert (outage.opened, outage.next_pause) == (2, 4.0)


def test_what_comes_after_the_deadline_is_told_it() -> None:
    """In seconds."""
    assert str(too_late(PLAIN)) == "the retry policy's deadline of 10 s has passed"


def test_losses_count_within_the_window() -> None:
    """One that is as old as the window does not."""
    found = losses(CAREFUL, 100.0, 130.0)
    assert found.recent(CAREFUL, 159.9) == 2
    assert found.recent(CAREFUL, 160.0) == 1
    assert found.ages(CAREFUL, 140.0) == (40.0, 10.0)
    assert found.ages(CAREFUL, 160.0) == (30.0,)


@pytest.mark.parametrize(("times", "may"), [((), True), ((0.0,), True), ((0.0, 1.0), False), ((0.0, 1.0, 2.0), False)])
def test_as_many_losses_as_restarts_are_permitted(times: tuple[float, ...], may: bool) -> None:
    """This one is counted when it has been decided."""
    assert losses(CAREFUL, *times).permit(CAREFUL, 3.0) is may
    assert losses(CAREFUL, *times).permit(CAREFUL, 70.0)


def test_a_policy_without_a_limit_remembers_nothing() -> None:
    """And permits everything."""
    found = losses(RetryPolicy(), 1.0, 2.0)
    assert len(found) == 0
    assert found.permit(RetryPolicy(), 3.0)


def test_no_more_is_remembered_than_is_needed() -> None:
    """However often a link is lost: neither old ones nor too many."""
    assert len(losses(CAREFUL, 100.0, 160.0)) == 1
    assert len(losses(CAREFUL, *range(100))) <= 3

"""What a pool asks of its slots, each question alone: what tells one answer from the next."""

from __future__ import annotations

from typing import Any

import pytest

from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.slots.slot import SOON
from fsm_conn.pool.slots.slots import Plan

from .members import Board, Member

FAILED = OSError("refused")
ONE, OTHER = "one task", "another"


def test_a_pool_begins_and_begins_anew_with_nothing() -> None:
    """Earlier failures do not count after it was closed; what its slots had done does."""
    board = Board("a", size=1)
    new = board.slots
    begun = [new.overflow_failures, new.overflow_at, new.is_complete, new.first, new.free, new.set_aside, new.leaving]
    assert begun == [0, 0.0, False, None, [], [], set()]
    slot = board.put("a", links=3, leases=5)
    assert (new.is_complete, new.first, len(new), slot in new) == (False, slot, 1, True)
    new.put_free(slot)
    new.set_aside.append(slot)
    new.leaving.add(slot)
    new.overflow_failures, new.overflow_at = 2, 9.0
    new.clear()
    again = [new.overflow_failures, new.overflow_at, new.is_complete, new.first, new.free, new.set_aside, new.leaving]
    assert (again, len(new)) == ([0, 0.0, False, None, [], [], set()], 0)
    assert (board.counts.created, board.counts.leases, board["a"].links, board["a"].leases) == (3, 5, 3, 5)


# --- whether anything could be started ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slots", "policy", "complete"),
    [
        ([{}] * 4, {}, True),
        ([{}] * 3, {}, False),
        ([{}] * 5, {}, True),
        ([*[{}] * 4, {"is_replaced": True}], {}, True),
        ([*[{}] * 3, {"is_replaced": True}], {}, False),
        ([*[{}] * 4, {"predecessor": "another"}], {}, True),
        ([*[{}] * 3, {"predecessor": "another"}], {}, False),
        ([{"state": "asleep"}, *[{}] * 3], {}, False),
        ([*[{}] * 3, {"state": "asleep"}], {}, True),
        ([{}] * 4, {"max_idle": 9.0}, False),
        ([{}] * 4, {"max_lifetime": 9.0}, False),
    ],
)
def test_a_pool_is_complete_when_usually_nothing_could_be_started(
    slots: list[dict[str, Any]], policy: dict[str, Any], complete: bool
) -> None:
    """It has all that it may have, the first of them in service, and none ages or sleeps."""
    board = Board("a", size=2, standby=1, max_overflow=1, **policy)
    for slot in slots:
        board.slots.add(Member(board["a"], **{"state": "ready", **slot}))
    assert board.slots.is_complete is complete


def test_what_a_pool_may_have_follows_its_policy() -> None:
    """And the slots do."""
    board = Board("a", size=1)
    slot = board.put("a")
    for policy, complete in (
        (PoolPolicy(size=1, max_overflow=0), True),
        (PoolPolicy(size=1, max_overflow=1), False),
        (PoolPolicy(size=1, standby=1, max_overflow=0), False),
    ):
        board.slots.follow(policy)
        assert (board.slots.policy, slot.policy, board.slots.is_complete) == (policy, policy, complete)


def test_a_slot_that_leaves_is_counted_and_cannot_be_leased() -> None:
    board = Board("a", size=2, max_overflow=0)
    first, second = board.put("a"), board.put("a", links=1)
    for slot in (first, second):
        board.slots.put_free(slot)
    assert board.slots.is_complete
    board.slots.remove(first)
    assert (board.slots.first, board.slots.free, board.slots.is_complete) == (second, [second], False)
    board.slots.leave_free(first)
    board.slots.remove(second)
    assert (board.slots.first, board.slots.free, board.counts.created, board["a"].links) == (None, [], 1, 1)


def test_a_slot_that_is_given_up_leaves_its_place_to_others() -> None:
    board = Board("a", size=1, max_overflow=0)
    slot = board.put("a")
    board.slots.put_free(slot)
    board.slots.give_up(slot)
    assert (slot.is_active, slot.is_replaced, slot in board.slots) == (False, True, True)
    assert (board.slots.free, board.slots.is_complete) == ([], False)


@pytest.mark.parametrize(
    ("slot", "left"),
    [
        ({"is_overflow": True}, 0),
        ({"is_overflow": True, "state": "backing_off"}, 3),
        ({"state": "ready"}, 3),
    ],
)
def test_failures_of_overflow_are_forgotten_when_one_leaves_that_served(slot: dict[str, Any], left: int) -> None:
    """Until then, the next one inherits them, and the pause."""
    board = Board("a")
    failed = board.put("a", "backing_off", is_overflow=True)
    failed.backoff.failures, failed.backoff.wait = 3, 4.0
    board.slots.pause_overflow(failed, 10.0)
    assert (board.slots.overflow_failures, board.slots.overflow_at) == (3, 14.0)
    member = Member(board["a"], **{"state": "ready", **slot})
    board.slots.add(member)
    board.slots.remove(member)
    assert board.slots.overflow_failures == left


# --- which one ------------------------------------------------------------------------------------------------------------


def test_who_is_missed_least_is_spared_first() -> None:
    """Out of service before unused before used; no overflow, and none that leaves or is not up yet."""
    board = Board("a")
    used, unused = board.put("a", holders=[ONE]), board.put("a")
    out = board.put("a", "opening")
    for extra in ({"is_overflow": True}, {"is_replaced": True}, {"predecessor": used}):
        board.put("a", "opening", **extra)
    assert board.slots.to_spare(9) == [out, unused, used]
    assert board.slots.to_spare(1) == [out]
    assert board.slots.to_spare(0) == board.slots.to_spare(-2) == []


def test_doubtful_and_surplus_slots_are_leased_last() -> None:
    """Each slot is free once; it is taken from the end."""
    board = Board("a")
    put = board.slots.put_free
    first, second = board.put("a"), board.put("a")
    put(first)
    put(second)
    put(first)
    assert board.slots.free == [first, second]
    lasts = [board.put("a", **{what: True}) for what in ("is_overflow", "is_doubtful", "is_old")]
    for last in lasts:
        put(last)
    assert board.slots.free == [*lasts[::-1], first, second]
    board.slots.leave_free(second)
    assert board.slots.free == [*lasts[::-1], first]


@pytest.mark.parametrize(
    ("slots", "held"),
    [
        ([], False),
        ([{"holders": [ONE]}], True),
        ([{"holders": [ONE, ONE]}], True),
        ([{"holders": [ONE, OTHER]}], False),
        ([{"holders": [ONE]}, {}], False),
        ([{"holders": [ONE], "callers": [OTHER]}], False),
        ([{"callers": [ONE]}], False),
        ([{"holders": [ONE]}, {"state": "opening"}], False),
        ([{"holders": [ONE]}, {"state": "asleep"}], True),
        ([{"holders": [ONE]}, {"is_active": False}], True),
        ([{"is_active": False}], False),
    ],
)
def test_a_task_that_holds_everything_would_wait_for_itself(slots: list[dict[str, Any]], held: bool) -> None:
    """Unless a connection is being opened, or somebody else will give one back."""
    board = Board("a")
    for slot in slots:
        board.slots.add(Member(board["a"], **{"state": "ready", **slot}))
    assert bool(board.slots.are_held_by(ONE)) is held


def test_counts_of_regular_slots() -> None:
    board = Board("a")
    board.put("a", "ready", "ready", "opening")
    board.put("a", is_active=False)
    board.put("a", is_overflow=True)
    board.put("a", "opening", is_overflow=True)
    assert (board.slots.active(), board.slots.serving()) == (2, 3)


def test_a_standby_slot_of_a_target_that_is_well_comes_first() -> None:
    board = Board("ab")
    assert board.slots.standby() is None
    board.put("a")
    for what in ({"state": "opening"}, {"is_overflow": True}, {"is_replaced": True}):
        board.slots.add(Member(board["a"], **{"state": "ready", "is_active": False, **what}))
    assert board.slots.standby() is None
    doubtful, well = board.put("a", is_active=False), board.put("b", is_active=False)
    assert board.slots.standby() is doubtful
    board["a"].is_doubtful = True
    assert board.slots.standby() is well


@pytest.mark.parametrize(
    ("others", "may"),
    [
        ([], False),
        ([{}], True),
        ([{}, {"state": "opening"}], False),
        ([{}, {"state": "asleep"}], True),
        ([{"state": "asleep"}], False),
        ([{"is_overflow": True}], False),
        ([{}, {"is_overflow": True, "state": "opening"}], True),
    ],
)
def test_a_link_is_replaced_for_its_age_only_while_all_others_serve(others: list[dict[str, Any]], may: bool) -> None:
    """Overflow and what sleeps are no others. That the old one serves does not matter."""
    board = Board("a")
    old = board.put("a", "opening")
    for other in others:
        board.slots.add(Member(board["a"], **{"state": "ready", **other}))
    assert board.slots.may_replace(old) is may


def test_the_successor_of_a_slot() -> None:
    board = Board("a")
    old, other = board.put("a"), board.put("a")
    assert board.slots.successor(old) is None
    successor = board.put("a", "opening", predecessor=old)
    assert (board.slots.successor(old), board.slots.successor(other)) == (successor, None)


# --- the slot for a call --------------------------------------------------------------------------------------------------


def test_a_call_goes_through_the_least_busy_slot() -> None:
    """Not through one that has failed, is old or is overflow, as long as there is another."""
    for names in ("a", "ab"):
        board = Board(names)
        assert board.slots.least_busy() is None
        board.put("a", holders=[ONE])
        board.put("a", is_active=False)
        board.put("a", "resetting")
        assert board.slots.least_busy() is None
        order = [
            board.put("a", callers=[ONE], is_overflow=True, is_old=True),
            board.put("a", is_old=True),
            board.put("a", callers=[ONE, ONE], is_overflow=True),
            board.put("a", is_overflow=True),
            board.put("a", callers=[ONE, OTHER]),
            board.put("a", callers=[ONE]),
            board.put("a"),
        ]
        assert board.slots.least_busy(order[-1:]) is order[-2]
        assert board.slots.least_busy(order) is order[-1]
        while order:
            assert board.slots.least_busy() is order[-1]
            board.slots.remove(order.pop())


def test_a_call_is_repeated_on_another_target_before_another_slot() -> None:
    """And goes to a target that is well, however busy; and to the one that is less loaded, whichever slot is less busy."""
    board = Board("ab")
    first, second = board.put("a"), board.put("a")
    other = board.put("b", callers=[ONE, ONE, ONE], is_overflow=True, is_old=True)
    assert board.slots.least_busy() is first
    assert board.slots.least_busy([first]) is other
    assert board.slots.least_busy([first, other]) is second
    board["a"].is_doubtful = True
    assert board.slots.least_busy() is other
    board["a"].is_doubtful = False
    other.is_old = other.is_overflow = False
    first.holders = [ONE] * 4
    assert board.slots.load() == {board["a"]: 4, board["b"]: 3}
    assert board.slots.least_busy() is other
    first.holders, second.callers = [], [ONE] * 2
    assert board.slots.load() == {board["a"]: 2, board["b"]: 3}
    assert board.slots.least_busy() is first


# --- what to start --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slots", "hopeless"),
    [
        ([], False),
        ([{"state": "opening"}], False),
        ([{"state": "backing_off"}], False),
        ([{"state": "backing_off", "cause": FAILED}], True),
        ([{"state": "opening", "cause": FAILED}], True),
        ([{"state": "backing_off", "cause": FAILED}, {"state": "closing"}], True),
        ([{"state": "backing_off", "cause": FAILED}, {"state": "asleep"}], False),
        ([{"state": "backing_off", "cause": FAILED}, {"state": "opening"}], False),
        ([{"state": "backing_off", "cause": FAILED}, {}], False),
    ],
)
def test_a_pool_is_hopeless_when_every_attempt_has_failed(slots: list[dict[str, Any]], hopeless: bool) -> None:
    """And nothing serves, starts, or could be woken. Overflow is tried all the same, for whoever waits longer."""
    board = Board("a", max_overflow=2, leases_per_connection=2)
    for slot in slots:
        board.slots.add(Member(board["a"], **{"state": "ready", **slot}))
    assert board.slots.is_hopeless() is hopeless
    assert board.slots.cause is (FAILED if any("cause" in slot for slot in slots) else None)
    if hopeless:
        assert board.slots.plan(1, 0.0) == Plan(overflow=1, is_hopeless=True)
        assert board.slots.plan(9, 0.0) == Plan(overflow=2, is_hopeless=True)


@pytest.mark.parametrize(
    ("slots", "coming"),
    [
        ([], 0),
        ([{"state": "opening"}], 2),
        ([{"state": "opening", "began": -5.0}], 0),
        ([{"state": "opening", "cause": FAILED}], 0),
        ([{"state": "opening"}] * 3, 4),  # beyond the size they will be standby
        ([{"state": "opening"}, {}, {}], 0),
        ([{"state": "opening"}, {}, {}, {}], 0),
        ([{"state": "opening"}, {}, {"is_active": False}], 2),
        ([{"state": "opening", "is_overflow": True}, {}, {}], 2),
        ([{"state": "opening", "is_overflow": True}, {"state": "opening"}, {}], 4),
        ([{"state": "resetting", "holders": [ONE]}, {}], 1),
        ([{"state": "resetting"}, {"state": "opening"}], 4),
        ([{"probed_since": 0.0}, {}], 2),
        ([{"probed_since": 0.0}, {"state": "resetting"}], 4),
        ([{"probed_since": 0.0, "is_active": False}, {}], 0),
        ([{"probed_since": -5.0}, {}], 0),
        ([{"aside": True}, {}], 2),
        ([{"aside": True, "holders": [ONE]}, {"state": "resetting"}], 3),
        ([{"aside": True, "is_active": False}, {}], 0),
    ],
)
def test_who_will_be_served_when_all_that_is_under_way_succeeds(slots: list[dict[str, Any]], coming: int) -> None:
    """By a slot that is opened, cleaned up, probed or checked, as long as it does not hang; two by each."""
    board = Board("a", size=2, leases_per_connection=2, max_overflow=0)
    for slot in slots:
        member: Any = Member(board["a"], **{"state": "ready", "policy": board.policy, **slot})
        board.slots.add(member)
        if "aside" in slot:
            board.slots.set_aside.append(member)
    assert board.slots.coming(0.0) == coming


@pytest.mark.parametrize(
    ("slots", "to_come"),
    [
        ([{"state": "asleep"}], 2 + 6),
        ([{"state": "asleep"}] * 3, 4 + 6),  # as many as may be active
        ([{"state": "asleep"}, {}, {}], 6),
        ([{"state": "asleep"}, {}, {}, {}], 6),
        ([{"state": "asleep"}, {}, {"state": "opening"}], 2 + 6),
        ([{"state": "asleep"}, {}, {"state": "opening", "began": -5.0}], 2 + 6),
        ([{"state": "asleep"}, {}, {"is_overflow": True}], 2 + 4),
        ([{"state": "asleep"}, *[{"is_overflow": True}] * 3], 2),
        ([{"state": "asleep"}, *[{"is_overflow": True}] * 5], 2),  # less is allowed than there is
        ([{"state": "asleep"}, {"state": "backing_off"}, {"state": "backing_off"}], 2 + 6),
    ],
)
def test_who_will_be_served_without_a_lease_being_returned(slots: list[dict[str, Any]], to_come: int) -> None:
    """Two each by what could be woken, and by what could be opened beyond the size."""
    board = Board("a", size=2, leases_per_connection=2, max_overflow=3)
    for slot in slots:
        board.slots.add(Member(board["a"], **{"state": "ready", "policy": board.policy, **slot}))
    assert board.slots.to_come(0.0) == to_come
    board.slots.overflow_at = 9.0
    assert board.slots.to_come(0.0) == to_come - 2 * max(0, 3 - sum("is_overflow" in slot for slot in slots))


@pytest.mark.parametrize(("overflow_at", "opened"), [(0.0, 1), (5.0, 1), (5.0 + SOON, 1), (5.1, 0)])
def test_overflow_is_opened_again_when_its_pause_is_over(overflow_at: float, opened: int) -> None:
    """Give or take what a timer may be early."""
    board = Board("a", size=1, max_overflow=1)
    board.put("a", holders=[ONE])
    board.slots.overflow_at = overflow_at
    assert board.slots.plan(1, 5.0) == Plan(overflow=opened)


@pytest.mark.parametrize(
    ("asleep", "waiting", "woken", "overflow"),
    [
        (1, 1, 1, 0),
        (2, 1, 1, 0),
        (2, 2, 1, 0),
        (2, 3, 2, 0),
        (2, 4, 2, 0),
        (2, 5, 2, 1),
        (2, 7, 2, 2),
        (2, 99, 2, 3),
        (2, 0, 0, 0),
        (0, 3, 0, 2),
    ],
)
def test_as_many_are_started_as_can_serve_those_who_wait(asleep: int, waiting: int, woken: int, overflow: int) -> None:
    """Two each; who sleeps before what is beyond the size."""
    board = Board("a", size=2, leases_per_connection=2, max_overflow=3)
    if asleep:
        board.put("a", *["asleep"] * asleep)
    plan = board.slots.plan(waiting, 0.0)
    assert (len(plan.wake), plan.overflow, plan.is_hopeless) == (woken, overflow, False)


def test_those_that_are_coming_are_not_started_twice() -> None:
    board = Board("a", size=4, max_overflow=2)
    board.put("a", "opening", "opening", "asleep", "asleep")
    assert [len(board.slots.plan(waiting, 0.0).wake) for waiting in range(6)] == [0, 0, 0, 1, 2, 2]
    assert [board.slots.plan(waiting, 0.0).overflow for waiting in range(3, 8)] == [0, 0, 1, 2, 2]


def test_a_slot_of_a_target_that_is_not_left_out_is_woken_first() -> None:
    board = Board("ab", size=2, max_overflow=0)
    first, second = board.put("a", "asleep"), board.put("b", "asleep")
    assert board.slots.plan(1, 0.0).wake == (first,)
    board.leave_out("a")
    assert board.slots.plan(1, 0.0).wake == (second,)

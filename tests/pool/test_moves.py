"""Each decision about slots that move between targets, alone: what tells one case from the next."""

from __future__ import annotations

from typing import Any

import pytest

from fsm_conn.pool.slots.kind import Kind
from fsm_conn.pool.slots.slot import SOON
from fsm_conn.pool.slots.table import SlotTrigger

from .members import Board, Member

WOKEN = [SlotTrigger.WAKE]


def board_where_a_is_down(**options: Any) -> Board:
    board = Board("ab", **options)
    board.leave_out("a")
    return board


def moved(board: Board, slot: Any) -> Any:
    """The slot that has taken this one's place on a target that is not left out, and is being opened."""
    assert board.retired == [slot]
    (new,) = board.made
    assert (new.target.is_left_out, new.kind, new.fired) == (False, Kind.REGULAR, WOKEN)
    assert new in board.slots
    return new


# --- a slot is in trouble -------------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_told_to_the_target() -> None:
    """With its error, when it was, and by the policy that sets the pause."""
    board = Board("ab")
    slot = board.put("a", "opening", cause=OSError("refused"))
    assert board.moves.in_trouble(slot, 10.0, board.policy)
    assert (board["a"].cause, board["a"].retry_at, board["a"].failures) == (slot.cause, 12.0, 1)
    moved(board, slot)


@pytest.mark.parametrize(("failures", "moves"), [(0, True), (1, True), (2, False)])
def test_a_slot_moves_once_without_a_pause(failures: int, moves: bool) -> None:
    """And further when its pause is over."""
    board = Board("ab")
    slot = board.put("a", "opening")
    slot.backoff.failures = failures
    assert board.moves.in_trouble(slot, 0.0, board.policy) is moves
    assert board.left_alone() is not moves


def test_a_slot_stays_where_nothing_else_is_better() -> None:
    """All targets are left out, or there is no other."""
    for names in ("a", "ab"):
        board = Board(names)
        board.leave_out(names[-1])
        slot = board.put("a", "opening")
        assert not board.moves.in_trouble(slot, 0.0, board.policy)
        assert not board.moves.starts(slot)
        assert board.left_alone()


def test_a_slot_that_has_left_the_pool_does_not_move() -> None:
    """It is being closed; that its target is down is news all the same."""
    board = Board("ab")
    gone = Member(board["a"], "opening")
    assert not board.moves.in_trouble(gone, 0.0, board.policy)
    assert board["a"].is_left_out
    assert not board.moves.starts(gone)
    assert board.left_alone()


def test_a_trial_that_fails_is_over() -> None:
    """The slot that it was to replace stays; nothing else is tried for it."""
    board = board_where_a_is_down()
    old = board.put("b")
    trial = board.put("a", "opening", predecessor=old)
    assert not board.moves.starts(trial)
    assert board.left_alone()
    assert board.moves.in_trouble(trial, 0.0, board.policy)
    assert (board.retired, board.made) == ([trial], [])


def test_the_successor_of_a_slot_on_the_same_target_moves() -> None:
    """For it is no trial: it replaces the last one in service."""
    board = board_where_a_is_down()
    old = board.put("a")
    slot = board.put("a", "opening", predecessor=old)
    assert board.moves.in_trouble(slot, 0.0, board.policy)
    assert moved(board, slot).predecessor is old


def test_a_slot_that_is_to_connect_moves_to_a_better_target() -> None:
    board = board_where_a_is_down()
    well = board.put("b", "opening")
    assert not board.moves.starts(well)
    assert board.left_alone()
    slot = board.put("a", "opening")
    assert board.moves.starts(slot)
    moved(board, slot)


# --- how it moves ---------------------------------------------------------------------------------------------------------


def test_a_slot_whose_next_link_is_promised_does_not_move() -> None:
    board = board_where_a_is_down()
    slot = board.put("a", "opening", holders=["somebody"])
    assert not board.moves.starts(slot)
    assert board.left_alone()


@pytest.mark.parametrize("what", ["is_overflow", "is_replaced"])
def test_a_slot_that_is_one_too_many_only_leaves(what: str) -> None:
    board = board_where_a_is_down()
    slot = board.put("a", "opening", **{what: True})
    assert board.moves.starts(slot)
    assert (board.retired, board.made) == ([slot], [])


def test_a_slot_stays_when_no_other_can_be_made() -> None:
    board = board_where_a_is_down()
    slot = board.put("a", "opening")
    board.can_make = False
    assert not board.moves.starts(slot)
    assert board.left_alone()


@pytest.mark.parametrize(
    ("is_open", "failures", "remembered"), [(True, 0, 1), (True, 1, 1), (True, 3, 3), (False, 3, None)]
)
def test_a_slot_that_has_moved_is_on_trial_in_an_open_pool(
    is_open: bool, failures: int, remembered: int | None
) -> None:
    """While the pool is being opened, each connection makes all of its own attempts."""
    board = board_where_a_is_down(is_open=is_open)
    slot = board.put("a", "backing_off")
    slot.backoff.failures = failures
    assert board.moves.starts(slot)
    assert moved(board, slot).backoff.forgot == remembered


def test_the_new_slot_goes_where_fewest_are() -> None:
    board = Board("abc")
    board.leave_out("a")
    board.put("b", "ready", "ready")
    board.put("c")
    slot = board.put("a", "opening")
    assert board.moves.starts(slot)
    assert moved(board, slot).target is board["c"]


def test_whoever_was_to_replace_the_old_slot_replaces_the_new_one() -> None:
    """And nobody else does."""
    board = board_where_a_is_down()
    other = board.put("b")
    slot = board.put("a", "opening")
    successor = board.put("a", "opening", predecessor=slot)
    assert board.moves.starts(slot)
    assert successor.predecessor is moved(board, slot)
    assert (slot.predecessor, other.predecessor, board.made[0].predecessor) == (None, None, None)


# --- a trial has come up --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("olds", "news", "takes"), [(3, 1, True), (2, 1, True), (1, 1, False), (2, 2, False), (3, 2, True), (3, 3, False)]
)
def test_a_slot_that_came_up_takes_a_place_where_that_evens_out(olds: int, news: int, takes: bool) -> None:
    """Of so many on either target, itself included."""
    board = Board("ab")
    old, slot = board.put("a", *["ready"] * olds), board.put("b", *["ready"] * news)
    board.put("a", "ready", "ready", is_overflow=True)
    board.put("a", "ready", "ready", is_replaced=True)
    assert board.moves.takes_place(slot, old) is takes


def test_a_slot_that_came_up_takes_the_place_of_one_that_serves_no_more() -> None:
    """Also of one whose target was removed, and of one of the same target."""
    board = Board("ab")
    slot, old = board.put("b"), board.put("a")
    assert not board.moves.takes_place(slot, old)
    assert board.moves.takes_place(slot, board.put("b"))
    assert board.moves.takes_place(slot, board.put("a", "opening"))
    assert board.moves.takes_place(slot, Member(board["a"]))
    board["a"].is_leaving = True
    assert board.moves.takes_place(slot, old)


# --- what is due ----------------------------------------------------------------------------------------------------------


def test_with_one_target_nothing_is_due() -> None:
    board = Board("a")
    board.leave_out("a", 1.0)
    board.put("a")
    assert board.moves.clean_up(5.0) == []
    assert board.left_alone()


@pytest.mark.parametrize(("retry_at", "is_due"), [(4.0, True), (5.0, True), (5.0 + SOON, True), (5.1, False)])
def test_a_target_that_is_left_out_is_tried_when_its_pause_is_over(retry_at: float, is_due: bool) -> None:
    """By one more slot that nobody counts on. Failures count from then on, even if the timer was early."""
    board = Board("ab")
    left_out = board.leave_out("a", retry_at)
    old = board.put("b")
    assert board.moves.clean_up(5.0) == ([] if is_due else [retry_at])
    assert left_out.retry_at == (min(retry_at, 5.0) if is_due else retry_at)
    assert board.left_alone() is not is_due
    if is_due:
        (trial,) = board.made
        assert (trial.target, trial.kind, trial.predecessor) == (left_out, Kind.REGULAR, old)
        assert (trial.cause, trial.fired, trial in board.slots) == (left_out.cause, WOKEN, True)


@pytest.mark.parametrize(
    ("state", "is_tried"),
    [
        ("opening", True),
        ("configuring", True),
        ("backing_off", True),
        ("ready", False),
        ("asleep", False),
        ("closing", False),
    ],
)
def test_a_target_is_tried_by_one_at_a_time(state: str, is_tried: bool) -> None:
    """Who is being opened, or pauses, will find out."""
    board = Board("ab")
    board.leave_out("a", 1.0)
    board.put("b", state)
    board.put("a", state)
    board.moves.clean_up(5.0)
    assert len(board.made) == (not is_tried)


def test_each_target_is_looked_at() -> None:
    """Those behind one that is well, and behind one that is being tried."""
    board = Board("abcd")
    for name, retry_at in (("b", 1.0), ("c", 1.0), ("d", 9.0)):
        board.leave_out(name, retry_at)
    board.put("a")
    board.put("b", "opening")
    assert board.moves.clean_up(5.0) == [9.0]
    assert [slot.target.name for slot in board.made] == ["c"]


def test_nothing_is_tried_when_there_is_nothing_to_replace() -> None:
    """Or when no slot can be made."""
    board = Board("ab")
    board.leave_out("a", 1.0)
    board.put("b", is_overflow=True)
    board.put("b", is_replaced=True)
    assert board.moves.clean_up(5.0) == []
    assert board.left_alone()
    board.put("b")
    board.can_make = False
    board.moves.clean_up(5.0)
    assert board.left_alone()


def test_a_trial_takes_the_place_of_the_slot_that_is_missed_least() -> None:
    """One that sleeps, before one that serves nobody, before one in use, before one that will serve."""
    board = Board("ab")
    board.leave_out("a", 0.0)
    board.put("b", "asleep", is_overflow=True)
    board.put("b", "asleep", is_replaced=True)
    order = [
        board.put("b", "opening"),
        board.put("b", holders=["somebody"]),
        board.put("b"),
        board.put("b", "asleep"),
    ]
    while order:
        board.moves.clean_up(5.0)
        assert [(slot.target.name, slot.predecessor) for slot in board.made] == [("a", order[-1])]
        board.slots.remove(board.made.pop())
        board.slots.remove(order.pop())


def test_a_slot_of_the_fullest_target_makes_room() -> None:
    """Unless one that does not serve can do so elsewhere."""
    board = Board("abc")
    board.leave_out("a", 0.0)
    board.put("b")
    board.put("c", "ready", "ready")
    board.moves.clean_up(5.0)
    assert [slot.predecessor.target.name for slot in board.made] == ["c"]
    board.slots.remove(board.made.pop())
    board.put("b", "asleep")
    board.put("c")
    board.moves.clean_up(5.0)
    assert [slot.predecessor.target.name for slot in board.made] == ["b"]


def test_no_slot_has_two_successors_nor_is_a_trial_replaced() -> None:
    board = Board("abc")
    board.leave_out("a", 0.0)
    board.leave_out("c", 0.0)
    first, second = board.put("b"), board.put("b")
    board.moves.clean_up(5.0)
    assert [(slot.target.name, slot.predecessor) for slot in board.made] == [("a", first), ("c", second)]
    for trial in board.made:
        trial.state = "ready"
    board["a"].came_up()
    board.leave_out("c", 0.0)
    board.moves.clean_up(5.0)
    assert len(board.made) == 2


# --- evening out ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "moves"),
    [
        ([1, 1], False),
        ([2, 1], False),
        ([2, 0], True),
        ([3, 1], True),
        ([3, 2], False),
        ([4, 1], True),
        ([2, 1, 0], True),
        ([1, 1, 0], False),
    ],
)
def test_one_connection_moves_where_another_target_has_two_fewer(counts: list[int], moves: bool) -> None:
    """From where most are to where fewest are. The old one stays until the new one is up."""
    for order in (counts, counts[::-1]):
        board = Board("abc"[: len(order)])
        for name, count in zip("abc", order, strict=False):
            if count:
                board.put(name, *["ready"] * count)
        assert board.moves.clean_up(0.0) == []
        assert len(board.made) == moves
        assert board.retired == []
        if moves:
            (new,) = board.made
            most, fewest = "abc"[order.index(max(order))], "abc"[order.index(min(order))]
            assert (new.predecessor.target.name, new.target.name, new.fired) == (most, fewest, WOKEN)
            board.moves.clean_up(0.0)
            assert len(board.made) == 1  # one at a time


def test_a_target_that_is_left_out_gets_no_share() -> None:
    board = Board("ab")
    board.leave_out("b", 9.0)
    board.put("a", "ready", "ready", "ready")
    assert board.moves.clean_up(0.0) == [9.0]
    assert board.left_alone()


def test_the_trial_of_another_target_does_not_hinder() -> None:
    """Nor does a successor on the same target, which is no move."""
    for trial, place in (("c", "a"), ("a", "a")):
        board = Board("abc")
        board.leave_out("c", 9.0)
        board.put(trial, "opening", predecessor=board.put(place))
        board.put("a", "ready", "ready")
        board.moves.clean_up(0.0)
        assert [slot.target.name for slot in board.made] == ["b"]


def test_a_sleeping_slot_moves_without_being_woken() -> None:
    board = Board("ab")
    asleep = board.put("a", "asleep")
    board.put("a")
    board.moves.clean_up(0.0)
    (new,) = board.made
    assert (new.target.name, new.fired, new.predecessor, board.retired) == ("b", [], None, [asleep])
    assert new in board.slots


def test_a_sleeping_slot_stays_when_no_other_can_be_made() -> None:
    board = Board("ab")
    board.put("a", "asleep", "asleep")
    board.can_make = False
    board.moves.clean_up(0.0)
    assert board.left_alone()


def test_nothing_moves_where_only_what_cannot_move_is() -> None:
    """What is being opened will be counted when it is up; what has a successor moves already."""
    board = Board("ab")
    board.put("a", "opening", "opening")
    board.moves.clean_up(0.0)
    assert board.left_alone()
    board = Board("ab")
    for _ in range(2):
        board.put("a", "opening", predecessor=board.put("a"))
    board.moves.clean_up(0.0)
    assert board.left_alone()


# --- targets that come and go ---------------------------------------------------------------------------------------------


def test_slots_that_pause_go_to_a_target_that_was_added() -> None:
    """The others go on as they do."""
    board = board_where_a_is_down()
    slot, starting = board.put("a", "backing_off"), board.put("a", "opening")
    board.moves.join()
    assert moved(board, slot).target is board["b"]
    assert starting in board.slots


def removed(board: Board, name: str) -> None:
    board.moves.leave(board.targets.remove(name))


def test_what_a_removed_target_had_is_replaced() -> None:
    """At once what nobody uses, and when it is given back what somebody uses."""
    board = Board("ab")
    other = board.put("b")
    unused, used = board.put("a"), board.put("a", holders=["somebody"])
    removed(board, "a")
    assert board.retired == [unused]
    assert [(slot.target.name, slot.kind, slot.fired) for slot in board.made] == [("b", Kind.REGULAR, WOKEN)] * 2
    assert (used.is_replaced, used.is_active, used in board.slots) == (True, False, True)
    assert (other.is_replaced, other in board.slots) == (False, True)


def test_what_a_removed_target_had_beyond_the_size_only_leaves() -> None:
    """Overflow, and slots whose place another has taken already."""
    board = Board("ab")
    board.put("a", holders=["somebody"], is_replaced=True)
    overflow = board.put("a", is_overflow=True)
    board.put("a", holders=["somebody"], is_overflow=True)
    removed(board, "a")
    assert (board.retired, board.made, len(tuple(board.slots))) == ([overflow], [], 2)


def test_a_trial_of_a_removed_target_is_over() -> None:
    """And so is the opening of a successor, when that which it was to succeed goes elsewhere."""
    board = Board("ab")
    trial = board.put("a", "opening", predecessor=board.put("b"))
    last = board.put("a")
    successor = board.put("a", "opening", predecessor=last)
    removed(board, "a")
    assert board.retired == [trial, last, successor]
    assert [(slot.target.name, slot.predecessor) for slot in board.made] == [("b", None)]


def test_the_place_of_a_sleeping_slot_is_taken_by_a_sleeping_one() -> None:
    board = Board("ab")
    asleep = board.put("a", "asleep")
    removed(board, "a")
    (new,) = board.made
    assert (new.fired, board.retired) == ([], [asleep])


def test_what_a_removed_target_had_goes_where_fewest_are() -> None:
    board = Board("abc")
    board.put("b")
    board.put("a")
    removed(board, "a")
    assert [slot.target.name for slot in board.made] == ["c"]


def test_a_slot_of_a_removed_target_leaves_even_if_no_other_can_be_made() -> None:
    board = Board("ab")
    slot = board.put("a")
    board.can_make = False
    removed(board, "a")
    assert (board.retired, board.made) == ([slot], [])

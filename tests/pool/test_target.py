"""What a pool knows of its targets, and which is next, each decision alone: no connections, and no loop."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from fsm_conn import RetryPolicy
from fsm_conn.pool.targets.target import SHORTEST_PAUSE, PoolTarget
from fsm_conn.pool.targets.targets import Targets

PLAIN = RetryPolicy(max_attempts=None, initial_delay=2.0, jitter="none")
DOWN = OSError("it is down")


def target(name: str = "a", given: str = "") -> PoolTarget:
    return PoolTarget(given or name, name, lambda _: None, random.Random(1))  # type: ignore[arg-type, return-value]


def targets(names: str) -> Targets:
    return Targets(target, names)


def named(of: Targets, name: str) -> PoolTarget:
    return next(each for each in of if each.name == name)


# --- one target -----------------------------------------------------------------------------------------------------------


def test_a_target_begins_well() -> None:
    """Nothing has failed, nothing was made."""
    new = target()
    assert (new.is_leaving, new.is_doubtful, new.is_left_out) == (False, False, False)
    assert (new.failures, new.links, new.leases, new.retry_at, new.cause) == (0, 0, 0, 0.0, None)
    assert repr(new) == "<target 'a', well>"


def test_a_target_is_left_out_from_a_failure_until_a_link_comes_up() -> None:
    """With pauses that grow meanwhile; failures during a pause only tell the last error."""
    it, last = target(), OSError("another")
    it.failed(DOWN, 5.0, PLAIN)
    assert (it.is_left_out, it.failures, it.retry_at, it.cause) == (True, 1, 7.0, DOWN)
    it.failed(last, 6.9, PLAIN)
    assert (it.failures, it.retry_at, it.cause) == (1, 7.0, last)
    it.failed(DOWN, 7.0, PLAIN)
    assert (it.failures, it.retry_at, it.cause) == (2, 11.0, DOWN)
    assert repr(it) == "<target 'a', left out after 2>"
    it.is_doubtful = True
    it.came_up()
    assert (it.is_left_out, it.failures, it.cause, it.is_doubtful) == (False, 0, None, False)
    it.failed(None, 8.0, PLAIN)
    assert (it.failures, it.retry_at, it.cause) == (1, 10.0, None)
    it.is_leaving = True
    assert repr(it) == "<target 'a', removed>"


def test_pauses_begin_anew_when_a_link_has_come_up() -> None:
    """Also those that are made from the one before, and by the pool's own dice."""
    policy = RetryPolicy(max_attempts=None, initial_delay=2.0, max_delay=100.0, jitter="decorrelated")
    it, dice = target(), random.Random(1)
    pause = at = 0.0
    for number in (1, 2, 3):
        it.failed(DOWN, at, policy)
        pause = policy.delay(number, pause, dice)
        assert it.retry_at == at + pause
        at = it.retry_at
    it.came_up()
    it.failed(DOWN, 0.0, policy)
    assert it.retry_at == policy.delay(1, 0.0, dice)


def test_there_is_always_a_pause() -> None:
    """Whatever the policy says."""
    it = target()
    it.failed(DOWN, 5.0, RetryPolicy(max_attempts=None, initial_delay=0.0))
    assert it.retry_at == 5.0 + SHORTEST_PAUSE


def test_a_pool_that_is_opened_anew_forgets_failures_and_no_counts() -> None:
    """It is tried at once."""
    it = target()
    for links, leases in ((1, 10), (2, 20)):
        it.absorb(SimpleNamespace(links=links, leases=leases))
    it.failed(DOWN, 5.0, PLAIN)
    it.forget()
    assert (it.failures, it.retry_at, it.cause, it.links, it.leases) == (0, 0.0, None, 3, 30)


# --- all of them ----------------------------------------------------------------------------------------------------------


def test_each_target_has_a_name_of_its_own() -> None:
    """By a number, where several are called alike."""
    it = targets("abaa")
    assert [each.name for each in it] == ["a", "b", "a (2)", "a (3)"]
    assert (len(it), named(it, "b") in it, target("b") in it) == (4, True, False)


def test_a_target_is_added_once() -> None:
    """It is named, when it is there already."""
    it = targets("a")
    new = it.add("b")
    assert (new.name, [each.name for each in it]) == ("b", ["a", "b"])
    assert it.add("c").name == "c"
    with pytest.raises(ValueError, match=r"^'b' is a target of this pool already$"):
        it.add("b")
    assert len(it) == 3


def test_a_target_is_named_as_no_other_when_it_is_added() -> None:
    """Though it is another one."""
    it = Targets(lambda given: target("x", given), ["1"])
    assert it.add("2").name == "x (2)"


def test_a_target_is_removed_by_itself_or_by_its_name() -> None:
    """Not the last one; and who has none is told which there are."""
    it = Targets(lambda given: target(f"name of {given}", given), ["1", "2", "3"])
    second = named(it, "name of 2")
    assert it.remove("2") is second
    assert second.is_leaving
    assert it.remove("name of 3").name == "name of 3"
    with pytest.raises(ValueError, match=r"^'name of 1' is the last target of this pool: add another first, or close"):
        it.remove("1")
    assert [each.is_leaving for each in it] == [False]
    it.add("4")
    with pytest.raises(ValueError, match=r"^'5' is no target of this pool, which has 'name of 1', 'name of 4'$"):
        it.remove("5")


def slots(of: Targets, names: str, **attributes: Any) -> list[Any]:
    return [SimpleNamespace(**{"target": named(of, name), "is_replaced": False, **attributes}) for name in names]


@pytest.mark.parametrize(
    ("there", "replaced", "left_out", "placed"),
    [
        ("", "", "", "a"),
        ("a", "", "", "b"),
        ("ab", "", "", "c"),
        ("abc", "", "", "a"),
        ("bca", "a", "", "a"),
        ("aab", "", "c", "b"),
        ("aab", "", "bc", "a"),
        ("aab", "", "abc", "c"),
        ("", "aab", "", "a"),
    ],
)
def test_the_next_connection_goes_where_the_fewest_are(there: str, replaced: str, left_out: str, placed: str) -> None:
    """Without those that are replaced; targets that are left out come last."""
    it = targets("abc")
    for name in left_out:
        named(it, name).failures = 1
    given = [*slots(it, there), *slots(it, replaced, is_replaced=True)]
    assert it.place(given).name == placed
    two = targets("ab")
    assert [two.place(slots(two, there)).name for there in ("", "a", "ab", "b")] == ["a", "b", "a", "a"]


def test_an_only_target_is_the_next_whatever_it_is() -> None:
    """There is no other."""
    it = targets("a")
    named(it, "a").failures = 3
    assert it.place(()).name == "a"


@pytest.mark.parametrize(
    ("left_out", "leaving", "better"),
    [("", "", ""), ("a", "", "a"), ("abc", "", ""), ("", "b", "b"), ("abc", "b", "b")],
)
def test_when_another_target_is_better(left_out: str, leaving: str, better: str) -> None:
    """Than one that leaves, or that is left out while another is not."""
    it = targets("abc")
    for name in left_out:
        named(it, name).failures = 1
    for name in leaving:
        named(it, name).is_leaving = True
    assert [each.name for each in it if it.has_better(each)] == list(better)


def test_what_is_told_of_each_target() -> None:
    """What it has now, and what it has had."""
    it = targets("ab")
    first = named(it, "a")
    first.failures, first.cause, first.links, first.leases = 2, DOWN, 10, 100
    more = {"callers": [1], "links": 1, "leases": 5}
    given = [
        *slots(it, "a", in_service=True, holders=[1, 2], **more),
        *slots(it, "a", in_service=False, holders=[], **more),
        *slots(it, "a", in_service=True, holders=[1], **more),
    ]
    told = it.as_dict(iter(given))
    assert told == {
        "a": {
            "connections": 2,
            "leased": 3,
            "calls": 3,
            "is_left_out": True,
            "failures": 2,
            "last_error": told["a"]["last_error"],
            "connections_created": 13,
            "leases": 115,
        },
        "b": {
            "connections": 0,
            "leased": 0,
            "calls": 0,
            "is_left_out": False,
            "failures": 0,
            "last_error": None,
            "connections_created": 0,
            "leases": 0,
        },
    }
    assert "it is down" in told["a"]["last_error"]

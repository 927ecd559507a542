"""Lives that the model has found: each did what it says, and must not again. And what may be said of a life of a pool."""

from __future__ import annotations

from typing import Any

import pytest

from fsm_conn import ConnectionPool, PoolPolicy
from fsm_conn.testing import PoolLife, ViolationError, invariant, pool_test

FEW = PoolPolicy(size=1, max_overflow=0, max_lifetime=20.0)
SPARE = PoolPolicy(size=1, max_overflow=2, standby=1)


def live(life: PoolLife, *steps: tuple[Any, ...]) -> None:
    try:
        for name, *arguments in steps:
            getattr(life, name)(*arguments)
        life.end()
    finally:
        life.close()


def test_standby_serves_when_the_pool_is_enlarged() -> None:
    """It stood by while somebody waited."""
    live(PoolLife(policy=SPARE), ("open",), ("resize", 2), ("acquire", 4.0), ("acquire", 4.0))


def test_overflow_is_opened_beside_what_is_to_go() -> None:
    """A leased connection that is one too many was counted among those that there may be."""
    live(PoolLife(), ("open",), ("acquire", 4.0), ("acquire", 0.0), ("resize", 1), ("acquire", 4.0))


def test_overflow_is_opened_beside_what_takes_the_place_of_another() -> None:
    """The successor of the last link that served was counted among those that there may be."""
    life = PoolLife(hooks="async")
    live(life, ("open",), ("expire",), ("acquire", 4.0), ("call_patiently", 3.0), ("advance", 31.0), ("acquire", None))


def test_a_pool_can_be_made_smaller_while_a_link_is_being_replaced() -> None:
    """It raised ValueError, and had one connection too few."""
    life = PoolLife(policy=PoolPolicy(size=2, max_overflow=0))
    live(life, ("open",), ("acquire", None), ("lose", 1), ("expire",), ("resize", 1), ("resize", 3), ("resize", 1))


def test_a_target_that_is_removed_while_the_pool_is_closed_leaves_nothing() -> None:
    """Its connections were replaced, by some that nobody closed."""
    life = PoolLife(targets=3, policy=FEW)
    live(life, ("open_partly",), ("answer", "open"), ("close_all",), ("remove_target", 0), ("advance", 31.0))


def test_a_target_that_is_removed_from_a_closing_pool_goes_when_its_time_is_up() -> None:
    """Before the others, which have theirs."""
    steps = (
        ("open_partly",),
        ("acquire", 4.0),
        ("answer", "open"),
        ("close_all",),
        ("remove_target", 1),
        ("advance", 6.0),
    )
    live(PoolLife(targets=3), *steps)


def test_what_is_free_after_a_target_was_removed_from_a_closing_pool() -> None:
    """Whatever was given back while it was closed was for others to have."""
    live(PoolLife(targets=2), ("open",), ("acquire", None), ("close_all",), ("remove_target", 1), ("release", 0))


def test_standby_takes_the_place_of_what_goes_with_its_target() -> None:
    """It stood by until the replacement was there."""
    life = PoolLife(targets=3, policy=PoolPolicy(size=2, max_overflow=1, standby=1))
    live(life, ("open",), ("remove_target", 0), ("acquire", None), ("acquire", None))


@invariant()
def few_links_are_open(life: PoolLife) -> str | None:
    """At most one is."""
    return "there are two" if len(life.open_links()) > 1 else None


def test_invariants_of_the_applications_own_are_checked() -> None:
    """At rest, and at the end, by whoever runs the lives."""
    with pytest.raises(ViolationError, match="few_links_are_open: there are two"):
        PoolLife(invariants=[few_links_are_open]).open()
    case = pool_test(ConnectionPool, max_examples=20, invariants=[few_links_are_open])
    with pytest.raises(ViolationError, match="few_links_are_open"):
        case("runTest").runTest()  # type: ignore[attr-defined]


class Two(ConnectionPool):
    def get_pool_stats(self) -> dict[str, Any]:
        return {**super().get_pool_stats(), "leased": -1}


def test_a_rule_that_need_not_hold_is_ignored_for_a_reason() -> None:
    """By its name."""
    with pytest.raises(ViolationError, match="counts_are_equal"):
        live(PoolLife(Two), ("open",))
    live(PoolLife(Two, ignore={"counts_are_equal": "it counts otherwise"}), ("open",), ("acquire", None))
    with pytest.raises(ValueError, match="say why"):
        PoolLife(ignore={"counts_are_equal": ""})
    with pytest.raises(ValueError, match="there is no invariant 'nonsense'"):
        PoolLife(ignore={"nonsense": "because"})

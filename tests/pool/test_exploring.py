"""Pools are explored as other machines are: equal moments are merged, what differs is told apart, and no loop hangs it."""

from __future__ import annotations

from typing import Any

import pytest

from fsm_conn import ConnectionPool
from fsm_conn.testing import PoolLife, Step, ViolationError, explore, invariant

SHORT = 3


class Counting(ConnectionPool):
    """Has a counter of its own, which only the third lease brings to where it is wrong."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked = 0

    def acquire(self, timeout: float | None = None) -> Any:
        """Count who asks."""
        self.asked += 1
        return super().acquire(timeout)


@invariant()
def few_have_asked(life: PoolLife) -> str | None:
    """At most two leases were asked for."""
    asked = getattr(life.pool, "asked", 0)
    return f"{asked} have asked" if asked > 2 and not life.ended else None


def everything(depth: int) -> set[tuple[Step, ...]]:
    """All lives of so many steps, merged by nothing."""
    lives: list[tuple[Step, ...]] = [()]
    for _ in range(depth):
        lives = [(*steps, step) for steps in lives for step in after(steps)]
    return set(lives)


def after(steps: tuple[Step, ...]) -> list[Step]:
    """The steps that may follow."""
    life = PoolLife()
    try:
        for step in steps:
            step.take(life)
        return life.options()
    finally:
        life.close()


def test_equal_moments_of_a_pool_are_merged() -> None:
    """Many ways lead to one moment, so that nothing less is walked in fewer lives; and all can be compared."""
    walked = explore(ConnectionPool, depth=SHORT)
    assert walked.violation is None
    assert walked.blind == ()
    assert walked.moments < walked.edges < len(everything(SHORT)), str(walked)


def test_a_counter_of_the_pools_own_tells_moments_apart() -> None:
    """A lease that was given back is not forgotten by who counts leases."""
    walked = explore(Counting, depth=3, invariants=[few_have_asked])
    assert walked.violation is not None
    assert walked.violation.invariant == "few_have_asked"
    assert walked.violation.script is not None
    assert [step.name for step in walked.violation.script.steps] == ["acquire"] * 3


class Spins(ConnectionPool):
    """Whoever acquires never gets beyond its loop."""

    def acquire(self, timeout: float | None = None) -> Any:
        """Wait for what never comes, without waiting."""
        while True:
            pass


class Soon(PoolLife):
    """Is sooner sure that something goes on for ever."""

    most_cpu_time = 0.3


def test_a_pool_that_spins_is_told_with_its_line() -> None:
    """As any other machine is."""
    with pytest.raises(ViolationError, match=r"no_livelock: Spins.acquire\(\), .*goes on and on"):
        Soon(Spins).acquire()


class Fails(ConnectionPool):
    """Cannot say how it is."""

    def get_pool_stats(self) -> dict[str, Any]:
        """Fail as it can."""
        raise KeyError("statistics")


def test_what_its_own_methods_raise_is_told_as_a_life() -> None:
    """With the line, and not as the raw error."""
    with pytest.raises(ViolationError, match=r"faults_have_a_cause: Fails.get_pool_stats\(\), .*KeyError"):
        PoolLife(Fails).open()

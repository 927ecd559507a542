"""The harness finds the faults that it is there to find: every seeded one is killed, and code without faults survives.

Run with `-s` to see the list: what was wrong, which invariant found it, and after how long.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from extent import far
from hypothesis import settings

from fsm_conn import Connection, RetryPolicy
from fsm_conn.testing import ViolationError, explore, lifecycle_test

from .mutants import MUTANTS, SUBJECTS, Mutant, hunt

LIVES = 400
UNHARMED = far(130)
SLIPS = ("TypeError", "AttributeError", "NameError")
"""What a mutant dies of that no longer fits the code which it replaces."""


def named(*names: str) -> list[Any]:
    return [pytest.param(mutant, id=mutant.name) for mutant in MUTANTS if not names or mutant.name in names]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_without_a_fault_every_life_is_survived(subject: type[Connection]) -> None:
    """The same lives that kill the mutants leave the classes that they are mutants of alive."""
    violation = hunt(subject, UNHARMED)
    assert violation is None, violation


def test_there_are_enough_mutants_and_each_says_what_is_wrong() -> None:
    """At least thirty that are killed, with names and descriptions of their own."""
    assert len(MUTANTS) >= 30
    assert len({mutant.name for mutant in MUTANTS}) == len({mutant.about for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", named())
def test_random_lives_kill(mutant: Mutant) -> None:
    """The fault is found in time."""
    begun = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        violation = hunt(mutant.apply(patch) or mutant.subject, LIVES, mutant.seed)
    seconds = time.process_time() - begun
    assert violation is not None, f"survived {LIVES} lives: {mutant.about}"
    print(
        f"\n{seconds:6.2f} s  {mutant.name}: {mutant.about}\n          {violation.invariant}: {violation.message:.120}"
    )
    assert not any(slip in violation.message for slip in SLIPS), f"the mutant itself is broken: {violation}"


SHORT = ("may_retry_inverted", "close_skipped", "release_skipped_when_failed", "wakeup_reaches_only_the_first")
FEW = ("may_retry_inverted", "close_skipped", "stale_activity_speaks", "wakeup_reaches_only_the_first")


@pytest.mark.parametrize("mutant", named(*FEW))
def test_hypothesis_kills(mutant: Mutant) -> None:
    """What users run finds it too."""
    with pytest.MonkeyPatch.context() as patch:
        case = lifecycle_test(mutant.apply(patch) or mutant.subject, max_examples=2000)  # it ends at the first
        case.settings = settings(case.settings, derandomize=True, database=None)
        with pytest.raises(ViolationError):
            case("runTest").runTest()


@pytest.mark.parametrize("mutant", named(*SHORT))
def test_exploration_kills(mutant: Mutant) -> None:
    """So does the walk through every short life, and its life is a short one."""
    with pytest.MonkeyPatch.context() as patch:
        broken = mutant.apply(patch) or mutant.subject
        violation = explore(broken, depth=4, seconds=10, retry=RetryPolicy(max_attempts=1)).violation
    assert violation is not None
    assert violation.script is not None
    assert len(violation.script.steps) <= 7

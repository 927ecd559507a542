"""The harness finds the faults that it is there to find: every one that was sown is killed.

Run with `-s` to see the list: what was wrong, which rule found it, and after how long.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import settings

from fsm_conn import ConnectionPool
from fsm_conn.testing import ViolationError, pool_test

from . import tested_mutants as _more  # noqa: F401 - puts its mutants on the list
from .hunting import hunt
from .mutants import MUTANTS, Mutant

LIVES = 600
"""Of this process's CPU: whatever else the machine does."""
SLIPS = ("TypeError", "AttributeError", "NameError")
"""What a mutant dies of that no longer fits the code which it replaces."""
FEW = ("forgotten_is_lost", "returned_past_the_line", "never_tried_again", "waiters_are_not_woken")


def test_there_are_enough_mutants_and_each_says_what_is_wrong() -> None:
    """At least fifteen, with names and descriptions of their own."""
    assert len(MUTANTS) >= 15
    assert len({mutant.name for mutant in MUTANTS}) == len({mutant.about for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=mutant.name) for mutant in MUTANTS])
def test_random_lives_kill(mutant: Mutant) -> None:
    """The fault is found in time."""
    begun = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        mutant.apply(patch)
        violation = hunt(mutant.live, LIVES, mutant.seed)
    seconds = time.process_time() - begun
    assert violation is not None, f"survived {LIVES} lives: {mutant.about}"
    print(
        f"\n{seconds:6.2f} s  {mutant.name}: {mutant.about}\n          {violation.invariant}: {violation.message:.120}"
    )
    told = violation.message.replace("DID NOT RAISE", "")
    assert not any(slip in told for slip in SLIPS) or told != violation.message, (
        f"the mutant itself is broken: {violation}"
    )


@pytest.mark.parametrize("mutant", [pytest.param(mutant, id=mutant.name) for mutant in MUTANTS if mutant.name in FEW])
def test_hypothesis_kills(mutant: Mutant) -> None:
    """What users run finds it too."""
    with pytest.MonkeyPatch.context() as patch:
        mutant.apply(patch)
        case = pool_test(ConnectionPool, max_examples=2000)  # it ends at the first life that fails
        case.settings = settings(case.settings, derandomize=True, database=None)
        with pytest.raises(ViolationError):
            case("runTest").runTest()

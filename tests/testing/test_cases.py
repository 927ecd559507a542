"""Test cases of lives: Hypothesis's settings, seeds, what a failure looks like, and what a run says of itself."""

from __future__ import annotations

import time
import unittest
from typing import Any

import pytest
from hypothesis import core, settings
from hypothesis.database import InMemoryExampleDatabase

from fsm_conn import Connection, ConnectionPool, RetryPolicy, State, StateMachine, Transition, insert_state
from fsm_conn.testing import (
    MachineLife,
    PoolLife,
    ViolationError,
    explore,
    lifecycle_test,
    machine_test,
    pool_test,
    random_lives,
)

from .faulty_machines import ThirdRefusal, Upload


class Vault(StateMachine):
    """Twelve states, with three levels of guards before each further one."""

    states = (State("s0", initial=True), *(State(f"s{number}") for number in range(1, 12)))
    transitions = (
        *(Transition("next", f"s{n}", f"s{n + 1}", guards=f"level_{n % 3}", effects="count") for n in range(11)),
        *(Transition("next", f"s{n}", None, effects="count") for n in range(11)),
        Transition("back", tuple(f"s{n}" for n in range(1, 12)), "s0", guards="is_far", effects="reset"),
        Transition("back", tuple(f"s{n}" for n in range(1, 12)), None),
        Transition("reset", "*", "s0", effects="reset"),
        Transition("bump", "*", None, effects="bump"),
    )
    number = level = 0

    def count(self) -> None:
        self.number += 1

    def bump(self) -> None:
        self.level = (self.level + 1) % 4

    def reset(self) -> None:
        self.number = self.level = 0

    def level_0(self) -> bool:
        return self.level >= 1

    def level_1(self) -> bool:
        return self.level >= 2 and self.number % 2 == 1

    def level_2(self) -> bool:
        return self.level == 3 and self.number > 4

    def is_far(self) -> bool:
        return self.state in ("s10", "s11")


@pytest.mark.parametrize("seed", range(4))
def test_every_row_and_both_outcomes_of_every_guard_are_reached(seed: int) -> None:
    """In a default run, whatever the seed."""
    lived = random_lives(Vault, seed=seed)
    assert (lived.violation, lived.unreached) == (None, ())
    assert lived.lives == 100


def test_what_was_not_reached_is_told() -> None:
    """By the row."""

    class Blocked(Vault):
        def is_far(self) -> bool:
            return False

    lived = random_lives(Blocked, lives=30)
    assert "[is_far] was never taken" in str(lived)


def run(case: type[unittest.TestCase]) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    return result


FAULTY: Any = {"data": {"unlock": {"code": [1, 7]}}}


def test_profiles_are_respected() -> None:
    """How many lives, of how many steps, and whether always the same ones."""
    before = settings.get_profile("default")
    settings.register_profile("few", max_examples=7, stateful_step_count=5, derandomize=True, database=None)
    settings.load_profile("few")
    try:
        cases = [
            machine_test(Upload),
            lifecycle_test(Connection),
            pool_test(ConnectionPool),
            machine_test(Upload, steps=9),
        ]
    finally:
        settings.register_profile("default", before)
        settings.load_profile("default")
    lived = []
    for case in (*cases, cases[0]):
        assert run(case).wasSuccessful()
        lived.append(case.lived)
    assert [each.lives for each in lived if each is not None] == [7] * 5
    assert lived[0] == lived[4]


def test_the_seed_of_hypothesis_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--hypothesis-seed`, a number or any other text; the failure says it, too."""
    case = machine_test(ThirdRefusal, max_examples=200, **FAULTY)
    for given in (3, "3", "abc"):
        monkeypatch.setattr(core, "global_force_seed", given)
        result = run(case)
        assert case.lived is not None
        assert f"Found in life {case.lived.lives} of --hypothesis-seed={case.lived.seed}" in result.failures[0][1]
        assert given == "abc" or case.lived.seed == 3


def test_a_run_that_failed_is_lived_again_first() -> None:
    """By the same seed, until it does not fail any more."""
    case = machine_test(ThirdRefusal, **FAULTY)
    database = InMemoryExampleDatabase()
    case.settings = settings(case.settings, database=database, derandomize=False, max_examples=200)
    run(case)
    assert case.lived is not None
    seed = case.lived.seed
    run(case)
    assert case.lived.seed == seed
    healed = machine_test(ThirdRefusal, ignore={"faults_have_a_cause": "known"}, **FAULTY)
    healed.settings = settings(case.settings, max_examples=20)
    assert run(healed).wasSuccessful()
    assert not list(database.fetch(case._key(case("runTest"))))


def test_a_failure_is_short_and_shows_nothing_of_the_machinery() -> None:
    """A life, a table and the seed; no frame of the harness, nothing of Hypothesis but the option."""
    case = machine_test(ThirdRefusal, max_examples=200, **FAULTY)
    text = run(case).failures[0][1]
    assert "life.fire('unlock', code=" in text
    assert "faulty_machines.py:" in text
    for word in ("Falsifying", "state.", "choice=", "generating.py", "stepping.py", "You can reproduce"):
        assert word not in text


class Inverted(Connection):
    """The guard says the contrary."""

    def may_retry(self, reason: BaseException | None) -> bool:
        return not super().may_retry(reason)


class RetriesForEver(Connection):
    """A guard that overrides the policy altogether."""

    def may_retry(self, reason: BaseException | None) -> bool:
        return True


class Linear(RetryPolicy):
    """No delay at all."""

    def delay(self, attempts: int, previous: float, rng: Any) -> float:
        return 0.0

    def permits(self, attempts: int, elapsed: float, delay: float) -> bool:
        return True


def test_an_inverted_guard_is_told_in_seconds() -> None:
    """By few steps, as everything; the seconds are of this process."""
    began = time.process_time()
    violation = random_lives(Inverted).violation
    assert violation is not None
    assert violation.script is not None
    assert len(violation.script.steps) <= 4
    assert time.process_time() - began < 30


def test_what_holds_whatever_the_policy_is_judged_all_the_same() -> None:
    """An error that cannot get better is final, and attempts let time pass, also where a class decides by itself."""
    violation = random_lives(RetriesForEver, ignore={"attempts_are_counted": "it means that"}).violation
    assert violation is not None
    known = ("permanent_errors_are_final", "deadlines_are_kept", "recovery_is_careful", "no_livelock")
    assert violation.invariant in known
    violation = explore(Connection, depth=8, retry=Linear(), ignore={"delays_are_kept": "none"}, seconds=60).violation
    assert violation is not None
    assert violation.invariant == "attempts_let_time_pass"


def test_whom_the_harness_does_not_judge_is_told() -> None:
    """By the rule, and by what the class does in its own way."""
    text = str(explore(RetriesForEver, depth=1))
    assert "not judged: gives_up_only_when_it_must, for may_retry() is the class's own" in text
    assert "not judged" not in str(explore(Connection, depth=1))


def test_a_wrong_class_is_refused() -> None:
    """With what to give."""
    for wrong in (int, StateMachine, "Upload"):
        with pytest.raises(TypeError, match="give a subclass of StateMachine, Connection or ConnectionPool"):
            machine_test(wrong)  # type: ignore[arg-type]


def test_data_of_which_nothing_is_known_is_asked_for() -> None:
    """With what to write."""

    class Pays(StateMachine):
        states = (State("open", initial=True), State("paid", final=True))
        transitions = (Transition("pay", "open", "paid", effects="take"),)

        def take(self, amount) -> None:  # type: ignore[no-untyped-def]
            self.amount = amount

    with pytest.raises(TypeError, match=r"'pay' is fired with 'amount'.*give data=\{'pay': \{'amount': <a strategy"):
        explore(Pays)
    assert explore(Pays, data={"pay": {"amount": [1, 2]}}, depth=2).proven


def test_every_kind_of_machine_has_its_kind_of_life() -> None:
    """One engine for all of them."""
    assert machine_test(Upload).life is MachineLife
    assert machine_test(ConnectionPool).life is PoolLife
    assert explore(ConnectionPool, depth=2).violation is None


class Unwatched(Connection):
    """A state that owns a link, and whose activity does not watch it."""

    states, transitions = insert_state(
        Connection, "greeting", trigger="opened", before="connected", then="greeted", like="connecting"
    )

    async def while_greeting(self) -> str:
        """Wait for the answer, however long, and whatever becomes of the link."""
        await self.call("session.Greet")
        return "greeted"


def test_an_activity_that_waits_for_ever_for_a_peer_is_found() -> None:
    """By chance, too."""
    violation = random_lives(Unwatched).violation
    assert violation is not None
    assert violation.invariant in ("waits_have_a_limit", "liveness")
    assert isinstance(violation, ViolationError)

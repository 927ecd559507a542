"""Policies: validation, and what always holds of delays and permissions."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn import CallOptions, Jitter, RetryPolicy

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.none() | st.integers(1, 100),
    initial_delay=seconds,
    multiplier=st.floats(1, 1e3),
    max_delay=seconds,
    jitter=st.sampled_from(Jitter),
    deadline=st.none() | st.floats(0.001, 1e6),
    stable_after=seconds,
)


@given(policies, st.integers(0, 10_000), seconds, st.integers())
def test_a_delay_is_never_negative_nor_above_its_cap(
    policy: RetryPolicy, attempts: int, previous: float, seed: int
) -> None:
    """However many attempts, and whatever the jitter."""
    delay = policy.delay(attempts, min(previous, policy.max_delay), random.Random(seed))
    assert 0 <= delay <= policy.max_delay
    assert attempts or delay == 0


@given(policies, st.integers(1, 50), seconds, st.integers())
def test_jitter_stays_within_its_documented_bounds(
    policy: RetryPolicy, attempts: int, previous: float, seed: int
) -> None:
    """Each kind, against the delay without jitter."""
    whole = attrs.evolve(policy, jitter="none").delay(attempts, previous, random.Random(seed))
    delay = policy.delay(attempts, previous, random.Random(seed))
    if policy.jitter is Jitter.NONE:
        assert delay == whole
    elif policy.jitter is Jitter.EQUAL:
        assert whole / 2 <= delay <= whole
    elif policy.jitter is Jitter.FULL:
        assert delay <= whole
    else:
        low = min(policy.initial_delay, policy.max_delay)
        assert min(low, policy.max_delay) <= delay * (1 + 1e-9)
        assert delay <= max(low, previous * 3)


@given(policies, st.integers(1, 50), seconds, st.integers())
def test_the_same_source_gives_the_same_delay(policy: RetryPolicy, attempts: int, previous: float, seed: int) -> None:
    """A policy has no hidden state."""
    first, second = (policy.delay(attempts, previous, random.Random(seed)) for _ in range(2))
    assert first == second


def test_delays_double_up_to_the_cap() -> None:
    """The documented shape."""
    policy = RetryPolicy(initial_delay=1, multiplier=2, max_delay=5, jitter="none")
    assert [policy.delay(n, 0, random.Random()) for n in range(5)] == [0, 1, 2, 4, 5]


@given(policies, st.integers(0, 200), seconds, seconds)
def test_permission_is_never_regained_by_trying(
    policy: RetryPolicy, attempts: int, elapsed: float, delay: float
) -> None:
    """Refused once, it stays refused after more attempts, more time and a longer delay."""
    if not policy.permits(attempts, elapsed, delay):
        assert not policy.permits(attempts + 1, elapsed, delay)
        assert not policy.permits(attempts, elapsed + 1, delay)
        assert not policy.permits(attempts, elapsed, delay + 1)


def test_what_limits_attempts() -> None:
    """The first attempt counts; the deadline is exclusive; None is no limit."""
    assert [RetryPolicy(max_attempts=2).permits(n, 0, 0) for n in range(4)] == [True, True, False, False]
    assert [RetryPolicy(max_attempts=None, deadline=5).permits(10**6, t, 1) for t in (0, 3.9, 4)] == [True, True, False]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"max_attempts": 0}, ValueError, "the first one counts: give 1 or more"),
        ({"max_attempts": 1.5}, TypeError, "give a whole number, or None for no limit"),
        ({"max_attempts": True}, TypeError, "give a whole number"),
        (
            {"initial_delay": -1},
            ValueError,
            r"RetryPolicy\(initial_delay=-1\): give a finite number of seconds, zero or more",
        ),
        ({"initial_delay": "1"}, TypeError, "give a number of seconds"),
        ({"max_delay": float("inf")}, ValueError, "finite"),
        ({"max_delay": 10**400}, ValueError, r"RetryPolicy\(max_delay=<an integer of 1329 bits>\): give a finite"),
        ({"deadline": -(10**400)}, ValueError, "deadline=<an integer of 1329 bits>.*more than zero"),
        ({"multiplier": 10**5000}, ValueError, "multiplier=<an integer of 16610 bits>.*give a finite number"),
        ({"max_attempts": 10**400}, ValueError, "max_attempts=<an integer of 1329 bits>.*, or None for no limit"),
        ({"max_attempts": -(10**5000)}, ValueError, "give 1 or more"),
        ({"max_delay": float("nan")}, ValueError, "finite"),
        ({"deadline": 0}, ValueError, "more than zero"),
        ({"stable_after": None}, TypeError, "give a number of seconds"),
        ({"multiplier": 0.5}, ValueError, "1 or more"),
        ({"multiplier": "2"}, TypeError, "give a number"),
        ({"jitter": "some"}, ValueError, "give one of 'none', 'equal', 'full', 'decorrelated'"),
    ],
)
def test_wrong_policies_say_what_to_give(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    """Each field is validated when the policy is made."""
    with pytest.raises(error, match=message):
        RetryPolicy(**wrong)


def test_a_policy_is_frozen() -> None:
    """It can be shared by any number of connections."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RetryPolicy().max_attempts = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"timeout": 0}, ValueError, "more than zero and at most 1e\\+08 seconds, or None for no limit"),
        ({"timeout": float("nan")}, ValueError, "more than zero"),
        ({"timeout": float("inf")}, ValueError, "or None for no limit"),
        ({"timeout": 1e300}, ValueError, "or None for no limit"),
        ({"idempotent": "no"}, TypeError, "give True or False"),
        ({"wait_for_ready": 1}, TypeError, "give True or False"),
        (
            {"metadata": {"Authorization": "v"}},
            ValueError,
            "'Authorization' may have only lower-case letters.*; write 'authorization'",
        ),
        ({"metadata": {"k\u00fc": "v"}}, ValueError, "may have only lower-case"),
        ({"metadata": {"x": "\u00fc"}}, ValueError, "the value of 'x' may have only printable ASCII"),
        ({"metadata": {"x": "a\nb"}}, ValueError, "printable ASCII"),
        ({"metadata": {"x-bin": "s"}}, TypeError, "bytes go with keys that end in '-bin', and with no others"),
        ({"metadata": {"x": b"s"}}, TypeError, "bytes go with keys that end in '-bin'"),
        ({"timeout": "1"}, TypeError, "give a number of seconds"),
        ({"metadata": 3}, TypeError, "give a mapping, or pairs"),
        ({"metadata": {"key": 3}}, TypeError, "'key' must be a str, and its value a str or bytes"),
    ],
)
def test_wrong_call_options_say_what_to_give(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    """Before anything is sent."""
    with pytest.raises(error, match=message):
        CallOptions(**wrong)


def test_call_options_take_a_mapping_or_pairs_and_show_no_metadata() -> None:
    """Metadata often carries tokens."""
    assert CallOptions(metadata={"a": "1"}) == CallOptions(metadata=[("a", "1")])
    assert "secret" not in repr(CallOptions(metadata={"authorization": "secret"}))


def test_a_delay_of_the_millionth_attempt_costs_no_more_than_that_of_the_first() -> None:
    """A whole multiplier is no reason to compute whole numbers of a million digits."""

    class Watched(int):
        def __pow__(self, value: Any, mod: Any = None) -> Any:
            raise AssertionError("an integer was raised to the power of the attempts")

    policy = RetryPolicy(multiplier=Watched(2), initial_delay=1, max_delay=60, jitter="none")  # type: ignore[arg-type]
    rng = random.Random(0)
    assert [policy.delay(attempts, 0.0, rng) for attempts in (1, 2, 6, 7, 10**6)] == [1, 2, 32, 60, 60]

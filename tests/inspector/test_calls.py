"""Calls in numbers: right within what is promised, and bounded."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from fsm_conn import CallOutcome, CallRecord
from fsm_conn.inspector.calls import BUCKETS, MOST_METHODS, PER_DOUBLING, SECONDS, CallCounts


def record(method: str = "a.B", seconds: float = 0.001, at: float = 0.0, failed: bool = False) -> CallRecord:
    outcome = CallOutcome.FAILED if failed else CallOutcome.SUCCEEDED
    return CallRecord(method, outcome, OSError("no\nsecond line") if failed else None, seconds, at)


@given(st.lists(st.floats(2e-5, 100), min_size=1, max_size=200))
def test_percentiles_are_at_most_one_bucket_off(seconds: list[float]) -> None:
    """Never below the value, and at most 19 % above it."""
    counts = CallCounts()
    for each in seconds:
        counts(record(seconds=each))
    values = counts.values()
    assert values is not None
    (method,) = values["methods"]
    ordered = sorted(seconds)
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = ordered[max(0, -int(-len(ordered) * share // 1)) - 1]
        assert exact <= method[name] * (1 + 1e-9) <= exact * 2 ** (1 / PER_DOUBLING) * (1 + 1e-6)
    assert statistics.median_low(seconds) <= method["p50"] * (1 + 1e-9)


def test_memory_is_bounded() -> None:
    """However many methods and seconds there were, and however long a call took."""
    counts = CallCounts()
    for number in range(3 * MOST_METHODS):
        counts(record(f"service.Method{number}", seconds=1e9, at=number))
    values = counts.values()
    assert values is not None
    assert len(values["methods"]) == MOST_METHODS + 1
    assert sum(method["count"] for method in values["methods"]) == 3 * MOST_METHODS
    assert len(counts._per_second) == SECONDS
    assert len(counts._methods["service.Method0"].buckets) == BUCKETS


def test_errors_are_told_by_their_first_line() -> None:
    """With the method; and counted."""
    counts = CallCounts()
    assert counts.values() is None
    counts(record())
    counts(record(failed=True))
    values = counts.values()
    assert values is not None
    assert values["last_error"][1:] == ("OSError", "no")
    assert sum(method["failed"] for method in values["methods"]) == 1

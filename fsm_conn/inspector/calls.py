"""Statistics of one connection's calls: how many, how they ended, how long they took. Never their contents."""

from __future__ import annotations

import math
from typing import Any

import attrs

from fsm_conn._util.timing import now
from fsm_conn.connection.calling.records import CallOutcome, CallRecord
from fsm_conn.inspector.wire import LONGEST_REASON, shown
from fsm_conn.telemetry.reading import KnownMethods, error_text, error_type

__all__ = ["CallCounts"]

SECONDS = 60
"""The history of calls covers so many seconds."""
PER_DOUBLING = 4
"""Buckets of latencies per doubling: the error of a percentile is at most 19 %."""
LEAST = 1e-5
BUCKETS = PER_DOUBLING * 24
"""The buckets reach from 10 us to 168 s."""
MOST_METHODS = 100
OTHERS = "(others)"


@attrs.define
class _Method:
    count: int = 0
    failed: int = 0
    cancelled: int = 0
    buckets: list[int] = attrs.field(factory=lambda: [0] * BUCKETS)

    def note(self, record: CallRecord) -> None:
        self.count += 1
        self.failed += record.outcome is CallOutcome.FAILED
        self.cancelled += record.outcome is CallOutcome.CANCELLED
        place = 0 if record.seconds <= LEAST else int(math.log2(record.seconds / LEAST) * PER_DOUBLING)
        self.buckets[min(place, BUCKETS - 1)] += 1

    def percentile(self, share: float) -> float | None:
        """The percentile in seconds: the upper end of its bucket."""
        left = math.ceil(self.count * share)
        for place, count in enumerate(self.buckets):
            left -= count
            if left <= 0 and count:
                return float(LEAST * 2 ** ((place + 1) / PER_DOUBLING))
        return None


class CallCounts:
    """An observer for `Connection.on_call`, with bounded memory."""

    def __init__(self) -> None:
        self._known = KnownMethods(OTHERS)
        self._methods: dict[str, _Method] = {}
        self._per_second: dict[int, list[int]] = {}
        self._last_error: tuple[str, str, str] | None = None

    def __call__(self, record: CallRecord) -> None:
        """A call has ended."""
        name = self._known.named(record)
        if name not in self._methods and len(self._methods) >= MOST_METHODS:
            name = OTHERS
        self._methods.setdefault(name, _Method()).note(record)
        failed = record.outcome is CallOutcome.FAILED
        second = self._per_second.setdefault(int(record.at), [0, 0])
        second[0] += 1
        second[1] += failed
        while len(self._per_second) > SECONDS:
            del self._per_second[min(self._per_second)]
        if failed and record.error is not None:
            first = error_text(record.error).partition("\n")[0]
            self._last_error = (shown(name), shown(error_type(record.error)), shown(first, LONGEST_REASON))

    def values(self) -> dict[str, Any] | None:
        """The statistics for the page; None when there were no calls."""
        if not self._methods:
            return None
        at = int(now())
        seconds = self._per_second.copy()
        return {
            "seconds": [seconds.get(second, [0, 0]) for second in range(at - SECONDS + 1, at + 1)],
            "last_error": self._last_error,
            "methods": [
                {
                    "method": shown(name),
                    "count": each.count,
                    "failed": each.failed,
                    "cancelled": each.cancelled,
                    "p50": each.percentile(0.5),
                    "p95": each.percentile(0.95),
                    "p99": each.percentile(0.99),
                }
                for name, each in sorted(self._methods.copy().items(), key=lambda item: -item[1].count)
            ],
        }

"""`HealthReport`: how a connection is, at one moment, as a value to be shown, logged or sent on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from fsm_conn.connection.prober import HealthStatus

__all__ = ["HealthReport"]


@attrs.frozen(kw_only=True)
class HealthReport:
    """How a connection is, and what has happened to it since it was made. Calls are counted when they have ended."""

    connected: bool
    """Whether calls are served."""
    connected_duration_seconds: float | None
    """Seconds since it connected, by the event loop's clock; None when it is not connected."""
    total_calls: int
    """Succeeded, failed and cancelled ones."""
    failed_calls: int
    """Calls that ended with an error, whoever's it was, refused ones included."""
    success_rate_percent: float
    """Of the calls that nobody cancelled, those that succeeded, in percent to two digits; 0 before the first."""
    reconnect_count: int
    """How many times a link was replaced by another; attempts that failed do not count."""
    last_successful_call: datetime | None
    """When, in UTC; None: no call has succeeded."""
    state: str
    """The state of the connection."""
    health: HealthStatus
    """The outcome of the last health probe of the present link; says so when the peer has no health service."""
    passed_probes: int
    """Health probes that were answered well."""
    failed_probes: int
    """Health probes that were answered badly, late or not at all."""
    connected_at: datetime | None
    """When it connected last, in UTC; None: never."""
    losses: int
    """How many times an open link was lost, or given up because its peer was no longer well."""
    succeeded_calls: int
    """Calls that were answered."""
    cancelled_calls: int
    """Calls whose caller was cancelled, or dropped the stream of answers."""
    refused_calls: int
    """Of those that failed: calls that were not made, because the connection was not connected. See `Metrics`."""
    latency_p50_ms: float | None
    """Milliseconds within which half of the calls that succeeded last were answered; None: none has. See `Metrics`."""
    latency_p95_ms: float | None
    """As `latency_p50_ms`, for 95 of a hundred."""
    latency_p99_ms: float | None
    """As `latency_p50_ms`, for 99 of a hundred."""
    last_error: str | None
    """The last error behind a change of state, or behind a failed probe; None: there was none."""

    def as_dict(self) -> dict[str, Any]:
        """The same as a plain dict that `json.dumps` takes; times in ISO 8601, with their offset from UTC."""
        return attrs.asdict(self, value_serializer=_plain)


def _plain(report: object, attribute: object, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, str) else value

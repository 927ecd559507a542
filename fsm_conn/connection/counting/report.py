"""`HealthReport`: the health of a connection at one moment, as a value to show, log or send."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from fsm_conn.connection.prober import HealthStatus

__all__ = ["HealthReport"]


@attrs.frozen(kw_only=True)
class HealthReport:
    """The health of a connection, and its counts since it was created. Calls are counted when they have ended."""

    connected: bool
    """Whether calls are served."""
    connected_duration_seconds: float | None
    """Seconds since it connected, by the event loop's clock; None when it is not connected."""
    total_calls: int
    """All calls: succeeded, failed and cancelled ones."""
    failed_calls: int
    """Calls that ended with any error, refused ones included."""
    success_rate_percent: float
    """The percentage of calls that succeeded, among those not cancelled, to two digits; 0 before the first."""
    reconnect_count: int
    """How often a link was replaced by another; failed attempts do not count."""
    last_successful_call: datetime | None
    """When the last call succeeded, in UTC; None: none has."""
    state: str
    """The state of the connection."""
    health: HealthStatus
    """The outcome of the last health probe of the current link, also when the peer has no health service."""
    passed_probes: int
    """Health probes that passed."""
    failed_probes: int
    """Health probes that failed, by a bad, late or missing answer."""
    connected_at: datetime | None
    """When it last connected, in UTC; None: never."""
    losses: int
    """How often an open link was lost, or given up because its peer was unhealthy."""
    succeeded_calls: int
    """Calls that were answered."""
    cancelled_calls: int
    """Calls whose caller was cancelled, or stopped reading the stream of answers."""
    refused_calls: int
    """Those of the failed calls that were not sent, because there was no connection. See `Metrics`."""
    latency_p50_ms: float | None
    """The median latency of the last successful calls, in milliseconds; None: there are none. See `Metrics`."""
    latency_p95_ms: float | None
    """The 95th percentile, as `latency_p50_ms`."""
    latency_p99_ms: float | None
    """The 99th percentile, as `latency_p50_ms`."""
    last_error: str | None
    """The last error behind a change of state, or behind a failed probe; None: there was none."""

    def as_dict(self) -> dict[str, Any]:
        """The same as a plain dict that `json.dumps` takes; times in ISO 8601, with their offset from UTC."""
        return attrs.asdict(self, value_serializer=_plain)


def _plain(report: object, attribute: object, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, str) else value

"""Log records, OpenTelemetry and Prometheus metrics of connections and pools.

    from fsm_conn.telemetry import LogObserver, OpenTelemetry, PrometheusMetrics

    detach = PrometheusMetrics().attach(conn)

Each only observes, costs nothing until it is attached, and keeps no connection alive. `OpenTelemetry` needs the extra
`opentelemetry`, `PrometheusMetrics` the extra `prometheus`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn._util.lazy import lazily

if TYPE_CHECKING:
    from fsm_conn.telemetry.logs import LogObserver as LogObserver
    from fsm_conn.telemetry.otel import OpenTelemetry as OpenTelemetry
    from fsm_conn.telemetry.prometheus import PrometheusMetrics as PrometheusMetrics

_HOMES = {
    "fsm_conn.telemetry.logs": "LogObserver",
    "fsm_conn.telemetry.otel": "OpenTelemetry",
    "fsm_conn.telemetry.prometheus": "PrometheusMetrics",
}

__getattr__, __dir__, __all__ = lazily(__name__, _HOMES)

"""What connections do, told to those who run them: log records, OpenTelemetry, Prometheus.

    from fsm_conn.telemetry import LogObserver, OpenTelemetry, PrometheusMetrics

    detach = PrometheusMetrics().attach(conn)

Each observes and changes nothing, costs nothing until it is attached, and keeps no connection alive: one that is
dropped is forgotten. `OpenTelemetry` needs the extra `opentelemetry`, `PrometheusMetrics` the extra `prometheus`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn.lazy import lazily

if TYPE_CHECKING:
    from fsm_conn.telemetry.logs import LogObserver
    from fsm_conn.telemetry.otel import OpenTelemetry
    from fsm_conn.telemetry.prometheus import PrometheusMetrics

__all__ = ["LogObserver", "OpenTelemetry", "PrometheusMetrics"]

_HOMES = {
    "LogObserver": "fsm_conn.telemetry.logs",
    "OpenTelemetry": "fsm_conn.telemetry.otel",
    "PrometheusMetrics": "fsm_conn.telemetry.prometheus",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)

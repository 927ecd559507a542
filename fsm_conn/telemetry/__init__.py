"""What connections do, told to those who run them: log records, OpenTelemetry, Prometheus.

    from fsm_conn.telemetry import LogObserver, OpenTelemetry, PrometheusMetrics

    detach = PrometheusMetrics().attach(conn)

Each observes and changes nothing, costs nothing until it is attached, and keeps no connection alive: one that is
dropped is forgotten. `OpenTelemetry` needs the extra `opentelemetry`, `PrometheusMetrics` the extra `prometheus`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    """Import what is asked for, and its library with it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

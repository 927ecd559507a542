"""What the exporters' own readers make of the metrics: one way to ask, for both libraries."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fsm_conn.telemetry import OpenTelemetry, PrometheusMetrics

METRICS = ("state", "transitions", "attempts", "probes", "connect", "call")


class Prometheus:
    """What a scrape shows."""

    unknown = "unknown"

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.observer = PrometheusMetrics(self.registry)

    @staticmethod
    def method(name: str) -> str:
        return name

    def read(self, metric: str) -> dict[tuple[str, ...], Any]:
        """By the values of the labels: a number, or of a histogram the count and the sum."""
        name = f"fsm_conn_{metric}" + ("_seconds" if metric in ("connect", "call") else "")
        found: dict[tuple[str, ...], Any] = {}
        for family in text_string_to_metric_families(generate_latest(self.registry).decode()):
            for sample in family.samples:
                key = self._key(metric, sample.labels)
                if sample.name in (name, f"{name}_total"):
                    found[key] = sample.value
                elif sample.name in (f"{name}_count", f"{name}_sum"):
                    count, total = found.get(key, (0, 0))
                    found[key] = (sample.value, total) if sample.name.endswith("_count") else (count, sample.value)
        return found

    @staticmethod
    def _key(metric: str, labels: dict[str, str]) -> tuple[str, ...]:
        names = {"state": ("state",), "transitions": ("trigger", "source", "dest"), "call": ("method", "outcome")}
        return tuple(labels.get(name, "") for name in ("connection", *names.get(metric, ("outcome",))))


class Otel:
    """What the SDK collects, and the spans that were exported."""

    unknown = "_OTHER"

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.observer = OpenTelemetry(self.tracer_provider, meter_provider)

    @staticmethod
    def method(name: str) -> str:
        return name.replace(".", "/")

    @property
    def spans(self) -> list[ReadableSpan]:
        """Those that have ended, in that order."""
        return list(self.exporter.get_finished_spans())

    def data(self) -> dict[str, Any]:
        """The metrics by name."""
        collected = self.reader.get_metrics_data()
        if collected is None:
            return {}
        return {
            metric.name: metric
            for resource in collected.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def read(self, metric: str) -> dict[tuple[str, ...], Any]:
        """By the values of the attributes: a number, or of a histogram the count and the sum. Errors are added up."""
        names = {
            "state": "fsm_conn.connection.count",
            "connect": "fsm_conn.connect.duration",
            "call": "rpc.client.call.duration",
        }
        found = self.data().get(names.get(metric, f"fsm_conn.{metric}"))
        points = [] if found is None else found.data.data_points
        values: dict[tuple[str, ...], Any] = {}
        for point in points:
            key = self._key(metric, point.attributes)
            if hasattr(point, "value"):
                values[key] = values.get(key, 0) + point.value
            else:
                count, total = values.get(key, (0, 0))
                values[key] = (count + point.count, total + point.sum)
        return values

    @staticmethod
    def _key(metric: str, attributes: Any) -> tuple[str, ...]:
        name = attributes["fsm_conn.connection.name"]
        if metric == "state":
            return (name, attributes["fsm_conn.connection.state"])
        if metric == "transitions":
            return (name, *(attributes[f"fsm_conn.transition.{key}"] for key in ("trigger", "source", "dest")))
        if metric == "call":
            cancelled = attributes.get("rpc.response.status_code") == "CANCELLED" and "error.type" not in attributes
            outcome = "cancelled" if cancelled else "failed" if "error.type" in attributes else "succeeded"
            return (name, attributes["rpc.method"], outcome)
        return (name, attributes["fsm_conn.outcome"])

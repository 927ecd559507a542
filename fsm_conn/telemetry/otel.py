"""Spans and metrics for OpenTelemetry, through its API; which SDK and exporter take them is the application's business.

Calls follow the semantic conventions for gRPC clients, version 1.40
(https://opentelemetry.io/docs/specs/semconv/rpc/grpc/): `rpc.client.call.duration`, `rpc.system.name`, `rpc.method`,
`rpc.response.status_code`, `error.type`. What they have no names for begins with `fsm_conn.`. One deviation: a call
that its own caller cancelled carries the status CANCELLED and is no error.

Spans are written with times that are the wall clock's at one end and the event loop's in between, so that a step of the
wall clock never makes a duration wrong. The span of a call is written when the call has ended, as a child of what is
current then: that of the caller. The plugin is not told of it; to have its spans in the same trace, pass
`CallOptions(metadata=carrier)` with what `opentelemetry.propagate.inject(carrier)` has put there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from fsm_conn._util.extras import missing
from fsm_conn._util.keywords import explained
from fsm_conn.connection.calling.records import CallOutcome, CallRecord
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import Trigger
from fsm_conn.links.errors import ConnectionLostError
from fsm_conn.telemetry.reading import ConnectOutcome, KnownMethods, error_text, error_type, status_code
from fsm_conn.telemetry.watching import Measuring, Telemetry
from fsm_conn.version import __version__

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
except ImportError as error:
    raise missing("OpenTelemetry", "opentelemetry", error.name) from error

if TYPE_CHECKING:
    from fsm_conn.connection.connection import Connection

__all__ = ["OpenTelemetry"]

SCHEMA = "https://opentelemetry.io/schemas/1.40.0"
"""The version of the conventions that is followed."""
CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds, as the conventions have it. For finer ones, configure a view of the SDK."""
CONNECT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds: from a running endpoint at hand to some minutes of backoff."""

OTHER = "_OTHER"
"""What the conventions have instead of the name of a method that may not exist."""
NAME = "fsm_conn.connection.name"
STATE = "fsm_conn.connection.state"
OUTCOME = "fsm_conn.outcome"
ERROR = "error.type"

POOL = "fsm_conn.pool.name"

_POOL_METRICS = (
    ("size", "gauge", "{connection}", "Size of the pool."),
    ("connections", "gauge", "{connection}", "Connections in service."),
    ("leased", "gauge", "{lease}", "Leases held."),
    ("idle", "gauge", "{lease}", "Leases available without waiting."),
    ("waiting", "gauge", "{request}", "Callers waiting for a connection."),
    ("created", "counter", "{connection}", "Links that came into service."),
    ("timeouts", "counter", "{timeout}", "Acquires that timed out."),
    ("refused", "counter", "{request}", "Acquires that were refused: closed, full, or unavailable."),
    ("waits", "counter", "{wait}", "Waits that ended with a connection."),
    ("wait_seconds", "counter", "s", "Seconds of these waits, altogether."),
)

_ASKED = (Trigger.CONNECT, Trigger.RECONNECT)


class _Instruments:
    """What is written to, made once for all connections."""

    def __init__(self, tracer: trace.Tracer, meter: metrics.Meter) -> None:
        self.tracer = tracer
        self.methods = KnownMethods(OTHER)
        self.transitions = meter.create_counter(
            "fsm_conn.transitions",
            unit="{transition}",
            description="Transitions of the state machine, internal ones included.",
        )
        self.attempts = meter.create_counter(
            "fsm_conn.attempts", unit="{attempt}", description="Attempts to open a link, by how they ended."
        )
        self.probes = meter.create_counter(
            "fsm_conn.probes", unit="{probe}", description="Health probes, by how they ended."
        )
        self.connects = meter.create_histogram(
            "fsm_conn.connect.duration",
            unit="s",
            description="From the request to connect, or the loss of the link, to the end of the last attempt.",
            explicit_bucket_boundaries_advisory=CONNECT_BUCKETS,
        )
        self.calls = meter.create_histogram(
            "rpc.client.call.duration",
            unit="s",
            description="Measures the duration of an outgoing Remote Procedure Call (RPC).",
            explicit_bucket_boundaries_advisory=CALL_BUCKETS,
        )


class _Watch(Measuring):
    def __init__(self, conn: Connection, instruments: _Instruments) -> None:
        super().__init__(conn)
        self._to = instruments
        self._span: trace.Span = trace.INVALID_SPAN
        self._span_began = 0.0
        self._span_began_ns = 0
        self._attempts = 0

    # --- connecting -------------------------------------------------------------------------------------------

    def moved(self, record: ConnectionRecord) -> None:
        row = {"trigger": str(record.trigger), "source": str(record.source), "dest": str(record.dest)}
        labels = {f"fsm_conn.transition.{key}": value for key, value in row.items()}
        self._to.transitions.add(1, {NAME: self.label, **labels})

    def probed(self, outcome: str) -> None:
        self._to.probes.add(1, {NAME: self.label, OUTCOME: outcome})

    def began(self, record: ConnectionRecord) -> None:
        """Open a span: under that of who asked for it, and of its own when the connection acts by itself."""
        self._attempts = 0
        self._span_began = record.at
        self._span_began_ns = _wall_clock(record.at)
        cause = {"fsm_conn.connect.cause": str(record.trigger)}
        if record.reason is not None:
            cause["fsm_conn.connect.cause.error.type"] = error_type(record.reason)
        self._span = self._to.tracer.start_span(
            f"connect {self.label}",
            context=None if record.trigger in _ASKED else Context(),
            attributes={NAME: self.name, **cause},
            start_time=self._span_began_ns,
        )

    def attempted(self, outcome: ConnectOutcome, record: ConnectionRecord) -> None:
        self._attempts += 1
        self._to.attempts.add(1, {NAME: self.label, OUTCOME: str(outcome)})
        found: dict[str, str | int] = {"fsm_conn.attempt": self._attempts, OUTCOME: str(outcome)}
        if record.reason is not None:
            found |= {ERROR: error_type(record.reason), "exception.message": error_text(record.reason)}
        self._span.add_event("attempt", found, timestamp=self._span_time(record.at))

    def ended(self, outcome: ConnectOutcome, seconds: float, record: ConnectionRecord) -> None:
        labels = {NAME: self.label, OUTCOME: str(outcome)}
        span = self._span
        span.set_attributes({OUTCOME: str(outcome), "fsm_conn.connect.attempts": self._attempts})
        if outcome is ConnectOutcome.FAILED:
            kind = OTHER if record.reason is None else error_type(record.reason)
            labels[ERROR] = kind
            span.set_attribute(ERROR, kind)
            text = "" if record.reason is None else error_text(record.reason)
            span.set_status(trace.StatusCode.ERROR, text)
        self._to.connects.record(seconds, labels, context=trace.set_span_in_context(span))
        self._end_span(record.at)

    def detached(self) -> None:
        """A span that is open is written as far as it got: as long as it has lasted, of unknown outcome."""
        self._span.end()
        self._span = trace.INVALID_SPAN

    def _end_span(self, at: float) -> None:
        self._span.end(self._span_time(at))
        self._span = trace.INVALID_SPAN

    def _span_time(self, at: float) -> int:
        return self._span_began_ns + _nanoseconds(at - self._span_began)

    # --- calls ------------------------------------------------------------------------------------------------

    def called(self, record: CallRecord) -> None:
        named = self._to.methods.named(record)
        method = OTHER if named == OTHER else _full_name(named)
        labels = {"rpc.system.name": "grpc", "rpc.method": method, NAME: self.label, **_how_it_ended(record)}
        now = time.time_ns()
        span = self._to.tracer.start_span(
            "grpc" if method == OTHER else method,
            kind=trace.SpanKind.CLIENT,
            attributes=labels,
            start_time=now - _nanoseconds(record.seconds),
        )
        if method == OTHER:
            span.set_attribute("rpc.method_original", str(record.method))
        if isinstance(record.error, ConnectionLostError):
            span.set_attribute("fsm_conn.maybe_executed", record.error.maybe_executed)
        if record.outcome is CallOutcome.FAILED and record.error is not None:
            span.set_status(trace.StatusCode.ERROR, error_text(record.error))
        span.end(now)
        self._to.calls.record(record.seconds, labels, context=trace.set_span_in_context(span))


def _how_it_ended(record: CallRecord) -> dict[str, str]:
    if record.outcome is CallOutcome.CANCELLED:
        return {"rpc.response.status_code": "CANCELLED"}
    status = status_code(record.error)
    labels = {} if status is None else {"rpc.response.status_code": status}
    return labels if record.error is None else {**labels, ERROR: error_type(record.error)}


def _full_name(method: str) -> str:
    """`service/Method`, as the conventions have it, of what the caller has called `service.Method`."""
    service, _, name = method.rpartition(".")
    return f"{service}/{name}"


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _wall_clock(at: float) -> int:
    """The time of day of a moment on the event loop's clock, which may have passed a while ago."""
    return time.time_ns() - _nanoseconds(asyncio.get_running_loop().time() - at)


class OpenTelemetry(Telemetry[_Watch]):
    """Writes spans and metrics of all attached connections. Create one for each meter provider.

    Spans: one for each call (`service/Method`, a client's), in the context of its caller; and one for each connecting
    (`connect <name>`), from the request or the loss of the link until it is connected, given up or abandoned, with an
    event `attempt` for each attempt. The latter is a child of the current span when a caller asked to connect, and a
    trace of its own when the connection acts by itself.

    Metrics: `fsm_conn.connection.count` (connections by name and state), `fsm_conn.transitions`, `fsm_conn.attempts`,
    `fsm_conn.probes`, `fsm_conn.connect.duration` and `rpc.client.call.duration`, both in seconds.
    A connection that is detached or dropped vanishes from the first of them. For each attached pool:
    `fsm_conn.pool.size`, `.connections`, `.leased`, `.idle`, `.waiting`, and as counters `.created`, `.timeouts`,
    `.refused`, `.waits` and `.wait_seconds`.
    The connections of a pool are counted under the pool's name; the span of each connecting has its own.

    Spans hold the text of errors. This package writes no secrets into them, and secrets among the values
    of `env=` are hidden where it quotes a plugin's output. The plugin's own answers, such as the text of a status,
    are passed on unchanged: if one quotes a secret, so does the span.

    Args:
        tracer_provider: makes the spans; by default the global one.
        meter_provider: makes the metrics; by default the global one.
    """

    @explained()
    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        super().__init__()
        tracer = trace.get_tracer("fsm_conn", __version__, tracer_provider, SCHEMA)
        meter = metrics.get_meter("fsm_conn", __version__, meter_provider, SCHEMA)
        self._instruments = _Instruments(tracer, meter)
        meter.create_observable_up_down_counter(
            "fsm_conn.connection.count",
            [self._observe],
            unit="{connection}",
            description="Connections by state.",
        )
        for name, kind, unit, words in _POOL_METRICS:
            create = meter.create_observable_counter if kind == "counter" else meter.create_observable_up_down_counter
            create(f"fsm_conn.pool.{name}", [partial(self._observe_pools, name)], unit=unit, description=words)

    def _observe_pools(self, name: str, options: metrics.CallbackOptions) -> Iterator[metrics.Observation]:
        for pool, reading in self._pool_stats().items():
            yield metrics.Observation(getattr(reading, name), {POOL: pool})

    def _watch(self, conn: Connection) -> _Watch:
        return _Watch(conn, self._instruments)

    def _observe(self, options: metrics.CallbackOptions) -> Iterator[metrics.Observation]:
        for (name, state), count in self._count_by_state().items():
            yield metrics.Observation(count, {NAME: name, STATE: state})

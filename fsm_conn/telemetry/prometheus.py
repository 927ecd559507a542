"""Metrics for Prometheus, through its own client library.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows, and as labels only
what has few values. Give connections names from a small set: each is a label value.

The gauge of states is made at each scrape from what is attached then, and not counted up and down: so it cannot drift,
a connection that was dropped is gone from it, and none of the library's locks is taken while memory is being freed.
For the same reason it is not part of the library's multiprocess mode, which serves no such collectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fsm_conn._util.extras import missing
from fsm_conn._util.keywords import explained
from fsm_conn.connection.calling.records import CallRecord
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.telemetry.reading import ConnectOutcome, KnownMethods
from fsm_conn.telemetry.watching import Measuring, PoolReading, Telemetry

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
except ImportError as error:
    raise missing("PrometheusMetrics", "prometheus", error.name) from error

if TYPE_CHECKING:
    from fsm_conn.connection.connection import Connection

__all__ = ["PrometheusMetrics"]

CALL_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds. The library's default begins at 5 ms, where a call of a plugin on the same machine has long ended."""
CONNECT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds: from a running endpoint at hand to some minutes of backoff."""


class _Meters:
    """The metrics that are counted as things happen."""

    def __init__(self, call_buckets: Sequence[float], connect_buckets: Sequence[float]) -> None:
        self.methods = KnownMethods("unknown")
        self.transitions = Counter(
            "fsm_conn_transitions",
            "Transitions of the state machine, internal ones included.",
            ("connection", "trigger", "source", "dest"),
            registry=None,
        )
        self.attempts = Counter(
            "fsm_conn_attempts",
            "Attempts to open a link, by how they ended.",
            ("connection", "outcome"),
            registry=None,
        )
        self.probes = Counter(
            "fsm_conn_probes", "Health probes, by how they ended.", ("connection", "outcome"), registry=None
        )
        self.connects = Histogram(
            "fsm_conn_connect_seconds",
            "From the request to connect, or the loss of the link, to the end of the last attempt.",
            ("connection", "outcome"),
            registry=None,
            buckets=connect_buckets,
        )
        self.calls = Histogram(
            "fsm_conn_call_seconds",
            "Calls, waiting for a connection and repeats included.",
            ("connection", "method", "outcome"),
            registry=None,
            buckets=call_buckets,
        )


class _Watch(Measuring):
    def __init__(self, conn: Connection, meters: _Meters) -> None:
        super().__init__(conn)
        self._meters = meters

    def moved(self, record: ConnectionRecord) -> None:
        row = (str(record.trigger), str(record.source), str(record.dest))
        self._meters.transitions.labels(self.label, *row).inc()

    def probed(self, outcome: str) -> None:
        self._meters.probes.labels(self.label, outcome).inc()

    def attempted(self, outcome: ConnectOutcome, record: ConnectionRecord) -> None:
        self._meters.attempts.labels(self.label, str(outcome)).inc()

    def ended(self, outcome: ConnectOutcome, seconds: float, record: ConnectionRecord) -> None:
        self._meters.connects.labels(self.label, str(outcome)).observe(seconds)

    def called(self, record: CallRecord) -> None:
        method = self._meters.methods.named(record)
        self._meters.calls.labels(self.label, method, str(record.outcome)).observe(record.seconds)


class PrometheusMetrics(Telemetry[_Watch]):
    """Registers metrics of all attached connections with Prometheus. Create one for each registry.

    ================================================ ============ ==================================================
    metric                                           type         counts, or seconds
    ================================================ ============ ==================================================
    `fsm_conn_state{connection,state}`               gauge        connections of that name in that state: 0 or 1
    `fsm_conn_transitions_total{connection,trigger,` counter      transitions, internal ones included
    `source,dest}`
    `fsm_conn_attempts_total{connection,outcome}`    counter      attempts: `succeeded`, `failed`, `abandoned`
    `fsm_conn_probes_total{connection,outcome}`      counter      probes: `passed`, `failed`
    `fsm_conn_connect_seconds{connection,outcome}`   histogram    from the request, or the loss, to the last attempt
    `fsm_conn_call_seconds{connection,method,`       histogram    calls: `succeeded`, `failed`, `cancelled`
    `outcome}`
    `fsm_conn_pool_size{pool}`, `_connections`,      gauge        of an attached pool: its size, connections in
    `_leased`, `_idle`, `_waiting`                                service, leases held and available, waiting callers
    `fsm_conn_pool_created_total{pool}`,             counter      links that came into service, acquires that timed
    `_timeouts_total`, `_refused_total`                           out, and acquires that were refused
    `fsm_conn_pool_wait_seconds{pool}`               summary      waits that ended with a connection
    ================================================ ============ ==================================================

    The connections of a pool are counted under the pool's name, however many it makes.

    Connections of the same name count together. Counters keep their values when a connection is detached or dropped;
    its part of `fsm_conn_state` vanishes. The method of a call that does not exist is `unknown`.

    Args:
        registry: the registry of the metrics; by default the library's own.
        call_buckets: upper bounds for `fsm_conn_call_seconds`.
        connect_buckets: upper bounds for `fsm_conn_connect_seconds`.

    Raises:
        ValueError: the registry has such metrics already. Nothing was registered.
    """

    @explained()
    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        call_buckets: Sequence[float] = CALL_BUCKETS,
        connect_buckets: Sequence[float] = CONNECT_BUCKETS,
    ) -> None:
        super().__init__()
        registry = REGISTRY if registry is None else registry
        self._meters = meters = _Meters(call_buckets, connect_buckets)
        with contextlib.ExitStack() as undo:
            for each in (meters.transitions, meters.attempts, meters.probes, meters.connects, meters.calls, self):
                _register(registry, each)
                undo.callback(registry.unregister, each)
            undo.pop_all()

    def _watch(self, conn: Connection) -> _Watch:
        return _Watch(conn, self._meters)

    def describe(self) -> Iterator[Metric]:
        """Called by the library, to find metrics of the same name."""
        yield GaugeMetricFamily("fsm_conn_state", "Connections by state.", labels=("connection", "state"))
        yield from _pool_families()

    def collect(self) -> Iterator[Metric]:
        """Called by the library, at each scrape, on a thread of its own."""
        states, *families = self.describe()
        for labels, count in self._count_by_state().items():
            states.add_sample("fsm_conn_state", {"connection": labels[0], "state": labels[1]}, count)
        yield states
        pools = self._pool_stats()
        for name, reading in pools.items():
            _read_pool(families, name, reading)
        if pools:
            yield from families


def _pool_families() -> list[Metric]:
    gauges = (
        ("size", "Size of the pool."),
        ("connections", "Connections in service."),
        ("leased", "Leases held."),
        ("idle", "Leases available without waiting."),
        ("waiting", "Callers waiting for a connection."),
    )
    counters = (
        ("created", "Links that came into service."),
        ("timeouts", "Acquires that timed out."),
        ("refused", "Acquires that were refused: closed, full, or unavailable."),
    )
    return [
        *(GaugeMetricFamily(f"fsm_conn_pool_{name}", help, labels=("pool",)) for name, help in gauges),
        *(CounterMetricFamily(f"fsm_conn_pool_{name}", help, labels=("pool",)) for name, help in counters),
        SummaryMetricFamily("fsm_conn_pool_wait_seconds", "Waits that ended with a connection.", labels=("pool",)),
    ]


def _read_pool(families: list[Any], name: str, reading: PoolReading) -> None:
    *plain, waits = families
    for family in plain:
        family.add_metric((name,), getattr(reading, family.name.removeprefix("fsm_conn_pool_")))
    waits.add_metric((name,), reading.waits, reading.wait_seconds)


def _register(registry: CollectorRegistry, collector: Any) -> None:
    try:
        registry.register(collector)
    except ValueError as error:
        raise ValueError(
            "PrometheusMetrics(): the registry has such metrics already; make one for each registry, and attach all "
            f"connections to it ({error})"
        ) from error

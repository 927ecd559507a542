"""What is particular to Prometheus: names, registries, buckets."""

from __future__ import annotations

import pytest
from peer import Peer
from prometheus_client import CollectorRegistry, Counter, generate_latest
from readings import Prometheus

from fsm_conn import Connection
from fsm_conn.telemetry import PrometheusMetrics


async def test_the_scrape_as_it_reads() -> None:
    """Names by the book: base units, `_total` for what only grows."""
    backend = Prometheus()
    conn = Connection(Peer(), name="calc")
    backend.observer.attach(conn)
    async with conn:
        await conn.call("calculator.Add")
        lines = generate_latest(backend.registry).decode().splitlines()
    for line in (
        "# TYPE fsm_conn_state gauge",
        'fsm_conn_state{connection="calc",state="connected"} 1.0',
        'fsm_conn_state{connection="calc",state="failed"} 0.0',
        'fsm_conn_transitions_total{connection="calc",dest="connected",source="connecting",trigger="opened"} 1.0',
        'fsm_conn_attempts_total{connection="calc",outcome="succeeded"} 1.0',
        'fsm_conn_call_seconds_bucket{connection="calc",le="0.0005",method="calculator.Add",outcome="succeeded"} 1.0',
        'fsm_conn_connect_seconds_count{connection="calc",outcome="succeeded"} 1.0',
    ):
        assert line in lines


def test_a_registry_takes_one_of_them() -> None:
    """It is said what to do instead, and the first one goes on."""
    registry = CollectorRegistry()
    PrometheusMetrics(registry)
    with pytest.raises(ValueError, match=r"make one for each registry, and attach all connections to it \(Duplicated"):
        PrometheusMetrics(registry)
    assert b"fsm_conn_state" in generate_latest(registry)


def test_a_registry_that_takes_only_some_of_it_takes_nothing() -> None:
    """A second try, after what was in the way is gone, does not meet the leftovers of the first."""
    registry = CollectorRegistry()
    other = Counter("fsm_conn_probes", "Of somebody else.", registry=registry)
    with pytest.raises(ValueError, match="has such metrics already"):
        PrometheusMetrics(registry)
    registry.unregister(other)
    PrometheusMetrics(registry)


def test_wrong_buckets_are_not_taken_for_a_second_one() -> None:
    """The library says what is wrong with them."""
    with pytest.raises(ValueError, match="Buckets not in sorted order"):
        PrometheusMetrics(CollectorRegistry(), call_buckets=(2, 1))


async def test_buckets_of_one_s_own() -> None:
    """For those whose calls take longer."""
    registry = CollectorRegistry()
    conn = Connection(Peer(), name="calc")
    PrometheusMetrics(registry, call_buckets=(1, 60), connect_buckets=(2, 3)).attach(conn)
    async with conn:
        await conn.call("a.B")
    text = generate_latest(registry).decode()
    bounds = {line.partition('le="')[2].partition('"')[0] for line in text.splitlines() if "_bucket{" in line}
    assert bounds == {"1.0", "60.0", "2.0", "3.0", "+Inf"}

"""Observers of pools: all connections, those that it makes later included, under few names; and the pool itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import weakref
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from peer import Peer
from prometheus_client import CollectorRegistry, generate_latest

from fsm_conn import Connection, ConnectionPool, PoolPolicy, PoolTimeoutError
from fsm_conn.telemetry import LogObserver, OpenTelemetry, PrometheusMetrics


def scraped(registry: CollectorRegistry) -> dict[str, float]:
    """Each sample by its name and labels."""
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def burst(pool: ConnectionPool, size: int) -> None:
    """So many leases at once."""
    async with contextlib.AsyncExitStack() as leases:
        for _ in range(size):
            await leases.enter_async_context(pool.acquire())


async def test_labels_are_bounded() -> None:
    """However many connections come and go: all are counted under the pool's name."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    async with ConnectionPool(Peer(), 1, 2, policy=PoolPolicy(overflow_linger=0.1), name="calc") as pool:
        metrics.attach(pool)
        for _ in range(4):
            await burst(pool, 3)
            await asyncio.sleep(10)
        await pool.call("calculator.Add")
        samples = scraped(registry)
        assert len(pool.slots) == 1
    assert {label for name in samples for label in re.findall(r'(?:connection|pool)="([^"]*)"', name)} == {"calc"}
    assert samples['fsm_conn_attempts_total{connection="calc",outcome="succeeded"}'] == 8
    assert samples['fsm_conn_state{connection="calc",state="connected"}'] == 1
    assert samples['fsm_conn_call_seconds_count{connection="calc",method="calculator.Add",outcome="succeeded"}'] == 1


async def test_the_pool_itself() -> None:
    """What it is to have, has, lends and could lend; who waits, how long, and in vain."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    async with ConnectionPool(Peer(), 2, 0, name="calc") as pool:
        metrics.attach(pool)
        async with pool.acquire(), pool.acquire():
            last = pool.acquire(timeout=60)
            waiting = asyncio.ensure_future(last.__aenter__())
            with pytest.raises(PoolTimeoutError):
                await pool.acquire(timeout=2).__aenter__()
            found = {name.removeprefix("fsm_conn_pool_"): value for name, value in scraped(registry).items()}
            assert {name: found[f'{name}{{pool="calc"}}'] for name in ("size", "connections", "leased", "idle", "waiting")} == {
                "size": 2, "connections": 2, "leased": 2, "idle": 0, "waiting": 1
            }  # fmt: skip
            assert found['timeouts_total{pool="calc"}'] == 1
        await waiting
        found = scraped(registry)
        assert found['fsm_conn_pool_wait_seconds_count{pool="calc"}'] == 1
        assert found['fsm_conn_pool_wait_seconds_sum{pool="calc"}'] == pytest.approx(2)
        assert pool.get_pool_stats()["stats"]["wait_seconds"] == pytest.approx(2)
        await pool.close_all(timeout=0)


async def test_open_telemetry() -> None:
    """The same by its own names; the span of each connecting names the connection."""
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = OpenTelemetry(tracing, MeterProvider([reader]))
    pool = ConnectionPool(Peer(), 2, name="calc")
    telemetry.attach(pool)
    async with pool:
        data: Any = reader.get_metrics_data()
        found = {
            metric.name: {tuple(sorted(point.attributes.items())): point.value for point in metric.data.data_points}
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name.startswith(("fsm_conn.pool", "fsm_conn.connection"))
        }
        assert found["fsm_conn.pool.connections"] == {(("fsm_conn.pool.name", "calc"),): 2}
        assert found["fsm_conn.pool.created"] == {(("fsm_conn.pool.name", "calc"),): 2}
        labels = {dict(point)["fsm_conn.connection.name"] for point in found["fsm_conn.connection.count"]}
        assert labels == {"calc"}
    assert {span.name for span in spans.get_finished_spans()} == {"connect calc"}
    names = {(span.attributes or {})["fsm_conn.connection.name"] for span in spans.get_finished_spans()}
    assert names == {"calc#1", "calc#2"}


async def test_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Each connection by its own name, and the pool's own transitions."""
    caplog.set_level(logging.INFO)
    pool = ConnectionPool(Peer(), 1, name="calc")
    LogObserver().attach(pool)
    async with pool:
        pass
    told = [record.getMessage() for record in caplog.records if record.name in ("fsm_conn.pool", "fsm_conn.connection")]
    assert told[0].startswith("calc: closed -> opening on open, after ")
    assert [text for text in told if text.startswith("calc#1: connecting -> connected")]
    assert told[-1].startswith("calc: draining -> closed on drained, after ")


async def test_attached_twice_and_detached() -> None:
    """As a connection is; and what was attached to a connection alone stays."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    async with ConnectionPool(Peer(), 2, name="calc") as pool:
        metrics.attach(pool.slots[0].conn)
        detach = metrics.attach(pool)
        assert metrics.attach(pool) is detach
        assert scraped(registry)['fsm_conn_state{connection="calc",state="connected"}'] == 1
        assert scraped(registry)['fsm_conn_state{connection="calc#1",state="connected"}'] == 1
        detach()
        detach()
        samples = scraped(registry)
        assert 'fsm_conn_pool_size{pool="calc"}' not in samples
        assert 'fsm_conn_state{connection="calc",state="connected"}' not in samples
        assert samples['fsm_conn_state{connection="calc#1",state="connected"}'] == 1


async def test_a_pool_that_is_dropped_is_forgotten() -> None:
    """Nothing of it stays behind, and nothing of it is kept."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    pool: Any = ConnectionPool(Peer(), 1, name="calc")
    metrics.attach(pool)
    async with pool:
        pass
    gone = weakref.ref(pool)
    del pool
    await asyncio.sleep(1)
    gc.collect()
    assert gone() is None
    assert 'fsm_conn_pool_size{pool="calc"}' not in scraped(registry)
    assert (metrics._pools, metrics._watches) == ({}, {})


async def test_pools_of_one_name_are_added_up() -> None:
    """As connections are."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    async with ConnectionPool(Peer(), 2, name="calc") as one, ConnectionPool(Peer(), 3, name="calc") as other:
        metrics.attach(one)
        metrics.attach(other)
        assert scraped(registry)['fsm_conn_pool_connections{pool="calc"}'] == 5


@pytest.mark.parametrize("observer", [LogObserver, lambda: PrometheusMetrics(CollectorRegistry()), OpenTelemetry])
def test_what_can_be_attached(observer: Any) -> None:
    """It is said."""
    with pytest.raises(TypeError, match="give a Connection or a ConnectionPool"):
        observer().attach("calc")


async def test_on_connection() -> None:
    """Those that are there, and those that are made; until it is unregistered; what it raises is logged."""
    seen: list[Connection] = []
    async with ConnectionPool(Peer(), 1, 2, name="calc") as pool:
        unregister = pool.on_connection(seen.append)
        pool.on_connection(lambda conn: seen.append(conn) if len(seen) < 2 else 1 / 0)
        await burst(pool, 2)
        assert [conn.name for conn in seen] == ["calc#1", "calc#1", "calc#2"]
        unregister()
        await burst(pool, 3)
        assert len(seen) == 3
        with pytest.raises(TypeError, match="must be callable"):
            pool.on_connection(5)  # type: ignore[arg-type]

"""What Prometheus is told of the pool. In a service: `prometheus_client.start_http_server(8000)`."""

import asyncio

from host import GREETER
from prometheus_client import CollectorRegistry, generate_latest

from fsm_conn import ConnectionPool
from fsm_conn.telemetry import PrometheusMetrics


async def main() -> None:
    registry = CollectorRegistry()
    pool = ConnectionPool(GREETER, pool_size=2, name="greeters")
    PrometheusMetrics(registry).attach(pool)
    async with pool:
        await pool.call("greeter.Greet", name="Ada")
        for line in generate_latest(registry).decode().splitlines():
            if line.startswith(("fsm_conn_pool_size", "fsm_conn_pool_connections", "fsm_conn_call_seconds_count")):
                print(line)


if __name__ == "__main__":
    asyncio.run(main())

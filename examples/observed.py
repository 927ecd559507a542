"""What those who run a service see: log records, spans, and metrics to be scraped.

    pip install 'fsm_conn[opentelemetry,prometheus]'
    python examples/observed.py

The plugin is killed under way. What OpenTelemetry makes of it goes where the application's SDK sends it; without one,
as here, nowhere.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys

from prometheus_client import generate_latest

from fsm_conn import Connection, ConnectionState, UnknownNameError
from fsm_conn.telemetry import LogObserver, OpenTelemetry, PrometheusMetrics

PLUGIN = [sys.executable, "-m", "fsm_conn.demo.calculator"]


async def main() -> None:
    logging.basicConfig(stream=sys.stdout, format="%(levelname)-7s %(message)s")
    logging.getLogger("fsm_conn.connection").setLevel(logging.INFO)

    conn = Connection(PLUGIN, name="calculator")
    for observer in (LogObserver(slow_after=1), PrometheusMetrics(), OpenTelemetry()):
        observer.attach(conn)

    async with conn:
        await conn.call("calculator.Add", a=5, b=3)
        with contextlib.suppress(UnknownNameError):
            await conn.call("calculator.Ad", a=5, b=3)
        assert conn.pid is not None
        os.kill(conn.pid, signal.SIGKILL)
        await conn.wait_for_state(ConnectionState.RECONNECTING)
        await conn.ensure_connected()
        for line in generate_latest().decode().splitlines():  # in a service: prometheus_client.start_http_server(8000)
            if line.startswith("fsm_conn_") and "_bucket" not in line and "_created" not in line:
                print(line)


if __name__ == "__main__":
    asyncio.run(main())

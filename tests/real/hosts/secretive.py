"""A host with secrets in every place where one can be put, that then says all that it knows, and logs everything.

Usage: secretive.py FOLDER. Writes `secrets` (a JSON list of what must appear nowhere), `trace` and what it logs and shows.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

import grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionPool,
    FsmConnError,
    HealthMonitoredClient,
    HealthPolicy,
    Plugin,
    RequestError,
    RetryPolicy,
)
from fsm_conn.links.process import prefork
from fsm_conn.telemetry import LogObserver, OpenTelemetry, PrometheusMetrics
from fsm_conn.testing.conformance import TraceWriter

FOLDER = Path(sys.argv[1])
PLUGINS = Path(__file__).parents[1] / "plugins"
CALCULATOR = [sys.executable, "-m", "fsm_conn.demo.calculator"]
PEM = "-----BEGIN PRIVATE KEY-----\nTUFSS0VELVNFQ1JFVC1LRVktTElORS1PTkU\nTUFSS0VELVNFQ1JFVC1LRVktTElORS1UV08\n-----END PRIVATE KEY-----\n"
SECRETS = {
    "PLUGIN_MAGIC_COOKIE": "marked-cookie-4711",
    "PLUGIN_MAGIC_COOKIE_VALUE": "marked-cookie-4711",
    "API_TOKEN": "marked-token-4712",
    "DATABASE": "postgres://user:marked-password-4713@db/x",
    "TLS_KEY": PEM,
}
METADATA = (("authorization", "Bearer marked-metadata-4714"), ("trace-bin", b"marked-metadata-4715"))
FIELD = "marked-field-4716"
WRONG_COOKIE = "marked-wrong-cookie-4718"
WRONG_ENV = ({"BAD=NAME": "marked-value-4719"}, {"NAME": b"marked-value-4720"}, {"NAME": "marked-\0value"})
WRONG_METADATA = ({"a": "marked-\n4721"}, {"a": "marked-\u1234"}, {"a": b"marked-4722"}, {"A": "marked-4723"})
NUMBER = 471_700_000_000_000_471_7
marked = {"marked-", str(NUMBER), *PEM.splitlines()[1:3]}

spans, metrics, registry = InMemorySpanExporter(), InMemoryMetricReader(), CollectorRegistry()
tracing = TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(spans))
observers = (
    LogObserver(slow_after=0.000001),
    OpenTelemetry(tracer_provider=tracing, meter_provider=MeterProvider([metrics])),
    PrometheusMetrics(registry=registry),
)
writer = TraceWriter(FOLDER / "trace", connection="secretive")


class Everything(logging.Formatter):
    """A record with all that was put into it."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.name} {super().format(record)} {vars(record)}"


def show(*things: object) -> None:
    """As an error report, a debugger and a careless print would."""
    for each in things:
        print("SHOWN", repr(each), str(each))
        if isinstance(each, BaseException):
            print("".join(traceback.format_exception(each)))
            show(*filter(None, [each.__cause__, each.__context__, *each.args]))
            print({name: repr(value) for name, value in vars(each).items()})


def watched(conn: Connection) -> Connection:
    for each in observers:
        each.attach(conn)
    conn.on_transition(writer)
    return conn


def remember_keys(conn: Connection) -> None:
    """What was made for this connection alone: its certificate, and the key to it."""
    client = conn.link._client  # type: ignore[union-attr]
    for pem in (client.client_cert, client.client_key_pem):
        marked.update(line for line in pem.splitlines() if "-----" not in line and len(line) > 20)
    show(client, client._plugin, client.process, conn.link, *(filter(None, vars(client.process).values())))


async def attempt(awaitable: object) -> None:
    try:
        show(await awaitable)  # type: ignore[misc]
    except Exception as error:
        show(error)


async def use(conn: Connection) -> None:
    options = CallOptions(metadata=METADATA, timeout=5)
    call = conn.services["calculator"].Add(options, a=NUMBER, b=FIELD)
    show(options, call, conn.services, conn.services["calculator"], conn)
    await attempt(call)
    await attempt(conn.call("calculator.Add", options, a=NUMBER))
    await attempt(conn.call("calculator.Add", options, a={"x": FIELD}, b=[FIELD]))
    await attempt(conn.call("calculator.Add", FIELD))
    await attempt(conn.call("calculator.Add", [FIELD]))
    await attempt(conn.call("calculator.Ad", options, a=FIELD))
    await attempt(conn.call("calculator.Divide", options, a=1, b=0))
    await attempt(conn.call("calculator.Add", options, FIELD, FIELD))
    await attempt(conn.call("calculator.Add", CallOptions(metadata=METADATA, timeout=0.0001), a=1))


async def good(mtls: bool | None) -> None:
    """A life with calls that go well and badly, a kill and a hang."""
    conn = HealthMonitoredClient(
        CALCULATOR,
        env=SECRETS,
        mtls=mtls,
        retry=RetryPolicy(max_attempts=3, initial_delay=0.01),
        health=HealthPolicy(interval=0.1, timeout=1),
        name="secretive",
    )
    async with watched(conn):
        if mtls is not False:
            remember_keys(conn)
        await use(conn)
        os.kill(conn.link.pid, signal.SIGKILL)  # type: ignore[union-attr]
        await conn.wait_for_state("reconnecting")
        await attempt(conn.call("calculator.Add", CallOptions(metadata=METADATA), a=1))
        await conn.ensure_connected()
        await attempt(conn.probe())
        show(conn, conn.link, conn.history, conn.health_report(), conn.get_health_report(), vars(conn))
    show(*asyncio.all_tasks())


async def preforked() -> None:
    """Plugins that are forked from a template, and one that cannot be, for what it imports reads a secret and fails."""
    conn = Connection(Plugin(CALCULATOR, env=SECRETS, prefork=True), name="preforked")
    async with watched(conn):
        remember_keys(conn)
        await use(conn)
        (template,) = prefork.templates()
        show(template, vars(template), *vars(template).values())
        os.kill(template.pid or 0, signal.SIGKILL)
        os.kill(conn.link.pid, signal.SIGKILL)  # type: ignore[union-attr]
        await attempt(conn.call("calculator.Add", CallOptions(metadata=METADATA, idempotent=True), a=1))
    (FOLDER / "fails.py").write_text("import os\nraise RuntimeError(os.environ['API_TOKEN'])\n")
    env = SECRETS | {"PYTHONPATH": str(FOLDER)}
    async with Connection(Plugin(CALCULATOR, env=env, prefork=["fails"]), name="spawned") as conn:
        show(conn, conn.link)


async def bad(command: list[str], **env: str) -> None:
    """A plugin that does not come up, and says what it was given."""
    conn = Connection(command, env=SECRETS | env, retry=RetryPolicy(max_attempts=1), start_timeout=0.6, name="bad")
    await attempt(watched(conn).connect())
    show(conn, conn.history, conn.reason, vars(conn))
    await conn.disconnect()


async def telltale() -> None:
    """A plugin that comes up, and repeats what it was given. The causes of errors are its own answers, as they are."""
    command = [sys.executable, str(PLUGINS / "telltale.py")]
    conn = Connection(command, env=SECRETS, retry=RetryPolicy(max_attempts=1), start_timeout=200, name="telltale")
    await watched(conn).connect()
    for question in (conn.call("x.Y.Do"), conn.probe()):
        try:
            await question
        except FsmConnError as error:
            print("SHOWN", repr(error), error)
    print("SHOWN", conn, conn.history, vars(conn))
    await conn.disconnect()


async def pool() -> None:
    async with ConnectionPool(CALCULATOR, pool_size=1, env=SECRETS, name="pool") as pool:
        async with pool.acquire() as lease:
            show(lease, pool)
            await attempt(lease.call("calculator.Add", CallOptions(metadata=METADATA), a=FIELD))
        show(pool, pool.get_pool_stats(), vars(pool))


def hostile(*words: str) -> list[str]:
    return [sys.executable, "-S", "-E", str(PLUGINS / "hostile.py"), *words]


async def main() -> None:
    asyncio.get_running_loop().slow_callback_duration = 0.0001
    await good(True)
    await good(False)
    await preforked()
    for name in SECRETS:
        await bad(hostile("env", name))
    await bad(hostile("cookie-python"))
    await bad(hostile("line", f"1|1|unix|{SECRETS['API_TOKEN']}|grpc|"))
    await bad(hostile("line", "1|1|tcp|127.0.0.1:1|grpc|"))
    asyncio.get_running_loop().set_debug(False)  # it logs slow tasks, with gRPC's errors, with the plugin's own words
    await telltale()
    asyncio.get_running_loop().set_debug(True)
    await bad(["/no/such/command"])
    await bad(CALCULATOR, PLUGIN_MAGIC_COOKIE=WRONG_COOKIE)
    await pool()
    for env in WRONG_ENV:
        try:
            Connection(CALCULATOR, env=env)
        except (TypeError, ValueError) as error:
            show(error)
    for metadata in WRONG_METADATA:
        try:
            CallOptions(metadata=metadata)
        except (TypeError, ValueError) as error:
            show(error)


warnings.simplefilter("default")
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(Everything())
logging.basicConfig(level=logging.DEBUG, handlers=[handler])
assert issubclass(RequestError, Exception)
assert grpc.__version__
asyncio.run(main(), debug=True)
print("TELEMETRY", generate_latest(registry).decode(), metrics.get_metrics_data().to_json())  # type: ignore[union-attr]
print(*(span.to_json() for span in spans.get_finished_spans()))
(FOLDER / "secrets").write_text(json.dumps(sorted(marked)))

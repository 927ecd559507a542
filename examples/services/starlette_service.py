"""A pool of plugins in a Starlette service; FastAPI takes the same `lifespan`.

pip install 'fsm_conn[prometheus]' starlette uvicorn
uvicorn starlette_service:app
curl 'localhost:8000/add?a=5&b=3'
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fsm_conn import CallOptions, ConnectionPool, Plugin, PoolError, PoolPolicy
from fsm_conn.telemetry import PrometheusMetrics

CALCULATOR = Plugin([sys.executable, "-m", "fsm_conn.demo.calculator"])
SAFE_TO_REPEAT = CallOptions(idempotent=True, timeout=30)

registry = CollectorRegistry()
pool = ConnectionPool(CALCULATOR, pool_size=2, policy=PoolPolicy(standby=1), name="calculator")
PrometheusMetrics(registry).attach(pool)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Plugins start before the first request, and end after the last one."""
    async with pool:
        yield


async def add(request: Request) -> Response:
    a, b = float(request.query_params["a"]), float(request.query_params["b"])
    try:
        reply = await pool.call("calculator.Add", SAFE_TO_REPEAT, a=a, b=b)
    except PoolError as error:  # no plugin could be started, or none was free in time
        return JSONResponse({"error": str(error)}, status_code=503)
    return JSONResponse({"result": reply.result})


async def healthz(request: Request) -> Response:
    """For a load balancer: whether a call would find a plugin that serves."""
    in_service = pool.get_pool_stats()["total_connections"]
    return JSONResponse({"plugins": in_service}, status_code=200 if in_service else 503)


async def metrics(request: Request) -> Response:
    return PlainTextResponse(generate_latest(registry))


app = Starlette(
    routes=[Route("/add", add), Route("/healthz", healthz), Route("/metrics", metrics)],
    lifespan=lifespan,
)

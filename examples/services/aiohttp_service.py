"""A pool of plugins in an aiohttp service.

pip install fsm_conn aiohttp
python aiohttp_service.py
"""

import sys
from collections.abc import AsyncIterator

from aiohttp import web

from fsm_conn import CallOptions, ConnectionPool, Plugin

CALCULATOR = Plugin([sys.executable, "-m", "fsm_conn.demo.calculator"])
SAFE_TO_REPEAT = CallOptions(idempotent=True, timeout=30)
POOL = web.AppKey("pool", ConnectionPool)


async def with_pool(app: web.Application) -> AsyncIterator[None]:
    """Made in the loop that serves; ended with the application."""
    async with ConnectionPool(CALCULATOR, pool_size=2, name="calculator") as app[POOL]:
        yield


async def add(request: web.Request) -> web.Response:
    a, b = float(request.query["a"]), float(request.query["b"])
    reply = await request.app[POOL].call("calculator.Add", SAFE_TO_REPEAT, a=a, b=b)
    return web.json_response({"result": reply.result})


def make() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(with_pool)
    app.router.add_get("/add", add)
    return app


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    web.run_app(make(), host="127.0.0.1", port=port, print=None)

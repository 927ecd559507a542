"""A pool of plugins in a Flask service: synchronous code, served by threads.

pip install 'fsm_conn[blocking]' flask
flask --app flask_service run
"""

import sys
from functools import cache
from threading import Lock

from flask import Flask, Response, jsonify, request

from fsm_conn import CallOptions, Plugin, PoolError
from fsm_conn.blocking import ConnectionPool

CALCULATOR = Plugin([sys.executable, "-m", "fsm_conn.demo.calculator"])
SAFE_TO_REPEAT = CallOptions(idempotent=True, timeout=30)

app = Flask(__name__)
_one_at_a_time = Lock()


@cache
def _opened() -> ConnectionPool:
    opened = ConnectionPool(CALCULATOR, pool_size=2, name="calculator")
    opened.initialize()
    return opened


def pool() -> ConnectionPool:
    """One for each process, made by its first request: servers that fork, such as gunicorn, fork before it."""
    with _one_at_a_time:
        return _opened()


@app.get("/add")
def add() -> tuple[Response, int]:
    a, b = float(request.args["a"]), float(request.args["b"])
    try:
        reply = pool().call("calculator.Add", SAFE_TO_REPEAT, a=a, b=b)
    except PoolError as error:
        return jsonify(error=str(error)), 503
    return jsonify(result=reply.result), 200

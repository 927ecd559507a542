"""Connections and pools for synchronous code: the same methods, without `await`.

    from fsm_conn.blocking import Connection

    with Connection(["python", "calculator.py"]) as conn:
        print(conn.calculator.Add(a=5, b=3).result)

Needs the extra `blocking`: `pip install 'fsm_conn[blocking]'`.
"""

from fsm_conn.blocking.connection import Connection
from fsm_conn.blocking.pool import ConnectionPool, Lease

__all__ = ["Connection", "ConnectionPool", "Lease"]

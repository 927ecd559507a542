"""A user of a pool in a simulated life: acquires a lease, holds it, and gives it back as told."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from fsm_conn.pool.leasing.lease import Lease
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing.lives.pools.model import PoolModel, PoolUser

__all__ = ["hold"]


async def hold(user: PoolUser, pool: ConnectionPool, model: PoolModel, cancelled: set[Any]) -> None:
    """Acquire, hold, and give back. The model is told of each. `cancelled` collects the tasks that this cancels."""
    loop = asyncio.get_running_loop()
    user.word = loop.create_future()
    model.arrived(user, loop.time())
    try:
        lease = await pool.acquire(user.timeout)
    except BaseException as error:
        model.refused(user, error)
        raise
    model.served(user, lease, loop.time())
    try:
        word = await user.word
    except BaseException:
        word = "release"
        raise
    finally:
        if word == "discard" and lease.is_held:
            model.doubtful.add(user.link)
        model.let_go(user)
        if word != "forget":
            _give_back(lease, word)
            if word == "release and cancel" and model.waiting:
                cancelled.add(model.waiting[0].task)
                model.waiting[0].task.cancel()
        elif lease.is_held:
            model.leaked += 1


def _give_back(lease: Lease, word: str) -> None:
    if word == "discard":
        lease.discard()
    elif word == "release elsewhere":
        thread = threading.Thread(target=lease.release)
        thread.start()
        thread.join()
    else:
        lease.release()

"""A user of a pool in a simulated life: acquires a lease, holds it, and gives it back as told.

The model is told of leases by the leases themselves, because a class may acquire some for its own use, and later than
its caller asks.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from weakref import WeakKeyDictionary

from fsm_conn.pool.leasing.lease import Lease
from fsm_conn.pool.leasing.leases import Leases
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing.lives.pools.model import PoolModel, PoolUser

__all__ = ["hold", "tell_of_leases"]


_models: WeakKeyDictionary[Leases, PoolModel] = WeakKeyDictionary()
_kinds: dict[type[Lease], type[Lease]] = {}


def tell_of_leases(pool: ConnectionPool, model: PoolModel) -> None:
    """From now on the model is told when a lease is asked for, and what comes of it."""
    _models[pool._leases] = model
    kind = pool._leases.lease_class
    if kind not in _kinds:
        _kinds[kind] = _told(kind)
    pool._leases.lease_class = _kinds[kind]


def _told(kind: type[Lease]) -> type[Lease]:
    class Told(kind):  # type: ignore[valid-type, misc]
        async def __aenter__(self) -> Lease:
            loop, model = asyncio.get_running_loop(), _models[self._leases]
            if loop is not self._leases.loop:
                return await super().__aenter__()  # type: ignore[no-any-return]
            user = model.arrived(self._timeout, asyncio.current_task(), loop.time())
            try:
                lease: Lease = await super().__aenter__()
            except BaseException as error:
                model.refused(user, error, loop.time())
                raise
            model.served(user, lease, loop.time())
            return lease

    return Told


async def hold(user: PoolUser, pool: ConnectionPool, model: PoolModel, cancelled: set[Any]) -> None:
    """Acquire, hold, and give back. The model is told of each. `cancelled` collects the tasks that this cancels."""
    user.word = asyncio.get_running_loop().create_future()
    model.coming[user.task] = user
    try:
        lease = await pool.acquire(user.timeout)
    finally:
        model.coming.pop(user.task, None)
    model.given(user, lease)
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
            _give_back(lease, word, model)
            if word == "release and cancel" and (others := [each for each in model.waiting if not each.is_stranger]):
                cancelled.add(others[0].task)
                others[0].task.cancel()
        elif lease.is_held:
            model.leaked += 1


def _give_back(lease: Lease, word: str, model: PoolModel) -> None:
    if word == "discard":
        lease.discard()
    elif word == "release elsewhere":
        thread = threading.Thread(target=_release_elsewhere, args=(lease, model, asyncio.get_running_loop()))
        thread.start()
        thread.join()
    else:
        lease.release()


def _release_elsewhere(lease: Lease, model: PoolModel, loop: asyncio.AbstractEventLoop) -> None:
    """Release a lease in a thread. A loop that debugs refuses callbacks of other threads which do not wake it."""
    was_debugging = loop.get_debug()
    loop.set_debug(True)
    try:
        lease.release()
    except BaseException as error:
        model.unexpected = error
    finally:
        loop.set_debug(was_debugging)

"""`local_pool`: gives a task on a Dask worker the plugins of that worker's machine."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from fsm_conn._util.extras import needed
from fsm_conn.cluster.dask.hosting import on_end
from fsm_conn.cluster.dask.plugins import reported_by
from fsm_conn.cluster.errors import NoMemberError
from fsm_conn.cluster.membership.info import MemberInfo
from fsm_conn.cluster.membership.sources import StaticMembers
from fsm_conn.cluster.pool import ClusterPool

__all__ = ["LocalPool", "local_pool"]

T = TypeVar("T")
_pools: weakref.WeakKeyDictionary[Any, dict[str | None, LocalPool]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class LocalPool:
    """The plugins of one worker, for its tasks, which run in threads, and its coroutines, which run in its loop.

    `local_pool` returns it. It is opened at its first use, and closed with the worker's loop.
    """

    def __init__(self, worker: Any, name: str | None) -> None:
        self._worker = weakref.ref(worker)
        self._name = name
        self._opening: asyncio.Task[ClusterPool] | None = None

    def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call, and wait for the reply: for tasks that are plain functions. As `ClusterPool.call`.

        Raises:
            RuntimeError: it was called in the worker's loop, which it would block.
            NoMemberError: nothing of that name is served on this machine.
        """
        return self._in_loop(self._called(method, args, fields))

    async def opened(self) -> ClusterPool:
        """The pool itself: for tasks that are coroutines, `await (await local_pool().opened()).call(...)`.

        Raises:
            NoMemberError: nothing of that name is served on this machine.
        """
        if self._opening is None or (self._opening.done() and _has_failed(self._opening)):
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _called(self, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
        return await (await self.opened()).call(method, *args, **fields)

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        worker = self._worker()
        if worker is None:
            work.close()
            raise RuntimeError("the worker of this pool has ended")
        if worker.thread_id == threading.get_ident():
            work.close()
            raise RuntimeError("call() would block the worker's loop: await (await pool.opened()).call(...)")
        return asyncio.run_coroutine_threadsafe(work, worker.loop.asyncio_loop).result()

    async def _open(self) -> ClusterPool:
        worker = self._worker()
        report = await self._report(worker)
        if not report or not report["address"]:
            raise NoMemberError(
                f"nothing is served as {self._name!r} on this machine"
                + (f": {report['error']}" if report and report["error"] else "")
            )
        info = MemberInfo(report["address"], target=report["address"], connections=report["connections"])
        pool = ClusterPool(StaticMembers([info]), report["recipe"], name=f"local pool of {report['host']}")
        await pool.open()
        on_end(report["name"], worker, pool.close)
        return pool

    async def _report(self, worker: Any) -> Any:
        """What is served here: the nanny knows, where there is one."""
        if not worker.nanny:
            return await reported_by(self._name, worker)
        pickled = needed("distributed.protocol.pickle", "dask", "local_pool").dumps
        async with worker.rpc(worker.nanny) as nanny:
            answer = await nanny.run(function=pickled(reported_by), args=pickled((self._name,)), kwargs=pickled({}))
        if answer["status"] != "OK":
            raise NoMemberError(f"the nanny of this worker could not be asked: {answer.get('exception_text', answer)}")
        return answer["result"]


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None


def local_pool(name: str | None = None) -> LocalPool:
    """The plugins of the machine that this task runs on.

    Args:
        name: the `name` of the `DaskMembers`; None: the only one there is.

    Raises:
        ValueError: it is called outside of a task.
    """
    worker = needed("distributed", "dask", "local_pool").get_worker()
    with _lock:
        pools = _pools.setdefault(worker, {})
        if name not in pools:
            pools[name] = LocalPool(worker, name)
        return pools[name]

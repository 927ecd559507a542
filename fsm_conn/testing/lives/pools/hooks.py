"""The hooks of a pool under test: plain, slow, or failing now and then."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
from collections.abc import Awaitable
from functools import partial
from typing import Any

import attrs

from fsm_conn.connection.connection import Connection
from fsm_conn.pool.hooks import Hook
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.testing.lives.pools.model import HOOK_FAILED, SLACK, PoolModel

__all__ = ["HOOKS", "SimulatedHooks"]

HOOKS = ("", "plain", "async", "failing", "hanging", "deaf")
"""The kinds of hooks. A failing one fails now and then; a hanging one then does not end, and a deaf one ignores its
cancellation for a minute besides."""
SLOW = ("async", "hanging", "deaf")
DEAF = 60.0


class SimulatedHooks:
    """Hooks of one kind, which report to the model.

    Args:
        kind: one of `HOOKS`.
        rng: decides when they are slow, or fail.
        model: the model.

    Attributes:
        well: whether they do not fail any more.
        are_own: whether the class has an `on_acquire` of its own.
        has_refused: whether that has refused a connection.
    """

    def __init__(self, kind: str, rng: random.Random, model: PoolModel) -> None:
        self._kind = kind
        self._rng = rng
        self._model = model
        self.well = self.are_own = self.has_refused = False

    def options(self) -> dict[str, Any]:
        """The keywords for the pool."""
        return {"on_open": self._open, "on_acquire": self._ask, "on_release": self._release} if self._kind else {}

    def join(self, pool: ConnectionPool) -> None:
        """Have the model know of all that `on_acquire` does, also if it is one of the class's own."""
        leases = pool._leases
        hook = leases._hooks.on_acquire
        if hook is None:
            return
        self.are_own = hook != self._ask
        if self.are_own:
            leases._hooks = attrs.evolve(leases._hooks, on_acquire=partial(self._ask_own, hook))
        leases._is_agreed = partial(self._agreed, leases._is_agreed)  # type: ignore[method-assign]

    async def _agreed(self, is_agreed: Any, slot: Slot, *given: Any, **options: Any) -> bool:
        """As in any pool; the model knows as long as it lasts."""
        link, task = slot.conn.link, asyncio.current_task()
        self._model.asking[link] += 1
        agreed: bool = False
        try:
            agreed = await is_agreed(slot, *given, **options)
        finally:
            self._model.asking[link] -= 1
            if not agreed:
                self._model.refused_one(task)
        return agreed

    def _ask_own(self, hook: Hook, conn: Connection) -> Any:
        link = conn.link
        try:
            outcome = hook(conn)
        except BaseException:
            self._refused(link)
            raise
        return self._asked(link, outcome) if inspect.isawaitable(outcome) else None

    def _open(self, conn: Connection) -> Any:
        if self._kind not in SLOW:
            return self._fast_hook()
        self._model.unprepared.add(conn.link)
        return self._prepared(conn.link)

    async def _prepared(self, link: Any) -> None:
        await self._slow_hook()
        self._model.unprepared.discard(link)

    def _release(self, conn: Connection) -> Any:
        if self._kind not in SLOW:
            return self._fast_hook()
        self._model.unclean[conn.link] += 1
        return self._released(conn.link)

    async def _released(self, link: Any) -> None:
        await self._slow_hook()
        self._model.unclean[link] -= 1

    def _fast_hook(self) -> None:
        if self._kind == "failing" and not self.well and self._rng.random() < 0.2:
            raise OSError(HOOK_FAILED)

    def _ask(self, conn: Connection) -> Any:
        if self._kind in SLOW:
            return self._asked(conn.link, self._slow_hook(is_deaf=False))
        try:
            self._fast_hook()
        except OSError:
            self._refused(conn.link)
            raise
        return None

    async def _asked(self, link: Any, outcome: Awaitable[None]) -> None:
        try:
            await outcome
        except BaseException:
            self._refused(link)
            raise

    def _refused(self, link: Any) -> None:
        self._model.doubtful.add(link)
        self.has_refused = self.are_own

    async def _slow_hook(self, *, is_deaf: bool = True) -> None:
        if self._kind in ("hanging", "deaf") and not self.well and self._rng.random() < 0.2:
            if self._kind == "deaf" and is_deaf:
                await _ignore_cancellation()
            else:
                await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self._rng.choice((0.0, 0.5)))
        self._fast_hook()


async def _ignore_cancellation() -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + DEAF
    while clock() < end - SLACK:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(end - clock())

"""The hooks of a pool under test: plain, slow, or failing now and then."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from fsm_conn.connection.connection import Connection
from fsm_conn.testing.lives.pools.model import PoolModel

__all__ = ["HOOKS", "SimulatedHooks"]

HOOKS = ("", "plain", "async", "failing", "hanging")
"""The kinds of hooks. A failing one fails now and then; a hanging one then does not end."""


class SimulatedHooks:
    """Hooks of one kind, which report to the model.

    Args:
        kind: one of `HOOKS`.
        rng: decides when they are slow, or fail.
        model: the model.

    Attributes:
        well: whether they do not fail any more.
    """

    def __init__(self, kind: str, rng: random.Random, model: PoolModel) -> None:
        self._kind = kind
        self._rng = rng
        self._model = model
        self.well = False

    def options(self) -> dict[str, Any]:
        """The keywords for the pool."""
        return {"on_open": self._open, "on_acquire": self._ask, "on_release": self._release} if self._kind else {}

    def _open(self, conn: Connection) -> Any:
        if self._kind not in ("async", "hanging"):
            return self._fast_hook()
        self._model.unprepared.add(conn.link)
        return self._prepared(conn.link)

    async def _prepared(self, link: Any) -> None:
        await self._slow_hook()
        self._model.unprepared.discard(link)

    def _release(self, conn: Connection) -> Any:
        if self._kind not in ("async", "hanging"):
            return self._fast_hook()
        self._model.unclean[conn.link] += 1
        return self._released(conn.link)

    async def _released(self, link: Any) -> None:
        await self._slow_hook()
        self._model.unclean[link] -= 1

    def _fast_hook(self) -> None:
        if self._kind == "failing" and not self.well and self._rng.random() < 0.2:
            raise OSError("the hook failed")

    def _ask(self, conn: Connection) -> Any:
        if self._kind in ("async", "hanging"):
            return self._asked_slowly(conn)
        try:
            self._fast_hook()
        except OSError:
            self._model.doubtful.add(conn.link)
            raise
        return None

    async def _asked_slowly(self, conn: Connection) -> None:
        link = conn.link
        self._model.asking[link] += 1
        try:
            await self._slow_hook()
        except BaseException:
            self._model.doubtful.add(link)
            raise
        finally:
            self._model.asking[link] -= 1

    async def _slow_hook(self) -> None:
        if self._kind == "hanging" and not self.well and self._rng.random() < 0.2:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self._rng.choice((0.0, 0.5)))
        self._fast_hook()

"""Links that tell how long an answer to a probe took: what a table of transitions does not know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fsm_conn.links.base import Link
from fsm_conn.links.target import LazyFactory

__all__ = ["TimedFactory"]


class TimedFactory(LazyFactory):
    """Makes links as another maker does, and times their probes.

    Args:
        maker: makes the links.
        on_answer: called with the seconds, before anybody else hears of the answer.
    """

    __slots__ = ("_maker", "_on_answer")

    def __init__(self, maker: LazyFactory, on_answer: Callable[[float], None]) -> None:
        self._maker = maker
        self._on_answer = on_answer

    async def load(self) -> None:
        """Import what the link needs, if that was not done yet."""
        await self._maker.load()

    def __call__(self) -> Link:
        """Make a link."""
        link: Any = self._maker()
        probe, on_answer = link.probe, self._on_answer

        async def timed(service: str = "") -> Any:
            clock = asyncio.get_running_loop().time
            began = clock()
            told = await probe(service)
            on_answer(clock() - began)
            return told

        link.probe = timed
        made: Link = link
        return made

"""Links that report how long the answer to a probe took, which the transitions do not tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fsm_conn.links.base import Link
from fsm_conn.links.target import LazyFactory

__all__ = ["TimedFactory"]


class TimedFactory(LazyFactory):
    """Wraps a factory of links, and times their probes.

    Args:
        maker: the wrapped factory.
        on_answer: called with the seconds, before the answer is returned.
    """

    __slots__ = ("_maker", "_on_answer")

    def __init__(self, maker: LazyFactory, on_answer: Callable[[float], None]) -> None:
        self._maker = maker
        self._on_answer = on_answer

    async def load(self) -> None:
        """Import the modules that the link needs, if that was not done yet."""
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

"""The link to a plugin, with the time that each probe took: what a table of transitions does not know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fsm_conn.links.plugin.link import PluginLink

__all__ = ["TimedLink"]


class TimedLink(PluginLink):
    """A `PluginLink` that tells how long an answer to a probe took.

    Args:
        command: as for `PluginLink`, and so are the options.
        on_answer: called with the seconds, before anybody else hears of the answer.
    """

    def __init__(self, command: Sequence[str], *, on_answer: Callable[[float], None], **options: Any) -> None:
        super().__init__(command, **options)
        self._on_answer = on_answer

    async def probe(self, service: str = "") -> bool:
        """Ask the peer whether it is well."""
        clock = asyncio.get_running_loop().time
        began = clock()
        told = await super().probe(service)
        self._on_answer(clock() - began)
        return told

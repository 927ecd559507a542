"""What the peer of a connection offers, for completion in a REPL: `conn.<Tab>` and `conn.calculator.<Tab>`.

It is asked for at the first look at a link, and not before: nobody else needs it. Who looks from another thread than
that of the loop, as the REPL of `python -m asyncio` does, waits for the answer; who looks from the loop itself has it
at the next look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from weakref import ref

from fsm_conn.links.base import Link

__all__ = ["Catalog", "Offers", "attributes", "methods"]

PATIENCE = 2.0
"""Seconds that a look from another thread may take."""

_log = logging.getLogger("fsm_conn")
Offers = Mapping[str, tuple[str, ...]]


class Catalog:
    """The services that a connection has last heard of, by full name, each with its methods."""

    def __init__(self) -> None:
        self._known: Offers = {}
        self._asked: ref[Link] | None = None
        self._task: asyncio.Task[None] | None = None

    def look(self, link: Link | None, loop: asyncio.AbstractEventLoop | None) -> Offers:
        """What is known, after asking the peer of `link` if that was not done; `loop` is the one it lives in."""
        if link is not None and loop is not None and (self._asked is None or self._asked() is not link):
            self._asked = ref(link)
            if asyncio._get_running_loop() is loop:
                self._task = loop.create_task(self._learn(link))
            elif loop.is_running():
                self._wait(link, loop)
            else:
                self._asked = None
        return self._known

    def _wait(self, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        learning = asyncio.run_coroutine_threadsafe(self._learn(link), loop)
        try:
            learning.result(PATIENCE)
        except TimeoutError:
            learning.cancel()
            self._asked = None

    async def _learn(self, link: Link) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                self._known = await link.offers()
        except Exception as error:  # a peer without reflection, or one that is gone
            _log.debug("the services of a peer cannot be shown for completion: %s", error)


def attributes(offers: Offers) -> dict[str, str]:
    """The attributes by which services are called, with their full names: short names that mean one service, and
    packages that have one.
    """
    found: dict[str, list[str]] = {}
    for full in offers:
        package, _, short = full.rpartition(".")
        for name in {short, package}:
            found.setdefault(name, []).append(full)
    return {name: full[0] for name, full in found.items() if len(full) == 1 and name.isidentifier()}


def methods(offers: Offers, service: str) -> tuple[str, ...]:
    """The methods of the service that an attribute, or a full name, stands for."""
    return offers.get(attributes(offers).get(service, service), ())

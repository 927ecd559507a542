"""The services of a connection's peer, for completion in a REPL: `conn.<Tab>` and `conn.calculator.<Tab>`.

The peer is asked at the first look-up on a link, because nothing else needs the answer. A look-up from another thread
than the loop's, as in the REPL of `python -m asyncio`, waits for it; one from the loop itself finds it the next time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from weakref import ref

from fsm_conn.links.base import Link

__all__ = ["Catalog", "Offers", "attributes", "methods"]

PATIENCE = 2.0
"""Seconds that a look-up from another thread may take."""

_log = logging.getLogger("fsm_conn")
Offers = Mapping[str, tuple[str, ...]]


class Catalog:
    """The last known services of a connection's peer, by full name, each with its methods."""

    def __init__(self) -> None:
        self._known: Offers = {}
        self._asked: ref[Link] | None = None
        self._task: asyncio.Task[None] | None = None

    def look(self, link: Link | None, loop: asyncio.AbstractEventLoop | None) -> Offers:
        """The known services, after asking the peer of `link`, once per link; `loop` is the link's loop."""
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
            _log.debug("cannot list the services of a peer for completion: %s", error)


def attributes(offers: Offers) -> dict[str, str]:
    """The attributes that services are called by, with their full names: unambiguous short names, and packages."""
    found: dict[str, list[str]] = {}
    for full in offers:
        package, _, short = full.rpartition(".")
        for name in {short, package}:
            found.setdefault(name, []).append(full)
    return {name: full[0] for name, full in found.items() if len(full) == 1 and name.isidentifier()}


def methods(offers: Offers, service: str) -> tuple[str, ...]:
    """The methods of the service with that attribute or full name."""
    return offers.get(attributes(offers).get(service, service), ())

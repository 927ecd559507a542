"""A peer that exists only in memory: what it does at each open is said by the test, and what it was asked is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fsm_conn import CallOptions, ConnectionLostError, Link, LinkError, LinkLostError, NotServingError

HANG = "hang"


class Peer:
    """Makes links: `Connection(peer)`.

    Args:
        opens: what the first open does, the second, and so on: None opens, an exception is raised, HANG never
            ends. After the last, `then` goes on.
        delay: seconds an open takes before that.
        close_delay: seconds a close takes.
    """

    def __init__(self, *opens: Any, then: Any = None, delay: float = 0.0, close_delay: float = 0.0) -> None:
        self.script = list(opens)
        self.then = then
        self.delay = delay
        self.close_delay = close_delay
        self.made: list[PeerLink] = []
        self.opened = 0
        self.closed = 0
        self.tried = 0
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.streams: list[tuple[str, Any, dict[str, Any]]] = []
        self.options: list[CallOptions | None] = []
        self.call_outcomes: list[Any] = []
        self.probe_outcomes: list[Any] = []
        self.probes: list[tuple[float, str]] = []
        self.has_health = True
        self.announcements: asyncio.Queue[bool] | None = None
        self.condemned = 0
        self.open_times: list[float] = []
        self.close_error: BaseException | None = None

    def __call__(self) -> PeerLink:
        link = PeerLink(self)
        self.made.append(link)
        return link

    @property
    def link(self) -> PeerLink:
        """The link made last."""
        return self.made[-1]

    @property
    def open_now(self) -> int:
        """Links open at present."""
        return self.opened - self.closed

    def next_open(self) -> Any:
        return self.script.pop(0) if self.script else self.then

    def lose(self, reason: Exception | None = None) -> None:
        """The link that is open goes away."""
        self.link.gone.set_result(reason or LinkLostError("the peer went away"))


class PeerLink(Link):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.gone: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.is_open = False
        self.closes = 0

    async def open(self) -> None:
        self.peer.tried += 1
        self.peer.open_times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.peer.delay)
        outcome = self.peer.next_open()
        if outcome == HANG:
            await asyncio.get_running_loop().create_future()
        if isinstance(outcome, BaseException):
            raise outcome
        self.is_open = True
        self.peer.opened += 1

    async def close(self) -> None:
        self.closes += 1
        assert self.is_open, "closed without having been opened"
        assert self.closes == 1, "closed twice"
        self.peer.closed += 1
        await asyncio.sleep(self.peer.close_delay)
        if self.peer.close_error is not None:
            raise self.peer.close_error

    async def lost(self) -> Exception:
        return await asyncio.shield(self.gone)

    def mark_unresponsive(self) -> None:
        self.peer.condemned += 1

    async def probe(self, service: str = "") -> bool:
        self.peer.probes.append((asyncio.get_running_loop().time(), service))
        outcome = self.peer.probe_outcomes.pop(0) if self.peer.probe_outcomes else None
        if outcome == HANG:
            await asyncio.get_running_loop().create_future()
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, str):
            raise NotServingError(outcome)
        return self.peer.has_health

    async def watch(self, service: str = "") -> AsyncIterator[bool]:
        while self.peer.announcements is not None:
            yield await self.peer.announcements.get()

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        self.peer.calls.append((method, request, dict(fields)))
        self.peer.options.append(options)
        outcome = self.peer.call_outcomes.pop(0) if self.peer.call_outcomes else "reply"
        if outcome == "lost":
            self.peer.lose()
            raise ConnectionLostError("lost under way", maybe_executed=True)
        if outcome == "unsent":
            raise ConnectionLostError("not sent", maybe_executed=False)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def stream(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        self.peer.streams.append((method, request, dict(fields)))
        for item in (1, 2, 3):
            yield item


TRANSIENT = LinkError("try again")


class Permanent(LinkError):
    permanent = True

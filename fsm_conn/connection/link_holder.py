"""Holds one link: from when it is open until it was closed, once, in bounded time, through any cancellation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fsm_conn._util.timing import ExpiredError, finish, within
from fsm_conn.connection.calling.traffic import Traffic
from fsm_conn.links.base import Link
from fsm_conn.links.errors import StartTimeoutError
from fsm_conn.links.target import LazyFactory

__all__ = ["LinkHolder"]

_log = logging.getLogger("fsm_conn")


class LinkHolder:
    """The owner of a link.

    Attributes:
        link: the open link; None when there is none.
        incoming: a link that is open and not ready yet, with the calls through it, while it is prepared.
        traffic: the calls through it.
        retired: links that went away in good order and finish their calls, each with the task that closes it then.
        up_since: when it was first in a state that serves calls, by the loop's clock; None: not yet.
        watched: the link whose stubs' calls count in the traffic.
    """

    __slots__ = ("_closing", "_suspicion", "_unclosed", "incoming", "link", "retired", "traffic", "up_since", "watched")

    def __init__(self) -> None:
        self.link: Link | None = None
        self.incoming: tuple[Link, Traffic] | None = None
        self.traffic = Traffic(0.0)
        self.retired: dict[Link, asyncio.Task[None]] = {}
        self.up_since: float | None = None
        self.watched: Link | None = None
        self._closing: asyncio.Task[None] | None = None
        self._suspicion: asyncio.Task[None] | None = None
        self._unclosed: Link | None = None

    async def open(
        self,
        make: Callable[[], Any],
        owner: object,
        limit: Callable[[], float],
        is_wanted: Callable[[], bool],
        prepare: Callable[[Link], Awaitable[None]],
        drain_timeout: float,
        close_timeout: float,
    ) -> None:
        """Make a link, open it, have it prepared and hold it; one that is held is retired then.

        Args:
            make: makes one.
            owner: whose link it is, for messages.
            limit: returns the seconds that it may take; asked when its turn to start has come.
            is_wanted: whether it is still wanted once it is open; if not, it is closed.
            prepare: what is done with it before anybody else may use it; what that raises passes, and it is held.
            drain_timeout: seconds that the calls of a link that is retired may take.
            close_timeout: seconds that closing a link may take.

        Raises:
            StartTimeoutError: it took longer than `limit`. What `open` raises passes as it is.
            CancelledError: it is not wanted any more.
        """
        if isinstance(make, LazyFactory):
            await make.load()
        link = make()
        if not isinstance(link, Link):
            raise TypeError(f"the target made {link!r:.60}, which is not a Link")
        async with link.start_slot():
            await open_in_time(link, limit())
            if not is_wanted():
                # Its activity ignored its cancellation, and opened it for a state that was left long ago.
                await self._close(link, owner, close_timeout)
                raise asyncio.CancelledError
            incoming = self.incoming = link, Traffic(asyncio.get_running_loop().time())
        try:
            await prepare(link)
            self.traffic.leave()
        finally:
            if self.incoming is incoming:  # or else its loop has ended
                self.incoming = None
                self.retire(owner, drain_timeout, close_timeout)
                self.link, self.traffic = incoming

    def traffic_of(self, link: Link) -> Traffic:
        """The calls through a link that is used now."""
        return self.incoming[1] if self.incoming is not None and self.incoming[0] is link else self.traffic

    def suspect(self, link: Link, verify: Callable[[Link], Coroutine[Any, Any, None]]) -> None:
        """Have somebody look whether the peer is there, unless that is being done; until the link is released."""
        if link is self.link and self._suspicion is None:
            self._suspicion = asyncio.get_running_loop().create_task(verify(link))
            self._suspicion.add_done_callback(self._cleared)

    def _cleared(self, task: asyncio.Task[None]) -> None:
        if task is self._suspicion:
            self._suspicion = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("looking whether a peer is there failed", exc_info=error)

    async def release(self, owner: object, limit: float) -> None:
        """Close the link if there is one, through any cancellation, and wait for it.

        Args:
            owner: whose link it is, for messages.
            limit: seconds that it may take before it is told to give up everything at once.
        """
        link, self.link = self.link, None
        self.watched = None
        self._stop_suspecting()
        if link is not None:
            self._unclosed = link
            loop = asyncio.get_running_loop()
            self._closing = loop.create_task(self._close(link, owner, limit), name=f"{owner!r}.close")
        closing = self._closing
        if closing is not None:
            try:
                await finish(closing)
                if not closing.cancelled():
                    closing.result()  # what it raises is no mere error: those are logged
            finally:
                self._closing = None
                del closing  # which holds what it raised, which holds this frame
                if link is not None and self._unclosed is link:
                    # The loop ends, and the task was cancelled before it had begun.
                    await self._close(link, owner, limit)

    def retire(self, owner: object, drain_timeout: float, close_timeout: float) -> None:
        """Let go of the link, if there is one, and have it closed when its calls have ended, or the time is up."""
        link, self.link = self.link, None
        self.watched = None
        if link is not None:
            self._stop_suspecting()
            drained = self._drain(link, owner, drain_timeout, close_timeout)
            self.retired[link] = asyncio.get_running_loop().create_task(drained, name=f"{owner!r}.drain")

    async def release_all(self, owner: object, limit: float) -> None:
        """As `release`, and close at once what was retired, too."""
        try:
            await self.release(owner, limit)
        finally:
            for link, task in tuple(self.retired.items()):
                task.cancel()
                await finish(asyncio.gather(task, return_exceptions=True))
                if self.retired.pop(link, None) is not None:
                    await self._close(link, owner, limit)  # it was cancelled before it had begun

    async def _drain(self, link: Link, owner: object, drain_timeout: float, close_timeout: float) -> None:
        try:
            await within(drain_timeout, link.drained())
        except ExpiredError:
            _log.warning("%r: calls on a link that went away took more than %g s, and are broken", owner, drain_timeout)
        finally:
            self.retired.pop(link, None)
            await self._close(link, owner, close_timeout)

    def _stop_suspecting(self) -> None:
        if self._suspicion is not None:
            self._suspicion.cancel()

    def let_go(self) -> None:
        """The loop was closed under us: nothing can be awaited in it any more."""
        self.link = self.incoming = self.watched = self._closing = self._suspicion = None
        self.retired.clear()

    def entered(self, is_linked: bool, serves: bool, now: Callable[[], float]) -> float | None:
        """Note since when the link is up, as a state is entered; returns since when it was until then."""
        since = self.up_since
        if not is_linked:
            self.up_since = None
        elif since is None and serves:
            self.up_since = now()
        return since

    def has_been_up(self, seconds: float, now: float) -> bool:
        """Whether the link has been up for so long, in whatever states beside `connected` meanwhile."""
        return self.up_since is not None and now - self.up_since >= seconds

    async def _close(self, link: Link, owner: object, limit: float) -> None:
        self._unclosed = None
        try:
            await within(limit, link.close())
        except Exception:
            _log.warning("%r: the link did not close well", owner, exc_info=True)


async def open_in_time(link: Link, limit: float) -> None:
    """Open a link within so many seconds."""
    try:
        await within(limit, link.open())
    except ExpiredError:
        raise StartTimeoutError(
            f"did not open within {limit:g} s: start_timeout= gives it longer", evidence=link.diagnostics()
        ) from None

"""Owns one link, and closes it exactly once, in bounded time, through any cancellation."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fsm_conn._util.timing import GRACE, ExpiredError, end, finish, keep, leave, limited, within
from fsm_conn.connection.calling.traffic import Traffic
from fsm_conn.links.base import Link
from fsm_conn.links.errors import StartTimeoutError
from fsm_conn.links.target import LazyFactory

__all__ = ["LinkHolder", "awaitable"]

_log = logging.getLogger("fsm_conn")


class LinkHolder:
    """The owner of a link.

    Attributes:
        link: the open link; None when there is none.
        incoming: a link that is open and still being prepared, with its calls.
        traffic: the calls through `link`.
        retired: links that closed in good order and finish their calls, each with the task that closes it afterwards;
            None until there is one.
        up_since: when a state with this link first served calls, by the loop's clock; None: not yet.
        noted: the link whose compiled stubs' calls count in the traffic.
        route: the route that callers reuse; None after any change.
    """

    __slots__ = (
        "_closing",
        "_drained",
        "_suspicion",
        "_unclosed",
        "incoming",
        "link",
        "noted",
        "retired",
        "route",
        "traffic",
        "up_since",
    )

    def __init__(self) -> None:
        self.link: Link | None = None
        self.incoming: tuple[Link, Traffic] | None = None
        self.traffic = Traffic(0.0)
        self.retired: dict[Link, asyncio.Task[None]] | None = None
        self._drained: tuple[asyncio.Task[None], ...] = ()
        self.up_since: float | None = None
        self.noted: Link | None = None
        self.route: Any = None
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
        """Make a link, open it, have it prepared and hold it; the link held before is retired.

        Args:
            make: makes a link.
            owner: the owner of the link, for messages.
            limit: returns the seconds that opening may take; called when its turn to start has come.
            is_wanted: whether the link is still wanted once it is open; if not, it is closed.
            prepare: prepares the link before others may use it; its errors are raised, and the link stays held.
            drain_timeout: seconds for the calls of a retired link.
            close_timeout: seconds for closing a link.

        Raises:
            StartTimeoutError: it took longer than `limit`. Errors of `open` are raised as they are.
            CancelledError: the link is not wanted any more.
        """
        if isinstance(make, LazyFactory):
            await make.load()
        link = make()
        if not isinstance(link, Link):
            raise TypeError(f"the target made {link!r:.60}, which is not a Link")
        async with link.start_slot():
            await open_in_time(link, limit(), owner, lambda: self._close(link, owner, close_timeout))
            if not is_wanted():
                # The activity ignored its cancellation, and opened the link for a state that was left long ago.
                await self._close(link, owner, close_timeout)
                raise asyncio.CancelledError
            incoming = self.incoming = link, Traffic(asyncio.get_running_loop().time())
            self.route = None
        try:
            await prepare(link)
            self.traffic.leave()
        finally:
            if self.incoming is incoming:  # or else its loop has ended
                self.incoming = None
                self.retire(owner, drain_timeout, close_timeout)
                self.link, self.traffic = incoming

    def traffic_of(self, link: Link) -> Traffic:
        """The calls through a current link."""
        return self.incoming[1] if self.incoming is not None and self.incoming[0] is link else self.traffic

    def suspect(self, link: Link, verify: Callable[[Link], Coroutine[Any, Any, None]]) -> None:
        """Start checking whether the peer is there, unless a check runs; it ends when the link is released."""
        if link is self.link and self._suspicion is None:
            self._suspicion = asyncio.get_running_loop().create_task(verify(link))
            self._suspicion.add_done_callback(self._cleared)

    def _cleared(self, task: asyncio.Task[None]) -> None:
        if task is self._suspicion:
            self._suspicion = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("looking whether a peer is there failed", exc_info=error)

    async def release(self, owner: object, limit: float) -> None:
        """Close the link, if there is one, and wait for that through any cancellation.

        Args:
            owner: the owner of the link, for messages.
            limit: seconds that closing may take; then the link is told to stop at once. If it does not, it is left.
        """
        link, self.link = self.link, None
        self.noted = self.route = None
        self._stop_suspecting()
        if link is not None:
            self._unclosed = link
            loop = asyncio.get_running_loop()
            self._closing = loop.create_task(self._close(link, owner, limit), name=f"{owner!r}.close")
        closing = self._closing
        if closing is not None:
            try:
                await finish(closing, limit + GRACE)
                if closing.done() and not closing.cancelled():
                    closing.result()  # it raises only what is no `Exception`: those are logged
            finally:
                leave(owner, "close() of its link", closing)
                self._closing = None
                del closing  # which holds what it raised, which holds this frame
                if link is not None and self._unclosed is link:
                    # The loop ends, and the task was cancelled before it had begun.
                    await self._close(link, owner, limit)

    def retire(self, owner: object, drain_timeout: float, close_timeout: float, only: Link | None = None) -> None:
        """Retire the link, if there is one, or `only` that one: it is closed when its calls end, or time is up."""
        if only is not None and self.link is not only:
            return
        link, self.link = self.link, None
        self.noted = self.route = None
        if link is not None:
            self._stop_suspecting()
            drained = self._drain(link, owner, drain_timeout, close_timeout)
            if self.retired is None:
                self.retired = {}
            self.retired[link] = asyncio.get_running_loop().create_task(drained, name=f"{owner!r}.drain")

    async def release_all(self, owner: object, limit: float) -> None:
        """As `release`, and close retired links at once, too."""
        try:
            await self.release(owner, limit)
        finally:
            for link, task in tuple((self.retired or {}).items()):
                await end(owner, "drained() or close() of a retired link", task, grace=limit + 2 * GRACE)
                if self._was_retired(link):
                    await self._close(link, owner, limit)  # it was cancelled before it had begun
            for closing in self._drained:  # in good order, within the limit of each
                await finish(closing, limit + 2 * GRACE)
                leave(owner, "close() of a retired link", closing)

    async def _drain(self, link: Link, owner: object, drain_timeout: float, close_timeout: float) -> None:
        try:
            await limited(drain_timeout, link.drained(), owner, f"{type(link).__name__}.drained()")
        except ExpiredError:
            _log.warning("%r: calls on a retired link took more than %g s and are broken off", owner, drain_timeout)
        finally:
            self._was_retired(link)
            task = asyncio.current_task()
            assert task is not None
            self._drained += (task,)
            try:
                await self._close(link, owner, close_timeout)
            finally:
                self._drained = tuple(other for other in self._drained if other is not task)

    def _was_retired(self, link: Link) -> bool:
        """Whether a link is among the retired ones, which it leaves."""
        return self.retired is not None and self.retired.pop(link, None) is not None

    def _stop_suspecting(self) -> None:
        if self._suspicion is not None:
            self._suspicion.cancel()

    def let_go(self) -> None:
        """Drop the links: their loop was closed, and nothing can be awaited in it."""
        self.link = self.incoming = self.noted = self.route = self._closing = self._suspicion = None
        self.retired, self._drained = None, ()

    def entered(self, is_linked: bool, serves: bool, now: Callable[[], float]) -> float | None:
        """Note since when the link is up, when a state is entered; return the earlier value."""
        self.route = None
        since = self.up_since
        if not is_linked:
            self.up_since = None
        elif since is None and serves:
            self.up_since = now()
        return since

    def has_been_up(self, seconds: float, now: float) -> bool:
        """Whether the link has been up for so long, in `connected` and states beside it."""
        return self.up_since is not None and now - self.up_since >= seconds

    async def _close(self, link: Link, owner: object, limit: float) -> None:
        self._unclosed = None
        try:
            await within(limit, awaitable(link.close(), link, "close"))
        except ExpiredError:
            _log.warning("%r: closing the link did not end within %g s; it was cancelled", owner, limit)
        except Exception:
            _log.warning("%r: closing the link failed", owner, exc_info=True)


async def open_in_time(link: Link, limit: float, owner: object, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Open a link within `limit` seconds; `close` it if it ignores its cancellation, and opens all the same."""
    opening: asyncio.Future[None] = asyncio.ensure_future(awaitable(link.open(), link, "open"))
    try:
        await limited(limit, opening, owner, f"{type(link).__name__}.open()")
    except GeneratorExit:  # the loop was closed
        raise
    except BaseException as error:
        if not opening.done():
            keep(asyncio.ensure_future(_closed_if_opened(opening, close)))
        else:
            await _closed_if_opened(opening, close)
        if not isinstance(error, ExpiredError):
            raise
        raise StartTimeoutError(
            f"did not open within {limit:g} s: start_timeout= gives it longer", evidence=link.diagnostics()
        ) from None


async def _closed_if_opened(opening: asyncio.Future[None], close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.wait({opening})
    if not opening.cancelled() and opening.exception() is None:
        await close()


def awaitable(answer: Any, link: Link, method: str) -> Any:
    """What a method of a link returned: something to await, or whoever wrote the link is told."""
    if not inspect.isawaitable(answer):
        raise TypeError(f"{type(link).__name__}.{method}() returned {answer!r:.60}: make it an 'async def'")
    return answer

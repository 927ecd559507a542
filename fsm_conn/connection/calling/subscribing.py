"""Subscriptions: streams of replies that are opened again on the next link, with a `Gap` in between.

The rules that hold here:

- A subscription lives as long as the connection's policy keeps that alive: it has no limit of its own.
- Between the last reply of one stream and the first of the next comes a `Gap`, after the next stream was sent. So a
  subscriber that asks for the current state at the gap misses nothing between that state and the next replies.
- On an orderly close by the peer it moves to the next link as soon as that serves, and does not hold up the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import attrs

from fsm_conn._util.text import said
from fsm_conn._util.timing import closing, finish
from fsm_conn.connection.calling.calls import NO_OPTIONS, Patience, Route, Routed, refusal_pause, split_arguments
from fsm_conn.links.base import CallOptions
from fsm_conn.links.errors import ConnectionLostError, GoingAwayError, RequestError
from fsm_conn.machine.errors import FsmConnError, strip_tracebacks

__all__ = ["Gap", "Subscription"]

_END = object()


@attrs.frozen(kw_only=True)
class Gap:
    """Comes between two replies of a subscription: its stream was cut off and opened again. Replies may be missing.

    It comes after the next stream was sent, so everything that happens from then on is in the replies that follow.
    """

    reason: Exception
    """The error that cut the stream off."""
    seconds: float
    """Seconds from then until the next stream was sent, by the event loop's clock."""
    number: int
    """1 for the first gap of a subscription, 2 for the second."""


class RoutedStream(Routed, Protocol):
    """A link that a subscription was routed to."""

    async def find(self, method: str, options: CallOptions | None) -> None:
        """As `Link.find`."""

    async def before_leaving(self, reply: Awaitable[Any]) -> Any:
        """Await; raise `GoingAwayError` once the link is replaced in good order."""

    @property
    def is_gone(self) -> bool:
        """Whether it no longer belongs to the connection."""


class StreamRoute(Route, Protocol):
    """The way from a subscriber to a link."""

    async def next(self, end: float | None) -> RoutedStream:
        """As `Route.next`."""


class Subscription:
    """One subscription along a route. Arguments as for `Connection.subscribe`.

    Args:
        route: the route to a link.
        method: `service.Method`.
        args: the positional arguments.
        fields: the fields of the request.
    """

    def __init__(self, route: StreamRoute, method: str, args: tuple[Any, ...], fields: Mapping[str, Any]) -> None:
        request, options = split_arguments(method, args)
        if hasattr(request, "__next__") or hasattr(request, "__anext__"):
            raise RequestError(
                f"{method}: a subscription is opened again after each reconnect, and this iterator of requests can be "
                "read only once; give a function that makes one"
            )
        self._route = route
        self._method = method
        self._request: Callable[[], Any] = request if callable(request) else lambda: request
        self._fields = fields
        self._options = options or NO_OPTIONS
        self._may_reopen = route.may_repeat
        self._endings = route.endings
        self._cut: Exception | None = None
        self._cut_at = 0.0
        self._gaps = self._refusals = 0

    async def items(self) -> AsyncIterator[Any]:
        """The replies, with a `Gap` each time that the stream was opened again."""
        patience = Patience(self._route, self._method, self._options)
        while True:
            routed = await self._link(patience)
            try:
                await routed.find(self._method, patience.what_is_left())
                async with closing(self._read(routed, patience.what_is_left())) as items:
                    async for item in items:
                        yield item
                return
            except Exception as error:
                await self._go_on_after(error, routed, patience.left)

    async def _link(self, patience: Patience) -> RoutedStream:
        try:
            routed: Any = await patience.link()
        except FsmConnError as error:
            raise error from self._cut
        found: RoutedStream = routed
        return found

    async def _read(self, routed: RoutedStream, options: CallOptions) -> AsyncIterator[Any]:
        async with closing(routed.stream(self._method, self._request(), self._fields, options)) as replies:
            if self._cut is not None:
                first = asyncio.ensure_future(anext(replies, _END))
                try:
                    await asyncio.sleep(0)  # which sends it
                    yield self._gap()
                    reply = await routed.before_leaving(first)
                finally:
                    first.cancel()
                    await finish(asyncio.gather(first, return_exceptions=True))
            else:
                reply = await routed.before_leaving(anext(replies, _END))
            while reply is not _END:
                self._refusals = 0
                yield reply
                reply = await routed.before_leaving(anext(replies, _END))

    def _gap(self) -> Gap:
        reason, self._cut = self._cut, None
        assert reason is not None
        strip_tracebacks(reason)
        self._gaps += 1
        return Gap(reason=reason, seconds=asyncio.get_running_loop().time() - self._cut_at, number=self._gaps)

    async def _go_on_after(self, error: Exception, routed: RoutedStream, left: float | None) -> None:
        """After the stream failed: return if it is to be opened again; otherwise raise the subscriber's error."""
        refused = self._options.retry_unavailable and routed.is_unavailable(error)
        is_cut = isinstance(error, (ConnectionLostError, GoingAwayError)) or routed.is_gone
        if not self._may_reopen or not (is_cut or refused):
            try:
                raise error
            finally:
                del error
        if self._endings != self._route.endings:
            raise ConnectionLostError(
                f"{said(error)}; and disconnect() was called, so the subscription has ended"
            ) from error
        if self._cut is None:
            self._cut, self._cut_at = error, asyncio.get_running_loop().time()
        if not is_cut:
            pause = refusal_pause(self._refusals)
            if pause is None or (left is not None and left <= pause):
                try:
                    raise error
                finally:
                    del error
            self._refusals += 1
            await asyncio.sleep(pause)

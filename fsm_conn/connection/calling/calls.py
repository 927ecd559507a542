"""How calls are made: at once or patiently, and again where that is safe.

What can be repeated is decided here, and only here: a request goes out again only when the caller called it
idempotent, or when it provably never reached the peer. Where a call goes is the business of a `Route`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Protocol

import attrs

from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, closing, within
from fsm_conn.connection.calling.observers import CallObservers
from fsm_conn.connection.errors import CallTimeoutError
from fsm_conn.connection.options import shared_rng
from fsm_conn.links.base import CallOptions
from fsm_conn.links.errors import ConnectionLostError, RequestError
from fsm_conn.machine.errors import FsmConnError

__all__ = ["NO_OPTIONS", "Calls", "Patience", "Route", "Routed", "refusal_pause", "split_arguments"]

_MOMENT = 1e-6
"""Seconds. Less is left of a deadline only because sums of seconds are not exact."""
NO_OPTIONS = CallOptions()

MOST_REPEATS = 3
"""How many times a call is sent again whose links were lost: more than that, and it may be what ends them."""
FIRST_PAUSE, LONGEST_PAUSE, MOST_REFUSALS = 0.1, 1.6, 6
"""Seconds between repeats of a call that was answered with UNAVAILABLE, and how many there are: some three seconds."""


class Routed(Protocol):
    """A link that a call was routed to.

    A call that the loss of the link breaks raises `ConnectionLostError` only when the owner of the link knows of it.
    """

    def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Awaitable[Any]:
        """As `Link.call`."""

    def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """As `Link.stream`."""

    def is_unavailable(self, error: Exception) -> bool:
        """As `Link.is_unavailable`."""


class Route(Protocol):
    """The way from a caller to a link: through a connection, or through whichever of a pool has least to do."""

    @property
    def owner(self) -> object:
        """The connection or the pool, for messages."""

    @property
    def reason(self) -> BaseException | None:
        """The last error that was met."""

    @property
    def is_patient(self) -> bool:
        """Whether every call waits for a link, whatever its options are."""

    @property
    def may_repeat(self) -> bool:
        """Whether a call may be sent again: not one that belongs to the link on which it was made."""

    @property
    def endings(self) -> int:
        """How many times it was closed by request: after that, nothing is sent again."""

    async def now(self) -> Routed:
        """Where a call goes that does not wait for a connection. Refuses only after a turn of the loop."""

    async def next(self, end: float | None) -> Routed:
        """Where a call goes that waits; until `end`, by the loop's clock, when it is cancelled; None: no limit."""


def split_arguments(method: str, args: tuple[Any, ...]) -> tuple[Any, CallOptions | None]:
    """The whole request and the options among the positional arguments of a call, in either order.

    Raises:
        RequestError: more than one of either.
    """
    requests = [each for each in args if not isinstance(each, CallOptions)]
    options = [each for each in args if isinstance(each, CallOptions)]
    if len(requests) > 1 or len(options) > 1:
        raise RequestError(
            f"{method}: give at most one whole request and one CallOptions by position, and fields by keyword; "
            f"got {len(args)} positional arguments"
        )
    return (requests[0] if requests else None), (options[0] if options else None)


def refusal_pause(refusals: int) -> float | None:
    """Seconds before a call is sent again that was answered with UNAVAILABLE, `refusals` times before; None: no more.

    Each pause is shortened by up to a half, by chance.
    """
    if refusals >= MOST_REFUSALS:
        return None
    longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2**refusals)
    return longest * (0.5 + shared_rng().random() / 2)


class Calls:
    """Calls along one route.

    Args:
        route: where they go.
        observers: who is told of each when it has ended.
    """

    __slots__ = ("_observers", "_route")

    def __init__(self, route: Route, observers: CallObservers | None = None) -> None:
        self._route = route
        self._observers = observers

    async def unary(self, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
        """A call that is answered with one message. Arguments and errors as for `Connection.call`."""
        reply = self._unary(method, args, fields)
        return await (self._observers.call(method, reply) if self._observers else reply)

    def stream(self, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> AsyncIterator[Any]:
        """A call that is answered with a stream of messages; it is sent once, whatever becomes of it."""
        replies = self._stream(method, args, fields)
        return self._observers.stream(method, replies) if self._observers else replies

    async def _unary(self, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
        request, options = split_arguments(method, args)
        if not self._waits(options):
            routed = await self._route.now()
            return await routed.call(method, request, fields, options)
        return await self._patiently(method, request, fields, options or NO_OPTIONS)

    async def _stream(self, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> AsyncIterator[Any]:
        request, options = split_arguments(method, args)
        if self._waits(options):
            patience = Patience(self._route, method, options or NO_OPTIONS)
            routed, options = await patience.link(), patience.what_is_left()
        else:
            routed = await self._route.now()
        async with closing(routed.stream(method, request, fields, options)) as replies:
            async for reply in replies:
                yield reply

    def _waits(self, options: CallOptions | None) -> bool:
        return self._route.is_patient or (options is not None and (options.idempotent or options.wait_for_ready))

    async def _patiently(self, method: str, request: Any, fields: dict[str, Any], options: CallOptions) -> Any:
        """A call that waits for the connection, and is sent again where that is safe. Its timeout covers all of it."""
        patience = Patience(self._route, method, options)
        repeats = _Repeats(self._route, request, options)
        while True:
            try:
                routed = await patience.link()
            except FsmConnError as error:
                repeats.without_connection(error)
                raise
            try:
                return await routed.call(method, request, fields, patience.what_is_left())
            except ConnectionLostError as error:
                repeats.after_loss(error)
            except Exception as error:
                if not (options.retry_unavailable and routed.is_unavailable(error)):
                    raise
                await repeats.after_unavailable(error, patience.left)


class _Repeats:
    """Whether a call that failed is sent again. Each method raises what the caller is told instead."""

    __slots__ = ("_endings", "_losses", "_options", "_refusals", "_repeatable", "_route", "_sent")

    def __init__(self, route: Route, request: Any, options: CallOptions) -> None:
        self._route = route
        self._options = options
        self._endings = route.endings
        self._repeatable = not hasattr(request, "__next__") and not hasattr(request, "__anext__") and route.may_repeat
        self._sent: ConnectionLostError | None = None
        self._losses = self._refusals = 0

    def without_connection(self, error: FsmConnError) -> None:
        """There is no link to send it on; if it was sent before, that is what counts."""
        if self._sent is not None:
            text = f"{said(self._sent)}; and then there was no connection to repeat it on"
            raise ConnectionLostError(text) from error

    def after_loss(self, error: ConnectionLostError) -> None:
        """The link was lost under it, or before it was sent."""
        if not self._repeatable or (error.maybe_executed and not self._options.idempotent):
            raise error
        self._sent = error if error.maybe_executed else self._sent
        if self._endings != self._route.endings:
            # Somebody said that this is the end: a call has no business to begin anew.
            raise ConnectionLostError(
                f"{said(error)}; and disconnect() was called, so it was not sent again",
                maybe_executed=self._sent is not None,
            ) from error
        self._losses += error.maybe_executed
        if self._losses > MOST_REPEATS:
            raise ConnectionLostError(
                f"{said(error)}; it was repeated {MOST_REPEATS} times, and the link was lost each time: "
                "perhaps the call itself ends the peer"
            ) from error

    async def after_unavailable(self, error: Exception, left: float | None) -> None:
        """The peer has answered that it cannot serve at present: wait a while, if there is time left for that."""
        pause = refusal_pause(self._refusals)
        if not self._repeatable or pause is None or (left is not None and left <= pause):
            raise error
        self._refusals += 1
        await asyncio.sleep(pause)


class Patience:
    """The deadline of one call that waits."""

    __slots__ = ("_end", "_method", "_options", "_route")

    def __init__(self, route: Route, method: str, options: CallOptions) -> None:
        self._route = route
        self._method = method
        self._options = options
        self._end = None if options.timeout is None else asyncio.get_running_loop().time() + options.timeout

    async def link(self) -> Routed:
        """Where the call goes.

        Raises:
            CallTimeoutError: there is no link before the deadline.
        """
        try:
            return await self._link_in_time()
        except ExpiredError:
            last = self._route.reason
            raise CallTimeoutError(
                f"{self._route.owner!r}: {self._method} waited {self._options.timeout:g} s for a connection, which is "
                f"its timeout; the last error was: {'none' if last is None else said(last)}"
            ) from None

    def what_is_left(self) -> CallOptions:
        """The options, with the time that is left."""
        if self._end is None:
            return self._options
        return attrs.evolve(self._options, timeout=max(self._end - asyncio.get_running_loop().time(), 0.001))

    @property
    def left(self) -> float | None:
        """Seconds until the deadline; None: there is none."""
        return None if self._end is None else self._end - asyncio.get_running_loop().time()

    async def _link_in_time(self) -> Routed:
        if self._end is None:
            return await self._route.next(None)
        left = self._end - asyncio.get_running_loop().time()
        if left < _MOMENT:
            raise ExpiredError
        return await within(left, self._route.next(self._end))

"""Makes calls: at once or after waiting for a connection, and again where that is safe.

Only this module decides what is repeated: a request is sent again only when the caller marked it idempotent, or when
it provably never reached the peer. A `Route` decides where a call goes.
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

__all__ = ["NO_OPTIONS", "Calls", "Patience", "Route", "Routed", "is_simple", "refusal_pause", "split_arguments"]

_MOMENT = 1e-6
"""Seconds; a smaller rest of a deadline is a rounding error."""
NO_OPTIONS = CallOptions()

MOST_REPEATS = 3
"""How often a call is sent again after a lost link. When each link is lost, the call itself may be the cause."""
FIRST_PAUSE, LONGEST_PAUSE, MOST_REFUSALS = 0.1, 1.6, 6
"""Seconds before each repeat of a call whose peer could not serve; about three seconds altogether."""


class Routed(Protocol):
    """A link that a call was routed to.

    A call broken by a loss of the link raises `ConnectionLostError` only once the owner of the link knows of the loss.
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
    """The way from a caller to a link: through a connection, or through the least loaded one of a pool."""

    @property
    def owner(self) -> object:
        """The connection or the pool, for messages."""

    @property
    def reason(self) -> BaseException | None:
        """The last error."""

    @property
    def is_patient(self) -> bool:
        """Whether every call waits for a link, whatever its options."""

    @property
    def may_repeat(self) -> bool:
        """Whether a call may be sent again; one that belongs to the link on which it was made may not."""

    @property
    def endings(self) -> int:
        """How often it was closed on request: after that, nothing is sent again."""

    @property
    def excused(self) -> int:
        """How many losses of links under the call are known not to be its doing: their peers have gone."""

    def ready(self) -> Routed | None:
        """The link for any call, where it is known without a look at anything; None is always right."""

    async def now(self) -> Routed:
        """The link for a call that does not wait. A refusal comes only after a turn of the loop."""

    async def next(self, end: float | None) -> Routed:
        """The link for a call that waits, until `end` by the loop's clock; None: no limit."""


def split_arguments(method: str, args: tuple[Any, ...]) -> tuple[Any, CallOptions | None]:
    """Return the whole request and the options among the positional arguments of a call, in either order.

    Raises:
        RequestError: more than one of either.
    """
    if not args:
        return None, None
    requests = [each for each in args if not isinstance(each, CallOptions)]
    options = [each for each in args if isinstance(each, CallOptions)]
    if len(requests) > 1 or len(options) > 1:
        raise RequestError(
            f"{method}: give at most one whole request and one CallOptions by position, and fields by keyword; "
            f"got {len(args)} positional arguments"
        )
    return (requests[0] if requests else None), (options[0] if options else None)


def is_simple(first: Any, *others: Any) -> bool:
    """Whether what a call was given by position are options, by which it neither waits nor is sent again."""
    return type(first) is CallOptions and not (others or first.idempotent or first.wait_for_ready)


def refusal_pause(refusals: int) -> float | None:
    """Seconds before the repeat of a call whose peer could not serve it `refusals` times; None: no more repeats.

    Each pause is shortened at random by up to a half.
    """
    if refusals >= MOST_REFUSALS:
        return None
    longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2**refusals)
    return longest * (0.5 + shared_rng().random() / 2)


class Calls:
    """Calls along one route.

    Args:
        route: the route of the calls.
        observers: the observers of the calls.
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
        """A call that is answered with a stream of messages; it is sent at most once."""
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
        """A call that waits for the connection, and is repeated where that is safe. Its timeout covers all of this."""
        patience = Patience(self._route, method, options)
        repeats = _Repeats(self._route, request, options)
        routed, left = self._route.ready(), options
        while True:
            if routed is None:
                try:
                    routed = await patience.link()
                except FsmConnError as error:
                    repeats.without_connection(error)
                    raise
                left = patience.what_is_left()
            try:
                return await routed.call(method, request, fields, left)
            except ConnectionLostError as error:
                repeats.after_loss(error)
            except Exception as error:
                if not (options.retry_unavailable and routed.is_unavailable(error)):
                    raise
                await repeats.after_unavailable(error, patience.left)
            routed = None


class _Repeats:
    """Decides whether a failed call is sent again. If not, each method raises the caller's error."""

    __slots__ = ("_endings", "_losses", "_options", "_refusals", "_repeatable", "_route", "_sent")

    def __init__(self, route: Route, request: Any, options: CallOptions) -> None:
        self._route = route
        self._options = options
        self._endings = route.endings
        self._repeatable = not hasattr(request, "__next__") and not hasattr(request, "__anext__") and route.may_repeat
        self._sent: ConnectionLostError | None = None
        self._losses = self._refusals = 0

    def without_connection(self, error: FsmConnError) -> None:
        """There is no link to send it on. If it was sent before, the error of that counts."""
        if self._sent is not None:
            text = f"{said(self._sent)}; then there was no connection to repeat it on"
            raise ConnectionLostError(text) from error

    def after_loss(self, error: ConnectionLostError) -> None:
        """The link was lost during the call, or before it was sent."""
        if not self._repeatable or (error.maybe_executed and not self._options.idempotent):
            try:
                raise error
            finally:
                del error
        self._sent = error if error.maybe_executed else self._sent
        if self._endings != self._route.endings:
            # `disconnect()` was called: the call must not begin anew.
            raise ConnectionLostError(
                f"{said(error)}; and disconnect() was called, so it was not sent again",
                maybe_executed=self._sent is not None,
            ) from error
        self._losses += error.maybe_executed
        if self._losses - self._route.excused > MOST_REPEATS:
            raise ConnectionLostError(
                f"{said(error)}; it was repeated {MOST_REPEATS} times, and the link was lost each time: "
                "perhaps the call itself ends the peer"
            ) from error

    async def after_unavailable(self, error: Exception, left: float | None) -> None:
        """The peer answered that it cannot serve at present: wait a while, if there is time left."""
        pause = refusal_pause(self._refusals)
        if not self._repeatable or pause is None or (left is not None and left <= pause):
            try:
                raise error
            finally:
                del error
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
        """The link for the call.

        Raises:
            CallTimeoutError: there was no link before the deadline.
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
        """The options, with the remaining time."""
        if self._end is None:
            return self._options
        return attrs.evolve(self._options, timeout=max(self._end - asyncio.get_running_loop().time(), 0.001))

    @property
    def left(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self._end is None else self._end - asyncio.get_running_loop().time()

    async def _link_in_time(self) -> Routed:
        if self._end is None:
            return await self._route.next(None)
        left = self._end - asyncio.get_running_loop().time()
        if left < _MOMENT:
            raise ExpiredError
        return await within(left, self._route.next(self._end))

"""How a connection is called: by name, by attribute, patiently.

What can be repeated is decided here, and only here: a request goes out again only when the caller called it
idempotent, or when it provably never reached the plugin.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, Protocol

import attrs

from fsm_conn._util.hints import did_you_mean
from fsm_conn._util.text import said
from fsm_conn._util.timing import ExpiredError, closing, within
from fsm_conn.connection.errors import CallTimeoutError, ConnectAbandonedError, ConnectFailedError, NotConnectedError
from fsm_conn.links.base import CallOptions, Link
from fsm_conn.links.errors import ConnectionLostError, RequestError
from fsm_conn.pool.errors import PoolError

__all__ = ["MethodCall", "ServiceProxy", "Services", "call_patiently", "split_arguments"]

_NO_CONNECTION = (NotConnectedError, ConnectFailedError, ConnectAbandonedError, PoolError)

_MOMENT = 1e-6
"""Seconds. Less is left of a deadline only because sums of seconds are not exact."""
GRACE = 1.0
"""Seconds to wait for the connection to notice that its link is lost, after a call has noticed."""


class Caller(Protocol):
    """What calls are made on: a connection, a pool, or a lease."""

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call a method that answers with one message."""

    def stream(self, method: str, /, *args: Any, **fields: Any) -> AsyncIterator[Any]:
        """Call a method that answers with a stream of messages."""


class Source(Protocol):
    """Where the link for a patient call comes from: a connection or a pool."""

    @property
    def reason(self) -> BaseException | None:
        """The last error that was met."""

    def in_activity(self) -> bool: ...
    def _endings(self) -> int: ...
    async def _link_when_ready(self, end: float | None = None) -> Link: ...
    async def _left_link(self, link: Link, limit: float) -> None: ...


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


async def call_patiently(
    source: Source,
    method: str,
    request: Any,
    fields: dict[str, Any],
    options: CallOptions,
    ready: Callable[[float | None], Awaitable[Link]],
) -> Any:
    """A call that waits for the connection, and is sent again where that is safe. Its timeout covers all of it.

    Args:
        source: the connection, or the pool.
        method: as for `Connection.call`, and so are the next two.
        request: the whole request, or None.
        fields: the fields of the request.
        options: the options of the call.
        ready: waits for a link to call through, and returns it; told when the call's time is up, by the loop's clock.
    """
    loop = asyncio.get_running_loop()
    end = None if options.timeout is None else loop.time() + options.timeout
    repeatable = not hasattr(request, "__next__") and not hasattr(request, "__anext__") and not source.in_activity()
    sent: ConnectionLostError | None = None
    endings = source._endings()
    while True:
        try:
            link = await _in_time(end, ready)
        except (ExpiredError, *_NO_CONNECTION) as error:
            if sent is not None:
                raise ConnectionLostError(f"{said(sent)}; and then there was no connection to repeat it on") from error
            if not isinstance(error, ExpiredError):
                raise
            raise CallTimeoutError(
                f"{source!r}: {method} waited {options.timeout:g} s for a connection, which is its timeout; "
                f"the last error was: {'none' if source.reason is None else said(source.reason)}"
            ) from None
        try:
            return await link.call(method, request, fields, _remaining(options, end, loop.time()))
        except ConnectionLostError as error:
            if not repeatable or (error.maybe_executed and not options.idempotent):
                raise
            sent = error if error.maybe_executed else sent
            lost = error
        await source._left_link(link, GRACE if end is None else min(GRACE, end - loop.time()))
        if endings != source._endings():
            # Somebody said that this is the end: a call has no business to begin anew.
            raise ConnectionLostError(
                f"{said(lost)}; and disconnect() was called, so it was not sent again", maybe_executed=sent is not None
            ) from lost


async def _in_time(end: float | None, ready: Callable[[float | None], Awaitable[Link]]) -> Link:
    """A link to call through, if there is one before `end`."""
    if end is None:
        return await ready(None)
    left = end - asyncio.get_running_loop().time()
    if left < _MOMENT:
        raise ExpiredError
    return await within(left, ready(end))


async def stream_when_ready(
    source: Source, method: str, request: Any, fields: dict[str, Any], options: CallOptions
) -> AsyncIterator[Any]:
    """A stream that waits for the connection before it is sent, and is sent once. Its timeout covers all of it."""
    loop = asyncio.get_running_loop()
    end = None if options.timeout is None else loop.time() + options.timeout
    try:
        link = await _in_time(end, source._link_when_ready)
    except ExpiredError:
        raise CallTimeoutError(f"{source!r}: {method} waited {options.timeout:g} s for a connection") from None
    async with closing(link.stream(method, request, fields, _remaining(options, end, loop.time()))) as replies:
        async for reply in replies:
            yield reply


def _remaining(options: CallOptions, end: float | None, now: float) -> CallOptions:
    return options if end is None else attrs.evolve(options, timeout=max(end - now, 0.001))


class Services:
    """Every service by name: `conn.services["calculator"]`, also where `Connection` itself has such an attribute."""

    __slots__ = ("_conn",)

    def __init__(self, conn: Caller) -> None:
        self._conn = conn

    def __getitem__(self, name: str) -> ServiceProxy:
        if not isinstance(name, str) or not name:
            raise TypeError(f"services[{name!r}]: give the name of a service")
        return ServiceProxy(self._conn, name)

    def __repr__(self) -> str:
        return f"<services of {self._conn!r}>"


class ServiceProxy:
    """The methods of one service, as attributes: `conn.calculator.Add(a=5, b=3)`."""

    __slots__ = ("_conn", "_name")

    def __init__(self, conn: Caller, name: str) -> None:
        self._conn = conn
        self._name = name

    def __getattr__(self, method: str) -> BoundMethod:
        if method.startswith("__"):
            raise AttributeError(method)
        return BoundMethod(self._conn, f"{self._name}.{method}")

    def __getitem__(self, method: str) -> BoundMethod:
        return BoundMethod(self._conn, f"{self._name}.{method}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: who calls a service has mistaken it for a method of the connection."""
        raise AttributeError(no_such_attribute(self._conn, self._name))

    def __await__(self) -> Generator[Any, None, Any]:
        raise AttributeError(no_such_attribute(self._conn, self._name))

    def __repr__(self) -> str:
        return f"<service {self._name!r} of {self._conn!r}>"


def no_such_attribute(conn: Caller, name: str) -> str:
    """What to say to somebody who took a service for a method of the connection."""
    hint = did_you_mean(name, [each for each in dir(conn) if not each.startswith("_")])
    return (
        f"{type(conn).__name__} has no method {name!r}{hint}; "
        f"as a service, its methods are called as conn.{name}.<Method>(field=value)"
    )


class BoundMethod:
    """One method of one service. Calling it makes a `MethodCall`."""

    __slots__ = ("_conn", "_method")

    def __init__(self, conn: Caller, method: str) -> None:
        self._conn = conn
        self._method = method

    def __call__(self, /, *args: Any, **fields: Any) -> MethodCall:
        """Arguments as for `Connection.call`."""
        return MethodCall(self._conn, self._method, args, fields)

    def __repr__(self) -> str:
        return f"<method {self._method!r} of {self._conn!r}>"


class MethodCall:
    """A call about to be made: `await` it for one reply, `async for` over it for a stream of them.

    Until then nothing is sent. For a task of its own: `create_task(conn.call(...))`.
    """

    __slots__ = ("_args", "_conn", "_fields", "_method")

    def __init__(self, conn: Caller, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        self._conn = conn
        self._method = method
        self._args = args
        self._fields = fields

    def __await__(self) -> Generator[Any, None, Any]:
        return self._conn.call(self._method, *self._args, **self._fields).__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._conn.stream(self._method, *self._args, **self._fields)

    def __repr__(self) -> str:
        return f"<call of {self._method!r}, not made yet: await it, or iterate over it with async for>"

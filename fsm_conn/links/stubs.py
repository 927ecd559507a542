"""A channel for compiled stubs that outlives the link's own channels.

Why: a compiled stub binds its methods to one channel when it is created, and every reconnect makes a new channel.

Rules that hold here: a stub's call is made on the current channel, or not at all; it returns gRPC's own call object;
a method is bound again only when the channel has changed. A refused call raises where its answer is awaited, after a
turn of the loop, so that a caller that retries in a tight loop does not starve the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, NoReturn

from fsm_conn.links.base import CallOptions

if TYPE_CHECKING:
    import grpc.aio

__all__ = ["ReconnectingChannel", "RefusedCall"]


class ReconnectingChannel:
    """Takes the place of a channel for a generated `Stub` class: `CalculatorStub(ReconnectingChannel(current))`."""

    def __init__(self, current: Callable[[], grpc.aio.Channel]) -> None:
        """Make a channel that stands for the current one.

        Args:
            current: returns the current open channel, or raises. A stub's call then raises the same: a
                `ConnectionError` when it is awaited, anything else at once.
        """
        self._current = current

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> _ReboundMethod:
        """Return a callable for a method with one request and one reply."""
        return _ReboundMethod(self._current, "unary_unary", method, args, kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> _ReboundMethod:
        """Return a callable for a method with one request and a stream of replies."""
        return _ReboundMethod(self._current, "unary_stream", method, args, kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> _ReboundMethod:
        """Return a callable for a method with a stream of requests and one reply."""
        return _ReboundMethod(self._current, "stream_unary", method, args, kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> _ReboundMethod:
        """Return a callable for a method with a stream of requests and a stream of replies."""
        return _ReboundMethod(self._current, "stream_stream", method, args, kwargs)


class _ReboundMethod:
    """One method of a stub, bound to the channel that was current when it was last called."""

    __slots__ = ("_args", "_bound", "_channel", "_current", "_kwargs", "_method", "kind")

    def __init__(
        self,
        current: Callable[[], grpc.aio.Channel],
        kind: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._current = current
        self.kind = kind
        self._method = method
        self._args = args
        self._kwargs = kwargs
        self._channel: grpc.aio.Channel | None = None
        self._bound: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            channel = self._current()
        except ConnectionError as error:
            return RefusedCall(error.with_traceback(None))
        if channel is not self._channel:
            self._bound = getattr(channel, self.kind)(self._method, *self._args, **self._kwargs)
            self._channel = channel
        try:
            return self._bound(*args, **kwargs)
        except TypeError:
            if any(isinstance(given, CallOptions) for given in (*args, *kwargs.values())):
                raise TypeError(
                    f"{self._method}: a method of a stub takes no CallOptions, but gRPC's own keywords: timeout=, "
                    "metadata=, wait_for_ready=, credentials=, compression=; conn.call() takes CallOptions"
                ) from None
            raise

    def __repr__(self) -> str:
        return f"<{self.kind} {self._method}>"


class RefusedCall:
    """The call object of a refused call, while there is no channel. It has the methods of gRPC's call objects."""

    __slots__ = ("_error",)

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __repr__(self) -> str:
        return f"<a call that was not made: {self._error}>"

    def __await__(self) -> Generator[Any, None, NoReturn]:
        return self._refuse().__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> NoReturn:
        await self._refuse()

    async def read(self) -> NoReturn:
        """Raises why it was not made, as all that has to be awaited does."""
        await self._refuse()

    async def write(self, request: Any) -> NoReturn:
        """As `read`."""
        await self._refuse()

    async def done_writing(self) -> NoReturn:
        """As `read`."""
        await self._refuse()

    async def wait_for_connection(self) -> NoReturn:
        """As `read`."""
        await self._refuse()

    async def initial_metadata(self) -> NoReturn:
        """As `read`."""
        await self._refuse()

    async def trailing_metadata(self) -> NoReturn:
        """As `read`."""
        await self._refuse()

    async def code(self) -> NoReturn:
        """As `read`: it has no status, for nobody was asked."""
        await self._refuse()

    async def details(self) -> NoReturn:
        """As `read`."""
        await self._refuse()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """As gRPC's."""
        asyncio.get_running_loop().call_soon(callback, self)

    def done(self) -> bool:
        """True: nothing comes any more."""
        return True

    def cancelled(self) -> bool:
        """False."""
        return False

    def cancel(self) -> bool:
        """False: there is nothing to cancel."""
        return False

    def time_remaining(self) -> None:
        """None, as of a call without a deadline."""

    async def _refuse(self) -> NoReturn:
        await asyncio.sleep(0)
        raise self._error.with_traceback(None)

"""A channel for compiled stubs that outlives the channels it stands for.

Why: a compiled stub binds its methods to one channel when it is made, and every reconnect makes a new one.

Rules that hold here: a stub's call is made on the channel of that moment, or not at all; what it returns is
gRPC's own call object, with everything that has; a method is bound again only when the channel has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc.aio

__all__ = ["ReconnectingChannel"]


class ReconnectingChannel:
    """What a generated `Stub` class takes for a channel: `CalculatorStub(ReconnectingChannel(current))`."""

    def __init__(self, current: Callable[[], grpc.aio.Channel]) -> None:
        """Make a channel that stands for others.

        Args:
            current: returns the open channel of the moment, or raises; a stub's call then raises the same.
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

    __slots__ = ("_args", "_bound", "_channel", "_current", "_kind", "_kwargs", "_method")

    def __init__(
        self,
        current: Callable[[], grpc.aio.Channel],
        kind: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._current = current
        self._kind = kind
        self._method = method
        self._args = args
        self._kwargs = kwargs
        self._channel: grpc.aio.Channel | None = None
        self._bound: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        channel = self._current()
        if channel is not self._channel:
            self._bound = getattr(channel, self._kind)(self._method, *self._args, **self._kwargs)
            self._channel = channel
        return self._bound(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self._kind} {self._method}>"

"""Metadata that goes with every call over a channel, whether the application, a stub or this package makes it; and the
metadata that comes with the replies.

Why no interceptor: gRPC's interceptors make each call a task, and replace the call's object by one that tells less.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc.aio

from fsm_conn.links.base import ReceivedMetadata, checked_metadata

__all__ = ["carrying", "received_with", "streamed_with"]

Pairs = tuple[tuple[str, Any], ...]


def carrying(channel: Any, metadata: Pairs | Callable[[], Any]) -> Any:
    """The channel itself, or if there is metadata, one whose calls carry it."""
    return ChannelWithMetadata(channel, metadata) if metadata else channel


class ChannelWithMetadata:
    """A channel whose calls carry metadata. Everything but the making of calls is left to the original channel.

    Args:
        channel: the channel.
        metadata: what to send; or a function that is called for each call. A key that a call sets itself wins.
    """

    def __init__(self, channel: Any, metadata: Pairs | Callable[[], Any]) -> None:
        self._channel = channel
        self._metadata = metadata

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """As the channel's."""
        return self._carrying(self._channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """As the channel's."""
        return self._carrying(self._channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """As the channel's."""
        return self._carrying(self._channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """As the channel's."""
        return self._carrying(self._channel.stream_stream(*args, **kwargs))

    def _carrying(self, invoke: Any) -> Callable[..., Any]:
        def call(*args: Any, metadata: Iterable[tuple[str, Any]] | None = None, **kwargs: Any) -> Any:
            return invoke(*args, metadata=self._with(metadata), **kwargs)

        return call

    def _with(self, given: Iterable[tuple[str, Any]] | None) -> Pairs:
        own = self._metadata
        if callable(own):
            own = checked_metadata(own(), "Endpoint")
        pairs = tuple(given or ())
        taken = {key for key, _ in pairs}
        return (*(pair for pair in own if pair[0] not in taken), *pairs)


async def received_with(call: Any, received: ReceivedMetadata) -> Any:
    """Await the one reply of a call, and store the metadata that comes with it in `received`."""
    try:
        reply = await call
    except grpc.aio.AioRpcError as error:
        received.initial, received.trailing = pairs(error.initial_metadata()), pairs(error.trailing_metadata())
        raise
    received.initial, received.trailing = pairs(await call.initial_metadata()), pairs(await call.trailing_metadata())
    return reply


async def streamed_with(call: Any, received: ReceivedMetadata) -> AsyncIterator[Any]:
    """Pass on the replies of a call, and store the metadata that comes with them in `received`."""
    is_first = True
    try:
        async for reply in call:
            if is_first:
                is_first, received.initial = False, pairs(await call.initial_metadata())
            yield reply
    except grpc.aio.AioRpcError as error:
        received.initial = received.initial or pairs(error.initial_metadata())
        received.trailing = pairs(error.trailing_metadata())
        raise
    received.initial, received.trailing = pairs(await call.initial_metadata()), pairs(await call.trailing_metadata())


def pairs(metadata: Any) -> Pairs:
    """GRPC's own metadata, as pairs."""
    return tuple((str(key), value) for key, value in metadata or ())

"""Metadata that goes with every call over a channel, whether the application, a stub or this package makes it; and the
metadata that comes with the replies.

Why no interceptor: gRPC's interceptors make each call a task, and replace the call's object by one that tells less.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc.aio

from fsm_conn.links.base import ReceivedMetadata, checked_metadata

__all__ = ["carrying", "for_own_calls", "received_with", "streamed_with"]

_log = logging.getLogger("fsm_conn")

Pairs = tuple[tuple[str, Any], ...]


def carrying(channel: Any, metadata: Pairs | Callable[[], Any], owner: str = "Endpoint") -> Any:
    """The channel itself, or if there is metadata, one whose calls carry it. `owner` is named in errors."""
    return ChannelWithMetadata(channel, metadata, owner) if metadata else channel


def for_own_calls(channel: Any) -> Any:
    """A channel of `carrying` for calls that nobody has asked for, such as those for health.

    If the user's function raises, they go without metadata: a token that cannot be had for a moment is no reason to
    lose the link.
    """
    return channel.lenient() if isinstance(channel, ChannelWithMetadata) else channel


class ChannelWithMetadata:
    """A channel whose calls carry metadata. Everything but the making of calls is left to the original channel.

    Args:
        channel: the channel.
        metadata: what to send; or a function that is called for each call. A key that a call sets itself wins.
        owner: the class that has `metadata=`, for errors.
        is_lenient: whether a call goes without metadata if the function raises; or else the call raises that.
    """

    def __init__(self, channel: Any, metadata: Pairs | Callable[[], Any], owner: str, is_lenient: bool = False) -> None:
        self._channel = channel
        self._metadata = metadata
        self._owner = owner
        self._is_lenient = is_lenient
        self._has_failed = False

    def lenient(self) -> ChannelWithMetadata:
        """The same channel, as `for_own_calls` says."""
        return ChannelWithMetadata(self._channel, self._metadata, self._owner, is_lenient=True)

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
            own = self._asked(own)
        pairs = tuple(given or ())
        taken = {key for key, _ in pairs}
        return (*(pair for pair in own if pair[0] not in taken), *pairs)

    def _asked(self, function: Callable[[], Any]) -> Pairs:
        try:
            own = checked_metadata(function(), self._owner)
        except Exception:
            if not self._is_lenient:
                raise
            if not self._has_failed:
                words = "the function of %s(metadata=...) raised: calls for health and the like go without it"
                _log.warning(words, self._owner, exc_info=True)
            self._has_failed = True
            return ()
        self._has_failed = False
        return own


async def received_with(call: Any, received: ReceivedMetadata) -> Any:
    """Await the one reply of a call, and store the metadata that comes with it in `received`."""
    received.initial = received.trailing = ()
    try:
        reply = await call
    except grpc.aio.AioRpcError as error:
        received.initial, received.trailing = pairs(error.initial_metadata()), pairs(error.trailing_metadata())
        raise
    received.initial, received.trailing = pairs(await call.initial_metadata()), pairs(await call.trailing_metadata())
    return reply


async def streamed_with(call: Any, received: ReceivedMetadata) -> AsyncIterator[Any]:
    """Pass on the replies of a call, and store the metadata that comes with them in `received`."""
    received.initial = received.trailing = ()
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

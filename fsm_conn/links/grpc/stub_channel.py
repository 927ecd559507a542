"""What compiled stubs get for a channel: a link's own, with calls that are never told of a cancellation that was none.

Why: when its channel is closed under a call, gRPC cancels that call, and whoever awaits it gets a `CancelledError` that
nobody has asked for. A `TaskGroup` swallows such an error without a word. So a call that was cut off ends here as any
call ends whose server went away: with `UNAVAILABLE`.

Rules that hold here: a caller that was cancelled, or that cancelled its call, is told so; all else that a call says or
does is gRPC's own; and every call counts as under way, from its beginning to its end, and tells whether the peer lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from functools import partial
from typing import Any, NoReturn

import grpc
import grpc.aio

from fsm_conn.links.base import StubCallWatch, StubWatch
from fsm_conn.links.grpc.connectivity import MOST_CROSSINGS, Connectivity
from fsm_conn.links.grpc.feeding import is_being_cancelled
from fsm_conn.links.grpc.first_status import at_hand
from fsm_conn.links.grpc.loss import Loss

__all__ = ["StubCall", "StubChannel"]

_NO_ANSWER = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
"""The codes by which a call ends that need not have come from the peer."""


class StubChannel(grpc.aio.Channel):
    """The channel of one link, for compiled stubs and for whoever wants to look at its state.

    Args:
        channel: the channel. It is closed by its link, and by nobody else.
        connectivity: told of each call.
        loss: why calls were cut off.

    Attributes:
        watch: is told of each call, too; None: nobody is.
    """

    def __init__(self, channel: grpc.aio.Channel, connectivity: Connectivity, loss: Loss) -> None:
        self.watch: StubWatch | None = None
        self.connectivity = connectivity
        self.loss = loss
        self._channel = channel

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for a method with one request and one reply."""
        return _Method(self._channel.unary_unary(*args, **kwargs), self, may_cross=True)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for a method with one request and a stream of replies."""
        return _Method(self._channel.unary_stream(*args, **kwargs), self, may_cross=True)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for a method with a stream of requests and one reply."""
        return _Method(self._channel.stream_unary(*args, **kwargs), self)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for a method with a stream of requests and a stream of replies."""
        return _Method(self._channel.stream_stream(*args, **kwargs), self)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As gRPC's."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As gRPC's."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As gRPC's."""
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> NoReturn:
        """Refuse: others use it."""
        raise TypeError("the channel of a link is closed by its link: call disconnect() of the connection")

    async def __aenter__(self) -> NoReturn:
        await self.close()

    async def __aexit__(self, *error: object) -> None:
        """Never entered, never left."""


class _Method:
    """One method of a stub. What it returns is a `StubCall`."""

    __slots__ = ("_channel", "_invoke", "_may_cross")

    def __init__(self, invoke: Any, channel: StubChannel, *, may_cross: bool = False) -> None:
        self._invoke = invoke
        self._channel = channel
        self._may_cross = may_cross

    def __call__(self, *args: Any, **kwargs: Any) -> StubCall:
        call, watch = self._begun(*args, **kwargs)
        crossing = None
        if self._may_cross:
            again = partial(self._begun, *args, **kwargs)
            crossing = _Crossing(self._channel.connectivity, again, kwargs.get("timeout"))
        return StubCall(call, self._channel.loss, watch, crossing)

    def _begun(self, *args: Any, **kwargs: Any) -> tuple[Any, StubCallWatch | None]:
        call = self._invoke(*args, **kwargs)
        channel = self._channel
        channel.connectivity.begin()
        watch = None if channel.watch is None else channel.watch.began(kwargs.get("timeout"))
        call.add_done_callback(partial(_ended, channel.connectivity, watch))
        return call, watch


class _Crossing:
    """What a call needs to be sent again that has crossed a GOAWAY."""

    __slots__ = ("_again", "_connectivity", "_end", "_left", "_partings")

    def __init__(
        self,
        connectivity: Connectivity,
        again: Callable[..., tuple[Any, StubCallWatch | None]],
        timeout: float | None,
    ) -> None:
        self._end = None if timeout is None else asyncio.get_running_loop().time() + timeout
        self._connectivity = connectivity
        self._again = again
        self._partings = connectivity.partings
        self._left = MOST_CROSSINGS

    async def is_to_be_sent_again(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether a call that ended with `error` has crossed one, and not too often."""
        self._left -= 1
        return self._left >= 0 and await self._connectivity.has_crossed(error, self._partings)

    def send_again(self) -> tuple[Any, StubCallWatch | None]:
        """The same call once more, within its own time."""
        self._partings = self._connectivity.partings
        if self._end is None:
            return self._again()
        return self._again(timeout=max(self._end - asyncio.get_running_loop().time(), 0.001))


def _ended(connectivity: Connectivity, watch: StubCallWatch | None, call: Any) -> None:
    code = at_hand(call.code())
    if code is grpc.StatusCode.UNAVAILABLE:
        connectivity.end_broken(at_hand(call.details()))
    else:
        connectivity.end()
    if watch is not None:
        if code not in _NO_ANSWER:
            watch.heard()
        watch.ended(ran_out=code is grpc.StatusCode.DEADLINE_EXCEEDED)


class StubCall:
    """A call that a compiled stub has made: gRPC's call object, but for what is told of a call that was cut off."""

    __slots__ = ("__weakref__", "_call", "_crossing", "_is_given_up", "_loss", "_watch")

    def __init__(
        self, call: Any, loss: Loss, watch: StubCallWatch | None = None, crossing: _Crossing | None = None
    ) -> None:
        self._call = call
        self._loss = loss
        self._watch = watch
        self._crossing = crossing
        self._is_given_up = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __repr__(self) -> str:
        return repr(self._call)

    def __del__(self) -> None:
        # Nobody can read its replies any more. gRPC's own object would notice, if gRPC did not hold it itself.
        if hasattr(self._call, "read") and not self._call.done():
            self._call.cancel()

    def cancel(self) -> bool:
        """Cancel the call. Whoever awaits it gets a `CancelledError`."""
        self._is_given_up = True
        return bool(self._call.cancel())

    def cancelled(self) -> bool:
        """Whether it was cancelled, by its caller or by the peer."""
        return bool(self._call.cancelled()) and not self._is_cut_off()

    async def code(self) -> grpc.StatusCode:
        """The status that it ended with."""
        code: grpc.StatusCode = await self._call.code()
        return grpc.StatusCode.UNAVAILABLE if self._is_cut_off() else code

    async def details(self) -> str:
        """The words that go with the status."""
        details = await self._call.details()
        return str(self._cut_off().details()) if self._is_cut_off() else str(details)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._reply(lambda: self._call).__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            try:
                yield await self._reply(lambda: anext(self._call.__aiter__()))
            except StopAsyncIteration:
                return

    async def read(self) -> Any:
        """The next reply; `grpc.aio.EOF` after the last."""
        return await self._reply(lambda: self._call.read())

    async def write(self, request: Any) -> None:
        """Send a request."""
        await self._told(self._call.write(request))

    async def done_writing(self) -> None:
        """Say that there are no more requests."""
        await self._told(self._call.done_writing())

    async def wait_for_connection(self) -> None:
        """Wait until the call has left."""
        await self._told(self._call.wait_for_connection())

    async def _told(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except asyncio.CancelledError:
            if self._is_given_up or is_being_cancelled():
                raise
            raise self._cut_off() from None

    async def _reply(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """A reply; the first one of the call that is sent again, if it has crossed a GOAWAY."""
        while True:
            try:
                reply = await self._told(ask())
            except grpc.aio.AioRpcError as error:
                crossing = self._crossing
                if crossing is None or not await crossing.is_to_be_sent_again(error) or self._is_given_up:
                    raise
                self._call, self._watch = crossing.send_again()
            else:
                self._crossing = None
                if self._watch is not None:
                    self._watch.heard()
                return reply

    def _is_cut_off(self) -> bool:
        """Whether the link was closed under it."""
        return not self._is_given_up and self._loss.reason is not None and bool(self._call.cancelled())

    def _cut_off(self) -> grpc.aio.AioRpcError:
        reason = self._loss.reason or "the call was cut off"
        nothing = grpc.aio.Metadata()
        return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details=str(reason))


for _kind in (grpc.aio.UnaryUnaryCall, grpc.aio.UnaryStreamCall, grpc.aio.StreamUnaryCall, grpc.aio.StreamStreamCall):
    _kind.register(StubCall)

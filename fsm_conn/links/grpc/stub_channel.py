"""The channel for compiled stubs: a link's own, whose calls raise no `CancelledError` unless somebody cancelled.

Why: when a channel is closed during a call, gRPC cancels that call, and its caller gets a `CancelledError` that nobody
has asked for. A `TaskGroup` silently swallows such an error. So a call that was cut off ends here like any call whose
server went away: with `UNAVAILABLE`.

Rules that hold here:

- A caller that was cancelled, or that cancelled its call, gets the `CancelledError`; in all else a call behaves as
  gRPC's own.
- Every call counts as under way, from its beginning to its end, and shows whether the peer lives.
- For a call that is awaited, as nearly all are, the await notices its end. Only where an end must be known whether or
  not the call is awaited, gRPC is asked to report it, because that makes a call slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, NoReturn

import grpc
import grpc.aio

from fsm_conn.links.base import StubTraffic
from fsm_conn.links.grpc.connectivity import MOST_CROSSINGS, Connectivity, is_cut
from fsm_conn.links.grpc.feeding import is_being_cancelled
from fsm_conn.links.grpc.first_status import at_hand
from fsm_conn.links.grpc.loss import Loss

__all__ = ["StubCall", "StubChannel"]

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
_NO_ANSWER = frozenset({UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
"""The final codes of a call that need not have come from the peer."""
_MOMENT = 0.001
"""Seconds by which a deadline may seem to come early, because timers are no finer."""
FEW = 100
"""Calls that may seem to be under way before it is checked which of them are."""


class StubChannel(grpc.aio.Channel):
    """The channel of one link, for compiled stubs and for code that wants to look at its state.

    Args:
        channel: the channel. Only its link closes it.
        connectivity: told of each call.
        loss: why calls were cut off.

    Attributes:
        traffic: where calls under way are noted, each by gRPC's own object.
        loss: why calls were cut off.
        clock: the event loop's.
        connectivity: told of each call.
    """

    def __init__(self, channel: grpc.aio.Channel, connectivity: Connectivity, loss: Loss) -> None:
        self.traffic: StubTraffic = _Unwatched()
        self.loss = loss
        self.clock = asyncio.get_running_loop().time
        self.connectivity = connectivity
        self._channel = channel
        self._heard: set[Any] = set()
        self._most = FEW
        connectivity.stubs.add(self)

    def note_in(self, traffic: StubTraffic) -> None:
        """Note the calls in `traffic` from now on."""
        traffic.began.update(self.traffic.began)
        self.traffic = traffic
        traffic.look = self.look

    def begin(self, call: Any) -> float:
        """Note that a call is under way; return when it began."""
        began = self.traffic.began
        began[call] = now = self.clock()
        self.connectivity.under_way += 1
        if len(began) > self._most:  # some may be calls that nobody awaits
            self.look()
            self._most = FEW + 2 * len(began)
        return now

    def answered(self, call: Any) -> None:
        """Note that a call has ended well."""
        traffic = self.traffic
        if traffic.began.pop(call, None) is not None:
            self.connectivity.end()
        traffic.heard_at = self.clock()

    def failed(self, call: Any, code: grpc.StatusCode | None, details: str | None) -> None:
        """Note that a call has ended otherwise, with a status if it has one."""
        began = self.traffic.began.pop(call, None)
        if began is None:
            return
        if code is UNAVAILABLE or is_cut(details):
            self.connectivity.end_broken(details)
        else:
            self.connectivity.end()
        if code is not None and code not in _NO_ANSWER:
            self.traffic.heard_at = self.clock()
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            left = call.time_remaining()
            if left is not None and left < _MOMENT:  # otherwise the peer ran out of time
                self.traffic.ran_out(began)

    def look(self) -> None:
        """Note the calls that have ended by now, and have gRPC report the end of all others."""
        for call in tuple(self.traffic.began):
            self.listen(call)

    def listen(self, call: Any) -> None:
        """Have gRPC report the end of a call, if it has not ended."""
        if call in self.traffic.began and call not in self._heard and hasattr(call, "add_done_callback"):
            self._heard.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: Any) -> None:
        self._heard.discard(call)
        if call not in self.traffic.began:
            return
        code = at_hand(call.code())
        if code is grpc.StatusCode.OK:
            self.answered(call)
        else:
            self.failed(call, code, at_hand(call.details()))

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for a method with one request and one reply."""
        return _Method(self._channel.unary_unary(*args, **kwargs), self, StubCall, MOST_CROSSINGS)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for a method with one request and a stream of replies."""
        return _Method(self._channel.unary_stream(*args, **kwargs), self, StreamingStubCall, MOST_CROSSINGS)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for a method with a stream of requests and one reply."""
        return _Method(self._channel.stream_unary(*args, **kwargs), self, StreamedStubCall)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for a method with a stream of requests and a stream of replies."""
        return _Method(self._channel.stream_stream(*args, **kwargs), self, StreamingStubCall)

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
        """Refuse, because others use the channel."""
        raise TypeError("the channel of a link is closed by its link: call disconnect() of the connection")

    async def __aenter__(self) -> NoReturn:
        await self.close()

    async def __aexit__(self, *error: object) -> None:
        """Do nothing: it is never entered."""


class _Unwatched:
    """Where calls are noted that matter only to the channel."""

    def __init__(self) -> None:
        self.began: dict[Any, float] = {}
        self.heard_at = 0.0
        self.look: Callable[[], object] = int
        self.ran_out: Callable[[float], object] = float


class _Method:
    """One method of a stub. What it returns is a `StubCall`.

    Attributes:
        invoke: gRPC's own callable.
        channel: the channel.
        crossings: how often a call that has crossed a GOAWAY is sent again.
    """

    __slots__ = ("_make", "channel", "crossings", "invoke")

    def __init__(self, invoke: Any, channel: StubChannel, make: type[StubCall], crossings: int = 0) -> None:
        self.invoke = invoke
        self.channel = channel
        self.crossings = crossings
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> StubCall:
        return self._make(self, args, kwargs)


class StubCall:
    """A call that a compiled stub has made: gRPC's call object, except for what it reports if it was cut off."""

    __slots__ = (
        "__weakref__",
        "_args",
        "_began",
        "_call",
        "_channel",
        "_crossings",
        "_is_given_up",
        "_kwargs",
        "_method",
        "_partings",
    )

    def __init__(self, method: _Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._method = method
        self._args = args
        self._kwargs = kwargs
        self._call = method.invoke(*args, **kwargs)
        self._channel = channel = method.channel
        self._crossings = method.crossings
        self._is_given_up = False
        self._partings = channel.connectivity.partings
        self._began = channel.begin(self._call)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._channel.listen(self._call)  # code that asks the call about itself need not await it
        return getattr(self._call, name)

    def __repr__(self) -> str:
        return repr(self._call)

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            reply = yield from self._call.__await__()
        except asyncio.CancelledError:
            self._channel.failed(self._call, None, None)
            if self._is_given_up or is_being_cancelled():
                raise
            raise self._cut_off() from None
        except grpc.aio.AioRpcError as error:
            self._channel.failed(self._call, error.code(), error.details())
            if not (yield from self._is_sent_again(error).__await__()):
                raise
            reply = yield from self.__await__()
        except GeneratorExit:  # nobody waits any more
            self._channel.listen(self._call)
            raise
        except BaseException:  # such as an error of a serializer: the call was never sent
            self._channel.failed(self._call, None, None)
            raise
        self._channel.answered(self._call)
        return reply

    def cancel(self) -> bool:
        """Cancel the call. A caller that awaits it gets a `CancelledError`."""
        self._is_given_up = True
        self._channel.listen(self._call)
        return bool(self._call.cancel())

    def cancelled(self) -> bool:
        """Whether the call was cancelled, by its caller or by the peer."""
        return bool(self._call.cancelled()) and not self._is_cut_off()

    async def code(self) -> grpc.StatusCode:
        """The status with which the call ended."""
        self._channel.listen(self._call)
        code: grpc.StatusCode = await self._call.code()
        return UNAVAILABLE if self._is_cut_off() else code

    async def details(self) -> str:
        """The words that go with the status."""
        self._channel.listen(self._call)
        details = await self._call.details()
        return str(self._cut_off().details()) if self._is_cut_off() else str(details)

    async def write(self, request: Any) -> None:
        """Send a request."""
        await self._told(self._call.write(request))

    async def done_writing(self) -> None:
        """Say that there are no more requests."""
        await self._told(self._call.done_writing())

    async def wait_for_connection(self) -> None:
        """Wait until the call has been sent."""
        await self._told(self._call.wait_for_connection())

    async def _told(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except asyncio.CancelledError:
            if self._is_given_up or is_being_cancelled():
                raise
            raise self._cut_off() from None

    async def _is_sent_again(self, error: grpc.aio.AioRpcError) -> bool:
        """Send it again within its own time, if it has crossed a GOAWAY, and not too often; return whether it was."""
        if error.code() is UNAVAILABLE:
            await asyncio.sleep(0)  # the tasks that watch the link go before the repeated call
        self._crossings -= 1
        channel = self._channel
        if self._crossings < 0 or not await channel.connectivity.has_crossed(error, self._partings):
            return False
        if self._is_given_up:
            return False
        kwargs, timeout = self._kwargs, self._kwargs.get("timeout")
        if timeout is not None:
            kwargs = kwargs | {"timeout": max(self._began + timeout - channel.clock(), 0.001)}
        self._partings = channel.connectivity.partings
        self._call = self._method.invoke(*self._args, **kwargs)
        channel.begin(self._call)
        return True

    def _is_cut_off(self) -> bool:
        """Whether the link was closed during the call."""
        return not self._is_given_up and self._channel.loss.reason is not None and bool(self._call.cancelled())

    def _cut_off(self) -> grpc.aio.AioRpcError:
        reason = self._channel.loss.reason or "the call was cut off"
        nothing = grpc.aio.Metadata()
        return grpc.aio.AioRpcError(UNAVAILABLE, nothing, nothing, details=str(reason))


class StreamedStubCall(StubCall):
    """A call whose requests are a stream: the call may end while they are written."""

    __slots__ = ()

    def __init__(self, method: _Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(method, args, kwargs)
        self._channel.listen(self._call)


class StreamingStubCall(StreamedStubCall):
    """A call whose replies are a stream."""

    __slots__ = ()

    def __del__(self) -> None:
        # Nobody can read the replies any more. gRPC's own object would notice that, if gRPC did not hold it itself.
        call = getattr(self, "_call", None)
        if call is not None and not call.done():
            call.cancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            try:
                yield await self._reply(lambda: anext(self._call.__aiter__()))
            except StopAsyncIteration:
                return

    async def read(self) -> Any:
        """The next reply; `grpc.aio.EOF` after the last."""
        return await self._reply(lambda: self._call.read())

    async def _reply(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """A reply. If the call has crossed a GOAWAY, it is sent again, and this is the new call's first reply."""
        while True:
            try:
                reply = await self._told(ask())
            except grpc.aio.AioRpcError as error:
                if not await self._is_sent_again(error):
                    raise
                self._channel.listen(self._call)
            else:
                self._crossings = 0
                self._channel.traffic.heard_at = self._channel.clock()
                return reply


for _kind in (grpc.aio.UnaryUnaryCall, grpc.aio.UnaryStreamCall, grpc.aio.StreamUnaryCall, grpc.aio.StreamStreamCall):
    _kind.register(StubCall)

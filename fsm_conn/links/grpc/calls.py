"""Calls over a gRPC channel, for links whose peer speaks gRPC.

Rules that hold here:

- A caller gets the peer's answer as the `AioRpcError` that it is, including `UNAVAILABLE` if the peer itself said so.
  Only a call that the loss of the link broke raises a `ConnectionLostError`.
- Our errors quote the peer's words only in a form that is safe to show: bounded, and without control characters.
- Only callers that somebody cancelled get a `CancelledError`. gRPC raises it for other things too: a channel that is
  closed under a call, an iterator of requests that raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any

import attrs
import grpc
import grpc.aio

from fsm_conn._util.text import brief
from fsm_conn._util.timing import closing
from fsm_conn.links.base import CallOptions
from fsm_conn.links.errors import CallError, ConnectionLostError, GoingAwayError, LinkLostError
from fsm_conn.links.grpc.connectivity import MOST_CROSSINGS, Connectivity, is_never_sent
from fsm_conn.links.grpc.feeding import Feeder, is_being_cancelled
from fsm_conn.links.grpc.first_status import FirstStatus
from fsm_conn.links.grpc.health import Health
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.grpc.metadata import for_own_calls, received_with, streamed_with
from fsm_conn.links.grpc.methods import Method, message_for, messages_for, wrong_kind
from fsm_conn.links.grpc.names import shown
from fsm_conn.links.grpc.services import ServiceResolver
from fsm_conn.links.grpc.stub_channel import StubChannel

__all__ = ["GrpcCalls", "not_open", "refused_call", "refused_stream"]


class GrpcCalls:
    """The calls of one link, over a channel that is ready.

    Args:
        channel: the channel. From here on, `close` closes it.
        services: services that need no reflection, as for `normalize_services`.
        loss: where the end of the link is declared.
        show: makes the peer's words safe for our errors.
        reconnects: whether, after an orderly close by the peer, calls may go on over a connection that the channel
            makes by itself, until the link is replaced.
        resumes: whether the link goes on after an orderly close, if the same peer accepts a connection again.

    Attributes:
        channel: the channel.
        stub_channel: the same channel for compiled stubs.
        connectivity: the channel's connection, and how many calls are under way.
        resolver: looks up the services that can be called.
        health: the peer's health service.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        services: Any,
        loss: Loss,
        show: Callable[[str], str] = brief,
        *,
        reconnects: bool = False,
        resumes: bool = False,
    ) -> None:
        self.channel = channel
        own = for_own_calls(channel)
        self.connectivity = Connectivity(own, loss, reconnects=reconnects, resumes=resumes)
        self.stub_channel = StubChannel(channel, self.connectivity, loss)
        self.health = Health(own, self.connectivity, loss, show)
        self.resolver = ServiceResolver(channel, services, show)
        self._known = self.resolver.known
        self._loss = loss
        self._show = show
        self._streams: set[Any] = set()

    async def close(self) -> None:
        """Close the channel and everything that uses it; calls in flight fail. May be called again.

        Everything is done before the first wait, so that a cancellation interrupts nothing but the wait.
        """
        self._loss.declare(LinkLostError("the link was closed"), final=True)
        self.connectivity.stop()
        self.resolver.cancel()
        self.health.cancel()
        for stream in tuple(self._streams):  # older gRPC overlooks streams that nobody is reading
            stream.cancel()
        await self.channel.close()
        self.stub_channel.look()
        await self.resolver.close()
        await self.connectivity.stopped()

    async def find(self, method: str, options: CallOptions | None) -> None:
        """Look up a method, so that its next call need not. Raises as `call`."""
        if method not in self._known:
            await self._look_up(method, options)

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """Call a method that answers with one message.

        Args:
            method: `service.Method`, as `ServiceResolver.method` understands it.
            request: a whole request message, or a mapping of its fields; for a method that takes a stream,
                an iterable or async iterable of them. None: use `fields`.
            fields: the fields of the request, by name.
            options: `timeout`, in seconds, covers the lookup of the method too.

        Raises:
            UnknownNameError: there is no such method; `AmbiguousNameError`: the name means several.
            RequestError: the request does not fit the method, or the method answers with a stream.
            ConnectionLostError: the link was lost under the call, or before it.
            grpc.aio.AioRpcError: the peer's own answer, or DEADLINE_EXCEEDED.
        """
        found = self._known.get(method)
        if found is None:
            found, options = await self._look_up(method, options)
        if found.streaming:
            return await self._call_with_stream(found, request, fields, options)
        message = message_for(found, request, fields)
        connectivity = self.connectivity
        if not connectivity.is_open():
            options = await self._sendable(found.name, options)
        connectivity.under_way += 1
        partings, end = connectivity.partings, None if options is None else _end_of(options)
        try:
            try:
                if options is None:
                    reply = await found.invoke(message)
                elif options.received is None:
                    reply = await self._started(found, options, message)
                else:
                    reply = await received_with(self._started(found, options, message), options.received)
            except grpc.aio.AioRpcError as error:
                reply = await self._sent_again(found, options, message, error, partings, end)
        except asyncio.CancelledError:
            self._raise_if_closed(found.name)
            raise
        finally:
            connectivity.end()
        return reply if reply is not None else _unreadable(found)

    async def _sent_again(
        self,
        found: Method,
        options: CallOptions | None,
        message: Any,
        error: grpc.aio.AioRpcError,
        partings: int,
        end: float | None,
    ) -> Any:
        """Handle a failed call: send it again, if it has crossed a GOAWAY; else raise its error."""
        for _ in range(MOST_CROSSINGS):
            if not await self.connectivity.has_crossed(error, partings):
                break
            partings = self.connectivity.partings
            call = self._started(found, _what_is_left(options, end), message)
            try:
                received = None if options is None else options.received
                return await (call if received is None else received_with(call, received))
            except grpc.aio.AioRpcError as again:
                error = again
        await self._raise_if_lost(found.name, error)
        try:
            raise error
        finally:
            del error

    async def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """Call a method that answers with a stream of messages. Arguments and errors as for `call`.

        Closing the iterator, or dropping it, cancels the call.
        """
        found = self._known.get(method)
        if found is None:
            found, options = await self._look_up(method, options)
        if not found.server_streaming:
            raise wrong_kind(found)
        message = () if found.client_streaming else (message_for(found, request, fields),)
        options = await self._sendable(found.name, options)
        received = None if options is None else options.received
        crossings, end = 0 if found.client_streaming else MOST_CROSSINGS, _end_of(options)
        while True:
            running = self._running(found, self._started(found, options, *message), request, fields)
            running.may_cross = crossings > 0
            try:
                async with (
                    running as call,
                    closing(call if received is None else streamed_with(call, received)) as replies,
                ):
                    async for reply in replies:
                        running.may_cross = False
                        yield reply if reply is not None else _unreadable(found)
                return
            except _CrossedError:
                crossings -= 1
                options = _what_is_left(options, end)

    async def _call_with_stream(
        self, found: Method, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> Any:
        if found.server_streaming:
            raise wrong_kind(found)
        options = await self._sendable(found.name, options)
        async with self._running(found, self._started(found, options), request, fields) as call:
            received = None if options is None else options.received
            reply = await (call if received is None else received_with(call, received))
        return reply if reply is not None else _unreadable(found)

    def _started(self, found: Method, options: CallOptions | None, *message: Any) -> Any:
        if options is None:
            return found.invoke(*message)
        return found.invoke(*message, timeout=options.timeout, metadata=options.metadata)

    def _running(self, found: Method, call: Any, request: Any, fields: Mapping[str, Any]) -> _Running:
        return _Running(self, found, call, request, fields)

    async def _look_up(self, name: str, options: CallOptions | None) -> tuple[Method, CallOptions | None]:
        """Find a method within the time of the call, and return what is left of that time."""
        options = await self._sendable(name, options)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(None if options is None else options.timeout):
                found = await self.resolver.method(name, () if options is None else options.metadata)
        except TimeoutError:
            raise _out_of_time(name, "was found") from None
        except grpc.aio.AioRpcError as error:
            raise await self._lookup_error(name, error) from error
        if options is None or options.timeout is None:
            return found, options
        left = options.timeout - (clock() - began)
        if left <= 0:
            raise _out_of_time(name, "was found")
        return found, attrs.evolve(options, timeout=left)

    async def _lookup_error(self, name: str, error: grpc.aio.AioRpcError) -> CallError:
        if await self.connectivity.is_lost_after(error):
            return await self._not_sent(name)
        return CallError(
            f"{shown(name)}: the peer could not be asked for its services "
            f"({error.code().name}: {self._show(error.details() or '')}). "
            "Declare them with services= to go without asking."
        )

    async def _sendable(self, name: str, options: CallOptions | None) -> CallOptions | None:
        """Wait until a call can be sent, if the connection is closed just now; return what is left of its time.

        Raises:
            ConnectionLostError: the link is lost, and the call was not sent.
        """
        connectivity, end = self.connectivity, _end_of(options)
        if connectivity.refuses():
            raise await self._not_sent(name)
        if not connectivity.is_parted():
            return options
        try:
            async with asyncio.timeout_at(end):
                is_back = await connectivity.is_back()
        except TimeoutError:
            raise _out_of_time(name, "could be sent") from None
        if not is_back:
            raise await self._not_sent(name)
        return _what_is_left(options, end)

    async def _not_sent(self, name: str) -> ConnectionLostError:
        reason = await self._loss.wait()
        error = ConnectionLostError(f"{shown(name)} was not sent: {reason}", maybe_executed=False)
        error.__cause__ = reason
        return error

    def _raise_if_closed(self, name: str) -> None:
        reason = self._loss.reason
        if reason is not None and not is_being_cancelled():
            raise _cut_off(name, reason, maybe_executed=True) from reason

    async def _raise_if_lost(self, name: str, error: grpc.aio.AioRpcError) -> None:
        if await self.connectivity.is_lost_after(error):
            maybe_executed = not is_never_sent(error.details())
            raise _cut_off(name, await self._loss.wait(), maybe_executed=maybe_executed) from error


class _CrossedError(Exception):
    """A stream has crossed a GOAWAY, and can be opened again."""


class _Running:
    """A streaming call, with the task that feeds it if it takes a stream; neither outlives the block.

    Attributes:
        may_cross: whether the call raises `_CrossedError` if it has crossed a GOAWAY.
    """

    def __init__(self, calls: GrpcCalls, found: Method, call: Any, request: Any, fields: Mapping[str, Any]) -> None:
        self._calls = calls
        self._found = found
        self._call = call
        self._first = FirstStatus(call)
        self._partings = calls.connectivity.partings
        self.may_cross = False
        self._feeder = Feeder(call, messages_for(found, request, fields)) if found.client_streaming else None
        calls._streams.add(call)
        calls.connectivity.begin()

    async def __aenter__(self) -> Any:
        return self._call

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            if isinstance(error, asyncio.CancelledError):
                if self._feeder is not None:
                    self._feeder.raise_fault()
                self._calls._raise_if_closed(self._found.name)
            elif isinstance(error, grpc.aio.AioRpcError):
                return await self._is_over(error)
            return False
        finally:
            self._calls.connectivity.end()
            self._calls._streams.discard(self._call)
            self._call.cancel()
            if self._feeder is not None:
                await self._feeder.end()

    async def _is_over(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether the peer had ended its stream without an error; if not, raise why the call failed."""
        cause = self._first.of(error)
        if self.may_cross and await self._calls.connectivity.has_crossed(cause, self._partings):
            raise _CrossedError from None
        await self._calls._raise_if_lost(self._found.name, cause)
        if cause.code() is grpc.StatusCode.OK and self._found.server_streaming:
            return True
        try:
            raise cause from None
        finally:
            del cause


def not_open(method: str) -> ConnectionLostError:
    """The error for a call that is made before the link is open."""
    return ConnectionLostError(f"{shown(method)} was not sent: the link is not open", maybe_executed=False)


async def refused_call(method: str) -> Any:
    """A call that is made before the link is open."""
    raise not_open(method)


async def refused_stream(method: str) -> AsyncIterator[Any]:
    """A stream that is begun before the link is open."""
    if method:
        raise not_open(method)
    yield


def _cut_off(name: str, reason: Exception, *, maybe_executed: bool) -> ConnectionLostError:
    fate = "it may have been executed" if maybe_executed else "it was not executed"
    broken = maybe_executed and isinstance(reason, GoingAwayError)  # whose own words say that calls are finished
    why = "the peer closed it in good order, but before the call was finished" if broken else reason
    text = f"the link was lost during {shown(name)}, and {fate}: {why}"
    return ConnectionLostError(text, maybe_executed=maybe_executed)


def _end_of(options: CallOptions | None) -> float | None:
    """When the time of a call is up; None: never."""
    if options is None or options.timeout is None:
        return None
    return asyncio.get_running_loop().time() + options.timeout


def _what_is_left(options: CallOptions | None, end: float | None) -> CallOptions | None:
    """The options for sending a call again, within its own time."""
    if options is None or end is None:
        return options
    return attrs.evolve(options, timeout=max(end - asyncio.get_running_loop().time(), 0.001))


def _unreadable(found: Method) -> Any:
    # gRPC logs a reply that cannot be parsed, and returns None.
    raise CallError(f"{found.name} was answered, but not with a valid {found.response_class.DESCRIPTOR.full_name}")


def _out_of_time(name: str, what: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        details=f"the time was up before {shown(name)} {what}",
        debug_error_string=None,
    )

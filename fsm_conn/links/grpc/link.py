"""Calls over a gRPC channel: what all links have in common whose peer speaks gRPC.

Rules that hold here:

- A link is lost at the first moment its channel is not ready, and stays lost: gRPC would connect again
  behind our back, but whoever drives the link decides about that, and does it with a new link.
- What the peer answered reaches the caller as the `AioRpcError` it is, `UNAVAILABLE` included when the peer
  itself said so. Only what the loss of the link broke becomes a `ConnectionLostError`.
- In an error of ours stands no more of the peer's words than can be shown: bounded, and without control characters.
- A `CancelledError` reaches only callers that somebody cancelled. gRPC raises it for other things too: a
  channel that is closed under a call, an iterator of requests that raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import grpc
import grpc.aio

from fsm_conn._util.text import brief
from fsm_conn.links.base import CallOptions, Link
from fsm_conn.links.errors import CallError, ConnectionLostError, LinkLostError, ProbeError
from fsm_conn.links.grpc import health_service
from fsm_conn.links.grpc.channel import READY
from fsm_conn.links.grpc.feeding import feed, is_being_cancelled, raise_fault
from fsm_conn.links.grpc.first_status import Verdict, is_forgotten
from fsm_conn.links.grpc.methods import Method, message_for, messages_for, wrong_kind
from fsm_conn.links.grpc.names import shown
from fsm_conn.links.grpc.services import ServiceResolver
from fsm_conn.links.services import normalize_services

__all__ = ["GrpcLink"]

# The codes a call ends with when its connection breaks, or its peer is shut down under it.
_BROKEN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_NEVER_SENT = "failed to connect to all addresses"
# How long, in seconds, to wait for a sign of life when a call failed and the channel still seems ready.
_SIGN_OF_LIFE = 0.25
_TRIES = 3


class GrpcLink(Link):
    """The part of a link that begins once there is an open channel.

    For subclasses: `open` ends with `_attach(channel)`, `close` calls `_detach()`, and `_lose(reason)` says
    that the link is lost for a reason that the channel does not know, such as the end of a process.
    """

    def __init__(self, *, services: Any = ()) -> None:
        """Make a link without a channel.

        Args:
            services: services that need no reflection, as for `normalize_services`.
        """
        self._services = normalize_services(services)
        self._channel: Any = None
        self._directory: ServiceResolver | None = None
        self._known: dict[str, Method] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._streams: set[Any] = set()
        self._reason: Exception | None = LinkLostError("the link is not open")
        self._gone = asyncio.Event()

    def _attach(self, channel: grpc.aio.Channel) -> None:
        """Take over a channel that is ready. From here on it is closed by `_detach`."""
        self._channel = channel
        self._directory = ServiceResolver(channel, self._services, self._show)
        self._known = self._directory.known
        self._reason = None
        self._watcher = asyncio.create_task(self._watch(channel))

    async def _detach(self) -> None:
        """Close the channel and everything that uses it; calls in flight fail. Does nothing without a channel.

        All of it is done before the first wait, so that a cancellation interrupts nothing but the wait.
        """
        self._lose(LinkLostError("the link was closed"))
        channel, directory, watcher = self._channel, self._directory, self._watcher
        if directory is None or watcher is None:
            return
        self._channel = self._directory = self._watcher = None
        watcher.cancel()
        directory.cancel()
        for stream in tuple(self._streams):  # older gRPC overlooks those that nobody reads at the moment
            stream.cancel()
        await channel.close()
        await directory.close()
        await asyncio.wait((watcher,))

    def _lose(self, reason: Exception) -> None:
        """Declare the link lost. The first reason is the one that counts."""
        if self._reason is None:
            self._reason = reason
        self._gone.set()

    async def _watch(self, channel: grpc.aio.Channel) -> None:
        await channel.wait_for_state_change(READY)
        self._lose(LinkLostError("the connection broke"))

    async def lost(self) -> Exception:
        """Wait until the link is lost, and return why. Never raises it. May be called again, with the same answer."""
        await self._gone.wait()
        assert self._reason is not None
        return self._reason

    @property
    def channel(self) -> grpc.aio.Channel:
        """The open `grpc.aio.Channel`, for compiled stubs.

        Raises:
            LinkLostError: there is none, because the link is not open.
        """
        if self._channel is None:
            raise LinkLostError("the link is not open, so it has no channel")
        channel: grpc.aio.Channel = self._channel
        return channel

    def mark_unresponsive(self) -> None:
        """The peer hangs: so calls in flight are told, instead of that somebody closed the link."""
        self._lose(LinkLostError("the peer did not answer any more"))

    @property
    def directory(self) -> ServiceResolver:
        """The services that can be called over the open channel, to be looked up.

        Raises:
            LinkLostError: there is no channel, because the link is not open.
        """
        if self._directory is None:
            raise LinkLostError("the link is not open, so there is nobody to ask for services")
        return self._directory

    async def probe(self, service: str = "") -> bool:
        """Ask the standard health service how the peer is.

        Returns:
            True when it is well, False when it has no way to tell: no health service, or none that answers for all.

        Raises:
            NotServingError: the peer said that it is not well, or that it does not know the `service` that was named,
                which by the protocol is the same.
            ProbeError: the peer could not be asked, or what it said makes no sense.
        """
        try:
            answer = await self._health_check(service)
        except grpc.aio.AioRpcError as error:
            if health_service.has_no_answer(error, service):
                return False
            raise ProbeError(f"the health check failed: {error.code().name}: {self._quoted(error)}") from error
        return health_service.is_serving(answer)

    async def watch(self, service: str = "") -> AsyncIterator[bool]:
        """Yield whether the peer is well, now and whenever its health service says that this has changed."""
        if self._is_lost():
            return
        call = health_service.watching(self.channel, service)
        self._streams.add(call)
        try:
            async for answer in call:
                if (well := health_service.news_of(answer, service)) is not None:
                    yield well
        except grpc.aio.AioRpcError:
            return  # it has no such stream, or it broke: what there is to know comes from probes, or from the link
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
        finally:
            self._streams.discard(call)
            call.cancel()

    async def _health_check(self, service: str = "", timeout: float | None = None) -> Any:
        if self._is_lost():
            raise ProbeError(f"there is nobody to ask: {self._reason}")
        try:
            return await health_service.ask(self.channel, service, timeout)
        except asyncio.CancelledError:
            if is_being_cancelled() or not self._is_lost():
                raise
            raise ProbeError(f"the health check was cut off: {self._reason}") from None

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
            grpc.aio.AioRpcError: what the peer itself answered, or DEADLINE_EXCEEDED.
        """
        found = self._known.get(method)
        if found is None:
            found, options = await self._look_up(method, options)
        if found.server_streaming:
            raise wrong_kind(found)
        if found.client_streaming:
            return await self._call_with_stream(found, request, fields, options)
        message = message_for(found, request, fields)
        if self._is_lost():
            raise await self._not_sent(found.name)
        try:
            reply = await self._started(found, options, message)
        except asyncio.CancelledError:
            self._raise_if_closed(found.name)
            raise
        except grpc.aio.AioRpcError as error:
            await self._raise_if_lost(found.name, error)
            raise
        return reply if reply is not None else _unreadable(found)

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
        if self._is_lost():
            raise await self._not_sent(found.name)
        async with self._running(found, self._started(found, options, *message), request, fields) as replies:
            async for reply in replies:
                yield reply if reply is not None else _unreadable(found)

    async def _call_with_stream(
        self, found: Method, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> Any:
        if self._is_lost():
            raise await self._not_sent(found.name)
        async with self._running(found, self._started(found, options), request, fields) as call:
            reply = await call
        return reply if reply is not None else _unreadable(found)

    def _started(self, found: Method, options: CallOptions | None, *message: Any) -> Any:
        if options is None:
            return found.invoke(*message)
        return found.invoke(*message, timeout=options.timeout, metadata=options.metadata)

    @asynccontextmanager
    async def _running(self, found: Method, call: Any, request: Any, fields: Mapping[str, Any]) -> AsyncIterator[Any]:
        """A call that streams, with the task that feeds it if it takes a stream; neither outlives the block."""
        feeder = None
        verdict = Verdict(call)
        if found.client_streaming:
            feeder = asyncio.create_task(feed(call, messages_for(found, request, fields)))
        self._streams.add(call)
        try:
            yield call
        except asyncio.CancelledError:
            raise_fault(feeder)
            self._raise_if_closed(found.name)
            raise
        except grpc.aio.AioRpcError as error:
            await self._raise_if_lost(found.name, cause := verdict.on(error))
            if cause.code() is grpc.StatusCode.OK and found.server_streaming:
                return
            raise cause from None
        finally:
            self._streams.discard(call)
            call.cancel()
            if feeder is not None:
                feeder.cancel()
                await asyncio.wait((feeder,))

    async def _look_up(self, name: str, options: CallOptions | None) -> tuple[Method, CallOptions | None]:
        """Find a method within the time of the call, and return what is left of it."""
        if self._directory is None or self._reason is not None:
            raise await self._not_sent(name)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(None if options is None else options.timeout):
                found = await self._directory.method(name)
        except TimeoutError:
            raise _out_of_time(name) from None
        except grpc.aio.AioRpcError as error:
            raise await self._lookup_error(name, error) from error
        if options is None or options.timeout is None:
            return found, options
        left = options.timeout - (clock() - began)
        if left <= 0:
            raise _out_of_time(name)
        return found, attrs.evolve(options, timeout=left)

    async def _lookup_error(self, name: str, error: grpc.aio.AioRpcError) -> CallError:
        if await self._is_lost_after(error):
            return await self._not_sent(name)
        return CallError(
            f"{shown(name)}: the peer could not be asked for its services "
            f"({error.code().name}: {self._quoted(error)}). "
            "Declare them with services= to go without asking."
        )

    def _quoted(self, error: grpc.aio.AioRpcError) -> str:
        return self._show(error.details() or "")

    def _show(self, said: str) -> str:
        """The peer's words, fit to stand in an error of ours."""
        return brief(said)

    async def _why_lost(self) -> Exception | None:
        """The best reason there is, which may take a moment to come out."""
        return await self.lost() if self._gone.is_set() else self._reason

    async def _not_sent(self, name: str) -> ConnectionLostError:
        reason = await self._why_lost()
        error = ConnectionLostError(f"{shown(name)} was not sent: {reason}", maybe_executed=False)
        error.__cause__ = reason
        return error

    def _raise_if_closed(self, name: str) -> None:
        if not is_being_cancelled() and self._is_lost():
            raise _cut_off(name, self._reason, maybe_executed=True) from self._reason

    async def _raise_if_lost(self, name: str, error: grpc.aio.AioRpcError) -> None:
        if await self._is_lost_after(error):
            maybe_executed = not (error.details() or "").startswith(_NEVER_SENT)
            raise _cut_off(name, await self._why_lost(), maybe_executed=maybe_executed) from error

    async def _is_lost_after(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether a call failed because the link is lost, rather than because the peer said so.

        The two look alike, down to the words, and the call may fail a moment before the channel changes its
        state. So when the channel still seems ready, somebody has to ask: either the peer gives a sign of
        life, or the question shows that it is gone. A peer that refuses every question is alive.
        """
        if error.code() not in _BROKEN and not is_forgotten(error):
            return False
        for _ in range(_TRIES):
            if self._is_lost() or await self._is_alive():
                break
        return self._is_lost()

    def _is_lost(self) -> bool:
        if self._reason is None and self.channel.get_state() is not READY:
            self._lose(LinkLostError("the connection broke"))
        return self._reason is not None

    async def _is_alive(self) -> bool:
        try:
            await self._health_check(timeout=_SIGN_OF_LIFE)
        except grpc.aio.AioRpcError as error:
            return error.code() not in _BROKEN
        except ProbeError:
            return False
        return True


def _cut_off(name: str, reason: Exception | None, *, maybe_executed: bool) -> ConnectionLostError:
    fate = "it may have been executed" if maybe_executed else "it was not executed"
    text = f"the link was lost during {shown(name)}, and {fate}: {reason}"
    return ConnectionLostError(text, maybe_executed=maybe_executed)


def _unreadable(found: Method) -> Any:
    # gRPC logs a reply that cannot be parsed, and returns None.
    raise CallError(f"{found.name} was answered, but not with a valid {found.response_class.DESCRIPTOR.full_name}")


def _out_of_time(name: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        details=f"the time was up before {shown(name)} was found",
        debug_error_string=None,
    )

"""Calls over a gRPC channel, and the link to an endpoint that is already running.

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
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import attrs
import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from fsm_conn.errors import CallError, ConnectionLostError, LinkError, LinkLostError, NotServingError, ProbeError
from fsm_conn.links.base import CallOptions, Link
from fsm_conn.links.methods import Method, message_for, messages_for, wrong_kind
from fsm_conn.links.names import shown
from fsm_conn.links.redact import brief
from fsm_conn.links.services import ServiceDirectory, normalize_services
from fsm_conn.links.verdict import Verdict, is_forgotten

__all__ = ["CHANNEL_OPTIONS", "EndpointLink", "GrpcLink", "said_why_not"]

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A channel without calls for half an hour would go idle, which looks like a loss and is none.
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    # Channels to one address would share a connection, and the backoff after one that failed.
    ("grpc.use_local_subchannel_pool", 1),
)
"""Options that every channel given to a `GrpcLink` should be made with."""

# An attempt that is given up goes on inside gRPC, with its socket, until it times out: by itself after 20 seconds.
_ENDPOINT_OPTIONS = (*CHANNEL_OPTIONS, ("grpc.min_reconnect_backoff_ms", 5000))

_READY = grpc.ChannelConnectivity.READY
_HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
# The codes a call ends with when its connection breaks, or its peer is shut down under it.
_BROKEN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_NEVER_SENT = "failed to connect to all addresses"
# How long, in seconds, to wait for a sign of life when a call failed and the channel still seems ready.
_SIGN_OF_LIFE = 0.25
_TRIES = 3
# Seconds for a channel that cannot connect to say why. It does at once, unless this machine is overloaded.
_EXPLAINED = 1.0


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
        self._directory: ServiceDirectory | None = None
        self._known: dict[str, Method] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._streams: set[Any] = set()
        self._reason: Exception | None = LinkLostError("the link is not open")
        self._gone = asyncio.Event()

    def _attach(self, channel: grpc.aio.Channel) -> None:
        """Take over a channel that is ready. From here on it is closed by `_detach`."""
        self._channel = channel
        self._directory = ServiceDirectory(channel, self._services, self._show)
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
        await channel.wait_for_state_change(_READY)
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

    def condemn(self) -> None:
        """The peer hangs: so calls in flight are told, instead of that somebody closed the link."""
        self._lose(LinkLostError("the peer did not answer any more"))

    @property
    def directory(self) -> ServiceDirectory:
        """The services that can be called over the open channel, to be looked up.

        Raises:
            LinkLostError: there is no channel, because the link is not open.
        """
        if self._directory is None:
            raise LinkLostError("the link is not open, so there is nobody to ask for services")
        return self._directory

    async def probe(self, service: str = "") -> bool:
        """Ask the standard health service how the peer is.

        Protocol: https://github.com/grpc/grpc/blob/master/doc/health-checking.md

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
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return _unknown(service)
            raise ProbeError(f"the health check failed: {error.code().name}: {self._quoted(error)}") from error
        if answer is None:
            raise ProbeError("the health check was answered with nothing readable")
        if answer.status != _SERVING:
            raise NotServingError(f"the health check was answered with {_status_name(answer.status)}")
        return True

    async def watch(self, service: str = "") -> AsyncIterator[bool]:
        """Yield whether the peer is well, now and whenever its health service says that this has changed."""
        if self._is_lost():
            return
        watch: Any = self.channel.unary_stream(
            _HEALTH_WATCH,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        call = watch(health_pb2.HealthCheckRequest(service=service))
        self._streams.add(call)
        try:
            async for answer in call:
                if answer is not None and (service or answer.status != _SERVICE_UNKNOWN):
                    yield answer.status == _SERVING
        except grpc.aio.AioRpcError:
            return  # it has no such stream, or it broke: what there is to know comes from probes, or from the link
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
        finally:
            self._streams.discard(call)
            call.cancel()

    async def _health_check(self, service: str = "", timeout: float | None = None) -> Any:
        if self._is_lost():
            raise ProbeError(f"there is nobody to ask: {self._reason}")
        check: Any = self.channel.unary_unary(
            _HEALTH_CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            return await check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except asyncio.CancelledError:
            if _is_being_cancelled() or not self._is_lost():
                raise
            raise ProbeError(f"the health check was cut off: {self._reason}") from None

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """Call a method that answers with one message.

        Args:
            method: `service.Method`, as `ServiceDirectory.method` understands it.
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
            feeder = asyncio.create_task(_feed(call, messages_for(found, request, fields)))
        self._streams.add(call)
        try:
            yield call
        except asyncio.CancelledError:
            _raise_fault(feeder)
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
        if not _is_being_cancelled() and self._is_lost():
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
        if self._reason is None and self.channel.get_state() is not _READY:
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


class EndpointLink(GrpcLink):
    """A link to a gRPC server that somebody else started."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        services: Any = (),
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        """Make a link that is not open yet.

        Args:
            target: a gRPC address, such as `127.0.0.1:50051` or `unix:/run/x.sock`.
            credentials: for TLS; None: plain text.
            services: services that need no reflection, as for `normalize_services`.
            options: gRPC channel arguments. They win over those that a link sets by itself: `CHANNEL_OPTIONS`,
                and 5000 for `grpc.min_reconnect_backoff_ms`, which limits an attempt to 5 seconds.
        """
        super().__init__(services=services)
        self._target = target
        self._credentials = credentials
        self._options = tuple({**dict(_ENDPOINT_OPTIONS), **dict(options)}.items())

    async def open(self) -> None:
        """Connect, once.

        gRPC cannot be made to let go of a half-open connection: when this is cancelled while the endpoint has
        accepted and says nothing, the socket is closed when the attempt would have timed out.

        Raises:
            LinkError: the endpoint cannot be reached.
        """
        channel: Any = self._new_channel()
        try:
            await self._until_ready(channel)
        except BaseException:
            await channel.close()
            raise
        self._attach(channel)

    async def close(self) -> None:
        """Close the channel. Calls in flight fail."""
        await self._detach()

    def _new_channel(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=self._options)
        return grpc.aio.secure_channel(self._target, self._credentials, options=self._options)

    async def _until_ready(self, channel: Any) -> None:
        while (state := channel.get_state(try_to_connect=True)) is not _READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise LinkError(f"cannot reach {self._target}: {brief(await said_why_not(channel), 400)}")
            await channel.wait_for_state_change(state)


async def said_why_not(channel: Any) -> str:
    """Why a channel cannot connect, in gRPC's own words, as they are. It does not tell, but a call does, at once."""
    try:
        await channel.unary_unary(_HEALTH_CHECK)(b"", timeout=_EXPLAINED)
    except grpc.aio.AioRpcError as error:
        return error.details() or error.code().name
    return "it refused, and then it did not"


async def _feed(call: Any, messages: AsyncGenerator[Any, None]) -> None:
    """Write requests until there are no more, or the peer wants no more. Cancels the call if one is at fault."""
    try:
        async with aclosing(messages):
            async for message in messages:
                if not await _written(call, message):
                    return
        await call.done_writing()
    except BaseException:
        call.cancel()
        raise


async def _written(call: Any, message: Any) -> bool:
    try:
        await call.write(message)
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        return False  # the call has ended: whoever waits for its reply is told how
    return True


def _raise_fault(feeder: asyncio.Task[None] | None) -> None:
    """Raise what the iterator of requests raised, if that is what cancelled the call."""
    if feeder is None or not feeder.done() or feeder.cancelled() or _is_being_cancelled():
        return
    if (fault := feeder.exception()) is not None:
        raise fault


def _is_being_cancelled() -> bool:
    """Whether somebody cancelled the current task, so that a CancelledError in it is that cancellation."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _cut_off(name: str, reason: Exception | None, *, maybe_executed: bool) -> ConnectionLostError:
    fate = "it may have been executed" if maybe_executed else "it was not executed"
    text = f"the link was lost during {shown(name)}, and {fate}: {reason}"
    return ConnectionLostError(text, maybe_executed=maybe_executed)


def _unreadable(found: Method) -> Any:
    # gRPC logs a reply that cannot be parsed, and returns None.
    raise CallError(f"{found.name} was answered, but not with a valid {found.response_class.DESCRIPTOR.full_name}")


def _unknown(service: str) -> bool:
    """What it means that the health service knows nothing of `service`; empty: of the peer as a whole."""
    if service:
        raise NotServingError(
            f"the peer's health service knows no service {service!r}; HealthPolicy(service=...) takes its full name, "
            "or nothing for the peer as a whole"
        )
    return False


def _out_of_time(name: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        details=f"the time was up before {shown(name)} was found",
        debug_error_string=None,
    )


def _status_name(status: int) -> str:
    names: Mapping[int, Any] = health_pb2.HealthCheckResponse.ServingStatus.DESCRIPTOR.values_by_number
    return getattr(names.get(status), "name", str(status))

"""Calls over a channel: what passes, what breaks, and who is told what. Against a real server in this process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.demo.calculator import Calculator
from fsm_conn.links.base import CallOptions
from fsm_conn.links.errors import (
    CallError,
    ConnectionLostError,
    LinkError,
    LinkLostError,
    NotServingError,
    ProbeError,
    RequestError,
)
from fsm_conn.links.grpc import feeding, methods
from fsm_conn.links.grpc.endpoint import EndpointLink

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Odd:
    """A service of methods that behave as a test needs it, over raw bytes; `started` and `ended` tell of one call."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.metadata: dict[str, Any] = {}

    async def _hang(self) -> None:
        self.started.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if not self.ended.done():
                self.ended.set_result("cancelled")
            raise

    async def Hang(self, request: bytes, context: Any) -> bytes:
        await self._hang()
        return b""

    async def Refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(UNAVAILABLE, "Stream removed (Socket closed)")
        return b""

    async def Cancelled(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.CANCELLED, "I give up")
        return b""

    async def Garbage(self, request: bytes, context: Any) -> bytes:
        return b"\xff\xff"

    async def Echo(self, request: bytes, context: Any) -> bytes:
        self.metadata = dict(context.invocation_metadata())
        return request

    async def HangAfterOne(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield b""
        except GeneratorExit:  # who asked was content, and gone, before this was asked for more
            self.ended.set_result("cancelled")
            raise
        await self._hang()

    async def RefuseAfterOne(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b""
        await context.abort(UNAVAILABLE, "enough")

    async def HangOnStream(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        await self._hang()
        return b""

    async def EndEarly(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request
            return

    async def RefuseAtOnce(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you", (("why", "because"),))
        yield b""

    async def RefuseAll(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you", (("why", "because"),))
        return b""

    async def EndAtOnce(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        return
        yield b""

    KINDS = (
        ("Hang", False, False),
        ("Refuse", False, False),
        ("Cancelled", False, False),
        ("Garbage", False, False),
        ("Echo", False, False),
        ("HangAfterOne", False, True),
        ("RefuseAfterOne", False, True),
        ("HangOnStream", True, False),
        ("EndEarly", True, True),
        ("EndAtOnce", True, True),
        ("RefuseAtOnce", True, True),
        ("RefuseAll", True, False),
    )

    @classmethod
    def descriptor(cls) -> Any:
        file = FileDescriptorProto(name="odd.proto", package="odd", syntax="proto3")
        file.message_type.add(name="Message").field.add(name="number", number=1, type=5, label=1)
        service = file.service.add(name="Odd")
        for name, client, server in cls.KINDS:
            types = {"input_type": ".odd.Message", "output_type": ".odd.Message"}
            service.method.add(name=name, client_streaming=client, server_streaming=server, **types)
        pool = DescriptorPool()
        pool.AddSerializedFile(file.SerializeToString())
        return pool.FindServiceByName("odd.Odd")

    def handlers(self) -> Any:
        word = {False: "unary", True: "stream"}
        made = {
            name: getattr(grpc, f"{word[client]}_{word[server]}_rpc_method_handler")(getattr(self, name))
            for name, client, server in self.KINDS
        }
        return grpc.method_handlers_generic_handler("odd.Odd", made)


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc,unused-ignore]
    def __init__(self) -> None:
        self.status: Any = health_pb2.HealthCheckResponse.SERVING
        self.code: grpc.StatusCode | None = None
        self.asked: Callable[[], Any] = lambda: None
        self.words: list[Any] = []
        self.watched: list[str] = []
        self.unwatched = asyncio.Event()
        self.rewatched = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:
        self.asked()
        if self.code is not None:
            await context.abort(self.code, "the details")
        return health_pb2.HealthCheckResponse(status=self.status)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request.service:
            self.watched.append(request.service)
        else:
            self.rewatched.set()
        try:
            for word in self.words:
                yield health_pb2.HealthCheckResponse(status=word)
            await asyncio.get_running_loop().create_future()
        finally:
            self.unwatched.set()


class Peer:
    """A server, and a wire to it that can be cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.odd = Odd()
        self.health = Health()
        self.server = grpc.aio.server()
        self.address = f"unix:{folder}/wire.sock"
        self.connections = 0
        self._ends: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self, *, health: bool = True) -> None:
        generated: Any = calculator_pb2_grpc  # which has no types
        generated.add_CalculatorServicer_to_server(Calculator(), self.server)
        if health:
            health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        names = (calculator_pb2.DESCRIPTOR.services_by_name["Calculator"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.server)
        self.server.add_generic_rpc_handlers((self.odd.handlers(),))
        self.server.add_insecure_port(f"unix:{self.folder}/peer.sock")
        await self.server.start()
        await self.listen()

    async def listen(self) -> None:
        self._wire = await asyncio.start_unix_server(self._connected, self.address.removeprefix("unix:"))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(f"{self.folder}/peer.sock")
        self.connections += 1
        self._ends += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(_pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    def cut(self) -> None:
        """Break the wire, and let nobody connect again: what a host sees of a peer that is killed."""
        self._wire.close()
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def stop(self) -> None:
        self.cut()
        await self.server.stop(0)
        if self._pumps:
            await asyncio.wait(set(self._pumps))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.transport.abort()


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    peer = Peer(tmp_path)
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def link(peer: Peer) -> AsyncIterator[EndpointLink]:
    """An open link; afterwards it is closed, and no task of its own is left."""
    before = asyncio.all_tasks()
    link = EndpointLink(peer.address, services=[Odd.descriptor()])
    await link.open()
    yield link
    await link.close()
    own = [task for task in asyncio.all_tasks() - before if "fsm_conn/links" in repr(task)]
    assert not own


def call(
    link: EndpointLink, method: str, request: Any = None, options: CallOptions | None = None, **fields: Any
) -> Any:
    return link.call(method, request, fields, options)


def stream(link: EndpointLink, method: str, request: Any = None, **fields: Any) -> Any:
    return link.stream(method, request, fields, None)


async def results(replies: AsyncIterator[Any]) -> list[float]:
    return [reply.result async for reply in replies]


async def lost_by(attempt: Awaitable[Any]) -> ConnectionLostError:
    with pytest.raises(ConnectionLostError) as caught:
        await attempt
    return caught.value


# ---- calls -----------------------------------------------------------------------------------------------------------


async def test_all_four_kinds(link: EndpointLink) -> None:
    """One or many requests, one or many replies, over services found by reflection."""
    assert (await call(link, "calculator.Multiply", a=4, b=7)).result == 28
    assert await results(stream(link, "calculator.Count", limit=3)) == [1, 2, 3]
    assert (await call(link, "calculator.Sum", [{"value": 1}, calculator_pb2.Number(value=2)])).result == 3
    assert await results(stream(link, "calculator.Accumulate", [{"value": 1}, {"value": 2}])) == [1, 3]


async def test_requests_may_depend_on_replies(link: EndpointLink) -> None:
    """With streams both ways, a request is sent when it is there, and not when all are."""
    answers: asyncio.Queue[float] = asyncio.Queue()

    async def questions() -> AsyncIterator[dict[str, float]]:
        yield {"value": 1}
        for _ in range(3):
            yield {"value": await answers.get()}

    seen = []
    async for reply in stream(link, "calculator.Accumulate", questions()):
        seen.append(reply.result)
        answers.put_nowait(reply.result)
    assert seen == [1, 2, 4, 8]


@pytest.mark.parametrize("name", ["calculator.Count", "calculator.Accumulate"])
async def test_call_refuses_what_answers_with_a_stream(link: EndpointLink, name: str) -> None:
    """And says which call to make instead."""
    with pytest.raises(RequestError, match=r"use stream\(\), or in async code 'async for' by attribute"):
        await call(link, name)


@pytest.mark.parametrize("name", ["calculator.Add", "calculator.Sum"])
async def test_stream_refuses_what_answers_once(link: EndpointLink, name: str) -> None:
    """And says which call to make instead."""
    with pytest.raises(RequestError, match=r"use call\(\), or in async code 'await' by attribute"):
        await results(stream(link, name))


async def test_fields_for_a_stream_of_requests_are_refused(link: EndpointLink) -> None:
    """The error asks for an iterable, and comes at once, not when the peer has waited long enough."""
    with pytest.raises(RequestError, match="pass an iterable"):
        await call(link, "calculator.Sum", value=1)
    with pytest.raises(RequestError, match="pass an iterable"):
        await results(stream(link, "calculator.Accumulate", value=1))


async def test_metadata_is_sent(link: EndpointLink, peer: Peer) -> None:
    """What the options say arrives with the call."""
    await call(link, "odd.Echo", None, CallOptions(metadata={"token": "x"}), number=1)
    assert peer.odd.metadata["token"] == "x"


async def test_a_deadline_is_the_peers_to_miss(link: EndpointLink, peer: Peer) -> None:
    """A call that takes longer than its timeout ends in DEADLINE_EXCEEDED, and the link lives."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(link, "odd.Hang", None, CallOptions(timeout=0.01))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await call(link, "calculator.Add", a=1, b=2)).result == 3


async def test_a_deadline_covers_the_lookup(tmp_path: Path) -> None:
    """A peer that never says what it offers does not hold a call longer than its timeout."""

    async def silent(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for _ in requests:
            await asyncio.get_running_loop().create_future()
        yield b""

    server = grpc.aio.server()
    handlers = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(silent)}
    name = "grpc.reflection.v1alpha.ServerReflection"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    link = EndpointLink(f"unix:{tmp_path}/s")
    await link.open()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(link, "calculator.Add", None, CallOptions(timeout=0.01), a=1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await link.close()
    await server.stop(0)


async def test_what_is_left_of_the_deadline_is_the_calls(link: EndpointLink) -> None:
    """A first call with a timeout, lookup included, is an ordinary call."""
    assert (await call(link, "calculator.Add", None, CallOptions(timeout=200), a=1, b=2)).result == 3


async def test_a_reply_that_cannot_be_read_is_an_error(link: EndpointLink) -> None:
    """Where gRPC would return None, the caller is told."""
    with pytest.raises(CallError, match=r"not with a valid odd\.Message"):
        await call(link, "odd.Garbage")


# ---- what the peer itself says ---------------------------------------------------------------------------------------


async def test_an_application_error_passes(link: EndpointLink) -> None:
    """As the error it is."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(link, "calculator.Divide", a=1, b=0)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "division by zero")


@pytest.mark.parametrize("name", ["odd.Refuse", "odd.Cancelled"])
@pytest.mark.parametrize("code", [None, UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED])
async def test_an_application_may_say_unavailable(
    link: EndpointLink, peer: Peer, name: str, code: grpc.StatusCode | None
) -> None:
    """Even in the words of a broken connection, and even when its health check fails too: the link is not lost."""
    peer.health.code = code
    with pytest.raises(grpc.aio.AioRpcError):
        await call(link, name)
    assert (await call(link, "calculator.Add", a=1, b=2)).result == 3


async def test_a_stream_may_end_in_an_application_error(link: EndpointLink) -> None:
    """After what it had sent, and as the error it is."""
    replies = stream(link, "odd.RefuseAfterOne")
    await anext(replies)
    with pytest.raises(grpc.aio.AioRpcError, match="enough"):
        await anext(replies)


# ---- loss ------------------------------------------------------------------------------------------------------------


async def test_a_call_in_flight_is_told_of_the_loss(link: EndpointLink, peer: Peer) -> None:
    """The wire is cut: it may have been executed. From then on the link is lost, for calls and for whoever waits."""
    pending = asyncio.create_task(call(link, "odd.Hang"))
    await peer.odd.started.wait()
    peer.cut()
    assert (await lost_by(pending)).maybe_executed
    reason = await link.lost()
    assert isinstance(reason, LinkLostError)
    assert await link.lost() is reason


async def test_many_calls_in_flight_are_all_told(link: EndpointLink, peer: Peer) -> None:
    """No call that broke with the connection is reported as an answer of the peer."""
    await call(link, "calculator.Add", a=1, b=1)

    async def hammer() -> None:
        while True:
            await call(link, "calculator.Add", a=1, b=1)

    tasks = [asyncio.create_task(call(link, "odd.Hang")) for _ in range(20)]
    tasks += [asyncio.create_task(hammer()) for _ in range(20)]
    await peer.odd.started.wait()
    peer.cut()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ends} == {ConnectionLostError}


async def test_a_call_may_fail_before_the_channel_knows(link: EndpointLink, peer: Peer) -> None:
    """A call that fails while the channel still seems ready is a loss when the question after it finds nobody."""
    peer.health.asked = peer.cut
    assert (await lost_by(call(link, "odd.Refuse"))).maybe_executed


@pytest.mark.parametrize("refuses", [False, True])
async def test_calls_that_fail_make_no_storm_of_questions(link: EndpointLink, peer: Peer, refuses: bool) -> None:
    """However many calls the peer answers with UNAVAILABLE, and even if it answers the question so: it is asked little."""
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1

    peer.health.asked = ask
    peer.health.code = UNAVAILABLE if refuses else None
    for _ in range(5):
        ends = await asyncio.gather(*(call(link, "odd.Refuse") for _ in range(4)), return_exceptions=True)
        assert {type(end) for end in ends} == {grpc.aio.AioRpcError}
    assert asked <= 6
    assert (await call(link, "calculator.Add", a=1, b=2)).result == 3


async def test_a_stream_in_flight_is_told_of_the_loss(link: EndpointLink, peer: Peer) -> None:
    """After the replies that had arrived."""
    replies = stream(link, "odd.HangAfterOne")
    await anext(replies)
    peer.cut()
    assert (await lost_by(anext(replies))).maybe_executed


@pytest.mark.parametrize("name", ["odd.Hang", "odd.HangOnStream"])
async def test_a_server_that_stops_is_a_loss(link: EndpointLink, peer: Peer, name: str) -> None:
    """Although it says so in a status of its own."""
    pending = asyncio.create_task(call(link, name, None if name == "odd.Hang" else []))
    await peer.odd.started.wait()
    await peer.server.stop(0)
    assert (await lost_by(pending)).maybe_executed


async def test_nothing_is_sent_over_a_lost_link(link: EndpointLink, peer: Peer) -> None:
    """Even when the peer could be reached again: calls fail, and provably were not executed."""
    await call(link, "calculator.Add", a=1, b=2)
    pending = asyncio.create_task(call(link, "odd.Hang"))
    await peer.odd.started.wait()
    peer.cut()
    await lost_by(pending)
    await peer.listen()
    for attempt in (
        call(link, "calculator.Add", a=1, b=2),
        call(link, "calculator.Subtract", a=1, b=2),
        results(stream(link, "calculator.Count", limit=1)),
    ):
        assert not (await lost_by(attempt)).maybe_executed
    assert peer.connections == 1


async def test_a_lookup_that_breaks_sent_nothing_however_grpc_words_it(link: Any, peer: Peer) -> None:
    """A question that is being written when the connection breaks fails with an INTERNAL of gRPC's own."""
    nothing = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, details="Internal error from Core")
    assert isinstance(await link._calls._lookup_error("x.Y", error), CallError)
    peer.cut()
    lost = await link._calls._lookup_error("x.Y", error)
    assert isinstance(lost, ConnectionLostError)
    assert not lost.maybe_executed


async def test_a_lookup_that_breaks_sent_nothing(link: EndpointLink, peer: Peer) -> None:
    """The connection breaks while the method is looked up: the call itself never left."""
    pending = asyncio.create_task(call(link, "calculator.Add", a=1, b=2))
    await asyncio.sleep(0)
    peer.cut()
    assert not (await lost_by(pending)).maybe_executed


async def test_what_never_connected_was_not_executed(link: Any, peer: Peer) -> None:
    """The word of gRPC that it could not connect is proof, once the link is lost; of any other failure it is none."""
    peer.cut()
    await link.lost()
    for details, maybe_executed in (("failed to connect to all addresses; last error: x", False), ("gone", True)):
        nothing = grpc.aio.Metadata()
        error = grpc.aio.AioRpcError(UNAVAILABLE, nothing, nothing, details=details, debug_error_string="")
        with pytest.raises(ConnectionLostError) as caught:
            await link._calls._raise_if_lost("x.Y", error)
        assert caught.value.maybe_executed is maybe_executed


# ---- closing and cancelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["odd.Hang", "odd.HangOnStream"])
async def test_closing_fails_calls_in_flight(link: EndpointLink, peer: Peer, name: str) -> None:
    """With an error that says so, and no CancelledError for a task that nobody cancelled."""
    pending = asyncio.create_task(call(link, name, None if name == "odd.Hang" else []))
    await peer.odd.started.wait()
    await link.close()
    assert (await lost_by(pending)).maybe_executed


async def test_closing_fails_streams_in_flight(link: EndpointLink, peer: Peer) -> None:
    """The one that iterates is told that the link was closed."""
    replies = stream(link, "odd.HangAfterOne")
    await anext(replies)
    await link.close()
    assert "closed" in str(await lost_by(anext(replies)))


async def test_condemning_tells_calls_in_flight_why(link: EndpointLink, peer: Peer) -> None:
    """Not that somebody closed the link, but that the peer did not answer. Nothing is sent any more."""
    pending = asyncio.create_task(call(link, "odd.Hang"))
    replies = stream(link, "odd.HangAfterOne")
    await anext(replies)
    await peer.odd.started.wait()
    link.mark_unresponsive()
    assert not (await lost_by(call(link, "calculator.Add", a=1, b=2))).maybe_executed
    await link.close()
    for attempt in (pending, anext(replies)):
        assert "did not answer any more" in str(await lost_by(attempt))


async def test_closing_fails_lookups_and_probes_in_flight(link: EndpointLink) -> None:
    """A call that had not begun was not sent; a probe failed."""
    looking, probing = asyncio.create_task(call(link, "calculator.Add")), asyncio.create_task(link.probe())
    await asyncio.sleep(0)
    await link.close()
    assert not (await lost_by(looking)).maybe_executed
    with pytest.raises(ProbeError):
        await probing


async def test_closing_ends_the_wait_for_a_loss(link: EndpointLink) -> None:
    """Nobody waits for ever for the loss of a link that is gone."""
    waiting = asyncio.create_task(link.lost())
    await asyncio.sleep(0)
    await link.close()
    assert "closed" in str(await waiting)


async def test_a_cancelled_close_has_done_its_work(link: EndpointLink, peer: Peer) -> None:
    """Cancelled at its first wait, it has closed the channel already."""
    channel = link.channel
    closing = asyncio.create_task(link.close())
    await asyncio.sleep(0)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_cancelling_a_caller_cancels_the_call(link: EndpointLink, peer: Peer) -> None:
    """The caller gets its CancelledError, and the peer hears of it."""
    pending = asyncio.create_task(call(link, "odd.Hang"))
    await peer.odd.started.wait()
    pending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pending
    assert await peer.odd.ended == "cancelled"


async def test_a_timeout_around_a_call_is_a_timeout(link: EndpointLink, peer: Peer) -> None:
    """`asyncio.timeout` works on a call as on anything else."""

    async def expire() -> None:
        await peer.odd.started.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            expiring = asyncio.create_task(expire())
            await call(link, "odd.Hang")
    await expiring
    assert await peer.odd.ended == "cancelled"


async def test_a_cancel_that_meets_a_close_is_a_cancel(link: EndpointLink, peer: Peer) -> None:
    """Both at once: the caller was cancelled, and must see it."""
    pending = asyncio.create_task(call(link, "odd.Hang"))
    await peer.odd.started.wait()
    pending.cancel()
    await link.close()
    with pytest.raises(asyncio.CancelledError):
        await pending


async def test_leaving_a_stream_cancels_the_call(link: EndpointLink, peer: Peer) -> None:
    """Who stops listening stops the peer."""
    async with contextlib.aclosing(stream(link, "odd.HangAfterOne")) as replies:
        await anext(replies)
    assert await peer.odd.ended == "cancelled"


async def test_dropping_a_stream_cancels_the_call(link: EndpointLink, peer: Peer) -> None:
    """`break` is enough."""
    async for _ in stream(link, "odd.HangAfterOne"):
        break
    assert await peer.odd.ended == "cancelled"


# ---- streams of requests that go wrong -------------------------------------------------------------------------------


async def failing_requests() -> AsyncIterator[dict[str, int]]:
    yield {"number": 1}
    raise LookupError("mine")


@pytest.mark.parametrize("requests", [failing_requests, lambda: [{"number": 1}, {"number": "x"}]])
async def test_a_fault_in_the_requests_reaches_the_caller(
    link: EndpointLink, peer: Peer, requests: Callable[[], Any]
) -> None:
    """What the iterator raises, and what is wrong with an item, is raised by the call; the peer's side is cancelled."""
    with pytest.raises((LookupError, RequestError)):
        await call(link, "odd.HangOnStream", requests())
    with pytest.raises((LookupError, RequestError)):
        await results(stream(link, "calculator.Accumulate", failing_requests()))


async def test_a_peer_may_end_before_the_requests_do(link: EndpointLink) -> None:
    """What it answered arrives, and nothing goes on waiting for the next request."""
    released: list[str] = []

    async def endless() -> AsyncIterator[dict[str, int]]:
        try:
            yield {"number": 7}
            await asyncio.get_running_loop().create_future()
        finally:
            released.append("requests")

    assert [reply.number async for reply in stream(link, "odd.EndEarly", endless())] == [7]
    assert released == ["requests"]


async def test_a_peer_that_refuses_while_requests_are_written_is_heard(link: EndpointLink) -> None:
    """Its own words arrive, not those that gRPC has for a request that could not be written any more."""
    many = [{"number": number} for number in range(20)]
    for _ in range(20):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await results(stream(link, "odd.RefuseAtOnce", many))
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, "not you")
        assert ("why", "because") in list(caught.value.trailing_metadata())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(link, "odd.RefuseAll", many)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await results(stream(link, "odd.EndAtOnce", many)) == []


async def test_a_caller_cancelled_while_it_feeds_leaves_nothing(link: EndpointLink, peer: Peer) -> None:
    """The requests are released with the caller."""
    released: list[str] = []

    async def endless() -> AsyncIterator[dict[str, int]]:
        try:
            yield {"number": 7}
            await asyncio.get_running_loop().create_future()
        finally:
            released.append("requests")

    pending = asyncio.create_task(call(link, "odd.HangOnStream", endless()))
    await peer.odd.started.wait()
    pending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pending
    assert await peer.odd.ended == "cancelled"
    assert released == ["requests"]


async def test_a_caller_cancelled_while_a_request_is_written_leaves_nothing(link: EndpointLink, peer: Peer) -> None:
    """The requests are released before the caller goes on, although nobody waits for the next one."""
    released: list[str] = []

    async def endless() -> AsyncIterator[dict[str, int]]:
        try:
            while True:
                yield {"number": 7}
        finally:
            released.append("requests")

    pending = asyncio.create_task(call(link, "odd.HangOnStream", endless()))
    await peer.odd.started.wait()
    pending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pending
    assert released == ["requests"]


@pytest.mark.parametrize("end", ["refused", "answered early", "lost"])
async def test_requests_may_take_a_while_to_put_their_things_away(link: EndpointLink, peer: Peer, end: str) -> None:
    """Nothing interrupts them meanwhile, and the call ends after them."""
    ended: list[str] = []

    async def careful() -> AsyncIterator[dict[str, int]]:
        try:
            while True:
                yield {"number": 7}
        finally:
            try:
                for _ in range(5):
                    await asyncio.sleep(0)
                ended.append("in good order")
            except asyncio.CancelledError:
                ended.append("interrupted")

    if end == "refused":
        with pytest.raises(grpc.aio.AioRpcError):
            await call(link, "odd.RefuseAll", careful())
    elif end == "answered early":
        assert [reply.number async for reply in stream(link, "odd.EndEarly", careful())] == [7]
    else:
        pending = asyncio.create_task(call(link, "odd.HangOnStream", careful()))
        await peer.odd.started.wait()
        peer.cut()
        assert (await lost_by(pending)).maybe_executed
    assert ended == ["in good order"]


async def test_requests_that_do_not_close_in_time_are_interrupted(
    link: EndpointLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They keep no caller."""
    monkeypatch.setattr(feeding, "CLOSING", 0.01)
    ended: list[str] = []

    async def stubborn() -> AsyncIterator[dict[str, int]]:
        try:
            while True:
                yield {"number": 7}
        finally:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append("interrupted")

    with pytest.raises(grpc.aio.AioRpcError):
        await call(link, "odd.RefuseAll", stubborn())
    assert ended == ["interrupted"]


async def test_an_iterable_of_requests_that_blocks_the_loop_is_told_of(
    link: EndpointLink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each call, with the method's name; one that does not is not."""

    def slow() -> Any:
        for value in (1, 2, 3):
            time.sleep(0.15)
            yield {"value": value}

    assert (await call(link, "calculator.Sum", slow())).result == 6
    monkeypatch.setattr(methods, "BLOCKED", 1e6)  # on a busy machine anything may take a while
    assert (await call(link, "calculator.Sum", [{"value": 1}])).result == 1
    (line,) = [record.getMessage() for record in caplog.records if "blocked the event loop" in record.getMessage()]
    assert line.startswith("calculator.Calculator.Sum: its iterable of requests blocked the event loop for 0.")


# ---- health ----------------------------------------------------------------------------------------------------------


async def test_a_probe_of_a_peer_that_is_well(link: EndpointLink) -> None:
    """Returns."""
    await link.probe()


REFUSALS = ["UNIMPLEMENTED", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "INTERNAL"]


@pytest.mark.parametrize("code", [grpc.StatusCode[name] for name in REFUSALS])
async def test_a_peer_that_cannot_tell_is_taken_to_be_well(
    link: EndpointLink, peer: Peer, code: grpc.StatusCode
) -> None:
    """No health service, none that speaks for the whole, or none that speaks to us: an answer is a sign of life."""
    peer.health.code = code
    assert await link.probe() is False


async def test_a_service_that_the_peer_does_not_know_is_not_served(link: EndpointLink, peer: Peer) -> None:
    """A misspelt name must not pass for a peer without a health service."""
    peer.health.code = grpc.StatusCode.NOT_FOUND
    with pytest.raises(NotServingError, match=r"knows no service 'calcluator'; HealthPolicy\(service=...\) takes"):
        await link.probe("calcluator")


async def test_a_peer_without_health_service_is_taken_to_be_well(tmp_path: Path) -> None:
    """Most plugins have none."""
    peer = Peer(tmp_path)
    await peer.start(health=False)
    link = EndpointLink(peer.address)
    await link.open()
    assert await link.probe() is False
    assert [word async for word in link.watch()] == []
    await link.close()
    await peer.stop()


async def test_a_probe_of_a_peer_that_is_not_well(link: EndpointLink, peer: Peer) -> None:
    """Says what the peer said."""
    peer.health.status = health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(ProbeError, match="NOT_SERVING"):
        await link.probe()


async def test_the_peer_s_own_word_on_its_health(link: EndpointLink, peer: Peer) -> None:
    """A watch tells how the peer is, now and at each change, and ends with the link; the peer sees it cancelled."""
    watch: Any = link.watch("calculator")
    peer.health.words = [0, 3, 1, 2]  # unknown, unknown service, serving, not serving
    assert [await anext(watch) for _ in range(4)] == [False, False, True, False]
    await watch.aclose()
    await asyncio.wait_for(peer.health.unwatched.wait(), 200)
    assert peer.health.watched == ["calculator"]
    peer.health.words = []
    watch = link.watch()
    pending = asyncio.ensure_future(anext(watch, "the end"))
    await asyncio.wait_for(peer.health.rewatched.wait(), 200)
    peer.cut()
    assert await pending == "the end"
    assert [word async for word in link.watch()] == []


async def test_a_watch_of_a_peer_that_cannot_speak_for_the_whole(link: EndpointLink, peer: Peer) -> None:
    """That it does not know says nothing; the next word does."""
    peer.health.words = [3, 1]
    watch: Any = link.watch()
    assert await anext(watch) is True
    await watch.aclose()


async def test_closing_ends_a_watch(link: EndpointLink, peer: Peer) -> None:
    """Its reader is not cancelled for that."""
    watch: Any = link.watch()
    pending = asyncio.ensure_future(anext(watch, "the end"))
    await asyncio.wait_for(peer.health.rewatched.wait(), 200)
    await link.close()
    assert await pending == "the end"


async def test_a_probe_of_a_lost_link(link: EndpointLink, peer: Peer) -> None:
    """Fails at once."""
    peer.cut()
    await link.lost()
    with pytest.raises(ProbeError):
        await link.probe()


# ---- opening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["unix:{}/nobody.sock", "127.0.0.1:1", "no.such.host.invalid:1"])
async def test_an_endpoint_that_is_not_there(tmp_path: Path, target: str) -> None:
    """One attempt is made, and fails with the address and gRPC's reason."""
    target = target.format(tmp_path)
    with pytest.raises(LinkError) as caught:
        await EndpointLink(target).open()
    assert str(caught.value).startswith(f"cannot reach {target}: ")


async def test_an_open_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """Cancelled while a peer that says nothing is waited for: the socket is closed, and no task is left."""
    accepted, hung_up = asyncio.Event(), asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        hung_up.set()
        writer.close()

    server = await asyncio.start_unix_server(mute, f"{tmp_path}/mute.sock")
    before = asyncio.all_tasks()
    link = EndpointLink(f"unix:{tmp_path}/mute.sock", options=[("grpc.min_reconnect_backoff_ms", 100)])
    opening = asyncio.create_task(link.open())
    await accepted.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await hung_up.wait()
    server.close()
    assert not [task for task in asyncio.all_tasks() - before if "fsm_conn/links" in repr(task)]


async def test_each_link_has_a_connection_of_its_own(link: EndpointLink, peer: Peer) -> None:
    """Two links to one address share nothing, so that one can be lost or closed without the other."""
    other = EndpointLink(peer.address)
    await other.open()
    assert peer.connections == 2
    await other.close()
    assert (await call(link, "calculator.Add", a=1, b=2)).result == 3


async def test_a_link_that_is_not_open_says_so() -> None:
    """Before open, and after close."""
    link = EndpointLink("unix:/nowhere")
    assert not (await lost_by(call(link, "calculator.Add", a=1))).maybe_executed
    with pytest.raises(LinkLostError, match="not open"):
        _ = link.channel


async def test_wrong_services_are_refused_when_the_link_is_made() -> None:
    """Not at the first call."""
    with pytest.raises(TypeError, match="services="):
        EndpointLink("unix:/nowhere", services="calculator")

"""What a peer can make its host hold, over a channel: each thing that it sends has a bound. Against a real server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from harmless import assert_harmless
from pyvider.rpcplugin.protocol.grpc_stdio_pb2 import StdioData

from fsm_conn._util.redact import Redactor
from fsm_conn.links import checking
from fsm_conn.links.errors import CallError, NotServingError
from fsm_conn.links.grpc.channel import bounds_of_our_own
from fsm_conn.links.grpc.endpoint import EndpointLink, channel_options
from fsm_conn.links.plugin import stdio
from fsm_conn.links.plugin.dialing import Dialler
from fsm_conn.links.plugin.stdio import read_stdio
from fsm_conn.links.process.output import CHUNK, LineLog
from fsm_conn.links.target import Endpoint
from fsm_conn.telemetry.reading import error_text

MEGABYTE = 1024 * 1024
LARGEST_MESSAGE = 4 * MEGABYTE
"""gRPC's own default, which endpoints have, and which holds for what nobody has asked for everywhere."""
LARGEST_METADATA = 64 * 1024
"""gRPC's own default is 16 KiB of headers."""
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
HEALTH = "grpc.health.v1.Health"


class Glutton:
    """A peer that answers everything with as much as it is told to."""

    def __init__(self) -> None:
        self.size = 0
        self.details = ""
        self.trailing: tuple[tuple[str, str], ...] = ()
        self.sent = 0

    async def once(self, request: bytes, context: Any) -> bytes:
        if self.details or self.trailing:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.details, self.trailing)
        return b"\x0a" + varint(self.size) + b"x" * self.size

    async def without_end(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield await self.once(b"", context)
            self.sent += 1

    def handlers(self) -> list[Any]:
        once = grpc.unary_unary_rpc_method_handler(self.once)
        without_end = grpc.unary_stream_rpc_method_handler(self.without_end)
        both = grpc.stream_stream_rpc_method_handler(self.without_end)
        return [
            grpc.method_handlers_generic_handler("g.G", {"Once": once, "WithoutEnd": without_end}),
            grpc.method_handlers_generic_handler(HEALTH, {"Check": once, "Watch": without_end}),
            grpc.method_handlers_generic_handler(REFLECTION, {"ServerReflectionInfo": both}),
            grpc.method_handlers_generic_handler("plugin.GRPCStdio", {"StreamStdio": without_end}),
            grpc.method_handlers_generic_handler("plugin.GRPCBroker", {"StartStream": both}),
        ]


def varint(number: int) -> bytes:
    parts = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        parts.append(low | (0x80 if number else 0))
        if not number:
            return bytes(parts)


def declared() -> Any:
    file = FileDescriptorProto(name="g.proto", package="g", syntax="proto3")
    file.message_type.add(name="M").field.add(name="b", number=1, type=12, label=1)
    service = file.service.add(name="G")
    service.method.add(name="Once", input_type=".g.M", output_type=".g.M")
    service.method.add(name="WithoutEnd", input_type=".g.M", output_type=".g.M", server_streaming=True)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("g.G")


@pytest.fixture
async def glutton(tmp_path: Path) -> AsyncIterator[Glutton]:
    peer, server = Glutton(), grpc.aio.server()
    server.add_generic_rpc_handlers(tuple(peer.handlers()))
    server.add_insecure_port(f"unix:{tmp_path}/g.sock")
    await server.start()
    yield peer
    await server.stop(0)


@pytest.fixture
async def link(glutton: Glutton, tmp_path: Path) -> AsyncIterator[EndpointLink]:
    link = EndpointLink(f"unix:{tmp_path}/g.sock", services=[declared()])
    await link.open()
    yield link
    await link.close()


async def test_a_reply_has_a_largest_size(glutton: Glutton, link: EndpointLink) -> None:
    """What is larger is refused, and the link goes on."""
    glutton.size = LARGEST_MESSAGE - 100
    assert len((await link.call("g.G.Once", None, {}, None)).b) == glutton.size
    glutton.size = LARGEST_MESSAGE + 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await link.call("g.G.Once", None, {}, None)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.aio.AioRpcError, match="RESOURCE_EXHAUSTED"):
        async for _ in link.stream("g.G.WithoutEnd", None, {}, None):
            pytest.fail("it was too large")
    glutton.size = 1
    assert (await link.call("g.G.Once", None, {}, None)).b == b"x"


async def test_so_has_an_answer_about_health(glutton: Glutton, link: EndpointLink) -> None:
    """A probe whose answer is too large tells nothing; one that says something else than it should has failed."""
    glutton.size = LARGEST_MESSAGE + 1
    assert await link.probe() is False
    glutton.size = 1000
    with pytest.raises(NotServingError, match="UNKNOWN"):
        await link.probe()


UNASKED = (f"{HEALTH}/Check", f"{HEALTH}/Watch", f"{REFLECTION}/ServerReflectionInfo")
UNASKED += ("plugin.GRPCStdio/StreamStdio", "plugin.GRPCBroker/StartStream")


@pytest.mark.parametrize("config", [{}, {"methodConfig": [{"name": [{"service": "g.G"}], "timeout": "60s"}]}])
@pytest.mark.parametrize("path", UNASKED)
async def test_so_has_what_nobody_has_asked_for(
    glutton: Glutton, tmp_path: Path, path: str, config: dict[str, Any]
) -> None:
    """Also where replies may be as large as gRPC lets them, as those of plugins may: of any service of its own."""
    given = (("grpc.service_config", json.dumps(config)),) if config else ()
    dialler, server = Dialler(max_message=checking.LARGEST_MESSAGE, options=given), f"unix:{tmp_path}/g.sock"
    endpoint = Endpoint(server, max_message=checking.LARGEST_MESSAGE, options=given)
    glutton.size = LARGEST_MESSAGE + 1
    for options in (dialler.channel_options(), channel_options(endpoint)):
        async with grpc.aio.insecure_channel(server, options=options) as channel:
            replies = channel.unary_stream(f"/{path}")(b"", timeout=60)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await replies.read()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert len(await channel.unary_unary("/g.G/Once")(b"", timeout=60)) > glutton.size


@pytest.mark.parametrize(
    "config", ["", "{", "[]", "[" * 5000, '{"methodConfig": 5}', '{"methodConfig": [5]}', 7, b"\xff"]
)
def test_a_service_config_that_is_none_is_left_to_grpc(config: Any) -> None:
    """It has its own words for it."""
    assert bounds_of_our_own([("grpc.service_config", config)]) == {}


async def test_so_has_an_answer_about_services(glutton: Glutton, link: EndpointLink) -> None:
    """A name is looked up in vain."""
    for size in (LARGEST_MESSAGE + 1, LARGEST_MESSAGE - 100, 1000):
        glutton.size = size
        with pytest.raises(CallError) as caught:
            await link.call("x.Y.Do", None, {}, None)
        assert_harmless(caught.value)


@pytest.mark.parametrize("size", [1000, 7000, 100_000, 3_000_000])
async def test_what_a_peer_says_of_an_error(glutton: Glutton, link: EndpointLink, size: int) -> None:
    """The details of a status are headers, which gRPC bounds; in an error of ours stands their beginning."""
    glutton.details = "\x1b[2J\r\n\u202e" + "d" * size
    assert await link.probe() is False
    with pytest.raises(CallError) as unknown:
        await link.call("x.Y.Do", None, {}, None)
    assert_harmless(unknown.value)
    assert len(str(unknown.value)) < 400
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await link.call("g.G.Once", None, {}, None)
    assert len(told.value.details() or "") < LARGEST_METADATA
    assert "\x1b" not in error_text(told.value)


async def test_metadata_behind_an_answer(glutton: Glutton, link: EndpointLink) -> None:
    """So is trailing metadata."""
    for size in (100, 10_000, 3_000_000):
        glutton.trailing = (("k", "v" * size),)
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await link.call("g.G.Once", None, {}, None)
        assert sum(len(value) for _, value in told.value.trailing_metadata() or ()) < LARGEST_METADATA


async def test_a_stream_that_nobody_reads_is_held_back(glutton: Glutton, link: EndpointLink) -> None:
    """Flow control: a peer that sends without end is stopped after some megabytes, and goes on when they are read."""
    glutton.size = MEGABYTE
    replies = link.stream("g.G.WithoutEnd", None, {}, None)
    assert len((await anext(aiter(replies))).b) == MEGABYTE
    held_back = await _comes_to_a_stop(glutton)
    assert held_back < 40
    for _ in range(held_back + 5):
        await anext(aiter(replies))
    assert glutton.sent > held_back
    await replies.aclose()  # type: ignore[attr-defined]


async def test_a_flood_of_news_about_health_is_held_back(glutton: Glutton, link: EndpointLink) -> None:
    """As any stream; each word by itself is small, whatever it came in."""
    glutton.size = MEGABYTE
    words = link.watch()
    assert await anext(words) is False
    assert await _comes_to_a_stop(glutton) < 40
    await words.aclose()  # type: ignore[attr-defined]


async def _comes_to_a_stop(glutton: Glutton) -> int:
    """How many answers had been sent when no more were, for a while."""
    before = -1
    while before != glutton.sent:
        before = glutton.sent
        await asyncio.sleep(0.3)
    return before


async def test_what_a_plugin_prints_over_its_channel_may_be_unreadable() -> None:
    """The channel hands out None for what it cannot parse: that is passed over, and what follows is read."""
    fed: list[bytes] = []

    class Log:
        @staticmethod
        async def feed_in_turns(data: bytes) -> None:
            fed.append(data)

        @staticmethod
        def end() -> None:
            fed.append(b"end")

    class Stub:
        @staticmethod
        async def StreamStdio(request: Any, wait_for_ready: bool) -> AsyncIterator[Any]:
            for data in (None, StdioData(channel=StdioData.STDERR, data=b"x"), StdioData(channel=77, data=b"y")):
                yield data

    await read_stdio(Stub(), lambda stream: Log() if stream == "stderr" else LineLog(Redactor(), float, {}))  # type: ignore[arg-type,return-value]
    assert fed == [b"x", b"end"]


async def test_what_a_plugin_prints_is_read_on_when_its_connection_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream that was cut off is asked for again, and waits for the next connection; any other end is the last."""
    monkeypatch.setattr(stdio, "PAUSE", 0)
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED]
    asked: list[bool] = []
    fed: list[bytes] = []

    class Log(LineLog):
        def feed(self, data: bytes) -> None:
            fed.append(data)

    class Stub:
        @staticmethod
        async def StreamStdio(request: Any, wait_for_ready: bool) -> AsyncIterator[Any]:
            asked.append(wait_for_ready)
            yield StdioData(channel=StdioData.STDOUT, data=b"%d" % len(asked))
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(codes.pop(0), nothing, nothing)

    await read_stdio(Stub(), lambda stream: Log(Redactor(), lambda: 0.0, {}))
    assert (fed, asked) == ([b"1", b"2", b"3"], [True] * 3)


async def test_what_a_plugin_prints_over_its_channel_takes_a_chunk_a_turn(caplog: pytest.LogCaptureFixture) -> None:
    """However large its messages are: between two chunks the loop has a turn; and all of it arrives."""
    caplog.set_level(logging.INFO, "fsm_conn.plugin")
    turns, fed = 0, []

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Log(LineLog):
        def feed(self, data: bytes) -> None:
            fed.append((turns, len(data)))
            super().feed(data)

    class Stub:
        @staticmethod
        async def StreamStdio(request: Any, wait_for_ready: bool) -> AsyncIterator[Any]:
            for data in (b"x" * 4_000_000, b"\n" * 4_000_000, b"yes\n" * 1_000_000):
                yield StdioData(channel=StdioData.STDOUT, data=data)

    counting = asyncio.ensure_future(count_turns())
    await read_stdio(Stub(), lambda stream: Log(Redactor(["s3cret"]), lambda: 0.0, {}))
    counting.cancel()
    assert max(size for _, size in fed) <= CHUNK
    assert len({turn for turn, _ in fed}) == len(fed)
    assert sum(size for _, size in fed) == 12_000_000
    assert any("lines left out" in message for message in caplog.messages)

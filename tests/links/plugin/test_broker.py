"""The host's broker against what a plugin may say: offers that are false, many, late or none, and TLS that is not its own.

The plugin is a server in this process; `tests/real` has real ones.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import grpc
import grpc.aio
import pytest
from http2 import most_streams
from pyvider.rpcplugin.protocol.grpc_broker_pb2 import ConnInfo
from pyvider.rpcplugin.protocol.grpc_broker_pb2_grpc import GRPCBrokerServicer, add_GRPCBrokerServicer_to_server

from fsm_conn.links.errors import BrokerError, LinkLostError
from fsm_conn.links.grpc.connectivity import Connectivity
from fsm_conn.links.grpc.endpoint import EndpointLink
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.plugin import broker as room
from fsm_conn.links.plugin.broker import PluginBroker
from fsm_conn.links.plugin.certificates import make_certificate
from fsm_conn.links.plugin.dialing import Dialler
from fsm_conn.links.plugin.served import LARGEST_REQUEST, MOST_CALLS, Identity, Served, identity_of
from fsm_conn.links.plugin.tls_door import MOST, Shown, TlsDoor
from fsm_conn.links.plugin.tls_relay import Credentials
from fsm_conn.links.target import Tls

from ..grpc.server import turning_away
from .test_tls_relay import identity

PATIENT = 200.0
NEVER = 0.05
add_broker: Any = add_GRPCBrokerServicer_to_server


class Scripted(GRPCBrokerServicer):
    """The plugin's side: it sends what it is told to, and keeps what it is sent."""

    def __init__(self) -> None:
        self.sending: asyncio.Queue[ConnInfo | None] = asyncio.Queue()
        self.heard: list[ConnInfo] = []
        self.streams = 0

    async def StartStream(self, request_iterator: AsyncIterator[ConnInfo], context: Any) -> AsyncIterator[ConnInfo]:
        self.streams += 1
        listening = asyncio.create_task(self._listen(request_iterator))
        try:
            while (info := await self.sending.get()) is not None:
                yield info
        finally:
            listening.cancel()

    async def _listen(self, requests: AsyncIterator[ConnInfo]) -> None:
        with suppress(grpc.aio.UsageError):
            async for info in requests:
                self.heard.append(info)

    def offer(self, number: int, address: str, network: str = "unix") -> None:
        self.sending.put_nowait(ConnInfo(service_id=number, network=network, address=address))


@pytest.fixture
def private() -> Iterator[Path]:
    """A directory with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="b-") as directory:
        yield Path(directory)


@attrs.frozen
class Scene:
    plugin: Scripted
    broker: PluginBroker
    loss: Loss
    directory: Path


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """A broker, and the plugin that it speaks to."""
    plugin = Scripted()
    server = grpc.aio.server()
    add_broker(plugin, server)
    path = directory / "main.sock"
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    loss = Loss()
    channel = grpc.aio.insecure_channel(f"unix:{path}", options=[("grpc.enable_http_proxy", 0)])
    await channel.channel_ready()
    connectivity = Connectivity(channel, loss, reconnects=False)
    dialler = Dialler(max_message=2**20)
    broker = PluginBroker(channel, connectivity, loss, dialler, None, [str(directory)], lambda said: said)
    try:
        async with asyncio.timeout(PATIENT):
            yield Scene(plugin, broker, loss, directory)
    finally:
        plugin.sending.put_nowait(None)
        await broker.close()
        connectivity.stop()
        await connectivity.stopped()
        await channel.close()
        await server.stop(None)


class TestOffers:
    @pytest.mark.parametrize(
        ("network", "address", "wrong"),
        [
            ("unix", "/elsewhere/x.sock", "at a socket that is outside of the directory that the plugin was given"),
            ("unix", "{directory}/../x.sock", "outside of the directory"),
            ("unix", "{directory}/link.sock", "is a symbolic link"),
            ("unix", "{directory}/file", "is no socket"),
            ("unix", "relative.sock", "has no absolute socket path"),
            ("unix", "/" + "x" * 200, "has a socket path of 201 bytes"),
            ("tcp", "192.0.2.1:80", "has an address that is not on this machine"),
            ("tcp", "127.0.0.1:0", "has no address of the form"),
            ("tcp", "example.org:80", "has no address of the form"),
            ("pipe", "x", "names the network 'pipe'"),
            ("", "", "names the network ''"),
            ("unix", "{directory}/nobody.sock", "cannot be reached"),
        ],
    )
    async def test_false_ones(self, private: Path, network: str, address: str, wrong: str) -> None:
        """Nothing is connected to that is no place of the plugin's, and the error says what is wrong."""
        (private / "link.sock").symlink_to("/run/other.sock")
        (private / "file").touch()
        async with scene(private) as made:
            made.plugin.offer(7, address.format(directory=private), network)
            with pytest.raises(BrokerError, match="service 7") as refused:
                await made.broker.dial(7, timeout=PATIENT)
            assert wrong in str(refused.value)

    async def test_the_newest_of_a_number_counts_and_each_is_dialled_once(self, private: Path) -> None:
        """Also one that came before it was asked for."""
        async with scene(private) as made:
            for place in ("first", "second"):
                made.plugin.offer(7, f"/{place}.sock")
            made.plugin.offer(8, "/third.sock")
            with pytest.raises(BrokerError, match=r"/third\.sock"):
                await made.broker.dial(8, timeout=PATIENT)
            with pytest.raises(BrokerError, match=r"/second\.sock"):
                await made.broker.dial(7, timeout=PATIENT)
            with pytest.raises(BrokerError, match="did not offer service 7 within"):
                await made.broker.dial(7, timeout=NEVER)

    async def test_a_flood(self, private: Path) -> None:
        """Memory stays bounded, and the newest are kept."""
        async with scene(private) as made:
            many = room.MOST_OFFERS * 2
            for number in range(many):
                made.plugin.offer(number, f"/{number}.sock")
            with pytest.raises(BrokerError, match=rf"/{many - 1}\.sock"):
                await made.broker.dial(many - 1, timeout=PATIENT)
            assert len(made.broker._offers) < room.MOST_OFFERS
            with pytest.raises(BrokerError, match="did not offer"):
                await made.broker.dial(1, timeout=NEVER)

    async def test_long_ones(self, private: Path) -> None:
        """Of an offer no more is kept than could be dialled, however much it holds."""
        async with scene(private) as made:
            for number in range(20):
                made.plugin.offer(number, f"/{'a' * 1_000_000}")
                made.plugin.offer(number + 20, "/a", network="unix" * 250_000)
            with pytest.raises(BrokerError, match=r"of service 39 |service 39 at") as refused:
                await made.broker.dial(39, timeout=PATIENT)
            assert len(str(refused.value)) < 2000
            assert sum(len(each.network) + len(each.address) for each in made.broker._offers.values()) < 40 * 5000

    async def test_a_network_that_nobody_knows_is_told_without_secrets(self, private: Path) -> None:
        """As everything that a plugin says."""
        async with scene(private) as made:
            made.broker._show = lambda said: said.replace("swordfish", "[redacted]")
            made.plugin.offer(1, "/a", network="by-swordfish")
            with pytest.raises(BrokerError, match=r"names the network 'by-\[redacted\]'") as refused:
                await made.broker.dial(1, timeout=PATIENT)
            assert "swordfish" not in str(refused.value)

    async def test_knocks_are_no_offers(self, private: Path) -> None:
        """Those are of multiplexing, which this host does not ask for."""
        async with scene(private) as made:
            for knock in ({"knock": True}, {"knock": True, "ack": True}, {"knock": True, "ack": True, "error": "no"}):
                made.plugin.sending.put_nowait(ConnInfo(service_id=7, knock=ConnInfo.Knock(**knock)))
            made.plugin.offer(8, "/last.sock")
            with pytest.raises(BrokerError, match=r"/last\.sock"):
                await made.broker.dial(8, timeout=PATIENT)
            assert made.broker._offers == {}
            assert not made.broker._is_sham


class TestStream:
    async def test_is_opened_once_and_only_when_it_is_needed(self, private: Path) -> None:
        """Whoever makes no use of the broker pays nothing for it."""
        async with scene(private) as made:
            assert made.plugin.streams == 0
            services = await asyncio.gather(*(made.broker.serve(lambda server: None) for _ in range(5)))
            while len(made.plugin.heard) < 5:
                await asyncio.sleep(0.001)
            assert made.plugin.streams == 1
            told = {(info.service_id, info.network, info.address) for info in made.plugin.heard}
            assert told == {(each.id, "unix", each.path) for each in services}

    async def test_its_end_is_told_to_all_who_wait(self, private: Path) -> None:
        """A plugin in Go that has had a host before closes it at once."""
        async with scene(private) as made:
            dialling = [asyncio.ensure_future(made.broker.dial(number, timeout=PATIENT)) for number in (1, 2)]
            while not made.plugin.streams:
                await asyncio.sleep(0.001)
            made.plugin.sending.put_nowait(None)
            for each in dialling:
                with pytest.raises(BrokerError, match="has closed its broker"):
                    await each
            with pytest.raises(BrokerError, match="has closed its broker"):
                await made.broker.serve(lambda server: None)

    async def test_the_end_of_the_link_is_told(self, private: Path) -> None:
        """To who waits, and to who asks later."""
        async with scene(private) as made:
            dialling = asyncio.ensure_future(made.broker.dial(1, timeout=PATIENT))
            while not made.plugin.streams:
                await asyncio.sleep(0.001)
            made.loss.declare(LinkLostError("somebody tripped over it"))
            await made.broker.close()
            for late in (dialling, made.broker.dial(2), made.broker.serve(lambda server: None)):
                with pytest.raises(LinkLostError, match="ended with its link: somebody tripped over it"):
                    await late  # type: ignore[misc]
            await made.broker.close()

    async def test_a_peer_that_is_no_plugin(self) -> None:
        """Has none, and the error says what has one."""
        with pytest.raises(TypeError, match="is no link to a go-plugin plugin"):
            EndpointLink("127.0.0.1:1").broker


class TestIdentity:
    """What this host serves with."""

    def test_the_links_own_certificates(self) -> None:
        """None, those that gRPC takes, and those that need a door."""
        host, key = make_certificate(1)
        p384, p521 = identity("p384"), identity("p521")
        plain = identity_of(Dialler(max_message=1), None)
        assert plain is not None
        assert (plain.credentials, plain.door) == (None, None)
        for plugin, is_behind_a_door in ((p384, False), (p521, True)):
            tls = Credentials(server=plugin.der, client=host, client_key=key)
            found = identity_of(Dialler(tls=tls, max_message=1), None)
            assert found is not None
            assert (found.credentials is None, found.door is not None) == (is_behind_a_door, is_behind_a_door)

    def test_the_users_own(self) -> None:
        """Only with a certificate to show, and roots to ask the plugin for its own: nobody is served without."""
        host, key = (each.encode() for each in make_certificate(1))
        dialler = Dialler(max_message=1)
        assert identity_of(dialler, Tls(roots=host)) is None
        assert identity_of(dialler, Tls(certificate=host, key=key)) is None
        assert identity_of(dialler, grpc.ssl_channel_credentials()) is None
        found = identity_of(dialler, Tls(roots=host, certificate=host, key=key))
        assert found is not None
        assert found.credentials is not None
        server_only = Credentials(server=identity("p384").der)
        assert identity_of(Dialler(tls=server_only, max_message=1), None) is None


def door_at(path: str, server: str) -> TlsDoor:
    """For a plugin on P-521."""
    host, key = make_certificate(1)
    outer = Credentials(server=identity("p521").der, client=host, client_key=key)
    inner = Credentials(server=ssl.PEM_cert_to_DER_cert(host), client=host, client_key=key)
    return TlsDoor(Shown(outer.serving_context(), outer.server), Shown(inner.context(), inner.server), path, server)


class TestDoor:
    """What stands before a server where gRPC's TLS takes no certificate like the plugin's."""

    async def test_strangers_and_the_silent_are_bounded(self, private: Path) -> None:
        """Garbage is turned away, and of those who say nothing at most so many are held; all are gone when it closes."""
        path = str(private / "door.sock")
        door = door_at(path, str(private / "nobody.sock"))
        assert os.stat(path).st_mode & 0o777 == 0o600
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENT):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            while await reader.read(1000):  # an alert, and the end
                pass
            writer.close()
            silent = []
            for _ in range(MOST + 10):
                each = socket.socket(socket.AF_UNIX)
                each.setblocking(False)
                await loop.sock_connect(each, path)
                silent.append(each)
            turned_away = 0
            while turned_away < 10:
                await asyncio.sleep(0.001)
                turned_away = sum(_is_closed(each) for each in silent)
            assert len(door._passing) == MOST
            await door.close()
            assert all(_is_closed(each) for each in silent)
            assert not door._passing
            await door.close()
        for each in silent:
            each.close()


async def test_a_door_that_is_closed_as_somebody_knocks(private: Path) -> None:
    """Who was let in, and whose turn had not come, is turned away, too: no socket is left open."""
    path = str(private / "door.sock")
    door = door_at(path, str(private / "nobody.sock"))
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)
        door._accept()
        assert len(door._passing) == 1
        await door.close()
        await asyncio.sleep(0)
        caller.settimeout(PATIENT)
        assert caller.recv(1) == b""


async def test_a_plugin_that_turns_everybody_away(private: Path) -> None:
    """With a GOAWAY as soon as it is connected: the loop goes on. gRPC would keep it until the deadlines of calls."""
    with turning_away(str(private / "away.sock"), 2**31 - 1) as address:
        for _ in range(12):
            channel = grpc.aio.insecure_channel(address, options=Dialler(max_message=1).channel_options())
            await channel.channel_ready()
            call: Any = channel.stream_stream("/a.B/C")(iter([b"x"]), timeout=PATIENT)  # type: ignore[call-overload,unused-ignore]
            reply = asyncio.ensure_future(call.read())
            await asyncio.sleep(0.02)
            call.cancel()
            await asyncio.wait((reply,))
            assert call.done()
            assert await call.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
            reply.cancelled() or reply.exception()
            await channel.close()


async def served_at(path: str, register: Any = lambda server: None, **options: Any) -> Served:
    return await Served.start(
        1,
        path,
        Identity(None),
        register,
        **{"interceptors": (), "options": (), "max_message": 2**31 - 1, "on_end": lambda served: None, **options},
    )


async def test_calls_of_what_is_served_are_bounded(private: Path) -> None:
    """In number on each connection, and in size, whatever is let through of replies; unless the options say otherwise."""
    path = str(private / "s.sock")

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    def register(server: grpc.aio.Server) -> None:
        handler = {"Once": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("e.E", handler),))

    sizes = [("grpc.max_receive_message_length", 2**31 - 1), ("grpc.max_concurrent_streams", 7)]
    for options, most, fits in (((), MOST_CALLS, False), (sizes, 7, True)):
        served = await served_at(path, register, options=options)
        async with asyncio.timeout(PATIENT):
            assert await most_streams(*await asyncio.open_unix_connection(path)) == most
        channel_options = Dialler(max_message=2**31 - 1).channel_options()
        async with grpc.aio.insecure_channel(f"unix:{path}", options=channel_options) as channel:
            call = channel.unary_unary("/e.E/Once")(b"x" * (LARGEST_REQUEST + 1), timeout=PATIENT)
            assert (await call.code() is grpc.StatusCode.OK) == fits
        await served.close()


async def test_connections_to_what_is_served_are_bounded(private: Path) -> None:
    """A plugin that opens them for nothing does not use up this process's descriptors."""
    path = str(private / "s.sock")
    served = await served_at(path)
    opened = []
    async with asyncio.timeout(PATIENT):
        for _ in range(MOST + 10):
            each = socket.socket(socket.AF_UNIX)
            each.setblocking(False)
            await asyncio.get_running_loop().sock_connect(each, path)
            opened.append(each)
        while sum(map(_is_closed, opened)) < 10:
            await asyncio.sleep(0.01)
    for each in opened:
        each.close()
    await served.close()


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True

"""What go-plugin's client can do with its plugins besides, each against a real one: Ping, TLSConfig, negotiated versions."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

import grpc
import pytest

from fsm_conn import (
    BrokerError,
    ConnectFailedError,
    Connection,
    FsmConnError,
    NotServingError,
    Plugin,
    RetryPolicy,
    Tls,
)
from fsm_conn.demo import counter_pb2 as pb
from fsm_conn.demo import counter_pb2_grpc
from fsm_conn.links.plugin.certificates import make_certificate
from fsm_conn.links.plugin.client import INHERITED_FROM_OUR_HOST

from .conftest import PLUGINS, PYTHON

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.timeout(600),  # what is built in Go takes its time
]

ONCE = RetryPolicy(max_attempts=1)
generated: Any = counter_pb2_grpc


@pytest.mark.parametrize(
    ("services", "well"),
    [
        ({"plugin": "SERVING", "": "NOT_SERVING"}, True),
        ({"plugin": "NOT_SERVING", "": "SERVING"}, False),
        ({"": "SERVING"}, True),
        ({"": "NOT_SERVING"}, False),
        ({}, True),
    ],
)
async def test_ping(services: dict[str, str], well: bool) -> None:
    """A plugin is asked how `plugin` is, as go-plugin's `Ping` asks; one that does not know it, how it is as a whole."""
    async with Connection([PYTHON, str(PLUGINS / "pinged.py"), repr(services)], mtls=False) as conn:
        for _ in range(2):
            if well:
                await conn.probe(timeout=60)
            else:
                with pytest.raises(NotServingError):
                    await conn.probe(timeout=60)


class Adder(counter_pb2_grpc.AdderServicer):
    async def Sum(self, request: pb.SumRequest, context: Any) -> pb.Value:
        return pb.Value(value=request.a + request.b)


def registers(server: grpc.aio.Server) -> None:
    generated.add_AdderServicer_to_server(Adder(), server)


class TestOwnTls:
    """go-plugin's `TLSConfig`, for a plugin in Go with a `TLSProvider`."""

    @pytest.fixture
    def theirs(self, tmp_path: Path) -> tuple[str, Tls]:
        """A directory with what the plugin serves with, and what its host must say."""
        (plugin, plugin_key), (host, host_key) = make_certificate(1), make_certificate(1)
        for name, text in (("cert.pem", plugin), ("key.pem", plugin_key), ("host.pem", host)):
            (tmp_path / name).write_text(text)
        return str(tmp_path), Tls(roots=plugin.encode(), certificate=host.encode(), key=host_key.encode())

    async def test_calls_and_the_broker(self, binary: str, theirs: tuple[str, Tls]) -> None:
        """With these certificates, in both directions."""
        directory, tls = theirs
        async with Connection(Plugin([binary, "-tls", directory], credentials=tls), services=[pb]) as conn:
            served = await conn.broker.serve(registers)
            assert (await conn.call("Counter.Put", key="a", value=3, adder=served.id)).value == 3
            number = (await conn.call("Counter.Browse", id=0)).id
            async with await conn.broker.dial(number, timeout=60) as channel:
                entries = [entry.key async for entry in generated.BrowserStub(channel).Entries(pb.Nothing())]
            assert entries == ["a"]

    async def test_grpcs_own_credentials(self, binary: str, theirs: tuple[str, Tls]) -> None:
        """Do for calls; what they hold cannot be had for serving, and the error says what to give instead."""
        directory, tls = theirs
        credentials = grpc.ssl_channel_credentials(tls.roots, tls.key, tls.certificate)
        async with Connection(Plugin([binary, "-tls", directory], credentials=credentials), services=[pb]) as conn:
            assert (await conn.call("Counter.Get", key="a")).value == 0
            with pytest.raises(
                BrokerError, match=r"give Plugin\(credentials=Tls\(roots=..., certificate=..., key=...\)\)"
            ):
                await conn.broker.serve(registers)

    async def test_another_certificate(self, binary: str, theirs: tuple[str, Tls]) -> None:
        """Is refused, as is none at all."""
        directory, tls = theirs
        stranger, key = (each.encode() for each in make_certificate(1))
        for wrong in (Tls(roots=tls.roots, certificate=stranger, key=key), Tls(roots=tls.roots), None):
            plugin = Plugin([binary, "-tls", directory], credentials=wrong, mtls=None if wrong else False)
            with pytest.raises((FsmConnError, grpc.aio.AioRpcError)):
                async with Connection(plugin, services=[pb], retry=ONCE) as conn:
                    await conn.call("Counter.Get", key="a")


class TestNegotiation:
    """go-plugin's example `negotiated`: a plugin in Go that serves versions 5 and 6."""

    @pytest.mark.parametrize(("offered", "chosen"), [((5, 6), 6), ((4, 5), 5), ((6,), 6), ((), 5)])
    async def test_the_highest_that_both_have(self, binary: str, offered: tuple[int, ...], chosen: int) -> None:
        """Is chosen, and its own services are served; the lowest where nothing is offered."""
        async with Connection(Plugin([binary, "-versions"], versions=offered, mtls=False), services=[pb]) as conn:
            link: Any = conn.link
            assert link.version == chosen
            if chosen == 6:  # the counter is of this version alone
                assert (await conn.call("Counter.Get", key="a")).value == 0
            else:
                with pytest.raises(grpc.aio.AioRpcError, match="unknown service"):
                    await conn.call("Counter.Get", key="a")

    async def test_none_that_both_have(self, binary: str) -> None:
        """Is an error at once, which says what was offered and what was chosen."""
        plugin = Plugin([binary, "-versions"], versions=(7,), mtls=False)
        with pytest.raises(ConnectFailedError, match="chose application protocol version 5, and this host offered 7"):
            await Connection(plugin).connect()


ODD = str(PLUGINS / "odd_calculator.py")


class TestWhereItListens:
    """go-plugin's `MinPort`, `MaxPort` and `UnixSocketConfig`, by the variables that its servers read."""

    async def test_a_range_of_ports(self) -> None:
        """The first one is taken here, so it is another."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            low = taken.getsockname()[1]
            env = {"PLUGIN_MIN_PORT": str(low), "PLUGIN_MAX_PORT": str(low + 50)}
            async with Connection(Plugin([PYTHON, ODD, "tcp"], env=env, mtls=False)) as conn:
                network, address = announced(conn)
                assert network == "tcp"
                assert low < int(address.removeprefix("127.0.0.1:")) <= low + 50
                assert await asks(conn, "PLUGIN_MIN_PORT") == str(low)

    @pytest.mark.parametrize("name", ["PLUGIN_UNIX_SOCKET_DIR", "TMPDIR"])
    async def test_a_directory(self, name: str) -> None:
        """Named by the user, who makes it and keeps it."""
        with tempfile.TemporaryDirectory(prefix="d-") as directory:
            async with Connection(Plugin([PYTHON, ODD], env={name: directory}, mtls=False)) as conn:
                assert announced(conn)[1].startswith(f"{directory}/" if name != "TMPDIR" else "/")
                assert await asks(conn, name) == directory
            assert os.path.isdir(directory)

    async def test_a_group(self) -> None:
        """May write to the plugin's socket; in the private directory, which only this user may enter."""
        env = {"PLUGIN_UNIX_SOCKET_GROUP": str(os.getgid())}
        async with Connection(Plugin([PYTHON, ODD], env=env, mtls=False)) as conn:
            status = os.stat(announced(conn)[1])
            assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (os.getgid(), 0o660)

    @pytest.mark.parametrize("name", INHERITED_FROM_OUR_HOST)
    async def test_what_our_own_host_has_told_us(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is not for the plugins of a plugin: other versions may be theirs, and another group."""
        monkeypatch.setenv(name, "17")
        async with Connection(Plugin([PYTHON, ODD], mtls=False)) as conn:
            assert await asks(conn, name) == ""


class TestMultiplexing:
    """go-plugin's `GRPCBrokerMultiplex`: its servers say that they can whenever the variable is set, whatever it says."""

    async def test_a_plugin_that_only_says_that_it_can(self) -> None:
        """Is one like any other."""
        async with Connection(Plugin([PYTHON, ODD], env={"PLUGIN_MULTIPLEX_GRPC": "false"}, mtls=False)) as conn:
            assert await asks(conn, "PLUGIN_MULTIPLEX_GRPC") == "false"

    @pytest.mark.parametrize(("ends", "told"), [("", "cannot be reached"), ("exits", "exited with status 0")])
    async def test_one_that_does(self, ends: str, told: str) -> None:
        """It ends a connection that does not begin as yamux does, or itself; the error says what may be the reason."""
        plugin = Plugin([PYTHON, "-c", CLOSES, ends], env={"PLUGIN_MULTIPLEX_GRPC": "true"}, mtls=False)
        with pytest.raises(ConnectFailedError, match=rf"{told}.*leave PLUGIN_MULTIPLEX_GRPC out of its env"):
            await Connection(plugin, retry=ONCE).connect()


CLOSES = """
import os, socket, sys
path = os.path.join(os.environ["TMPDIR"], "s")
with socket.socket(socket.AF_UNIX) as server:
    server.bind(path)
    server.listen()
    print(f"1|1|unix|{path}|grpc||true", flush=True)
    while True:
        connection, _ = server.accept()
        connection.recv(12)  # yamux: invalid protocol version
        connection.close()
        if sys.argv[1]:
            break
"""


def announced(conn: Connection) -> tuple[str, str]:
    link: Any = conn.link
    where: tuple[str, str] = link.announced
    return where


async def asks(conn: Connection, name: str) -> str:
    """What the plugin has in its environment."""
    link: Any = conn.link
    reply: bytes = await link.channel.unary_unary("/odd.Odd/Told")(name.encode())
    return reply.decode()

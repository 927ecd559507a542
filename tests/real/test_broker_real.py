"""go-plugin's broker against real plugins, in Python and in Go, without TLS, with it, and where gRPC takes none of it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import grpc
import grpc.aio
import pytest

from fsm_conn import (
    BrokerError,
    Connection,
    ConnectionLostError,
    LinkLostError,
    NotConnectedError,
    Plugin,
    Reattach,
    RetryPolicy,
)
from fsm_conn.demo import counter_pb2 as pb
from fsm_conn.demo import counter_pb2_grpc
from fsm_conn.links.plugin.broker import PluginBroker
from fsm_conn.links.plugin.certificates import make_certificate
from fsm_conn.links.plugin.served import Served

from .conftest import DEMO, PLUGINS, PYTHON, Leftovers, eventually

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.timeout(600),  # what is built in Go takes its time
]

generated: Any = counter_pb2_grpc
PATIENT = 200.0
NEVER = 0.2
"""Seconds for an offer that is never made."""


@attrs.frozen
class Peer:
    """A plugin that counts, and how its link is secured."""

    go: bool
    arguments: tuple[str, ...]
    mtls: bool


PEERS = {
    "python": Peer(False, (), False),
    "python-mtls": Peer(False, (), True),
    "go": Peer(True, (), False),
    "go-p384": Peer(True, ("-p384",), True),
    "go-p521": Peer(True, ("-p521",), True),
}


@pytest.fixture(params=PEERS)
def plugin(request: pytest.FixtureRequest) -> Plugin:
    """Each of them."""
    return made(request)


@pytest.fixture(params=["python-mtls", "go-p521"])
def secured(request: pytest.FixtureRequest) -> Plugin:
    """One to which gRPC speaks itself, and one that needs a relay in either direction."""
    return made(request)


def made(request: pytest.FixtureRequest) -> Plugin:
    peer = PEERS[request.param]
    if not peer.go:
        return Plugin([PYTHON, "-m", "fsm_conn.demo.counter"], mtls=peer.mtls, prefork=True)
    return Plugin([request.getfixturevalue("binary"), *peer.arguments], mtls=peer.mtls)


@pytest.fixture
def counter() -> Plugin:
    """The one in Python, with TLS."""
    return Plugin([PYTHON, str(PLUGINS / "measured.py"), "fsm_conn.demo.counter"], mtls=True)


@asynccontextmanager
async def connected(plugin: Plugin, **options: Any) -> AsyncIterator[Connection]:
    async with asyncio.timeout(PATIENT):
        async with Connection(plugin, services=[pb], **options) as conn:
            yield conn


class Adder(counter_pb2_grpc.AdderServicer):
    """What the host serves: it counts its calls, and waits for a gate where there is one."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.calls = 0
        self.gate = gate

    async def Sum(self, request: pb.SumRequest, context: Any) -> pb.Value:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        return pb.Value(value=request.a + request.b)


def registers(adder: Adder) -> Any:
    return lambda server: generated.add_AdderServicer_to_server(adder, server)


def broker_of(conn: Connection) -> PluginBroker:
    broker = conn.broker
    assert isinstance(broker, PluginBroker)
    return broker


async def entries(channel: grpc.aio.Channel) -> list[tuple[str, int]]:
    return [(entry.key, entry.value) async for entry in generated.BrowserStub(channel).Entries(pb.Nothing())]


def accepted(path: str) -> set[str]:
    """The connections that are open at the server's end of a socket, by inode."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return {
        inode
        for *_, state, inode, where in (line for line in lines if len(line) == 8)
        if (state, where) == ("03", path)
    }


class TestBothDirections:
    async def test_the_plugin_calls_its_host_and_the_host_what_the_plugin_serves_besides(self, plugin: Plugin) -> None:
        """As go-plugin's example `bidirectional`, and the other way round; numbers of either side's choice.

        The host's socket has mode 0600, in a directory of mode 0700 that is not the plugin's; both go when they are done.
        """
        adder = Adder()
        async with connected(plugin) as conn:
            served = await conn.broker.serve(registers(adder))
            assert served.id == 1
            for value, sum in ((3, 3), (4, 7), (-2, 5)):
                assert (await conn.call("Counter.Put", key="a", value=value, adder=served.id)).value == sum
                served = await conn.broker.serve(registers(adder))  # each number is dialled once
            assert adder.calls == 3
            await conn.call("Counter.Put", key="b", value=1, adder=served.id)
            for wanted in (0, conn.broker.next_id()):
                number = (await conn.call("Counter.Browse", id=wanted)).id
                assert wanted in (0, number)
                async with await conn.broker.dial(number, timeout=PATIENT) as channel:
                    assert await entries(channel) == [("a", 5), ("b", 1)]
            assert isinstance(served, Served)
            private = Path(served.path).parent
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
            assert {stat.S_IMODE(each.stat().st_mode) for each in private.iterdir()} == {0o600}
        assert not private.exists()

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/net/unix")
    async def test_calls_back_share_a_connection(self, secured: Plugin) -> None:
        """Neither side makes a connection, with its TLS, for each call."""
        async with connected(secured) as conn:
            served = await conn.broker.serve(registers(Adder()))
            assert isinstance(served, Served)
            made = []
            for _ in range(3):
                await conn.call("Counter.Put", key="a", value=1, adder=served.id)
                made.append(accepted(served.path))
            assert made[0]
            assert made == [made[0]] * 3

    async def test_many_at_once(self, secured: Plugin) -> None:
        """Twenty services for the plugin and twenty of it, at the same time, each with its own number."""
        async with connected(secured) as conn:
            adder = Adder()

            async def one(number: int) -> int:
                served = await conn.broker.serve(registers(adder))
                put = await conn.call("Counter.Put", key=f"{number:02}", value=number, adder=served.id)
                browser = await conn.call("Counter.Browse", id=conn.broker.next_id())
                channel = await conn.broker.dial(browser.id, timeout=PATIENT)
                assert (f"{number:02}", number) in await entries(channel)
                return int(put.value)

            assert await asyncio.gather(*map(one, range(20))) == list(range(20))
            assert adder.calls == 20

    async def test_streams_go_on_while_others_come_and_go(self, secured: Plugin) -> None:
        """What is closed ends, and nothing else: neither the link nor another service."""
        async with connected(secured) as conn:
            first, second = Adder(), Adder()
            one = await conn.broker.serve(registers(first))
            async with await conn.broker.serve(registers(second)) as two:
                await conn.call("Counter.Put", key="a", value=1, adder=two.id)
            with pytest.raises(grpc.aio.AioRpcError):
                await conn.call("Counter.Put", key="a", value=1, adder=two.id)
            assert (await conn.call("Counter.Put", key="a", value=1, adder=one.id)).value == 2
            assert (first.calls, second.calls) == (1, 1)
            await one.close()
            await one.close()
            assert conn.is_connected()

    async def test_a_call_of_the_plugin_that_is_under_way_when_the_link_is_closed(self, secured: Plugin) -> None:
        """The closing is not held up by it."""
        gate = asyncio.Event()
        adder = Adder(gate)
        async with connected(secured) as conn:
            served = await conn.broker.serve(registers(adder))
            put = asyncio.ensure_future(conn.call("Counter.Put", key="a", value=1, adder=served.id))
            await eventually(lambda: adder.calls, PATIENT)
        with pytest.raises((ConnectionLostError, grpc.aio.AioRpcError)):
            await put

    async def test_after_a_loss_there_is_a_new_broker(self, secured: Plugin) -> None:
        """It begins to count again, and serves the new plugin; what was served to the old one is gone."""
        adder = Adder()
        async with connected(secured, retry=RetryPolicy(initial_delay=0.01)) as conn:
            old = conn.broker
            await old.serve(registers(adder))
            waiting = asyncio.ensure_future(old.dial(77, timeout=PATIENT))
            assert conn.pid is not None
            os.kill(conn.pid, signal.SIGKILL)
            with pytest.raises(LinkLostError):
                await waiting
            await eventually(lambda: conn.is_connected() and conn.broker is not old, PATIENT)
            served = await conn.broker.serve(registers(adder))
            assert served.id == 1
            assert (await conn.call("Counter.Put", key="a", value=1, adder=1)).value == 1
            with pytest.raises(LinkLostError, match="the broker has ended with its link"):
                await old.serve(registers(adder))
        with pytest.raises(NotConnectedError):
            conn.broker


async def test_a_plugin_that_runs_already(binary: str) -> None:
    """Its broker serves in both directions, and its sockets are looked for beside its own."""
    with tempfile.TemporaryDirectory(prefix="b-") as directory:
        env = {**os.environ, "TMPDIR": directory, "PLUGIN_MAGIC_COOKIE": "test_cookie_value"}
        popen = subprocess.Popen([binary], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
        try:
            assert popen.stdout is not None
            address = popen.stdout.readline().decode().split("|")[3]
            async with asyncio.timeout(PATIENT):
                async with Connection(Reattach(f"unix:{address}", pid=popen.pid), services=[pb]) as conn:
                    served = await conn.broker.serve(registers(Adder()))
                    assert (await conn.call("Counter.Put", key="a", value=2, adder=served.id)).value == 2
                    number = (await conn.call("Counter.Browse", id=0)).id
                    async with await conn.broker.dial(number, timeout=PATIENT) as channel:
                        assert await entries(channel) == [("a", 2)]
            assert popen.poll() is None
        finally:
            popen.kill()
            popen.communicate()


class TestWhoMayUseIt:
    async def test_with_tls_only_who_shows_the_plugins_certificate_is_served(self, secured: Plugin) -> None:
        """Not somebody without TLS, without a certificate, or with one of his own that nobody has asked for."""
        adder = Adder()
        async with connected(secured) as conn:
            served = await conn.broker.serve(registers(adder))
            assert isinstance(served, Served)
            link: Any = conn.link
            trusted, (own, key) = link._client.client_cert.encode(), make_certificate(1)
            reader, writer = await asyncio.open_unix_connection(served.path)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            with suppress(ConnectionError):
                assert (await reader.read())[3:4] != b"\4"  # the server's settings
            writer.close()
            options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.enable_http_proxy", 0)]
            for each in Path(served.path).parent.iterdir():  # where another plugin of this user may look, too
                async with grpc.aio.insecure_channel(f"unix:{each}", options=options) as channel:
                    with pytest.raises(grpc.aio.AioRpcError):
                        await generated.AdderStub(channel).Sum(pb.SumRequest(a=1, b=2), timeout=PATIENT)
            strangers = ((None, None), (key.encode(), own.encode()))
            for stranger in strangers:
                credentials = grpc.ssl_channel_credentials(trusted, *stranger)
                async with grpc.aio.secure_channel(f"unix:{served.path}", credentials, options=options) as channel:
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await generated.AdderStub(channel).Sum(pb.SumRequest(a=1, b=2), timeout=PATIENT)
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert adder.calls == 0
            assert (await conn.call("Counter.Put", key="a", value=1, adder=served.id)).value == 1


class TestWhatCannotBe:
    async def test_what_is_not_offered(self, secured: Plugin) -> None:
        """Is told after the time that was given, and nothing is left of the wait."""
        async with connected(secured) as conn:
            with pytest.raises(BrokerError, match=r"did not offer service 99 within 0.2 s.*through its broker"):
                await conn.broker.dial(99, timeout=NEVER)
            number = (await conn.call("Counter.Browse", id=0)).id
            async with await conn.broker.dial(number, timeout=PATIENT):
                pass
            with pytest.raises(BrokerError, match="did not offer"):  # each offer is for one dial
                await conn.broker.dial(number, timeout=NEVER)

    async def test_a_plugin_without_a_broker(self) -> None:
        """Both directions say so, at once."""
        async with connected(Plugin([PYTHON, str(PLUGINS / "odd_calculator.py")])) as conn:
            with pytest.raises(BrokerError, match="has no broker: serve go-plugin's GRPCBroker in it"):
                await conn.broker.serve(registers(Adder()))
            with pytest.raises(BrokerError, match="has no broker"):
                await conn.broker.dial(1, timeout=PATIENT)
            assert conn.is_connected()

    async def test_a_plugin_whose_broker_does_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """pyvider-rpcplugin's own acknowledges every offer, and brokers none: the log and the error say so."""
        async with connected(Plugin(DEMO)) as conn:
            await conn.broker.serve(registers(Adder()))
            await eventually(lambda: "does nothing with it" in caplog.text, PATIENT)
            with pytest.raises(BrokerError, match="register another GRPCBroker service in the plugin"):
                await conn.broker.dial(1, timeout=NEVER)

    async def test_what_the_caller_has_wrong(self, counter: Plugin) -> None:
        """What is no number is refused before anything is sent; an error of his registering is his, and nothing is left."""
        async with connected(counter) as conn:
            wrong: tuple[Any, ...] = (-1, 2**32, "1", True, None)
            for number in wrong:
                with pytest.raises(TypeError, match="give the number of a service"):
                    await conn.broker.dial(number)
            with pytest.raises(ZeroDivisionError):
                await conn.broker.serve(lambda server: 1 / 0)
            assert broker_of(conn)._served == set()


class TestCancelled:
    async def test_at_any_moment(self, secured: Plugin, leftovers: Leftovers) -> None:
        """Serving or dialling, nothing is left, and the broker goes on."""
        async with connected(secured) as conn:
            for turns in (0, 1, 2, 3, 5, 8, 13, 40):
                number = (await conn.call("Counter.Browse", id=0)).id
                for begun in (conn.broker.serve(registers(Adder())), conn.broker.dial(number, timeout=PATIENT)):
                    task: asyncio.Task[Any] = asyncio.ensure_future(begun)  # type: ignore[arg-type]
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait((task,))
                    if not task.cancelled():
                        await task.result().close()
                broker = broker_of(conn)
                assert (broker._served, broker._channels) == (set(), set())
            served = await conn.broker.serve(registers(Adder()))
            assert (await conn.call("Counter.Put", key="a", value=1, adder=served.id)).value == 1
        await leftovers.none(30)

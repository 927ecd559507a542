"""Plugins in Go, served by HashiCorp's own go-plugin: without TLS, with a certificate that gRPC takes, and through a relay.

They are built once in a run, from `goplugin/main.go`, against Debian's packages; without these the tests are skipped.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import attrs
import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from fsm_conn import Connection, HealthPolicy, Plugin, RetryPolicy
from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.links.errors import CallError, HandshakeError, PluginExitedError
from fsm_conn.links.plugin import link as plugin_link
from fsm_conn.links.plugin import tls_relay as tlsrelay
from fsm_conn.links.plugin.link import PluginLink
from fsm_conn.links.plugin.tls_relay import Credentials, TlsRelay

from .conftest import PYTHON, Leftovers, built, children, eventually, needs_go

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.timeout(600),  # what is built in Go takes its time
]

GREETER = Path(__file__).parents[2] / "examples" / "tutorial" / "greeter"
QUICK = 200.0
MEGABYTE = bytes(1024 * 1024)


@attrs.frozen
class Mode:
    """One way in which a Go plugin serves."""

    arguments: tuple[str, ...]
    mtls: bool
    relayed: bool


MODES = {
    "plain": Mode((), mtls=False, relayed=False),
    "p384": Mode(("-p384",), mtls=True, relayed=False),
    "p521": Mode((), mtls=True, relayed=True),
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    return MODES[request.param]


@pytest.fixture
def command(binary: str, mode: Mode) -> list[str]:
    return [binary, *mode.arguments]


def link_to(binary: str, mode: Mode, *more: str, **options: Any) -> PluginLink:
    return PluginLink([binary, *mode.arguments, *more], mtls=mode.mtls, **options)


async def opened(link: PluginLink) -> PluginLink:
    async with asyncio.timeout(QUICK):
        await link.open()
    return link


async def add(link: PluginLink) -> float:
    return float((await link.call("calculator.Add", None, {"a": 5, "b": 3}, None)).result)


async def echo(link: PluginLink, data: bytes) -> bytes:
    call: Any = link.channel.unary_unary(
        "/echo.Echo/Echo", request_serializer=BytesValue.SerializeToString, response_deserializer=BytesValue.FromString
    )
    return bytes((await call(BytesValue(value=data), timeout=QUICK)).value)


class TestEveryMode:
    async def test_open_call_probe_close(self, binary: str, mode: Mode, leftovers: Leftovers) -> None:
        """A plugin opens, answers, is well, and is gone with its socket when it is closed."""
        link = await opened(link_to(binary, mode))
        assert await add(link) == 8
        assert await link.probe()
        assert await link.probe("plugin")
        client, pid = link._client, link.pid
        assert client is not None
        assert client.process is not None
        assert (client._relay is not None) == mode.relayed
        assert bool(client._server_cert) == mode.mtls
        async with asyncio.timeout(QUICK):
            await link.close()
        assert pid not in children()
        assert not os.path.exists(client.process.directory)
        await leftovers.none()

    async def test_health_is_watched(self, binary: str, mode: Mode) -> None:
        """go-plugin's server has a stream of its health."""
        link = await opened(link_to(binary, mode))
        watching = link.watch("plugin")
        async with asyncio.timeout(QUICK):
            assert await anext(watching)
            await watching.aclose()  # type: ignore[attr-defined]
            await link.close()

    async def test_every_kind_of_call(self, binary: str, mode: Mode) -> None:
        """Streams in either direction and in both, and an error that the plugin itself answers."""
        link = await opened(link_to(binary, mode))
        async with asyncio.timeout(QUICK):
            counted = [reply.result async for reply in link.stream("calculator.Count", None, {"limit": 500}, None)]
            assert counted == list(range(1, 501))
            numbers = [{"value": value} for value in range(200)]
            assert (await link.call("calculator.Sum", numbers, {}, None)).result == sum(range(200))
            sums = [reply.result async for reply in link.stream("calculator.Accumulate", numbers, {}, None)]
            assert sums == [sum(range(value + 1)) for value in range(200)]
            with pytest.raises(grpc.aio.AioRpcError, match="division by zero"):
                await link.call("calculator.Divide", None, {"a": 1, "b": 0}, None)
            await link.close()

    async def test_without_reflection(self, binary: str, mode: Mode) -> None:
        """Most plugins in Go have none: the error says what to do, and what it says works."""
        link = await opened(link_to(binary, mode, "-no-reflection"))
        with pytest.raises(CallError, match="services="):
            await add(link)
        stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]
        assert (await stub.Multiply(calculator_pb2.Operands(a=6, b=7))).result == 42
        await link.close()
        link = await opened(link_to(binary, mode, "-no-reflection", services=[calculator_pb2]))
        assert await add(link) == 8
        await link.close()

    async def test_large_messages_and_many_calls(self, binary: str, mode: Mode) -> None:
        """Messages of a megabyte, and fifty calls at once, of all sizes, each with its own answer."""
        link = await opened(link_to(binary, mode))
        chance = random.Random(5)
        payloads = [MEGABYTE, *(chance.randbytes(chance.choice((0, 1, 1000, 70_000, 300_000))) for _ in range(49))]
        async with asyncio.timeout(120):
            assert await echo(link, MEGABYTE) == MEGABYTE
            assert await asyncio.gather(*(echo(link, payload) for payload in payloads)) == payloads
            assert await asyncio.gather(*(add(link) for _ in range(50))) == [8] * 50
            await link.close()

    async def test_killed_under_calls(self, binary: str, mode: Mode) -> None:
        """Killed with large calls in flight: each fails as one whose server went away, and the link knows why."""
        link = await opened(link_to(binary, mode))
        assert link.pid is not None
        assert await echo(link, MEGABYTE) == MEGABYTE
        os.kill(link.pid, signal.SIGSTOP)
        calls = [asyncio.create_task(echo(link, MEGABYTE)) for _ in range(10)]
        await asyncio.wait(calls, timeout=0.1)
        os.kill(link.pid, signal.SIGKILL)
        async with asyncio.timeout(QUICK):
            reason = await link.lost()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(reason, PluginExitedError)
        assert reason.returncode == -signal.SIGKILL
        codes = [error.code() for error in outcomes if isinstance(error, grpc.aio.AioRpcError)]
        assert codes == [grpc.StatusCode.UNAVAILABLE] * 10
        async with asyncio.timeout(QUICK):
            await link.close()

    async def test_killed_and_replaced(self, command: list[str], mode: Mode, leftovers: Leftovers) -> None:
        """A connection whose plugin is killed comes back, and its calls go on."""
        retry = RetryPolicy(max_attempts=5, initial_delay=0.01)
        conn = Connection(command, retry=retry, mtls=mode.mtls, health=HealthPolicy(interval=0.05, timeout=5))
        async with asyncio.timeout(120):
            async with conn:
                for _ in range(3):
                    assert (await conn.call("calculator.Add", a=1, b=2)).result == 3
                    link: Any = conn.link
                    os.kill(link.pid, signal.SIGKILL)
                    await eventually(lambda link=link: conn.link not in (None, link))
                    await conn.connect()
        await leftovers.none()

    async def test_close_with_a_call_in_flight(self, binary: str, mode: Mode) -> None:
        """A call under way fails with an error of its own."""
        link = await opened(link_to(binary, mode))
        stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]
        call = stub.Accumulate()
        await call.write(calculator_pb2.Number(value=1))
        assert (await call.read()).result == 1
        reading = asyncio.create_task(call.read())
        await asyncio.sleep(0)
        async with asyncio.timeout(QUICK):
            await link.close()
            with pytest.raises(grpc.aio.AioRpcError):
                await reading

    async def test_stopped(self, binary: str, mode: Mode) -> None:
        """A plugin that was stopped under large messages does not hold up close()."""
        link = await opened(link_to(binary, mode))
        assert link.pid is not None
        os.kill(link.pid, signal.SIGSTOP)
        calls = [asyncio.create_task(echo(link, MEGABYTE)) for _ in range(10)]
        await asyncio.wait(calls, timeout=0.1)
        async with asyncio.timeout(QUICK):
            await link.close()
            await asyncio.wait(calls)
        # grpc ends those that it has sent with an error, and cancels those that it has not.
        assert all(call.cancelled() or call.exception() for call in calls)

    async def test_open_cancelled(self, binary: str, mode: Mode, leftovers: Leftovers) -> None:
        """Cancelled at moments spread over a start, open() leaves nothing."""
        loop = asyncio.get_running_loop()
        then = loop.time()
        await (await opened(link_to(binary, mode))).close()
        whole = loop.time() - then
        for moment in range(25):
            link = link_to(binary, mode)
            opening = asyncio.create_task(link.open())
            await asyncio.sleep(whole * moment / 25)
            opening.cancel()
            await asyncio.wait((opening,))
            if not opening.cancelled():
                await link.close()
            assert not children() - leftovers.before["processes"]  # type: ignore[operator]
        await leftovers.none()


async def test_asked_to_end(binary: str, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in Go does not hear SIGTERM; asked as go-plugin's own client asks, it does what it does at its end."""
    monkeypatch.setattr(plugin_link, "ASKED", QUICK)  # on a busy machine it may take its time
    ends = [tmp_path / f"end{number}" for number in range(3)]
    links = [link_to(binary, mode, "-goodbye", str(end)) for end in ends]
    await asyncio.gather(*map(opened, links))
    async with asyncio.timeout(QUICK):
        await asyncio.gather(*(link.close() for link in links))
    assert [end.read_text() for end in ends] == ["cleaned up"] * 3


class TestMutualTls:
    @pytest.fixture(params=["p384", "p521"])
    def mode(self, request: pytest.FixtureRequest) -> Mode:
        return MODES[request.param]

    async def test_others_are_refused(self, binary: str, mode: Mode) -> None:
        """Nobody can talk to the plugin without the certificate that it was started with."""
        link = await opened(link_to(binary, mode))
        assert link._client is not None
        path = link._client._address
        assert path is not None
        assert await refused(path, ssl_context(None))
        other = link_to(binary, mode)
        await opened(other)
        assert other._client is not None
        assert await refused(path, ssl_context(credentials_of(other)))
        assert not await refused(path, ssl_context(credentials_of(link)))
        assert await refused(path, None)
        assert await add(link) == 8
        await link.close()
        await other.close()

    async def test_relay_to_another_plugin(self, binary: str, mode: Mode, tmp_path: Path) -> None:
        """A relay refuses a plugin whose certificate is not the one that was announced."""
        first, second = await opened(link_to(binary, mode)), await opened(link_to(binary, mode))
        assert second._client is not None
        path = second._client._address
        assert path is not None
        with pytest.raises(ssl.SSLCertVerificationError):
            await TlsRelay.open("unix", path, credentials_of(first))
        assert await add(second) == 8
        await first.close()
        await second.close()

    async def test_alert_is_told(self, binary: str, mode: Mode) -> None:
        """A plugin that does not believe its client says so, and the relay passes the reason on."""
        link = await opened(link_to(binary, mode))
        client = link._client
        assert client is not None
        assert client.process is not None
        stranger = attrs.evolve(credentials_of(link), client="", client_key="")
        assert client._address is not None
        relay = await TlsRelay.open("unix", client._address, stranger)
        reader, writer = await asyncio.open_unix_connection(relay.target.removeprefix("unix:"))
        async with asyncio.timeout(QUICK):
            await relay.join()
            assert await reader.read() == b""
        assert isinstance(relay.fault, ssl.SSLError)
        assert "alert" in str(relay.fault).lower()
        writer.close()
        await relay.close()
        await link.close()


class TestRelayed:
    @pytest.fixture
    def mode(self) -> Mode:
        return MODES["p521"]

    async def test_nobody_else_gets_in(self, binary: str, mode: Mode) -> None:
        """When the link is open, there is no socket of the relay any more."""
        link = await opened(link_to(binary, mode))
        assert link._client is not None
        assert link._client.process is not None
        left = set(os.listdir(link._client.process.directory))
        assert tlsrelay.SOCKET_NAME not in left
        assert not [name for name in left if "key" in name]
        assert os.stat(link._client.process.directory).st_mode & 0o777 == 0o700
        await link.close()

    async def test_wrong_certificate_announced(self, binary: str, mode: Mode, tmp_path: Path) -> None:
        """A plugin that announces another certificate than it serves with cannot be reached, and the error says why."""
        script = tmp_path / "liar"
        script.write_text(LIAR.format(python=PYTHON, binary=binary))
        script.chmod(0o755)
        link = PluginLink([str(script)], mtls=True)
        with pytest.raises(HandshakeError, match=r"cannot be reached.*certificate verify failed"):
            await opened(link)

    async def test_loop_ends_without_close(self, binary: str) -> None:
        """A loop that ends with an open link ends quietly."""
        code = f"""
import asyncio
from fsm_conn.links.plugin.link import PluginLink
kept = []
async def main():
    link = PluginLink([{binary!r}], mtls=True)
    kept.append(link)
    await link.open()
    assert link._client._relay is not None
    print((await link.call("calculator.Add", None, {{"a": 1, "b": 2}}, None)).result)
asyncio.run(main())
"""
        root = str(Path(__file__).parents[2])
        env = {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "error"}
        done = await asyncio.create_subprocess_exec(
            PYTHON, "-c", code, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        async with asyncio.timeout(QUICK):
            out, err = await done.communicate()
        assert (done.returncode, out, err) == (0, b"3.0\n", b"")


LIAR = """#!{python}
import os, subprocess, sys
plugins = [subprocess.Popen([{binary!r}], stdout=subprocess.PIPE) for _ in range(2)]
first, second = (plugin.stdout.readline().decode().strip().split("|") for plugin in plugins)
print("|".join([*first[:5], second[5]]), flush=True)
plugins[0].wait()
"""


def credentials_of(link: PluginLink) -> Credentials:
    client = link._client
    assert client is not None
    assert client.client_cert is not None
    assert client.client_key_pem is not None
    return Credentials(
        server=base64.b64decode(client._server_cert or ""), client=client.client_cert, client_key=client.client_key_pem
    )


def ssl_context(who: Credentials | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if who is not None:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(f"{who.client}\n{who.client_key}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context


async def refused(path: str, context: ssl.SSLContext | None) -> bool:
    """Whether a plugin ends the connection of somebody who begins to speak HTTP/2."""

    def talk() -> bool:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(QUICK)
            plain.connect(path)
            connection = plain if context is None else context.wrap_socket(plain)
            try:
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
                return connection.recv(9)[3:4] != b"\4"  # the server's settings
            except (ssl.SSLError, ConnectionError):
                return True
            finally:
                connection.close()

    answer: list[bool] = []
    thread = threading.Thread(target=lambda: answer.append(talk()))
    thread.start()
    await eventually(lambda: not thread.is_alive(), QUICK)
    thread.join()
    return answer[0]


async def test_the_plugin_of_the_tutorial_is_the_same_in_go(tmp_path: Path, cache: str) -> None:
    """It is generated and built as its proto file says, and a host of the one in Python can use it unchanged."""
    go = needs_go()
    if (protoc := shutil.which("protoc")) is None or shutil.which("protoc-gen-go") is None:
        pytest.skip("needs Debian's golang-goprotobuf-dev: no protoc, or no protoc-gen-go")
    shutil.copy(GREETER / "go" / "main.go", tmp_path)
    # Debian's generator is an old one, which has that of gRPC in itself.
    generate = [protoc, "-I", str(GREETER), f"--go_out=plugins=grpc:{tmp_path}", "greeter.proto"]
    subprocess.run(generate, check=True, capture_output=True)
    plugin = Plugin([built(go, tmp_path, cache)], env={"PLUGIN_MAGIC_COOKIE": "greeter-5d1c"})
    async with Connection(plugin) as conn:
        with pytest.raises(grpc.aio.AioRpcError, match="no greeting in"):
            await conn.call("greeter.Configure", language="Latin")
        await conn.call("greeter.Configure", language="French")
        assert (await conn.call("greeter.Greet", name="Ada")).text == "Bonjour, Ada!"

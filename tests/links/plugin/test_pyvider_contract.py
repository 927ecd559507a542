"""What `fsm_conn.links.plugin.client` takes for granted about pyvider-rpcplugin, compared with what is installed.

A failure here means: the client has changed inside. Read what changed, adapt `_pyvider`, run the tests of real plugins,
and only then correct what is expected here and the range in setup.cfg.
"""

from __future__ import annotations

import asyncio
import configparser
import importlib.metadata
import inspect
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest
from pyvider.rpcplugin.client import RPCPluginClient
from pyvider.rpcplugin.config import rpcplugin_config
from pyvider.rpcplugin.handshake import parse_handshake_response
from pyvider.rpcplugin.protocol.grpc_stdio_pb2 import StdioData
from pyvider.rpcplugin.protocol.grpc_stdio_pb2_grpc import GRPCStdioStub

from fsm_conn._util.redact import Redactor
from fsm_conn.links.errors import HandshakeError
from fsm_conn.links.plugin import client as _pyvider
from fsm_conn.links.plugin.client import SUPPORTED, WHAT_WE_RELY_ON, PluginClient
from fsm_conn.links.plugin.handshake import Handshake, parse_handshake
from fsm_conn.links.process.process import PluginProcess
from fsm_conn.links.target import Plugin

SETUP = Path(__file__).parents[3] / "setup.cfg"
USED = ("start", "_attempt_single_handshake", "_complete_handshake_setup", "_init_stubs", "_reset_state")


def client() -> PluginClient:
    return PluginClient(Plugin(("plugin",)))


def test_installed_version_is_in_range() -> None:
    """The installed client is one that was looked at."""
    version = tuple(map(int, importlib.metadata.version("pyvider-rpcplugin").split(".")[:3]))
    assert (0, 5, 5) <= version < (0, 6)


def test_setup_repeats_the_range() -> None:
    """What is installed for a user is what this module knows."""
    parser = configparser.ConfigParser()
    parser.read(SETUP)
    line = next(line for line in parser["options"]["install_requires"].splitlines() if line.startswith("pyvider-"))
    assert line.removeprefix("pyvider-rpcplugin").replace(" ", "") == SUPPORTED.replace(" ", "")


@pytest.mark.parametrize("name", WHAT_WE_RELY_ON)
def test_methods(name: str) -> None:
    """Every method that is used or replaced is there, with the signature that was looked at."""
    assert str(inspect.signature(getattr(RPCPluginClient, name))) == WHAT_WE_RELY_ON[name]


def test_nothing_is_replaced_in_secret() -> None:
    """Whatever `PluginClient` overrides is on the list."""
    ours = {name for name in vars(PluginClient) if not name.startswith("__") and hasattr(RPCPluginClient, name)}
    assert ours <= set(WHAT_WE_RELY_ON)


def test_attributes() -> None:
    """The attributes that are read or set are the client's own, and empty at first."""
    made = RPCPluginClient(command=["x"])
    for name in ("_address", "_transport_name", "_protocol_version", "_server_cert", "target_endpoint", "grpc_channel"):
        assert getattr(made, name) is None
    for name in ("client_cert", "client_key_pem", "_stdio_stub", "_stdio_task"):
        assert getattr(made, name) is None
    assert made.logger is not None


def test_settings() -> None:
    """The settings that are read exist, with the meaning they have."""
    assert rpcplugin_config.plugin_magic_cookie_key
    assert isinstance(rpcplugin_config.plugin_magic_cookie_value, str)
    assert rpcplugin_config.plugin_cert_validity_days > 0


def test_stdio_service() -> None:
    """The stream of a plugin's output is where it is looked for."""
    assert (StdioData.STDOUT, StdioData.STDERR) == (1, 2)
    assert "StreamStdio" in inspect.getsource(GRPCStdioStub)


class TestStart:
    """`start` makes one attempt through the methods that are replaced, in the order that is relied on."""

    def trace(self, monkeypatch: pytest.MonkeyPatch, failing: str = "") -> tuple[PluginClient, list[str]]:
        calls: list[str] = []

        def stand_in(name: str) -> Any:
            async def method(self: PluginClient, *arguments: Any) -> None:
                calls.append(name)
                if name == "_perform_handshake":
                    self._address, self._transport_name = "/s", "unix"
                if name == failing:
                    raise OSError(name)

            return method

        for name in ("_perform_handshake", "_create_grpc_channel", "_read_stdio_logs", "close"):
            monkeypatch.setattr(PluginClient, name, stand_in(name))
        return client(), calls

    async def test_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Handshake, then channel, then the stream of output, if there is a stub for it."""
        made, calls = self.trace(monkeypatch)
        await made.start()
        assert calls == ["_perform_handshake", "_create_grpc_channel"]
        assert made.is_started
        made, calls = self.trace(monkeypatch)
        made._stdio_stub = object()
        await made.start()
        assert made._stdio_task is not None
        await made._stdio_task
        assert calls == ["_perform_handshake", "_create_grpc_channel", "_read_stdio_logs"]

    @pytest.mark.parametrize("failing", ["_perform_handshake", "_create_grpc_channel"])
    async def test_failure(self, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
        """A failure is raised as it is, after one attempt and a close."""
        made, calls = self.trace(monkeypatch, failing)
        with pytest.raises(OSError, match=failing):
            await made.start()
        assert calls.count(failing) == 1
        assert calls[-1] == "close"

    async def test_cancellation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cancellation passes through, and closing is left to us."""
        made, calls = self.trace(monkeypatch)

        async def hang(self: PluginClient) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(PluginClient, "_perform_handshake", hang)
        starting = asyncio.create_task(made.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert "close" not in calls


class TestChannel:
    """What an error says of a channel that does not come up."""

    @staticmethod
    async def started(words: str, redact: Redactor) -> PluginClient:
        made = client()
        made.process = await PluginProcess.spawn(["/bin/sh", "-c", words], env={}, redact=redact)
        return made

    async def test_last_words_over_the_channel(self, caplog: pytest.LogCaptureFixture) -> None:
        """A line without an end, under way when the plugin is closed, is logged like one on its own stdout."""
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        made = await self.started("sleep 60", Redactor())
        arrived = asyncio.Event()

        async def printed(request: object, wait_for_ready: bool) -> Any:
            yield StdioData(channel=StdioData.STDOUT, data=b"last words")
            arrived.set()
            await asyncio.Event().wait()

        made._stdio_stub = SimpleNamespace(StreamStdio=printed)
        made._stdio_task = asyncio.create_task(made._read_stdio_logs())
        await arrived.wait()
        await made.close()
        assert caplog.messages == ["last words"]

    async def test_address_is_quoted_like_all_else(self) -> None:
        """An address that cannot be reached is shown without secrets, however gRPC would write it."""
        made = await self.started("sleep 60", Redactor(["hunter+2"]))
        made._accept(Handshake(app_version=1, network="unix", address="/nowhere/hunter+2.sock"))
        with pytest.raises(HandshakeError, match=r"announced unix /nowhere/\[redacted\].sock, which") as refused:
            await made._create_grpc_channel()
        assert "hunter" not in str(refused.value)
        await made.close()


def test_credentials_follow_the_certificates() -> None:
    """No certificate of the plugin, no TLS; with one, TLS, whether or not there is one of ours."""
    made = client()
    assert made.dialler()._own_credentials() is None
    other = client()
    asyncio.run(other._setup_client_certificates())
    assert other.client_cert is not None
    made._server_cert = "".join(other.client_cert.strip().splitlines()[1:-1])
    assert made.dialler()._own_credentials() is not None


def test_client_certificate_is_on_p256() -> None:
    """The curve that gRPC accepts from a client; made only when wanted."""
    made = client()
    asyncio.run(made._setup_client_certificates())
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    assert made.client_cert is not None
    key = x509.load_pem_x509_certificate(made.client_cert.encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    without = PluginClient(Plugin(("plugin",), mtls=False))
    asyncio.run(without._setup_client_certificates())
    assert without.client_cert is None


def test_both_parsers_agree_on_a_good_line() -> None:
    """The line is read here, more strictly than the client would, and with the same result."""
    line = "1|6|unix|/tmp/x.sock|grpc|MIIB"
    theirs, ours = parse_handshake_response(line), parse_handshake(line)
    assert theirs[1:4] + theirs[5:] == (ours.app_version, ours.network, ours.address, ours.certificate)


async def test_grpc_tells_whether_calls_are_in_flight() -> None:
    """What `PluginLink.close` asks a channel exists: without it, closing would be noisier."""
    channel = grpc.aio.insecure_channel("unix:/nowhere")
    calls = channel._active_calls  # type: ignore[attr-defined]
    assert len(calls) == 0
    call = channel.unary_unary("/a/b", None, None)(b"", wait_for_ready=True)
    assert len(calls) == 1
    call.cancel()
    async with asyncio.timeout(200):
        while calls:
            await asyncio.sleep(0.005)
    await channel.close(grace=None)


def test_stub_that_logs_has_what_the_client_calls() -> None:
    """Every method that the client's code calls on its logger exists on ours."""
    logger = _pyvider._StandardLogger()
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("message %s with percent", exc_info=False, extra={"trace": "x"})
    assert logger.is_debug_enabled() is False

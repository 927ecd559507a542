"""`PluginLink` with real plugins, good and bad: it opens, notices, ends, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.links.errors import (
    BadCookieError,
    CommandNotFoundError,
    ConnectionLostError,
    HandshakeError,
    IncompatibleProtocolError,
    LinkError,
    LinkLostError,
    PluginExitedError,
)
from fsm_conn.links.plugin import link as plugin_link
from fsm_conn.links.plugin.link import PluginLink

from .conftest import CALCULATOR, DEMO, PLUGINS, PYTHON, Leftovers, children, eventually, hostile, is_alive

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("no_leaks")]

QUICK = 200.0
ROOT = str(Path(__file__).parents[2])
ENV = {"PYTHONPATH": ROOT}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that was asked to end may take its time, as it does on a busy machine."""
    monkeypatch.setattr(plugin_link, "ASKED", QUICK)


def calculator(**options: Any) -> PluginLink:
    return PluginLink(CALCULATOR, env={**ENV, **options.pop("env", {})}, **options)


async def opened(link: PluginLink) -> PluginLink:
    async with asyncio.timeout(QUICK):
        await link.open()
    return link


async def refusal(*command: str, **options: Any) -> LinkError:
    """The error with which a link does not open."""
    link = PluginLink(command, **options)
    async with asyncio.timeout(QUICK):
        with pytest.raises(LinkError) as caught:
            await link.open()
    return caught.value


async def endless() -> AsyncIterator[Any]:
    """Requests that never come."""
    await asyncio.Event().wait()
    yield {}


async def add(link: PluginLink) -> float:
    reply = await link.call("calculator.Add", None, {"a": 5, "b": 3}, None)
    return float(reply.result)


class TestGood:
    @pytest.mark.parametrize("mtls", [None, True, False])
    async def test_open_call_probe_close(self, mtls: bool | None) -> None:
        """A plugin opens, answers, is well, and ends by itself when asked to."""
        link = await opened(calculator(mtls=mtls))
        assert await add(link) == 8
        await link.probe()
        pid = link.pid
        async with asyncio.timeout(QUICK):
            await link.close()
        assert "exited with status 0" in repr(link)
        assert pid not in children()

    async def test_environment_and_directory(self, tmp_path: Path) -> None:
        """env= goes on top of the host's environment, cwd= is where the plugin starts."""
        error = await refusal("sh", "-c", "echo $ONE $HOME $(pwd) >&2; exit 1", env={"ONE": "1234"}, cwd=tmp_path)
        assert f"1234 {os.environ['HOME']} {tmp_path}" in str(error)

    async def test_inherited_certificates_stay_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host that is a plugin itself does not hand on what its own host told it."""
        monkeypatch.setenv("PLUGIN_CLIENT_CERT", "inherited")
        monkeypatch.setenv("PLUGIN_MULTIPLEX_GRPC", "true")
        script = "echo [$PLUGIN_CLIENT_CERT$PLUGIN_CLIENT_ROOT_CERTS$PLUGIN_MULTIPLEX_GRPC] >&2; exit 1"
        assert "[]" in str(await refusal("sh", "-c", script, mtls=False))
        assert "-----BEGIN CERTIFICATE-----" in str(await refusal("sh", "-c", script))

    async def test_sixteen_at_once(self) -> None:
        """With the gate, many start in a bounded time, and threads of the loop's executor stay free."""
        links = [calculator() for _ in range(16)]

        async def start(link: PluginLink) -> None:
            async with link.start_slot():
                await link.open()

        async with asyncio.timeout(4 * QUICK):
            await asyncio.gather(*map(start, links))
            assert await asyncio.gather(*map(add, links)) == [8] * 16
            await asyncio.gather(*(link.close() for link in links))

    async def test_compiled_stub(self) -> None:
        """The channel serves compiled stubs."""
        link = await opened(calculator())
        stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]
        assert (await stub.Multiply(calculator_pb2.Operands(a=6, b=7))).result == 42
        await link.close()


class TestMutualTls:
    async def test_others_are_refused(self) -> None:
        """Nobody but the link that started the plugin can talk to it, not even with the server's certificate, nor with
        that of another link of the same host.
        """
        link, other = await opened(calculator()), await opened(calculator())
        assert link._client is not None
        assert other._client is not None
        client = link._client
        root = client._rebuild_x509_pem(client._server_cert).encode()
        assert other._client.client_cert != client.client_cert
        key, cert = other._client.client_key_pem.encode(), other._client.client_cert.encode()
        for credentials in (
            None,
            grpc.ssl_channel_credentials(root_certificates=root),
            grpc.ssl_channel_credentials(root_certificates=root, private_key=key, certificate_chain=cert),
        ):
            channel = (
                grpc.aio.insecure_channel(client.target_endpoint)
                if credentials is None
                else grpc.aio.secure_channel(
                    client.target_endpoint, credentials, options=[("grpc.ssl_target_name_override", "localhost")]
                )
            )
            stub: Any = calculator_pb2_grpc.CalculatorStub(channel)  # type: ignore[no-untyped-call]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Add(calculator_pb2.Operands(a=1, b=2), timeout=100)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            await channel.close(grace=None)
        own = grpc.ssl_channel_credentials(
            root_certificates=root,
            private_key=client.client_key_pem.encode(),
            certificate_chain=client.client_cert.encode(),
        )
        options = [("grpc.ssl_target_name_override", "localhost")]
        async with grpc.aio.secure_channel(client.target_endpoint, own, options=options) as channel:
            stub = calculator_pb2_grpc.CalculatorStub(channel)  # type: ignore[no-untyped-call]
            assert (await stub.Add(calculator_pb2.Operands(a=1, b=2), timeout=100)).result == 3
        await link.close()
        await other.close()

    async def test_insisted_on(self) -> None:
        """mtls=True refuses a plugin that answers without a certificate, for good."""
        error = await refusal(*DEMO, env={**ENV, "PLUGIN_AUTO_MTLS": "false"}, mtls=True)
        assert isinstance(error, IncompatibleProtocolError)
        assert "mtls=True" in str(error)
        link = await opened(calculator(env={"PLUGIN_AUTO_MTLS": "false"}))
        assert await add(link) == 8
        await link.close()


class TestBad:
    async def test_no_such_command(self) -> None:
        """A command that does not exist is permanent."""
        assert isinstance(await refusal("no-such-plugin"), CommandNotFoundError)

    async def test_exits_with_a_message(self) -> None:
        """What it said last, and how it ended, is in the error."""
        error = await refusal(*hostile("exit"))
        assert isinstance(error, PluginExitedError)
        assert error.returncode == 3
        assert "exited with status 3 before its handshake" in str(error)
        assert error.message.endswith("before its handshake: set LICENSE")
        assert error.evidence == "its lines on stderr before that:\n  no license found"
        assert str(pickle.loads(pickle.dumps(error))) == str(error)

    async def test_handshake_then_exit(self) -> None:
        """One that ends right after its handshake fails as fast as it ends, with its last words."""
        error = await refusal(*hostile("handshake-exit"))
        assert isinstance(error, PluginExitedError)
        assert error.returncode == 4
        assert "died of shame" in str(error)

    @pytest.mark.parametrize(
        ("line", "kind", "words"),
        [
            ("hello there", HandshakeError, "must print nothing on stdout before"),
            ("2|1|unix|/tmp/x|grpc|", IncompatibleProtocolError, "core version 2"),
            ("1|1|unix|/tmp/x|netrpc|", IncompatibleProtocolError, "net/rpc"),
            ("1|6|tcp|192.0.2.1:80|grpc|", HandshakeError, "not on this machine"),
            ("1|7|unix|/tmp/x|grpc|", IncompatibleProtocolError, "this host offered 5, 6"),
            ("1|6|unix|/nowhere/s.sock|grpc|", HandshakeError, "outside of the directory that the plugin was given"),
            ("1|6|unix|TMPDIR/s.sock|grpc|", HandshakeError, "cannot be reached"),
            ("1|6|unix|TMPDIR/s.sock|grpc|AAAA", HandshakeError, "a certificate that cannot be read"),
        ],
    )
    async def test_wrong_line(self, line: str, kind: type[LinkError], words: str) -> None:
        """A line that is wrong is quoted, with what is wrong with it."""
        error = await refusal(*hostile("line", line), env={"PLUGIN_PROTOCOL_VERSIONS": "5,6"})
        assert type(error) is kind
        assert words in str(error)

    async def test_prints_usage_and_exits(self) -> None:
        """A command that is no plugin shows what it printed and how it ended."""
        error = await refusal(*hostile("garbage-exit"))
        assert isinstance(error, HandshakeError)
        assert "usage: thing" in str(error)
        assert "then it exited with status 2" in str(error)

    @pytest.mark.parametrize("kind", ["cookie-python", "cookie-go"])
    async def test_cookie_refused(self, kind: str) -> None:
        """A refused cookie is permanent, and neither side's cookie is shown."""
        error = await refusal(*hostile(kind), env={"PLUGIN_MAGIC_COOKIE": "our-own-secret"})
        assert isinstance(error, BadCookieError)
        assert "our-own-secret" not in str(error)
        assert "the-plugins-own" not in str(error)

    async def test_cookie_refused_by_the_real_server(self) -> None:
        """The real server of pyvider is understood."""
        error = await refusal(*DEMO, env={**ENV, "PLUGIN_MAGIC_COOKIE": "our-own-secret"})
        assert isinstance(error, BadCookieError)
        assert "our-own-secret" not in str(error)

    async def test_silent_until_the_time_is_up(self) -> None:
        """The caller's timeout ends the wait, and what it had printed is still there."""
        link = PluginLink(hostile("silent"))
        opening = asyncio.create_task(link.open())
        await eventually(lambda: "starting" in link.diagnostics())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(opening, 0.1)
        assert "starting" in link.diagnostics()

    async def test_hangs_after_its_handshake(self) -> None:
        """A server that never answers is waited for as long as the caller likes."""
        link = PluginLink(hostile("handshake-hang"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await link.open()

    async def test_secrets_of_env(self) -> None:
        """What the user handed over is shown nowhere: not in errors, evidence, reprs, or the quoted line."""
        link = PluginLink(hostile("env", "API_TOKEN"), env={"API_TOKEN": "s3cr3t-value"})
        with pytest.raises(HandshakeError) as caught:
            async with asyncio.timeout(QUICK):
                await link.open()
        for shown in (str(caught.value), repr(caught.value), caught.value.line, link.diagnostics(), repr(link)):
            assert "s3cr3t" not in shown
        assert "[redacted]" in str(caught.value)

    async def test_closed_channel_after_ready(self) -> None:
        """The wrong kind of command is refused when the link is made."""
        for wrong in ("python plugin.py", b"x", []):
            with pytest.raises((TypeError, ValueError), match=r"list of strings|the command is empty"):
                PluginLink(wrong)  # type: ignore[arg-type]


class TestLost:
    async def test_killed(self) -> None:
        """lost() tells of the signal at once, to everybody who asks, the same."""
        link = await opened(calculator())
        asking = [asyncio.create_task(link.lost()) for _ in range(2)]
        await asyncio.sleep(0)
        assert link.pid is not None
        os.kill(link.pid, signal.SIGKILL)
        async with asyncio.timeout(QUICK):
            first, second = await asyncio.gather(*asking)
        assert isinstance(first, PluginExitedError)
        assert first is second is await link.lost()
        assert first.returncode == -signal.SIGKILL
        async with asyncio.timeout(QUICK):
            await link.close()

    async def test_call_in_flight_when_killed(self) -> None:
        """A call that the kill interrupts fails as one whose server went away."""
        link = await opened(calculator())
        stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]
        call = stub.Accumulate()
        await call.write(calculator_pb2.Number(value=1))
        assert (await call.read()).result == 1
        assert link.pid is not None
        os.kill(link.pid, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(QUICK):
                await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert isinstance(await link.lost(), PluginExitedError)
        await link.close()

    async def test_channel_broken_while_the_process_lives(self) -> None:
        """A server that goes away under a process that stays is a loss, too, and says so."""
        link = await opened(PluginLink([PYTHON, str(PLUGINS / "stops_serving.py")], env=ENV))
        assert link.pid is not None
        os.kill(link.pid, signal.SIGUSR1)
        async with asyncio.timeout(QUICK):
            reason = await link.lost()
        assert isinstance(reason, LinkLostError)
        assert "was still there" in str(reason)
        async with asyncio.timeout(QUICK):
            await link.close()

    async def test_asked_again_after_close(self) -> None:
        """A link that was closed says so."""
        link = await opened(calculator())
        await link.close()
        assert "was closed" in str(await link.lost())


class TestHopeless:
    """What would be the same next time is permanent."""

    @pytest.mark.parametrize(
        "command",
        [
            (PYTHON, "/nowhere/plugin.py"),
            (PYTHON, "-m", "no_such_module_here"),
            ("/bin/sh", "-c", "no-such-command-here"),
            ("/usr/bin/env", "no-such-command-here"),
        ],
    )
    async def test_a_program_that_finds_no_program(self, command: tuple[str, ...]) -> None:
        """An interpreter without its script, a shell without its command; the last line stands first."""
        error = await refusal(*command)
        assert isinstance(error, PluginExitedError)
        assert error.permanent
        assert error.message.count("\n") == 0
        assert re.search(
            r"before its handshake: .*(can't open file|No module named|no-such-command-here)", error.message
        )

    @pytest.mark.parametrize("kind", ["garbage", "garbage-exit", "socket-file"])
    async def test_noise(self, kind: str) -> None:
        """Something else on stdout, and a socket that is none."""
        assert (await refusal(*hostile(kind))).permanent

    @pytest.mark.parametrize("kind", ["exit", "closed-stdout", "handshake-exit", "handshake-hangs-up"])
    async def test_what_may_get_better(self, kind: str) -> None:
        """A plugin that ends, or that nobody can reach, may do better next time."""
        assert not (await refusal(*hostile(kind))).permanent

    @pytest.mark.parametrize("words", ["Misconfigured ServeConfig given to serve this plugin: no magic cookie key"])
    async def test_go_plugin_without_a_cookie(self, words: str) -> None:
        """A plugin that was built without one says so in other words."""
        error = await refusal("/bin/sh", "-c", f"echo '{words}' >&2; exit 1")
        assert isinstance(error, BadCookieError)


class TestClose:
    async def test_call_in_flight(self) -> None:
        """A call under way fails with an error of its own, never with a cancellation that nobody asked for."""
        link = await opened(calculator())
        stub: Any = calculator_pb2_grpc.CalculatorStub(link.channel)  # type: ignore[no-untyped-call]
        call = stub.Accumulate()
        await call.write(calculator_pb2.Number(value=1))
        await call.read()
        reading = asyncio.create_task(call.read())
        await asyncio.sleep(0)
        async with asyncio.timeout(QUICK):
            await link.close()
        with pytest.raises(grpc.aio.AioRpcError):
            await reading

    async def test_ignores_sigterm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A plugin that does not want to end is ended."""
        monkeypatch.setattr(plugin_link, "ASKED", 0.5)
        link = await opened(PluginLink([PYTHON, str(PLUGINS / "stubborn.py")], env=ENV))
        async with asyncio.timeout(QUICK):
            await link.close()
        assert "SIGKILL" in repr(link)

    async def test_asked(self, tmp_path: Path) -> None:
        """A plugin is asked to end, and does what it does at its end, before anybody sends it a signal."""
        ends = [tmp_path / f"end{number}" for number in range(3)]
        links = [PluginLink([PYTHON, str(PLUGINS / "tidy.py"), str(end)], env=ENV) for end in ends]
        await asyncio.gather(*map(opened, links))
        async with asyncio.timeout(QUICK):
            await asyncio.gather(*(link.close() for link in links))
        assert [end.read_text() for end in ends] == ["asked, cleaned up"] * 3

    async def test_asked_under_calls(self, tmp_path: Path) -> None:
        """Also when calls are under way: they end with an error, and the plugin in peace."""
        link = await opened(PluginLink([PYTHON, str(PLUGINS / "tidy.py"), str(tmp_path / "end")], env=ENV))
        pending = asyncio.create_task(anext(link.stream("calculator.Accumulate", endless(), {}, None)))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(QUICK):
            await link.close()
        with pytest.raises(ConnectionLostError):
            await pending
        assert (tmp_path / "end").read_text() == "asked, cleaned up"

    async def test_not_asked(self, tmp_path: Path) -> None:
        """One that does not answer any more is killed at once: an answer would be waited for in vain."""
        link = await opened(PluginLink([PYTHON, str(PLUGINS / "tidy.py"), str(tmp_path / "end")], env=ENV))
        assert link.pid is not None
        os.kill(link.pid, signal.SIGSTOP)
        link.mark_unresponsive()
        async with asyncio.timeout(QUICK / 2):
            await link.close()
        assert not (tmp_path / "end").exists()
        assert "SIGKILL" in repr(link)

    async def test_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A plugin that was stopped does not hold up close() either."""
        monkeypatch.setattr(plugin_link, "ASKED", 0.5)
        link = await opened(calculator())
        assert link.pid is not None
        os.kill(link.pid, signal.SIGSTOP)
        async with asyncio.timeout(QUICK):
            await link.close()

    async def test_cancelled(self) -> None:
        """A cancelled close() kills, gives back the rest, and lets the cancellation go on."""
        link = await opened(PluginLink([PYTHON, str(PLUGINS / "stubborn.py")], env=ENV))
        closing = asyncio.create_task(link.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        async with asyncio.timeout(QUICK / 2):
            with pytest.raises(asyncio.CancelledError):
                await closing
        assert "SIGKILL" in repr(link)

    async def test_at_any_moment_of_close(self, leftovers: Leftovers) -> None:
        """Cancelled at any await, close() leaves nothing."""
        for steps in range(1, 13):
            link = await opened(calculator())
            closing = asyncio.create_task(link.close())
            for _ in range(steps):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait((closing,))
            assert link.pid not in children()
        await leftovers.none()


class TestCancelledOpen:
    async def test_sweep(self, leftovers: Leftovers) -> None:
        """Cancelled at moments spread over a start, open() leaves nothing when the cancellation arrives."""
        clock = asyncio.get_running_loop().time
        then = clock()
        link = await opened(calculator())
        whole = clock() - then  # as far as is known: the machine may have had other things to do
        await link.close()
        chance = random.Random(7)
        for moment in range(16):
            link, then = calculator(), clock()
            opening = asyncio.create_task(link.open())
            await asyncio.wait((opening,), timeout=whole * (moment + chance.random()) / 16)
            if opening.done():
                whole = min(whole, clock() - then)
            opening.cancel()
            await asyncio.wait((opening,))
            if opening.cancelled():
                assert not children() - leftovers.before["processes"]  # type: ignore[operator]
            else:
                await link.close()
        await leftovers.none()

    async def test_every_await(self, leftovers: Leftovers) -> None:
        """Cancelled at its n-th await, for every n there is, with a second cancellation while it cleans up."""
        for second in (False, True):
            for steps in range(25):
                opening = asyncio.create_task(PluginLink(hostile("handshake-hang")).open())
                for _ in range(steps):
                    await asyncio.sleep(0.001)
                opening.cancel()
                if second:
                    await asyncio.sleep(0)
                    opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
            await leftovers.none()


class TestLogs:
    async def test_plugin_output(self, caplog: pytest.LogCaptureFixture) -> None:
        """What the plugin prints at any time is logged under its name."""
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        link = await opened(PluginLink([PYTHON, str(PLUGINS / "talkative.py")], env=ENV, name="talker"))
        said = lambda: {record.message for record in caplog.records}  # noqa: E731
        await eventually(lambda: {"to stdout", "to stderr"} <= said())
        assert {record.plugin_name for record in caplog.records} == {"talker"}  # type: ignore[attr-defined]
        await link.close()

    async def test_client_library(self, caplog: pytest.LogCaptureFixture) -> None:
        """What the client library says goes to the standard logger, below anybody's notice."""
        caplog.set_level(logging.DEBUG, "fsm_conn.pyvider")
        link = await opened(calculator())
        await link.close()
        records = [record for record in caplog.records if record.name == "fsm_conn.pyvider"]
        assert records
        assert {record.levelno for record in records} == {logging.DEBUG}

    @pytest.mark.parametrize("command", [CALCULATOR, hostile("exit"), hostile("garbage"), ["no-such"]])
    async def test_quiet(self, command: list[str]) -> None:
        """By default nothing appears on the host's stdout or stderr, whatever happens."""
        done = await run_host("await use(PluginLink(sys.argv[1:]))", *command)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


HOST = """
import asyncio, os, sys
from fsm_conn.links.plugin.link import PluginLink
from fsm_conn.links.errors import LinkError
async def use(link):
    try:
        await link.open()
    except LinkError:
        return
    await link.call("calculator.Add", None, {{"a": 1, "b": 2}}, None)
    await link.close()
kept = []
async def main():
    {then}
asyncio.run(main())
"""


async def run_host(then: str, *command: str) -> subprocess.CompletedProcess[bytes]:
    child = subprocess.Popen(
        [PYTHON, "-c", HOST.format(then=then), *command],
        env={**os.environ, **ENV},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    pidfd = os.pidfd_open(child.pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, ended.set)
    async with asyncio.timeout(4 * QUICK):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
    out, err = child.communicate()
    return subprocess.CompletedProcess([], child.returncode, out, err)


class TestEndOfLoop:
    async def test_without_close(self) -> None:
        """A loop that ends with an open link ends; the plugin is gone by then, and nobody complains."""
        then = "link = PluginLink(sys.argv[1:]); kept.append(link); await link.open(); print(link.pid, flush=True)"
        done = await run_host(then, *DEMO)
        assert done.returncode == 0
        assert done.stderr == b""
        assert not is_alive(int(done.stdout))

    async def test_during_open(self) -> None:
        """A loop that ends while a link opens leaves no plugin."""
        then = "kept.append(asyncio.create_task(PluginLink(sys.argv[1:]).open())); await asyncio.sleep(0.6)"
        ours = f"hangs-for-{uuid.uuid4()}"  # tests beside this one, and other runs, have some of that kind, too
        done = await run_host(then, *hostile("handshake-hang", ours))
        assert (done.returncode, done.stderr) == (0, b"")
        running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert ours not in running


async def test_first_import_does_not_stall_the_loop() -> None:
    """The client library takes long to import; the loop goes on meanwhile."""
    code = """
import asyncio, sys
from fsm_conn.links.plugin.link import PluginLink
async def main():
    loop, worst = asyncio.get_running_loop(), 0.0
    assert "pyvider.rpcplugin" not in sys.modules
    opening = asyncio.create_task(PluginLink(["no-such-command"]).open())
    beats = 0
    while not opening.done():
        await asyncio.sleep(0.002)
        beats += 1
    opening.exception()
    assert "pyvider.rpcplugin" in sys.modules
    assert beats > 5, beats
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **ENV}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "module",
    [
        *("plugin.handshake", "plugin.diagnosis", "process.start_limiter", "process.output"),
        *("process.directory", "process.spawner", "process.process"),
    ],
)
def test_light_modules_import_no_grpc(module: str) -> None:
    """What knows only processes and text needs neither grpc nor pyvider."""
    code = f"import sys, fsm_conn.links.{module}; assert not {{'grpc', 'pyvider'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **ENV}, check=True)


GROWTH = """
import asyncio, gc, sys
from fsm_conn.links.errors import LinkError
from fsm_conn.links.plugin.link import PluginLink

def left():
    gc.collect()
    return sum(type(each).__name__ == "CallbackWrapper" for each in gc.get_objects())

async def attempt():
    link = PluginLink(sys.argv[1:])
    try:
        await link.open()
    except LinkError as error:  # as whoever keeps the reason of a failure does
        return left() + (error is None)

async def main():
    print([await attempt() for _ in range(6)])

asyncio.run(main())
"""


def test_nothing_of_grpc_stays() -> None:
    """However often a plugin announces a socket that is not there: gRPC's own objects grow no more in number."""
    command = hostile("line", "1|1|unix|TMPDIR/s.sock|grpc|")
    done = subprocess.run(
        [PYTHON, "-c", GROWTH, *command],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={"PATH": os.defpath},
    )
    counted = numbers_in(done.stdout)
    assert counted[-1] <= 2, counted


def numbers_in(text: str) -> list[int]:
    return [int(word) for word in re.findall(r"\d+", text)]

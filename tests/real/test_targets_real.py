"""What can be said of a plugin, each against a real one."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fsm_conn import ChecksumError, Connection, LinkError, Plugin, Reattach, RetryPolicy
from fsm_conn.links.plugin import reattach
from fsm_conn.links.plugin.link import PluginLink
from fsm_conn.links.plugin.reattach import ReattachLink
from fsm_conn.links.process.foreign import ForeignProcess

from .conftest import PLUGINS, PYTHON, eventually, is_alive

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("no_leaks")]

ODD = [PYTHON, str(PLUGINS / "odd_calculator.py")]


@asynccontextmanager
async def running(plugin: Plugin) -> AsyncIterator[PluginLink]:
    link = PluginLink(plugin)
    async with asyncio.timeout(200):
        await link.open()
    try:
        yield link
    finally:
        await link.close()


async def told(link: PluginLink, name: str) -> str:
    reply: bytes = await link.channel.unary_unary("/odd.Odd/Told")(name.encode())
    return reply.decode()


async def test_versions_are_offered_and_the_chosen_one_is_told() -> None:
    """As go-plugin negotiates them."""
    async with running(Plugin(ODD, versions=(5, 6))) as link:
        assert await told(link, "PLUGIN_PROTOCOL_VERSIONS") == "5,6"
        assert link.version == 6


async def test_the_environment_of_the_host_can_be_kept_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it has what it is given, and what a host tells its plugin."""
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    async with running(Plugin(ODD, inherit_env=False, env={"MINE": "1"})) as link:
        names = (await told(link, "names")).split()
        assert "MINE" in names
        assert "SECRET_OF_THE_HOST" not in names
        assert "TMPDIR" in names
    async with running(Plugin(ODD)) as link:
        assert "SECRET_OF_THE_HOST" in (await told(link, "names")).split()


async def test_it_reads_what_it_is_given_to_read(tmp_path: Path) -> None:
    """Nothing, unless an open file is given."""
    (tmp_path / "input").write_text("read me")
    with open(tmp_path / "input") as file:
        async with running(Plugin(ODD, stdin=file.fileno())) as link:
            assert await told(link, "stdin") == "read me"
    async with running(Plugin(ODD)) as link:
        assert await told(link, "stdin") == ""


def asks_for_metadata(conn: Connection) -> Any:
    """The bytes of a call to it: the plugin has no reflection."""
    return conn.link.channel.unary_unary("/odd.Odd/Told")(b"metadata")  # type: ignore[union-attr]


async def test_metadata_goes_with_every_call_to_a_plugin(foreign: Any) -> None:
    """To one of ours, and to one that runs already; a function is asked each time, also after a restart."""
    tokens = iter(range(1, 100))

    def token() -> dict[str, str]:
        return {"token": str(next(tokens))}

    async with Connection(Plugin(ODD, metadata=token)) as conn:
        for number in (1, 2):
            call = asks_for_metadata(conn)
            assert f"('token', '{number}')" in (await call).decode()
        assert tuple(await call.trailing_metadata()) == (("cost-bin", b"\x01"),)
        await conn.reconnect()
        assert "('token', '3')" in (await asks_for_metadata(conn)).decode()
    async with Connection(Reattach(foreign[1], metadata={"token": "mine"})) as conn:
        assert "('token', 'mine')" in (await asks_for_metadata(conn)).decode()
    with pytest.raises(ValueError, match=r"Plugin\(metadata=...\): 'Token' may have only lower-case"):
        Plugin(ODD, metadata={"Token": "x"})


async def test_large_replies() -> None:
    """64 MiB, as go-plugin's own client takes them; and less where that is asked for."""
    size = 64 * 1024 * 1024
    async with running(Plugin(ODD)) as link:
        assert len(await link.channel.unary_unary("/odd.Odd/Large")(str(size).encode())) == size
    async with running(Plugin(ODD, max_message=1024)) as link:
        with pytest.raises(Exception, match="larger than max"):
            await link.channel.unary_unary("/odd.Odd/Large")(b"2048")


async def test_the_authority_of_calls_to_a_plugin_is_the_name_of_a_host() -> None:
    """As the plugin sees it: `localhost`, for the path of a socket is none, and Rust's http crate refuses it."""
    pytest.importorskip("h2", reason="the package h2 is not installed")
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    async with running(Plugin([PYTHON, str(PLUGINS / "authority.py")], env=env)) as link:
        assert await link.channel.unary_unary("/any.Any/Any")(b"") == b"localhost"
    other = Plugin([PYTHON, str(PLUGINS / "authority.py")], env=env, options=(("grpc.default_authority", "me.test"),))
    async with running(other) as link:
        assert await link.channel.unary_unary("/any.Any/Any")(b"") == b"me.test"


def script(path: Path, word: str) -> Path:
    path.write_text(f"#!/bin/sh\nMARK={word} exec {PYTHON} {PLUGINS / 'odd_calculator.py'}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="needs memory that can be sealed")
async def test_what_was_compared_is_what_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the file is replaced between the two."""
    program = script(tmp_path / "plugin", "good")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    popen = subprocess.Popen

    def replaced(*args: Any, **kwargs: Any) -> Any:
        script(program, "evil")
        return popen(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", replaced)
    async with running(Plugin([str(program)], sha256=digest)) as link:
        assert await told(link, "MARK") == "good"
    monkeypatch.undo()
    with pytest.raises(ChecksumError, match="and sha256=") as caught:
        async with running(Plugin([str(program)], sha256=digest)):
            pass
    assert caught.value.permanent


@pytest.mark.skipif(sys.platform != "linux", reason="needs memory that can be sealed")
async def test_a_compiled_program_is_compared_too() -> None:
    """An interpreter, here."""
    program = os.path.realpath(PYTHON)
    digest = hashlib.sha256(Path(program).read_bytes()).hexdigest()
    env = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHOME": sys.base_prefix}
    async with running(Plugin([program, ODD[1]], sha256=digest, env=env)) as link:
        assert await told(link, "MARK") == ""


# ---- reattaching -------------------------------------------------------------------------------------------------------


def started(*command: str, **env: str) -> tuple[subprocess.Popen[bytes], str]:
    """A plugin that somebody else has started: its process, and where it serves."""
    env = {**os.environ, "PLUGIN_MAGIC_COOKIE": "test_cookie_value", **env}
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
    assert popen.stdout is not None
    return popen, f"unix:{popen.stdout.readline().decode().split('|')[3]}"


@pytest.fixture
def foreign() -> Any:
    """A plugin that somebody else has started: its process, and where it serves."""
    directory = f"/tmp/fsm-reattach-{os.getpid()}"
    os.makedirs(directory, exist_ok=True)
    popen = subprocess.Popen(ODD, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": directory})
    assert popen.stdout is not None
    address = popen.stdout.readline().decode().split("|")[3]
    yield popen, f"unix:{address}"
    popen.kill()
    popen.communicate()
    shutil.rmtree(directory)


async def test_reattaching_leaves_the_plugin_running(foreign: Any) -> None:
    """It answers, goes on when the link is closed, and answers the next one."""
    popen, address = foreign
    for _ in range(2):
        async with Connection(Reattach(address, pid=popen.pid)) as conn:
            assert conn.link.pid == popen.pid  # type: ignore[union-attr,unused-ignore]
            reply = await conn.link.channel.unary_unary("/odd.Odd/Told")(b"TMPDIR")  # type: ignore[union-attr]
            assert reply
    assert popen.poll() is None


async def test_the_end_of_a_plugin_that_was_reattached_is_noticed(foreign: Any) -> None:
    """By its process; and there is nothing to reattach to afterwards."""
    popen, address = foreign
    link = ReattachLink(Reattach(address, pid=popen.pid))
    await link.open()
    os.kill(popen.pid, signal.SIGKILL)
    reason = await asyncio.wait_for(link.lost(), 200)
    assert isinstance(reason, LinkError)
    await link.close()
    popen.wait()
    await eventually(lambda: not is_alive(popen.pid))
    with pytest.raises(LinkError, match="has ended, so there is nothing to reattach to"):
        await ReattachLink(Reattach(address, pid=popen.pid)).open()
    conn = Connection(Reattach(address), retry=RetryPolicy(max_attempts=1))
    with pytest.raises(Exception, match="cannot reach"):
        await conn.connect()


HOST = """
import asyncio
from fsm_conn import Connection, Reattach
async def main():
    async with Connection(Reattach({address!r}, pid={pid})) as conn:
        print((await conn.call("calculator.Add", a=1, b=2)).result, flush=True)
        await asyncio.sleep(1000)
asyncio.run(main())
"""


async def test_it_goes_on_serving_after_its_hosts_were_killed(binary: str) -> None:
    """Each host that is started again finds the same process, which nobody has ended."""
    popen, address = started(binary)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    try:
        for _ in range(2):
            command = [PYTHON, "-c", HOST.format(address=address, pid=popen.pid)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as host:
                assert host.stdout is not None
                assert host.stdout.readline() == b"3.0\n"
                host.kill()
        async with asyncio.timeout(200):
            async with Connection(Reattach(address, pid=popen.pid)) as conn:
                assert (await conn.call("calculator.Add", a=5, b=3)).result == 8
        assert popen.poll() is None
    finally:
        popen.kill()
        popen.communicate()


async def test_what_a_reattached_plugin_prints(caplog: pytest.LogCaptureFixture) -> None:
    """Goes to the application and into the log, at the lines' own levels; what came before, to those who started it."""
    caplog.set_level("WARNING", "fsm_conn.plugin")
    heard: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def hear(stream: str) -> Any:
        return lambda data: heard.update({stream: heard[stream] + data})

    with tempfile.TemporaryDirectory(prefix="p-") as directory:
        popen, address = started(PYTHON, str(PLUGINS / "loud.py"), TMPDIR=directory)
        try:
            target = Reattach(address, pid=popen.pid, stdout=hear("stdout"), stderr=hear("stderr"))
            async with Connection(target):
                await eventually(lambda: heard["stdout"] and heard["stderr"])
            assert heard["stdout"] == b"streamed out\n"
            assert heard["stderr"].endswith(b" [ERROR] streamed err\n")
            assert [record.levelname for record in caplog.records if record.name == "fsm_conn.plugin"] == ["ERROR"]
        finally:
            popen.kill()
            popen.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="needs descriptors of processes")
class TestEndedWhereThatIsAsked:
    """go-plugin's `Kill` of a client that was reattached."""

    async def test_it_is_asked_first(self, binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that it can do its work at the end."""
        monkeypatch.setattr(reattach, "ASKED", 200.0)  # on a busy machine it may take its time
        popen, address = started(binary, "-goodbye", str(tmp_path / "end"))
        try:
            async with asyncio.timeout(200):
                async with Connection(Reattach(address, pid=popen.pid, end_on_close=True)):
                    pass
                await eventually(lambda: popen.poll() is not None)
            assert popen.returncode == 0
            assert (tmp_path / "end").read_text() == "cleaned up"
        finally:
            popen.kill()
            popen.communicate()

    @pytest.mark.parametrize(("word", "sign"), [("told", signal.SIGTERM), ("stubborn", signal.SIGKILL)])
    async def test_then_told_then_killed(
        self, foreign: Any, monkeypatch: pytest.MonkeyPatch, word: str, sign: signal.Signals
    ) -> None:
        """One that cannot be asked, and that ignores SIGTERM or does not."""
        monkeypatch.setattr(reattach, "TOLD", 60.0 if word == "told" else 0.01)
        popen, address = foreign
        link = ReattachLink(Reattach(address, pid=popen.pid, end_on_close=True))
        await link.open()
        if word == "stubborn":
            await link.channel.unary_unary("/odd.Odd/Told")(b"stubborn")
        async with asyncio.timeout(200):
            await link.close()
            await eventually(lambda: popen.poll() is not None)
        assert popen.returncode == -sign

    async def test_after_a_loss_it_goes_on(self, foreign: Any) -> None:
        """A link that broke is no reason to end the plugin."""
        popen, address = foreign
        link = ReattachLink(Reattach(address, pid=popen.pid, end_on_close=True))
        await link.open()
        link.mark_unresponsive()
        await link.close()
        async with Connection(Reattach(address, pid=popen.pid)) as conn:
            await conn.probe()
        assert popen.poll() is None

    async def test_a_close_that_is_cancelled_kills_it(self, foreign: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """At once."""
        monkeypatch.setattr(reattach, "TOLD", 1000.0)
        sent: list[int] = []
        send = ForeignProcess._send
        monkeypatch.setattr(ForeignProcess, "_send", lambda process, sign: (sent.append(sign), send(process, sign)))
        popen, address = foreign
        link = ReattachLink(Reattach(address, pid=popen.pid, end_on_close=True))
        await link.open()
        await link.channel.unary_unary("/odd.Odd/Told")(b"stubborn")
        closing = asyncio.ensure_future(link.close())
        await eventually(lambda: sent)
        closing.cancel()
        async with asyncio.timeout(200):
            await asyncio.wait((closing,))
            assert closing.cancelled()
            await eventually(lambda: popen.poll() is not None)
        assert popen.returncode == -signal.SIGKILL

    async def test_nobody_else_is_ended(self, foreign: Any) -> None:
        """A number of another process, as one has that was used again, is refused before anything is done."""
        _, address = foreign
        other = subprocess.Popen(["sleep", "1000"])
        try:
            with pytest.raises(LinkError, match=rf"would end process {other.pid}, and at .* listens process") as caught:
                await ReattachLink(Reattach(address, pid=other.pid, end_on_close=True)).open()
            assert caught.value.permanent
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()

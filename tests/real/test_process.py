"""`PluginProcess` on real processes: started, listened to, ended, and nothing left."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fsm_conn._util import workers
from fsm_conn._util.redact import Redactor
from fsm_conn.links.errors import CommandNotExecutableError, CommandNotFoundError, HandshakeError, LinkError
from fsm_conn.links.process import directory as private_directory
from fsm_conn.links.process import process as process_module
from fsm_conn.links.process import spawner, system, watchdog
from fsm_conn.links.process.output import LINES_PER_SECOND
from fsm_conn.links.process.process import PluginProcess, describe_status

from .conftest import PYTHON, Leftovers, children, eventually, hostile, is_alive

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("no_leaks")]

QUICK = 200.0
ENV = dict(os.environ)


async def started(*command: str, **options: Any) -> PluginProcess:
    return await PluginProcess.spawn(command, env=options.pop("env", ENV), **options)


async def printed(*command: str, **options: Any) -> tuple[PluginProcess, bytes]:
    process = await started(*command, **options)
    async with asyncio.timeout(QUICK):
        return process, await asyncio.shield(process.first_line)


class TestStarting:
    async def test_first_line_and_exit(self) -> None:
        """Its first line, its exit status and its last words can be had."""
        process, line = await printed("sh", "-c", "echo hello; echo first >&2; echo last >&2; exit 7")
        assert line == b"hello"
        assert await process.exited == 7
        assert process.diagnostics().splitlines()[1:] == ["  first", "  last"]
        await process.stop()

    async def test_does_not_block_the_loop_or_use_its_executor(self) -> None:
        """The loop's default executor is not even made."""
        process = await started(*hostile("silent"))
        assert getattr(asyncio.get_running_loop(), "_default_executor", None) is None
        await process.stop(0)

    async def test_own_group_and_no_stdin(self) -> None:
        """It leads a process group of its own, and its stdin is empty."""
        process, line = await printed("sh", "-c", "read x || echo none; sleep 100")
        assert line == b"none"
        assert os.getpgid(process.pid) == process.pid
        await process.stop(0)

    async def test_inherits_no_descriptor(self) -> None:
        """An inheritable descriptor of the host stays with the host."""
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        process, line = await printed("sh", "-c", f"test -e /proc/self/fd/{writing} && echo yes || echo no; sleep 100")
        assert line == b"no"
        await process.stop(0)
        os.close(reading)
        os.close(writing)

    async def test_all_start_on_one_thread_that_stays(self) -> None:
        """The thread that starts a process outlives it: else Linux would kill it when that thread ends."""
        names = {await workers.run("spawner", lambda: threading.current_thread().name) for _ in range(3)}
        assert len(names) == 1
        process = await started(*hostile("silent"))
        assert any(thread.name in names for thread in threading.enumerate())
        await process.stop(0)

    async def test_started_from_a_thread_that_ends(self) -> None:
        """A process started by a loop in a thread lives on when that thread is gone."""
        pids: list[int] = []

        async def start() -> None:
            process = await started(*hostile("silent"))
            pids.append(process.pid)
            kept.append(process)

        kept: list[PluginProcess] = []
        thread = threading.Thread(target=lambda: asyncio.run(start()))
        thread.start()
        await eventually(lambda: not thread.is_alive())
        thread.join()
        assert is_alive(pids[0])
        kept[0].abandon()
        assert not is_alive(pids[0])


class TestWrongCommands:
    async def test_unknown(self) -> None:
        """A command that is not in PATH is permanent, and says what to do."""
        with pytest.raises(CommandNotFoundError, match=r"'no-such-command-here' is not in any directory of PATH"):
            await started("no-such-command-here")
        with pytest.raises(CommandNotFoundError, match=r"/no/such/file does not exist"):
            await started("/no/such/file")

    async def test_from_a_directory_that_was_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is absolute, or found in PATH, starts; what is relative cannot, for good, and is told why."""
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        for command in ("/bin/echo", "echo"):
            process, line = await printed(command, "hello", env={**ENV, "PATH": f"bin:{ENV['PATH']}"})
            assert line == b"hello"
            await process.stop()
        with pytest.raises(
            CommandNotExecutableError, match=r"command '\./echo' is relative .* which was removed: give"
        ):
            await started("./echo")
        with pytest.raises(CommandNotFoundError, match=r"is not in any directory of PATH: install it"):
            await started("no-such-command-here")

    async def test_looked_for_from_the_childs_directory_and_path(self, tmp_path: Path) -> None:
        """PATH is that of the child, relative commands are relative to its directory."""
        script = tmp_path / "here"
        script.write_text("#!/bin/sh\necho found\n")
        script.chmod(0o755)
        with pytest.raises(CommandNotFoundError, match=r"write \./here"):
            await started("here", cwd=str(tmp_path))
        for command, options in (
            ("./here", {"cwd": str(tmp_path)}),
            ("here", {"env": {**ENV, "PATH": str(tmp_path)}}),
            ("here", {"env": {**ENV, "PATH": "."}, "cwd": str(tmp_path)}),
        ):
            process, line = await printed(command, **options)
            assert line == b"found"
            await process.stop()

    async def test_not_executable(self, tmp_path: Path) -> None:
        """No permission, a directory, a dangling link, a missing interpreter: each says so."""
        plain = tmp_path / "plain"
        plain.write_text("#!/bin/sh\n")
        dangling = tmp_path / "dangling"
        dangling.symlink_to("nowhere")
        orphan = tmp_path / "orphan"
        orphan.write_text("#!/no/such/interpreter\n")
        orphan.chmod(0o755)
        for path, words in (
            (plain, "chmod \\+x"),
            (tmp_path, "is a directory"),
            (dangling, "is a link to a file that does not exist"),
            (orphan, "names /no/such/interpreter, which does not exist"),
            (Path("/dev/null"), "is not a regular file"),
        ):
            with pytest.raises(CommandNotExecutableError, match=words) as caught:
                await started(str(path))
            assert caught.value.permanent

    async def test_no_shell_takes_over(self, tmp_path: Path) -> None:
        """A file that the kernel cannot execute is refused; /bin/sh does not get to try."""
        proof = tmp_path / "proof"
        for name, content in (("script", f"touch {proof}\n".encode()), ("alien", b"\x7fELF\x01\x02\x01" + b"\0" * 100)):
            path = tmp_path / name
            path.write_bytes(content)
            path.chmod(0o755)
            with pytest.raises(CommandNotExecutableError, match="is no program for this machine"):
                await started(str(path))
        assert not proof.exists()

    async def test_wrong_directory(self, tmp_path: Path) -> None:
        """A working directory that is not one is permanent, and named."""
        with pytest.raises(CommandNotExecutableError, match="does not exist: create it, or correct cwd="):
            await started("sh", cwd=str(tmp_path / "none"))
        with pytest.raises(CommandNotExecutableError, match="is not a directory"):
            await started("sh", cwd=__file__)

    async def test_system_out_of_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What may get better is not permanent."""

        def refuse(*arguments: object, **options: object) -> None:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

        await workers.run("spawner", system.death_wrapper)
        monkeypatch.setattr(spawner.subprocess, "Popen", refuse)
        with pytest.raises(LinkError, match="could not be started: Cannot allocate memory") as caught:
            await started("/bin/true")
        assert not caught.value.permanent


@pytest.fixture(params=["pidfd", "polling", "no waitid"])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """All ways to notice an exit."""
    if request.param == "no waitid":
        monkeypatch.delattr(os, "waitid")
    return {"use_pidfd": request.param == "pidfd"}


class TestEnding:
    async def test_killed_from_outside(self, watch: dict[str, bool]) -> None:
        """Its death is noticed, whoever kills it."""
        process = await started(*hostile("silent"), **watch)
        os.kill(process.pid, signal.SIGKILL)
        async with asyncio.timeout(QUICK):
            assert await process.exited == -signal.SIGKILL
        assert process.pid not in children()
        await process.stop()

    async def test_asked_politely(self, watch: dict[str, bool]) -> None:
        """SIGTERM ends one that listens, and its status is its own."""
        process, _ = await printed("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done", **watch)
        await process.stop(QUICK)
        assert process.returncode == 9

    async def test_ignores_sigterm(self, watch: dict[str, bool]) -> None:
        """One that ignores SIGTERM is killed after the grace."""
        process, _ = await printed(*hostile("stubborn"), **watch)
        async with asyncio.timeout(QUICK):
            await process.stop(0.1)
        assert process.returncode == -signal.SIGKILL

    async def test_stopped_one_ends(self) -> None:
        """One that is stopped is continued, so that it can hear SIGTERM."""
        process = await started(*hostile("silent"))
        os.kill(process.pid, signal.SIGSTOP)
        async with asyncio.timeout(QUICK):
            await process.stop(QUICK * 2)
        assert process.returncode == -signal.SIGTERM

    async def test_loop_goes_on_meanwhile(self) -> None:
        """Waiting for one that ignores SIGTERM does not hold up anything else."""
        process, _ = await printed(*hostile("stubborn"))
        stopping = asyncio.create_task(process.stop(3600))
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not stopping.done()
        stopping.cancel()
        await asyncio.wait((stopping,))

    async def test_cancelled_stop_kills_at_once(self) -> None:
        """A cancelled stop does not wait out the grace, and leaves nothing."""
        process, _ = await printed(*hostile("stubborn"))
        stopping = asyncio.create_task(process.stop(3600))
        await asyncio.sleep(0)
        stopping.cancel()
        async with asyncio.timeout(QUICK):
            with pytest.raises(asyncio.CancelledError):
                await stopping
        assert process.returncode == -signal.SIGKILL

    async def test_its_children_end_with_it(self, watch: dict[str, bool]) -> None:
        """What it left running and holds its pipes is killed, when it ends by itself too."""
        process, line = await printed(*hostile("child-keeps-pipes"), **watch)
        async with asyncio.timeout(QUICK):
            assert await process.exited == 5
        await eventually(lambda: not is_alive(int(line)))
        assert "parent ends" in process.diagnostics()
        await process.stop()

    async def test_stop_twice_and_kill_afterwards(self) -> None:
        """Ending what has ended does nothing."""
        process = await started("/bin/true")
        await process.stop()
        await process.stop()
        process.kill_now()
        process.abandon()
        assert process.returncode in (0, -signal.SIGTERM)

    async def test_its_status_is_told(self, watch: dict[str, bool]) -> None:
        """However its exit is noticed, its status is known."""
        process, _ = await printed("sh", "-c", "echo ready; exit 7", **watch)
        async with asyncio.timeout(QUICK):
            assert await process.exited == 7
        await process.stop()

    async def test_taken_by_somebody_else(self, watch: dict[str, bool]) -> None:
        """A host that reaps every child does not confuse it, nor is a stranger killed."""
        process = await started(*hostile("silent"), use_pidfd=False)
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        async with asyncio.timeout(QUICK):
            assert await process.exited is None
        await process.stop()

    def test_status_in_words(self) -> None:
        """How a process ended, as people say it."""
        assert describe_status(0) == "exited with status 0"
        assert describe_status(-9) == "was killed by SIGKILL"
        assert describe_status(-99) == "was killed by signal 99"
        assert describe_status(None) == "ended"


class TestCancelledSpawn:
    async def test_at_every_moment(self, leftovers: Leftovers) -> None:
        """Cancelled before, while or after the process is made, a spawn leaves none."""
        for step in range(60):
            spawning = asyncio.create_task(started(*hostile("silent")))
            await asyncio.sleep(step * 0.0002)
            if spawning.done():
                await spawning.result().stop(0)
                continue
            spawning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await spawning
            assert not children() - leftovers.before["processes"]  # type: ignore[operator]
        await leftovers.none()

    async def test_while_it_is_made(self, monkeypatch: pytest.MonkeyPatch, leftovers: Leftovers) -> None:
        """Cancelled while the spawning thread is at it, the process is gone when the cancellation arrives."""
        made, go_on = threading.Event(), threading.Event()
        start = spawner.start

        def slow(launch: spawner.Launch) -> spawner.Started:
            result = start(launch)
            made.set()
            go_on.wait(QUICK)
            return result

        monkeypatch.setattr(spawner, "start", slow)
        spawning = asyncio.create_task(started(*hostile("silent")))
        await eventually(made.is_set)
        spawning.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await spawning
        assert not children() - leftovers.before["processes"]  # type: ignore[operator]

    async def test_while_it_waits_its_turn(self, leftovers: Leftovers) -> None:
        """Cancelled while the spawning thread has other things to do, it never starts."""
        busy = threading.Event()
        blocker = spawner.submit(busy.wait, QUICK)
        spawning = asyncio.create_task(started(*hostile("silent")))
        await asyncio.sleep(0)
        spawning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spawning
        busy.set()
        blocker.result()


class TestOutput:
    @pytest.mark.parametrize("fd", [1, 2])
    async def test_flood(self, fd: int) -> None:
        """100 MB of output are read in little memory while the loop goes on."""
        process, _ = await printed(*hostile("flood", fd, 100))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        worst, busy = 0.0, time.thread_time  # what else the machine does is no work of the loop's
        async with asyncio.timeout(200):
            while "flooded" not in process.diagnostics():
                then = busy()
                await asyncio.sleep(0.005)
                worst = max(worst, busy() - then)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 16 * 1024
        assert worst < 1
        await process.stop(0)

    async def test_logged_flood_is_thinned_out(self, caplog: pytest.LogCaptureFixture) -> None:
        """Somebody who listens is not buried: lines over the limit are counted."""
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        began = time.monotonic()
        process, _ = await printed(*hostile("flood", 2, 5))
        async with asyncio.timeout(200):
            while "flooded" not in process.diagnostics():
                await asyncio.sleep(0.005)
        await process.stop(0)
        seconds = time.monotonic() - began + 1  # of which the last one is not over
        assert len(caplog.records) <= (LINES_PER_SECOND + 1) * seconds + 1  # and as many notes of what is left out
        assert any("lines left out" in record.message for record in caplog.records)

    async def test_logged_line_by_line(self, caplog: pytest.LogCaptureFixture) -> None:
        """Both streams are logged, with who said it; the handshake line is not."""
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        script = "echo handshake; echo out; printf 'err\\033[31m\\007\\n' >&2; printf unfinished >&2"
        process, _ = await printed("sh", "-c", script, name="calc")
        await process.exited
        said = {(record.plugin_stream, record.message) for record in caplog.records}  # type: ignore[attr-defined]
        assert said == {("stdout", "out"), ("stderr", "err\\x07"), ("stderr", "unfinished")}
        assert {(record.plugin_name, record.plugin_pid) for record in caplog.records} == {("calc", process.pid)}  # type: ignore[attr-defined]
        await process.stop()

    async def test_silent_by_default(self, caplog: pytest.LogCaptureFixture) -> None:
        """Without somebody who listens nothing is logged."""
        process, _ = await printed("sh", "-c", "echo a; echo b; echo c >&2")
        await process.exited
        assert not caplog.records
        await process.stop()

    async def test_secrets_stay_secret(self, caplog: pytest.LogCaptureFixture) -> None:
        """What the plugin prints of them is hidden in evidence and logs, private keys too."""
        caplog.set_level(logging.INFO, "fsm_conn.plugin")
        script = "echo; echo my hunter2secret >&2; printf -- '-----BEGIN EC PRIVATE KEY-----\\nMIGk\\nabcd\\n-----END EC PRIVATE KEY-----\\nafter\\n' >&2"
        process = await started("sh", "-c", script, redact=Redactor(["hunter2secret"]))
        await process.exited
        for shown in (process.diagnostics(), caplog.text):
            assert "[redacted]" in shown
            assert "after" in shown
            assert "hunter2" not in shown
            assert "MIGk" not in shown
        await process.stop()

    async def test_line_too_long(self) -> None:
        """A first line without end is refused, and not kept."""
        process = await started(*hostile("no-newline"))
        async with asyncio.timeout(QUICK):
            with pytest.raises(HandshakeError, match="more than 65536 bytes without a handshake line"):
                await process.first_line
        await process.stop(0)

    async def test_stdout_closed(self) -> None:
        """A stdout that is closed before the line is an error, not a wait."""
        process = await started(*hostile("closed-stdout"))
        async with asyncio.timeout(QUICK):
            with pytest.raises(HandshakeError, match="closed its stdout"):
                await process.first_line
        await process.stop(0)

    async def test_evidence_is_bounded(self) -> None:
        """The last twenty lines, and no more than some kilobytes."""
        process = await started("sh", "-c", "for i in $(seq 500); do echo line $i >&2; done")
        await process.exited
        assert process.diagnostics().splitlines()[1:] == [f"  line {i}" for i in range(481, 501)]
        await process.stop()


class TestPrivateDirectory:
    async def test_given_and_taken_away(self) -> None:
        """Its TMPDIR is its own, for its eyes only, and short enough for a socket."""
        process, line = await printed(*hostile("env", "TMPDIR"))
        path = Path(os.fsdecode(line))
        assert path.stat().st_mode & 0o777 == 0o700
        assert len(line) < 90
        (path / "left").write_text("something")
        await process.stop(0)
        assert not path.exists()

    async def test_unless_the_user_says_otherwise(self) -> None:
        """A TMPDIR that is not ours to choose is left alone."""
        process, line = await printed(*hostile("env", "TMPDIR"), env={**ENV, "TMPDIR": "/var/tmp"}, own_directory=())
        assert line == b"/var/tmp"
        await process.stop(0)

    async def test_long_tmpdir(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A deep TMPDIR of the host does not make its sockets' paths too long."""
        deep = tmp_path / ("d" * 80)
        deep.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        process, line = await printed(*hostile("env", "TMPDIR"))
        assert len(line) < 70
        await process.stop(0)

    @pytest.mark.parametrize("kind", ["mess", "replace-directory"])
    async def test_links_are_not_followed(self, kind: str, tmp_path: Path) -> None:
        """Whatever it does to its directory, nothing outside of it is removed."""
        treasure = tmp_path / "treasure"
        treasure.mkdir()
        (treasure / "gold").write_text("mine")
        process, line = await printed(*hostile(kind, treasure))
        await process.stop(0)
        assert (treasure / "gold").read_text() == "mine"
        assert not os.path.lexists(os.fsdecode(line))

    async def test_a_full_one_holds_up_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """While much is being removed, others start and end."""
        slow, remove = threading.Event(), private_directory.remove

        def removed(path: str) -> None:
            slow.wait(QUICK)
            remove(path)

        monkeypatch.setattr(private_directory, "remove", removed)
        first, _ = await printed(*hostile("env", "TMPDIR"))
        first.kill_now()
        await first.exited
        second, line = await printed(*hostile("env", "TMPDIR"))
        assert os.path.isdir(first.directory)
        slow.set()
        await first.stop()
        await second.stop()
        assert not os.path.lexists(os.fsdecode(line))

    @pytest.mark.parametrize("given_up", [False, True])
    def test_goes_on_after_the_loop(
        self, given_up: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A removal that outlasts the loop is finished, and nothing complains that nobody waits for it any more."""
        slow, remove = threading.Event(), private_directory.remove

        def removed(path: str) -> None:
            slow.wait(QUICK)
            remove(path)

        async def scenario() -> str:
            process, _ = await printed(*hostile("env", "TMPDIR"))
            stopping = asyncio.create_task(process.stop(0))
            await asyncio.wait((process.exited,))
            await asyncio.sleep(0)
            if given_up:
                stopping.cancel()
            await asyncio.wait((stopping,))
            return process.directory

        monkeypatch.setattr(private_directory, "remove", removed)
        monkeypatch.setattr(process_module, "REAP_LIMIT", 0.2)
        directory = asyncio.run(scenario())
        assert os.path.isdir(directory)
        slow.set()
        spawner.remove("/nowhere").result(QUICK)
        assert not os.path.lexists(directory)
        assert not caplog.records

    async def test_deeper_than_recursion(self) -> None:
        """Directories nested deeper than Python recurses and a path may be long are removed all the same."""
        process, line = await printed(*hostile("deep", 1100))
        await process.stop(0)
        await eventually(lambda: not os.path.lexists(os.fsdecode(line)))

    def test_locked(self) -> None:
        """What it took our permissions away from is removed all the same."""
        top = Path(tempfile.mkdtemp(dir="/tmp"))  # where others may go
        os.chmod(top, 0o777)
        me = os.geteuid()
        os.seteuid(65534 if me == 0 else me)  # permissions mean nothing to root
        try:
            for path in (base := top / "base", base / "a", base / "a" / "b"):
                path.mkdir()
                (path / "file").touch()
            for path in (base / "a" / "b", base / "a", base):
                path.chmod(0)
            private_directory.remove(str(base))
        finally:
            os.seteuid(me)
        assert list(top.iterdir()) == []
        top.rmdir()


HOST = """
import asyncio, os, sys
from fsm_conn.links.process.process import PluginProcess
async def main():
    global process
    process = await PluginProcess.spawn(sys.argv[1:], env=dict(os.environ))
    print(process.pid, (await process.first_line).decode(), flush=True)
    {then}
asyncio.run(main())
"""


def host(then: str, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [PYTHON, "-c", HOST.format(then=then), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def told(popen: subprocess.Popen[bytes]) -> tuple[int, str]:
    assert popen.stdout is not None
    pid, directory = popen.stdout.readline().split()
    return int(pid), directory.decode()


class TestWithoutClosing:
    @pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
    @pytest.mark.parametrize("setpriv", [True, False])
    async def test_host_killed(self, setpriv: bool) -> None:
        """When the host is killed, its plugin is, too: by setpriv's help and without. It would not notice by itself."""
        then = "await asyncio.sleep(3600)"
        popen = host(then, *hostile("mess", "/nowhere"))
        if not setpriv:
            popen.kill()
            popen.communicate()
            code = "from fsm_conn.links.process import system; system.death_wrapper = lambda: ()" + HOST.format(
                then=then
            )
            popen = subprocess.Popen(
                [PYTHON, "-c", code, *hostile("mess", "/nowhere")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        pid, directory = await told(popen)
        assert is_alive(pid)
        popen.kill()
        await eventually(lambda: not is_alive(pid))
        popen.communicate()
        private_directory.remove(directory)

    async def test_loop_ended(self) -> None:
        """At the end of the interpreter what was not closed is killed, with its directory removed, quietly."""
        popen = host("return", *hostile("env", "TMPDIR"))
        pid, directory = await told(popen)
        _, errors = popen.communicate(timeout=QUICK)
        assert not is_alive(pid)
        assert not Path(directory).exists()
        assert popen.returncode == 0
        assert errors == b""

    async def test_dropped(self) -> None:
        """A process object that nobody has any more, its loop closed, takes its process along."""
        pids: list[int] = []

        async def start() -> None:
            pids.append((await started(*hostile("silent"))).pid)

        thread = threading.Thread(target=lambda: asyncio.run(start()))
        thread.start()
        await eventually(lambda: not thread.is_alive())
        thread.join()
        gc.collect()
        assert not is_alive(pids[0])

    @pytest.mark.parametrize("end", ["return", "exception", "exit", "SIGTERM", "SIGHUP", "SIGKILL"])
    async def test_what_plugins_have_started(self, end: str) -> None:
        """However the host ends, what stands behind a shell ends, too."""
        ends = {"return": "pass", "exception": "raise ValueError", "exit": "os._exit(0)"}
        popen = host(ends.get(end, "await asyncio.sleep(3600)"), "/bin/sh", "-c", "sleep 1000 & echo $!; wait")
        assert popen.stdout is not None
        line = popen.stdout.readline()
        _, behind = line.split()
        if end.startswith("SIG"):
            popen.send_signal(signal.Signals[end])
        popen.communicate()
        await eventually(lambda: not is_alive(int(behind)))

    async def test_a_plugin_that_has_ended_is_left_alone(self) -> None:
        """Its number may be a stranger's; and the shell that watches is told so before."""
        process, _ = await printed(PYTHON, "-c", "print(1, flush=True)")
        assert process.pid in watchdog._groups or process.exited.done()
        await asyncio.wait((process.exited,))
        assert process.pid not in watchdog._groups
        await process.stop()

    async def test_a_killed_shell_is_replaced_at_the_next_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is reaped, too: no zombie of it stays among the children of the host."""
        shells: list[subprocess.Popen[bytes]] = []
        monkeypatch.setattr(watchdog, "_shells", shells)
        watchdog.ensure()
        killed = shells[0]
        killed.kill()
        await eventually(lambda: os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)
        watchdog.ensure()
        assert shells[0] is not killed
        assert shells[0].poll() is None
        assert killed.returncode == -signal.SIGKILL
        watchdog._finish()

    @pytest.mark.filterwarnings(
        "ignore:This process .* is multi-threaded:DeprecationWarning"
    )  # its child does next to nothing
    async def test_forked_child_kills_nothing(self) -> None:
        """A forked copy of the host that ends does not end the host's plugins."""
        process = await started(*hostile("silent"))
        finalizer = process._finalizer
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            finalizer()
            os.write(writing, b"done")
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        assert os.read(reading, 9) == b"done"
        os.close(reading)
        os.close(writing)
        ended, _ = await asyncio.wait((process.exited,), timeout=0.3)
        assert not ended
        await process.stop(0)
        await asyncio.get_running_loop().shutdown_default_executor()


def test_fallback_without_pidfd_is_chosen_by_itself() -> None:
    """The default asks the system what it has."""
    assert hasattr(os, "pidfd_open") == system.HAS_EXIT_DESCRIPTORS

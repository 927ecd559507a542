"""Plugins that are forked from a template: like those that are spawned, and none that cannot be is forked."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from fsm_conn import CallOptions, Connection, ConnectionPool, Plugin
from fsm_conn.links.errors import CommandNotExecutableError, CommandNotFoundError
from fsm_conn.links.process import directory as private_directory
from fsm_conn.links.process import prefork, spawner
from fsm_conn.links.process.prefork_plan import LONGEST_PAUSE
from fsm_conn.links.process.process import PluginProcess
from fsm_conn.links.process.spawner import Launch, Started, start

from .conftest import DEMO, PLUGINS, PYTHON, Leftovers, children, eventually, hostile, is_alive
from .faults import FAULTS, Fault
from .test_faults_real import Outside, by_name, check, everything, outside

pytestmark = [
    pytest.mark.real,
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(sys.platform != "linux", reason="forking a program that has imported its libraries is Linux's"),
]
assert everything
assert outside

QUICK = 200.0
MIRROR = str(PLUGINS / "mirror.py")
BESIDE = str(PLUGINS.parent)
"""Where the package `plugins` is found."""


@pytest.fixture(scope="module", autouse=True)
def short_linger() -> Iterator[None]:
    """Templates end soon after their plugins, and before anybody looks for what is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefork, "LINGER", 0.2)
        yield


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is told for itself what is said once."""
    monkeypatch.setattr(prefork, "_said", {})
    monkeypatch.setattr(prefork, "_refused", {})
    monkeypatch.setattr(prefork, "_deaths", {})


async def started(*command: str, **options: Any) -> PluginProcess:
    options = {"env": dict(os.environ), "prefork": True, "name": "plugin", **options}
    return await PluginProcess.spawn(command, **options)


async def printed(*command: str, **options: Any) -> tuple[PluginProcess, str]:
    process = await started(*command, **options)
    async with asyncio.timeout(QUICK):
        return process, (await asyncio.shield(process.first_line)).decode()


async def ended(*command: str, **options: Any) -> tuple[int | None, str, str]:
    """Its return code, its first line, and its last words."""
    process = await started(*command, **options)
    async with asyncio.timeout(QUICK):
        code = await asyncio.shield(process.exited)
    first = process.first_words()
    await process.stop()
    return code, first, process.diagnostics()


def only_templates(launch: Launch, **options: Any) -> Started:
    assert prefork.PROGRAM in launch.command, "it is spawned"
    return start(launch, **options)


def is_forked(caplog: pytest.LogCaptureFixture) -> bool:
    return "cannot be forked" not in caplog.text


def script(tmp_path: Path, *lines: str) -> list[str]:
    """The command of a program."""
    path = tmp_path / "program.py"
    path.write_text("\n".join(lines))
    return [PYTHON, str(path)]


class TestLikeSpawned:
    @pytest.mark.parametrize(
        "command",
        [
            [MIRROR, "a", "--b", ""],
            ["-u", "-W", "error", "-m", "plugins.mirror", "x\udcffy"],
            ["-I", "-X", "dev", "plugins/mirror.py"],
            ["-SEP", MIRROR],
        ],
    )
    async def test_all_that_it_sees_of_itself(self, command: list[str], caplog: pytest.LogCaptureFixture) -> None:
        """Arguments, environment, directory, descriptors, streams, signals, group, parent, /proc, modules' paths."""
        seen = []
        for choice in (False, True):
            env = {**os.environ, "PYTHONPATH": BESIDE, "ODD": "a\udcff\nb=c", "EMPTY": ""}
            process, line = await printed(PYTHON, *command, prefork=choice, env=env, cwd=BESIDE)
            seen.append(json.loads(line))
            await process.stop()
        spawned, forked = seen
        assert is_forked(caplog)
        spec = [each["main"].pop(2).partition("loader=")[0] for each in seen]
        assert spec[0] == spec[1]
        assert forked == spawned
        assert forked["parent"] == os.getpid()
        assert forked["death signal"] == signal.SIGKILL
        others = {fd: path for fd, (_, path) in forked["descriptors"].items() if fd not in {"0", "1", "2"}}
        assert all("/libffi.so" in path for path in others.values())

    async def test_a_script_that_names_its_interpreter(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """As those that pip installs: the kernel makes a command of the interpreter from it."""
        path = tmp_path / "mirror-with-a-long-name"
        path.write_text(f"#!{PYTHON} -SE\n{Path(MIRROR).read_text()}")
        path.chmod(0o755)
        seen = []
        for choice in (False, True):
            process, line = await printed(path.name, "a", prefork=choice, env={**os.environ, "PATH": str(tmp_path)})
            seen.append(json.loads(line))
            await process.stop()
        spawned, forked = seen
        assert is_forked(caplog)
        assert forked == spawned
        assert forked["status"]["Name"] == "mirror-with-a-l"

    async def test_another_interpreter(self, caplog: pytest.LogCaptureFixture) -> None:
        """It need not be the host's, and need not have fsm_conn."""
        base = getattr(sys, "_base_executable", PYTHON)
        process, line = await printed(base, MIRROR)
        assert json.loads(line)["executable"] == base
        assert is_forked(caplog)
        await process.stop()

    @pytest.mark.parametrize(
        "end",
        [
            "pass",
            "sys.exit()",
            "sys.exit(3)",
            "sys.exit('no license')",
            "f()",
            "raise ValueError('out of paper') from KeyError(1)",
            "raise KeyboardInterrupt",
            "os._exit(4)",
            "os.abort()",
            "os.kill(os.getpid(), 9)",
            "import no_such_module",
            "f(",
            "sys.stdout.write('half')",
            "threading.Thread(target=lambda: (time.sleep(0.05), print('late', file=sys.stderr))).start()",
        ],
    )
    async def test_how_it_ends(self, end: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Its status, its last words and what runs at its exit are those of the interpreter."""
        command = script(
            tmp_path,
            "import atexit, os, sys, threading, time",
            "def f():",
            "    raise ValueError('out of paper')",
            "print('up', flush=True)",
            "atexit.register(lambda: print('bye', file=sys.stderr))",
            end,
        )
        env = {**os.environ, "PYTHONDEVMODE": ""}  # which would print the stack, with that of whoever forks
        spawned, forked = [await ended(*command, prefork=choice, env=env) for choice in (False, True)]
        if "Keyboard" in end:  # which is not caught on the way, so its traceback is longer
            spawned, forked = ((code, first, words[-30:]) for code, first, words in (spawned, forked))
        assert forked == spawned
        assert is_forked(caplog) == (end != "f(")

    @pytest.mark.parametrize("program", ["no_such_module", "plugins", "plugins.none"])
    async def test_no_such_module(self, program: str) -> None:
        """The interpreter's own words."""
        env = {**os.environ, "PYTHONPATH": BESIDE}
        spawned, forked = [await ended(PYTHON, "-m", program, prefork=choice, env=env) for choice in (False, True)]
        assert forked == spawned
        assert "No module named" in forked[2] or "cannot be directly executed" in forked[2]

    async def test_what_imports_print(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Each plugin prints it, as if it had imported it itself."""
        (tmp_path / "talks.py").write_text("import os, sys\nprint('handshake')\nos.write(2, b'beware\\n')")
        command = script(tmp_path, "import talks", "import sys", "print('end', file=sys.stderr)")
        for choice in (False, True, True):
            _, first, words = await ended(*command, prefork=choice)
            assert "'handshake'" in first
            assert [line.strip() for line in words.splitlines()[1:]] == ["beware", "end"]
        assert is_forked(caplog)

    async def test_what_imports_change(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Variables stay changed, as they would in the plugin itself."""
        (tmp_path / "meddles.py").write_text(
            "import os\nos.environ.update(NEW='new', OLD='changed')\ndel os.environ['GONE']\nos.umask(0)\n"
        )
        names = "('NEW', 'OLD', 'GONE', 'KEPT')"
        command = script(tmp_path, "import meddles", "import os", f"print([os.environ.get(name) for name in {names}])")
        env = {**os.environ, "OLD": "old", "GONE": "gone", "KEPT": "kept"}
        for choice in (False, True):
            _, first, _ = await ended(*command, prefork=choice, env=env)
            assert "['new', 'changed', None, 'kept']" in first
        assert is_forked(caplog)

    async def test_signals_are_the_interpreters(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Modules that the program need not import set handlers in the template; a plugin has the defaults."""
        (tmp_path / "handles.py").write_text(
            "import signal\nfor each in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):\n"
            "    signal.signal(each, lambda *_: None)\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        )
        body = "print([repr(signal.getsignal(n)) for n in (15, 2, 13)], signal.pthread_sigmask(signal.SIG_BLOCK, []))"
        command = script(tmp_path, "import signal", body)
        (forked, _), (spawned, _) = [(await ended(*command, prefork=choice))[1:] for choice in (("handles",), False)]
        assert forked == spawned
        assert "SIG_DFL" in forked
        assert is_forked(caplog)

    async def test_random_numbers_are_its_own(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Siblings draw different ones, from whatever they draw."""
        numpy = tmp_path / "numpy"
        numpy.mkdir()
        (numpy / "__init__.py").write_text("from . import random")
        (numpy / "random.py").write_text(
            "import os\nstate = 0\ndef seed():\n    global state\n    state = os.urandom(8).hex()"
        )
        command = script(
            tmp_path,
            "import random, ssl, uuid, secrets, tempfile, numpy",
            "print(random.random(), ssl.RAND_bytes(8).hex(), uuid.uuid1(), uuid.uuid4(), secrets.token_hex(),",
            "    next(tempfile._get_candidate_names()), numpy.random.state, sep='|')",
        )
        lines = []
        for _ in range(3):
            process, line = await printed(*command, prefork=("random", "ssl", "uuid", "secrets", "tempfile", "numpy"))
            lines.append(line.split("|"))
            await process.stop()
        assert is_forked(caplog)
        for drawn in zip(*lines, strict=True):
            assert len(set(drawn)) == len(lines), drawn

    async def test_threads_and_children_of_its_own(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What a process may do, a forked one may."""
        command = script(
            tmp_path,
            "import asyncio, multiprocessing, os, subprocess, sys, threading",
            "from concurrent.futures import ThreadPoolExecutor",
            "def f(x): return x + 1",
            "async def main():",
            "    process = await asyncio.create_subprocess_exec(sys.executable, '-S', '-c', 'print(1)', stdout=-1)",
            "    return (await process.communicate())[0], await asyncio.to_thread(f, 1)",
            "if __name__ == '__main__':",
            "    with ThreadPoolExecutor(8) as pool: threads = sum(pool.map(f, range(100)))",
            "    lock = threading.RLock()",
            "    with lock, lock: pass",
            "    with multiprocessing.get_context('fork').Pool(2) as pool: forked = pool.map(f, [1])",
            "    pid = os.fork()",
            "    if not pid: os._exit(5)",
            "    print(threads, forked, asyncio.run(main()), os.waitpid(pid, 0)[1] >> 8)",
        )
        process, line = await printed(*command)
        assert line == r"5050 [2] (b'1\n', 2) 5"
        assert is_forked(caplog)
        await process.stop()

    async def test_killed_from_outside(self) -> None:
        """Its death is noticed, and its number is nobody's afterwards."""
        process, _ = await printed(*hostile("stubborn"))
        os.kill(process.pid, signal.SIGSEGV)
        async with asyncio.timeout(QUICK):
            assert await process.exited == -signal.SIGSEGV
        assert process.pid not in children()
        await process.stop()

    async def test_private_directory(self) -> None:
        """Made before it and removed after it."""
        process, line = await printed(*hostile("env", "TMPDIR"))
        assert Path(line).stat().st_mode & 0o777 == 0o700
        (Path(line) / "left").write_text("something")
        await process.stop(0)
        assert not Path(line).exists()

    @pytest.mark.parametrize(
        ("command", "options", "error"),
        [
            (["no-such-python3", "x.py"], {}, CommandNotFoundError),
            ([PYTHON, "x.py"], {"cwd": "/no/such"}, CommandNotExecutableError),
            ([str(PLUGINS), "x.py"], {}, CommandNotExecutableError),
        ],
    )
    async def test_wrong_commands(self, command: list[str], options: Any, error: type[Exception]) -> None:
        """The same errors."""
        for choice in (False, True):
            with pytest.raises(error):
                await started(*command, prefork=choice, **options)


LIAR = """
import os, sys
from time import sleep
frame = sys._getframe()
while frame and "receive" not in frame.f_globals: frame = frame.f_back
main = frame and frame.f_globals

def wait():
    while True: sleep(100)

def lying(channel):
    fields, pipes = honest(channel)
    if pipes:
        other = os.environ["OTHER"]
        if os.environ["TOLD"] == "both": os.write(pipes[2], f"{other} 0".encode())
        for fd in pipes: os.close(fd)
        main["send"](channel, f"+{other}")
        return honest(channel)
    return fields, pipes

if main:
    honest, main["receive"] = main["receive"], lying
"""
"""A module that has the template of the plugin tell the number of another child of the host, and fork nothing."""


class TestTemplates:
    async def test_one_for_all(self) -> None:
        """All plugins that are alike, in whichever loop and thread, are forked from one; it ends after the last."""
        processes = [(await printed(*hostile("stubborn"), prefork=("json",)))[0] for _ in range(3)]
        ready = threading.Event()
        pids: list[int] = []

        async def elsewhere() -> None:
            process, _ = await printed(*hostile("env", "TMPDIR"), prefork=("json",))
            pids.append(process.pid)
            await asyncio.to_thread(ready.wait, QUICK)
            await process.stop(0)

        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        await eventually(lambda: pids, limit=QUICK)
        (template,) = prefork.templates()
        pid = template.pid
        assert pid in children()
        ready.set()
        await eventually(lambda: not thread.is_alive())
        for process in processes:
            assert prefork.templates() == [template]
            assert is_alive(template.pid or 0)
            await process.stop(0)
        await eventually(lambda: pid not in children())
        assert prefork.templates() == []

    async def test_others_for_others(self) -> None:
        """Another environment has another template, whose imports may depend on it."""
        processes = [(await printed(*hostile("stubborn"), env={**os.environ, "A": a}))[0] for a in "xyx"]
        assert len(prefork.templates()) == 2
        for process in processes:
            await process.stop(0)

    async def test_killed_with_its_plugins_alive(self) -> None:
        """They live on, are watched and end as ever; the next start has a new template."""
        one, _ = await printed(*hostile("stubborn"))
        (template,) = prefork.templates()
        pid = template.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: pid not in children())
        assert is_alive(one.pid)
        two, _ = await printed(*hostile("stubborn"))
        assert [each.pid for each in prefork.templates()] != [pid]
        os.kill(one.pid, signal.SIGKILL)
        async with asyncio.timeout(QUICK):
            assert await one.exited == -signal.SIGKILL
        await one.stop()
        await two.stop(0)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
    async def test_a_fork_that_ends_at_once(
        self, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Somebody kills it before it is the plugin: it is told of as killed. If it crashes, another one is spawned."""

        class Cursed(prefork.Birth):
            def told(self, limit: float) -> tuple[int, bool]:
                pid, _ = super().told(limit)
                os.kill(pid, number)
                return pid, False

        monkeypatch.setattr(prefork, "Birth", Cursed)
        process = await started(*hostile("stubborn"))
        if number == signal.SIGKILL:
            async with asyncio.timeout(QUICK):
                assert await process.exited == -signal.SIGKILL
        else:
            assert await process.first_line == b"ready"
        assert is_forked(caplog) == (number == signal.SIGKILL)
        await process.stop(0)

    async def test_killed_again_and_again(self, caplog: pytest.LogCaptureFixture) -> None:
        """Whenever that is, each start comes to something, and nothing is left."""
        stop = threading.Event()

        def killer() -> None:
            while not stop.wait(0.005):
                for template in prefork.templates():
                    with suppress(ProcessLookupError):  # it has just ended, and the loop was told
                        if (pid := template.pid) is not None:
                            os.kill(pid, signal.SIGKILL)

        async def life() -> None:
            process, line = await printed(*hostile("stubborn"))
            assert line == "ready"
            await process.stop(0)

        thread = threading.Thread(target=killer)
        thread.start()
        try:
            for _ in range(10):
                await asyncio.gather(*(life() for _ in range(4)))
        finally:
            stop.set()
            thread.join()

    @pytest.mark.parametrize("told", ["both", "template"])
    async def test_tells_of_somebody_else(self, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Another child of this process is neither signalled nor waited for: the plugin is spawned."""
        other = subprocess.Popen(["sleep", "100"], start_new_session=True)
        command = script(tmp_path, "import liar", "print('spawned', flush=True)", "liar.wait()")
        (tmp_path / "liar.py").write_text(LIAR)
        process, line = await printed(*command, env={**os.environ, "OTHER": str(other.pid), "TOLD": told})
        assert line == "spawned"
        assert process.pid != other.pid
        assert not is_forked(caplog)
        await process.stop(0)
        assert other.poll() is None
        other.kill()
        other.wait()

    async def test_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that is stopped is ended, and another one forks the plugin; meanwhile others start."""
        monkeypatch.setattr(prefork, "FORK_LIMIT", QUICK)
        one, _ = await printed(*hostile("stubborn"))
        (template,) = prefork.templates()
        assert template.pid is not None
        os.kill(template.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(printed(*hostile("stubborn")))
        other, _ = await printed("sh", "-c", "echo; exec sleep 100", prefork=False)
        assert not waiting.done()
        os.kill(template.pid, signal.SIGCONT)
        two, _ = await waiting
        os.kill(template.pid, signal.SIGSTOP)
        monkeypatch.setattr(prefork, "FORK_LIMIT", 0.3)
        three, line = await printed(*hostile("stubborn"))
        assert line == "ready"
        assert template not in prefork.templates()
        for process in (one, two, three, other):
            await process.stop(0)

    async def test_its_imports_hang(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is given up; who waits for it may give up before."""
        monkeypatch.setattr(prefork, "START_LIMIT", 0.5)
        (tmp_path / "hangs.py").write_text("import time\nif 'PLUGIN' not in globals(): time.sleep(3600)")
        command = script(tmp_path, "import hangs")
        waiting = asyncio.create_task(started(*command))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        process = await started(*command)
        await process.stop(0)

    async def test_cancelled_at_every_moment(self, leftovers: Leftovers) -> None:
        """Before the template is there, while it forks and afterwards."""
        kept, _ = await printed(*hostile("stubborn"))
        for step in range(60):
            spawning = asyncio.create_task(started(*hostile("stubborn")))
            await asyncio.sleep(step * 0.0004)
            if spawning.done():
                await spawning.result().stop(0)
                continue
            spawning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await spawning
        await kept.stop(0)
        await leftovers.none()

    async def test_nothing_secret_is_seen_of_it(self, caplog: pytest.LogCaptureFixture) -> None:
        """Neither in its command, nor in its log."""
        caplog.set_level(logging.DEBUG)
        process, _ = await printed(*hostile("stubborn"), env={**os.environ, "TOKEN": "MARKED-1234"})
        (template,) = prefork.templates()
        assert b"MARKED" not in Path(f"/proc/{template.pid}/cmdline").read_bytes()
        os.kill(template.pid or 0, signal.SIGKILL)
        await eventually(lambda: template not in prefork.templates())
        await process.stop(0)
        assert "MARKED" not in caplog.text + repr(template) + repr(vars(template))

    async def test_nobody_else_can_reach_it(self) -> None:
        """Its socket is one of a pair without a name, and no plugin has it."""
        process, _ = await printed(*hostile("stubborn"))
        (template,) = prefork.templates()
        assert template.pid is not None
        (inode,) = [inode for inode in map(os.readlink, _open(template.pid)) if inode.startswith("socket:")]
        unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
        assert [len(fields) for fields in unix if f"socket:[{fields[6]}]" == inode] == [7]  # no path
        assert inode not in map(os.readlink, _open(process.pid))
        await process.stop(0)


def _open(pid: int) -> Iterator[Path]:
    return Path(f"/proc/{pid}/fd").iterdir()


CANNOT = {
    "thread": ("import threading, time\nthreading.Thread(target=time.sleep, args=(100,), daemon=True).start()", "a thread"),
    "process": ("import subprocess\nheld = subprocess.Popen(['sleep', '3600'], stdin=-3, stdout=-3, stderr=-3)", "a process"),
    "loop": ("import asyncio\nheld = asyncio.new_event_loop()", "opens an event loop, which all plugins would share"),
    "socket": ("import socket\nheld = socket.socket()", "opens a socket, which all plugins would share"),
    "file": ("held = open(__file__)", "opens a file"),
    "memory": ("import mmap\nheld = mmap.mmap(-1, 4096)", "makes shared memory, which all plugins would share"),
    "timer": ("import signal\nsignal.setitimer(signal.ITIMER_REAL, 1000)", "sets a timer, which a fork would not have"),
    "bytes": ("import os\nheld = os.environb[b'TMPDIR']", "(imports_bytes) reads TMPDIR"),
    "channel": ("import grpc\nheld = grpc.insecure_channel('unix:/x')", "a thread"),
    "credentials": ("import grpc\nheld = grpc.local_channel_credentials()", "makes an object of gRPC (ChannelCredentials)"),
    "server": ("import grpc\nheld = grpc.ssl_server_credentials([(b'x', b'y')])", "which a fork would not have"),
    "directory": ("import tempfile\nheld = tempfile.gettempdir()", "(imports_directory) reads T"),
    "missing": ("try:\n    import no_such\nexcept ImportError as e:\n    raise RuntimeError('MARKED') from e", "(RuntimeError)"),
    "exit": ("import os\nif os.environ.get('TMPDIR') and not os.environ.get('PLUGIN'): raise SystemExit", "(SystemExit)"),
}  # fmt: skip


class TestCannotBeForked:
    @pytest.mark.parametrize("name", CANNOT)
    async def test_for_what_it_imports(self, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """It is spawned as ever, and the log says why, once."""
        code, why = CANNOT[name]
        (tmp_path / f"imports_{name}.py").write_text(code)
        command = script(tmp_path, "import os, sys", "print('up', flush=True)", "sys.stdin.close()", "os.pause()")
        for _ in range(2):
            process, line = await printed(*command, prefork=(f"imports_{name}",))
            assert line == "up"
            await process.stop(0)
        (told,) = [record.message for record in caplog.records]
        assert told.startswith("the plugin plugin cannot be forked, and is started as without prefork: ")
        assert why in told
        assert "MARKED" not in told
        await eventually(lambda: prefork.templates() == [])

    @pytest.mark.parametrize(
        ("command", "why"),
        [
            (["sh", "-c", "echo up; exec sleep 100"], "does not begin with a Python interpreter"),
            ([PYTHON, "-c", "print('up', flush=True); import os; os.read(0, 1); os.pause()"], "option -c"),
        ],
    )
    async def test_for_its_command(self, command: list[str], why: str, caplog: pytest.LogCaptureFixture) -> None:
        """No template is even started."""
        process, line = await printed(*command)
        assert line == "up"
        assert why in caplog.text
        assert prefork.templates() == []
        await process.stop(0)

    async def test_elsewhere_than_on_linux(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log says so, and the plugin is spawned."""
        monkeypatch.setattr(prefork.sys, "platform", "darwin")
        process, line = await printed(*hostile("stubborn"))
        assert line == "ready"
        assert "is safe on Linux only" in caplog.text
        await process.stop(0)

    async def test_for_want_of_descriptors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the system refuses for one plugin is no reason to give up the template."""
        process, _ = await printed(*hostile("stubborn"))
        templates = prefork.templates()

        def refuse() -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(prefork, "Birth", refuse)
            other, line = await printed(*hostile("stubborn"))
        assert line == "ready"
        assert prefork.templates() == templates
        for each in (process, other):
            await each.stop(0)

    async def test_what_no_system_takes(self) -> None:
        """It is told, as it would be without a template."""
        for choice in (False, True):
            with pytest.raises(ValueError, match="null byte"):
                await started(PYTHON, MIRROR, "a\0b", prefork=choice)
        for choice in (False, True):
            with pytest.raises(ValueError, match="null byte"):
                await started(PYTHON, MIRROR, env={**os.environ, "A": "a\0b"}, prefork=choice)

    async def test_its_template_crashes(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """An import that ends the process is tried a few times, and then no more."""
        (tmp_path / "crashes.py").write_text("import os\nif 'plugin' not in os.environ: os.kill(os.getpid(), 9)")
        command = script(tmp_path, "print('up', flush=True)")
        for _ in range(3):
            assert "'up'" in (await ended(*command, prefork=("crashes",)))[1]
        assert "has died twice" in caplog.text
        assert "has died 3 times while it imported" in caplog.text

    @pytest.mark.parametrize("before", ["raise SystemError", "import os; os.kill(os.getpid(), 9)"])
    async def test_what_may_pass_is_tried_again(
        self, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A file that was being written, or an import that crashed: after a pause another template tries it."""
        module = tmp_path / "half_written.py"
        module.write_text(before)
        command = script(tmp_path, "import time", "print('up', flush=True)", "time.sleep(1000)")
        options = {"prefork": ("half_written",)}
        for _ in range(2):
            process, _ = await printed(*command, **options)
            await process.stop(0)
        module.write_text("")
        process, _ = await printed(*command, **options)
        assert not is_forked(caplog)
        assert prefork.templates() == []  # the pause has not passed
        monkeypatch.setattr(prefork, "monotonic", lambda: time.monotonic() + LONGEST_PAUSE)
        spawned, _ = await printed(*command, **options)
        await eventually(lambda: not prefork._refused)
        assert not prefork._deaths
        monkeypatch.setattr(spawner, "start", only_templates)
        forked, line = await printed(*command, **options)
        assert line == "up"
        for each in (process, spawned, forked):
            await each.stop(0)

    async def test_no_start_waits_for_another_try(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An import that hangs would delay each start after a pause."""
        (tmp_path / "hanging.py").write_text("import time; time.sleep(1000)")
        command = script(tmp_path, "print('up', flush=True)")
        monkeypatch.setattr(prefork, "START_LIMIT", 0.2)
        for _ in range(2):
            await ended(*command, prefork=("hanging",))
        assert "has died 3 times" in caplog.text
        monkeypatch.setattr(prefork, "START_LIMIT", 2 * QUICK)
        monkeypatch.setattr(prefork, "monotonic", lambda: time.monotonic() + LONGEST_PAUSE)
        for _ in range(2):
            assert "'up'" in (await ended(*command, prefork=("hanging",)))[1]
        (template,) = prefork.templates()
        template.end()
        await eventually(lambda: not prefork.templates())

    async def test_what_stays_as_it_is_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An import that starts a thread would do so each time."""
        (tmp_path / "threaded.py").write_text(
            "import threading, time\nthreading.Thread(target=time.sleep, args=[1000], daemon=True).start()"
        )
        command = script(tmp_path, "print('up', flush=True)")
        await ended(*command, prefork=("threaded",))
        assert "starts a thread" in caplog.text
        monkeypatch.setattr(prefork, "monotonic", lambda: time.monotonic() + 1000 * LONGEST_PAUSE)
        monkeypatch.setattr(prefork, "Template", None)
        assert "'up'" in (await ended(*command, prefork=("threaded",)))[1]


HOST = """
import asyncio, os, sys
from fsm_conn.links.process import prefork
from fsm_conn.links.process.process import PluginProcess
async def main():
    global process
    process = await PluginProcess.spawn(sys.argv[1:], env=dict(os.environ), prefork=True)
    line = (await process.first_line).decode()
    print(process.pid, prefork.templates()[0].pid, line, flush=True)
    {then}
asyncio.run(main())
"""


def host(then: str) -> tuple[subprocess.Popen[bytes], list[int], str]:
    popen = subprocess.Popen(
        [PYTHON, "-c", HOST.format(then=then), *hostile("env", "TMPDIR")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert popen.stdout is not None
    *pids, directory = popen.stdout.readline().split()
    return popen, list(map(int, pids)), directory.decode()


class TestEndOfTheHost:
    async def test_killed(self) -> None:
        """Plugin and template end with it."""
        popen, pids, directory = host("await asyncio.sleep(3600)")
        assert all(map(is_alive, pids))
        popen.kill()
        for pid in pids:
            await eventually(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
        popen.communicate()
        private_directory.remove(directory)

    async def test_ends(self) -> None:
        """Nothing was closed, nothing is left, and nothing is said."""
        popen, pids, directory = host("return")
        _, errors = popen.communicate(timeout=QUICK)
        for pid in pids:
            await eventually(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
        assert not Path(directory).exists()
        assert (popen.returncode, errors) == (0, b"")

    @pytest.mark.filterwarnings(
        "ignore:This process .* is multi-threaded:DeprecationWarning"
    )  # its child does next to nothing
    async def test_a_forked_copy_of_it(self) -> None:
        """It has no template, and takes none away."""
        process, _ = await printed(*hostile("stubborn"))
        (template,) = prefork.templates()
        child = os.fork()
        if child == 0:
            os._exit(len(prefork.templates()))
        assert os.waitpid(child, 0)[1] == 0
        again, _ = await printed(*hostile("stubborn"))
        assert prefork.templates() == [template]
        for each in (process, again):
            await each.stop(0)


def forked(command: list[str], **options: Any) -> Plugin:
    """A plugin that is forked."""
    return Plugin(command, prefork=True, **options)


class TestConnections:
    @pytest.mark.parametrize("mtls", [None, True, False])
    async def test_with_and_without_certificates(self, mtls: bool | None, caplog: pytest.LogCaptureFixture) -> None:
        """Each plugin proves itself by a certificate of its own, and knows its host by that host's."""
        links: list[Any] = []
        for _ in range(2):
            async with Connection(forked([*DEMO], mtls=mtls), name="c") as conn:
                assert (await conn.call("calculator.Add", a=5, b=3)).result == 8
                links.append(conn.link)
                assert (links[-1]._client._server_cert is None) == (mtls is False)
        if mtls is not False:
            assert links[0]._client._server_cert != links[1]._client._server_cert
        assert is_forked(caplog)

    async def test_killed_and_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A call that is idempotent is answered by the next plugin, from the same template."""
        monkeypatch.setattr(prefork, "LINGER", QUICK)
        async with Connection(forked([*DEMO]), name="c") as conn:
            (template,) = prefork.templates()
            for _ in range(3):
                link: Any = conn.link
                os.kill(link.pid, signal.SIGKILL)
                reply = await conn.call("calculator.Add", CallOptions(idempotent=True, timeout=60), a=5, b=3)
                assert reply.result == 8
            assert prefork.templates() == [template]
            monkeypatch.setattr(prefork, "LINGER", 0.2)

    @pytest.mark.once
    async def test_pool_under_fire(self) -> None:
        """One of the plugins is killed every now and then: each idempotent call is answered."""
        answers, unanswered, is_over = [0] * 20, [], asyncio.Event()
        options = CallOptions(idempotent=True, timeout=QUICK)
        async with ConnectionPool(forked([*DEMO]), 4, 0, name="pool") as pool:

            async def caller(number: int) -> None:
                while not is_over.is_set():
                    try:
                        assert (await pool.call("calculator.Add", options, a=5, b=3)).result == 8
                    except Exception as error:
                        unanswered.append(error)
                    answers[number] += 1

            async def killer() -> None:
                for _ in range(10):
                    await asyncio.sleep(0.3)
                    links: list[Any] = [slot.conn.link for slot in pool.slots if slot.in_service]
                    if links:
                        os.kill(links[0].pid, signal.SIGKILL)
                    before = [*answers]  # no call is under way for two of the kills
                    await eventually(lambda before=before: all(map(operator.gt, answers, before)))
                is_over.set()

            await asyncio.gather(killer(), *map(caller, range(len(answers))))
        assert unanswered == []


@pytest.mark.parametrize("fault", FAULTS, ids=by_name)
async def test_fault(fault: Fault, outside: Outside, everything: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The whole table of hostile plugins: the same errors, in time, nothing left behind and nothing given away."""
    caplog.set_level(logging.DEBUG)
    await check(attrs.evolve(fault, prefork=True), outside, everything)
    assert is_forked(caplog) or not fault.command[0].startswith("/")

"""What imports do to a process is the same in a forked plugin as in a spawned one, and what they read is up to date."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .test_prefork_real import ended, is_forked, nothing_said, printed, script, short_linger, started

pytestmark = [
    pytest.mark.real,
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(sys.platform != "linux", reason="forking a program that has imported its libraries is Linux's"),
]
assert nothing_said
assert short_linger

ARGV = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--level', default='0')\nLEVEL = p.parse_args().level"
DONE = {
    "signals": (
        "import signal\nsignal.signal(15, lambda *_: None)\nsignal.pthread_sigmask(signal.SIG_BLOCK, [10])",
        "import signal\nprint(callable(signal.getsignal(15)), signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    ),
    "file mode mask": ("import os\nos.umask(0o77)", "import os\nprint(oct(os.umask(0)))"),
    "directory": ("import os\nos.chdir('/')", "import os\nprint(os.getcwd())"),
    "collector off": ("import gc\ngc.disable()", "import gc\nprint(gc.isenabled(), gc.get_threshold())"),
    "collector": ("import gc\ngc.set_threshold(900, 8, 7)", "import gc\nprint(gc.isenabled(), gc.get_threshold())"),
    "no collector": ("", "import gc\nprint(gc.isenabled(), gc.get_threshold())"),
    "temporary files": ("import tempfile\ntempfile.tempdir = '/var'", "import tempfile\nprint(tempfile.gettempdir())"),
    "arguments": (ARGV, "print(seen.LEVEL)"),
    "a name for the arguments": ("from sys import argv", "import sys\nprint(seen.argv, seen.argv is sys.argv)"),
    "main": (
        "import __main__\nFILE = __main__.__file__",
        "import __main__\nprint(seen.FILE, seen.__main__ is __main__, __main__.seen is seen)",
    ),
    "warnings are errors": ("import warnings\nwarnings.simplefilter('error')", "print('well')"),
    "stdout": ("import sys\nsys.stdout.reconfigure(encoding='latin-1')", "import sys\nprint(sys.stdout.encoding)"),
    "limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))",
        "import resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE))",
    ),
    "zone": (
        "import os, time\nos.environ['TZ'] = 'Asia/Tokyo'\ntime.tzset()",
        "import time\nprint(time.tzname, time.localtime(0).tm_hour)",
    ),
    "at exit": ("import atexit, sys\natexit.register(print, 'bye', file=sys.stderr)", "raise SystemExit(3)"),
    "hooks": (
        "import sys\nsys.excepthook = lambda kind, error, trace: print('caught', error, file=sys.stderr)",
        "raise ValueError('x')",
    ),
    "an interrupt": ("import signal", "import os, signal\nsignal.raise_signal(signal.SIGINT)"),
    "a process that has ended": (
        "import subprocess, sys\nOUT = subprocess.check_output([sys.executable, '-S', '-c', 'print(5)'])",
        "print(seen.OUT)",
    ),
    "a loop that has ended": (
        "import asyncio\nasyncio.run(asyncio.sleep(0))",
        "import asyncio\nprint(asyncio.run(asyncio.sleep(0, 5)))",
    ),
    "a database in memory": (
        "import sqlite3\nBASE = sqlite3.connect(':memory:')\nBASE.execute('create table t(a)')",
        "print(seen.BASE.execute('select count(*) from t').fetchall())",
    ),
}
"""What a module does when it is imported, and what the program prints of it."""


@pytest.mark.parametrize("what", DONE)
async def test_what_imports_have_done(what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin finds it as if it had imported the module itself."""
    module, body = DONE[what]
    (tmp_path / "seen.py").write_text(module)
    command = [*script(tmp_path, "import seen", body), "--level", "5"]
    spawned, *forked = [await ended(*command, prefork=choice) for choice in (False, True, True)]
    assert forked == [spawned, spawned]
    assert is_forked(caplog)


LIBRARY = """
#include <pthread.h>
#include <unistd.h>
static pthread_t thread;
static volatile int runs, ends;
static void *work(void *nothing) { while (!ends) usleep(1000); return 0; }
static void stop(void) { if (runs) { ends = 1; pthread_join(thread, 0); runs = ends = 0; } }
int start(void) { if (!runs) { runs = 1; pthread_create(&thread, 0, work, 0); } return 1; }
__attribute__((constructor)) static void begin(void) { pthread_atfork(stop, 0, 0); start(); }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
async def test_threads_of_libraries_that_know_of_forks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As numpy's, which are started when it is imported: they end before a fork, and begin again at their next use."""
    (tmp_path / "library.c").write_text(LIBRARY)
    build = ["cc", "-shared", "-fPIC", "-pthread", "-o", tmp_path / "library.so", tmp_path / "library.c"]
    subprocess.run(build, check=True)
    (tmp_path / "works.py").write_text(f"import ctypes\nlibrary = ctypes.CDLL('{tmp_path}/library.so')")
    count = "len(os.listdir('/proc/self/task'))"
    command = script(tmp_path, "import works", "import os", f"print(works.library.start(), {count})")
    for choice in (False, True, True):
        assert "'1 2'" in (await ended(*command, prefork=choice))[1]
    assert is_forked(caplog)


async def test_arguments_that_an_import_has_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin with other arguments is spawned; with the same ones, it is forked."""
    (tmp_path / "seen.py").write_text(ARGV)
    command = script(tmp_path, "import seen", "print(seen.LEVEL)")
    for level, forks in (("5", True), ("5", True), ("6", False), ("5", True)):
        caplog.clear()
        assert repr(level) in (await ended(*command, "--level", level))[1]
        assert is_forked(caplog) == forks
        assert forks or "(seen) reads the arguments of another plugin" in caplog.text


async def test_keys_are_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Siblings do not know the key by which the processes of one of them know each other."""
    command = script(tmp_path, "import multiprocessing as m", "print(bytes(m.current_process().authkey).hex())")
    keys = {(await ended(*command))[1] for _ in range(3)}
    assert len(keys) == 3
    assert is_forked(caplog)


async def test_nothing_is_imported_twice_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is imported only when the certificate of a plugin is made, the template has imported."""
    lines = (
        "import sys",
        "from pyvider.rpcplugin.server import RPCPluginServer",
        "from provide.foundation.crypto import Certificate",
        "known = set(sys.modules)",
        "Certificate.create_self_signed_server_cert('localhost', 'x', 1)",
        "print(sorted(name for name in set(sys.modules) - known if name.startswith('cryptography')))",
    )
    command = script(tmp_path, *lines)
    _, spawned, _ = await ended(*command, prefork=False)
    _, forked, why = await ended(*command)
    assert "cryptography" in spawned
    assert "'[]'" in forked, why
    assert is_forked(caplog)


async def test_classes_of_the_program_are_pickled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Processes of its own find them in its `__main__`."""
    command = script(
        tmp_path,
        "import multiprocessing",
        "class Box:",
        "    def __init__(self, value): self.value = value",
        "def more(box): return Box(box.value + 1)",
        "if __name__ == '__main__':",
        "    with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.apply(more, (Box(1),)).value)",
    )
    process, line = await printed(*command)
    assert line == "2"
    assert is_forked(caplog)
    await process.stop()


class TestFilesThatChange:
    def command(self, tmp_path: Path) -> list[str]:
        (tmp_path / "changes.py").write_text("VALUE = 1")
        return script(tmp_path, "import changes, os", "os.write(1, f'{changes.VALUE}\\n'.encode())")

    async def test_what_is_imported(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A start after a change runs the new code, and is forked."""
        command = self.command(tmp_path)
        for value in (1, 22, 333):
            (tmp_path / "changes.py").write_text(f"VALUE = {value}")
            for _ in range(2):
                assert f"'{value}'" in (await ended(*command))[1]
        assert is_forked(caplog)

    async def test_plugins_of_before_live_on(self, tmp_path: Path) -> None:
        """The old template ends, and takes none of them along."""
        (tmp_path / "changes.py").write_text("VALUE = 1")
        command = script(tmp_path, "import changes, time", "print(changes.VALUE, flush=True)", "time.sleep(600)")
        old, before = await printed(*command)
        (tmp_path / "changes.py").write_text("VALUE = 22")
        new, after = await printed(*command)
        assert (before, after) == ("1", "22")
        assert (old.returncode, new.returncode) == (None, None)
        await old.stop(0)
        await new.stop(0)

    async def test_what_is_removed(self, tmp_path: Path) -> None:
        """The plugin fails as it would without a template."""
        command = self.command(tmp_path)
        await ended(*command)
        (tmp_path / "changes.py").unlink()
        code, _, words = await ended(*command)
        assert code == 1
        assert "No module named 'changes'" in words

    async def test_in_an_archive(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What changes is the archive."""
        import zipfile

        archive = tmp_path / "library.zip"
        command = script(tmp_path, "import packed", "print(packed.VALUE)")
        for value in (1, 22):
            with zipfile.ZipFile(archive, "w") as file:
                file.writestr("packed.py", f"VALUE = {value}")
            for _ in range(2):
                _, first, _ = await ended(*command, env={**os.environ, "PYTHONPATH": str(archive)})
                assert f"'{value}'" in first
        assert is_forked(caplog)

    async def test_again_and_again(self, tmp_path: Path) -> None:
        """A file that every import writes anew changes under each template: the plugin is spawned in the end."""
        (tmp_path / "changes.py").write_text("VALUE = 1\nopen(__file__, 'a').write('#')")
        process = await started(*script(tmp_path, "import changes", "print(changes.VALUE, flush=True)"))
        assert await process.exited == 0
        await process.stop()

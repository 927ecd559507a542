"""What imports do to a process is the same in a forked plugin as in a spawned one, and what they read is up to date."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PYTHON
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
    "stdout closed": ("import sys\nsys.stdout.close()", "import sys\nprint(sys.stdout.closed, file=sys.stderr)"),
    "builtins": ("", "print(__builtins__.len('ab'))"),
    "main's attributes": (
        "import __main__ as m\nSEEN = m.__loader__.path, m.__spec__, m.__package__, m.__cached__",
        "print(seen.SEEN)",
    ),
    "a file that nobody closes": (
        "import pathlib\nPATH = pathlib.Path(__file__).parent / 'unclosed'",
        "import atexit\natexit.register(lambda: None)\nheld = open(seen.PATH, 'w')\nheld.write('all of it')\ndef f(): return held",
    ),
    "a file that a module leaves open": (
        "from pathlib import Path\ndef keep():\n    global held\n    held = open(Path(__file__).parent / 'unclosed', 'w')\n    held.write('it')",
        "seen.keep()",
    ),
    "what is left at the end": (
        "class Left:\n    def __del__(self): print('ended', file=error)",
        "import sys\nseen.error = sys.stderr\nmine = seen.Left()\ndef f(): return mine",
    ),
    "the last error": (
        "import atexit, sys, traceback",
        "import atexit, sys, traceback\natexit.register(lambda: traceback.print_last())\ndef f(): 1 / 0\nf()",
    ),
    "a hook and what it sees": (
        "import sys\nsys.excepthook = lambda *_: print('told', sys.exc_info(), file=sys.stderr)",
        "raise ValueError",
    ),
    "a copy of the command": ("import sys\nWORDS = list(sys.orig_argv)[-2:]", "print(seen.WORDS)"),
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
    unclosed = tmp_path / "unclosed"
    seen = []
    for choice in (False, True, True):
        end = await ended(*command, prefork=choice)
        seen.append((*end, unclosed.read_text() if unclosed.exists() else ""))
        unclosed.unlink(missing_ok=True)
    assert seen == [seen[0]] * 3
    assert is_forked(caplog)


CHANGED = {
    "an argument removed": ("import sys\nsys.argv.remove('--level')", "print(sys.argv)", "changes the arguments"),
    "other arguments": ("import sys\nsys.argv = sys.argv[:1]", "print(sys.argv)", "changes the arguments"),
    "another name": ("import sys\nsys.argv[0] = 'name'", "print(sys.argv)", "changes the arguments"),
    "stderr": (
        "import os\nwith open(__file__ + '.txt', 'w') as file: os.dup2(file.fileno(), 2)",
        "print('lost', file=sys.stderr)",
        "closes or redirects a standard stream",
    ),
    "stdout for stderr": ("import os\nos.dup2(2, 1)", "print('x')", "closes or redirects a standard stream"),
    "no stdin": ("import os\nos.close(0)", "print(os.path.exists('/proc/self/fd/0'))", "closes or redirects"),
    "no stdout": ("import os\nos.close(1)", "print('x', file=sys.stderr)", "closes or redirects"),
    "long words": ("import os\nfor _ in range(99): os.write(2, b'x' * 1000)\nos.write(2, b'end')", "", "prints more"),
}
"""What a module does to a process that a copy of it could not have: and why the plugin is spawned."""


@pytest.mark.parametrize("what", CHANGED)
async def test_what_imports_do_that_no_copy_has(what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The plugin is spawned, and the log says why."""
    module, body, why = CHANGED[what]
    (tmp_path / "seen.py").write_text(module)
    command = [*script(tmp_path, "import seen", "import os, sys", body), "--level", "5"]
    spawned, *others = [await ended(*command, prefork=choice) for choice in (False, True, True)]
    assert others == [spawned, spawned]
    (told,) = [record.message for record in caplog.records]
    assert why in told


HELD = {
    "object": "class Held:\n    def __init__(self): self.words = sys.argv\nheld = Held()\ndef get(): return held.words",
    "default": "def get(words=sys.argv): return words",
    "command": "held = [sys.orig_argv]\ndef get(): return held[0]",
}


@pytest.mark.parametrize("how", HELD)
async def test_arguments_that_an_object_holds(how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without having read them: they are those of the plugin, and can be pickled."""
    (tmp_path / "seen.py").write_text(f"import sys\n{HELD[how]}")
    command = script(
        tmp_path,
        "import pickle, seen, time",
        "print(seen.get(), pickle.loads(pickle.dumps(seen.get())), flush=True)",
        "time.sleep(600)",
    )
    processes = [await printed(*command, level, prefork=choice) for choice in (True, False) for level in "56"]
    lines = [line for _, line in processes]
    assert lines[:2] == lines[2:]
    assert is_forked(caplog)
    for process, _ in processes:
        await process.stop(0)


READ = [
    "repr(sys.argv)",
    "sys.argv + []",
    "sys.argv == []",
    "[*reversed(sys.argv)]",
    "sys.argv.index('5')",
    "sys.orig_argv[-1]",
]


@pytest.mark.parametrize("read", READ)
async def test_each_way_to_read_arguments(read: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin with other arguments is not given those of the first one."""
    (tmp_path / "seen.py").write_text(f"import sys\ntry: SEEN = {read}\nexcept ValueError: SEEN = None")
    command = script(tmp_path, "import seen, time", "print(seen.SEEN, flush=True)", "time.sleep(600)")
    processes = [await printed(*command, level, prefork=choice) for choice in (True, False) for level in "56"]
    lines = [line for _, line in processes]
    assert lines[:2] == lines[2:]
    assert "(seen) reads the arguments of another plugin" in caplog.text
    for process, _ in processes:
        await process.stop(0)


@pytest.mark.parametrize("name", ["ast", "signal", "socket", "array"])
async def test_a_module_of_its_own(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The template has imported the library's one of that name; the plugin gets its own."""
    (tmp_path / f"{name}.py").write_text("OWN = 'its own'")
    command = script(tmp_path, f"import {name}", f"print({name}.OWN)")
    for choice in (False, True):
        assert "'its own'" in (await ended(*command, prefork=choice))[1]
    assert f"has a module {name} of its own" in caplog.text


async def test_a_directory_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A program that is named relative to the directory is found, wherever its imports have gone."""
    (tmp_path / "leaves.py").write_text("import os\nos.chdir('/')")
    command = [PYTHON, Path(script(tmp_path, "import leaves, os", "print(os.getcwd(), __file__)")[1]).name]
    spawned, forked = [await ended(*command, prefork=choice, cwd=str(tmp_path)) for choice in (False, True)]
    assert forked == spawned
    assert is_forked(caplog)


async def test_a_module_that_imports_the_program(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of what the plugin did not do: the interpreter warns of it only where it is done before."""
    package = tmp_path / "package"
    package.mkdir()
    for early in (False, True):
        (package / "__init__.py").write_text("from . import program" if early else "")
        (package / "other.py").write_text("import package.program")
        (package / "program.py").write_text("from . import other")
        command = [PYTHON, "-W", "always", "-m", "package.program"]
        spawned, forked = [await ended(*command, prefork=choice, cwd=str(tmp_path)) for choice in (False, True)]
        assert forked == spawned
        assert ("RuntimeWarning" in forked[2]) == early
    assert is_forked(caplog)


class TestWhatTheInterpreterDoesAtItsStart:
    async def test_the_environment(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What `sitecustomize` sets, a plugin has; and the locale that the interpreter chooses."""
        (tmp_path / "sitecustomize.py").write_text(
            "import os\nos.environ.update(NEW='new', OLD='changed')\ndel os.environ['GONE']\n"
        )
        names = "('NEW', 'OLD', 'GONE', 'LC_CTYPE')"
        command = script(tmp_path, "import os", f"print([os.environ.get(name) for name in {names}])")
        env = {
            "PYTHONPATH": str(tmp_path),
            "LANG": "C",
            "OLD": "old",
            "GONE": "gone",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
        }
        spawned, forked = [await ended(*command, prefork=choice, env=env) for choice in (False, True)]
        assert forked == spawned
        assert "'new', 'changed', None, 'C.UTF-8'" in forked[1]
        assert is_forked(caplog)

    async def test_a_file(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """What it opens, a plugin has."""
        (tmp_path / "sitecustomize.py").write_text("held = open(__file__)")
        command = script(tmp_path, "import sitecustomize", "print(sitecustomize.held.read())")
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        spawned, forked = [await ended(*command, prefork=choice, env=env) for choice in (False, True)]
        assert forked == spawned
        assert "opens a file, which all plugins would share" in caplog.text

    async def test_a_library_that_maps_itself(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """And keeps its descriptor for that, as libffi does from 3.5 on: that has no state, and a fork keeps it."""
        code = "import _ctypes, os\nheld = os.open(_ctypes.__file__, os.O_RDONLY)"
        (tmp_path / "mapped.py").write_text(code)
        command = script(tmp_path, "import mapped, os", "print(os.readlink(f'/proc/self/fd/{mapped.held}'))")
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        spawned, forked = [await ended(*command, prefork=choice, env=env) for choice in (False, True)]
        assert forked == spawned
        assert "_ctypes" in forked[1]
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
    (tmp_path / "native.py").write_text(f"import ctypes\nlibrary = ctypes.CDLL('{tmp_path}/library.so')")
    count = "len(os.listdir('/proc/self/task'))"
    command = script(tmp_path, "import native", "import os", f"print(native.library.start(), {count})")
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

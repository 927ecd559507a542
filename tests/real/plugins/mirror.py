"""Tells as JSON all that a plugin can see of itself, less what is different each time."""

import json
import os
import signal
import stat
import sys
import tempfile
import threading

import __main__


def descriptors():
    import ctypes  # noqa: F401  # libffi, which it loads, may keep a descriptor of itself

    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.fstat(int(name)).st_mode
        except OSError:
            continue
        found[name] = [stat.S_IFMT(mode), os.readlink(f"/proc/self/fd/{name}").partition(":")[0]]
    return found


def status(*names):
    with open("/proc/self/status") as file:
        lines = dict(line.rstrip("\n").split(":", 1) for line in file)
    return {name: lines[name].strip() for name in names}


def words(name):
    with open(f"/proc/self/{name}", "rb") as file:
        return file.read().decode(errors="surrogateescape").split("\0")


def private(text):
    return str(text).replace(os.environ["TMPDIR"], "TMPDIR")


def death_signal():
    import ctypes

    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0)
    return number.value


def seen():
    main = sys.modules["__main__"]
    return {
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "path": sys.path,
        "flags": str(sys.flags),
        "warnoptions": sys.warnoptions,
        "xoptions": sys._xoptions,
        "executable": sys.executable,
        "main": [main.__name__, main.__file__, str(main.__spec__), main.__package__, type(main.__loader__).__name__],
        "main names": sorted(vars(main)),
        "is main": main is __main__ and main.__dict__ is globals(),
        "cwd": os.getcwd(),
        "env": {name: private(value) for name, value in sorted(os.environ.items())},
        "/proc env": sorted(map(private, words("environ"))),
        "/proc cmdline": words("cmdline"),
        "tempfile": private(tempfile.gettempdir()),
        "descriptors": descriptors(),
        "stdin": sys.stdin.read(),
        "streams": [
            [each.encoding, each.errors, each.line_buffering, each.write_through, each.seekable(), each.isatty()]
            for each in (sys.stdout, sys.stderr)
        ],
        "group": [os.getpgid(0) == os.getpid(), os.getsid(0) == os.getsid(os.getppid())],
        "parent": os.getppid(),
        "death signal": death_signal(),
        "signals": {str(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
        "status": status("Name", "Umask", "Threads", "SigBlk", "SigIgn", "SigCgt", "Uid", "Gid", "Groups", "NoNewPrivs", "CapEff", "Seccomp", "Cpus_allowed"),
        "thread": [threading.get_native_id() == os.getpid(), threading.main_thread().native_id == os.getpid(), threading.active_count()],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }  # fmt: skip


print(json.dumps(seen()), flush=True)
sys.stdin.close()
os.kill(os.getpid(), signal.SIGSTOP) if "--stay" in sys.argv else None

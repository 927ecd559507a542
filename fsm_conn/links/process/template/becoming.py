"""Turns a copy of the template into what the interpreter would have made of the plugin's command."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType, TracebackType

    from fsm_conn.links.process.template.forking import CannotForkError
    from fsm_conn.links.process.template.importing import main_of_script, refresh
    from fsm_conn.links.process.template.sharing import descriptors
else:
    from forking import CannotForkError
    from importing import main_of_script, refresh
    from sharing import descriptors

MOST_PRINTED = 65536
"""Bytes printed by imports that each plugin prints again, for each stream."""
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_MM, PR_SET_MM_MAP = 1, 15, 35, 14


class Fields:
    """The fields of one message, to be taken one by one."""

    def __init__(self, fields: list[bytes]) -> None:
        self._fields = fields[::-1]

    def one(self) -> str:
        """The next field."""
        return os.fsdecode(self._fields.pop())

    def many(self) -> list[str]:
        """The next fields, as many as the first one says."""
        return [self.one() for _ in range(int(self.one()))]


def freeze() -> None:
    """Keep the garbage collector from the current objects for good: pages that nobody writes to stay shared.

    At a plugin's end, what modules hold is finalized all the same, such as a file with unwritten data: of `__main__` by
    the collector, which does visit it; of imported modules by the interpreter, which clears those that live on.
    """
    held: list[object] = [module for name, module in sys.modules.items() if name != "__main__"]
    held.append(held)
    gc.freeze()
    main = sys.modules["__main__"]
    for each in (main, vars(main)):
        ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(each))
        ctypes.pythonapi.PyObject_GC_Track(ctypes.py_object(each))


class Order:
    """The plugin that a copy is to become."""

    def __init__(self, fields: Fields) -> None:
        self.host = int(fields.one())
        self.cwd, self.name = fields.one(), fields.one()
        self.kind, self.program = fields.one(), fields.one()
        self.arguments, self.command = fields.many(), fields.many()
        self.env = dict(entry.split("=", 1) for entry in fields.many())


class Beginning:
    """The state before anything was imported, which each plugin gets back.

    Attributes:
        ours: the descriptors of the template itself. Others were opened by the interpreter's start, such as by
            `sitecustomize`, and are a plugin's as much as those that imports open.
    """

    def __init__(self, channel: int) -> None:
        self.signals = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.umask = os.umask(0o77)
        os.umask(self.umask)
        self.directory = _directory()
        self.env = _environment()
        self._thresholds = gc.get_threshold()
        gc.set_threshold(0)  # as gc.freeze's documentation advises: no collection leaves holes for children to write to
        self.varying: list[str] = []
        self.printed: dict[int, bytes] = {}
        self._caught = {fd: os.memfd_create("printed", os.MFD_CLOEXEC) for fd in (1, 2)}
        for fd, caught in self._caught.items():
            os.dup2(caught, fd)
        self.ours = {0, 1, 2, channel, *self._caught.values()}
        self._streams = [_opened(fd) for fd in (0, 1, 2)]

    def end_of_imports(self, keeps: bool) -> None:
        """Keep what the imports have printed and set.

        Args:
            keeps: whether signals and the file mode mask stay as imports have set them, for they are the plugin's own.

        Raises:
            CannotForkError: a plugin would have other standard streams, or would not print all of it.
        """
        self._keeps = keeps
        self.has_moved = _directory() != self.directory
        self._collects = gc.isenabled()
        gc.disable()
        if not gc.get_threshold()[0]:
            gc.set_threshold(*self._thresholds)
        _flush()
        if [_opened(fd) for fd in (0, 1, 2)] != self._streams:
            raise CannotForkError("what it imports closes or redirects a standard stream")
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd, caught in self._caught.items():
            self.printed[fd] = os.pread(caught, MOST_PRINTED + 1, 0)
            if len(self.printed[fd]) > MOST_PRINTED:
                raise CannotForkError(f"what it imports prints more than {MOST_PRINTED} bytes")
            os.dup2(nowhere, fd)
            os.close(caught)
        os.close(nowhere)
        self.set = {name: value for name, value in os.environ.items() if self.env.get(name) != value}
        self.unset = self.env.keys() - os.environ.keys()

    def return_to(self) -> None:
        """In a plugin: restore the garbage collector; and signals and the file mode mask after imports by name."""
        if self._collects:
            gc.enable()
        if self._keeps:
            return
        signal.set_wakeup_fd(-1)
        for number, handler in self.signals.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        os.umask(self.umask)

    def environment(self, env: dict[str, str]) -> None:
        """In a plugin: set its own environment, with what imports changed of the variables shared with the template."""
        changed = {name for name in (*self.set, *self.unset) if env.get(name) == self.env.get(name)}
        env = {name: value for name, value in env.items() if name not in changed}
        env |= {name: value for name, value in self.set.items() if name in changed}
        for name in os.environ.keys() - env.keys():
            del os.environ[name]
        for name, value in env.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


def _environment() -> dict[str, str]:
    """What the host gave: `sitecustomize`, or the interpreter for its locale, may have changed it since."""
    with open("/proc/self/environ", "rb") as file:
        entries = map(os.fsdecode, file.read().split(b"\0"))
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def _opened(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _directory() -> tuple[int, int]:
    found = os.stat(".")
    return found.st_dev, found.st_ino


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
    ctypes.PyDLL(None).fflush(None)


def become(order: Order, pipes: list[int], kept: list[int], beginning: Beginning) -> None:
    """Become what the interpreter would have made of the plugin's command, and then report that.

    The process leads a group and dies with the host. It has the three standard descriptors and no other, the signals
    that the interpreter sets, its own directory, environment, arguments and random numbers, and its own name in /proc.
    """
    libc = ctypes.PyDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_long(signal.SIGKILL), ctypes.c_long(0), ctypes.c_long(0), ctypes.c_long(0))
    out, err, told = pipes
    if os.getppid() != order.host:
        os._exit(255)
    os.write(told, f"{os.getpid()} ".encode())
    os.setpgid(0, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    _close_all_but({0, 1, 2, told, *kept})
    beginning.return_to()
    try:
        if not beginning.has_moved:
            os.chdir(order.cwd)
    except OSError as error:
        os.write(told, str(error.errno).encode())
        os._exit(255)
    beginning.environment(order.env)
    sys.argv[:] = ["-m" if order.kind == "module" else order.program, *order.arguments]
    sys.orig_argv[:] = order.command
    libc.prctl(PR_SET_NAME, ctypes.c_char_p(os.fsencode(order.name)), *[ctypes.c_long(0)] * 3)
    show_as(order.command, order.env)
    _start_afresh(beginning)
    os.write(told, b"0")
    os.close(told)
    for fd, printed in beginning.printed.items():
        _write(fd, printed)


def _close_all_but(kept: set[int]) -> None:
    for fd in descriptors() - kept:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _start_afresh(beginning: Beginning) -> None:
    """Drop what was found out before the fork. `random` and OpenSSL notice the fork by themselves."""
    refresh(beginning.varying)
    if tempfile := sys.modules.get("tempfile"):
        found = vars(tempfile)
        found["_name_sequence"] = None
        if found["tempdir"] in map(beginning.env.get, beginning.varying):
            found["tempdir"] = None
    if threading := sys.modules.get("threading"):
        threading.main_thread()._set_native_id()
    if numpy := sys.modules.get("numpy.random"):
        numpy.seed()
    if process := sys.modules.get("multiprocessing.process"):
        process.current_process().authkey = os.urandom(32)


def _telling(hook: Callable[..., object]) -> Callable[..., None]:
    """A hook for errors that tells the plugin's own one what it would be told without a template."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        error.__traceback__ = sys.last_traceback = _without_ours(trace)
        hook(kind, error, error.__traceback__)

    return tell


def run(order: Order) -> None:
    """Run the plugin as the interpreter would, in the `__main__` that its imports have seen."""
    try:
        if order.kind == "module":
            from runpy import _run_module_as_main  # type: ignore[attr-defined]  # what the interpreter calls for -m

            _run_module_as_main(order.program)
        else:
            _run_script(os.path.join(order.cwd, order.program), sys.modules["__main__"])
    except SystemExit:
        raise
    except BaseException:
        if callable(getattr(sys, "excepthook", None)):
            sys.excepthook = _telling(sys.excepthook)  # the interpreter calls it, after this
        raise


def _run_script(whole: str, main: ModuleType) -> None:
    try:
        with open(whole, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {whole!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    main.__dict__.update(main_of_script(whole))
    exec(compile(source, whole, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 - it is the plugin itself


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """The traceback as it would be without a template."""
    whole = trace
    while trace is not None:
        if os.path.dirname(trace.tb_frame.f_code.co_filename) == os.path.dirname(__file__):
            whole = trace.tb_next
        trace = trace.tb_next
    return whole


class _Map(ctypes.Structure):
    """The kernel's `struct prctl_mm_map`."""

    _fields_ = [(name, ctypes.c_uint64) for name in (
        "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack",
        "arg_start", "arg_end", "env_start", "env_end", "auxv",
    )] + [("auxv_size", ctypes.c_uint32), ("exe_fd", ctypes.c_uint32)]  # fmt: skip


_shown: list[ctypes.Array[ctypes.c_char]] = []


def show_as(command: list[str], env: dict[str, str]) -> None:
    """Have /proc show the plugin's command and environment, and not the template's. Best effort."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    libc = ctypes.PyDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    words = [os.fsencode(word) + b"\0" for word in command]
    entries = [os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items()]
    _shown.extend(ctypes.create_string_buffer(b"".join(parts)) for parts in (words, entries))
    (arg, env_at), (arg_size, env_size) = map(ctypes.addressof, _shown), (len(each) - 1 for each in _shown)
    code, end_code, stack = map(int, fields[23:26])
    data, end_data, brk = map(int, fields[42:45])
    new = _Map(
        code, end_code, data, end_data, brk, libc.sbrk(0), stack, arg, arg + arg_size, env_at, env_at + env_size,
        0, 0, 0xFFFFFFFF,
    )  # fmt: skip
    libc.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.byref(new), ctypes.c_long(ctypes.sizeof(new)), ctypes.c_long(0))

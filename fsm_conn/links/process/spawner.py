"""Starts programs: without a shell, without blocking the loop, and so that they do not outlive their host.

Rules that hold here:

- One thread starts every plugin and lives as long as the process. Linux sends the parent-death signal when the *thread*
  that started a process ends; only with such a thread does that mean the death of the host.
- That thread does its jobs in the order asked, so a caller can undo a start by simply asking for the undoing after it.
  Another thread removes what plugins have left, which may take long.
- No shell, ever. `setpriv` sets the parent-death signal without a fork hook, but it would hand a file that the kernel
  cannot execute to /bin/sh. So only files that the kernel certainly executes are started through it. The kernel refuses
  any other file, or runs it by an interpreter registered for it, and then without the signal.
- Errors that a retry cannot fix (no such command, not executable) are distinct from those it can (out of memory).
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Literal, ParamSpec, TypeVar

import attrs

from fsm_conn._util import workers
from fsm_conn.links.errors import CommandNotExecutableError, CommandNotFoundError, LinkError
from fsm_conn.links.process import accounts, directory, sealed, system, watchdog
from fsm_conn.links.process.accounts import Account
from fsm_conn.links.process.child import Child, reap, signal_group
from fsm_conn.links.process.paths import absolute

__all__ = ["Launch", "Started", "remove", "resolve", "start", "submit"]

P = ParamSpec("P")
T = TypeVar("T")

PR_SET_PDEATHSIG = 1
ROOT = 0

_swept: set[str] = set()


def submit(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Have the spawning thread call `function`, after everything that was submitted before."""
    return workers.submit("spawner", function, *args, **kwargs)


def remove(path: str) -> Future[None]:
    """Have a private directory removed, by a thread that does nothing else: it may contain much.

    It is removed a slice at a time, so that neither the end of this process nor another directory waits for a
    directory that a plugin has filled. What is left when this process ends is swept by the next host.
    """
    return workers.submit("sweeper", _remove_slice, path)


def _remove_slice(path: str) -> None:
    if not directory.remove(path):
        with suppress(RuntimeError):  # The interpreter is ending: its threads take no more work.
            workers.submit("sweeper", _remove_slice, path)


@attrs.frozen
class Launch:
    """What to start."""

    command: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(repr=False)
    """The whole environment, except the entries that name the private directory."""
    cwd: str | None = None
    directory_names: tuple[str, ...] = ()
    """Variables that are set to the private directory."""
    prefork: bool | tuple[str, ...] = False
    """Whether the program is to be forked, see `prefork`; or the modules to import first."""
    varying: tuple[str, ...] = ()
    """Variables of `env` that differ from start to start."""
    sha256: str | None = None
    """The digest that the program must have."""
    stdin: Literal["null", "inherit"] | int = "null"
    """What the program reads from."""
    user: str | int | None = None
    """The user that the program runs as, by name or number."""
    group: str | int | None = None
    """The group that the program runs as."""

    @property
    def own_names(self) -> set[str]:
        """The variables that are different for each plugin."""
        return {*self.varying, *self.directory_names}


@attrs.frozen
class Started:
    """A process, its pipes, and its private directory."""

    popen: Child
    directory: str
    user: int | None = None
    """The number of the user that it runs as, if that was asked for."""

    def undo(self) -> None:
        """End the process and everything it started, and leave nothing behind. Blocks for some milliseconds."""
        signal_group(self.popen, signal.SIGKILL)
        reap(self.popen)
        watchdog.release(self.popen.pid)
        for pipe in (self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()
        directory.remove(self.directory)


def start(launch: Launch, pass_fds: Sequence[int] = ()) -> Started:
    """Start a program, in a process group and with a private directory of its own. Blocks for some milliseconds.

    Args:
        launch: what to start.
        pass_fds: descriptors that it inherits.

    Raises:
        CommandNotFoundError: there is no such command.
        CommandNotExecutableError: it cannot be executed, or the working directory cannot be entered.
        LinkError: the system could not start it now.
    """
    path = resolve(launch)
    account = accounts.account(launch.user, launch.group)
    watchdog.ensure()
    private = directory.make(for_others=account is not None)
    try:
        started = Started(
            _popen(launch, path, private, pass_fds, account), private, None if account is None else account.uid
        )
    except BaseException:
        directory.remove(private)
        raise
    _sweep_once(os.path.dirname(private))
    return started


def _sweep_once(base: str) -> None:
    """Have that thread also remove what dead hosts left in `base`: no start waits for it."""
    if base not in _swept:
        _swept.add(base)
        with suppress(RuntimeError):  # The interpreter is ending: its threads take no more work.
            workers.submit("sweeper", _sweep_slice, base)


def _sweep_slice(base: str) -> None:
    if not directory.sweep(base):
        with suppress(RuntimeError):
            workers.submit("sweeper", _sweep_slice, base)


def _popen(
    launch: Launch, path: str, private: str, pass_fds: Sequence[int], account: Account | None
) -> subprocess.Popen[bytes]:
    wrapper = system.death_wrapper()
    prefix = wrapper if _kernel_takes(path) else ()
    try:
        own = private if account is None else account.room_in(private)
        with sealed.copy_of(path, launch.sha256) as copy:
            argv = [*prefix, copy.path, *launch.command[1:]]
            return _run(launch, argv, own, [*pass_fds, *copy.descriptors], account)
    except LinkError:  # A LinkError is an OSError, too, and has its own words.
        raise
    except OSError as error:
        if account is not None and isinstance(error, PermissionError) and os.geteuid() != ROOT:
            raise CommandNotExecutableError(
                f"the plugin's command {path} cannot be started as another user (user=, group=): "
                f"only root may do that ({os.strerror(error.errno or 0)})"
            ) from None
        raise _start_error(error, path) from None


def _run(
    launch: Launch, argv: list[str], private: str, pass_fds: Sequence[int], account: Account | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - to run what the user says is what this is for
        argv,
        stdin=subprocess.DEVNULL if launch.stdin == "null" else None if launch.stdin == "inherit" else launch.stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=launch.cwd,
        env={**launch.env, **dict.fromkeys(launch.directory_names, private)},
        close_fds=True,
        pass_fds=pass_fds,
        process_group=0,
        preexec_fn=None if system.death_wrapper() else system.death_hook(),
        **({} if account is None else account.arguments()),
    )


def _start_error(error: OSError, path: str) -> LinkError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.ENOEXEC:
        return CommandNotExecutableError(
            f"the plugin's command {path} is no program for this machine, and has no #! line that names its interpreter"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.E2BIG, errno.ELOOP):
        return CommandNotExecutableError(f"the plugin's command {path} cannot be executed: {reason}")
    return LinkError(f"the plugin's command {path} could not be started: {reason}")


# -- finding the command ---------------------------------------------------------------------------------------------


def _check_cwd(cwd: str | None) -> None:
    if cwd is None:
        return
    if not os.path.isdir(cwd):
        wrong = "is not a directory" if os.path.exists(cwd) else "does not exist"
        raise CommandNotExecutableError(f"the plugin's working directory {cwd} {wrong}: create it, or correct cwd=")
    if not os.access(cwd, os.X_OK):
        raise CommandNotExecutableError(f"the plugin's working directory {cwd} may not be entered by this user")


def resolve(launch: Launch) -> str:
    """The file that the command names, found as the plugin itself would: from its own directory and PATH.

    Raises:
        CommandNotFoundError: there is no such command.
        CommandNotExecutableError: it cannot be executed, or the working directory cannot be entered.
    """
    _check_cwd(launch.cwd)
    name = launch.command[0]
    found = [path for path in _candidates(launch) if os.path.lexists(path)]
    for path in found:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            _check_interpreter(path)
            return path
    if found:
        raise CommandNotExecutableError(_why_not_executable(found[0]))
    raise CommandNotFoundError(_why_not_found(name, launch))


def _candidates(launch: Launch) -> Iterator[str]:
    name = launch.command[0]
    if os.sep in name:
        yield absolute(name, launch.cwd, "command")
        return
    for entry in launch.env.get("PATH", os.defpath).split(os.pathsep):
        # Without a working directory, relative entries of PATH have nothing in them.
        with suppress(CommandNotExecutableError):
            yield absolute(os.path.join(entry, name), launch.cwd, "command")


def _why_not_found(name: str, launch: Launch) -> str:
    if os.sep in name:
        return f"the plugin's command {next(_candidates(launch))} does not exist"
    here = os.path.join(launch.cwd or "", name)
    hint = f"write ./{name} for the one in its directory" if os.path.isfile(here) else "install it, or give its path"
    return f"the plugin's command {name!r} is not in any directory of PATH: {hint}"


def _why_not_executable(path: str) -> str:
    if os.path.isdir(path):
        return f"the plugin's command {path} is a directory: name the program in it"
    if not os.path.exists(path):
        return f"the plugin's command {path} is a link to a file that does not exist"
    if not stat.S_ISREG(os.stat(path).st_mode):
        return f"the plugin's command {path} is not a regular file"
    return f"the plugin's command {path} may not be executed by this user: try chmod +x {path}"


def _check_interpreter(path: str) -> None:
    """Check for the interpreter: if it is missing, the kernel says that the script does not exist, which is wrong."""
    interpreter = _interpreter(_head(path))
    if interpreter and not os.path.exists(interpreter):
        raise CommandNotExecutableError(f"the #! line of {path} names {interpreter}, which does not exist")


# -- the parent-death signal -----------------------------------------------------------------------------------------


def _head(path: str) -> bytes:
    with suppress(OSError), open(path, "rb") as file:
        return file.read(256)
    return b""


def _interpreter(head: bytes) -> str:
    words = head[2:].split(b"\n", 1)[0].split() if head.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""


@functools.cache
def _native() -> bytes:
    """The common part of the ELF headers of this machine's programs: class, byte order and machine."""
    return _elf_kind(_head(sys.executable))


def _elf_kind(head: bytes) -> bytes:
    return head[4:6] + head[18:20] if head.startswith(b"\x7fELF") else b""


def _kernel_takes(path: str) -> bool:
    """Whether the kernel certainly executes the file by itself."""
    head = _head(path)
    return bool(_interpreter(head)) or (bool(_elf_kind(head)) and _elf_kind(head) == _native())

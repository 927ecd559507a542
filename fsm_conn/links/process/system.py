"""What Linux can do for our processes, and what is done on macOS instead: all differences between the two.

| | Linux | macOS |
|---|---|---|
| a plugin dies with its host | the kernel sends it SIGKILL | the watchdog does |
| its end is noticed | by a descriptor | by checking now and then |
| who connects to a socket of ours | the kernel tells the process | not known |
| forking from a template, executing a sealed copy | yes | refused, with an error that says so |

Windows cannot run our plugins: `links/target.py` refuses them.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["HAS_EXIT_DESCRIPTORS", "allow_all", "connected_process", "death_hook", "death_wrapper", "exit_descriptor"]
__all__ += ["ticks_since_boot", "usable_cores"]

PR_SET_PDEATHSIG = 1
HAS_EXIT_DESCRIPTORS = hasattr(os, "pidfd_open")


def usable_cores() -> int:
    """The cores that this process may use; at least one."""
    if sys.platform == "linux":
        with suppress(OSError):
            return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def exit_descriptor(pid: int) -> int:
    """A descriptor that becomes readable once the process has ended.

    Raises:
        OSError: there is none: no such process, or the system has no such descriptors.
    """
    if sys.platform == "linux":
        return os.pidfd_open(pid)
    else:  # noqa: RET505 - so that type checkers see one branch for each system
        raise OSError("this system has no descriptors of processes")


def ticks_since_boot() -> int:
    """The time now, in the unit of process starts in /proc: ticks since the boot; 0 where there is no such clock."""
    if sys.platform == "linux":
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    else:  # noqa: RET505
        return 0


def connected_process(connection: socket.socket) -> int | None:
    """The process at the other end of a unix socket that we have accepted; None: the system does not tell."""
    if sys.platform == "linux":
        ucred = struct.Struct("3i")
        pid, _, _ = ucred.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size))
        return int(pid)
    else:  # noqa: RET505
        return None


def allow_all(name: str, dir_fd: int | None = None) -> None:
    """Allow ourselves to read, change and move a directory, without following a link in its place."""
    if sys.platform == "linux":
        # On Linux, chmod always follows links.
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
        try:
            os.chmod(f"/proc/self/fd/{fd}", 0o700)
        finally:
            os.close(fd)
    else:
        os.chmod(name, 0o700, dir_fd=dir_fd, follow_symlinks=False)


@functools.cache
def death_wrapper() -> tuple[str, ...]:
    """The command that starts another one with a parent-death signal; empty where no such command works."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return ()
    prefix = (os.path.abspath(setpriv), "--pdeathsig", "KILL", "--")
    # BusyBox has a setpriv that lacks the option.
    trial = [*prefix, prefix[0], "--version"]
    done = subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 - our own words
    return prefix if done.returncode == 0 else ()


@functools.cache
def death_hook() -> Callable[[], None] | None:
    """A hook for the time between fork and exec that does the same, where there is no `setpriv`.

    It needs a real fork instead of vfork. Among gRPC's threads, such a child now and then dies before it gets to exec.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            return functools.partial(_prctl(), PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    return None


def _prctl() -> Callable[..., None]:
    prctl: Callable[..., None] = ctypes.CDLL(None).prctl
    return prctl

"""Whether a template can be forked after its imports.

A template only imports. It runs no event loop, starts no thread and initialises nothing of gRPC. If an import does so,
or opens what plugins would share, the template is not used.
"""

from __future__ import annotations

import gc
import os
import signal
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fsm_conn.links.process.template.forking import CannotForkError
else:
    from forking import CannotForkError

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
"""Devices that may stay open: they have no state that plugins could share."""
OBJECTS_OF_GRPC = {"Channel", "Server", "AioChannel", "AioServer", "CompletionQueue", "PollerCompletionQueue"} | {
    "ChannelCredentials",
    "ServerCredentials",
    "CallCredentials",
}


def descriptors() -> set[int]:
    """The descriptors that are open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:  # the descriptor with which the directory was read
            continue
        found.add(int(name))
    return found


def is_stateless(fd: int) -> bool:
    """Whether plugins may share it: a device, or a library that is there to be mapped, as libffi keeps itself."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    return path in (DEVICES if stat.S_ISCHR(os.fstat(fd).st_mode) else _programs())


def _programs() -> set[str]:
    """The files whose code this process runs."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        lines = (line.rstrip("\n").split(None, 5) for line in file)
        return {fields[5] for fields in lines if "x" in fields[1] and len(fields) == 6}


def check(ours: set[int]) -> list[int]:
    """Refuse a fork where a plugin would share, or lose, what an import made; return the descriptors that may stay.

    Args:
        ours: the descriptors that were open before.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        raise CannotForkError("what it imports starts a thread, which a fork would not have")
    if _has_children():
        raise CannotForkError("what it imports starts a process, whose parent a fork would not be")
    more = descriptors() - ours
    if shared := [fd for fd in more if not is_stateless(fd)]:
        what = min(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in shared)  # a loop has sockets, too
        kind = "a file" if what.startswith("/") else {"anon_inode": "an event loop"}.get(what, f"a {what}")
        raise CannotForkError(f"what it imports opens {kind}, which all plugins would share")
    return sorted(more)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def check_memory() -> None:
    """Refuse a fork if an import has made what no fork has, or what all would share, or an object of gRPC.

    gRPC allows no fork after that.
    """
    if any(signal.getitimer(which)[0] for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)):
        raise CannotForkError("what it imports sets a timer, which a fork would not have")
    with open("/proc/self/maps", "rb") as file:
        if any(line.split(None, 2)[1] == b"rw-s" for line in file):
            raise CannotForkError("what it imports makes shared memory, which all plugins would share")
    for each in gc.get_objects():
        kind = type(each)
        if kind.__name__ in OBJECTS_OF_GRPC and str(kind.__module__).partition(".")[0] == "grpc":
            held = getattr(each, "_credentials", None)
            if type(held).__name__ != "InsecureChannelCredentials":
                raise CannotForkError(f"what it imports makes an object of gRPC ({kind.__name__})")

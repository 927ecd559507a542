"""The private directory of a plugin: made at its start, for its sockets, and removed after its end.

Rules that hold here:

- Only this user may enter it, and its path is short enough for a socket in it. Nobody else may rename it. Where others
  could rename it, none is made, because a neighbour could replace ours with his own, and get the socket.
- Its owner is checked before it is used and before it is removed.
- The removal follows no link, neither in the directory nor in its place.
- A host that is killed leaves its directories behind, and the next host that starts a plugin removes them. It removes
  only directories that this user made, that are named as only this module names them, and whose host is surely dead. A
  process number identifies a host only on the same machine, since the same boot and in the same PID namespace. So the
  directory's name holds a mark of these. Where there is no such mark (elsewhere than on Linux), nothing is swept.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import secrets
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fsm_conn.links.errors import LinkError
from fsm_conn.links.process import system

__all__ = ["is_ours", "make", "remove", "sweep", "who_may_tamper"]

logger = logging.getLogger("fsm_conn.process")

LONGEST_BASE = 50
"""Bytes of the path in which a directory is made: a socket's path must stay below the 108 bytes that Linux takes."""
SLICE = 0.5
"""Seconds that the removal of one directory takes before others have a turn, or the process may end."""
ROOT = 0
"""Directories of root's are accepted: root can reach us without one."""
SHORT_BASE = "/tmp"  # noqa: S108 - mkdtemp makes its own, private directory there

_NAME = re.compile(r"fsm-(?P<pid>[1-9][0-9]{0,8})-(?P<world>[0-9a-f]{8})-[a-z0-9_]{8}")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = "/proc/self/ns/pid"


def make(*, for_others: bool = False) -> str:
    """Make a directory for one plugin of this process, and return its path.

    Args:
        for_others: whether another user must be able to reach it.

    Raises:
        LinkError: the system does not allow it.
    """
    world = _world()
    mark = f"{world}-" if world else ""
    try:
        return tempfile.mkdtemp(prefix=f"fsm-{os.getpid()}-{mark}", dir=_base(for_others))
    except OSError as error:
        raise LinkError(f"the plugin could get no private directory: {error}; free space, or set TMPDIR") from None


def _base(for_others: bool) -> str:
    """Where to make it: the directory for temporary files, or a short path. Nobody else can tamper with either."""
    base = tempfile.gettempdir()
    why = who_may_tamper(base)
    if why is not None:
        logger.warning("plugins get no directories in %s: %s", base, why)
    elif len(os.fsencode(base)) <= LONGEST_BASE and not (for_others and _is_closed(base)):
        return base
    why = who_may_tamper(SHORT_BASE)
    if why is not None:
        raise PermissionError(f"{why}, so that they could put their own in its place")
    return SHORT_BASE


def _is_closed(path: str) -> bool:
    """Whether others cannot pass through a directory, or one above it."""
    path = os.path.realpath(path)
    while os.stat(path).st_mode & stat.S_IXOTH:
        if path == os.path.dirname(path):
            return False
        path = os.path.dirname(path)
    return True


def who_may_tamper(path: str) -> str | None:
    """Who else can rename what we make in a directory, in words; None: nobody but root.

    That is the directory's owner, and all who may write to it unless it is sticky; and the same for each one above it.
    """
    path = os.path.realpath(path)
    while True:
        found = os.stat(path)
        if found.st_uid not in (os.geteuid(), ROOT):
            return f"the directory {path} belongs to user {found.st_uid}"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
            return f"the directory {path} may be written to by others and is not sticky"
        if path == os.path.dirname(path):
            return None
        path = os.path.dirname(path)


def is_ours(path: str) -> bool:
    """Whether there is a directory, and it belongs to us."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def remove(path: str, limit: float = SLICE) -> bool:
    """Remove a private directory with its contents. Links in it, or in its place, are removed and never followed.

    A plugin may have nested directories deeper than recursion or paths can go, or have locked or filled them.

    Args:
        path: the directory.
        limit: seconds, after which the rest is left in place.

    Returns:
        False: something is left that could be removed with more time.
    """
    if os.path.isdir(path) and not os.path.islink(path) and not is_ours(path):
        return True  # a stranger's directory in the place of ours
    end = time.monotonic() + limit
    with suppress(OSError):  # Linux needs /proc for this; what is not locked can be removed without it.
        system.allow_all(path)
    with suppress(OSError), _opened(path) as top:
        if not _empty(top, end):
            return False
    for let_go in (os.rmdir, os.unlink):
        with suppress(OSError):
            let_go(path)
    return True


def _empty(top: int, end: float) -> bool:
    """Empty the directory with the descriptor `top`. Directories below are moved up into it first.

    False: it was not done by `end`, on the monotonic clock.
    """
    pending = _cleared(top, end)
    while pending:
        name = pending.pop()
        with suppress(OSError), _opened(name, top) as fd:
            for below in _cleared(fd, end):
                moved = secrets.token_hex(8)
                os.rename(below, moved, src_dir_fd=fd, dst_dir_fd=top)
                pending.append(moved)
        with suppress(OSError):
            os.rmdir(name, dir_fd=top)
        if time.monotonic() > end:  # checked only here, so that each slice makes progress
            return False
    return time.monotonic() <= end


def _cleared(fd: int, end: float) -> list[str]:
    """Remove all but directories from a directory, and return the names of the directories in it, unlocked."""
    directories = []
    with os.scandir(fd) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
                    system.allow_all(entry.name, fd)
                else:
                    os.unlink(entry.name, dir_fd=fd)
            if time.monotonic() > end:  # checked only here, so that each pass makes progress
                break
    return directories


@contextmanager
def _opened(name: str, dir_fd: int | None = None) -> Iterator[int]:
    """A descriptor of a directory, never of what a link in its place points to."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


@functools.cache
def _world() -> str:
    """A mark of the machine, boot and namespace in which process numbers have their meaning; empty: it is not known."""
    try:
        return f"{zlib.crc32(f'{_BOOT.read_text()} {os.readlink(_NAMESPACE)}'.encode()):08x}"
    except OSError:
        return ""


def sweep(base: str) -> bool:
    """Remove the directories in `base` that dead hosts of this user have left. False: more time would remove more."""
    with suppress(OSError), os.scandir(base) as entries:
        for path in [entry.path for entry in entries if _is_of_the_dead(entry.name)]:
            if _is_private(path) and not remove(path):
                return False
    return True


def _is_of_the_dead(name: str) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and match["world"] == _world() and _is_dead(int(match["pid"]))


def _is_dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _is_private(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) in (0o700, 0o711) and found.st_uid == os.geteuid()
    )

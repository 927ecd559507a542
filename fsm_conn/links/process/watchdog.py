"""Ends what plugins have started when this process ends in a way that leaves it no chance to act, such as SIGKILL.

In that case, Linux ends the plugin itself, by the parent-death signal. But it does not end what the plugin has started,
nor a plugin that was started by a shell in between; and other systems end nothing. So a shell of ours waits at a pipe
that only this process holds. When the pipe ends, this process has ended, and the shell kills the process groups that
it was told of.

Rules that hold here:

- This process has one shell, started with the first plugin. It ignores the signals that a terminal sends to all.
- The shell learns of a group when a plugin is there, and again when the plugin was reaped: it never kills a stranger's.
- Without /bin/sh nothing is done. A process that leaves its group (`setsid`) is not found; service managers find it,
  by cgroups.
"""

from __future__ import annotations

import atexit
import logging
import subprocess
import threading
from contextlib import suppress

from fsm_conn._util.forks import after_fork

__all__ = ["ensure", "guard", "release"]

logger = logging.getLogger("fsm_conn.process")

SHELL = "/bin/sh"
SCRIPT = """
trap '' HUP INT QUIT TERM PIPE TSTP
all=
while read -r what group; do
  case $what in
    +) all="$all$group " ;;
    -) rest=
       for each in $all; do [ "$each" = "$group" ] || rest="$rest$each "; done
       all=$rest ;;
  esac
done
for each in $all; do kill -KILL "-$each"; done
"""

_lock = threading.Lock()
_shells: list[subprocess.Popen[bytes]] = []
_groups: set[int] = set()


def ensure() -> None:
    """Start the shell, unless it runs. Blocks for some milliseconds."""
    with _lock:
        if _shells and _shells[0].poll() is not None:  # somebody has killed it
            _shells.pop().communicate()
        if not _shells:
            try:
                _shells.append(_started())
            except OSError as error:
                logger.debug("nothing ends what plugins have started if this process is killed: %s", error)
            else:
                _tell("".join(f"+ {group}\n" for group in _groups))


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own words
        [SHELL, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env={},
        start_new_session=True,
    )


def guard(group: int) -> None:
    """Have a process group killed when this process ends."""
    with _lock:
        _groups.add(group)
        _tell(f"+ {group}\n")


def release(group: int) -> None:
    """Stop guarding a group: its leader was reaped, and the number may belong to a stranger from now on."""
    with _lock:
        if group in _groups:
            _groups.discard(group)
            _tell(f"- {group}\n")


def _tell(words: str) -> None:
    for shell in _shells:
        assert shell.stdin is not None
        with suppress(OSError, ValueError):  # somebody has killed it, or this process is ending
            shell.stdin.write(words.encode())


def _finish() -> None:
    """At the end of the interpreter: the shell has nothing more to wait for."""
    with _lock:
        while _shells:
            shell = _shells.pop()
            assert shell.stdin is not None
            with suppress(OSError, subprocess.TimeoutExpired):
                shell.stdin.close()
                shell.wait(timeout=1)


def _after_fork() -> None:
    """A forked child owns no plugins, and would hold the pipe open."""
    global _lock
    _lock = threading.Lock()
    while _shells:
        shell = _shells.pop()
        shell.returncode = 0  # it is no child of this process
        assert shell.stdin is not None
        shell.stdin.close()
    _groups.clear()


atexit.register(_finish)
after_fork(_after_fork)

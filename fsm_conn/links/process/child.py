"""A child of this process: looked at and signalled, and never confused with a stranger's process.

Rule that holds here: a process number is ours while the process runs, or is a zombie that nobody has reaped. Only then
is it signalled. This holds on every path, also where the system, or other code in this host, reaps children.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import IO, Any, Protocol

__all__ = ["REAP_LIMIT", "Child", "has_ended", "is_ours", "reap", "signal_group"]

REAP_LIMIT = 1.0
"""Seconds to wait for a process that was killed. It takes milliseconds, unless the machine is very busy, or the process
is stuck in the kernel."""


class Child(Protocol):
    """A child of this process: a `subprocess.Popen`, or an object with the same methods."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def stdout(self) -> IO[bytes] | None:
        """The reading end of its pipe."""

    @property
    def stderr(self) -> IO[bytes] | None:
        """The reading end of its pipe."""

    returncode: Any
    """None until it was waited for."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""

    def kill(self) -> None:
        """Send it SIGKILL."""


def has_ended(popen: Child) -> bool:
    """Whether it has ended. It stays a zombie, unless other code has reaped it, or the system's only check reaps it."""
    if not hasattr(os, "waitid"):
        return _is_taken(popen)
    try:
        return os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def is_ours(popen: Child) -> bool:
    """Whether its number is still its own: it runs, or is a zombie that nobody has reaped."""
    if not hasattr(os, "waitid"):
        # The look has just reaped it; but while its group has members, nobody else gets that number.
        return not _is_taken(popen) or popen.returncode is not None
    if popen.returncode is not None:
        return False
    try:
        os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _is_taken(popen: Child) -> bool:
    """Whether it has ended and was reaped: by this call, which sets its return code, or by other code, which does not.

    For systems without `waitid`, such as macOS before Python 3.13.
    """
    if popen.returncode is not None:
        return True
    try:
        pid, status = os.waitpid(popen.pid, os.WNOHANG)
    except ChildProcessError:
        return True
    if pid:
        popen.returncode = os.waitstatus_to_exitcode(status)
    return bool(pid)


def signal_group(popen: Child, *signals: signal.Signals) -> None:
    """Send signals to its process group, unless its number may belong to another process by now."""
    for each in signals:
        if is_ours(popen):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(popen.pid, each)


def reap(popen: Child) -> None:
    """Wait for a child that was killed, at most `REAP_LIMIT` seconds here, and after that in a thread of its own.

    So whoever waits here is not held up, and no zombie stays however late the child ends.
    """
    try:
        popen.wait(timeout=REAP_LIMIT)
    except subprocess.TimeoutExpired:
        with suppress(RuntimeError):  # The interpreter is ending; the system reaps what it leaves.
            threading.Thread(target=popen.wait, name="fsm-conn-reaper", daemon=True).start()

"""A plugin that was forked from a template: how it starts, and how this process waits for it.

Rule that holds here: a child that was made is waited for, and no other process is. Its number comes from the child or
from its template, whichever lives to report it. The number is accepted only if that process has the pipes that were
made for the child. If neither could report the number, the child is lost from view, and ends by itself.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from fsm_conn.links.process import child, system

__all__ = ["Birth", "ForkedChild", "is_child"]

LONGEST_WORD = 64
"""Bytes of what a child says of itself, at most."""


def is_child(pid: int) -> bool:
    """Whether it is the number of a child of this process that nobody has waited for."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (OSError, OverflowError):  # no child, or no number of any process
        return False
    return True


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, which is the state (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()


class Birth:
    """The pipes of a new child: its stdout, its stderr, and one on which it says that it has become the plugin.

    Attributes:
        theirs: the writing ends.
    """

    def __init__(self) -> None:
        self.theirs: tuple[int, ...] = ()
        self._ours: list[int] = []
        self._begun = system.ticks_since_boot()
        try:
            for _ in range(3):
                reading, writing = os.pipe()
                self._ours.append(reading)
                self.theirs += (writing,)
        except OSError:
            self.close()
            raise

    def close_theirs(self) -> None:
        """Close the writing ends, once they were handed over."""
        for fd in self.theirs:
            os.close(fd)
        self.theirs = ()

    def told(self, limit: float) -> tuple[int, bool]:
        """Wait, at most `limit` seconds, until the child has become the plugin or has ended.

        Returns:
            Its number, 0 if it did not report one; and whether it is the plugin now.
        """
        said, end = b"", time.monotonic() + limit
        while len(said) < LONGEST_WORD and self._is_readable(end - time.monotonic()):
            more = os.read(self._ours[2], LONGEST_WORD)
            if not more:
                break
            said += more
        pid, _, outcome = said.decode("ascii", "replace").partition(" ")
        return (int(pid) if pid.isascii() and pid.isdigit() else 0), outcome == "0"

    def _is_readable(self, limit: float) -> bool:
        poll = select.poll()
        poll.register(self._ours[2], select.POLLIN)
        return bool(poll.poll(max(limit, 0) * 1000))

    def is_of(self, pid: int) -> bool:
        """Whether a process is the child of this birth: it has the pipes, or it has ended and is young enough.

        A template may report any number, and so may any holder of the third pipe. They must not make this process act
        on another of its children.
        """
        return is_child(pid) and (self._is_held_by(pid) or self._has_ended_since(pid))

    def _is_held_by(self, pid: int) -> bool:
        pipes = {f"pipe:[{os.fstat(fd).st_ino}]" for fd in self._ours}
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{fd}") in pipes:
                        return True
        return False

    def _has_ended_since(self, pid: int) -> bool:
        try:
            fields = _stat(pid)
        except OSError:
            return False
        return fields[0] == "Z" and int(fields[19]) >= self._begun

    def take(self) -> tuple[IO[bytes], IO[bytes]]:
        """The reading ends of its stdout and its stderr."""
        out, err = self._ours[:2]
        del self._ours[:2]
        return os.fdopen(out, "rb", 0), os.fdopen(err, "rb", 0)

    def close(self) -> None:
        """Close the ends that were neither handed over nor taken."""
        self.close_theirs()
        while self._ours:
            os.close(self._ours.pop())


class ForkedChild:
    """A child of this process that another process forked, with as much of `subprocess.Popen` as is needed.

    Args:
        pid: its number.
        stdout, stderr: the reading ends of its pipes, unbuffered.
        on_end: called once, when the child was waited for.
    """

    def __init__(self, pid: int, stdout: IO[bytes], stderr: IO[bytes], on_end: Callable[[], None]) -> None:
        self.pid = pid
        self.stdout: IO[bytes] | None = stdout
        self.stderr: IO[bytes] | None = stderr
        self.returncode: int | None = None
        self._waiting = threading.Lock()
        self._on_end = weakref.finalize(self, on_end)
        self._on_end.atexit = False

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, as `subprocess.Popen` does, and return its exit status, or minus the number of a signal.

        Args:
            timeout: seconds; None: for ever.

        Raises:
            subprocess.TimeoutExpired: it has not ended by then.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self._ended(0 if end is None else os.WNOHANG)) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired([f"process {self.pid}"], timeout or 0)
            time.sleep(0.001)
        self._on_end()
        return code

    def _ended(self, options: int) -> int | None:
        with self._waiting:
            if self.returncode is None:
                try:
                    pid, status = os.waitpid(self.pid, options)
                except ChildProcessError:  # other code has reaped it
                    pid, status = self.pid, 0
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
            return self.returncode

    def was_killed(self) -> bool:
        """Whether SIGKILL or SIGTERM ended it. Waits a moment for the end, and does not reap the child."""
        end = time.monotonic() + child.REAP_LIMIT
        while (ended := os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is None:
            if time.monotonic() > end:
                return False
            time.sleep(0.001)
        return ended.si_code == os.CLD_KILLED and ended.si_status in (signal.SIGKILL, signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL, unless it was already waited for."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def destroy(self) -> None:
        """Kill it, and leave nothing of it."""
        self.kill()
        child.reap(self)
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

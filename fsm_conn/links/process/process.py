"""One plugin process: it is started, read, ended, and cleaned up.

Rules that hold here:

- Nothing blocks the loop, and nothing waits without end: each wait has a limit that does not depend on the process.
- The process is reaped last. While it is a zombie its number belongs to us, so its group can be killed, with everything
  that the process left running, and no stranger can be hit.
- Cleaning goes on when a caller stops waiting: the exit is noticed, the process reaped and its directory removed,
  whether or not anybody still waits for it. When the loop is gone, a finalizer does this, at the latest at interpreter
  exit.
- Its private directory and its pipes live as long as the process does, and no longer.

POSIX only. What Linux alone can do (a descriptor that becomes readable at the exit, the parent-death signal) has a
fallback elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Literal

from fsm_conn._util.redact import Redactor
from fsm_conn._util.text import brief
from fsm_conn.links.process import directory, spawner, system, watchdog
from fsm_conn.links.process import prefork as forking
from fsm_conn.links.process.child import REAP_LIMIT, has_ended, is_ours, signal_group
from fsm_conn.links.process.output import FirstLine, Heard, LineLog, Pipe, Tail
from fsm_conn.links.process.spawner import Launch, Started

__all__ = ["GRACE", "PluginProcess", "describe_status"]

logger = logging.getLogger("fsm_conn.process")

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL. go-plugin's client gives a plugin as long to end by itself."""
POLL_INTERVAL = 0.02
"""Seconds between two checks of a process, where the system has no better way."""
DIRECTORY_NAMES = ("TMPDIR", "TEMP_DIR", "PLUGIN_UNIX_SOCKET_DIR")
"""The variables by which Python (pyvider's TEMP_DIR goes first) and Go plugins choose a place for their socket."""


_LAST_LINES = "its last lines on stderr:"


def _listed(heading: str, lines: Sequence[str]) -> str:
    return "\n".join([heading, *(f"  {line}" for line in lines)]) if lines else ""


def describe_status(returncode: int | None) -> str:
    """How a process ended, in words, such as `exited with status 3` or `was killed by SIGKILL`."""
    if returncode is None:
        return "ended"
    if returncode >= 0:
        return f"exited with status {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


class PluginProcess:
    """A process that was started by `spawn`.

    Attributes:
        pid: its number.
        directory: its private directory, which is removed soon after the exit.
        user: the number of the user that it runs as, if that was asked for.
        redact: makes its output safe to show.
        exited: resolves to its return code: the exit status, or minus a signal's number; None if other code in this
            host reaped it. Never fails. Shield it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        started: Started,
        name: str,
        redact: Redactor,
        heard: Heard,
        use_pidfd: bool,
    ) -> None:
        self._heard = heard
        self.pid = started.popen.pid
        self.exited: asyncio.Future[int | None] = loop.create_future()
        self._loop = loop
        self._popen = started.popen
        self.directory = started.directory
        self.user = started.user
        self.redact = redact
        self._removing: Future[None] | None = None
        self._pidfd: list[int] = []
        watchdog.guard(self.pid)
        self._finalizer = weakref.finalize(self, _give_up, started, self._pidfd, os.getpid())
        self._name = name
        self._listen()
        self._watch(use_pidfd)

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None = None,
        name: str = "",
        redact: Redactor | None = None,
        heard: Heard | None = None,
        own_directory: Sequence[str] = DIRECTORY_NAMES,
        prefork: bool | tuple[str, ...] = False,
        varying: Sequence[str] = (),
        sha256: str | None = None,
        stdin: Literal["null", "inherit"] | int = "null",
        user: str | int | None = None,
        group: str | int | None = None,
        use_pidfd: bool = system.HAS_EXIT_DESCRIPTORS,
    ) -> PluginProcess:
        """Start a process. If this is cancelled, it undoes the start before the cancellation goes on.

        Args:
            command: the program and its arguments. The program is looked for as the plugin itself would: from `cwd`,
                and in the `PATH` of `env`.
            env: the whole environment.
            cwd: the working directory; None for the host's.
            name: what log records call the process.
            redact: makes output safe to show.
            heard: who gets the output, and how it is read.
            sha256: the digest that the program must have; the copy that was compared is what is executed.
            stdin: what it reads from: nothing, the stdin of this process, or an open file.
            user: the user that it runs as, by name or number; None: that of this process.
            group: the group that it runs as; None: the user's own.
            own_directory: variables to set to a private directory, which is removed after the exit.
            prefork: whether it is forked from a template, if possible; or the modules that the template imports first.
            varying: variables of `env` that differ from start to start, and that no template must know.
            use_pidfd: whether a descriptor tells of the exit, rather than repeated checks.

        Raises:
            LinkError: it could not be started; `permanent` if it never can.
        """
        launch = Launch(
            tuple(command),
            env,
            cwd,
            tuple(own_directory),
            prefork,
            tuple(varying),
            sha256=sha256,
            stdin=stdin,
            user=user,
            group=group,
        )
        job = forking.submit(launch, name) if prefork else spawner.submit(spawner.start, launch)
        try:
            started = await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            await _undo(job)
            raise
        return cls._adopt(started, name, redact or Redactor(), heard or Heard(), use_pidfd)

    @classmethod
    def _adopt(cls, started: Started, name: str, redact: Redactor, heard: Heard, use_pidfd: bool) -> PluginProcess:
        try:
            return cls(asyncio.get_running_loop(), started, name, redact, heard, use_pidfd)
        except BaseException:
            started.undo()
            raise

    def __repr__(self) -> str:
        return f"<PluginProcess {self.pid} {describe_status(self.returncode) if self.exited.done() else 'running'}>"

    @property
    def returncode(self) -> int | None:
        """Its return code, or None while it runs."""
        return self.exited.result() if self.exited.done() else None

    # -- listening ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._tail = Tail()
        self._first = FirstLine(self._loop, self.redact)
        self._stdout_log = self.log_of("stdout")
        self._stderr_log = self.log_of("stderr")
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._stdout = Pipe(self._loop, self._popen.stdout, self._on_stdout, self._on_stdout_end)
        self._stderr = Pipe(self._loop, self._popen.stderr, self._on_stderr, self._stderr_log.end)

    def log_of(self, stream: str) -> LineLog:
        """A log for a stream that the plugin prints; `stream` is its name."""
        extra = {"plugin_name": self._name, "plugin_pid": self.pid, "plugin_stream": stream}
        heard = self._heard
        return LineLog(self.redact, self._loop.time, extra, heard.read, heard.sinks.get(stream), heard.loudest)

    def _on_stdout(self, data: bytes) -> None:
        if rest := self._first.feed(data):
            self._stdout_log.feed(rest)

    def _on_stdout_end(self) -> None:
        self._first.end()
        self._stdout_log.end()

    def _on_stderr(self, data: bytes) -> None:
        self._tail.feed(data)
        self._stderr_log.feed(data)

    @property
    def first_line(self) -> asyncio.Future[bytes]:
        """Resolves to the first line of its stdout, or raises `HandshakeError`. Shield it."""
        return self._first.line

    def first_words(self) -> str:
        """What it printed first on stdout, safe to show."""
        return self._first.told()

    def last_words(self) -> tuple[str, str]:
        """Its last line on stderr, shortened, and the lines before it: safe to show, and empty where there are none.

        A last line that had to be shortened is also among the others, in full.
        """
        lines = self._tail.lines(self.redact)
        if not lines:
            return "", ""
        last = brief(lines[-1])
        before = lines if last != lines[-1].strip() else lines[:-1]
        return last, _listed("its lines on stderr before that:" if before != lines else _LAST_LINES, before)

    def diagnostics(self) -> str:
        """Its last lines on stderr, safe to show; empty if it printed nothing there."""
        return _listed(_LAST_LINES, self._tail.lines(self.redact))

    # -- noticing the exit -------------------------------------------------------------------------------------------

    def _watch(self, use_pidfd: bool) -> None:
        if use_pidfd:
            with suppress(OSError):
                self._pidfd.append(system.exit_descriptor(self.pid))
                self._loop.add_reader(self._pidfd[0], self.look)
                return
        self._loop.call_later(POLL_INTERVAL, self._poll)

    def _poll(self) -> None:
        if not self.exited.done() and self._finalizer.alive:
            self.look()
            self._loop.call_later(POLL_INTERVAL, self._poll)

    def look(self) -> None:
        """Notice the exit now, if it has happened; the loop would notice it within one round."""
        if not self.exited.done() and has_ended(self._popen):
            self._bury()

    def _bury(self) -> None:
        """The process has ended: end what it left running, reap it, and read its last output."""
        ours = is_ours(self._popen)
        signal_group(self._popen, signal.SIGKILL)
        returncode = self._popen.wait()
        self._settle(returncode if ours else None)

    def _settle(self, returncode: int | None) -> None:
        self._finalizer.detach()
        watchdog.release(self.pid)
        self._unwatch()
        self._removing = _remove(self.directory)
        if not self._loop.is_closed():
            self._hear_the_rest()
            self.exited.set_result(returncode)
        self._stdout.close()
        self._stderr.close()

    def _hear_the_rest(self) -> None:
        self._stdout.drain()
        self._stderr.drain()
        self._on_stdout_end()
        self._stderr_log.end()

    def _unwatch(self) -> None:
        while self._pidfd:
            fd = self._pidfd.pop()
            with suppress(RuntimeError):
                self._loop.remove_reader(fd)
            os.close(fd)

    # -- ending it ---------------------------------------------------------------------------------------------------

    def kill_now(self) -> None:
        """Kill it and its group, without waiting. Does nothing if it has ended."""
        if not self.exited.done():
            signal_group(self._popen, signal.SIGKILL)

    async def stop(self, grace: float = GRACE, *, wait: float = 0) -> None:
        """End it, and wait until nothing is left of it: SIGTERM, then SIGKILL to its group.

        If this is cancelled, the process is killed at once. Bounded: a process that even SIGKILL does not end is
        reported in the log, and reaped when it does end.

        Args:
            grace: seconds between the two signals; 0 kills at once.
            wait: seconds before the first signal, in which it may end by itself.
        """
        try:
            if wait > 0:
                await self._gone(wait)
            if grace > 0:
                await self._tell(grace)
        finally:
            self.kill_now()
            await self._gone(REAP_LIMIT)
            if not self.exited.done():
                logger.warning("plugin process %d does not end although it was killed", self.pid)
            await self._removal()

    async def _tell(self, grace: float) -> None:
        if self.exited.done():
            return
        # A stopped process would not handle SIGTERM.
        signal_group(self._popen, signal.SIGTERM, signal.SIGCONT)
        await self._gone(grace)

    async def _gone(self, limit: float) -> None:
        await asyncio.wait((self.exited,), timeout=limit)

    async def _removal(self) -> None:
        if self._removing is not None:
            await asyncio.wait((asyncio.wrap_future(self._removing),), timeout=REAP_LIMIT)

    def abandon(self) -> None:
        """End it and clean up, at once and without the loop, which may be closed. Blocks for some milliseconds."""
        if not self._finalizer.alive:
            return
        ours = is_ours(self._popen)
        signal_group(self._popen, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            returncode = self._popen.wait(timeout=REAP_LIMIT)
            self._settle(returncode if ours else None)


async def _undo(job: Future[Started]) -> None:
    """Undo a start that nobody wants any more, however far it has got."""
    if not job.cancel():
        undone: Future[None] = Future()
        job.add_done_callback(lambda _: _undo_started(job, undone))
        await asyncio.shield(asyncio.wrap_future(undone))


def _undo_started(job: Future[Started], undone: Future[None]) -> None:
    """Undo it in another thread: this is called by the thread that did the job, or by the loop, which must not wait."""
    if job.exception() is None:
        spawner.submit(_undo_now, job.result(), undone)
    else:
        undone.set_result(None)


def _undo_now(started: Started, undone: Future[None]) -> None:
    started.undo()
    undone.set_result(None)


def _give_up(started: Started, descriptors: list[int], owner: int) -> None:
    """The cleanup when the process object is dropped, or the interpreter ends. A forked child owns nothing."""
    if os.getpid() == owner:
        started.undo()
        while descriptors:
            os.close(descriptors.pop())


def _remove(private: str) -> Future[None] | None:
    try:
        return spawner.remove(private)
    except RuntimeError:  # The interpreter is ending: its threads accept no more work.
        directory.remove(private)
        return None

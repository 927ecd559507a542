"""Programs run as by the interpreter's command line, by a process that has imported what most of them import.

It forks for each of them, as a template does for plugins: a second of imports is paid for once. What a program prints,
how it ends, what it leaves behind and what it warns of at its end is as of a process of its own.
"""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

IMPORTED = ("fsm_conn.cli.app", "fsm_conn.links.plugin.client", "fsm_conn.links.plugin.link", "fsm_conn.pool.pool")


def ignore_slow_turns() -> None:
    """In development mode asyncio tells of turns of the loop that take long; but that is the machine's affair."""
    logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing "))


class Warm:
    """The process that forks."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(
        self, *arguments: str, given: str | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """As `python ARGUMENTS` would: `-c CODE`, `-m MODULE` or a file, each with arguments of its own."""
        with tempfile.TemporaryFile() as read, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            os.pwrite(read.fileno(), (given or "").encode(), 0)
            files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (read, out, err)]
            job = {"arguments": arguments, "cwd": str(cwd or Path.cwd()), "files": files}
            status = self._answer(job)
            said = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
        return subprocess.CompletedProcess(arguments, status, *said)

    def begin(self, *arguments: str, terminal: str, env: dict[str, str]) -> int:
        """As `python ARGUMENTS` in a session of its own on a terminal, with more in its environment: the number of the
        process, which exists until `ended` is asked.
        """
        job = {"arguments": arguments, "cwd": str(Path.cwd()), "terminal": terminal, "env": env}
        return self._answer(job)

    def ended(self, pid: int) -> int:
        """Wait for a process that was begun: its exit status; minus the signal that ended it."""
        return self._answer({"ended": pid})

    def _answer(self, job: dict[str, object]) -> int:
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def started(env: dict[str, str] | None = None, *also: str, measured: bool = False) -> Iterator[Warm]:
    """A process that has imported what most programs import, and some modules more, with an environment.

    `measured`: the lines that its programs run are counted, where those of the tests are (see `lines`).
    """
    env = {**(env or os.environ), "PYTHONPATH": os.pathsep.join(sys.path)}
    if not measured:
        env.pop("LINES_SEEN", None)
    command = [sys.executable, __file__, *also]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        yield Warm(process)
        process.stdin.close()


def forked(job: dict[str, object]) -> None:
    """Become the program."""
    os.chdir(job["cwd"])
    if "terminal" in job:
        os.environ.update(job["env"])
        os.setsid()  # a leader of a session without a terminal, whose terminal is the one that it opens next
        sys.stdout.reconfigure(line_buffering=True)
    for number, path in enumerate([job["terminal"]] * 3 if "terminal" in job else job["files"]):
        descriptor = os.open(path, os.O_RDWR)
        os.dup2(descriptor, number)
        os.close(descriptor)
    first, *rest = job["arguments"]
    if first == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *rest[1:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    elif first == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = ["-m", *rest[1:]]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(first).parent)
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")


def main() -> None:
    """Fork for each line of standard input, and tell on standard output how the program has ended; of one that has a
    terminal, first its number.
    """
    ignore_slow_turns()
    if "LINES_SEEN" in os.environ:
        import lines

        os.register_at_fork(after_in_child=partial(atexit.register, lines.write))
    for name in (*IMPORTED, *sys.argv[1:]):
        __import__(name)
    gc.freeze()
    for line in sys.stdin.buffer:
        job = json.loads(line)
        answer = job.get("ended") or os.fork()
        if not answer:
            forked(job)
            return
        if "terminal" not in job:
            answer = os.waitstatus_to_exitcode(os.waitpid(answer, 0)[1])
        os.write(1, b"%d\n" % answer)


if __name__ == "__main__":
    main()

"""Starts Python plugins by forking a template, which has imported their libraries once.

A plugin's cold start is spent on its imports. A fork saves that time, and the memory that the imports take. The
template is a process of the plugin's own interpreter, see `template`. Linux only.

Rules that hold here:

- A forked plugin is a child of this process, just like a spawned one; code that has a `Started` sees no difference.
- Whatever prevents the fork, the plugin is spawned as usual, and the log says why: once for each plugin and reason.
- One template serves all plugins that it cannot tell apart (`Key`), for all loops and threads. It is started when it is
  first needed, and ended `LINGER` seconds after the last plugin that was forked from it.
- Each template has a thread, the only one that speaks to it, in the order asked: a template that hangs delays no other
  template's plugins. But the spawning thread starts the template: with the parent-death signal, the end of the thread
  that started a template ends the template and its plugins.
- What a template says is trusted no more than what a plugin says. It is bounded, and a process number from the template
  must be that of the child that was made, or it is ignored.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Any

import attrs

from fsm_conn._util.forks import after_fork
from fsm_conn.links.errors import LinkError
from fsm_conn.links.process import directory, spawner
from fsm_conn.links.process.prefork_child import Birth, ForkedChild
from fsm_conn.links.process.prefork_plan import CannotForkError, Key, Program, Refusal, executed, key_of, program_of
from fsm_conn.links.process.prefork_wire import TemplateGoneError, Wire
from fsm_conn.links.process.spawner import Launch, Started

__all__ = ["FORK_LIMIT", "LINGER", "START_LIMIT", "Template", "submit", "templates"]

logger = logging.getLogger("fsm_conn.process")

LINGER = 5.0
"""Seconds that a template without plugins waits for the next one: a lost link comes back after a pause."""
START_LIMIT = 60.0
"""Seconds for a template's imports."""
FORK_LIMIT = 10.0
"""Seconds for one fork, which takes some milliseconds. A template that takes longer is ended."""
MOST_DEATHS = 3
"""A template that has died this often before it was ready is not started again for a while."""
MOST_KNOWN = 256
"""How many plugins that cannot be forked, and how many logged reasons, are remembered."""
PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "template")


def submit(launch: Launch, name: str = "") -> Future[Started]:
    """Have a plugin forked, or spawned if it cannot be forked.

    Args:
        launch: what to start.
        name: what the log calls the plugin.
    """
    job = _Job(launch, name)
    spawner.submit(_route, job)
    return job.result


def templates() -> list[Template]:
    """The current templates."""
    with _lock:
        return list(_templates.values())


@attrs.define(eq=False)
class _Job:
    """A plugin to be started, and the future that waits for the result."""

    launch: Launch
    name: str
    result: Future[Started] = attrs.field(factory=Future)
    path: str = ""
    command: tuple[str, ...] = ()
    program: Program = attrs.field(init=False)
    tries: int = 0

    def begin(self) -> bool:
        """Begin the job. False: nobody waits for it any more."""
        return self.result.running() or self.result.set_running_or_notify_cancel()

    def spawn(self, why: str) -> None:
        """Start it without a template; on the spawning thread."""
        _say_once(self.name or os.path.basename(self.launch.command[0]), why)
        if self.begin():
            try:
                self.result.set_result(spawner.start(self.launch))
            except BaseException as error:
                self.result.set_exception(error)

    def fields(self, private: str, cwd: str) -> Iterator[str]:
        """The fields that a template needs to know; see `template.becoming.Order`."""
        env = {**self.launch.env, **dict.fromkeys(self.launch.directory_names, private)}
        yield from (str(os.getpid()), cwd, os.path.basename(self.path), self.program.kind, self.program.name)
        for many in (self.program.arguments, self.command, [f"{name}={value}" for name, value in env.items()]):
            yield str(len(many))
            yield from many


def _route(job: _Job) -> None:
    """Find the template for a plugin; on the spawning thread."""
    job.tries += 1
    if job.result.cancelled():
        return
    try:
        job.path = spawner.resolve(job.launch)
        key = _key(job)
        with _lock:
            refusal = _refused.get(key)
            if key not in _templates and (refusal is None or refusal.until <= monotonic()):
                _templates[key] = Template(key, job)
            if refusal is not None:  # a template may be at it, but no start waits for another try
                raise CannotForkError(refusal.why)
            _templates[key].add(job)
    except Exception as error:
        if (why := _why_not(error)) is not None:
            job.spawn(why)
        elif job.begin():
            job.result.set_exception(error)


def _why_not(error: Exception) -> str | None:
    """Why a plugin is to be spawned instead; None: spawning would not help."""
    if isinstance(error, CannotForkError):
        return str(error)
    if isinstance(error, OSError) and not isinstance(error, LinkError):
        return f"the system refuses it ({error.strerror})"
    return None


def _key(job: _Job) -> Key:
    if sys.platform != "linux":
        raise CannotForkError("forking a program that has imported its libraries is safe on Linux only")
    launch, modules = job.launch, job.launch.prefork
    job.command = executed(job.path, launch.command[1:])
    job.program = program_of(job.command)
    own = launch.own_names
    env = {name: value for name, value in launch.env.items() if name not in own}
    return key_of(job.command[0], job.program, env, launch.cwd, () if isinstance(modules, bool) else modules)


class Template:
    """A template, and the thread that speaks to it.

    Attributes:
        pid: its number, once it is started.
    """

    def __init__(self, key: Key, first: _Job) -> None:
        self.pid: int | None = None
        self._key = key
        self._first = first
        self._jobs: deque[_Job] = deque()
        self._ended: deque[None] = deque()
        self._plugins = 0
        self._started: Started | None = None
        self._is_ready = False
        self._is_unwanted = False
        self._wire = Wire()
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        threading.Thread(target=self._live, name="fsm-conn-template", daemon=True).start()

    def __repr__(self) -> str:
        return f"<Template {self.pid} {self._plugins} plugins>"

    # -- from other threads ------------------------------------------------------------------------------------------

    def add(self, job: _Job) -> None:
        """Have a plugin forked. Called only while this is one of the templates."""
        self._jobs.append(job)
        self._nudge()

    def _on_child_end(self) -> None:
        """One of its plugins has ended. Takes no lock, because the garbage collector may call it anywhere."""
        self._ended.append(None)
        self._nudge()

    def _nudge(self) -> None:
        with suppress(OSError):
            self._waker.send(b"x")

    def end(self) -> None:
        """End the template, and leave nothing of it; its plugins live on."""
        self._is_unwanted = True
        if self._started is not None:
            self._started.undo()

    def forget(self) -> None:
        """In a forked copy of this process: let go of the template, which belongs to the original."""
        for each in (self._wire, self._wake, self._waker):
            each.close()

    # -- its thread --------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        why_not: CannotForkError | None = None
        try:
            self._begin()
            while self._is_needed():
                self._work()
        except CannotForkError as error:
            why_not = error
        except TemplateGoneError as gone:
            if not self._is_unwanted:
                logger.debug("the template %s is given up: %s", self.pid, gone)
        finally:
            self._leave(why_not)

    def _begin(self) -> None:
        try:
            self._started = spawner.submit(self._spawned).result()
        except Exception as error:
            raise CannotForkError(f"its template cannot be started ({type(error).__name__})", may_pass=True) from None
        self.pid = self._started.popen.pid
        self._wire.send([*self._imports()])
        self._wire.answer(START_LIMIT)
        self._is_ready = True
        with _lock:
            for known in (_refused, _deaths):
                known.pop(self._key, None)

    def _imports(self) -> Iterator[str]:
        yield from (*self._key.program, self._key.beside)
        command, arguments = self._first.command, self._first.program.arguments
        for many in (sorted(self._first.launch.own_names), command, arguments, self._key.modules):
            yield str(len(many))
            yield from many

    def _spawned(self) -> Started:
        with self._wire.theirs as theirs:
            command = (*self._key.interpreter, PROGRAM, str(theirs.fileno()))
            launch = attrs.evolve(self._first.launch, command=command, env=dict(self._key.env), cwd=self._key.cwd)
            return spawner.start(launch, pass_fds=(theirs.fileno(),))

    def _is_needed(self) -> bool:
        """Wait for something to do. False: nobody needs the template, and nobody can ask for it any more."""
        poll = select.poll()
        for each in (self._wake, self._wire):
            poll.register(each, select.POLLIN)
        ready = dict(poll.poll(None if self._plugins else LINGER * 1000))
        if self._wire.fileno() in ready:
            raise TemplateGoneError("it has ended, or speaks unasked")
        if ready:
            self._wake.recv(4096)
            return True
        with _lock:
            if self._jobs:
                return True
            _drop(self)
            return False

    def _work(self) -> None:
        while self._ended:
            self._ended.pop()
            self._plugins -= 1
        while self._jobs:
            self._start(self._jobs[0])
            self._jobs.popleft()

    def _start(self, job: _Job) -> None:
        if not job.begin():
            return
        try:
            started = self._forked(job)
        except TemplateGoneError:
            raise
        except Exception as error:
            if (why := _why_not(error)) is not None:
                _submit(job.spawn, why)
            else:
                job.result.set_exception(error)
        else:
            job.result.set_result(started)

    def _forked(self, job: _Job) -> Started:
        birth = Birth()
        private = ""
        try:
            private = directory.make()
            return Started(self._child(job, private, birth), private)
        except BaseException:
            directory.remove(private)
            raise
        finally:
            birth.close()

    def _child(self, job: _Job, private: str, birth: Birth) -> ForkedChild:
        self._wire.send([*job.fields(private, self._key.cwd)], birth.theirs)
        birth.close_theirs()
        told, why = 0, "it did not fork"
        try:
            told = int(self._wire.answer(FORK_LIMIT) or 0)
        except (TemplateGoneError, ValueError) as error:
            self._kill()  # The plugin may exist all the same; after this that is known for sure.
            why = str(error)
        pid, is_whole = birth.told(FORK_LIMIT)
        pid = pid or told
        if not birth.is_of(pid):
            raise TemplateGoneError(why)
        child = ForkedChild(pid, *birth.take(), self._on_child_end)
        self._plugins += 1
        if not is_whole and not child.was_killed():  # a killed one is reported as if it had died a moment later
            child.destroy()
            raise CannotForkError("the fork ended, or hung, before it became the plugin")
        return child

    def _kill(self) -> None:
        if self._started is not None:
            with suppress(ProcessLookupError, PermissionError):
                self._started.popen.kill()

    def _leave(self, why_not: CannotForkError | None) -> None:
        """End the template, and pass the waiting jobs on: to a new template, or to be spawned."""
        with _lock:
            _drop(self)
            if why_not is None and not self._is_ready:
                why_not = _count_death(self._key)
            if why_not is not None:
                _remember(_refused, self._key, Refusal.of(why_not, monotonic(), _refused.get(self._key)))
        self.end()
        self.forget()
        for job in self._jobs:
            if why_not or job.tries > 1:
                _submit(job.spawn, str(why_not or "its template has died twice"))
            else:
                _submit(_route, job)


# -- all templates ---------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_templates: dict[Key, Template] = {}
_refused: dict[Key, Refusal] = {}
_deaths: dict[Key, int] = {}
_said: dict[tuple[str, str], bool] = {}


def _remember(known: dict[Any, Any], key: Any, value: object) -> None:
    """Remember only the latest: plugins may have another environment each time, and reasons of their own."""
    while len(known) >= MOST_KNOWN:
        del known[next(iter(known))]
    known[key] = value


def _submit(function: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # the interpreter is ending, and nobody waits any more
        spawner.submit(function, *arguments)


def _drop(template: Template) -> None:
    if _templates.get(template._key) is template:
        del _templates[template._key]


def _count_death(key: Key) -> CannotForkError | None:
    deaths = _deaths.get(key, 0) + 1
    _remember(_deaths, key, deaths)
    why = f"its template has died {MOST_DEATHS} times while it imported"
    return CannotForkError(why, may_pass=True) if deaths >= MOST_DEATHS else None


def _say_once(name: str, why: str) -> None:
    if (name, why) not in _said:
        _remember(_said, (name, why), value=True)
        logger.warning("the plugin %s cannot be forked, and is started as without prefork: %s", name, why)


@atexit.register
def _end_all() -> None:
    for template in templates():
        template.end()


def _after_fork() -> None:
    """A forked copy of this process has no threads, and no templates."""
    global _lock
    _lock = threading.Lock()
    for template in _templates.values():
        template.forget()
    _templates.clear()


after_fork(_after_fork)

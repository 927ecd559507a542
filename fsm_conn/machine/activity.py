"""Runs the activity and the time limit of a machine's current state, and cleans up when the event loop ends.

The rules that hold here:

- An activity is started when its state is entered, and cancelled when it is left; the next one begins only after it
  has ended, so activities of one object never overlap.
- What an activity returns or raises after its state was left is ignored.
- An activity that ignores its cancellation for `PATIENCE` seconds is logged and left behind.
- A guardian task lives as long as there is something to do. Then this part is dropped, so that an idle machine has no
  task and is freed when nobody refers to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import Context, ContextVar
from pathlib import PurePath
from sys import intern
from types import CodeType
from typing import Any, ClassVar, Protocol

from fsm_conn._util.text import traced
from fsm_conn._util.timing import ended, keep
from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.errors import IllegalTriggerError, StateTimeoutError, is_expected, strip_tracebacks
from fsm_conn.machine.guardian import Guardian, outlast
from fsm_conn.machine.table import FAULT

__all__ = ["PATIENCE", "Run", "acting_for", "refuse_own_wait"]

PATIENCE = 10.0
"""Seconds that an activity may take to end after its state was left. After that it is left behind."""

_log = logging.getLogger("fsm_conn")
_acting: ContextVar[int | None] = ContextVar("fsm_conn_acting", default=None)
"""Marks the contexts of one activity: its visit, and below `_WHOSE` whose it is. No reference to the machine, because a
cancelled timer keeps its context; and a number, because the garbage collector does not look at numbers."""
_WHOSE = 1 << 64


class Lived(Protocol):
    """The machine whose activities these are."""

    lifecycle: ClassVar[BoundTable]
    abandoned_activities: int
    _fsm_halting: bool

    @property
    def state(self) -> str:
        """Its current state."""

    @property
    def visit(self) -> int:
        """The number of the current visit to a state."""

    def fire(self, trigger: str, /, reason: BaseException | None = None) -> None:
        """Dispatch a trigger."""

    def in_activity(self) -> bool:
        """Whether the caller is the current activity."""

    async def on_loop_end(self) -> None:
        """Release what must not outlive the loop."""

    def _fsm_rest_at_once(self) -> None: ...

    def _fsm_let_go(self, run: Run) -> None: ...


class Run:
    """What runs in an event loop for one machine.

    Args:
        machine: the machine whose activities are run.
        loop: the event loop.
        context: the context that the activities run in.
    """

    __slots__ = (
        "_abandoning",
        "_at_rest",
        "_deadline",
        "_guardian",
        "_is_closing",
        "_machine",
        "_mark",
        "_rested_visit",
        "_visit",
        "_when_ended",
        "activity",
        "context",
        "loop",
        "task",
    )

    def __init__(self, machine: Lived, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._machine = machine
        self.loop = loop
        self.context = context
        self.activity: str | None = None
        """The method that runs: that of the current state, or of the last one while it cleans up."""
        self.task: asyncio.Task[Any] | None = None
        """The task that runs it."""
        self._guardian: Guardian | None = None
        self._abandoning: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._at_rest: asyncio.Future[None] | None = None
        self._rested_visit = self._visit = -1
        self._is_closing = False
        self._mark: int | None = None
        self._when_ended: Callable[[asyncio.Task[Any]], None] | None = None
        """`_ended`, made once for all activities, while there are any."""

    @property
    def is_ending(self) -> bool:
        """Whether the loop ends or the machine is being closed, so that nothing new is started."""
        ends = self._guardian is not None and self._guardian.is_cancelled
        return ends or self._is_closing or self._machine._fsm_halting

    @property
    def is_resting(self) -> bool:
        """Whether the current activity has called `rest()`: from then on it only waits."""
        return self._rested_visit == self._machine.visit

    @property
    def time_left(self) -> float | None:
        """Seconds until the state's time limit; None when there is none."""
        return None if self._deadline is None else max(0.0, self._deadline.when() - self.loop.time())

    def acts(self) -> bool:
        """Whether the caller is the current activity, or a task that it created."""
        return _acting.get() is self._mark is not None and self._visit == self._machine.visit

    # --- states -------------------------------------------------------------------------------------------

    def turn(self, limit: float | None) -> None:
        """A state was entered: end the activity of the last visit, and start the one of this visit.

        Args:
            limit: the time limit of the state, in seconds.
        """
        self._set_limit(limit)
        task = self.task
        if task is None:
            self._begin()
        elif not task.done():
            if not task.cancelling():  # a second cancellation would interrupt the cleaning up after the first
                task.cancel()
            if self._abandoning is None:
                self._abandoning = self.loop.call_later(PATIENCE, self._abandon, task)

    def _set_limit(self, limit: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if limit is not None and not self.is_ending:
            self._deadline = self.loop.call_later(limit, self._expired, limit, context=self.context.copy())

    def _expired(self, limit: float) -> None:
        """The state lasts too long: had it been left, its deadline would have been cancelled."""
        self._deadline = None
        machine = self._machine
        if not self.is_ending:
            state = machine.lifecycle.states[machine.state]
            assert state.on_timeout is not None
            self._say(state.on_timeout, StateTimeoutError(f"{state.name} has lasted longer than {limit:g} s"))
        self._let_go_if_idle()

    def _begin(self) -> None:
        machine = self._machine
        name = machine.lifecycle.activities.get(machine.state)
        if self.is_ending:
            return
        if name is None:
            self._let_go_if_idle()
            return
        if self._guardian is None:
            self._guardian = Guardian.of(self.loop, self)
        self.activity, self._visit = name, machine.visit
        self._mark = self._visit * _WHOSE + id(self.context)
        context = self.context.copy()
        context.run(_acting.set, self._mark)
        self.task = self.loop.create_task(getattr(machine, name)(), name=intern(f"{machine!r}.{name}"), context=context)
        if self._when_ended is None:
            self._when_ended = self._ended
        self.task.add_done_callback(self._when_ended, context=self.context)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task is not self.task:
            return  # left behind
        self.task = self.activity = None
        if self._abandoning is not None:
            self._abandoning.cancel()
            self._abandoning = None
        if self._visit != self._machine.visit or self._is_closing:
            self._ended_late(task)
            self._begin()
        elif not (task.cancelled() and task.cancelling()):
            self._speak(task)
        elif not self.is_ending:
            self._say(FAULT, RuntimeError(f"{task.get_name()} was cancelled from outside"))

    def _ended_late(self, task: asyncio.Task[Any]) -> None:
        """Log what an activity raised after its state was left, where no trigger can report it."""
        error = None if task.cancelled() else _error_of(task)
        if error is not None and (not is_expected(error) or isinstance(error, IllegalTriggerError)):
            _log.error("%r: an activity failed after its state was left", self._machine, exc_info=traced(error))

    def _speak(self, task: asyncio.Task[Any]) -> None:
        """Fire what the activity of the present visit has returned or raised."""
        machine, error = self._machine, _error_of(task)
        if isinstance(error, asyncio.CancelledError):
            error = _not_ours(error, machine.lifecycle.activities[machine.state])
        if is_expected(error):
            strip_tracebacks(error)
            self._say(machine.lifecycle.states[machine.state].on_error, error)
        elif error is not None:
            _say_where(error, getattr(machine, machine.lifecycle.activities[machine.state]))
            _log.error("%r: the activity of %s failed", machine, machine.state, exc_info=traced(error))
            self._say(FAULT, error)
        elif task.result() is not None:
            self._say(task.result(), None)
        self._let_go_if_idle()

    def _say(self, trigger: str, reason: BaseException | None) -> None:
        machine = self._machine
        try:
            machine.fire(trigger, reason)
        except Exception as error:
            _log.error("%r: the activity of %s broke a rule", machine, machine.state, exc_info=traced(error))
            machine.fire(FAULT, error)

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        """Leave an activity behind and log it: the only exception to the rule that activities never overlap."""
        self._abandoning = None
        if task is not self.task:
            return
        machine = self._machine
        _log.error(
            "%r: %s ignores its cancellation and is left behind; let CancelledError pass in it",
            machine,
            task.get_name(),
        )
        task.cancel()
        keep(task)
        machine.abandoned_activities += 1
        self.task = self.activity = None
        self._begin()

    # --- rest ---------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Called by an activity that only waits from here on."""
        self._rested_visit = self._machine.visit
        if self._at_rest is not None:
            self._at_rest.set_result(None)
        self._at_rest = None

    async def rested(self) -> None:
        """Wait until the current activity has ended or has called `rest()`, or its state was left."""
        machine = self._machine
        visit = machine.visit
        while self.task is not None and machine.visit == visit != self._rested_visit and not machine.in_activity():
            self._at_rest = self._at_rest or self.loop.create_future()
            waited = (self.task, self._at_rest)
            await asyncio.wait(waited, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)

    # --- the end ------------------------------------------------------------------------------------------

    def _let_go_if_idle(self) -> None:
        """Release the guardian, and this object, when nothing is left to do."""
        if self.task is None and not self.is_ending:
            self._release_guardian()
            if self._deadline is None:
                self._let_go()

    def _let_go(self) -> None:
        self._when_ended = None  # which refers to this
        self._machine._fsm_let_go(self)

    def _release_guardian(self) -> None:
        if self._guardian is not None:
            self._guardian.release(self)
            self._guardian = None

    async def close(self) -> None:
        """End the activity and the time limit, and wait for them for at most `PATIENCE` seconds."""
        self._is_closing = True
        self._set_limit(None)
        task = self.task
        if task is not None:
            if not task.cancelling():
                task.cancel()
            if self._abandoning is None:
                self._abandoning = self.loop.call_later(PATIENCE, self._abandon, task)
            while task is self.task and not task.done():
                await ended(task, PATIENCE)
            await asyncio.sleep(0)  # for its callback
        self._release_guardian()
        self._let_go()

    async def give_up(self) -> None:
        """The loop ends: end the activity, release what must not outlive the loop, and come to rest."""
        while self.task is not None:
            if not self.task.cancelling():
                self.task.cancel()
            await outlast(self.task)
            await outlast(asyncio.ensure_future(asyncio.sleep(0)))  # for its callback
        self._set_limit(None)
        await outlast(asyncio.ensure_future(self._machine.on_loop_end()))
        self.rest_at_once()

    def rest_at_once(self) -> None:
        """The loop has ended before anything could begin: come to rest without awaiting anything."""
        self._machine._fsm_rest_at_once()
        if self._guardian is not None:
            self._guardian.release(self)
        self._let_go()


def acting_for(context: Context | None) -> int | None:
    """The visit whose activity the caller is, or has started the caller; None when there is none.

    Args:
        context: the context that the activities of the machine run in.
    """
    mark = _acting.get()
    return None if mark is None or mark % _WHOSE != id(context) else mark // _WHOSE


def refuse_own_wait(machine: Any, states: Collection[str]) -> None:
    """Refuse an activity that waits for another state: it would be cancelled when its own state is left."""
    task = machine.activity_task
    if task is not None and machine.state not in states and task is asyncio.current_task():
        raise RuntimeError(
            f"{machine!r}: wait_for_state() was called from the activity of the same machine, which ends when its "
            "state is left; return a trigger from the activity instead"
        )


def _not_ours(cancelled: asyncio.CancelledError, activity: str) -> RuntimeError:
    """The error of an activity that ended with a cancellation which was meant for another task."""
    error = RuntimeError(f"{activity}() awaited a task that was cancelled, and did not catch the CancelledError")
    error.__cause__ = cancelled
    return error.with_traceback(cancelled.__traceback__)


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """What a finished task has raised.

    Not by `exception()`, after which the task still holds the traceback, which holds a frame, which may hold the task.
    """
    try:
        task.result()
    except BaseException as error:  # whatever it is, the life must go on
        return error
    return None


def _say_where(error: BaseException, activity: Any) -> None:
    """Note in a bug in which line of the activity it came up: `in while_sending, upload.py:41`."""
    code = getattr(activity, "__code__", None)
    if code is None or (line := _line_in(error, code)) is None:
        return
    note = f"in {code.co_name}, {PurePath(code.co_filename).name}:{line}"
    with suppress(Exception):  # an error of the user's own may refuse the note
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def _line_in(error: BaseException, code: CodeType) -> int | None:
    """Known by its place: tools that count lines exchange a function's code while it runs."""
    place, step = (code.co_name, code.co_firstlineno, code.co_filename), error.__traceback__
    while step is not None:
        found = step.tb_frame.f_code
        if (found.co_name, found.co_firstlineno, found.co_filename) == place:
            return step.tb_lineno
        step = step.tb_next
    return None

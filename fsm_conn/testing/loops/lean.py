"""An event loop with only the necessary work, for lives, which spend most of their time in the loop.

`asyncio`'s loop checks at every callback whether debugging is on and whether it is closed, and at every task whether
there is a task factory. This loop checks all of this once, and if any is the case, it works as `asyncio`'s does. Its
handles are `asyncio`'s, created and cancelled in fewer steps. A contract test compares the two loops.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from contextvars import Context, copy_context
from threading import get_ident
from typing import Any
from weakref import ref

__all__ = ["InterruptedTurn", "LeanLoop"]

FEW = 64
"""So many tasks are recorded before finished ones are removed."""
_new: Any = object.__new__
_clock_of: Any = getattr(time, "pthread_getcpuclockid", None)
_read: Any = getattr(time, "clock_gettime", None)


class InterruptedTurn(BaseException):
    """Raised inside code that runs for ever."""


class _Soon(asyncio.Handle):
    """A callback that is about to run. The loop makes it without a constructor, whose call would cost the most."""

    __slots__ = ()


class _Later(asyncio.TimerHandle):
    """A callback that waits for its time; made in the same way."""

    __slots__ = ()

    _loop: Any
    _when: float
    _scheduled: bool

    def __lt__(self, other: Any) -> bool:
        return self._when < other._when  # type: ignore[no-any-return]

    def cancel(self) -> None:
        """As for any timer."""
        if not self._cancelled:
            self._loop._timer_cancelled_count += self._scheduled
            self._cancelled = True
            self._callback = self._args = None  # type: ignore[assignment]


class _Task(asyncio.Task[Any]):
    """A task that tells its loop of an error that a cancellation silences: asyncio takes that for reading it."""

    _loop: LeanLoop

    def cancel(self, msg: Any = None) -> bool:
        if self.done() and self._log_traceback:
            self._loop.silenced[self] = None
        return super().cancel(msg)

    def result(self) -> Any:
        self._loop.silenced.pop(self, None)
        return super().result()

    def exception(self) -> BaseException | None:
        self._loop.silenced.pop(self, None)
        return super().exception()

    def __await__(self) -> Any:
        self._loop.silenced.pop(self, None)
        return super().__await__()


_Task.__name__ = _Task.__qualname__ = "Task"


class LeanLoop(asyncio.SelectorEventLoop):
    """A selector loop with lean handles, which records its own tasks.

    Attributes:
        silenced: tasks that had failed before they were cancelled, and whose errors nobody has read, oldest first.
        told_of_timers: lists to which each timer is added when it is set, for who wants to know of them.
        turns: counts the callbacks that were run. While it does not change, the same task is running.
    """

    _ready: Any
    _scheduled: list[Any]
    _debug: bool
    _closed: bool
    _task_factory: Any
    _timer_cancelled_count: int
    _busy: int
    """The number of the run that is under way in the loop, or from inside it; 0 when there is none."""
    _thread: int
    """The thread of that run."""
    _endless: str
    """The code that ran for ever meanwhile and was interrupted; empty if there was none."""
    _unraisable: Any
    """The hook that told until then of what is raised where nobody can catch it."""

    def __init__(self, selector: Any) -> None:
        super().__init__(selector)
        self._made: list[ref[asyncio.Task[Any]]] = []
        self._many = FEW
        self.silenced: dict[asyncio.Task[Any], None] = {}
        self.told_of_timers: list[list[ref[asyncio.TimerHandle]]] = []
        self.turns = self._busy = self._thread = self._times = self._cpu_clock = 0
        self._endless, self._unraisable = "", None

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As in any loop."""
        if self._debug or self._closed:
            return super().call_soon(callback, *args, context=context)
        handle = _new(_Soon)
        handle._context = copy_context() if context is None else context
        handle._loop, handle._callback, handle._args = self, callback, args
        handle._cancelled, handle._repr, handle._source_traceback = False, None, None
        self._ready.append(handle)
        return handle  # type: ignore[no-any-return]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        """As in any loop."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self.call_at(self._now() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        """As in any loop."""
        if self._debug or self._closed or when is None:
            return self._told_of(super().call_at(when, callback, *args, context=context))
        timer = _new(_Later)
        timer._context = copy_context() if context is None else context
        timer._loop, timer._callback, timer._args = self, callback, args
        timer._cancelled, timer._repr, timer._source_traceback = False, None, None
        timer._when, timer._scheduled = when, True
        heapq.heappush(self._scheduled, timer)
        return self._told_of(timer) if self.told_of_timers else timer

    def _told_of(self, timer: asyncio.TimerHandle) -> asyncio.TimerHandle:
        for told in self.told_of_timers:
            told.append(ref(timer))
        return timer

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """As in any loop."""
        if self._closed or self._task_factory is not None:
            task: asyncio.Task[Any] = super().create_task(coro, **options)
        else:
            task = _Task(coro, loop=self, **options)
        self._made.append(ref(task))
        if len(self._made) > self._many:
            self._living()
        return task

    def _now(self) -> float:
        """The time, in seconds, without recording that it was read."""
        return self.time()

    def _begin(self) -> int:
        """Begin a run in the loop; return the value to restore at its end."""
        outer = self._busy
        if not outer:
            self._thread = get_ident()
            if _clock_of is not None:
                self._cpu_clock = _clock_of(self._thread)
            self._times += 1
            self._busy = self._times
        return outer

    def _cpu_time(self) -> float:
        """Seconds of CPU of the thread of the run, or of the process where threads have no clock of their own.

        Raises:
            OSError: the thread has ended. To ask for the clock of such a thread would end the process.
        """
        return time.process_time() if _clock_of is None else float(_read(self._cpu_clock))

    def _living(self) -> list[asyncio.Task[Any]]:
        """Its tasks that are not done, oldest first. `asyncio.all_tasks` would search the tasks of all loops."""
        made = [task for each in self._made if (task := each()) is not None]
        found = [task for task in made if not task.done()]
        self._made = [ref(task) for task in made if not task.done() or task._log_traceback]
        self._many = FEW + 2 * len(self._made)
        return found

    def unread(self) -> list[asyncio.Task[Any]]:
        """Its tasks that have ended with an error which nobody has read yet, oldest first."""
        made = [task for each in self._made if (task := each()) is not None]
        return [*self.silenced, *(task for task in made if task._log_traceback)]

    def _run_ready(self) -> None:
        """Run what is ready now, but nothing that becomes ready by it."""
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            self.turns += 1
            if self._endless:  # the last turn was interrupted as it ended, which this one must not be told of
                raise InterruptedTurn
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                told = {"message": f"Exception in callback {handle!r}", "exception": error, "handle": handle}
                self.call_exception_handler(told)

    def _next_time(self) -> float | None:
        """When the next timer is due; None when there is none. Cancelled timers are discarded."""
        timers = self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
            self._timer_cancelled_count -= 1
        if self._timer_cancelled_count > FEW and 2 * self._timer_cancelled_count > len(timers):
            timers[:] = [timer for timer in timers if not timer._cancelled]
            heapq.heapify(timers)
            self._timer_cancelled_count = 0
        return timers[0]._when if timers else None

"""Virtual time: a loop whose clock jumps, which can be run until everybody waits, and tells of deadlocks.

An hour of timeouts and delays passes in milliseconds, and always in the same way.

All that is known of the inside of asyncio's loops stands here: that `_ready` holds what is about to run, and
`_scheduled` the timers, soonest first; that `_run_once` runs what is ready, and has the selector wait for the next
timer when nothing is; that a loop wakes itself by `_write_to_self`, for which it has a pipe; and what `run_forever`
does around it. A contract test guards it.

A loop in virtual time has nothing to wait for outside of itself but threads: sockets, pipes, signals and processes take
real time, and what waits for them would hang, or see years pass. So they are refused when they are asked for.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import re
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from fsm_conn.machine.errors import FsmConnError
from fsm_conn.testing.loops.hurry import Hurry
from fsm_conn.testing.loops.lean import InterruptedTurn, LeanLoop
from fsm_conn.testing.loops.waiting import waiting, waiting_place

__all__ = [
    "DeadlockError",
    "LivelockError",
    "RealResourceError",
    "VirtualLoop",
    "WatchedLoop",
    "run_virtually",
    "waiting",
    "waiting_place",
]

T = TypeVar("T")

STUBBORNNESS = 20
"""How often what swallows its cancellation is cancelled again, before it is left behind with its loop."""
PATIENCE = 100.0
"""Seconds of real time that a function in a thread may take before the loop is driven on without it."""
ENDLESS = 20_000
"""Rounds of the loop at one and the same time, after which it is taken for one without an end."""


_REAL = re.compile(
    r"_?add_(reader|writer|signal_handler)|(sock|connect|subprocess)_\w+|create_\w*(connection|server|endpoint)"
)
"""What a loop does with sockets, pipes, signals and processes."""
_ASYNCIO = os.path.dirname(asyncio.__file__)
_KNOWN = _ASYNCIO, os.path.dirname(os.path.dirname(__file__))
"""Whose reading of the clock is only in order to wait."""
_waiting_only: set[str] = set()
"""Files of these that have read it."""


class DeadlockError(FsmConnError, RuntimeError):
    """All tasks wait for something that never happens. The message shows which task waits where."""


class LivelockError(FsmConnError, RuntimeError):
    """Something goes on and on, and no time passes."""


class RealResourceError(FsmConnError, NotImplementedError):
    """A real socket, descriptor, signal or process was asked for in virtual time. Nothing was opened or started."""


class _AllWaitError(Exception):
    """Nothing is ready, and there is no timer to wait for."""


class _Clock:
    """A clock that counts whole microseconds, so that nothing is left over when seconds are added up.

    A timer that is due within the resolution of the clock fires at once, so there is nothing to advance by.
    """

    RESOLUTION = 1e-6

    __slots__ = ("_ticks", "now")

    def __init__(self) -> None:
        self._ticks = 0
        self.now = 0.0

    def advance(self, delta: float) -> None:
        """So many seconds have passed, which need no time."""
        self._ticks += round(delta / self.RESOLUTION)
        self.now = self._ticks / 1_000_000


class _Selector(selectors.SelectSelector):
    """Where a loop waits for the next timer: the clock jumps there. What is done by threads is really waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = _Clock()
        self.helpers = 0
        """How many functions run in threads."""
        self.woken = threading.Event()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; when nothing is, the time has come for what waits longest."""
        if timeout is not None and timeout <= 0:
            return []
        if self.helpers:
            self.woken.wait()
            self.woken.clear()
        elif timeout is not None:
            self.clock.advance(timeout)
        else:
            raise _AllWaitError
        return []

    def is_helped(self) -> bool:
        """Wait for a function that runs in a thread: otherwise how fast it is would decide what comes before what."""
        return self.helpers > 0 and self.woken.wait(PATIENCE)


class VirtualLoop(LeanLoop):
    """An event loop in virtual time, to be driven step by step or to run as any other."""

    _thread_id: int | None
    _asyncgen_firstiter_hook: Any
    _asyncgen_finalizer_hook: Any

    def __init__(self) -> None:
        self._selector = _Selector()
        super().__init__(self._selector)
        self._clock_resolution = _Clock.RESOLUTION
        self._clock = self._selector.clock

    def tasks(self) -> set[asyncio.Task[Any]]:
        """Its tasks that are not done."""
        return set(self._living())

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """As any loop's; no time passes meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._selector.helpers += 1
        future.add_done_callback(self._helped)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As any loop's: its threads are waited for by one more."""
        self._selector.helpers += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._selector.helpers -= 1

    def _helped(self, future: Any) -> None:
        self._selector.helpers -= 1

    def _make_self_pipe(self) -> None:
        """It needs none: there is nothing to be woken from."""

    def _close_self_pipe(self) -> None:
        """There is none."""

    def _write_to_self(self) -> None:
        self._selector.woken.set()

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._clock.now

    def _now(self) -> float:
        """The same, for the loop itself."""
        return self._clock.now

    def run_until_blocked(self) -> None:
        """Run until nothing can go on at the present time. The clock stands still."""
        self._drive(self._run_what_is_due)

    def tick(self) -> None:
        """Run what is ready now, once, and nothing that comes of it."""
        self.call_soon(self.stop)
        self.run_forever()

    def advance(self, seconds: float) -> None:
        """Let time pass: every timer fires when its time has come, and then run until blocked."""
        self._drive(partial(self._run_until, self.time() + seconds))

    def cancel_everything(self) -> bool:
        """Cancel all tasks, again and again if need be. Returns whether all have ended.

        Raises:
            LivelockError: one goes on and on.
        """
        for _ in range(STUBBORNNESS):
            tasks = self._living()
            if not tasks:
                return True
            for task in tasks:
                task.cancel()
            self.run_until_blocked()
        return False

    def begin_again(self) -> None:
        """Forget the timers, and set the clock back to zero, for who comes next. No task is left in the loop."""
        for timer in self._scheduled:
            timer.cancel()
        self._scheduled.clear()
        self.told_of_timers.clear()
        self._timer_cancelled_count = 0
        self._clock = self._selector.clock = _Clock()

    def next_timer(self) -> float | None:
        """Seconds until the next timer; None when there is none."""
        when = self._next_time()
        return None if when is None else max(when - self._clock.now, 0.0)

    def _last_timer(self) -> float:
        """Seconds until the last of the timers that are set by now; 0 when there is none."""
        return max((timer.when() - self._clock.now for timer in self._scheduled if not timer.cancelled()), default=0.0)

    def inside(self, function: Callable[[], T]) -> T:
        """Call `function` as if from inside this loop, while nothing else runs in it."""
        asyncio._set_running_loop(self)
        outer = self._begin()
        try:
            return function()
        finally:
            self._busy = outer
            try:  # noqa: SIM105 -- `suppress()` would be the next call, see `_finish`
                asyncio._set_running_loop(None)
            except InterruptedTurn:
                pass
            self._finish()

    def run_forever(self) -> None:
        """As any loop's, but a deadlock is an error that shows who waits for what."""
        outer = self._begin()
        try:
            super().run_forever()
        except _AllWaitError:
            raise DeadlockError(f"everybody waits, and nobody will act:\n{waiting(self)}") from None
        finally:
            self._busy = outer
            self._finish()

    def _finish(self) -> None:
        """What was begun has ended, in one way or another.

        `_busy` was set first, so nothing is interrupted any more. From Python 3.13 on, what was to be interrupted at
        that very moment is interrupted after the next call, which has caught it.

        Raises:
            LivelockError: something had to be interrupted.
        """
        if self._endless and not self._busy:
            told, self._endless = self._endless, ""
            sys.unraisablehook = self._unraisable or sys.unraisablehook
            raise LivelockError(told) from None

    def _drive(self, run: Callable[[], None]) -> None:
        """As `run_forever` does: for the time being this is the running loop."""
        hooks = sys.get_asyncgen_hooks()
        self._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
        asyncio._set_running_loop(self)
        outer = self._begin()
        try:
            run()
        finally:
            self._busy = outer
            self._thread_id = None
            try:  # noqa: SIM105 -- `suppress()` would be the next call, see `_finish`
                asyncio._set_running_loop(None)
            except InterruptedTurn:
                pass
            sys.set_asyncgen_hooks(*hooks)
            self._finish()

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]
        self.turns += 1  # what `run_forever` does at its end is not to be interrupted

    def _run_until(self, end: float) -> None:
        self._run_what_is_due()
        while (when := self._next_time()) is not None and when < end + self._clock_resolution:
            if self._is_alone():
                self._clock.advance(max(when - self._clock.now, 0.0))
            else:
                self._run_once()  # nothing is ready, so it jumps to the timer
            self._run_what_is_due()
        self._clock.advance(end - self._clock.now)

    def _is_alone(self) -> bool:
        """Whether no function runs in a thread, for which it would have to wait."""
        return not self._selector.helpers

    def _run_what_is_due(self) -> None:
        if self._is_alone():
            self._run_alone()
        if self._selector.helpers:
            while self._ready or self._is_due() or self._selector.is_helped():
                self._run_once()

    def _run_alone(self) -> None:
        """As `_run_once`, for a loop that has nothing to poll."""
        rounds, timers, ready = 0, self._scheduled, self._ready
        limit, most = self._clock.now + self._clock_resolution, ENDLESS * Hurry.rounds
        while True:
            while timers and timers[0]._when < limit:
                timer = heapq.heappop(timers)
                timer._scheduled = False
                ready.append(timer)
                self._timer_cancelled_count -= timer._cancelled
            if not ready:
                return
            rounds += 1
            if rounds > most:
                raise LivelockError(f"something goes on and on, and no time passes:\n{waiting(self)}")
            self._run_ready()

    def _is_due(self) -> bool:
        if not self._scheduled:
            return False
        limit = self.time() + self._clock_resolution
        if self._scheduled[0].when() >= limit:
            return False
        return any(timer.when() < limit and not timer.cancelled() for timer in self._scheduled)


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: VirtualLoop, *args: Any, **options: Any) -> Any:
        raise RealResourceError(
            f"virtual time has no {name.lstrip('_')}(): sockets, pipes, signals and processes need real time. Put a "
            "simulated peer in their place (SimulatedPeer, SimulatedLink), or run this in a real loop: asyncio.run() "
            "instead of run_virtually(), or in a test without virtual time"
        )

    refuse.__name__ = name
    return refuse


for _name in filter(_REAL.fullmatch, dir(asyncio.SelectorEventLoop)):
    setattr(VirtualLoop, _name, _refused(_name))


class WatchedLoop(VirtualLoop):
    """A virtual loop that knows whether code other than asyncio's and this package's has asked what time it is.

    Attributes:
        clock_was_read: whether any has; only then can it matter at what hour something happens.
        watches: whether it looks who asks; not needed for what was watched before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock_was_read = False
        self.watches = True

    def time(self) -> float:
        """The virtual time, in seconds."""
        if self.watches and not self.clock_was_read:
            name = sys._getframe(1).f_code.co_filename
            if name not in _waiting_only:
                if name.startswith(_KNOWN):
                    _waiting_only.add(name)
                else:
                    self.clock_was_read = True
        return self._clock.now


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, in virtual time.

    Raises:
        DeadlockError: everybody waits, and nobody will act.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)

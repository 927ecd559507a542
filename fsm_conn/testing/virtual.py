"""Virtual time: a loop whose clock jumps, which can be run until everybody waits, and tells of deadlocks.

An hour of timeouts and delays passes in milliseconds, and always in the same way. Built on async-solipsism.

All that is known of the inside of asyncio's loops stands here: that `_ready` holds what is about to run, and
`_scheduled` the timers, soonest first. A contract test guards it.
"""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fsm_conn.errors import FsmConnError
from fsm_conn.testing._extra import needed

async_solipsism = needed("async_solipsism")

__all__ = ["DeadlockError", "VirtualLoop", "run_virtually"]

T = TypeVar("T")


class DeadlockError(FsmConnError, RuntimeError):
    """Everybody waits for something that nobody will do. The message shows who waits, and where."""


class VirtualLoop(async_solipsism.EventLoop):  # type: ignore[misc, name-defined]
    """An event loop in virtual time, to be driven step by step or to run as any other."""

    def run_until_blocked(self) -> None:
        """Run until nothing can go on at the present time. The clock stands still."""
        self.call_soon(self._stop_when_blocked)
        self.run_forever()

    def tick(self) -> None:
        """Run what is ready now, once, and nothing that comes of it."""
        self.call_soon(self.stop)
        self.run_forever()

    def advance(self, seconds: float) -> None:
        """Let time pass: every timer fires when its time has come, and then run until blocked."""
        if seconds > 0:
            self.call_later(seconds, self._stop_when_blocked)
            self.run_forever()
        else:
            self.run_until_blocked()

    def next_timer(self) -> float | None:
        """Seconds until the next timer; None when there is none."""
        times = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        return max(min(times) - self.time(), 0.0) if times else None

    def inside(self, function: Callable[[], T]) -> T:
        """Call `function` as if from inside this loop, while nothing else runs in it."""
        asyncio._set_running_loop(self)
        try:
            return function()
        finally:
            asyncio._set_running_loop(None)

    def run_forever(self) -> None:
        """As any loop's, but a deadlock is an error that shows who waits for what."""
        try:
            super().run_forever()
        except async_solipsism.SleepForeverError:
            raise DeadlockError(f"everybody waits, and nobody will act:\n{waiting(self)}") from None

    def _stop_when_blocked(self) -> None:
        if self._ready or self._is_due():
            self.call_soon(self._stop_when_blocked)
        else:
            self.stop()

    def _is_due(self) -> bool:
        limit = self.time() + self._clock_resolution
        return any(not timer.cancelled() and timer.when() < limit for timer in self._scheduled[:8])


def waiting(loop: asyncio.AbstractEventLoop) -> str:
    """Every task of `loop` that is not done, and the line at which it waits."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    return "\n".join(f"  {task.get_name()} waits at {_place(task)}" for task in tasks) or "  no task is left"


def _place(task: asyncio.Task[Any]) -> str:
    awaited: Any = task.get_coro()
    frame = None
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None) or frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    if frame is None:
        return "an unknown place"
    code = frame.f_code
    source = linecache.getline(code.co_filename, frame.f_lineno).strip()
    return f"{code.co_qualname}, {code.co_filename}:{frame.f_lineno}: {source}"


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, in virtual time.

    Raises:
        DeadlockError: everybody waits, and nobody will act.
    """
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)

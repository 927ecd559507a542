"""The hooks of a pool, each with a limit.

The rules that hold here:

- A hook may be a plain or an async function. Whatever it raises, its caller gives back the connection.
- Every hook has a limit: `on_open` the connection's `start_timeout`, the others the policy's `hook_timeout`. A hook
  that passes its limit is cancelled, and the error and the log name it. However it ends then, it has not succeeded. If
  it ignores its cancellation, it is left behind.
- A hook that fails because its link is lost may know of that first. So its error is raised only when the loss has had
  time to become known.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import attrs

from fsm_conn._util.timing import ExpiredError, limited, news_of_loss
from fsm_conn.connection.connection import Connection
from fsm_conn.links.driver import DriverLink
from fsm_conn.pool.errors import HookTimeoutError
from fsm_conn.pool.users import TaskRef, acting_for, current_user

__all__ = ["Cleanups", "Hook", "Hooks", "ask", "begun", "run", "using"]

MOMENT = 0.02
"""Seconds in which the end of a connection arrives after the first sign of it."""
GRACE = 1.0
"""Seconds in which a hook may end after it was cancelled."""

Hook = Callable[[Connection], Awaitable[None] | None]


@attrs.frozen
class Hooks:
    """The hooks of the application."""

    on_open: Hook | None
    on_acquire: Hook | None
    on_release: Hook | None

    def __attrs_post_init__(self) -> None:
        for what in ("on_open", "on_acquire", "on_release"):
            hook = getattr(self, what)
            if hook is not None and not callable(hook):
                raise TypeError(f"{what}={hook!r}: give a function that takes a connection")


async def run(name: str, hook: Hook, conn: Connection, limit: float | None) -> None:
    """Call a hook, and await it if it is async.

    Args:
        name: the hook's name.
        hook: the function.
        conn: its argument.
        limit: seconds; None: no limit.

    Raises:
        HookTimeoutError: the limit has passed.
        RuntimeError: the hook raised a cancellation that was not meant for its own task.
    """

    async def call() -> None:
        outcome = begun(hook, conn)
        if inspect.isawaitable(outcome):
            await outcome

    await _bounded(name, conn, call(), limit)


async def ask(name: str, hook: Hook, conn: Connection, limit: float | None) -> None:
    """As `run`, but a plain hook runs at once, and so costs no task."""
    outcome = begun(hook, conn)
    if inspect.isawaitable(outcome):
        await _bounded(name, conn, outcome, limit)


async def using(conn: Connection, act: Callable[[DriverLink[Any]], Awaitable[None] | None]) -> None:
    """Call `act` with a driver's link, which is not probed meanwhile."""
    link = cast("DriverLink[Any]", conn.link)
    await link.begin_use()
    try:
        outcome = act(link)
        if inspect.isawaitable(outcome):
            await outcome
    finally:
        link.end_use()


def begun(hook: Hook, conn: Connection) -> Awaitable[None] | None:
    """Call a hook; a driver's link is not probed meanwhile."""
    return using(conn, lambda link: hook(conn)) if isinstance(conn.link, DriverLink) else hook(conn)


async def _acting(user: TaskRef, outcome: Awaitable[None]) -> None:
    acting_for(user)
    await outcome


async def _bounded(name: str, conn: Connection, outcome: Awaitable[None], limit: float | None) -> None:
    """As `run`, for the awaitable that an async hook has returned."""
    try:
        await limited(limit, _acting(current_user(), outcome), conn, name, grace=GRACE)
    except ExpiredError:
        option = "start_timeout" if name == "on_open" else "hook_timeout"
        raise HookTimeoutError(f"{name} did not end within {limit:g} s, its {option}") from None
    except Exception:
        await news_of_loss()
        await asyncio.sleep(MOMENT)
        raise
    except asyncio.CancelledError as cancelled:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError(
            f"{name} awaited a task that was cancelled, and did not catch the CancelledError"
        ) from cancelled


class Cleanups:
    """The cleanups after leases that are still to run on one connection.

    Args:
        conn: the connection.
        limit: seconds for each; None: no limit.

    Attributes:
        running: the name of the last one that ran.
    """

    __slots__ = ("_conn", "_limit", "_waiting", "running")

    def __init__(self, conn: Connection, limit: float | None) -> None:
        self._conn = conn
        self._limit = limit
        self._waiting: deque[tuple[str, Awaitable[None]]] = deque()
        self.running = ""

    def add(self, name: str, cleanup: Awaitable[None]) -> None:
        """Add a cleanup of one more lease: `reset` or `on_release`."""
        self._waiting.append((name, cleanup))

    async def run(self) -> None:
        """Wait for one after another. Raises as `run`."""
        while self._waiting:
            self.running, cleanup = self._waiting.popleft()
            await _bounded(self.running, self._conn, cleanup, self._limit)

    def drop(self) -> None:
        """Close cleanups that were not started: otherwise Python warns of coroutines that were never awaited."""
        while self._waiting:
            _, outcome = self._waiting.popleft()
            if inspect.iscoroutine(outcome):
                outcome.close()

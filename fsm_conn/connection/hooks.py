"""Runs `on_open`: the application's preparation of each new link, before others may use it.

It is part of the attempt that opens the link: it runs in the activity of `connecting`, `reconnecting` or `renewing`,
before `opened` is fired, and its failure is a failed attempt. Its own calls use the new link.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fsm_conn._util.text import named
from fsm_conn._util.timing import ExpiredError, end
from fsm_conn.connection.errors import HookError
from fsm_conn.connection.link_holder import awaitable
from fsm_conn.links.base import Link
from fsm_conn.links.errors import GoingAwayError, StartTimeoutError
from fsm_conn.machine.errors import is_expected

__all__ = ["OPENING", "OpenHook", "call_hook", "checked_hook", "run_on_open", "unless_lost"]

T = TypeVar("T")
OpenHook = Callable[[T], Awaitable[None] | None]

OPENING = ("open", "until_ready", "on_open")
"""The steps of an attempt, as diagrams show them: the link is opened, its peer becomes ready, the hook prepares it."""

_log = logging.getLogger("fsm_conn")


def checked_hook(hook: OpenHook[T]) -> OpenHook[T]:
    """Return the hook if it is a function that takes a connection; refuse anything else."""
    if not callable(hook):
        raise TypeError(f"on_open={hook!r}: give a function that takes the connection")
    return hook


async def call_hook(hook: OpenHook[T], conn: T) -> None:
    """Call the hook, and await it if it is async."""
    outcome = hook(conn)
    if inspect.isawaitable(outcome):
        await outcome


async def run_on_open(hook: Awaitable[None], link: Link, limit: float, name: str) -> None:
    """Run `on_open` on a link.

    Args:
        hook: the running hook.
        link: the new link.
        limit: seconds that it may take.
        name: the name of the connection, for messages.

    Raises:
        HookError: it raised an unexpected error; expected errors are raised as they are.
        StartTimeoutError: it took longer than `limit`.
        Exception: the link was lost by this error meanwhile.
    """
    try:
        await unless_lost(link, hook, limit, name, "on_open")
    except ExpiredError:
        raise StartTimeoutError(
            f"on_open did not end within {limit:g} s; a larger hook_timeout of the connection gives it longer"
        ) from None
    except Exception as error:
        if is_expected(error):
            raise
        _log.warning("%s: on_open failed, and with it the attempt to connect", name, exc_info=error)
        raise HookError(f"on_open failed: {named(error)}") from error


async def unless_lost(link: Link, work: Awaitable[None], limit: float | None, owner: object, what: str) -> None:
    """Await, for at most `limit` seconds, and only until the link is lost. `owner` and `what` are for the log.

    Raises:
        ExpiredError: the limit has passed.
        Exception: the error that the link was lost by, or that was raised.
    """
    doing, loss = asyncio.ensure_future(work), asyncio.ensure_future(_loss_of(link))
    try:
        await asyncio.wait((doing, loss), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if loss.done():
            raise loss.result()
        if not doing.done():
            raise ExpiredError
        if doing.cancelled():
            raise RuntimeError("it awaited a task that was cancelled, and did not catch the CancelledError")
        doing.result()
    finally:
        await end(owner, f"{what} or {type(link).__name__}.lost()", doing, loss)


async def _loss_of(link: Link) -> Exception:
    """Wait for the loss of a link, and return the reason. An orderly close is not a loss yet."""
    reason: Exception = await awaitable(link.lost(), link, "lost")
    if isinstance(reason, GoingAwayError):
        await asyncio.get_running_loop().create_future()
    return reason

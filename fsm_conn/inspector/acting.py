"""The actions of the page beside looking: none, unless the inspector was told to allow them.

Each action is written to the log `fsm_conn.inspector`, with the client's address.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from fsm_conn._util.hints import did_you_mean
from fsm_conn._util.text import plain_line
from fsm_conn.connection.connection import Connection
from fsm_conn.inspector.live import LiveMachine, lives_elsewhere
from fsm_conn.inspector.subject import Subject
from fsm_conn.inspector.walk import Walk
from fsm_conn.inspector.wire import reason_of, shown
from fsm_conn.machine.machine import StateMachine

__all__ = ["ACTS", "Acts", "checked_allow"]

_log = logging.getLogger("fsm_conn.inspector")

_LINKED: dict[str, Callable[[Connection], Coroutine[Any, Any, None]]] = {
    "connect": Connection.connect,
    "disconnect": Connection.disconnect,
    "reconnect": Connection.reconnect,
}
ACTS = ("connect", "disconnect", "fire", "reconnect")
"""The actions that can be allowed."""
PATIENCE = 2.0
"""Seconds that the page waits for the end of an action. A longer one continues, and its transitions show it."""


def checked_allow(allow: Collection[str]) -> frozenset[str]:
    """The allowed actions.

    Raises:
        ValueError: an action is unknown.
    """
    if isinstance(allow, str):
        raise ValueError(f"allow={allow!r}: give a tuple of names, such as ({allow!r},)")
    for each in allow:
        if each not in ACTS:
            raise ValueError(f"allow: there is no {each!r}{did_you_mean(str(each), ACTS)}; there are {', '.join(ACTS)}")
    return frozenset(allow)


class Acts:
    """Performs the actions that the page asks for.

    Args:
        allow: the allowed actions.

    Attributes:
        allowed: the allowed actions.
    """

    def __init__(self, allow: Collection[str]) -> None:
        self.allowed = checked_allow(allow)
        self._running: set[asyncio.Task[None]] = set()

    async def act(self, subject: Subject, act: str, trigger: str, peer: str) -> str | None:
        """Perform an action.

        Args:
            subject: the subject to act on.
            act: the action; one of `ACTS`.
            trigger: the trigger to fire.
            peer: the client's address, for the log.

        Returns:
            why it was refused, or its outcome; None when it was done.
        """
        if isinstance(subject, Walk) and act == "fire":
            return subject.fire(trigger)
        if act not in self.allowed:
            return f"{shown(act)!r} is not allowed; the inspector was made with allow={tuple(sorted(self.allowed))!r}"
        machine = subject.machine if isinstance(subject, LiveMachine) else None
        if machine is None:
            return "it is gone, or was never here"
        if lives_elsewhere(machine):
            return "it lives in the event loop of another thread"
        what = f"fire {trigger!r}" if act == "fire" else act
        _log.warning("%s asks to %s: %s", plain_line(peer), plain_line(what), plain_line(subject.name))
        if act == "fire":
            return _fired(machine, trigger)
        if not isinstance(machine, Connection):
            return f"it is no connection, so there is nothing to {act}"
        return await self._run(_LINKED[act](machine))

    async def close(self) -> None:
        """Abandon the actions that still run."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _run(self, work: Coroutine[Any, Any, None]) -> str | None:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        if not done:
            return None
        error = None if task.cancelled() else task.exception()
        return None if error is None else ": ".join(reason_of(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.info("what was asked for failed: %s", ": ".join(reason_of(error)))


def _fired(machine: StateMachine, trigger: str) -> str | None:
    try:
        machine.fire(trigger)
    except Exception as error:
        return ": ".join(reason_of(error))
    return None

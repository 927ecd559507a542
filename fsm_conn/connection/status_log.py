"""Logs the ups and downs of a connection, without any observer attached.

The logger `fsm_conn.status` gets one line each: INFO for connected and reconnected (after how long), WARNING for a
lost link (with the reason), ERROR for giving up. For every transition, and for calls, attach a `LogObserver`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from fsm_conn._util.text import brief, named, said
from fsm_conn.connection.table import ConnectionState
from fsm_conn.links.base import Link
from fsm_conn.machine.errors import is_expected

__all__ = ["StatusLog", "status_logger"]

status_logger = logging.getLogger("fsm_conn.status")
LONGEST_WHY = 300
"""How many characters of an error a line shows."""


class _Conn(Protocol):
    name: str
    attempt: int

    @property
    def state(self) -> Any: ...
    @property
    def link(self) -> Link | None: ...
    @property
    def linked_states(self) -> frozenset[str]: ...
    @property
    def serving_states(self) -> frozenset[str]: ...


class StatusLog:
    """The log of one connection."""

    __slots__ = ("_lost_at",)

    def __init__(self) -> None:
        self._lost_at: float | None = None

    def entered(self, conn: _Conn, reason: BaseException | None, since: float | None, now: Callable[[], float]) -> None:
        """Log that a state was entered.

        Args:
            conn: the connection, in its new state.
            reason: the error behind it, if there is one.
            since: when the previous link came up; None: there was none.
            now: returns the loop's time; called only where it is needed.
        """
        if conn.state in conn.linked_states:
            if since is None and conn.state in conn.serving_states:
                self._came_up(conn, now())
            return
        if since is not None:
            self._went_down(conn, reason, since, now())
        if conn.state == ConnectionState.FAILED:
            attempts = "1 attempt" if conn.attempt == 1 else f"{conn.attempt} attempts"
            _write(
                logging.ERROR, conn.name, "gave up", f"gave up after {attempts}: {_why(conn, reason)}", reason=reason
            )
        elif conn.state == ConnectionState.DISCONNECTED:
            self._lost_at = None  # what comes next is the first connect of a new life

    def _came_up(self, conn: _Conn, now: float) -> None:
        pid = None if conn.link is None else conn.link.pid
        process = "" if pid is None else f" (pid {pid})"
        if self._lost_at is None:
            attempts = f", at attempt {conn.attempt}" if conn.attempt > 1 else ""
            _write(logging.INFO, conn.name, "connected", f"connected{process}{attempts}")
        else:
            seconds, self._lost_at = now - self._lost_at, None
            text = f"reconnected{process} after {_shown(seconds)} s, at attempt {conn.attempt}"
            _write(logging.INFO, conn.name, "reconnected", text, seconds=seconds)

    def _went_down(self, conn: _Conn, reason: BaseException | None, since: float, now: float) -> None:
        """The link was lost, or was closed on request."""
        if conn.state != ConnectionState.DISCONNECTING:
            self._lost_at = now
        if reason is not None:
            text = f"lost after {_shown(now - since)} s: {_why(conn, reason)}"
            _write(logging.WARNING, conn.name, "lost", text, seconds=now - since, reason=reason)


def _write(
    level: int, name: str, event: str, text: str, *, seconds: float | None = None, reason: BaseException | None = None
) -> None:
    if not status_logger.isEnabledFor(level):
        return
    extra: dict[str, object] = {"fsm_conn_connection": name, "fsm_conn_event": event}
    if seconds is not None:
        extra["fsm_conn_seconds"] = seconds
    if reason is not None:
        extra["fsm_conn_error_type"] = type(reason).__name__
    status_logger.log(level, "%s: %s", name, text, extra=extra)


def _shown(seconds: float) -> str:
    """A number with three significant digits."""
    return f"{seconds:.3g}" if seconds < 1000 else f"{seconds:.0f}"


def _why(conn: _Conn, reason: BaseException | None) -> str:
    """The first line of an error, without the name that the line has; the lines below are evidence of any length."""
    if reason is None:
        return "for no known reason"
    text = (said(reason) if is_expected(reason) else named(reason)).partition("\n")[0]
    return brief(text.removeprefix(f"{conn.name}: "), LONGEST_WHY)

"""What a service wants to read in its log of a connection, without having attached anything.

One line each, to the logger `fsm_conn.status`: INFO for connected and reconnected (with how long that took), WARNING
for a link that was lost (with why), ERROR for giving up. For every transition, and for calls, attach a `LogObserver`.
"""

from __future__ import annotations

import logging

from fsm_conn._util.text import brief, named, said
from fsm_conn.connection.table import ConnectionState
from fsm_conn.machine.machine import is_expected

__all__ = ["StatusLog", "status_logger"]

status_logger = logging.getLogger("fsm_conn.status")
LONGEST_WHY = 300
"""Characters of an error that stand in a line."""


class StatusLog:
    """Tells the log of one connection."""

    def __init__(self) -> None:
        self._lost_at: float | None = None

    def came_up(self, name: str, pid: int | None, attempt: int, now: float) -> None:
        """A link serves calls, and before that none did."""
        process = "" if pid is None else f" (pid {pid})"
        if self._lost_at is None:
            attempts = f", at attempt {attempt}" if attempt > 1 else ""
            _write(logging.INFO, name, "connected", f"connected{process}{attempts}")
        else:
            seconds, self._lost_at = now - self._lost_at, None
            text = f"reconnected{process} after {seconds:.3g} s, at attempt {attempt}"
            _write(logging.INFO, name, "reconnected", text, seconds=seconds)

    def went_down(self, name: str, state: str, reason: BaseException | None, seconds: float, now: float) -> None:
        """A link that served calls is gone: lost, or closed because somebody wanted it."""
        if state != ConnectionState.DISCONNECTING:
            self._lost_at = now
        if reason is not None:
            text = f"lost after {seconds:.3g} s: {_why(reason)}"
            _write(logging.WARNING, name, "lost", text, seconds=seconds, reason=reason)

    def gave_up(self, name: str, attempt: int, reason: BaseException | None) -> None:
        """No further attempt is made, unless somebody asks for it or the policy recovers."""
        attempts = "1 attempt" if attempt == 1 else f"{attempt} attempts"
        _write(logging.ERROR, name, "gave up", f"gave up after {attempts}: {_why(reason)}", reason=reason)

    def ended(self) -> None:
        """It is disconnected: what comes next is the first connect of a new life."""
        self._lost_at = None


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


def _why(reason: BaseException | None) -> str:
    """The first line of an error; what comes below is evidence, of any length."""
    if reason is None:
        return "for no known reason"
    return brief((said(reason) if is_expected(reason) else named(reason)).partition("\n")[0], LONGEST_WHY)

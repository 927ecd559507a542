"""Silences logs for a while. The rules of a life find its mistakes; log output would only hide the life itself."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

__all__ = ["Logged", "SilencedLogs", "silenced"]


Logged = tuple[BaseException, TracebackType | None]
"""An error, and where it was raised: what is handed on may have lost its traceback since."""


class SilencedLogs:
    """While entered, silences the loggers with these names. It may be entered more than once at a time, at little cost.

    Attributes:
        kept: collects the errors that the first of these loggers would have logged.
    """

    def __init__(self, *names: str) -> None:
        self._logs = [logging.getLogger(name) for name in names]
        self._depth = 0
        self._before: tuple[list[bool], Any] = ([], [])
        self._mine: list[logging.Filter] = [_Keeping(self)]
        self.kept: list[Logged] = []

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        first, *others = self._logs
        self._before = [log.disabled for log in others], first.filters
        first.filters = self._mine  # type: ignore[assignment]
        for log in others:
            log.disabled = True

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        first, *others = self._logs
        disabled, first.filters = self._before
        for log, before in zip(others, disabled, strict=True):
            log.disabled = before


class _Keeping(logging.Filter):
    """Lets no record pass, and keeps the errors."""

    def __init__(self, owner: SilencedLogs) -> None:
        super().__init__()
        self._owner = owner

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False always, and keep the record if it is an error."""
        if record.exc_info and record.exc_info[1] is not None:
            self._owner.kept.append((record.exc_info[1], record.exc_info[2]))
        return False


silenced = SilencedLogs("fsm_conn", "fsm_conn.pool", "fsm_conn.status")
"""The loggers of this package. What lives many lives enters it around each, so that their steps need not."""

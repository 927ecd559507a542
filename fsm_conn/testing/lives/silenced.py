"""Silences logs for a while. The rules of a life find its mistakes; log output would only hide the life itself."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["SilencedLogs", "silenced"]


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
        self.kept: list[BaseException] = []

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
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self._owner.kept.append(error)
        return False


silenced = SilencedLogs("fsm_conn", "fsm_conn.pool", "fsm_conn.status")
"""The loggers of this package. What lives many lives enters it around each, so that their steps need not."""

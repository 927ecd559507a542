"""Silences logs for a while. The rules of a life find its mistakes; log output would only hide the life itself."""

from __future__ import annotations

import logging

__all__ = ["SilencedLogs"]


class SilencedLogs:
    """While entered, silences the loggers with these names. It may be entered more than once at a time.

    Attributes:
        kept: collects the errors that the first of these loggers would have logged.
    """

    def __init__(self, *names: str) -> None:
        self._logs = [logging.getLogger(name) for name in names]
        self._before: list[tuple[list[bool], list[logging.Filter]]] = []
        self._mine: list[logging.Filter] = [_Keeping(self)]
        self.kept: list[BaseException] = []

    def __enter__(self) -> None:
        first, *others = self._logs
        self._before.append(([log.disabled for log in others], first.filters))  # type: ignore[arg-type]
        first.filters = self._mine  # type: ignore[assignment]
        for log in others:
            log.disabled = True

    def __exit__(self, *error: object) -> None:
        first, *others = self._logs
        disabled, first.filters = self._before.pop()  # type: ignore[assignment]
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

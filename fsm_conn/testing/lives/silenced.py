"""Silences logs for a while. What goes wrong in a life is found by its rules; logged, it would hide the life itself."""

from __future__ import annotations

import logging

__all__ = ["SilencedLogs"]


class SilencedLogs:
    """While it is entered, which it may be more than once at a time, the loggers of these names say nothing."""

    def __init__(self, *names: str) -> None:
        self._logs = [logging.getLogger(name) for name in names]
        self._before: list[list[bool]] = []

    def __enter__(self) -> None:
        self._before.append([log.disabled for log in self._logs])
        for log in self._logs:
            log.disabled = True

    def __exit__(self, *error: object) -> None:
        for log, disabled in zip(self._logs, self._before.pop(), strict=True):
            log.disabled = disabled

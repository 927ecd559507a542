"""Turns a call that blocks the event loop into an error during a life: in virtual time nobody would notice it."""

from __future__ import annotations

import threading
import time

__all__ = ["BlockingError", "RefusedSleep"]

_sleep = time.sleep


class BlockingError(RuntimeError):
    """A call has blocked the event loop."""


class RefusedSleep:
    """While entered, refuses `time.sleep` in this thread. It may be entered more than once at a time."""

    def __init__(self) -> None:
        self._thread = 0
        self._depth = 0

    def __enter__(self) -> None:
        self._depth += 1
        self._thread = threading.get_ident()
        time.sleep = self._refuse  # type: ignore[assignment]

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth:
            time.sleep = _sleep

    def _refuse(self, seconds: float) -> None:
        if threading.get_ident() != self._thread:
            return _sleep(seconds)
        raise BlockingError(f"time.sleep({seconds!r}) blocks the event loop; write 'await asyncio.sleep({seconds!r})'")

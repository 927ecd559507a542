"""Who looks: the windows that are open, and how each is told, at its own speed, in its own task.

A transition costs a machine one entry for each window, and nothing else of it happens there: what waits is collected
and written by the task of the window, thirty times a second at most, and only while the browser takes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from fsm_conn._util.timing import now
from fsm_conn.inspector.window import Window
from fsm_conn.inspector.wire import encoded

if TYPE_CHECKING:
    from fsm_conn.inspector.subject import Subject

__all__ = ["MOST_WINDOWS", "Hub"]

TICK = 1 / 30
"""Seconds between two messages to a window."""
BEAT = 5.0
"""Seconds after which a window that there is nothing to tell is told that we are there."""
MOST_WINDOWS = 32
"""Windows that may be open at the same time."""


class Hub:
    """The open windows.

    Attributes:
        windows: all of them; replaced as a whole when one comes or goes.
    """

    def __init__(self) -> None:
        self.windows: tuple[Window, ...] = ()
        self._is_closed = False

    def found(self, key: object) -> Window | None:
        """The window that calls itself `key`."""
        return next((window for window in self.windows if window.key == key), None)

    def close(self) -> None:
        """Have every stream end."""
        self._is_closed = True

    def open(self) -> None:
        """Take windows again, after `close`."""
        self._is_closed = False

    def added(self, subject: Subject) -> None:
        """There is a new subject."""
        for window in self.windows:
            window.changed[subject] = None

    def removed(self, subject: Subject) -> None:
        """One is gone."""
        for window in self.windows:
            window.lose(subject)

    async def stream(
        self, hello: dict[str, Any], subjects: Callable[[], tuple[Subject, ...]], clock: Callable[[], dict[str, Any]]
    ) -> AsyncIterator[bytes]:
        """What a window is told, as server-sent events, until it closes, or we do, or it has missed too much.

        Args:
            hello: what it is told first.
            subjects: all that there are.
            clock: what the times that it is told are to be compared with.
        """
        window = Window()
        window.changed = dict.fromkeys(subjects())
        self.windows = (*self.windows, window)
        try:
            yield _event({"hello": hello | {"window": window.key}, **clock()})
            told_at = now()
            while not (self._is_closed or window.is_behind):
                news = window.news(now())
                if news or now() >= told_at + BEAT:
                    told_at = now()
                    yield _event(news | clock())
                await asyncio.sleep(TICK)
        finally:
            self.windows = tuple(each for each in self.windows if each is not window)


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"

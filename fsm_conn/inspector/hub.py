"""The open windows. A task for each window sends its messages, at the window's own speed.

A transition costs a machine one entry for each window, and no other work. The window's task collects and writes the
entries, thirty times a second at most, and only while the browser reads.
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
"""Seconds after which a window without news gets a sign of life."""
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
        """The window with this key."""
        return next((window for window in self.windows if window.key == key), None)

    def close(self) -> None:
        """End every stream."""
        self._is_closed = True

    def open(self) -> None:
        """Accept windows again, after `close`."""
        self._is_closed = False

    def added(self, subject: Subject) -> None:
        """There is a new subject."""
        for window in self.windows:
            window.changed[subject] = None

    def removed(self, subject: Subject) -> None:
        """A subject is gone."""
        for window in self.windows:
            window.lose(subject)

    async def stream(
        self, hello: dict[str, Any], subjects: Callable[[], tuple[Subject, ...]], clock: Callable[[], dict[str, Any]]
    ) -> AsyncIterator[bytes]:
        """Server-sent events for one window, until the window or the hub closes, or the window has missed too much.

        Args:
            hello: the first message.
            subjects: all present subjects.
            clock: returns the current times, which are sent with each message.
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

"""One open page, and the messages that wait for it.

The waiting data is bounded: for a machine that changes often, only its current state; for the machine that is looked
at, its last transitions. So a slow or closed browser costs nothing, and misses only intermediate pictures. A browser
that reads nothing while thousands of machines come and go has to start anew.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Any

from fsm_conn.inspector.wire import Kept, entry_values

if TYPE_CHECKING:
    from fsm_conn.inspector.subject import Subject

__all__ = ["Window"]

MOST_ENTRIES = 1000
"""Transitions of the machine that is looked at that may wait to be sent."""
MOST_GONE = 10_000
"""Machines that are gone and whose end may wait to be sent."""
ROWS_AT_ONCE = 250
"""Lines of the list in one message; more lines follow in the next message."""
DETAILS_EVERY = 0.25
"""Seconds between two readings of the details of a machine that changes."""
DETAILS_ANYWAY = 1.0
"""Seconds between two readings for a machine that does not change: guards and calls change without a transition."""


class Window:
    """The data that waits to be sent to one page.

    Attributes:
        key: the identifier that the page sends with its requests; it cannot be guessed.
        changed: the subjects that have changed since they were last sent.
        gone: the keys of subjects that are gone.
        is_behind: whether it has missed so much that it must start anew: its stream ends, and the page opens another.
        looking: the subject whose details it shows.
        asks_guards: whether it shows the results of that subject's guards.
    """

    def __init__(self) -> None:
        self.key = secrets.token_urlsafe(12)
        self.changed: dict[Subject, None] = {}
        self.gone: dict[str, None] = {}
        self.is_behind = False
        self.looking: Subject | None = None
        self.asks_guards = False
        self._entries: deque[tuple[int, Kept]] = deque(maxlen=MOST_ENTRIES)
        self._is_new = False
        self._has_moved = False
        self._detailed_at = float("-inf")

    def look(self, subject: Subject | None, asks_guards: bool) -> None:
        """Show the details of `subject` from now on, starting with its kept transitions."""
        if subject is not self.looking:
            self.look_again(subject)
        self.asks_guards = asks_guards
        self._detailed_at = float("-inf")

    def look_again(self, subject: Subject | None) -> None:
        """Show the subject from its beginning again, when its kept transitions were replaced."""
        self.looking = None
        self._entries.clear()
        self._is_new = subject is not None
        self.looking = subject

    def lose(self, subject: Subject) -> None:
        """A subject is gone: remove it from this window."""
        self.changed.pop(subject, None)
        if len(self.gone) < MOST_GONE:
            self.gone[subject.key] = None
        else:
            self.is_behind = True

    def note(self, number: int, entry: Kept) -> None:
        """Add a transition of the subject that is looked at."""
        self._entries.append((number, entry))
        self._has_moved = True

    def news(self, at: float) -> dict[str, Any]:
        """The data to send now, each item once; empty when there is none."""
        found: dict[str, Any] = {}
        if self.gone:
            found["gone"] = _taken(self.gone, ROWS_AT_ONCE)
        rows = [subject.row() for subject in _taken(self.changed, ROWS_AT_ONCE) if subject.key]
        if rows:
            found["rows"] = rows
        if (looking := self.looking) is not None:
            found |= self._of_chosen(looking, at)
        return found

    def _of_chosen(self, looking: Subject, at: float) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._is_new:
            self._is_new = False
            self._entries.clear()
            found["look"] = looking.looked_at()
        if self._entries:
            found["of"] = looking.key
            found["entries"] = [entry_values(*each) for each in _emptied(self._entries)]
        if at >= self._detailed_at + (DETAILS_EVERY if self._has_moved else DETAILS_ANYWAY):
            self._detailed_at, self._has_moved = at, False
            found["of"] = looking.key
            found["details"] = looking.details(guards=self.asks_guards)
        return found


def _taken(waiting: dict[Any, None], most: int) -> list[Any]:
    """At most `most` of the waiting items. Each is removed in one step, because other threads add items."""
    return [waiting.popitem()[0] for _ in range(min(most, len(waiting)))]


def _emptied(waiting: deque[tuple[int, Kept]]) -> list[tuple[int, Kept]]:
    return [waiting.popleft() for _ in range(len(waiting))]

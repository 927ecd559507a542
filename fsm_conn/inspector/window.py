"""One open page, and what it has still to be told.

What waits for it is bounded: of a machine that changes often only where it stands, and of the one that is looked at the
last transitions. So a browser that is slow or gone costs nothing, and misses nothing but pictures. One that reads
nothing while thousands of machines come and go begins anew.
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
"""Transitions of the machine that is looked at that may wait to be told."""
MOST_GONE = 10_000
"""Machines that are gone and whose end may wait to be told."""
ROWS_AT_ONCE = 250
"""Lines of the list in one message; those that are more follow in the next."""
DETAILS_EVERY = 0.25
"""Seconds between two looks at the details of a machine that changes."""
DETAILS_ANYWAY = 1.0
"""Seconds between two looks at those of one that does not: guards and calls change without a transition."""


class Window:
    """What one page is to be told next.

    Attributes:
        key: what the page calls itself by when it asks for something; nobody can guess it.
        changed: the subjects that have changed since they were last told of.
        gone: the keys of those that are gone.
        is_behind: whether it has missed so much that it has to begin anew: its stream ends, and the page opens another.
        looking: the subject whose details it shows.
        asks_guards: whether it shows what the guards of that one say.
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
        """Show the details of `subject` from now on, from its kept transitions on."""
        if subject is not self.looking:
            self.look_again(subject)
        self.asks_guards = asks_guards
        self._detailed_at = float("-inf")

    def look_again(self, subject: Subject | None) -> None:
        """The same from the beginning, as when what was kept of it is another."""
        self.looking = None
        self._entries.clear()
        self._is_new = subject is not None
        self.looking = subject

    def lose(self, subject: Subject) -> None:
        """A subject is gone, and is not kept for this window."""
        self.changed.pop(subject, None)
        if len(self.gone) < MOST_GONE:
            self.gone[subject.key] = None
        else:
            self.is_behind = True

    def note(self, number: int, entry: Kept) -> None:
        """A transition of the one that is looked at."""
        self._entries.append((number, entry))
        self._has_moved = True

    def news(self, at: float) -> dict[str, Any]:
        """What is to be told now; empty when that is nothing. What is told is not told again."""
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
    """At most so many of what waits, each taken out in one step: others add to it from other threads."""
    return [waiting.popitem()[0] for _ in range(min(most, len(waiting)))]


def _emptied(waiting: deque[tuple[int, Kept]]) -> list[tuple[int, Kept]]:
    return [waiting.popleft() for _ in range(len(waiting))]

"""A subject is one line in the page's list. When it is chosen, the page shows its diagram, timeline and tables.

A subject is a live machine of this process, a machine from a recorded trace, or a table that a user walks by hand.
It keeps bounded data: its last transitions, and one count for each way from one state to another.
"""

from __future__ import annotations

import abc
from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice, repeat, starmap
from operator import itemgetter
from typing import Any, Protocol

from fsm_conn.inspector.wire import Entry, Kept, chart_values, entry_values, shown
from fsm_conn.machine.chart_values import Chart

__all__ = ["Audience", "Looker", "Subject", "Ways"]

Ways = Counter[tuple[str, str, str, bool]]
"""How often each way was taken: its trigger, source, destination, and whether it was internal."""

MOST_WAYS = 2000
"""The most ways that are sent. Every table that can be shown has fewer, but a trace may name states of no table."""
_way = itemgetter(0, 1, 2, 3)


class Looker(Protocol):
    """An open window, as subjects see it."""

    changed: dict[Subject, None]
    looking: Subject | None

    def note(self, number: int, entry: Kept) -> None:
        """Add a transition of the subject that the window looks at."""


class Audience(Protocol):
    """The open windows."""

    @property
    def windows(self) -> Sequence[Looker]:
        """The windows that are open."""


class Subject(abc.ABC):
    """One entry of the page's list.

    Args:
        name: its name on the page.
        chart: its table.
        hub: told of each change.
        depth: how many transitions are kept.
        ways: counts each way from one state to another; several subjects may share it.

    Attributes:
        key: its identifier on the page, assigned by the registry.
        parent: the key of its pool.
        count: the number of transitions so far.
        reason: the last error that caused a transition.
    """

    kind = "machine"

    def __init__(self, name: str, chart: Chart, hub: Audience, depth: int, ways: Ways) -> None:
        self.key = ""
        self.parent: str | None = None
        self.name = shown(name)
        self.chart = chart
        self.count = 0
        self.reason: tuple[str, str] | None = None
        self._hub = hub
        self._entries: deque[Kept] = deque(maxlen=depth)
        self._pending: deque[Kept] = deque()
        """Transitions that `fold` has not processed yet."""
        self._ways = ways

    @property
    @abc.abstractmethod
    def state(self) -> str:
        """The current state."""

    @property
    @abc.abstractmethod
    def since(self) -> float | None:
        """When the state was entered, by the subject's clock; None when that is unknown."""

    @property
    def attempt(self) -> int:
        """The attempt of this outage; 0 for a machine without attempts."""
        return 0

    def note(self, entry: Kept) -> None:
        """Keep a transition, and send it to the open pages."""
        if isinstance(entry, Entry) and entry.reason is not None:
            self.reason = entry.reason
        self._pending.append(entry)
        self.fold()

    def fold(self) -> None:
        """Process the transitions since the last call. While nobody looks, this does not happen for each of them."""
        pending = self._pending
        taken: list[Kept] = [*starmap(pending.popleft, repeat((), len(pending)))]  # each once, in whichever thread
        first = self.count + 1
        self.count += len(taken)
        self._entries.extend(taken)
        self._ways.update(map(_way, taken))
        for window in self._hub.windows if taken else ():
            window.changed[self] = None
            if window.looking is self:
                for number, entry in enumerate(taken, first):
                    window.note(number, entry)

    def forget(self) -> None:
        """Start anew, before a life is told again from its beginning."""
        self.count, self.reason = 0, None
        self._pending.clear()
        self._entries.clear()

    def row(self) -> list[Any]:
        """The subject's line in the list."""
        self.fold()
        reason = self.reason
        return [
            *(self.key, self.name, self.kind, shown(self.chart.name), shown(self.state), self.since),
            *(self.attempt, None if reason is None else f"{reason[0]}: {reason[1]}", self.count, self.parent),
        ]

    def looked_at(self) -> dict[str, Any]:
        """The data that the page needs once, when the subject is chosen."""
        self.fold()
        entries = tuple(self._entries)
        first = self.count - len(entries) + 1
        return {
            "row": self.row(),
            "chart": chart_values(self.chart),
            "entries": [entry_values(number, entry) for number, entry in enumerate(entries, first)],
        }

    def details(self, *, guards: bool) -> dict[str, Any]:
        """The data that changes while the subject is chosen, other than its transitions.

        Args:
            guards: whether to call the guards.
        """
        self.fold()
        ways = islice(self._ways.copy().items(), MOST_WAYS)
        return {"ways": [[*map(shown, way[:3]), way[3], count] for way, count in ways]}

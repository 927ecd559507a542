"""What the page shows as one line of its list, and, once chosen, as a diagram, a timeline and tables.

A subject is a machine that lives in this process, one whose life was recorded, or a table that somebody walks by hand.
What it keeps is bounded: its last transitions, and one count for each way from a state to a state.
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
"""How often each way was gone: by a trigger, from a state to a state, and whether without leaving it."""

MOST_WAYS = 2000
"""Ways that are told. No table that can be looked at has more; but a trace may tell of what is in no table."""
_way = itemgetter(0, 1, 2, 3)


class Looker(Protocol):
    """An open window, as far as a subject knows it."""

    changed: dict[Subject, None]
    looking: Subject | None

    def note(self, number: int, entry: Kept) -> None:
        """A transition of the one that it looks at."""


class Audience(Protocol):
    """Those who look."""

    @property
    def windows(self) -> Sequence[Looker]:
        """The windows that are open."""


class Subject(abc.ABC):
    """One of what the page lists.

    Args:
        name: what it is called.
        chart: its table.
        hub: told of each change.
        depth: how many transitions are kept.
        ways: where to count each way from a state to a state; shared by those that are counted together.

    Attributes:
        key: what the page calls it by; given by the registry.
        parent: the key of the pool that it belongs to.
        count: transitions so far.
        reason: the last error that was behind a transition.
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
        """What was not taken in yet."""
        self._ways = ways

    @property
    @abc.abstractmethod
    def state(self) -> str:
        """Where it stands."""

    @property
    @abc.abstractmethod
    def since(self) -> float | None:
        """When that state was entered, by its clock; None when it is not known."""

    @property
    def attempt(self) -> int:
        """The attempt of this outage; 0 for what makes none."""
        return 0

    def note(self, entry: Kept) -> None:
        """Keep a transition, and send it to the open pages."""
        if isinstance(entry, Entry) and entry.reason is not None:
            self.reason = entry.reason
        self._pending.append(entry)
        self.fold()

    def fold(self) -> None:
        """Take in what has happened since this was last done: while nobody looks, that is not every time."""
        pending = self._pending
        taken: list[Kept] = [*starmap(pending.popleft, repeat((), len(pending)))]  # each once, whoever takes them
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
        """Begin anew, for a life that is told from its beginning again."""
        self.count, self.reason = 0, None
        self._pending.clear()
        self._entries.clear()

    def row(self) -> list[Any]:
        """Its line in the list."""
        self.fold()
        reason = self.reason
        return [
            *(self.key, self.name, self.kind, shown(self.chart.name), shown(self.state), self.since),
            *(self.attempt, None if reason is None else f"{reason[0]}: {reason[1]}", self.count, self.parent),
        ]

    def looked_at(self) -> dict[str, Any]:
        """What the page needs to know once, when it is chosen."""
        self.fold()
        entries = tuple(self._entries)
        first = self.count - len(entries) + 1
        return {
            "row": self.row(),
            "chart": chart_values(self.chart),
            "entries": [entry_values(number, entry) for number, entry in enumerate(entries, first)],
        }

    def details(self, *, guards: bool) -> dict[str, Any]:
        """What changes while it is chosen, beside its transitions.

        Args:
            guards: whether to ask its guards.
        """
        self.fold()
        ways = islice(self._ways.copy().items(), MOST_WAYS)
        return {"ways": [[*map(shown, way[:3]), way[3], count] for way, count in ways]}

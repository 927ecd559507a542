"""Counts which rows of a table many lives have taken, and which guards have refused: what is covered, what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fsm_conn.machine.table import FAULT

__all__ = ["Reach"]

Seen = tuple[Any, ...]
"""An event that a life may show: a row from a state, taken or refused, or two rows in sequence."""


class Reach:
    """Counts, for a class, what its lives have shown.

    A row is identified by its number in the table. If two rows for one trigger and state lead to the same state,
    records do not distinguish them. Then this listens to the table, within `watching`.

    Args:
        subject: the class; without a table, or with a table whose rows cannot be identified, nothing is counted.

    Attributes:
        counts: how many lives have shown each event.
        dead_ends: final states without rows out of them and without an activity.
    """

    def __init__(self, subject: type) -> None:
        table: Any = getattr(subject, "lifecycle", None)
        self._rows: Sequence[Any] = () if table is None else table.transitions
        states = {} if table is None else table.states
        self._states = {str(name): state for name, state in states.items()}
        self._alternatives: dict[tuple[str, str], list[int]] = {}
        self._sources = [[str(source) for source in row.sources(states)] for row in self._rows]
        for index, row in enumerate(self._rows):
            for source in self._sources[index]:
                self._alternatives.setdefault((str(row.trigger), str(source)), []).append(index)
        self.dead_ends = frozenset(map(str, states)) - self._left(table)
        self._table = table if self._is_ambiguous() else None
        self._known: dict[tuple[str, str, str | None], tuple[Seen, ...]] = {}
        self.counts: Counter[Seen] = Counter()

    def _left(self, table: Any) -> frozenset[str]:
        """The states with rows out of them, or with an activity."""
        if table is None:
            return frozenset()
        active = {str(each) for each in table.states if table.has_work(str(each)) or not table.states[each].final}
        leading = (
            source
            for row, sources in zip(self._rows, self._sources, strict=True)
            for source in sources
            if row.dest not in (None, source) and row.trigger != FAULT
        )
        return frozenset([*active, *leading])

    def _is_ambiguous(self) -> bool:
        """Whether two rows for one trigger and state lead to the same state."""
        return any(
            len({self._rows[index].dest for index in indices}) < len(indices) for indices in self._alternatives.values()
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """If records do not tell which row was taken, listen to the table itself."""
        if self._table is None:
            yield
            return
        end = self._table.listen(self._hear)
        try:
            yield
        finally:
            end()

    def _hear(self, place: int, state: str, taken: bool) -> None:
        self.counts["taken" if taken else "refused", place, str(state)] += 1

    def note(self, records: Iterable[Any]) -> bool:
        """Count the events of these transitions, each once a life. Return whether one of them is new."""
        if self._table is not None:
            return False
        shown: dict[Seen, None] = {}
        before: Seen | None = None
        for record in records:
            seen = self._seen(record)
            shown.update(dict.fromkeys(seen))
            if seen:
                if before is not None:
                    shown["then", before[1], before[2], seen[0][1]] = None
                before = seen[0]
        fresh = any(each not in self.counts for each in shown)
        self.counts.update(shown.keys())
        return fresh

    def _seen(self, record: Any) -> tuple[Seen, ...]:
        trigger, source = str(record.trigger), str(record.source)
        key = trigger, source, None if record.internal else str(record.dest)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._told(*key)
        return found

    def _told(self, trigger: str, source: str, dest: str | None) -> tuple[Seen, ...]:
        refused: list[Seen] = []
        for index in self._alternatives.get((trigger, source), ()):
            row = self._rows[index]
            if (None if row.dest is None else str(row.dest)) == dest:
                return (("taken", index, source), *refused)
            refused.append(("refused", index, source))
        return ()

    def unreached(self) -> tuple[str, ...]:
        """The rows that were never taken from any of their states, and those whose guards never refused."""
        return tuple(f"{_shown(self._rows[index])} was never {outcome}" for index, outcome, _ in self._missing())

    def wanted(self) -> dict[str, set[str]]:
        """The states in which such an event may still happen, each with the triggers and failures that cause it."""
        found: dict[str, set[str]] = {}
        for index, _, sources in self._missing():
            trigger = str(self._rows[index].trigger)
            for source in sources:
                found.setdefault(source, set()).update((trigger, *self._causes(trigger, source)))
        return found

    def _causes(self, trigger: str, source: str) -> Iterator[str]:
        """The failures of an activity that fire a trigger, as the step `raises` names them."""
        if trigger == FAULT:
            yield "bug"
        if trigger == self._states[source].on_error:
            yield "error"

    def _missing(self) -> Iterator[tuple[int, str, list[str]]]:
        for index, row in enumerate(self._rows):
            sources = self._sources[index]
            for outcome in ("taken", "refused") if row.guards else ("taken",):
                if not any((outcome, index, each) in self.counts for each in sources):
                    yield index, outcome, sources


def _shown(row: Any) -> str:
    source = "|".join(map(str, row.source)) if isinstance(row.source, tuple) else str(row.source)
    dest = "(stays)" if row.dest is None else f"-> {row.dest}"
    guards = f" [{', '.join(row.guards)}]" if row.guards else ""
    return f"{row.trigger}: {source} {dest}{guards}"

"""Transition coverage: which rows of the tables ran, and how often their guards agreed or refused.

    with TransitionCoverage() as coverage:
        ...
    print(coverage.report().text())

The rules that hold here: production code pays nothing, because tables are watched only while coverage is counted; any
number of counters may run at the same time; nothing here keeps a class alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

from fsm_conn.machine import binding
from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.machine import StateMachine
from fsm_conn.testing.report import Count, Edge, Gap, Report, ReportError, RowCoverage, qualified

__all__ = ["Count", "Edge", "Gap", "Report", "ReportError", "RowCoverage", "TransitionCoverage"]


class TransitionCoverage:
    """Counts for every subclass of `StateMachine`, `Connection` included, that exists or is created meanwhile.

    Use it as a context manager, or call `start()` and `stop()`.
    """

    def __init__(self) -> None:
        self._counts: dict[Edge, list[int]] = {}

    def start(self) -> None:
        """Start or continue counting. Harmless when it counts already."""
        if self in _counting:
            return
        for lifecycle in _lifecycles():
            self._know(lifecycle)
        if not _counting:
            _switch_on()
        _counting.append(self)

    def stop(self) -> None:
        """Stop counting, and keep the counts. Harmless when it does not count."""
        if self in _counting:
            _counting.remove(self)
            if not _counting:
                _switch_off()

    def report(self) -> Report:
        """The counts so far."""
        return Report({edge: Count(taken, refused) for edge, (refused, taken) in self._counts.items()})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _know(self, lifecycle: BoundTable) -> None:
        for edge in _edges(lifecycle):
            self._counts.setdefault(edge, [0, 0])

    def _count(self, edge: Edge, taken: bool) -> None:
        self._counts[edge][taken] += 1


_counting: list[TransitionCoverage] = []
_listening: list[Callable[[], None]] = []
"""What ends the listening to each table that is listened to."""


def _switch_on() -> None:
    for lifecycle in _lifecycles():
        _listen(lifecycle)
    binding.on_bound.append(_bound)


def _switch_off() -> None:
    binding.on_bound.remove(_bound)
    while _listening:
        _listening.pop()()


def _bound(lifecycle: BoundTable) -> None:
    for each in _counting:
        each._know(lifecycle)
    _listen(lifecycle)


def _listen(lifecycle: BoundTable) -> None:
    edges = {(edge.index, edge.source): edge for edge in _edges(lifecycle)}

    def count(row: int, state: str, taken: bool) -> None:
        for each in _counting:
            each._count(edges[row, str(state)], taken)

    _listening.append(lifecycle.listen(count))


def _edges(lifecycle: BoundTable) -> Iterator[Edge]:
    """Every row from each of its states."""
    owner = qualified(lifecycle.owner)
    for index, row in enumerate(lifecycle.transitions):
        trigger, dest = str(row.trigger), None if row.dest is None else str(row.dest)
        for source in map(str, row.sources(lifecycle.states)):
            yield Edge(owner, index, trigger, source, dest, tuple(map(str, row.guards)))


def _lifecycles() -> Iterator[BoundTable]:
    """Those of all classes that exist."""
    return (each.lifecycle for each in _subclasses(StateMachine))


def _subclasses(base: type[StateMachine]) -> set[type[StateMachine]]:
    found: set[type[StateMachine]] = set()
    fresh = set(base.__subclasses__())
    while fresh:
        found |= fresh
        fresh = {each for known in fresh for each in known.__subclasses__()} - found
    # A class whose declaration was refused lives on until it is collected, and has no table of its own.
    return {each for each in found if "lifecycle" in vars(each)}

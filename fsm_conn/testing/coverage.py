"""Transition coverage: which rows of the tables ran, and how often their guards agreed or refused.

    with TransitionCoverage() as coverage:
        ...
    print(coverage.report().text())

What is to be covered: every row is *taken* at least once, from whichever of its states, and every row with guards is
*refused* at least once. A row is taken when its guards have agreed and its effects have run; a row whose guard or
effect raises is neither taken nor refused.

The rules that hold here: production code pays nothing, for the rows of `transitions` are wrapped only while somebody
counts; any number may count at the same time, each for itself; nothing here keeps a class alive.

All that is known about the inside of `transitions` stands in `_edges` and `_watch`: that an event keeps its rows by
source in the order of the table, and that `execute` of a row says whether it was taken.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Self

import attrs

from fsm_conn import machine
from fsm_conn.driver import Driver
from fsm_conn.errors import FsmConnError
from fsm_conn.machine import Lifecycle

__all__ = ["Count", "Edge", "Gap", "Report", "ReportError", "RowCoverage", "TransitionCoverage"]

FORMAT, VERSION = "fsm_conn transition coverage", 1


class ReportError(FsmConnError, ValueError):
    """What was to be read is not a report, or one of a version that this release does not know."""


@attrs.frozen
class Edge:
    """A row of a table, from one of the states it starts from."""

    owner: str
    """The class, by its qualified name."""
    index: int
    """Where the row stands in the table; the first is 0."""
    trigger: str
    source: str
    dest: str | None
    """None for an internal transition."""
    guards: tuple[str, ...] = ()


@attrs.frozen
class Count:
    """How often a row was taken, and refused by its guards."""

    taken: int = 0
    refused: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.taken + other.taken, self.refused + other.refused)


@attrs.frozen
class RowCoverage:
    """A row of a table, and how often it ran from each of the states it starts from."""

    owner: str
    index: int
    trigger: str
    dest: str | None
    guards: tuple[str, ...]
    sources: Mapping[str, Count]

    @property
    def taken(self) -> int:
        """How often it was taken: its guards agreed, and the effects ran."""
        return sum(count.taken for count in self.sources.values())

    @property
    def refused(self) -> int:
        """How often a guard refused it."""
        return sum(count.refused for count in self.sources.values())

    @property
    def outcomes(self) -> dict[str, int]:
        """What is to be covered, with how often it came about."""
        return {"taken": self.taken, "refused": self.refused} if self.guards else {"taken": self.taken}

    @property
    def untaken_sources(self) -> tuple[str, ...]:
        """The states from which it was never taken."""
        return tuple(source for source, count in self.sources.items() if not count.taken)

    def __str__(self) -> str:
        dest = "(stays)" if self.dest is None else f"-> {self.dest}"
        guards = f" [{', '.join(self.guards)}]" if self.guards else ""
        return f"{self.trigger}: {'|'.join(self.sources)} {dest}{guards}"


@attrs.frozen
class Gap:
    """Something that never came about."""

    row: RowCoverage
    outcome: str
    """`taken` or `refused`."""

    def __str__(self) -> str:
        return f"never {self.outcome:<7}  {self.row}"


@attrs.frozen
class Report:
    """What ran, of the tables of some classes. A value: nothing changes it."""

    counts: Mapping[Edge, Count] = attrs.field(factory=dict)

    @property
    def owners(self) -> tuple[str, ...]:
        """The classes, sorted by name."""
        return tuple(sorted({edge.owner for edge in self.counts}))

    @property
    def rows(self) -> tuple[RowCoverage, ...]:
        """Every row of every class, in the order of the tables."""
        found: dict[tuple[str, int, str, str | None, tuple[str, ...]], dict[str, Count]] = {}
        for edge in sorted(self.counts, key=lambda edge: (edge.owner, edge.index)):
            row = (edge.owner, edge.index, edge.trigger, edge.dest, edge.guards)
            found.setdefault(row, {})[edge.source] = self.counts[edge]
        return tuple(RowCoverage(*row, sources) for row, sources in found.items())

    @property
    def missing(self) -> tuple[Gap, ...]:
        """What never came about."""
        return tuple(Gap(row, outcome) for row in self.rows for outcome, count in row.outcomes.items() if not count)

    @property
    def total(self) -> int:
        """How many outcomes there are to cover."""
        return sum(len(row.outcomes) for row in self.rows)

    @property
    def percentage(self) -> float:
        """The share of outcomes that came about, 0 to 100. Of nothing, nothing was covered: 0."""
        total = self.total
        return 100.0 * (total - len(self.missing)) / total if total else 0.0

    def only(self, patterns: Iterable[str]) -> Report:
        """The part about classes whose qualified names match one of `patterns`, such as `shop.*`."""
        wanted = tuple(patterns)
        return self._of(owner for owner in self.owners if any(fnmatchcase(owner, each) for each in wanted))

    def of_interest(self) -> Report:
        """Without the classes of this package itself that never ran: who tests his own does not answer for ours."""
        ran = {edge.owner for edge, count in self.counts.items() if count != Count()}
        return self._of(owner for owner in self.owners if owner in ran or not owner.startswith("fsm_conn."))

    def _of(self, owners: Iterable[str]) -> Report:
        wanted = set(owners)
        return Report({edge: count for edge, count in self.counts.items() if edge.owner in wanted})

    def merge(self, *others: Report) -> Report:
        """The sum of this and others: of several workers, or of several runs."""
        counts = dict(self.counts)
        for other in others:
            for edge, count in other.counts.items():
                counts[edge] = counts.get(edge, Count()) + count
        return Report(counts)

    def overlay(self, owner: type | str | None = None) -> dict[tuple[str, str, str | None], int]:
        """How often each edge was taken, by trigger, source and dest (None for an internal transition), zeros included.

        Args:
            owner: the class; of all of them together when there is none.
        """
        name = _name(owner) if isinstance(owner, type) else owner
        found: dict[tuple[str, str, str | None], int] = {}
        for edge, count in self.counts.items():
            if name in (None, edge.owner):
                key = (edge.trigger, edge.source, edge.dest)
                found[key] = found.get(key, 0) + count.taken
        return found

    def to_json(self) -> str:
        """As JSON, which `from_json` reads, also in later releases."""
        classes: dict[str, list[dict[str, Any]]] = {owner: [] for owner in self.owners}
        for edge in sorted(self.counts, key=lambda edge: (edge.owner, edge.index, edge.source)):
            row = attrs.asdict(edge) | attrs.asdict(self.counts[edge])
            classes[row.pop("owner")].append(row)
        return json.dumps({"format": FORMAT, "version": VERSION, "classes": classes}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote.

        Raises:
            ReportError: it is something else; the message says what is wrong.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ReportError(f"not a coverage report: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ReportError(f"not a coverage report: an object with format={FORMAT!r} was expected")
        if data.get("version") != VERSION:
            raise ReportError(f"a coverage report of version {data.get('version')!r}; this release reads {VERSION}")
        classes = data.get("classes")
        if not isinstance(classes, dict):
            raise ReportError("a coverage report without its 'classes'")
        return cls().merge(*(_read_row(owner, row) for owner, rows in classes.items() for row in _listed(owner, rows)))

    def text(self) -> str:
        """For people: each class with its share, and what never came about."""
        if not self.counts:
            return "transition coverage: no class was counted"
        lines = [f"transition coverage: {self.percentage:.1f} % of {self.total} rows taken and guards refused"]
        width = max(map(len, self.owners))
        for owner in self.owners:
            part = self._of((owner,))
            covered = part.total - len(part.missing)
            lines.append(f"  {owner:<{width}}  {covered:>4} of {part.total:<4} {part.percentage:>5.1f} %")
            lines += [f"    {gap}" for gap in part.missing]
        return "\n".join(lines)


def _listed(owner: str, rows: Any) -> Sequence[Any]:
    if not isinstance(rows, list):
        raise ReportError(f"a coverage report in which the rows of {owner!r} are no list")
    return rows


_FIELDS: dict[str, Any] = {
    "index": int, "trigger": str, "source": str, "dest": (str, type(None)), "guards": list, "taken": int, "refused": int
}  # fmt: skip


def _read_row(owner: str, row: Any) -> Report:
    values = row if isinstance(row, dict) else {}
    for name, kind in _FIELDS.items():
        if name not in values or not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise ReportError(f"a coverage report in which a row of {owner!r} has a wrong or no {name!r}: {row!r}")
        if kind is int and values[name] < 0:
            raise ReportError(f"a coverage report in which a row of {owner!r} has a negative {name!r}: {row!r}")
    edge = Edge(
        owner, values["index"], values["trigger"], values["source"], values["dest"], tuple(map(str, values["guards"]))
    )
    return Report({edge: Count(values["taken"], values["refused"])})


class TransitionCoverage:
    """Counts for every subclass of `Driver`, those of `Connection` among them, that exists or is made meanwhile.

    Use it as a context manager, or call `start()` and `stop()`.
    """

    def __init__(self) -> None:
        self._counts: dict[Edge, list[int]] = {}

    def start(self) -> None:
        """Begin to count, or go on. Harmless when it counts already."""
        if self in _counting:
            return
        for lifecycle in _lifecycles():
            self._know(lifecycle)
        if not _counting:
            _switch_on()
        _counting.append(self)

    def stop(self) -> None:
        """Count no more. What was counted stays. Harmless when it does not count."""
        if self in _counting:
            _counting.remove(self)
            if not _counting:
                _switch_off()

    def report(self) -> Report:
        """What was counted so far."""
        return Report({edge: Count(taken, refused) for edge, (refused, taken) in self._counts.items()})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _know(self, lifecycle: Lifecycle) -> None:
        for edge, _ in _edges(lifecycle):
            self._counts.setdefault(edge, [0, 0])

    def _count(self, edge: Edge, taken: bool) -> None:
        self._counts[edge][taken] += 1


_counting: list[TransitionCoverage] = []
_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def _switch_on() -> None:
    for lifecycle in _lifecycles():
        _watch(lifecycle)
    machine.on_bound.append(_bound)


def _switch_off() -> None:
    machine.on_bound.remove(_bound)
    for transition in list(_watched):
        del transition.execute
    _watched.clear()


def _bound(lifecycle: Lifecycle) -> None:
    if issubclass(lifecycle.owner, Driver):
        for each in _counting:
            each._know(lifecycle)
        _watch(lifecycle)


def _watch(lifecycle: Lifecycle) -> None:
    for edge, transition in _edges(lifecycle):
        transition.execute = _counted(edge, transition.execute)
        _watched.add(transition)


def _counted(edge: Edge, execute: Any) -> Any:
    def counted(event: Any) -> bool:
        taken = bool(execute(event))
        for each in _counting:
            each._count(edge, taken)
        return taken

    return counted


def _edges(lifecycle: Lifecycle) -> Iterator[tuple[Edge, Any]]:
    """Every row from each of its states, with what `transitions` made of it."""
    owner = _name(lifecycle.owner)
    seen: dict[tuple[str, str], int] = {}
    for index, row in enumerate(lifecycle.transitions):
        trigger, dest = str(row.trigger), None if row.dest is None else str(row.dest)
        for source in map(str, row.sources(lifecycle.states)):
            place = seen.get((trigger, source), 0)
            seen[trigger, source] = place + 1
            made = lifecycle.machine.events[trigger].transitions[source][place]
            yield Edge(owner, index, trigger, source, dest, tuple(map(str, row.guards))), made


def _lifecycles() -> Iterator[Lifecycle]:
    """Those of all classes that exist."""
    return (each.lifecycle for each in _subclasses(Driver))


def _subclasses(base: type[Driver]) -> set[type[Driver]]:
    found: set[type[Driver]] = set()
    fresh = set(base.__subclasses__())
    while fresh:
        found |= fresh
        fresh = {each for known in fresh for each in known.__subclasses__()} - found
    # A class whose declaration was refused lives on until it is collected, and has no table of its own.
    return {each for each in found if "lifecycle" in vars(each)}


def _name(owner: type) -> str:
    return f"{owner.__module__}.{owner.__qualname__}"

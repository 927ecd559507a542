"""Coverage reports of tables, as values that can be merged, judged, written, read and shown.

To cover: every row must be *taken* at least once, from any of its states, and every row with guards *refused* at least
once. A row is taken when its guards have agreed and its effects have run; a row whose guard or effect raises is
neither taken nor refused.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import attrs

from fsm_conn.machine.errors import FsmConnError

__all__ = ["Count", "Edge", "Gap", "Report", "ReportError", "RowCoverage", "qualified"]

FORMAT, VERSION = "fsm_conn transition coverage", 1
LARGEST = 8 * 1024 * 1024
"""Characters of a report that is read: more than a thousand classes."""


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
    """The coverage of the tables of some classes, as an immutable value."""

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
        """The outcomes that never occurred."""
        return tuple(Gap(row, outcome) for row in self.rows for outcome, count in row.outcomes.items() if not count)

    @property
    def total(self) -> int:
        """How many outcomes there are to cover."""
        return sum(len(row.outcomes) for row in self.rows)

    @property
    def covered(self) -> int:
        """How many of them occurred."""
        return self.total - len(self.missing)

    @property
    def percentage(self) -> float:
        """The percentage of outcomes that occurred; 0 when there is nothing to cover."""
        return 100.0 * self.covered / self.total if self.total else 0.0

    def only(self, patterns: Iterable[str]) -> Report:
        """The part about classes whose qualified names match one of `patterns`, such as `shop.*`."""
        wanted = tuple(patterns)
        return self._of(owner for owner in self.owners if any(fnmatchcase(owner, each) for each in wanted))

    def of_interest(self) -> Report:
        """The report without the classes of this package that never ran."""
        return self._of(
            owner for owner, part in self._parts().items() if not owner.startswith("fsm_conn.") or part._ran()
        )

    def _parts(self) -> dict[str, Report]:
        """The part about each class, sorted by its name."""
        parts: dict[str, dict[Edge, Count]] = {owner: {} for owner in self.owners}
        for edge, count in self.counts.items():
            parts[edge.owner][edge] = count
        return {owner: Report(counts) for owner, counts in parts.items()}

    def _of(self, owners: Iterable[str]) -> Report:
        wanted = set(owners)
        return Report({edge: count for edge, count in self.counts.items() if edge.owner in wanted})

    def merge(self, *others: Report) -> Report:
        """The sum of this report and others, of several workers or several runs."""
        counts = dict(self.counts)
        for other in others:
            for edge, count in other.counts.items():
                counts[edge] = counts.get(edge, Count()) + count
        return Report(counts)

    def overlay(self, owner: type | str | None = None) -> dict[tuple[str, str, str | None], int]:
        """How often each edge was taken, by trigger, source and dest (None: internal), including those never taken.

        Args:
            owner: the class; None: all of them together.
        """
        name = qualified(owner) if isinstance(owner, type) else owner
        found: dict[tuple[str, str, str | None], int] = {}
        for edge, count in self.counts.items():
            if name in (None, edge.owner):
                key = (edge.trigger, edge.source, edge.dest)
                found[key] = found.get(key, 0) + count.taken
        return found

    def to_json(self) -> str:
        """The report as JSON, which `from_json` reads, also in later releases."""
        classes: dict[str, list[dict[str, Any]]] = {owner: [] for owner in self.owners}
        for edge in sorted(self.counts, key=lambda edge: (edge.owner, edge.index, edge.source)):
            row = attrs.asdict(edge) | attrs.asdict(self.counts[edge])
            classes[row.pop("owner")].append(row)
        return json.dumps({"format": FORMAT, "version": VERSION, "classes": classes}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote.

        Raises:
            ReportError: the text is something else, or longer than 8 MiB; the message says what is wrong.
        """
        if len(text) > LARGEST:
            raise ReportError(f"not a coverage report: it has more than {LARGEST} characters")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ReportError(f"not a coverage report: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ReportError(f"not a coverage report: an object with format={FORMAT!r} was expected")
        if data.get("version") != VERSION:
            raise ReportError(
                f"a coverage report of version {_shown(data.get('version'))}; this release reads {VERSION}"
            )
        classes = data.get("classes")
        if not isinstance(classes, dict):
            raise ReportError("a coverage report without its 'classes'")
        return cls().merge(*(_read_row(owner, row) for owner, rows in classes.items() for row in _listed(owner, rows)))

    def text(self) -> str:
        """A text for people: each class with its percentage, and what never occurred."""
        if not self.counts:
            return "transition coverage: no class was counted"
        share = f"{self.percentage:.1f} %, {self.covered} of {self.total}"
        lines = [f"transition coverage: {share} (rows taken, guards refused)"]
        width = max(map(len, self.owners))
        for owner, part in self._parts().items():
            lines.append(f"  {owner:<{width}}  {part.percentage:5.1f} %, {part.covered} of {part.total}")
            lines += [f"    {gap}" for gap in part.missing] if part._ran() else ["    no row was ever tried"]
        return "\n".join(lines)

    def _ran(self) -> bool:
        return any(count != Count() for count in self.counts.values())


def _listed(owner: str, rows: Any) -> Sequence[Any]:
    if not isinstance(rows, list):
        raise ReportError(f"a coverage report in which the rows of {_shown(owner)} are no list")
    return rows


_FIELDS: dict[str, Any] = {
    "index": int, "trigger": str, "source": str, "dest": (str, type(None)), "guards": list, "taken": int, "refused": int
}  # fmt: skip
_MOST = 2**63
"""What is counted is less. Of more digits than Python shows, a sum could be read and not be shown."""


def _read_row(owner: str, row: Any) -> Report:
    values = row if isinstance(row, dict) else {}
    for name, kind in _FIELDS.items():
        whose = f"a coverage report in which a row of {_shown(owner)} has a"
        if name not in values or not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise ReportError(f"{whose} wrong or no {name!r}: {_shown(row)}")
        if kind is int and not 0 <= values[name] < _MOST:
            raise ReportError(f"{whose} {'negative' if values[name] < 0 else 'huge'} {name!r}: {_shown(row)}")
    if not all(isinstance(guard, str) for guard in values["guards"]):
        raise ReportError(f"{whose} name in its 'guards' that is none: {_shown(row)}")
    edge = Edge(owner, values["index"], values["trigger"], values["source"], values["dest"], tuple(values["guards"]))
    return Report({edge: Count(values["taken"], values["refused"])})


def _shown(value: Any) -> str:
    return f"{reprlib.repr(value):.200}"


def qualified(owner: type) -> str:
    """The name by which a class is known in reports."""
    return f"{owner.__module__}.{owner.__qualname__}"

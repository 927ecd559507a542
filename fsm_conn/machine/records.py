"""Transitions as values: one `TransitionRecord` for each row of the table that was taken.

Records hold no machine, so that keeping them keeps nothing else alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import attrs

__all__ = ["MOVE", "NO_DATA", "History", "Snapshot", "TransitionRecord", "Written", "unfolded", "unwritten"]


class _NoData(Mapping[str, Any]):
    """The empty data of a trigger without any: one shared, immutable object, which stays the same one when pickled."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"

    def __reduce__(self) -> str:
        return "NO_DATA"


NO_DATA = _NoData()


class TransitionRecord(NamedTuple):
    """One transition, written at the moment it was taken.

    A named tuple and not an attrs class because an observer gets one at every dispatch: it costs a quarter.
    """

    trigger: str
    """The trigger that was fired."""
    source: str
    """The state before."""
    dest: str
    """The state after; equal to `source` for an internal and for a self transition."""
    internal: bool
    """True when the state was not left, so that its activity went on."""
    reason: BaseException | None
    """The error that caused the transition; None when there was none."""
    dwell: float
    """Seconds spent in `source`, by the event loop's clock."""
    at: float
    """When it happened, in seconds of `loop.time()`, or of `time.monotonic()` where no loop runs."""
    data: Mapping[str, Any] = NO_DATA
    """The data of the trigger: `{"amount": 5}` for `fire("paid", amount=5)`."""

    def __str__(self) -> str:
        arrow = f"{self.source} (stays)" if self.internal else f"{self.source} -> {self.dest}"
        why = f": {type(self.reason).__name__}" if self.reason is not None else ""
        return f"{arrow} on {self.trigger}{why}"


MOVE = ("trigger", "source", "dest", "internal")
"""The fields of a record that are the same whenever the same row is taken in the same state."""
Written = Sequence[Any]
"""A record as dispatch writes it: those four as one tuple, which all such records share, and then each other field."""


def unfolded(kind: type[TransitionRecord], written: Written) -> TransitionRecord:
    """The record that was written."""
    return tuple.__new__(kind, (*written[0], *written[1:]))


@attrs.frozen(kw_only=True)
class Snapshot:
    """The condition of a machine at one moment, as plain values. Store it, and continue from it with `restored`."""

    state: str
    elapsed: float = 0.0
    """Seconds since the state was entered."""
    visit: int = 0
    """The number of the visit, counted from 0."""
    since: float | None = None
    """When the state was entered, by the event loop's clock; None when nothing has happened yet."""
    activity: str | None = None
    """The method that runs: that of the current state, or of the last one while it cleans up."""
    is_resting: bool = False
    """Whether the current activity has called `rest()`: it only waits."""
    time_left: float | None = None
    """Seconds until the time limit of the state; None when there is no limit."""


class History(Sequence[TransitionRecord]):
    """The last `maxlen` records, oldest first; at most a quarter of them are internal.

    Successful probes come by the thousand and explain nothing. So once the internal records fill their quarter, a new
    one replaces the oldest internal one. A history of fewer than four records keeps none of them. All other records
    are appended.

    What dispatch writes stands in one flat list, and a record is made of it when it is read: as an object of its own,
    each would take twice the memory, and every full garbage collection would look at it.

    Args:
        maxlen: how many to keep.
        kind: the class of the records.
        fields: those that are kept already, as they stand in the list.
    """

    __slots__ = ("_fields", "_internal", "_kind", "_passing", "_width", "maxlen")

    def __init__(
        self, maxlen: int, kind: type[TransitionRecord] = TransitionRecord, fields: Iterable[Any] = ()
    ) -> None:
        self.maxlen = maxlen
        self._kind = kind
        self._width = len(kind._fields) - len(MOVE) + 1
        self._fields = list(fields)
        self._passing: Written | None = None
        """The last record, if it was not kept."""
        self._internal = len(self._internal_ones())
        """An upper bound of the internal records: appending another record may have pushed one out."""

    def __len__(self) -> int:
        return len(self._fields) // self._width

    @overload
    def __getitem__(self, index: int) -> TransitionRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TransitionRecord]: ...
    def __getitem__(self, index: int | slice) -> TransitionRecord | Sequence[TransitionRecord]:
        found = range(0, len(self._fields), self._width)[index]
        return self._at(found) if isinstance(found, int) else [self._at(each) for each in found]

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.maxlen, self._kind, tuple(self._fields))

    @property
    def last(self) -> TransitionRecord:
        """The last record, whether it was kept or not; there is one from the first transition on."""
        return self[-1] if self._passing is None else unfolded(self._kind, self._passing)

    def append(self, written: Written) -> None:
        """Keep a record, and drop the oldest one when there are too many."""
        fields = self._fields
        fields += written
        self._passing = None
        if len(fields) > self.maxlen * self._width:
            del fields[: self._width]
            if not fields:
                self._passing = written

    def note(self, written: Written) -> None:
        """Keep an internal record, and drop the oldest internal one when there are too many."""
        if self._internal >= self.maxlen // 4 and not self._make_room():
            self._passing = written
            return
        self._internal += 1
        self.append(written)

    def _make_room(self) -> bool:
        most, kept = self.maxlen // 4, self._internal_ones()
        if len(kept) >= most and kept:
            oldest = kept.pop(0)
            del self._fields[oldest : oldest + self._width]
        self._internal = len(kept)
        return self._internal < most

    def _internal_ones(self) -> list[int]:
        """Where in the list internal records begin."""
        return [place for place in range(0, len(self._fields), self._width) if self._fields[place][-1]]

    def _at(self, place: int) -> TransitionRecord:
        return unfolded(self._kind, self._fields[place : place + self._width])


def unwritten(machine: Any) -> TransitionRecord:
    """The record of a machine without a transition so far."""
    kind: type[TransitionRecord] = machine.record_type
    added = {name: getattr(machine, name) for name in kind._fields[len(TransitionRecord._fields) :]}
    return kind("", machine.state, machine.state, True, None, 0.0, 0.0, **added)

"""Transitions as values: one `TransitionRecord` for each row of the table that was taken.

Records hold no machine, so that keeping them keeps nothing else alive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import attrs

__all__ = ["NO_DATA", "History", "Snapshot", "TransitionRecord", "unwritten"]


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

    A named tuple and not an attrs class because one is made inside every dispatch: it costs a quarter.
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


class History(list[TransitionRecord]):
    """The last `size` records, oldest first; at most a quarter of them are internal.

    Successful probes come by the thousand and explain nothing. So once the internal records fill their quarter, a new
    one replaces the oldest internal one. A history of fewer than four records keeps none of them. All other records
    are appended.
    """

    __slots__ = ("_internal", "_most_internal", "maxlen")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.maxlen = size
        self._internal = 0
        """An upper bound of the internal records: appending another record may have pushed one out."""
        self._most_internal = size // 4

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.maxlen,), {"_internal": self._internal}, iter(self)

    def __setstate__(self, state: dict[str, int]) -> None:
        self._internal = state["_internal"]

    def __copy__(self) -> History:
        found = History(self.maxlen)
        found.extend(self)
        found._internal = self._internal
        return found

    copy = __copy__

    def append(self, record: TransitionRecord) -> None:
        """Keep a record, and drop the oldest one when there are too many."""
        list.append(self, record)  # a list, for a deque begins with 600 bytes
        if len(self) > self.maxlen:
            del self[0]

    def note(self, record: TransitionRecord) -> None:
        """Keep a record, and drop the oldest internal one when there are too many."""
        if record.internal:
            if self._internal >= self._most_internal and not self._make_room():
                return
            self._internal += 1
        self.append(record)

    def _make_room(self) -> bool:
        kept = [index for index, each in enumerate(self) if each.internal]
        if len(kept) >= self._most_internal and kept:
            del self[kept.pop(0)]
        self._internal = len(kept)
        return self._internal < self._most_internal


def unwritten(machine: Any) -> TransitionRecord:
    """The record of a machine without a transition so far."""
    kind: type[TransitionRecord] = machine.record_type
    added = {name: getattr(machine, name) for name in kind._fields[len(TransitionRecord._fields) :]}
    return kind("", machine.state, machine.state, True, None, 0.0, 0.0, **added)

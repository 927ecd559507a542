"""Transitions as values: one `TransitionRecord` for each row of the table that was taken.

Records hold no machine, so that keeping them keeps nothing else alive.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import attrs

__all__ = ["History", "Snapshot", "TransitionRecord"]


class TransitionRecord(NamedTuple):
    """One transition, written at the moment it was taken.

    A named tuple and not an attrs class because one is made inside every dispatch: it costs a quarter.
    """

    trigger: str
    """What was fired: a `Trigger`, or the name of one that a subclass added."""
    source: str
    """The state before."""
    dest: str
    """The state after. The same as `source` for an internal and for a self transition."""
    internal: bool
    """True when the state was not left at all, so its activity went on."""
    reason: BaseException | None
    """The error behind the transition; None when there was none."""
    dwell: float
    """Seconds spent in `source`, by the event loop's clock."""
    at: float
    """When, in seconds of the event loop's clock (`loop.time()`)."""

    def __str__(self) -> str:
        arrow = f"{self.source} (stays)" if self.internal else f"{self.source} -> {self.dest}"
        why = f": {type(self.reason).__name__}" if self.reason is not None else ""
        return f"{arrow} on {self.trigger}{why}"


@attrs.frozen(kw_only=True)
class Snapshot:
    """Where a machine stands at one moment."""

    state: str
    visit: int
    """Which stay in a state it is, counted from 0."""
    since: float | None
    """When the state was entered, by the event loop's clock; None when nothing has happened yet."""
    activity: str | None
    """The method that runs: that of the present state, or of the last one, if that is still cleaning up."""
    is_resting: bool
    """Whether the activity of the present state has said that from here on it only waits."""


class History(deque[TransitionRecord]):
    """The last records, oldest first: at most `size` of them, and at most a quarter of these internal.

    Probes that pass come by the thousand, and a history of nothing else explains nothing: so an internal record takes
    the place of the oldest internal one, once they have their quarter. Those of which there is not even a whole one,
    in a history of less than four, are not kept.
    """

    __slots__ = ("_internal", "_most_internal")

    def __init__(self, size: int) -> None:
        super().__init__(maxlen=size)
        self._internal = 0
        self._most_internal = size // 4

    def note(self, record: TransitionRecord) -> None:
        """Keep a record, and let go of what there is no room for any more."""
        if record.internal and not self._has_room_for_internal():
            return
        if len(self) == self.maxlen and self:
            self._internal -= self[0].internal
        self._internal += record.internal
        self.append(record)

    def _has_room_for_internal(self) -> bool:
        if self._internal and self._internal == self._most_internal:
            del self[next(index for index, record in enumerate(self) if record.internal)]
            self._internal -= 1
        return self._internal < self._most_internal

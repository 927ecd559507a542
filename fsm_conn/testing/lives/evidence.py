"""The evidence for checks and oracles: a machine, its loop, and everything that has happened to it so far.

A life is an `Evidence` with steps. So a check is a plain function of the evidence, and does not depend on how the life
is driven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.lives.domain import Domain
from fsm_conn.testing.lives.script import Script
from fsm_conn.testing.lives.silenced import Logged
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["Evidence", "activity_in"]

PartT = TypeVar("PartT")


class Evidence:
    """A machine of any kind, and its past.

    Attributes:
        machine: the machine under test.
        loop: the loop in which it lives.
        script: the steps so far.
        seen: the transitions that a plain observer received.
        seen_slowly: the transitions that an async observer received.
        checked: the number of records at the last check at rest.
        ended: whether the life has ended, or is about to.
        values: for a state and a trigger, the values that each parameter of the trigger gets.
        sampled: descriptions of choices where `options` offered only some of many values.
        ignored: names of invariants that are not checked.
        logged: errors that the package has logged, each with its traceback.
        late: listens to triggers that are fired too late; None where no code of the user's own could do so.
        steps_in: how many steps were begun in each state.
    """

    machine: Any
    loop: VirtualLoop
    script: Script

    def __init__(self) -> None:
        self.seen: list[TransitionRecord] = []
        self.seen_slowly: list[TransitionRecord] = []
        self.checked = 0
        self.ended = False
        self.values: Mapping[tuple[str, str], Mapping[str, Domain]] = {}
        self.sampled: set[str] = set()
        self.ignored: frozenset[str] = frozenset()
        self.steps_in: Counter[str] = Counter()
        self.logged: list[Logged] = []
        self.late: Any = None
        self._parts: dict[type[Any], Any] = {}
        self._kept: list[Any] = []
        self._read = 0

    @property
    def state(self) -> str:
        """The machine's state, as plain text."""
        return str(self.machine._state)  # asked for so often that the way through `state` and `records` counts

    @property
    def records(self) -> Sequence[Any]:
        """All transitions so far."""
        kept, history = self._kept, self.machine._fsm_records
        if history is not None and len(history._fields) != self._read:  # it makes a record anew whenever it is read
            self._read = len(history._fields)
            kept.extend(history[index] for index in range(len(kept), len(history)))
        return kept

    def events(self) -> int:
        """How many events there were so far on which a rule `OfEvents` may depend."""
        return len(self.records)

    def owners(self) -> tuple[type, ...]:
        """The classes whose code runs in this life."""
        return (type(self.machine),)

    def cell(self) -> Any:
        """A coarse description of the moment, used to find moments of other kinds."""
        return self.state

    def next_timer(self) -> float | None:
        """Seconds until the next timer; None when there is none."""
        return self.loop.next_timer()

    def new_records(self) -> Iterator[Any]:
        """Records that were added since the last check at rest."""
        records = self.records
        for index in range(self.checked, len(records)):
            yield records[index]

    def part(self, kind: Callable[[Any], PartT]) -> PartT:
        """The oracle of that kind. It is created from this evidence on the first call."""
        found = self._parts.get(kind)  # type: ignore[call-overload]
        if found is None:
            found = self._parts[kind] = kind(self)  # type: ignore[index]
        return found  # type: ignore[no-any-return]


def activity_in(life: Evidence) -> str | None:
    """The method that runs in the machine; None when none does. Its `snapshot()` has that, too, and takes longer."""
    run = life.machine._fsm_run
    return None if run is None else run.activity

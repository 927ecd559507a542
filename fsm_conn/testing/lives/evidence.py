"""What checks and oracles may look at: a machine, its loop, and all that has happened to it so far.

A life is its own evidence: it is one of these with steps. So a check is a plain function of it, and needs to know
nothing of how a life is lived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.lives.domain import Domain
from fsm_conn.testing.lives.script import Script
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["Evidence"]

PartT = TypeVar("PartT")


class Evidence:
    """A machine of any kind, and what has happened to it.

    Attributes:
        machine: the machine under test.
        loop: the loop in which it lives.
        script: the steps so far.
        seen: the transitions that a plain observer was told of.
        seen_slowly: those that an async observer was told of.
        checked: how many of the records had been there at the last check at rest.
        ended: whether the life is over, or about to be.
        values: for a state and a trigger, the values of everything that it is fired with.
        sampled: where `options` offered some of many values, in words.
        ignored: names of invariants that are not checked.
        logged: errors that the package has logged.
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
        self.logged: list[BaseException] = []
        self._parts: dict[type[Any], Any] = {}

    @property
    def state(self) -> str:
        """The machine's state, as plain text."""
        return str(self.machine.state)

    @property
    def records(self) -> Sequence[Any]:
        """All transitions so far."""
        return self.machine.records  # type: ignore[no-any-return]

    def cell(self) -> Any:
        """What kind of moment this is, coarsely: for those who look for moments of other kinds."""
        return self.state

    def next_timer(self) -> float | None:
        """Seconds until something happens by itself; None when nothing will."""
        return self.loop.next_timer()

    def new_records(self) -> Iterator[Any]:
        """Records that no check at rest has seen yet."""
        records = self.records
        for index in range(self.checked, len(records)):
            yield records[index]

    def part(self, kind: Callable[[Any], PartT]) -> PartT:
        """The oracle of that kind, which is made of this evidence when it is first asked for."""
        found = self._parts.get(kind)  # type: ignore[call-overload]
        if found is None:
            found = self._parts[kind] = kind(self)  # type: ignore[index]
        return found  # type: ignore[no-any-return]

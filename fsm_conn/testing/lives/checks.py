"""What an invariant is, when it holds, and the error that tells of a life in which one does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.lives.script import Script, table

if TYPE_CHECKING:
    from fsm_conn.testing.lives.life import Life

__all__ = ["ALWAYS", "AT_REST", "AT_THE_END", "EPSILON", "Invariant", "ViolationError", "invariant", "new_records"]

ALWAYS, AT_REST, AT_THE_END = "always", "at rest", "at the end"

EPSILON = 1e-4
"""Seconds that the sums of virtual time may be off."""

Check = Callable[["Life"], str | None]


class ViolationError(FsmConnError, AssertionError):
    """A life in which an invariant does not hold.

    Attributes:
        invariant: its name.
        trace: the life that led there; `replay(script)` lives it again.
        records: the transitions that were taken.
    """

    def __init__(
        self, invariant: str, message: str, script: Script | None = None, records: Sequence[TransitionRecord] = ()
    ) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant
        self.message = message
        self.script = script
        self.records = tuple(records)

    def __str__(self) -> str:
        return (
            f"{self.invariant}: {self.message}\n\n"
            f"The life that led there, as a program:\n\n{_indented(str(self.script))}\n\n"
            f"What came of it:\n\n{table(self.records)}\n"
        )


@attrs.frozen(eq=False)
class Invariant:
    """Something that must hold."""

    name: str
    moment: str
    check: Check
    """Returns what is wrong, or None."""

    @property
    def doc(self) -> str:
        """What it says, in a sentence."""
        return (self.check.__doc__ or "").strip()


def invariant(moment: str = AT_REST) -> Callable[[Check], Invariant]:
    """Make an invariant of a function of a `Life` that returns what is wrong, or None. Its name is the function's."""
    if moment not in (ALWAYS, AT_REST, AT_THE_END):
        raise ValueError(f"@invariant({moment!r}): give {ALWAYS!r}, {AT_REST!r} or {AT_THE_END!r}")

    def decorate(check: Check) -> Invariant:
        return Invariant(check.__name__, moment, check)

    return decorate


def new_records(life: Life) -> Iterator[ConnectionRecord]:
    """Records that no check at rest has seen yet."""
    records = life.records
    for index in range(life.checked, len(records)):
        yield records[index]


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())

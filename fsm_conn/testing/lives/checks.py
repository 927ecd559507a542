"""Invariants, the moments when they must hold, and the error for a life that breaks one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import attrs

from fsm_conn._util.keywords import explained
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.lives.evidence import Evidence
from fsm_conn.testing.lives.script import Script, table

__all__ = [
    "AFTER_EVENTS",
    "ALWAYS",
    "AT_REST",
    "AT_THE_END",
    "EPSILON",
    "Finding",
    "Invariant",
    "OfEvents",
    "ViolationError",
    "broken",
    "chosen",
    "invariant",
]

ALWAYS, AT_REST, AT_THE_END = "always", "at rest", "at the end"
AFTER_EVENTS = "at rest, after events"
"""The moment for `OfEvents`."""

EPSILON = 1e-4
"""Seconds by which sums of virtual time may be off."""

EvidenceT = TypeVar("EvidenceT", bound=Evidence)


class ViolationError(FsmConnError, AssertionError):
    """A life in which an invariant does not hold.

    Attributes:
        invariant: the name of the invariant.
        script: the life that led there; `replay(script)` repeats it.
        records: the transitions that were taken.
        notes: further information, such as how to find the same life again.
        suspects: the user's own functions that took part in it, each with its file and line.
    """

    def __init__(
        self,
        invariant: str,
        message: str,
        script: Script | None = None,
        records: Sequence[TransitionRecord] = (),
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant
        self.message = message
        self.script = script
        self.records = tuple(records)
        self.notes = tuple(notes)
        self.suspects: tuple[str, ...] = ()

    @property
    def signature(self) -> tuple[str, str]:
        """Identifies this violation: the rule, and the cause where the message names it."""
        blamed, has_bug, _ = self.message.partition(" has a bug: ")
        return self.invariant, blamed if has_bug else ""

    def __str__(self) -> str:
        notes = "".join(f"\n{note}\n" for note in self.notes)
        return (
            f"{self.invariant}: {self.message}\n{_looked_at(self.suspects, self.message)}\n"
            f"The life that led there, as a program:\n\n{_indented(str(self.script))}\n\n"
            f"What came of it:\n\n{table(self.records)}\n{notes}"
        )


@attrs.frozen
class Finding:
    """A mistake that was found."""

    name: str
    """The name of the rule."""
    message: str
    cause: BaseException | None = None


@attrs.frozen(eq=False)
class Invariant:
    """A rule that must hold."""

    name: str
    moment: str
    check: Callable[[Any], str | None]
    """Takes the `Evidence`; returns what is wrong, or None."""

    @property
    def doc(self) -> str:
        """The rule, as one sentence."""
        return (self.check.__doc__ or "").strip()


@attrs.frozen(eq=False)
class OfEvents(Invariant):
    """A rule about events alone, to be checked at rest: only when there was an event since the last check."""


@explained()
def invariant(moment: str = AT_REST) -> Callable[[Callable[[EvidenceT], str | None]], Invariant]:
    """Make an invariant of a function of an `Evidence`, such as a `Life`, that returns what is wrong, or None.

    Its name is the function's. Write it as `@invariant()`, or `@invariant("always")`.
    """
    if moment not in (ALWAYS, AT_REST, AT_THE_END):
        raise ValueError(f"@invariant({moment!r}): give {ALWAYS!r}, {AT_REST!r} or {AT_THE_END!r}")

    def decorate(check: Callable[[EvidenceT], str | None]) -> Invariant:
        return Invariant(check.__name__, moment, check)

    return decorate


@lru_cache(maxsize=16)  # many lives in a row ask for the same
def chosen(
    invariants: tuple[Invariant, ...], rules: tuple[str, ...], ignore: tuple[tuple[str, str], ...]
) -> dict[str, list[Invariant]]:
    """The invariants to check, by moment.

    Args:
        invariants: all available invariants.
        rules: names of the rules that are checked during a step.
        ignore: names of those not to check, each with the reason why.

    Raises:
        ValueError: a name to ignore is unknown, or has no reason.
    """
    names = {*rules, *(invariant.name for invariant in invariants)}
    for name, reason in ignore:
        if name not in names:
            raise ValueError(f"ignore: there is no invariant {name!r}; there are {', '.join(sorted(names))}")
        if not reason:
            raise ValueError(f"ignore: say why {name!r} need not hold")
    found: dict[str, list[Invariant]] = {ALWAYS: [], AT_REST: [], AFTER_EVENTS: [], AT_THE_END: []}
    for invariant in invariants:
        if invariant.name not in dict(ignore):
            found[AFTER_EVENTS if isinstance(invariant, OfEvents) else invariant.moment].append(invariant)
    return found


def broken(evidence: Evidence, invariants: dict[str, list[Invariant]], moments: Iterable[str]) -> Finding | None:
    """The first invariant of these moments that does not hold."""
    for moment in moments:
        for invariant in invariants[moment]:
            message = invariant.check(evidence)
            if message is not None:
                return Finding(invariant.name, message)
    return None


def _looked_at(suspects: Sequence[str], message: str) -> str:
    """Where to look, unless the message already says it."""
    places = [each.rpartition(", ")[2] for each in suspects]
    if not places or any(place.rpartition(":")[0] in message for place in places):
        return ""
    return f"Look at {'; '.join(suspects)}\n"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())

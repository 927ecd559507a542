"""How a class under test differs from `Connection`, so that it is not judged by rules that do not apply to it.

An invariant that relies on how `Connection` works asks here first whether the class works in the same way. The answer
is computed once for each class, and dropped with the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import attrs

from fsm_conn.connection.connection import Connection
from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.table import ACTIVITY_PREFIX, Transition

__all__ = ["BASE_TRIGGERS", "COUNTING", "ENDED", "OPENING", "Overrides", "activity_of", "overrides_of"]

S, T = ConnectionState, Trigger
ENDED = frozenset({S.DISCONNECTED, S.FAILED})
"""States in which a connection rests without a link."""
BASE_TRIGGERS = frozenset(map(str, Trigger))
_GUARDS = frozenset({"may_retry", "may_restart", "is_unhealthy"})
_OUTCOMES = frozenset({None, S.RECONNECTING, S.FAILED})


_FAILING = frozenset({T.OPEN_FAILED, T.LOST, T.PROBE_FAILED})
"""Triggers after which the connection decides whether to open a link again."""
COUNTING = (
    "begin_outage",
    "begin_half_open",
    "count_attempt",
    "reset_if_stable",
    "note_loss",
    "forget_losses",
    "note_opened",
)
"""Effects that count attempts and losses."""
OPENING = ("while_connecting", "while_reconnecting")
"""Activities that open links."""
_UNJUDGED = (
    (("gives_up_only_when_it_must",), ("may_retry", "may_restart", *COUNTING)),
    (("attempts_are_counted", "delays_are_kept"), COUNTING),
    (("delays_are_kept", "deadlines_are_kept", "waits_are_bounded"), OPENING),
    (("recovery_is_careful",), ("may_recover", "while_failed")),
    (("probes_are_counted",), ("is_unhealthy",)),
    (("peers_are_asked",), ("while_connected", "probe")),
)
"""Rules, and the methods that a class must not override if the rule is to be applied in full."""


def activity_of(state: str) -> str:
    """The name of the method that is the activity of `state`."""
    return ACTIVITY_PREFIX + state


@attrs.frozen(eq=False)
class Overrides:
    """The differences of one class."""

    acting: frozenset[str]
    """States with an activity of the class's own."""
    own: frozenset[str]
    """Methods of `Connection` that the class has overridden, and activities that only this class has."""
    own_triggers: tuple[str, ...]
    """Triggers that its table adds to those of the base table."""
    guards: Mapping[str, tuple[str, ...]]
    """For each state, the guards of the rows that start there."""
    effects: Mapping[tuple[str, str, str], tuple[str, ...]]
    """For each trigger, source and dest, the effects of the first such row."""
    refused: Mapping[str, tuple[str, ...]]
    """For each state, the triggers of the base table that it does not handle."""
    decided_elsewhere: frozenset[tuple[str, str]]
    """Triggers and states with other guards or destinations than in the base table."""
    ending: frozenset[str]
    """States that a `disconnect` leads to or through."""
    inescapable: tuple[str, ...]
    """States that should handle a `disconnect`, and do not."""

    def has_own(self, *names: str) -> bool:
        """Whether the class overrides any of these methods."""
        return not self.own.isdisjoint(names)

    def is_own_guard(self, name: str) -> bool:
        """Whether a guard is not one of `Connection`'s."""
        return name in self.own or not hasattr(Connection, name)

    def unjudged(self) -> dict[str, str]:
        """Rules that are not applied to the class, each with the difference that is the reason."""
        found: dict[str, str] = {}
        for rules, names in _UNJUDGED:
            own = [name for name in names if name in self.own]
            if own:
                found.update(dict.fromkeys(rules, f"{own[0]}() is the class's own"))
        for trigger, source in sorted(each for each in self.decided_elsewhere if each[0] in _FAILING):
            found.setdefault("gives_up_only_when_it_must", f"{trigger!r} in {source!r} is decided by rows of its own")
        return found

    def acts_by_itself(self, *states: str) -> bool:
        """Whether any of these states has an activity of the class's own."""
        return not self.acting.isdisjoint(states)


_known: WeakKeyDictionary[type[Connection], Overrides] = WeakKeyDictionary()


def overrides_of(owner: type[Connection]) -> Overrides:
    """The differences of a class."""
    found = _known.get(owner)
    if found is None:
        found = _known[owner] = _found_out(owner)
    return found


def _found_out(owner: type[Connection]) -> Overrides:
    lifecycle = owner.lifecycle
    rows = [(row, str(source)) for row in lifecycle.transitions for source in row.sources(lifecycle.states)]
    ending = _ending(rows)
    guards: dict[str, list[str]] = {str(name): [] for name in lifecycle.states}
    effects: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for row, source in rows:
        guards[source] += row.guards
        effects.setdefault((str(row.trigger), source, source if row.dest is None else str(row.dest)), row.effects)
    own = _own(owner, lifecycle)
    return Overrides(
        acting=frozenset(str(state) for state in lifecycle.states if activity_of(str(state)) in own),
        own=own,
        own_triggers=tuple(sorted({str(row.trigger) for row, _ in rows} - BASE_TRIGGERS)),
        guards={state: tuple(sorted(set(names))) for state, names in guards.items()},
        effects=effects,
        refused={
            str(state): tuple(sorted(each for each in BASE_TRIGGERS if not lifecycle.handles(state, each)))
            for state in lifecycle.states
        },
        decided_elsewhere=frozenset((str(row.trigger), source) for row, source in rows if _is_unusual(row)),
        ending=ending,
        inescapable=tuple(
            str(state)
            for state in lifecycle.states
            if state not in ending and not lifecycle.handles(state, T.DISCONNECT)
        ),
    )


def _own(owner: type[Connection], lifecycle: BoundTable) -> frozenset[str]:
    names = {name for name in dir(Connection) if not name.startswith("__")} | set(lifecycle.activities.values())
    return frozenset(name for name in names if getattr(owner, name, None) is not getattr(Connection, name, None))


def _is_unusual(row: Transition) -> bool:
    return not _GUARDS.issuperset(row.guards) or row.dest not in _OUTCOMES


def _ending(rows: list[tuple[Transition, str]]) -> frozenset[str]:
    """The states through which a disconnect leads, up to `disconnected`, where it stops."""
    found = {str(row.dest) for row, _ in rows if row.trigger == T.DISCONNECT and row.dest is not None}
    found.add(str(S.DISCONNECTED))
    fresh = found - {S.DISCONNECTED}
    while fresh:
        fresh = {str(row.dest) for row, source in rows if source in fresh and row.dest is not None} - found
        found |= fresh
    return frozenset(found)

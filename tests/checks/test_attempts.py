"""What FSM114 says of a table is what walks through it show, whatever its guards say.

Random rows are added to the base table. Every walk is taken, with whether a counted attempt is waiting to be made as
the only memory; who begins an attempt while none is waiting is what is to be found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from extent import far
from hypothesis import given, settings
from hypothesis import strategies as st

from fsm_conn import Connection, Transition
from fsm_conn.checks import check

RESTS = ("parked", "asleep", "waiting")
OPENING = ("connecting", "reconnecting")
SPENDING = ("disconnected", "failed", "connected", *OPENING)
"""States in which a counted attempt was made, or is not wanted any more."""


async def tidies(self: Any) -> None:
    """Close the link, so that nothing else is found."""
    await self._release()


def owner_with(rows: Iterable[Transition]) -> type[Connection]:
    members = {f"while_{name}": tidies for name in RESTS}
    table = {"states": (*Connection.states, *RESTS), "transitions": (*rows, *Connection.transitions)}
    return type("Mine", (Connection,), {**table, **members})


def walked(owner: type[Connection]) -> set[str]:
    """The rows by which some walk begins an attempt that was not counted, with the state it starts from."""
    states = owner.lifecycle.states
    found: set[str] = set()
    seen: set[tuple[str, bool]] = set()
    fresh = {("disconnected", False)}
    while fresh:
        state, waiting = fresh.pop()
        seen.add((state, waiting))
        for row in owner.lifecycle.transitions:
            if state not in row.sources(states) or row.dest is None:
                continue
            counted = "count_attempt" in row.effects or (waiting and state not in SPENDING)
            if row.dest in OPENING and not counted:
                found.add(f"{row.trigger} from {state}")
            if (str(row.dest), counted) not in seen:
                fresh.add((str(row.dest), counted))
    return found


def told(owner: type[Connection]) -> set[str]:
    found = set()
    for each in check(owner):
        if each.code == "FSM114":
            trigger, _, way = each.place.partition(": ")
            found |= {f"{trigger} from {state}" for state in way.partition(" -> ")[0].split("|")}
    return found


@st.composite
def tables(draw: st.DrawFn) -> list[Transition]:
    """Rows between the states of rest and those of the base table, each by a trigger of its own."""
    sources = st.sampled_from((*RESTS, "disconnected", "connecting", "connected", "failed"))
    dests = st.sampled_from((*RESTS, *OPENING))
    effects = st.sampled_from(((), (), ("count_attempt",), ("begin_outage", "count_attempt"), ("begin_outage",)))
    drawn = draw(st.lists(st.builds(Transition, st.just("t"), sources, dests, effects=effects), max_size=8))
    return [attrs.evolve(row, trigger=f"t{number}") for number, row in enumerate(drawn)]


@settings(deadline=None, max_examples=far(100))
@given(tables())
def test_what_is_found_is_what_some_walk_does(rows: list[Transition]) -> None:
    """In both directions."""
    owner = owner_with(rows)
    assert told(owner) == walked(owner)


def test_there_is_something_to_compare() -> None:
    """A way through two states of rest, one that counts and one that does not."""
    rows = [
        Transition("t0", "connected", "parked"),
        Transition("t1", "parked", "asleep", effects="count_attempt"),
        Transition("t2", "parked", "waiting"),
        Transition("t3", RESTS, "reconnecting"),
    ]
    assert told(owner_with(rows)) == walked(owner_with(rows)) == {"t3 from parked", "t3 from waiting"}

"""One dispatched trigger of a connection, against the bare machine doing the same transition on the same object.

The work is a walk through the table: connected, lost, connected again, lost, connected, a probe that passed, closed.
`conn.fire(trigger)` decides, changes the state, writes a record and keeps it in the history of 64; the activities
are set aside by a subclass whose table names none, and nobody observes. Against it, `machine.events[n].trigger(obj)`
of a `transitions.Machine` made from the same table, on a connection too, so that guards and effects are the same and
are counted on both sides. The second row leaves them out of the other side: a machine with the same states and rows and
nothing to call, which is the least that `transitions` itself can do.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

from transitions import Machine

from benchmarks.core import Progress, Row, against, row_of, turns
from fsm_conn import Connection, Trigger

WALK = (
    Trigger.CONNECT,
    Trigger.OPENED,
    Trigger.LOST,
    Trigger.OPENED,
    Trigger.LOST,
    Trigger.OPENED,
    Trigger.PROBE_PASSED,
    Trigger.DISCONNECT,
    Trigger.CLOSED,
)
WALKS = 60
"""Walks in one sample, which makes one of about five milliseconds."""


class Idle(Connection):
    """A connection whose states have nothing to do."""


Idle.lifecycle.activities = {}


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    return asyncio.run(_measured(50 if quick else 400, progress))


async def _measured(rounds: int, progress: Progress) -> list[Row]:
    ways = {
        "fire": _fire(),
        "strip_tracebacks": _bare(_same(), Idle(["nothing"])),
        "least": _bare(_least(), _Bare()),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _, (name, walk) in turns(list(ways.items()), rounds + 4, progress):
        times[name].append(_sample(walk))
    warm = {name: taken[4:] for name, taken in times.items()}
    return [
        _row(warm, "strip_tracebacks", "the same guards and effects", 1.0),
        _row(
            warm,
            "least",
            "no guards, no effects",
            None,
            "The other side calls nothing: it counts no attempt, asks no policy, and keeps no record.",
        ),
    ]


def _fire() -> Callable[[], None]:
    conn = Idle(["nothing"])

    def walk() -> None:
        for trigger in WALK:
            conn.fire(trigger)

    return walk


def _bare(machine: Machine, thing: Any) -> Callable[[], None]:
    setattr(thing, machine.model_attribute, "disconnected")  # as a plain string, which is all that it knows

    def walk() -> None:
        for trigger in WALK:
            machine.events[trigger].trigger(thing, None)

    return walk


class _Bare:
    state = "disconnected"


def _same() -> Any:
    """What `transitions` itself makes of the table."""
    lifecycle = Idle.lifecycle
    machine: Any = Machine(
        model=None,
        states=[{"name": str(name), "on_enter": "entered"} for name in lifecycle.states],
        auto_transitions=False,
        model_attribute="_state",
    )
    for row in lifecycle.transitions:
        dest = None if row.dest is None else str(row.dest)
        sources = [str(name) for name in row.sources(lifecycle.states)]
        guards, effects = list(row.guards), list(row.effects)
        machine.add_transition(str(row.trigger), sources, dest, conditions=guards, before=effects)
    return machine


def _least() -> Machine:
    """The table without its guarded alternatives, which the walk does not take."""
    lifecycle = Idle.lifecycle
    machine = Machine(model=None, states=[str(name) for name in lifecycle.states], auto_transitions=False)
    for row in lifecycle.transitions:
        dest = None if row.dest is None else str(row.dest)
        machine.add_transition(str(row.trigger), [str(name) for name in row.sources(lifecycle.states)], dest)
    return machine


def _sample(walk: Callable[[], None]) -> float:
    """Microseconds for one trigger."""
    began = time.perf_counter()
    for _ in range(WALKS):
        walk()
    return (time.perf_counter() - began) / (WALKS * len(WALK)) * 1e6


def _row(times: dict[str, list[float]], other: str, what: str, goal: float | None, why: str = "") -> Row:
    ours, theirs = statistics.median(times["fire"]), statistics.median(times[other])
    return row_of(
        against(times["fire"], times[other]),
        name=f"one trigger, {what}",
        work="decision, record and history, against the bare machine",
        unit="x",
        goal=goal,
        detail=f"{ours:.1f} against {theirs:.1f} us",
        why=why,
    )

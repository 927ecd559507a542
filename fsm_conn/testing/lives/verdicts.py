"""Finds what is wrong in a life: an invariant that does not hold, a caller told what nobody should be told.

Everything here only looks. What it finds is a name and a message; `Life` ends with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs

from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.table import ACTIVITY_PREFIX
from fsm_conn.testing.lives.caller_oracle import User
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, AT_THE_END, Invariant
from fsm_conn.testing.lives.invariants import RULES_OF_STEPS, nobody_watches, raised_in_row, watch_it
from fsm_conn.testing.lives.spinning import Spinning
from fsm_conn.testing.simulated import is_deadline

if TYPE_CHECKING:
    from fsm_conn.testing.lives.life import Life

__all__ = ["Finding", "broken", "chosen", "left_by_the_loop", "told_wrongly", "why_it_spins"]

_TIMED_CALLS = frozenset({"call_patiently"})
"""Steps by which somebody makes a call that has a deadline."""


@attrs.frozen
class Finding:
    """Something that is wrong."""

    name: str
    """Of the rule."""
    message: str
    cause: BaseException | None = None


@lru_cache(maxsize=16)  # life after life has the same
def chosen(invariants: tuple[Invariant, ...], ignore: tuple[tuple[str, str], ...]) -> dict[str, list[Invariant]]:
    """The invariants to check, by moment.

    Raises:
        ValueError: one to be ignored is unknown, or no reason is given for it.
    """
    names = {*RULES_OF_STEPS, *(invariant.name for invariant in invariants)}
    for name, reason in ignore:
        if name not in names:
            raise ValueError(f"ignore: there is no invariant {name!r}; there are {', '.join(sorted(names))}")
        if not reason:
            raise ValueError(f"ignore: say why {name!r} need not hold")
    found: dict[str, list[Invariant]] = {ALWAYS: [], AT_REST: [], AT_THE_END: []}
    for invariant in invariants:
        if invariant.name not in dict(ignore):
            found[invariant.moment].append(invariant)
    return found


def broken(life: Life, invariants: dict[str, list[Invariant]], moments: Iterable[str]) -> Finding | None:
    """The first invariant of these moments that does not hold."""
    for moment in moments:
        for invariant in invariants[moment]:
            message = invariant.check(life)
            if message is not None:
                return Finding(invariant.name, message)
    return None


def told_wrongly(life: Life, user: User) -> Finding | None:
    """What a caller was told must be something that callers are told."""
    if user.task.cancelled():
        if user.cancelled:
            return None
        return Finding("cancellation_is_honest", f"{user.method}() was cancelled, and nobody had cancelled it")
    error = user.task.exception()
    if error is None or isinstance(error, FsmConnError) or (user.method in _TIMED_CALLS and is_deadline(error)):
        return None
    culprit = raised_in_row(life, error)
    if culprit and "faults_have_a_cause" not in life.ignored:
        return Finding("faults_have_a_cause", f"{culprit} has a bug: {error!r}, and {user.method}() was told", error)
    return Finding("errors_are_ours", f"{user.method}() raised {error!r}, which is none of the package's errors", error)


def why_it_spins(spinning: Spinning) -> str:
    """Who goes on and on, and what to write instead."""
    who = spinning.task.rpartition(".")[2]
    who = f"{who}()" if who.startswith(ACTIVITY_PREFIX) else spinning.task
    refused = "returns" if spinning.refusal is None else f"raises {spinning.refusal!r}"
    return (
        f"{who} calls {spinning.method}() again and again, which {refused} at once, so nothing "
        f"else can run; do not catch everything there: let CancelledError pass, and let time pass between attempts"
    )


def left_by_the_loop(life: Life, tasks: set[asyncio.Task[None]]) -> str:
    """What was left behind by a loop that ended while these tasks ran."""
    stubborn = sorted(task.get_name() for task in tasks if not task.done())
    if stubborn:
        return f"the loop cannot end, for {stubborn[0]} goes on when it is cancelled; let CancelledError pass in it"
    if life.peer.open_now:
        remedy = f": {life.state!r} has no activity; {watch_it(life.state)}" if nobody_watches(life) else ""
        return f"the loop has ended, and {life.peer.open_now} links are still open{remedy}"
    resting = life.conn.lifecycle.states[life.state].final
    return "" if resting else f"the loop has ended, and the connection is still in {life.state!r}"

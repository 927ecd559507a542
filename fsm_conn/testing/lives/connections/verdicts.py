"""Finds what is wrong in a life: a broken invariant, or a caller that was told something wrong.

This code only reads. A finding ends the life.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fsm_conn.connection.connection import Connection
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.table import ACTIVITY_PREFIX
from fsm_conn.testing.lives.checks import Finding
from fsm_conn.testing.lives.connections.evidence import ConnectionEvidence, User
from fsm_conn.testing.lives.connections.invariants import nobody_watches, watch_it
from fsm_conn.testing.lives.connections.spinning import Spinning
from fsm_conn.testing.lives.culprits import blamed, blamed_row
from fsm_conn.testing.lives.suspects import suspects_in_class
from fsm_conn.testing.simulated import is_deadline

__all__ = ["left_by_the_loop", "suspects_in_links", "told_wrongly", "why_it_spins"]

_TIMED_CALLS = frozenset({"call_patiently"})
"""Steps in which a caller makes a call with a deadline."""


def told_wrongly(life: ConnectionEvidence, user: User) -> Finding | None:
    """Callers must receive only documented results and errors."""
    if user.task.cancelled():
        if user.cancelled:
            return None
        return Finding("cancellation_is_honest", f"{user.method}() was cancelled, and nobody had cancelled it")
    error = user.task.exception()
    if error is None or isinstance(error, FsmConnError) or (user.method in _TIMED_CALLS and is_deadline(error)):
        return None
    culprit = blamed_row(life.conn, error)
    if culprit and "faults_have_a_cause" not in life.ignored:
        return Finding("faults_have_a_cause", f"{culprit} has a bug: {error!r}, and {user.method}() was told", error)
    whose = blamed(life.conn, error).rstrip(",")
    told = f"{user.method}() raised {error!r}, which is none of the package's errors{whose and '; raised by '}{whose}"
    return Finding("errors_are_ours", told, error)


def why_it_spins(spinning: Spinning) -> str:
    """Which method runs for ever, and what to write instead."""
    who = spinning.task.rpartition(".")[2]
    who = f"{who}()" if who.startswith(ACTIVITY_PREFIX) else spinning.task
    refused = "returns" if spinning.refusal is None else f"raises {spinning.refusal!r}"
    return (
        f"{who} calls {spinning.method}() again and again, which {refused} at once, so nothing "
        f"else can run; do not catch everything there: let CancelledError pass, and let time pass between attempts"
    )


def suspects_in_links(conn: Connection) -> tuple[str, ...]:
    """The user's own methods in the links of a connection. One more link is made to find its class."""
    with suppress(Exception):  # an error here is unrelated to the finding
        return suspects_in_class(type(conn._make_link()))
    return ()


def left_by_the_loop(life: ConnectionEvidence, tasks: set[asyncio.Task[None]]) -> str:
    """What a loop left behind that ended while these tasks ran."""
    stubborn = sorted(task.get_name() for task in tasks if not task.done())
    if stubborn:
        return f"the loop cannot end, for {stubborn[0]} goes on when it is cancelled; let CancelledError pass in it"
    if life.peer.open_now:
        remedy = f": {life.state!r} has no activity; {watch_it(life.state)}" if nobody_watches(life) else ""
        return f"the loop has ended, and {life.peer.open_now} links are still open{remedy}"
    resting = life.conn.lifecycle.states[life.state].final
    return "" if resting else f"the loop has ended, and the connection is still in {life.state!r}"

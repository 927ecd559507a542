"""What must hold in every life, by name.

Each invariant is a function of the life that returns what is wrong, or None. It holds at one of three moments:
`ALWAYS`, after every step, even when others are about to run; `AT_REST`, when nothing can go on at the present time;
`AT_THE_END`, when the peer does all it is asked, and the connection was disconnected for good.

Beside these, the steps of a life have rules of their own, by the names `no_deadlock`, `refusals_change_nothing`,
`cancellation_is_honest`, `errors_are_ours`, `liveness` and `disconnect_ends_disconnected`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from fsm_conn.errors import FsmConnError
from fsm_conn.lifecycle import ConnectionState, Trigger
from fsm_conn.policy import Jitter, RetryPolicy
from fsm_conn.record import TransitionRecord
from fsm_conn.testing.trace import Trace, table

if TYPE_CHECKING:
    from fsm_conn.testing.life import Life

__all__ = ["ALWAYS", "AT_REST", "AT_THE_END", "INVARIANTS", "Invariant", "ViolationError", "invariant"]

ALWAYS, AT_REST, AT_THE_END = "always", "at rest", "at the end"

Check = Callable[["Life"], str | None]


class ViolationError(FsmConnError, AssertionError):
    """A life in which an invariant does not hold.

    Attributes:
        invariant: its name.
        trace: the life that led there; `replay(trace)` lives it again.
        records: the transitions that were taken.
    """

    def __init__(
        self, invariant: str, message: str, trace: Trace | None = None, records: Sequence[TransitionRecord] = ()
    ) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant
        self.message = message
        self.trace = trace
        self.records = tuple(records)

    def __str__(self) -> str:
        return (
            f"{self.invariant}: {self.message}\n\n"
            f"The life that led there, as a program:\n\n{_indented(str(self.trace))}\n\n"
            f"What came of it:\n\n{table(self.records)}\n"
        )


@attrs.frozen
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


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _new(life: Life) -> Iterator[TransitionRecord]:
    """Records that no check has seen yet."""
    records = life.conn._records or ()
    count = len(records)
    for index in range(life.checked, count):
        yield records[index]


@invariant(ALWAYS)
def moves_are_rows(life: Life) -> str | None:
    """Every transition that was taken is a row of the table, and begins where the one before it ended."""
    lifecycle = life.conn.lifecycle
    for record in _new(life):
        rows = lifecycle.machine.events[record.trigger].transitions.get(str(record.source), [])
        dests = [None if row.dest is None else str(row.dest) for row in rows]
        if (None if record.internal else str(record.dest)) not in dests:
            return f"the table has no row for {record}"
    records = life.conn._records or ()
    for index in range(max(life.checked, 1), len(records)):
        if records[index - 1].dest != records[index].source:
            return f"the state was assigned outside dispatch: {records[index - 1]}, and then {records[index]}"
    if records and records[-1].dest != life.conn.state:
        return f"the state was assigned outside dispatch: it is {life.state!r} after {records[-1]}"
    return None


@invariant(ALWAYS)
def state_is_in_the_table(life: Life) -> str | None:
    """The state is one of the table's."""
    known = life.conn.lifecycle.states
    return None if life.conn._state in known else f"{life.conn._state!r} is not in the table"


@invariant(ALWAYS)
def guards_are_pure(life: Life) -> str | None:
    """A guard asked twice gives the same answer, and changes nothing."""
    conn = life.conn
    for name in _guards_of(life):
        before = dict(vars(conn))
        answers = [_asked(conn, name), _asked(conn, name)]
        if answers[0] != answers[1]:
            return f"the guard {name}() said {answers[0]} and then {answers[1]}; a guard must only read"
        changed = sorted(key for key in {*before, *vars(conn)} if before.get(key) != vars(conn).get(key))
        if changed:
            return f"the guard {name}() changed {', '.join(changed)}; count in an effect, a guard must only read"
    return None


def _guards_of(life: Life) -> list[str]:
    lifecycle, state = life.conn.lifecycle, life.state
    found = {name for row in lifecycle.transitions if state in row.sources(lifecycle.states) for name in row.guards}
    return sorted(found)


def _asked(conn: Any, name: str) -> Any:
    try:
        return getattr(conn, name)(None)
    except Exception as error:
        return f"{type(error).__name__} ({error})"


@invariant(ALWAYS)
def at_most_one_link(life: Life) -> str | None:
    """Two links are never open at a time, and the link's contract is kept: one open, one close, calls in between."""
    if life.peer.open_now > 1:
        return f"{life.peer.open_now} links are open; release the old one before opening another"
    return life.peer.faults[0] if life.peer.faults else None


@invariant(AT_REST)
def links_are_owned(life: Life) -> str | None:
    """A link is open exactly in the states that own one."""
    state = life.conn.lifecycle.states[life.conn._state]
    if state.owns_link and life.peer.open_now != 1:
        return f"{life.state!r} owns a link, and none is open"
    if not state.owns_link and life.peer.open_now != 0:
        return f"{life.state!r} owns no link, and one is open: its activity must release it"
    return None


@invariant(AT_REST)
def activities_end_with_their_state(life: Life) -> str | None:
    """At most one activity runs, and it is that of the present state, or one that is still cleaning up."""
    if life.conn.forsaken_activities:
        return "an activity ignored its cancellation and had to be left behind; let CancelledError pass in it"
    names = [task.get_name() for task in asyncio.all_tasks(life.loop) if f".{_PREFIX}" in task.get_name()]
    return None if len(names) <= 1 else f"activities overlap: {', '.join(sorted(names))}"


_PREFIX = "while_"


@invariant(ALWAYS)
def attempts_are_within_policy(life: Life) -> str | None:
    """No outage has more attempts than the policy allows."""
    most = life.conn.retry.max_attempts
    if most is not None and life.conn.attempt > most:
        return f"attempt {life.conn.attempt} of at most {most} has begun"
    return None


@invariant(AT_REST)
def delays_are_within_policy(life: Life) -> str | None:
    """After a failed attempt the next one waits at least as long as the policy says."""
    records = life.conn._records or ()
    for at, count in reversed(life.opens_asked):
        if count <= life.checked - 1:
            break
        record = records[count - 1]  # the transition after which the link was made
        if record.trigger != Trigger.OPEN_FAILED or record.dest != ConnectionState.RECONNECTING:
            continue
        waited, least = at - record.at, _least_delay(life.conn.retry, record.attempt - 1)
        if waited < least - 1e-5:
            return f"attempt {record.attempt} began {waited:g} s after a failed one; the policy says {least:g} s"
    return None


def _least_delay(policy: RetryPolicy, attempts: int) -> float:
    if policy.jitter is Jitter.DECORRELATED:
        return min(policy.initial_delay, policy.max_delay)
    whole = attrs.evolve(policy, jitter=Jitter.NONE).delay(attempts, 0.0, None)  # type: ignore[arg-type]
    return {Jitter.NONE: whole, Jitter.EQUAL: whole / 2, Jitter.FULL: 0.0}[policy.jitter]


@invariant(AT_REST)
def plain_observers_saw_everything(life: Life) -> str | None:
    """Plain observers were told of every transition, once and in order, as soon as nothing else can go on."""
    if len(life.seen) != len(life.conn._records or ()) or any(
        life.seen[index] is not record for index, record in enumerate(_tail(life), life.checked)
    ):
        return f"an observer was told of {len(life.seen)} transitions, and there were {len(life.conn.history)}"
    return None


def _tail(life: Life) -> list[TransitionRecord]:
    return list(_new(life))


@invariant(AT_REST)
def async_observers_saw_everything(life: Life) -> str | None:
    """Async observers were told of every transition, once and in order, as soon as nothing else can go on."""
    seen, count = life.seen_slowly, len(life.conn._records or ())
    if len(seen) != count or seen[life.checked :] != life.seen[life.checked :]:
        return f"an async observer was told of {len(seen)} transitions, and there were {count}"
    return None


@invariant(AT_REST)
def nobody_waits_in_vain(life: Life) -> str | None:
    """Who waits for a connection is told as soon as there is one, or will be none."""
    state, conn = life.conn.state, life.conn
    waiting = [user.method for user in life.users]
    if state == ConnectionState.CONNECTED:
        forgotten = [each for each in waiting if each in ("connect", "ensure_connected", "reconnect", "disconnect")]
    elif state in (ConnectionState.DISCONNECTED, ConnectionState.FAILED) and conn._activity is None:
        forgotten = waiting
    else:
        forgotten = []
    return f"in {life.state!r}, {forgotten[0]}() still waits" if forgotten else None


@invariant(AT_REST)
def cancelled_callers_go(life: Life) -> str | None:
    """A caller that was cancelled is gone, unless it is the last one of a connect() and its link is being closed."""
    for user in life.users:
        if user.cancelled and life.conn.state != ConnectionState.DISCONNECTING:
            return f"{user.method}() was cancelled, and goes on waiting in {life.state!r}"
    return None


@invariant(ALWAYS)
def faults_have_a_cause(life: Life) -> str | None:
    """`fault` is fired for bugs, and a life in which the peer's link did not crash has none."""
    for record in _new(life):
        if record.trigger == Trigger.FAULT and "a bug in the simulated link" not in str(record.reason):
            return f"the activity of {str(record.source)!r} has a bug: {record.reason!r}"
    return None


@invariant(AT_THE_END)
def all_links_are_closed(life: Life) -> str | None:
    """Every link that was opened was closed once."""
    peer = life.peer
    return None if peer.opened == peer.closed else f"{peer.opened} links were opened, and {peer.closed} closed"


@invariant(AT_THE_END)
def no_task_is_left(life: Life) -> str | None:
    """A connection at rest has no task."""
    names = [task.get_name() for task in asyncio.all_tasks(life.loop)]
    return None if not names else f"tasks are left: {', '.join(sorted(names))}"


@invariant(AT_THE_END)
def observers_raised_nothing(life: Life) -> str | None:
    """No observer failed."""
    return None if not life.conn.observer_errors else f"{life.conn.observer_errors} observers failed"


INVARIANTS: tuple[Invariant, ...] = (
    state_is_in_the_table,
    moves_are_rows,
    guards_are_pure,
    at_most_one_link,
    links_are_owned,
    activities_end_with_their_state,
    attempts_are_within_policy,
    delays_are_within_policy,
    plain_observers_saw_everything,
    async_observers_saw_everything,
    nobody_waits_in_vain,
    cancelled_callers_go,
    faults_have_a_cause,
    all_links_are_closed,
    no_task_is_left,
    observers_raised_nothing,
)
"""What every life is checked for, unless it is ignored for a reason."""

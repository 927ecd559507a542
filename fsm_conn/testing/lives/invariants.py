"""What must hold in every life, by name.

Each invariant is a function of the life that returns what is wrong, or None. It holds at one of three moments:
`ALWAYS`, after every step, even when others are about to run; `AT_REST`, when nothing can go on at the present time;
`AT_THE_END`, when the peer does all it is asked, and the connection was disconnected for good.

Here stand those about states, links, activities and observers; those about the policy stand in `policy_oracle`, those
about callers in `caller_oracle`, those about time in `limits`.

Beside these, the steps of a life have rules of their own, `RULES_OF_STEPS`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from copy import copy
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.machine.table import ACTIVITY_PREFIX
from fsm_conn.testing.lives.caller_oracle import OF_CALLERS
from fsm_conn.testing.lives.checks import (
    ALWAYS,
    AT_REST,
    AT_THE_END,
    Invariant,
    ViolationError,
    invariant,
    new_records,
)
from fsm_conn.testing.lives.limits import OF_TIME
from fsm_conn.testing.lives.overrides import activity_of
from fsm_conn.testing.lives.policy_oracle import OF_THE_POLICY
from fsm_conn.testing.simulated import is_deadline
from fsm_conn.testing.virtual import waiting

if TYPE_CHECKING:
    from fsm_conn.testing.lives.life import Life

__all__ = [
    "ALWAYS",
    "AT_REST",
    "AT_THE_END",
    "INVARIANTS",
    "RULES_OF_STEPS",
    "Invariant",
    "ViolationError",
    "invariant",
    "nobody_watches",
    "raised_in_row",
    "watch_it",
]

_COLLECTIONS = (list, dict, set, deque, bytearray, Counter, defaultdict)


@invariant(ALWAYS)
def moves_are_rows(life: Life) -> str | None:
    """Every transition that was taken is a row of the table, and begins where the one before it ended."""
    lifecycle = life.conn.lifecycle
    for record in new_records(life):
        rows = lifecycle.rows(record.source, record.trigger)
        dests = [None if row.dest is None else str(row.dest) for row in rows]
        if (None if record.internal else str(record.dest)) not in dests:
            return f"the table has no row for {record}"
    records = life.records
    for index in range(max(life.checked, 1), len(records)):
        if records[index - 1].dest != records[index].source:
            return _assigned(f"{records[index - 1]}, and then {records[index]}")
    if records and records[-1].dest != life.conn._state:
        return _assigned(f"it is {life.state!r} after {records[-1]}")
    return None


def _assigned(how: str) -> str:
    return f"the state was assigned outside dispatch: {how}; fire a trigger instead of assigning a state"


@invariant(ALWAYS)
def state_is_in_the_table(life: Life) -> str | None:
    """The state is one of the table's."""
    known = life.conn.lifecycle.states
    return None if life.conn._state in known else f"{life.state!r} is not in the table"


@invariant(ALWAYS)
def guards_are_pure(life: Life) -> str | None:
    """A guard asked twice gives the same answer, and changes nothing."""
    conn = life.conn
    for name in life.overrides.guards.get(conn._state, ()):
        before = _kept(conn) if life.overrides.is_own_guard(name) else dict(vars(conn))
        answers = [_asked(conn, name), _asked(conn, name)]
        if answers[0] != answers[1]:
            return f"the guard {name}() said {answers[0]} and then {answers[1]}; a guard must only read"
        changed = [] if before == vars(conn) else _differences(before, vars(conn))
        if changed:
            return f"the guard {name}() changed {', '.join(changed)}; count in an effect, a guard must only read"
    return None


def _kept(conn: Any) -> dict[str, Any]:
    """All that a connection has; of lists and dicts what is in them, for that may change while they stay in place."""
    return {key: copy(value) if type(value) in _COLLECTIONS else value for key, value in vars(conn).items()}


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key))


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
    owns_link = life.conn._state in life.conn.linked_states
    if owns_link and life.peer.open_now != 1:
        return f"{life.state!r} owns a link, and none is open"
    if not owns_link and life.peer.open_now != 0:
        return f"{life.state!r} owns no link, and one is open: its activity must release it"
    return None


@invariant(AT_REST)
def activities_end_with_their_state(life: Life) -> str | None:
    """At most one activity runs, and it is that of the present state, or one that is still cleaning up."""
    if life.conn.abandoned_activities:
        return _goes_on(_last_own_state(life), "had to be left behind")
    running = life.conn.snapshot().activity or ""
    if running in life.overrides.own and running != activity_of(life.state) and _is_neglected(life):
        return _goes_on(running.removeprefix(ACTIVITY_PREFIX), f"{life.state!r} has to wait for it")
    if life.checked == len(life.records):
        return None  # no transition since the last time, so no activity has begun
    names = [task.get_name() for task in asyncio.all_tasks(life.loop) if _activity_name(task)]
    return None if len(names) <= 1 else f"activities overlap: {', '.join(sorted(names))}"


def _goes_on(state: str, consequence: str) -> str:
    return (
        f"the activity of {state!r} goes on after its state was left, and {consequence}; "
        f"let CancelledError pass in {activity_of(state)}()"
    )


def _last_own_state(life: Life) -> str:
    """The state left last of those that have an activity of the class's own; of all, if there is none."""
    left = [str(record.source) for record in life.records if not record.internal]
    return next((state for state in reversed(left) if life.overrides.acts_by_itself(state)), left[-1])


def _activity_name(task: asyncio.Task[Any]) -> str:
    """The name of the method, or nothing for a task that is no activity."""
    name = task.get_name().rpartition(".")[2]
    return name if name.startswith(ACTIVITY_PREFIX) else ""


def _is_neglected(life: Life) -> bool:
    """Whether it shows that nobody does what is to be done in the present state."""
    return _loss_is_unseen(life) or (life.conn._state in life.conn.linked_states) != (life.peer.open_now > 0)


@invariant(AT_REST)
def losses_are_noticed(life: Life) -> str | None:
    """A link is watched wherever a connection may rest with it, and one that has gone is not called connected."""
    state = life.state
    if nobody_watches(life):
        return f"a link is open in {state!r}, where nobody watches or closes it; {watch_it(state)}"
    if _loss_is_unseen(life):
        return f"the link is lost, and the state is still {state!r}; {activity_of(state)}() must await link.lost()"
    return None


def nobody_watches(life: Life) -> bool:
    """Whether the connection rests with a link in a state that has no activity."""
    state = life.conn.lifecycle.states[life.conn._state]
    return (
        state.final
        and life.conn._state in life.conn.linked_states
        and life.conn._state not in life.conn.lifecycle.activities
    )


def watch_it(state: str) -> str:
    """What to write in a class so that the link is watched in `state`."""
    return (
        f"write '{activity_of(state)} = Connection.while_connected', and rows for 'lost' from {state!r} "
        "like those from 'connected'"
    )


def _loss_is_unseen(life: Life) -> bool:
    link, state = life.peer.link, life.conn.lifecycle.states[life.conn._state]
    if link is None or not link.is_lost or life.conn._state not in life.conn.linked_states:
        return False
    # Elsewhere than in `connected`, an activity may do other things for a time.
    return life.conn._state == ConnectionState.CONNECTED or (state.final and life.next_timer() is None)


@invariant(AT_REST)
def disconnect_leads_out(life: Life) -> str | None:
    """From every state `disconnect` leads on."""
    if life.conn._state not in life.overrides.inescapable:
        return None
    return (
        f"disconnect() leads nowhere from {life.state!r}; add that state to the sources of a row for 'disconnect', "
        f"such as Transition('disconnect', {life.state!r}, 'disconnecting')"
    )


@invariant(AT_REST)
def plain_observers_saw_everything(life: Life) -> str | None:
    """Plain observers were told of every transition, once and in order, as soon as nothing else can go on."""
    if len(life.seen) != len(life.records) or any(
        life.seen[index] is not record for index, record in enumerate(new_records(life), life.checked)
    ):
        return f"an observer was told of {len(life.seen)} transitions, and there were {len(life.conn.history)}"
    return None


@invariant(AT_REST)
def async_observers_saw_everything(life: Life) -> str | None:
    """Async observers were told of every transition, once and in order, as soon as nothing else can go on."""
    seen, count = life.seen_slowly, len(life.records)
    if len(seen) != count or seen[life.checked :] != life.seen[life.checked :]:
        return f"an async observer was told of {len(seen)} transitions, and there were {count}"
    return None


@invariant(AT_REST)
def nobody_waits_in_vain(life: Life) -> str | None:
    """Who waits for a connection is told as soon as there is one, or will be none."""
    state = life.conn.state
    waiting = [user.method for user in life.users]
    if life.is_serving:
        forgotten = [each for each in waiting if each in ("connect", "ensure_connected", "reconnect", "disconnect")]
    elif state in (ConnectionState.DISCONNECTED, ConnectionState.FAILED) and not _is_cleaning_up(life):
        forgotten = waiting
    else:
        forgotten = []
    return f"in {life.state!r}, {forgotten[0]}() still waits" if forgotten else None


def _is_cleaning_up(life: Life) -> bool:
    """Whether an activity of a state of rest has more to do than to wait for the time to try again."""
    if life.conn.snapshot().activity is None:
        return False
    return life.peer.waits_for("close") or life.peer.open_now > 0 or life.overrides.acts_by_itself(life.state)


@invariant(AT_REST)
def cancelled_callers_go(life: Life) -> str | None:
    """A caller that was cancelled is gone, unless it is the last one of a connect() and its link is being closed."""
    closing = life.state in life.overrides.ending and life.state != ConnectionState.DISCONNECTED
    for user in life.users:
        if user.cancelled and not closing:
            return f"{user.method}() was cancelled, and goes on waiting in {life.state!r}"
    return None


@invariant(ALWAYS)
def faults_have_a_cause(life: Life) -> str | None:
    """`fault` is fired for bugs, and a life in which the peer's link did not crash has none."""
    for record in new_records(life):
        if record.trigger == Trigger.FAULT and "a bug in the simulated link" not in str(record.reason):
            remedy = "; catch it there, and raise a LinkError" if is_deadline(record.reason) else ""
            return f"{_culprit(life, record)} has a bug: {record.reason!r}{remedy}"
    return None


def _culprit(life: Life, record: ConnectionRecord) -> str:
    return raised_in_row(life, record.reason) or f"the activity of {str(record.source)!r}"


def raised_in_row(life: Life, error: BaseException | None) -> str:
    """The guard or effect that raised, for that is where a fault may hide from who looks elsewhere; or nothing."""
    rows = life.conn.lifecycle.transitions
    kinds = {name: "guard" for row in rows for name in row.guards} | {
        name: "effect" for row in rows for name in row.effects
    }
    for frame in _innermost_first(None if error is None else error.__traceback__):
        code = frame.f_code
        if code.co_name in kinds and frame.f_locals.get("self") is life.conn:
            return f"the {kinds[code.co_name]} {code.co_qualname}(), line {frame.f_lineno},"
    return ""


def _innermost_first(traceback: TracebackType | None) -> list[FrameType]:
    frames = []
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames[::-1]


@invariant(AT_THE_END)
def all_links_are_closed(life: Life) -> str | None:
    """Every link that was opened was closed once."""
    peer = life.peer
    return None if peer.opened == peer.closed else f"{peer.opened} links were opened, and {peer.closed} closed"


@invariant(AT_THE_END)
def no_task_is_left(life: Life) -> str | None:
    """A connection at rest has no task."""
    left = asyncio.all_tasks(life.loop)
    return f"tasks are left:\n{waiting(life.loop)}" if left else None


@invariant(AT_THE_END)
def observers_raised_nothing(life: Life) -> str | None:
    """No observer failed."""
    return None if not life.conn.observer_errors else f"{life.conn.observer_errors} observers failed"


INVARIANTS: tuple[Invariant, ...] = (
    state_is_in_the_table,
    moves_are_rows,
    guards_are_pure,
    at_most_one_link,
    activities_end_with_their_state,
    links_are_owned,
    losses_are_noticed,
    disconnect_leads_out,
    plain_observers_saw_everything,
    async_observers_saw_everything,
    nobody_waits_in_vain,
    cancelled_callers_go,
    faults_have_a_cause,
    *OF_THE_POLICY,
    *OF_CALLERS,
    *OF_TIME,
    all_links_are_closed,
    no_task_is_left,
    observers_raised_nothing,
)
"""What every life is checked for, unless it is ignored for a reason."""

RULES_OF_STEPS: dict[str, str] = {
    "no_livelock": "What goes on at one time comes to an end.",
    "refusals_change_nothing": "A trigger that a state does not handle is refused, and nothing has changed.",
    "cancellation_is_honest": "Only a caller that was cancelled is told so.",
    "errors_are_ours": "What callers are told are errors of this package.",
    "liveness": "Once the peer does all it is asked, the connection comes to rest, and soon.",
    "nothing_outlives_the_loop": "When the loop ends, all tasks end, all links are closed, and it is at rest.",
    "disconnect_ends_disconnected": "After `disconnect()` it is disconnected.",
}
"""What is checked in the course of a step, by name; to be ignored in the same way."""

"""The invariants of every life of a connection, by name.

Each invariant is a function of the life that returns what is wrong, or None. It must hold at one of three moments:
`ALWAYS`, after every step, even when other tasks are about to run; `AT_REST`, when nothing more can happen at the
present time; `AT_THE_END`, when the peer does everything it is asked, and the connection was disconnected for good.

This module has the invariants about states, links, activities and observers. Those about the policy are in
`policy_oracle`, those about callers in `caller_oracle`, those about time in `limits`.

In addition, the steps of a life have rules of their own, `RULES_OF_STEPS`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.machine.table import ACTIVITY_PREFIX
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, AT_THE_END, Invariant, invariant
from fsm_conn.testing.lives.connections.caller_oracle import OF_CALLERS
from fsm_conn.testing.lives.connections.evidence import ConnectionEvidence
from fsm_conn.testing.lives.connections.limits import OF_TIME
from fsm_conn.testing.lives.connections.overrides import activity_of
from fsm_conn.testing.lives.connections.policy_rules import OF_THE_POLICY
from fsm_conn.testing.lives.evidence import activity_in
from fsm_conn.testing.lives.machine_rules import (
    OF_MOVES,
    async_observers_saw_everything,
    bugs_are_not_hidden,
    faults_have_a_cause,
    guards_are_pure,
    no_task_is_left,
    nobody_speaks_late,
    observers_raised_nothing,
    plain_observers_saw_everything,
)

__all__ = [
    "ALWAYS",
    "AT_REST",
    "AT_THE_END",
    "INVARIANTS",
    "RULES_OF_STEPS",
    "Invariant",
    "invariant",
    "nobody_watches",
    "watch_it",
]


@invariant(ALWAYS)
def at_most_one_link(life: ConnectionEvidence) -> str | None:
    """At most one link is open, except links that close in good order, and the link's contract is kept."""
    if life.peer.open_now - life.peer.leaving > 1:
        return f"{life.peer.open_now - life.peer.leaving} links are open; release the old one before opening another"
    return life.peer.faults[0] if life.peer.faults else None


@invariant(AT_REST)
def links_are_owned(life: ConnectionEvidence) -> str | None:
    """A link is open exactly in the states that own one, or while `on_open` prepares it."""
    owns_link = life.state in life.conn.linked_states or life.conn._holder.incoming is not None
    if owns_link and not life.peer.open_now:
        return f"{life.state!r} owns a link, and none is open"
    if not owns_link and life.peer.open_now != life.peer.leaving:
        return f"{life.state!r} owns no link, and one is open: its activity must release it"
    return None


@invariant(AT_REST)
def activities_end_with_their_state(life: ConnectionEvidence) -> str | None:
    """At most one activity runs: that of the current state, or one that is still cleaning up."""
    if life.conn.abandoned_activities:
        return _goes_on(_last_own_state(life), "had to be left behind")
    running = activity_in(life) or "" if life.overrides.own else ""
    if running in life.overrides.own and running != activity_of(life.state) and _is_neglected(life):
        return _goes_on(running.removeprefix(ACTIVITY_PREFIX), f"{life.state!r} has to wait for it")
    if life.checked == len(life.records):
        return None  # no transition since the last check, so no activity has begun
    names = [task.get_name() for task in life.loop.tasks() if _activity_name(task)]
    return None if len(names) <= 1 else f"activities overlap: {', '.join(sorted(names))}"


def _goes_on(state: str, consequence: str) -> str:
    return (
        f"the activity of {state!r} goes on after its state was left, and {consequence}; "
        f"let CancelledError pass in {activity_of(state)}()"
    )


def _last_own_state(life: ConnectionEvidence) -> str:
    """The state left last among those with an activity of the class's own; among all states if there is none."""
    left = [str(record.source) for record in life.records if not record.internal]
    return next((state for state in reversed(left) if life.overrides.acts_by_itself(state)), left[-1])


def _activity_name(task: asyncio.Task[Any]) -> str:
    """The name of the method; empty for a task that is no activity."""
    name = task.get_name().rpartition(".")[2]
    return name if name.startswith(ACTIVITY_PREFIX) else ""


def _is_neglected(life: ConnectionEvidence) -> bool:
    """Whether the action that is due in the present state is plainly not being done."""
    staying = life.peer.open_now - life.peer.leaving
    return _loss_is_unseen(life) or (life.state in life.conn.linked_states) != (staying > 0)


@invariant(AT_REST)
def losses_are_noticed(life: ConnectionEvidence) -> str | None:
    """A link is watched wherever a connection may rest with it, and a lost link does not count as connected."""
    state = life.state
    if state not in life.conn.linked_states:
        return None
    if nobody_watches(life):
        return f"a link is open in {state!r}, where nobody watches or closes it; {watch_it(state)}"
    if _loss_is_unseen(life):
        return f"the link is lost, and the state is still {state!r}; {activity_of(state)}() must await link.lost()"
    return None


def nobody_watches(life: ConnectionEvidence) -> bool:
    """Whether the connection rests with a link in a state that has no activity."""
    state = life.conn.lifecycle.states[life.state]
    return state.final and life.state in life.conn.linked_states and life.state not in life.conn.lifecycle.activities


def watch_it(state: str) -> str:
    """The advice on what to write in a class so that the link is watched in `state`."""
    return (
        f"write '{activity_of(state)} = Connection.while_connected', and rows for 'lost' from {state!r} "
        "like those from 'connected'"
    )


def _loss_is_unseen(life: ConnectionEvidence) -> bool:
    link, state = life.peer.link, life.conn.lifecycle.states[life.state]
    if life.state not in life.conn.linked_states or link is None or not link.is_lost:
        return False
    if life.overrides.acts_by_itself(life.state) and life.conn.handles(Trigger.LOST):
        return True
    # In other states, if the table does not define what a loss means, an activity may be busy for a time.
    return life.state == ConnectionState.CONNECTED or (state.final and life.next_timer() is None)


@invariant(AT_REST)
def disconnect_leads_out(life: ConnectionEvidence) -> str | None:
    """Every state handles `disconnect`."""
    if life.state not in life.overrides.inescapable:
        return None
    return (
        f"disconnect() leads nowhere from {life.state!r}; add that state to the sources of a row for 'disconnect', "
        f"such as Transition('disconnect', {life.state!r}, 'disconnecting')"
    )


@invariant(AT_REST)
def nobody_waits_in_vain(life: ConnectionEvidence) -> str | None:
    """A waiting caller returns as soon as there is a connection, and raises once there will be none."""
    if not life.users:
        return None
    state = life.conn.state
    waiting = [user.method for user in life.users]
    finished = tuple(each.what for each in life.peer.unanswered() if each.link.is_leaving and each.what != "close")
    if finished:  # on the link that goes away
        waiting = [each for each in waiting if not each.startswith(finished)]
    if life.is_serving:
        forgotten = [each for each in waiting if each in ("connect", "ensure_connected", "reconnect", "disconnect")]
    elif state in (ConnectionState.DISCONNECTED, ConnectionState.FAILED) and not _is_cleaning_up(life):
        forgotten = [each for each in waiting if each != "call_patiently" or not _comes_back(life)]
    else:
        forgotten = []
    return f"in {life.state!r}, {forgotten[0]}() still waits" if forgotten else None


def _comes_back(life: ConnectionEvidence) -> bool:
    """Whether the policy tries once more after a while. Callers that do not connect themselves may wait for that."""
    return life.conn.retry.recover_after is not None and life.next_timer() is not None


def _is_cleaning_up(life: ConnectionEvidence) -> bool:
    """Whether an activity of a state of rest does more than wait for the time to try again."""
    if activity_in(life) is None:
        return False
    return life.peer.waits_for("close") or life.peer.open_now > 0 or life.overrides.acts_by_itself(life.state)


@invariant(AT_REST)
def cancelled_callers_go(life: ConnectionEvidence) -> str | None:
    """A caller that was cancelled is gone, unless it is the last one of a connect() and its link is being closed."""
    closing = life.state in life.overrides.ending and life.state != ConnectionState.DISCONNECTED
    for user in life.users:
        if user.cancelled and not closing:
            return f"{user.method}() was cancelled, and goes on waiting in {life.state!r}"
    return None


@invariant(AT_THE_END)
def all_links_are_closed(life: ConnectionEvidence) -> str | None:
    """Every link that was opened was closed once."""
    peer = life.peer
    return None if peer.opened == peer.closed else f"{peer.opened} links were opened, and {peer.closed} closed"


INVARIANTS: tuple[Invariant, ...] = (
    *OF_MOVES,
    guards_are_pure,
    at_most_one_link,
    activities_end_with_their_state,
    links_are_owned,
    losses_are_noticed,
    disconnect_leads_out,
    plain_observers_saw_everything,
    async_observers_saw_everything,
    observers_raised_nothing,
    nobody_waits_in_vain,
    cancelled_callers_go,
    faults_have_a_cause,
    *OF_THE_POLICY,
    *OF_CALLERS,
    *OF_TIME,
    bugs_are_not_hidden,
    nobody_speaks_late,
    all_links_are_closed,
    no_task_is_left,
)
"""The invariants of every life, unless one is ignored for a reason."""

RULES_OF_STEPS: dict[str, str] = {
    "no_livelock": "Work without a passing of time comes to an end.",
    "refusals_change_nothing": "A trigger that the state does not handle is refused, and changes nothing.",
    "cancellation_is_honest": "Only a cancelled caller gets a `CancelledError`.",
    "errors_are_read": "An error that a task of user code ends with is read by somebody.",
    "coroutines_are_awaited": "A coroutine that user code makes is awaited by somebody.",
    "objects_share_nothing": "No object changes what all objects of its class share.",
    "errors_are_ours": "Callers get only errors of this package.",
    "liveness": "Once the peer answers everything, the connection soon comes to rest.",
    "nothing_outlives_the_loop": "When the loop ends, all tasks end, all links are closed, and it is at rest.",
    "disconnect_ends_disconnected": "After `disconnect()` the state is `disconnected`.",
}
"""The rules that are checked during a step, by name. They can be ignored in the same way."""

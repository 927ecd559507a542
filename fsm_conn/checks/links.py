"""Checks of connections: what a link, an attempt and a `disconnect` need of a table.

They hold for classes that hold a link. What a method does is known by the names that its code uses; see `reach`.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm_conn.checks.reach import ever_waits, may_call_by_attribute, may_use
from fsm_conn.checks.subject import Problem, Subject, quoted, shown
from fsm_conn.connection.linked import OPENS, RELEASES, LinkedMachine
from fsm_conn.connection.table import LINK_OPEN, ConnectionState, Trigger
from fsm_conn.links.base import Link
from fsm_conn.machine.chart import ChartRow, ChartState

__all__ = ["attempts_not_counted", "links_not_as_declared", "links_not_watched", "no_way_to_disconnect"]

COUNTS, WATCHES = LinkedMachine.count_attempt.__name__, Link.lost.__name__
BY_HAND = frozenset({"link", "_link"})
"""What code of one's own uses that opens or closes a link otherwise."""
USES = BY_HAND | {"call", "stream", "stub", "services", "probe"}
"""What code of one's own uses that asks something of the peer, and so comes to know that it is gone."""


def links_not_as_declared(subject: Subject) -> Iterator[Problem]:
    """FSM111. What leads to a state that owns a link has opened one, and what it leads on to closes it."""
    if subject.holder is None:
        return
    for row in subject.chart.rows:
        if row.dest is None:
            continue
        sources = [source for source in row.sources if row in subject.graph.rows[source]]
        if LINK_OPEN in subject.graph.states[row.dest].marks:
            wrong = [source for source in sources if _comes_without_link(subject, row, source)]
            message = (
                f"there is no link when {row.trigger!r} leads from {quoted(wrong)} to {row.dest!r}, which owns one"
            )
        else:
            wrong = [source for source in sources if LINK_OPEN in subject.graph.states[source].marks]
            wrong = wrong if wrong and _leaves_link_open(subject, subject.holder, row.dest) else []
            message = f"the link of {quoted(wrong)} stays open in {row.dest!r}, for all that its activity's code shows"
        if wrong:
            yield Problem("FSM111", shown(row, wrong), message)


def _comes_without_link(subject: Subject, row: ChartRow, source: str) -> bool:
    state = subject.graph.states[source]
    if LINK_OPEN in state.marks:
        return False
    if state.activity is None or subject.holder is None or not may_use(subject.holder, state.activity, OPENS, BY_HAND):
        return True
    if state.fires is None:  # it does not say: then only what its errors fire is certain
        return row.trigger in (state.on_error, Trigger.FAULT)
    return row.trigger not in state.fires


def _leaves_link_open(subject: Subject, owner: type[LinkedMachine], dest: str) -> bool:
    activity = subject.graph.states[dest].activity
    return activity is None or not may_use(owner, activity, RELEASES, BY_HAND)


def links_not_watched(subject: Subject) -> Iterator[Problem]:
    """FSM117. Of activities that wait, and neither for the loss of the link nor for anything that is asked through it,
    as far as their code shows. Whether one that names either has it in view all the time cannot be seen.
    """
    holder = subject.holder
    if holder is None:
        return
    for state in subject.graph.leaves:
        if LINK_OPEN not in state.marks:
            continue
        if state.activity is None:
            message = f"nobody watches the link in {state.name!r}, which has no activity"
            remedy = f"Write `while_{state.name}`, and have it wait for `while_connected()` or for `link.lost()`."
            yield Problem("FSM117", state.name, message, remedy=remedy)
        elif not _has_in_view(holder, state.activity):
            message = f"{state.activity}() waits, and neither for the loss of the link nor for an answer through it"
            yield Problem("FSM117", state.name, message, subject.activity(state.name))


def _has_in_view(holder: type[LinkedMachine], activity: str) -> bool:
    return (
        getattr(holder, activity) is LinkedMachine.while_renewing  # whose link goes away, as everybody knows by then
        or not ever_waits(getattr(holder, activity))
        or may_use(holder, activity, WATCHES, USES)
        or may_call_by_attribute(holder, activity)
    )


def no_way_to_disconnect(subject: Subject) -> Iterator[Problem]:
    """FSM112. Not of states that a `disconnect` leads to or through."""
    if subject.holder is None:
        return
    graph, rows = subject.graph, subject.chart.rows
    begun = {row.dest for row in rows if row.trigger == Trigger.DISCONNECT and row.dest is not None}
    ending = graph.spread(begun, lambda name: () if name == ConnectionState.DISCONNECTED else graph.onward(name))
    for state in graph.leaves:
        excused = state.name in ending or state.name == ConnectionState.DISCONNECTED
        if not excused and (Trigger.DISCONNECT, state.name) not in graph.alternatives:
            message = f"{state.name!r} does not handle 'disconnect'"
            yield Problem("FSM112", state.name, message, subject.activity(state.name))


def attempts_not_counted(subject: Subject) -> Iterator[Problem]:
    """FSM114. Of rows from states in which it may be that no counted attempt is waiting to be made: those that make one
    themselves, own a link, or are the beginning or an end; and those that may be entered from one of these, through
    however many, without an attempt being counted on the way.
    """
    holder = subject.holder
    if holder is None:
        return
    graph, states = subject.graph, subject.graph.leaves
    opening = {state.name for state in states if state.activity is not None and may_use(holder, state.activity, OPENS)}
    uncounted = [row for row in subject.chart.rows if not _counts(subject, holder, row)]
    counting = {state.name for state in states if _counts_within(subject, holder, state)}
    spent = opening | {state.name for state in states if LINK_OPEN in state.marks or state.initial or state.final}
    onward: dict[str, list[str]] = {}
    for row in uncounted:
        for source in row.sources:
            if row.dest is not None and row.dest not in counting and row in graph.rows[source]:
                onward.setdefault(source, []).append(row.dest)
    without = graph.spread(spent, lambda name: onward.get(name, ()))
    for row in uncounted:
        sources = [source for source in row.sources if source in without and row in graph.rows[source]]
        if row.dest in opening and sources and row.trigger != Trigger.GOING_AWAY:  # which is no outage
            yield Problem("FSM114", shown(row, sources), "it begins an attempt, and counts none")


def _counts(subject: Subject, holder: type[LinkedMachine], row: ChartRow) -> bool:
    entered = () if row.dest is None else subject.graph.states[row.dest].entry
    return any(may_use(holder, each, COUNTS) for each in (*row.effects, *entered))


def _counts_within(subject: Subject, holder: type[LinkedMachine], state: ChartState) -> bool:
    """Whether an attempt may be counted while the state lasts."""
    inner = (row for row in subject.graph.rows[state.name] if row.dest is None)
    return any(_counts(subject, holder, row) for row in inner) or (
        state.activity is not None and may_use(holder, state.activity, COUNTS)
    )

"""Checks of connections: what a link, an attempt and a `disconnect` need of a table.

They hold for classes that keep a link. What a method does is known by the names that its code uses; see `reach`.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm_conn.chart import ChartRow
from fsm_conn.checks.reach import may_use
from fsm_conn.checks.subject import Problem, Subject, quoted, shown
from fsm_conn.keeper import LinkKeeper
from fsm_conn.lifecycle import ConnectionState, Trigger

__all__ = ["attempts_not_counted", "links_not_as_declared", "no_way_to_disconnect"]

OPENS, RELEASES, LINK, COUNTS = "_open_link", "_release", "_link", "count_attempt"


def links_not_as_declared(subject: Subject) -> Iterator[Problem]:
    """FSM111. What leads to a state that owns a link has opened one, and what it leads on to closes it."""
    if subject.keeper is None:
        return
    for row in subject.chart.rows:
        if row.dest is None:
            continue
        sources = [source for source in row.sources if row in subject.graph.rows[source]]
        if subject.chart.state(row.dest).owns_link:
            wrong = [source for source in sources if _comes_without_link(subject, row, source)]
            message = (
                f"there is no link when {row.trigger!r} leads from {quoted(wrong)} to {row.dest!r}, which owns one"
            )
        else:
            wrong = [source for source in sources if subject.chart.state(source).owns_link]
            wrong = wrong if _leaves_link_open(subject, subject.keeper, row.dest) else []
            message = f"the link of {quoted(wrong)} stays open in {row.dest!r}, whose activity closes none"
        if wrong:
            yield Problem("FSM111", shown(row, wrong), message)


def _comes_without_link(subject: Subject, row: ChartRow, source: str) -> bool:
    state = subject.chart.state(source)
    if state.owns_link:
        return False
    if state.activity is None or subject.keeper is None or not may_use(subject.keeper, state.activity, OPENS, LINK):
        return True
    if state.fires is None:  # it does not say: then only what its errors fire is certain
        return row.trigger in (state.on_error, Trigger.FAULT)
    return row.trigger not in state.fires


def _leaves_link_open(subject: Subject, owner: type[LinkKeeper], dest: str) -> bool:
    activity = subject.chart.state(dest).activity
    return activity is None or not may_use(owner, activity, RELEASES, LINK)


def no_way_to_disconnect(subject: Subject) -> Iterator[Problem]:
    """FSM112. Not of states that a `disconnect` leads to or through."""
    if subject.keeper is None:
        return
    graph, rows = subject.graph, subject.chart.rows
    begun = {row.dest for row in rows if row.trigger == Trigger.DISCONNECT and row.dest is not None}
    ending = graph.spread(
        begun,
        lambda name: () if name == ConnectionState.DISCONNECTED else (dest for _, dest in graph.ways(name)),
    )
    for state in graph.leaves:
        excused = state.name in ending or state.name == ConnectionState.DISCONNECTED
        if not excused and (Trigger.DISCONNECT, state.name) not in graph.alternatives:
            message = f"{state.name!r} does not handle 'disconnect'"
            yield Problem("FSM112", state.name, message, subject.activity(state.name))


def attempts_not_counted(subject: Subject) -> Iterator[Problem]:
    """FSM114. Of rows from states in which no counted attempt can be waiting to be made: those that make one
    themselves, own a link, or are the beginning or an end.
    """
    keeper = subject.keeper
    if keeper is None:
        return
    states = subject.chart.states
    opening = {state.name for state in states if state.activity is not None and may_use(keeper, state.activity, OPENS)}
    spent = opening | {state.name for state in states if state.owns_link or state.initial or state.final}
    for row in subject.chart.rows:
        sources = [source for source in row.sources if source in spent and row in subject.graph.rows[source]]
        if row.dest in opening and sources and not any(may_use(keeper, each, COUNTS) for each in row.effects):
            yield Problem(
                "FSM114", shown(row, sources), f"({shown(row, sources)}) begins an attempt that is not counted"
            )

"""Checks of what activities fire against the table.

What an activity fires is what its annotation says (see `fsm_conn.lifecycle.Fires`), and its state's `on_error`; of an
activity that does not say, nothing is concluded. `fault` is left out everywhere: the driver fires it.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm_conn.chart import ChartState
from fsm_conn.checks.subject import Problem, Subject, quoted, shown
from fsm_conn.hints import did_you_mean
from fsm_conn.keeper import LinkKeeper
from fsm_conn.lifecycle import Trigger

__all__ = [
    "loops_without_wait",
    "rows_without_activity",
    "states_nothing_ends",
    "unhandled_triggers",
    "unknown_triggers",
]


def unknown_triggers(subject: Subject) -> Iterator[Problem]:
    """FSM106."""
    known = subject.chart.triggers
    for state in subject.chart.states:
        for trigger in state.fires or ():
            if trigger not in known:
                hint = did_you_mean(trigger, known)
                message = f"{state.activity}() says that it fires {trigger!r}, and no row is for that{hint}"
                yield Problem("FSM106", f"{trigger} in {state.name}", message, subject.activity(state.name))


def unhandled_triggers(subject: Subject) -> Iterator[Problem]:
    """FSM107."""
    for state in subject.chart.states:
        for trigger in state.fires or ():
            if trigger in subject.chart.triggers and (trigger, state.name) not in subject.graph.alternatives:
                handled = quoted(t for t, source in subject.graph.alternatives if source == state.name)
                message = (
                    f"{state.activity}() says that it fires {trigger!r}, and {state.name!r} handles only {handled}"
                )
                yield Problem("FSM107", f"{trigger} in {state.name}", message, subject.activity(state.name))


def states_nothing_ends(subject: Subject) -> Iterator[Problem]:
    """FSM108."""
    for state in _stuck(subject):
        led = quoted(dict.fromkeys(row.trigger for row in subject.graph.leads_on(state.name)))
        yield Problem(
            "FSM108", state.name, f"nothing fires what leads on from {state.name!r}: {led}; it has no activity"
        )


def rows_without_activity(subject: Subject) -> Iterator[Problem]:
    """FSM113. Only of rows that name their states: one for all states means those that it is for.

    Of a state that nothing ends, that is said, and not this.
    """
    inner, stuck = _inner(subject), [state.name for state in _stuck(subject)]
    without = {s.name for s in subject.graph.leaves if s.activity is None and s.name not in stuck}
    for row in subject.chart.rows:
        sources = [name for name in row.sources if name in without]
        if row.trigger in inner and row.every_but is None and sources:
            message = f"only activities fire {row.trigger!r}, and there is none in {quoted(sources)}"
            yield Problem("FSM113", shown(row, sources), message)


def _stuck(subject: Subject) -> list[ChartState]:
    inner = _inner(subject)
    return [
        state
        for state in subject.graph.leaves
        if state.activity is None
        and not state.final
        and (ways := subject.graph.leads_on(state.name))
        and all(row.trigger in inner for row in ways)
    ]


def _inner(subject: Subject) -> frozenset[str]:
    """The triggers that only activities fire, as far as is known: not those that the class has a public method for."""
    fired = {trigger for state in subject.chart.states for trigger in _fired(state)}
    return frozenset(t for t in fired if not callable(getattr(subject.chart.owner, t, None)))


def _fired(state: ChartState) -> set[str]:
    """What the activity of the state fires, errors included."""
    return {*(state.fires or ()), *((state.on_error,) if state.on_error else ())} - {Trigger.FAULT}


def loops_without_wait(subject: Subject) -> Iterator[Problem]:
    """FSM109. A circle of states, each left by a trigger that its activity fires and for which there is but one row,
    without a guard; and none of them is known to wait.

    Known to wait are a state with a time limit, one with a row that names its `timer`, and one whose activity is the
    base's `while_reconnecting`, which waits out the retry policy's delay. A state in which something happens only when
    the world outside lets it, such as `connected`, is not known to wait: a link may be lost as soon as it is opened.
    """
    graph = subject.graph
    onward = {state.name: _unhindered(subject, state) for state in graph.leaves}
    led = {name: graph.spread(dests, lambda each: onward.get(each, ())) for name, dests in onward.items()}
    told: set[str] = set()
    for name in onward:
        if name in led[name] and name not in told:
            circle = [other for other in onward if other in led[name] and name in led[other]]
            told.update(circle)
            message = f"activities fire what leads from {quoted(circle)} round again, and nothing slows it down"
            yield Problem("FSM109", "|".join(circle), message, subject.activity(name))


def _unhindered(subject: Subject, state: ChartState) -> frozenset[str]:
    """Where the activity of a state leads without any guard or known wait."""
    rows = subject.graph.rows[state.name]
    paced = getattr(subject.chart.owner, state.activity or "", None) is LinkKeeper.while_reconnecting
    if paced or state.timeout is not None or any(row.timer for row in rows):
        return frozenset()
    alone = [row for row in rows if len(subject.graph.alternatives[row.trigger, state.name]) == 1 and not row.guards]
    return frozenset(row.dest for row in alone if row.dest is not None and row.trigger in _fired(state))

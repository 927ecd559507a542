"""Checks of what activities fire against the table.

What an activity fires is what its annotation says (see `fsm_conn.Fires`), and its state's `on_error`; of an
activity that does not say, nothing is concluded. Whether what it fires is in the table is asked of the triggers that
its code returns, too: see `returns` for those that can be told. `fault` is left out everywhere: the machine fires it.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm_conn._util.hints import did_you_mean
from fsm_conn.checks.answers import can_end_silently
from fsm_conn.checks.returns import returned_texts
from fsm_conn.checks.subject import Problem, Subject, quoted
from fsm_conn.connection.linked import LinkedMachine
from fsm_conn.connection.table import LINK_OPEN
from fsm_conn.machine.chart import ChartState, may_be_silent
from fsm_conn.machine.table import FAULT

__all__ = [
    "activities_that_may_fire_nothing",
    "loops_without_wait",
    "states_nothing_ends",
    "triggers_without_activity",
    "unhandled_triggers",
    "unknown_triggers",
]


def unknown_triggers(subject: Subject) -> Iterator[Problem]:
    """FSM106."""
    known = subject.chart.triggers
    for state, trigger, told in _told(subject):
        if trigger not in known:
            message = f"{told}, and no row is for that{did_you_mean(trigger, known)}"
            yield Problem("FSM106", f"{trigger} in {state.name}", message, subject.activity(state.name))


def unhandled_triggers(subject: Subject) -> Iterator[Problem]:
    """FSM107."""
    known = subject.chart.triggers
    for state, trigger, told in _told(subject):
        if trigger in known and (trigger, state.name) not in subject.graph.alternatives:
            handled = quoted(t for t, source in subject.graph.alternatives if source == state.name)
            message = f"{told}, and {state.name!r} handles only {handled}"
            yield Problem("FSM107", f"{trigger} in {state.name}", message, subject.activity(state.name))


def _told(subject: Subject) -> Iterator[tuple[ChartState, str, str]]:
    """What each activity fires, by its annotation or by its code, and how that is known."""
    for state in subject.chart.states:
        said = state.fires or ()
        for trigger in said:
            yield state, trigger, f"{state.activity}() says that it fires {trigger!r}"
        for trigger in returned_texts(subject.activity(state.name)):
            if trigger not in said:
                yield state, trigger, f"{state.activity}() returns {trigger!r}"


def activities_that_may_fire_nothing(subject: Subject) -> Iterator[Problem]:
    """FSM119. Of activities whose annotation names triggers, and not None."""
    for state in subject.chart.states:
        activity = subject.activity(state.name)
        if state.fires and not may_be_silent(activity) and can_end_silently(activity):
            message = f"{state.activity}() says that it fires {quoted(state.fires)}, and can return None"
            yield Problem("FSM119", state.name, message, activity)


def states_nothing_ends(subject: Subject) -> Iterator[Problem]:
    """FSM108."""
    for state in _stuck(subject):
        led = quoted(dict.fromkeys(row.trigger for row in subject.graph.leads_on(state.name)))
        yield Problem(
            "FSM108", state.name, f"nothing fires what leads on from {state.name!r}: {led}; it has no activity"
        )


def triggers_without_activity(subject: Subject) -> Iterator[Problem]:
    """FSM113. Only of rows that name their states: one for all states means those that it is for.

    Of a state that nothing ends, and of one in which nobody watches the link, that is said, and not this.
    """
    inner, stuck = _inner(subject), (state.name for state in _stuck(subject))
    told = {*stuck, *(s.name for s in subject.graph.leaves if LINK_OPEN in s.marks and subject.holder is not None)}
    without = {s.name for s in subject.graph.leaves if s.activity is None and s.name not in told}
    for (trigger, source), rows in subject.graph.alternatives.items():
        told_by_time = _is_timed(subject.graph.states[source], trigger) if source in without else False
        if trigger in inner and source in without and not told_by_time and any(row.every_but is None for row in rows):
            message = f"only activities fire {trigger!r}, which {source!r} handles, and it has none"
            yield Problem("FSM113", f"{trigger} in {source}", message)


def _stuck(subject: Subject) -> list[ChartState]:
    inner = _inner(subject)
    return [
        state
        for state in subject.graph.leaves
        if state.activity is None
        and not state.final
        and (ways := subject.graph.leads_on(state.name))
        and all(row.trigger in inner and not _is_timed(state, row.trigger) for row in ways)
    ]


def _inner(subject: Subject) -> frozenset[str]:
    """The triggers that only activities fire, as far as is known: not those that the class has a public method for."""
    handled = subject.graph.alternatives
    fired = {t for state in subject.chart.states for t in _fired(state) if (t, state.name) in handled}
    return frozenset(t for t in fired if not callable(getattr(subject.chart.owner, t, None)))


def _is_timed(state: ChartState, trigger: str) -> bool:
    """Whether the state's time limit fires the trigger."""
    return state.timeout is not None and trigger in state.on_timeout


def _fired(state: ChartState) -> set[str]:
    """What the activity of the state fires, errors included."""
    return {*(state.fires or ()), *((state.on_error,) if state.on_error else ())} - {FAULT}


def loops_without_wait(subject: Subject) -> Iterator[Problem]:
    """FSM109. A circle of states, each left by a trigger that its activity fires and for which there is but one row,
    without a guard; and none of them is known to wait.

    Known to wait are a state with a row that names its `timer`, and one whose activity is the base's
    `while_reconnecting` or `while_renewing`; not one with a time limit, for its activity may end sooner. A state in
    which something happens only when the world outside lets it, such as `connected`, is not known to wait: a link may
    be lost as soon as it is opened.
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
    paces = (LinkedMachine.while_reconnecting, LinkedMachine.while_renewing)
    paced = getattr(subject.chart.owner, state.activity or "", None) in paces
    if paced or any(row.timer for row in rows):
        return frozenset()
    # Alternatives end with a row without guards, so one that is alone has none.
    alone = [row for row in rows if len(subject.graph.alternatives[row.trigger, state.name]) == 1]
    return frozenset(row.dest for row in alone if row.dest is not None and row.trigger in _fired(state))

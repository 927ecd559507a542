"""Checks of the table alone: where its ways lead, and which of its rows are taken.

Guards are taken to be free: each may say yes or no at any time, whatever it and the others said before.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsm_conn.checks.graph import Graph
from fsm_conn.checks.guards import ambiguous, is_contradictory, term_of
from fsm_conn.checks.subject import Problem, Subject, quoted, shown
from fsm_conn.machine.chart import ChartRow, ChartState

__all__ = ["ambiguous_rows", "no_way_home", "rows_never_taken", "trap_states", "unreachable_states"]


def unreachable_states(subject: Subject) -> Iterator[Problem]:
    """FSM101. Nothing else is said of such a state."""
    for state in subject.chart.states:
        if state.name not in subject.graph.reachable:
            message = f"{state.name!r} cannot be reached from {quoted(subject.chart.begins)}"
            yield Problem("FSM101", state.name, message, subject.activity(state.name))


def trap_states(subject: Subject) -> Iterator[Problem]:
    """FSM102."""
    for state in _traps(subject.graph):
        handled = [row for each in subject.graph.family(state) for row in subject.graph.rows[each.name]]
        but = f"; it handles {quoted(dict.fromkeys(row.trigger for row in handled))}" if handled else ""
        yield Problem("FSM102", state.name, f"nothing leads on from {state.name!r}{but}", subject.activity(state.name))


def no_way_home(subject: Subject) -> Iterator[Problem]:
    """FSM103. A trap at the end of the way is its own finding."""
    graph = subject.graph
    if not graph.beginning or graph.strays:
        return
    home = graph.beginning | {state.name for state in graph.leaves if _is_final(graph, state)}
    ends = home | {state.name for state in _traps(graph)}
    safe = graph.spread(ends, graph.coming_from())
    for state in graph.leaves:
        if state.name not in safe:
            led = graph.spread((state.name,), graph.ahead)
            onward = quoted(each.name for each in graph.leaves if each.name in led and each is not state)
            message = f"from {state.name!r} there is only the way to {onward}, and not to {quoted(sorted(home))}"
            yield Problem("FSM103", state.name, message, subject.activity(state.name))


def _traps(graph: Graph) -> list[ChartState]:
    if graph.strays:
        return []
    return [state for state in graph.leaves if not _is_final(graph, state) and not graph.leads_on(state.name)]


def _is_final(graph: Graph, state: ChartState) -> bool:
    return any(each.final for each in graph.family(state))


def ambiguous_rows(subject: Subject) -> Iterator[Problem]:
    """FSM104. Once for all states in which the same rows are alternatives."""
    found: dict[tuple[int, ...], list[str]] = {}
    pairs: dict[tuple[int, ...], list[tuple[ChartRow, ChartRow]]] = {}
    for (_, source), rows in subject.graph.alternatives.items():
        indices = tuple(row.index for row in rows)
        pairs[indices] = ambiguous(rows)
        if pairs[indices]:
            found.setdefault(indices, []).append(source)
    for indices, sources in found.items():
        trigger = subject.chart.rows[indices[0]].trigger
        told = "; ".join(f"({shown(a, sources)}) and ({shown(b, sources)})" for a, b in pairs[indices])
        yield Problem("FSM104", f"{trigger} in {'|'.join(sources)}", f"only their order decides between {told}")


def rows_never_taken(subject: Subject) -> Iterator[Problem]:
    """FSM105. Once for each row, with the states from which it is never taken."""
    for index, sources in subject.graph.dead.items():
        row = subject.chart.rows[index]
        why = _why_never(row, subject.graph.alternatives[row.trigger, sources[0]])
        yield Problem("FSM105", shown(row, sources), f"it is never taken: {why}")


def _why_never(row: ChartRow, alternatives: tuple[ChartRow, ...]) -> str:
    term = term_of(row)
    if is_contradictory(term):
        return "its guards contradict one another"
    for earlier in alternatives[: alternatives.index(row)]:
        if not earlier.guards:
            return f"({shown(earlier)}) before it has no guard"
        if term_of(earlier) <= term:
            return f"({shown(earlier)}) before it is taken whenever its guards agree"
    return "one of the rows before it is taken whenever its guards agree"

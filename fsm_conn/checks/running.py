"""Runs the checks over a machine, and drops what was accepted with a reason."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from fsm_conn._util.hints import did_you_mean
from fsm_conn._util.keywords import explained
from fsm_conn.checks import activities, links, names, shape
from fsm_conn.checks.rules import RULES, Finding
from fsm_conn.checks.subject import Problem, Subject
from fsm_conn.machine.errors import FsmConnError

__all__ = ["AcceptanceError", "check"]

ATTRIBUTE = "accepted_findings"
"""The attribute in which a class accepts findings."""

_Location = tuple[str | None, int | None]
_CHECKS: tuple[Callable[[Subject], Iterator[Problem]], ...] = (
    shape.unreachable_states,
    shape.trap_states,
    shape.no_way_home,
    shape.ambiguous_rows,
    shape.rows_never_taken,
    activities.unknown_triggers,
    activities.unhandled_triggers,
    activities.states_nothing_ends,
    activities.loops_without_wait,
    activities.triggers_without_activity,
    links.links_not_as_declared,
    links.no_way_to_disconnect,
    links.attempts_not_counted,
    links.links_not_watched,
    activities.activities_that_may_fire_nothing,
    names.unresolved_callbacks,
    names.guards_without_answer,
    names.time_limits_unset,
    names.callbacks_nearly_named,
    names.unknown_states,
)


class AcceptanceError(FsmConnError, ValueError):
    """A finding cannot be accepted in this way: the code does not exist, or the reason is missing."""


@explained()
def check(machine: Any, accept: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """Find mistakes and probable mistakes in a table, without running it.

    Accept an intended finding, with a reason: by `accept`, or in the class that it is about, as
    `accepted_findings = {"FSM104 lost in connected": "a short visit counts as a refusal"}`. A key is a code, for all
    its findings, or a code and a place, as in `Finding.key`.

    Args:
        machine: a `StateMachine` class, such as a subclass of `Connection` or `ConnectionPool`, or a
            `transitions.Machine`.
        accept: the accepted findings, with the reason of each.

    Returns:
        the findings that were not accepted, sorted by code and place.

    Raises:
        ChartError: the machine has no table.
        AcceptanceError: a finding is accepted without a reason, or its code does not exist.
    """
    subject = Subject.of(machine)
    own, inherited = _declared(subject)
    given = _checked(accept or {}, "accept")
    locate = cache(_location)
    found = [_finding(subject, problem, locate) for each in _CHECKS for problem in each(subject)]
    accepted = {**inherited, **own, **given}
    kept = [each for each in found if each.code not in accepted and each.key not in accepted]
    known = {each.code for each in found} | {each.key for each in found}
    # What a base class accepts, a subclass may have mended.
    kept += [_finding(subject, _idle(key), locate) for key in {**own, **given} if key not in known]
    return tuple(sorted(kept, key=lambda each: (each.code, each.place)))


def _declared(subject: Subject) -> tuple[dict[str, str], dict[str, str]]:
    """What the class itself accepts, and what its bases do."""
    owner = subject.chart.owner or type(subject.machine)
    lists = [
        _checked(vars(each)[ATTRIBUTE], f"{each.__name__}.{ATTRIBUTE}")
        for each in owner.__mro__
        if ATTRIBUTE in vars(each)
    ]
    own = lists.pop(0) if ATTRIBUTE in vars(owner) else {}
    return own, {key: reason for each in lists for key, reason in each.items()}


def _checked(accepted: Any, where: str) -> dict[str, str]:
    if not isinstance(accepted, Mapping):
        raise AcceptanceError(f"{where}: give a mapping of codes to reasons, not {accepted!r:.60}")
    for key, reason in accepted.items():
        code = str(key).partition(" ")[0]
        if code not in RULES:
            raise AcceptanceError(
                f"{where}: there is no finding {key!r}{did_you_mean(code, RULES)}; give a code, such as 'FSM104', or a "
                "code and a place, such as 'FSM104 lost in connected'"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise AcceptanceError(f"{where}: {key!r} is accepted without a reason; give the reason")
    return dict(accepted)


def _idle(key: str) -> Problem:
    return Problem("FSM199", key, f"{key!r} was accepted, but is not found")


def _finding(subject: Subject, problem: Problem, locate: Callable[[Any], _Location]) -> Finding:
    rule = RULES[problem.code]
    file, line = locate(problem.source or subject.chart.owner)
    return Finding(
        rule.code,
        rule.severity,
        subject.chart.name,
        problem.place,
        problem.message,
        problem.remedy or rule.remedy,
        file,
        line,
    )


def _location(source: Any) -> _Location:
    if source is None:
        return None, None
    try:
        return inspect.getsourcefile(source), inspect.getsourcelines(inspect.unwrap(source))[1]
    except (OSError, TypeError):
        return None, None  # typed in, or built in

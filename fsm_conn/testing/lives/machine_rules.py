"""The rules for every life of any machine: about its table, guards, effects, activities and observers."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from fsm_conn.machine.errors import IllegalTriggerError, is_expected
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.machine.signature import REASON, takes
from fsm_conn.machine.table import FAULT
from fsm_conn.testing.lives.checks import ALWAYS, AT_REST, AT_THE_END, Invariant, invariant
from fsm_conn.testing.lives.culprits import blamed, is_foreign, where_defined
from fsm_conn.testing.lives.evidence import Evidence
from fsm_conn.testing.lives.moments.fingerprint import own_attributes
from fsm_conn.testing.lives.moments.freezing import Freezer
from fsm_conn.testing.simulated import is_deadline
from fsm_conn.testing.virtual import waiting

__all__ = [
    "OF_GUARDS",
    "OF_MOVES",
    "OF_OBSERVERS",
    "SIMULATED_BUG",
    "TableFacts",
    "activities_let_go",
    "bugs_are_not_hidden",
    "culprit",
    "no_task_is_left",
    "nobody_speaks_late",
]

_PLAIN = (int, bool, str, bytes, float, type(None))
_COLLECTIONS = (list, dict, set, deque, bytearray, Counter, defaultdict)
SIMULATED_BUG = "a bug in the simulated"
"""The beginning of the message of every bug that the harness simulates in an activity or a link."""


class TableFacts:
    """Facts about a table, precomputed for speed.

    Attributes:
        dests: for each trigger and source, the destinations of the rows; None for an internal row.
        guards: for each state, the guards of the rows that start there.
        questions: for each guard, a function that calls it.
        own: guards whose code belongs neither to this package nor to a library.
        own_guards: for each state, its guards that are in `own`.
    """

    def __init__(self, evidence: Evidence) -> None:
        table, owner = evidence.machine.lifecycle, type(evidence.machine)
        self.dests: dict[tuple[str, str], set[str | None]] = {}
        guards: dict[str, dict[str, None]] = {str(name): {} for name in table.states}
        for row in table.transitions:
            for source in map(str, row.sources(table.states)):
                found = self.dests.setdefault((str(row.trigger), source), set())
                found.add(None if row.dest is None else str(row.dest))
                guards[source].update(dict.fromkeys(row.guards))
        self.guards: Mapping[str, tuple[str, ...]] = {state: tuple(sorted(names)) for state, names in guards.items()}
        names = {name for names in guards.values() for name in names}
        domains = [pair for each in evidence.values.values() for pair in each.items()]
        values = {name: domain.values[0] for name, domain in domains if domain.values}
        self.questions = {name: _question(owner, name, values) for name in names}
        self.own = {name for names in guards.values() for name in names if _is_own(getattr(owner, name, None))}
        self.own_guards = {
            state: tuple(each for each in some if each in self.own) for state, some in self.guards.items()
        }


_facts: WeakKeyDictionary[type, TableFacts] = WeakKeyDictionary()


def facts_of(life: Evidence) -> TableFacts:
    """The facts about the machine's table, computed once for each class."""
    if life.values:
        return life.part(TableFacts)
    owner = type(life.machine)
    found = _facts.get(owner)
    if found is None:
        found = _facts[owner] = TableFacts(life)
    return found


def _is_own(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is None or is_foreign(code)


@invariant(ALWAYS)
def moves_are_rows(life: Evidence) -> str | None:
    """Every transition is a row of the table, and begins in the state where the one before it ended."""
    records = life.records
    if life.checked < len(records):
        dests = facts_of(life).dests
        for record in life.new_records():
            leads = dests.get((str(record.trigger), str(record.source)), ())
            if (None if record.internal else str(record.dest)) not in leads:
                return f"the table has no row for {record}"
        for index in range(max(life.checked, 1), len(records)):
            if records[index - 1].dest != records[index].source:
                return _assigned(f"{records[index - 1]}, and then {records[index]}")
    if records and records[-1].dest != life.state:
        return _assigned(f"it is {life.state!r} after {records[-1]}")
    return None


def _assigned(how: str) -> str:
    return f"the state was assigned outside dispatch: {how}; fire a trigger instead of assigning a state"


@invariant(ALWAYS)
def state_is_in_the_table(life: Evidence) -> str | None:
    """The state is one of the table."""
    known = life.machine.lifecycle.states
    return None if life.state in known else f"{life.state!r} is not in the table"


@invariant(ALWAYS)
def guards_are_pure(life: Evidence) -> str | None:
    """A guard asked twice gives the same answer, which is not None, and changes nothing."""
    facts, machine = facts_of(life), life.machine
    stayed = life.checked == len(life.records) > 0  # then those of this package, the same for all, were called
    for name in (facts.own_guards if stayed else facts.guards).get(life.state, ()):
        own = name in facts.own
        ask = facts.questions.get(name)
        if ask is None:
            continue
        before = _kept(machine) if own else dict(vars(machine))
        within = {} if stayed or not own else _within(life)
        answers = [_asked(ask, machine), _asked(ask, machine)]
        if answers[0] != answers[1]:
            return f"the guard {_named(machine, name)} said {answers[0]} and then {answers[1]}; a guard must only read"
        changed = [] if before == vars(machine) else _differences(before, vars(machine))
        if within and not changed:
            changed = [f"what is in {each}" for each in _differences(within, _within(life))]
        changed = [each for each in changed if not _is_cached(machine, each)]
        if changed:
            return (
                f"the guard {_named(machine, name)} changed {', '.join(changed)}; "
                "count in an effect, a guard must only read"
            )
        if own and answers[0] is None:
            return f"the guard {_named(machine, name)} returned None, which means no; write what it is to return"
    return None


def _named(machine: Any, name: str) -> str:
    where = where_defined(getattr(type(machine), name, None))
    return f"{name}()" + (f", {where}," if where else "")


def _kept(machine: Any) -> dict[str, Any]:
    """All attributes of a machine. Lists and dicts are copied, because they may change in place."""
    return {key: copy(value) if type(value) in _COLLECTIONS else value for key, value in vars(machine).items()}


def _within(life: Evidence) -> dict[str, Any]:
    """The contents of the objects that a class adds to its base, at any depth."""
    known = {id(life.machine): "self", id(life.loop): "loop", id(life): "life"}
    return {
        key: Freezer(known).frozen(value, key)
        for key, value in own_attributes(life.machine)
        if type(value) not in _PLAIN
    }


def _is_cached(machine: Any, name: str) -> bool:
    return isinstance(getattr(type(machine), name, None), cached_property)


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key))


def _question(owner: type, name: str, values: Mapping[str, Any]) -> Callable[[Any], Any] | None:
    """A function that calls a guard without a reason; None when the guard needs data that is not available."""
    found = takes(owner, name) or REASON
    if not all(each in values for each in found.needed):
        return None
    data = {each: values[each] for each in found.needed}
    if not found.reason:
        return lambda machine: getattr(machine, name)(**data)
    keyword = found.reason.partition("=")
    if keyword[1]:
        return lambda machine: getattr(machine, name)(**{keyword[0]: None}, **data)
    return lambda machine: getattr(machine, name)(None, **data)


def _asked(ask: Callable[[Any], Any], machine: Any) -> Any:
    try:
        return ask(machine)
    except Exception as error:
        return f"{type(error).__name__} ({error})"


@invariant(ALWAYS)
def faults_have_a_cause(life: Evidence) -> str | None:
    """`fault` is fired only for bugs: never in a life in which the harness simulated none."""
    for record in life.new_records():
        if record.trigger == FAULT and SIMULATED_BUG not in str(record.reason) and record.reason is not None:
            remedy = "; catch it there, and raise a LinkError" if is_deadline(record.reason) else ""
            return f"{culprit(life, record)} has a bug: {record.reason!r}{remedy}"
    return None


def culprit(life: Evidence, record: TransitionRecord) -> str:
    """The cause of a fault: the guard, effect or activity, with its file and line."""
    found = blamed(life.machine, record.reason)
    if found:
        return found
    activity = life.machine.lifecycle.activities.get(str(record.source))
    where = where_defined(getattr(type(life.machine), activity, None)) if activity else ""
    return f"the activity of {str(record.source)!r}" + (f", {activity}(), {where}," if where else "")


@invariant(AT_REST)
def plain_observers_saw_everything(life: Evidence) -> str | None:
    """Plain observers were notified of every transition, once and in order."""
    seen, records = life.seen, life.records
    if len(seen) != len(records) or any(seen[index] != records[index] for index in range(life.checked, len(seen))):
        return f"an observer was told of {len(seen)} transitions, and there were {len(records)}"
    return None


@invariant(AT_REST)
def async_observers_saw_everything(life: Evidence) -> str | None:
    """Async observers were notified of every transition, once and in order."""
    seen, count = life.seen_slowly, len(life.records)
    if len(seen) != count or seen[life.checked :] != life.seen[life.checked :]:
        return f"an async observer was told of {len(seen)} transitions, and there were {count}"
    return None


@invariant(AT_REST)
def observers_raised_nothing(life: Evidence) -> str | None:
    """No observer failed."""
    failed = life.machine.observer_errors
    if not failed:
        return None
    errors = [error for error, _ in life.logged if SIMULATED_BUG not in str(error)]
    if not errors:
        return f"{failed} observers failed"
    return f"{blamed(life.machine, errors[0]) or 'an observer'} has a bug: {errors[0]!r}"


@invariant(AT_REST)
def bugs_are_not_hidden(life: Evidence) -> str | None:
    """No mistake is only logged: no trigger fired from inside is refused, no activity fails after its state is left."""
    if not life.logged or life.machine.observer_errors:
        return None
    for error, traceback in life.logged:
        is_bug = not is_expected(error) or isinstance(error, IllegalTriggerError)
        if is_bug and SIMULATED_BUG not in str(error) and not _is_told(error, life.records):
            whose = blamed(life.machine, error, traceback) or "something fired from inside the machine"
            return f"{whose} failed, and nobody but the log was told: {error!r}"
    return None


def _is_told(error: BaseException, records: Iterable[TransitionRecord]) -> bool:
    return any(record.reason is error and record.trigger == FAULT for record in records)


@invariant(ALWAYS)
def nobody_speaks_late(life: Evidence) -> str | None:
    """What one visit to a state has started fires no trigger in a later visit to it."""
    return None if life.late is None else life.late.told


@invariant(AT_THE_END)
def no_task_is_left(life: Evidence) -> str | None:
    """A machine at rest has no task."""
    left = life.loop.tasks()
    return f"tasks are left:\n{waiting(life.loop)}" if left else None


@invariant(AT_REST)
def activities_let_go(life: Evidence) -> str | None:
    """An activity ends when its state is left; at most one runs."""
    left = life.machine.abandoned_activities
    if left:
        activities = life.machine.lifecycle.activities
        left_states = (str(each.source) for each in reversed(life.records) if not each.internal)
        source = next((each for each in left_states if each in activities), life.state)
        name = activities.get(source, "an activity")
        where = where_defined(getattr(type(life.machine), name, None))
        return f"{name}(){where and f', {where},'} goes on after its state was left; let CancelledError pass in it"
    return None


OF_MOVES: tuple[Invariant, ...] = (state_is_in_the_table, moves_are_rows)
"""The rules for tables."""
OF_GUARDS: tuple[Invariant, ...] = (guards_are_pure, faults_have_a_cause)
"""The rules for users' guards, effects and activities."""
OF_OBSERVERS: tuple[Invariant, ...] = (
    plain_observers_saw_everything,
    async_observers_saw_everything,
    observers_raised_nothing,
)
"""The rules about observers: what they must receive, and how they must behave."""

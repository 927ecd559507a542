"""Finds every mistake in a table that can be found before anything runs, and names the remedy."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from fsm_conn._util.hints import did_you_mean
from fsm_conn.machine.errors import DeclarationError
from fsm_conn.machine.signature import takes
from fsm_conn.machine.table import ACTIVITY_PREFIX, FAULT, Others, State, Transition, is_seconds

__all__ = ["RowLike", "StateLike", "one_table", "rows_of", "states_of", "validate"]

StateLike = State | str
"""A state of a table; a plain name is a state with the defaults."""
RowLike = Transition | Mapping[str, Any] | Sequence[Any]
"""A row of a table: also a dict in the manner of `transitions`, or a list of trigger, source, dest."""


def one_table(owner: type, base: type) -> None:
    """Refuse a class that declares no table and inherits none, or more than one.

    Args:
        owner: the new class.
        base: the base class of all machines.
    """
    for what in ("states", "transitions"):
        if getattr(owner, what, None) is None:
            raise DeclarationError(
                f"{owner.__name__}: no {what} are declared; write '{what} = (...)' into the class, or "
                f"'class {owner.__name__}({base.__name__}, abstract=True)' if only its subclasses are machines"
            )
    if "states" in vars(owner) and "transitions" in vars(owner):
        return
    homes = [_home(each) for each in owner.__bases__ if issubclass(each, base)]
    for each in homes:
        for other in homes:
            if each is not None and other is not None and not (issubclass(each, other) or issubclass(other, each)):
                raise DeclarationError(
                    f"{owner.__name__}: it inherits two tables, that of {each.__name__} and that of {other.__name__}; "
                    "declare states and transitions of its own, or inherit one of them"
                )


def _home(owner: type) -> type | None:
    """The class that declares the table of `owner`."""
    return next((each for each in owner.__mro__ if {"states", "transitions"} & vars(each).keys()), None)


def states_of(owner: type, states: Iterable[StateLike]) -> dict[str, State]:
    """The states by name, in order."""
    found: dict[str, State] = {}
    for state in states:
        state = State(state) if isinstance(state, str) else state
        if not isinstance(state, State):
            raise DeclarationError(f"{owner.__name__}.states: {state!r} is not a state; give a State or a name")
        if not state.name.isidentifier():
            raise DeclarationError(
                f"{owner.__name__}.states: {state.name!r} must be an identifier, for while_{state.name}"
            )
        if state.name in found:
            raise DeclarationError(f"{owner.__name__}.states: {str(state.name)!r} stands there twice; remove one")
        found[state.name] = state
    return found


def rows_of(owner: type, rows: Iterable[RowLike]) -> tuple[Transition, ...]:
    """The rows, in order."""
    return tuple(_row(owner, row) for row in rows)


def _row(owner: type, row: Any) -> Transition:
    """Accept a row in the forms that `transitions` accepts."""
    if isinstance(row, Transition):
        return row
    try:
        if isinstance(row, Mapping):
            keys = {"conditions": "guards", "before": "effects"}
            return Transition(**{keys.get(str(key), str(key)): value for key, value in row.items()})
        return Transition(*row)
    except TypeError as error:
        raise DeclarationError(
            f"{owner.__name__}.transitions: {row!r} is not a row ({error}); "
            "give Transition(trigger, source, dest, guards, effects)"
        ) from None


def validate(
    owner: type, states: Mapping[str, State], rows: tuple[Transition, ...], required: Iterable[str] = ()
) -> None:
    """Refuse a table that cannot work.

    Args:
        owner: the class whose methods are the guards, effects and activities.
        states: its states by name.
        rows: its rows, in order.
        required: triggers that the owner fires by itself, so some state must handle each.

    Raises:
        DeclarationError: the table or the class is wrong; the message says where and how to mend it.
    """
    _Validation(owner, states, rows, tuple(required)).run()


@attrs.frozen
class _Validation:
    owner: type
    states: Mapping[str, State]
    rows: tuple[Transition, ...]
    required: tuple[str, ...]

    def run(self) -> None:
        self.one_initial_state()
        for row in self.rows:
            self.known_states(row)
            self.callbacks(row)
        for state in self.states.values():
            self.callbacks_of_state(state)
            self.time_limit(state)
        self.alternatives_end_unguarded()
        self.activities_have_states()
        self.machines_give_no_data()
        self.errors_are_handled()
        self.required_triggers_are_handled()

    def one_initial_state(self) -> None:
        initial = [str(name) for name, state in self.states.items() if state.initial]
        if len(initial) != 1:
            self.wrong(
                "states", f"{len(initial)} states are initial {initial}; mark exactly one with State(..., initial=True)"
            )

    def known_states(self, row: Transition) -> None:
        named = row.source.names if isinstance(row.source, Others) else row.source
        for name in (*named, *(() if row.dest is None else (row.dest,))):
            if name not in self.states:
                self.wrong(
                    "transitions",
                    f"{_shown(row)} names the state {str(name)!r}, which states does not have"
                    f"{did_you_mean(name, self.states)}; add it to states or mend the row",
                )
        if not row.sources(self.states):
            self.wrong("transitions", f"{_shown(row)} starts from no state, so it can never be taken; remove it")

    def callbacks(self, row: Transition) -> None:
        for kind, names in (("guard", row.guards), ("effect", row.effects)):
            for name in names:
                self.callback("transitions", f"{_shown(row)} names the {kind}", name)

    def callbacks_of_state(self, state: State) -> None:
        for kind, names in (("entry", state.entry), ("exit", state.exit)):
            for name in names:
                self.callback("states", f"{str(state.name)!r} names the {kind} effect", name)

    def callback(self, where: str, who: str, name: str) -> None:
        method = getattr(self.owner, name, None)
        if method is None or not callable(method):
            methods = [each for each in dir(self.owner) if callable(getattr(self.owner, each, None))]
            problem = "has no such method" if method is None else "has that as an attribute, not as a method"
            self.wrong(
                where,
                f"{who} {name!r}, but {self.owner.__name__} {problem}"
                f"{did_you_mean(name, methods)}; define it as: def {name}(self, reason)",
            )
        if inspect.iscoroutinefunction(method):
            self.wrong(
                where,
                f"{who} {name!r}, which is async; decisions never wait: "
                "make it a plain method, and put what takes time into a while_<state> method",
            )
        if not name.isidentifier() or takes(self.owner, name) is None:
            self.wrong(
                where,
                f"{who} {name!r}, which cannot be called with the reason; define it as: def {name}(self, reason)",
            )

    def time_limit(self, state: State) -> None:
        name = str(state.name)
        if (state.timeout is None) != (state.on_timeout is None):
            missing = "on_timeout=<trigger>" if state.on_timeout is None else "timeout=<seconds>"
            self.wrong("states", f"the time limit of {name!r} is incomplete; add {missing}")
        if state.timeout is None:
            return
        is_said = is_seconds(state.timeout) or (isinstance(state.timeout, str) and state.timeout.isidentifier())
        if not is_said or state.timeout == math.inf:
            self.wrong(
                "states",
                f"the timeout of {name!r} is {state.timeout!r}; give a positive number of seconds, or the name of the "
                "attribute that has it",
            )
        if (str(state.on_timeout), name) not in self.alternatives():
            self.wrong(
                "transitions",
                f"the time limit of {name!r} fires {str(state.on_timeout)!r}, which that state does not handle; add a "
                f"row such as Transition({str(state.on_timeout)!r}, {name!r}, <state>)",
            )

    def machines_give_no_data(self) -> None:
        """Refuse guards and effects that need data in rows that the machine fires itself: it gives a reason only."""
        for name, state in self.states.items():
            fired = [state.on_timeout] if state.timeout is not None else []
            if hasattr(self.owner, ACTIVITY_PREFIX + name):
                fired += [state.on_error, FAULT]
            for trigger in fired:
                for row in self.alternatives().get((str(trigger), str(name)), ()):
                    dest = () if row.dest is None else self.states[row.dest].entry
                    left = () if row.dest is None else state.exit
                    for each in (*row.guards, *row.effects, *left, *dest):
                        self.needs_nothing(row, each)

    def needs_nothing(self, row: Transition, name: str) -> None:
        found = takes(self.owner, name)
        if found is not None and found.needed:
            self.wrong(
                "transitions",
                f"{_shown(row)} is fired by the machine itself, which gives no {found.needed[0]!r}, and {name}() needs "
                f"it; give the parameter a default, or call it 'reason' to be given the error",
            )

    def alternatives_end_unguarded(self) -> None:
        for (trigger, source), rows in self.alternatives().items():
            for place, row in enumerate(rows):
                self.can_be_taken(row, rows[:place], source)
            if rows[-1].guards:
                self.wrong(
                    "transitions",
                    f"in state {source!r}, {trigger!r} may find no row, for the last one, {_shown(rows[-1])}, "
                    "has a guard; add a last row without guards that says what happens otherwise",
                )

    def can_be_taken(self, row: Transition, earlier: Sequence[Transition], source: str) -> None:
        for each in earlier:
            if set(each.guards) <= set(row.guards):
                why = "is taken whenever its guards agree" if each.guards else "has no guard"
                self.wrong(
                    "transitions",
                    f"in state {source!r}, {_shown(row)} can never be taken, for {_shown(each)} before it {why}; "
                    "remove one, or put the one with more guards first",
                )

    def alternatives(self) -> dict[tuple[str, str], list[Transition]]:
        found: dict[tuple[str, str], list[Transition]] = {}
        for row in self.rows:
            for source in row.sources(self.states):
                found.setdefault((str(row.trigger), str(source)), []).append(row)
        return found

    def activities_have_states(self) -> None:
        for name in dir(self.owner):
            if not name.startswith(ACTIVITY_PREFIX):
                continue
            state = name.removeprefix(ACTIVITY_PREFIX)
            if state not in self.states:
                hint = did_you_mean(state, self.states)
                self.wrong(name, f"there is no state {state!r}{hint}; add it to states or rename the method")
            if not inspect.iscoroutinefunction(getattr(self.owner, name)):
                self.wrong(name, f"the activity of a state must be a coroutine; define it as: async def {name}(self)")
            try:
                inspect.signature(inspect.getattr_static(self.owner, name).__get__(self, self.owner)).bind()
            except TypeError as error:
                self.wrong(name, f"an activity takes no arguments ({error}); define it as: async def {name}(self)")

    def errors_are_handled(self) -> None:
        handled = self.alternatives()
        for name, state in self.states.items():
            if not hasattr(self.owner, ACTIVITY_PREFIX + name):
                continue
            for trigger in dict.fromkeys((str(state.on_error), FAULT)):
                if (trigger, str(name)) not in handled:
                    self.wrong(
                        "transitions",
                        f"the activity of {str(name)!r} may fire {trigger!r}, which that state does not handle; "
                        f"add a row such as Transition({trigger!r}, {str(name)!r}, <state>), or change its on_error",
                    )

    def required_triggers_are_handled(self) -> None:
        handled = {trigger for trigger, _ in self.alternatives()}
        for trigger in self.required:
            if str(trigger) not in handled:
                self.wrong(
                    "transitions",
                    f"no state handles the trigger {str(trigger)!r}, which {self.owner.__name__} fires by itself"
                    f"{did_you_mean(trigger, handled)}; add a row for it, or derive the table from the base class's",
                )

    def wrong(self, where: str, what: str) -> None:
        raise DeclarationError(f"{self.owner.__name__}.{where}: {what}")


def _shown(row: Transition) -> str:
    source = repr(row.source) if isinstance(row.source, Others) else "|".join(row.source)
    dest = "(stays)" if row.dest is None else str(row.dest)
    guards = f" [{', '.join(row.guards)}]" if row.guards else ""
    return f"({row.trigger}: {source} -> {dest}{guards})"

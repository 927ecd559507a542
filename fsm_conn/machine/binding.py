"""Binds a table to a class: one synchronous `transitions.Machine` for all instances of that class.

The rules that hold here:

- The machine is built when the class is made, and a wrong declaration is refused then, with the remedy.
- No instance is ever registered with the machine: it is handed in for the moment of one dispatch, and the
  machine keeps no reference to it. A new instance costs nothing but its own attributes.
- Dispatch is synchronous. A refused trigger, a guard or an effect that raises: nothing has changed.

All that is known about the inside of `transitions` stands in `engine` and here: that an event's `trigger` works on
an object which was never added as a model, and that `event.transitions` maps a source to its rows in order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from transitions import Machine

from fsm_conn._util.hints import did_you_mean
from fsm_conn.machine.dispatch import QuietMachine
from fsm_conn.machine.errors import DeclarationError, IllegalTriggerError
from fsm_conn.machine.table import Others, State, Transition

__all__ = ["ACTIVITY_PREFIX", "BoundTable", "Stateful"]

ACTIVITY_PREFIX = "while_"
STATE_ATTRIBUTE = "_state"
"""Where an instance keeps the name of its state, as a plain string."""
ENTERED = "_entered"
"""The method that an instance is told by when a state is entered; not called for internal transitions."""

on_bound: list[Callable[[BoundTable], None]] = []
"""Told of each lifecycle when it has been bound to its class. For tools that watch tables run; empty in production."""


class Stateful(Protocol):
    """What an object must have to live by a `BoundTable`."""

    _state: str

    def _entered(self, reason: BaseException | None) -> None: ...


class BoundTable:
    """A validated table bound to one class.

    Attributes:
        states: the states by name, in the order of the table.
        transitions: the rows, in the order of the table.
        initial: the name of the state where life begins.
        activities: the name of the method `while_<state>` for each state that has one.
        machine: the `transitions.Machine` that decides. Shared by all instances of the class.
    """

    __slots__ = ("_events", "activities", "initial", "machine", "owner", "states", "transitions")

    def __init__(
        self, owner: type, states: Sequence[State | str], transitions: Sequence[Any], required: Iterable[str] = ()
    ) -> None:
        """Validate and bind.

        Args:
            owner: the class whose methods are the guards, effects and activities.
            states: the states; a plain name is a state without special marks.
            transitions: the rows, each a `Transition`, a dict in the manner of `transitions`, or a list of
                trigger, source, dest.
            required: triggers that the owner fires by itself, so some state must handle each.

        Raises:
            DeclarationError: the table or the class is wrong; the message says where and how to mend it.
        """
        self.owner = owner
        self.states: Mapping[str, State] = _unique_states(owner, states)
        self.transitions = tuple(_row(owner, row) for row in transitions)
        _Validation(self, required).run()
        self.initial = next(state.name for state in self.states.values() if state.initial)
        self.activities = {
            name: ACTIVITY_PREFIX + name for name in self.states if hasattr(owner, ACTIVITY_PREFIX + name)
        }
        self.machine = self._build()
        self._events: Mapping[str, Any] = self.machine.events
        for tell in tuple(on_bound):
            tell(self)

    def dispatch(self, instance: Stateful, trigger: str, reason: BaseException | None = None) -> None:
        """Decide what `trigger` means for `instance` now, and change its state accordingly.

        Raises:
            IllegalTriggerError: its state does not handle the trigger. Nothing was changed.
            Exception: a guard or an effect raised. The state was not changed.
        """
        event = self._events.get(trigger)
        if event is None or instance._state not in event.transitions:
            raise self._illegal(instance, trigger)
        event.trigger(instance, reason)

    def handles(self, state: str, trigger: str) -> bool:
        """Whether `state` handles `trigger`."""
        event = self._events.get(trigger)
        return event is not None and state in event.transitions

    def allowed(self, state: str) -> tuple[str, ...]:
        """The triggers that `state` handles, sorted by name."""
        return tuple(sorted(trigger for trigger in self._events if self.handles(state, trigger)))

    def _illegal(self, instance: Stateful, trigger: str) -> IllegalTriggerError:
        allowed = self.allowed(instance._state)
        known = (
            ""
            if trigger in self._events
            else f" (no row of its table knows that trigger{did_you_mean(trigger, self._events)})"
        )
        return IllegalTriggerError(
            f"{instance!r}: {str(trigger)!r} cannot happen in state {str(instance._state)!r}{known}; "
            f"what can: {_listed(allowed)}",
            state=instance._state,
            trigger=trigger,
            allowed=allowed,
        )

    def _build(self) -> Machine:
        machine = QuietMachine(
            model=None,
            states=[{"name": str(name), "on_enter": ENTERED} for name in self.states],
            initial=str(self.initial),
            auto_transitions=False,
            model_attribute=STATE_ATTRIBUTE,
        )
        for row in self.transitions:
            machine.add_transition(
                str(row.trigger),
                [str(name) for name in row.sources(self.states)],
                None if row.dest is None else str(row.dest),
                conditions=list(row.guards),
                before=list(row.effects),
            )
        return machine


def _unique_states(owner: type, states: Sequence[State | str]) -> dict[str, State]:
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


def _row(owner: type, row: Any) -> Transition:
    """Accept a row in the forms that users of `transitions` know."""
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


class _Validation:
    """Everything that can be known to be wrong before anything runs."""

    def __init__(self, lifecycle: BoundTable, required: Iterable[str]) -> None:
        self.required = tuple(required)
        self.owner = lifecycle.owner
        self.states = lifecycle.states
        self.rows = lifecycle.transitions

    def run(self) -> None:
        self.one_initial_state()
        for row in self.rows:
            self.known_states(row)
            self.callbacks(row)
        self.alternatives_end_unguarded()
        self.activities_have_states()
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
                self.callback(row, kind, name)

    def callback(self, row: Transition, kind: str, name: str) -> None:
        method = getattr(self.owner, name, None)
        if method is None or not callable(method):
            methods = [each for each in dir(self.owner) if callable(getattr(self.owner, each, None))]
            problem = "has no such method" if method is None else "has that as an attribute, not as a method"
            self.wrong(
                "transitions",
                f"{_shown(row)} names the {kind} {name!r}, but {self.owner.__name__} {problem}"
                f"{did_you_mean(name, methods)}; define it as: def {name}(self, reason)",
            )
        if inspect.iscoroutinefunction(method):
            self.wrong(
                "transitions",
                f"{_shown(row)} names the {kind} {name!r}, which is async; decisions never wait: "
                "make it a plain method, and put what takes time into a while_<state> method",
            )
        if not _takes_reason(self.owner, name):
            self.wrong(
                "transitions",
                f"{_shown(row)} names the {kind} {name!r}, which cannot be called with the reason; "
                f"define it as: def {name}(self, reason)",
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

    def errors_are_handled(self) -> None:
        handled = self.alternatives()
        for name, state in self.states.items():
            if not hasattr(self.owner, ACTIVITY_PREFIX + name):
                continue
            for trigger in dict.fromkeys((str(state.on_error), "fault")):
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


def _takes_reason(owner: type, name: str) -> bool:
    static = isinstance(inspect.getattr_static(owner, name), (staticmethod, classmethod))
    try:
        inspect.signature(getattr(owner, name)).bind(*([None] if static else [None, None]))
    except TypeError:
        return False
    except ValueError:
        return True  # a builtin that does not tell its signature
    return True


def _shown(row: Transition) -> str:
    source = repr(row.source) if isinstance(row.source, Others) else "|".join(row.source)
    dest = "(stays)" if row.dest is None else str(row.dest)
    guards = f" [{', '.join(row.guards)}]" if row.guards else ""
    return f"({row.trigger}: {source} -> {dest}{guards})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(str(name) for name in names) or "nothing"

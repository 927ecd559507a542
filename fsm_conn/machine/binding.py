"""Binds a table to a class: validated, as a `transitions.Machine` for readers, and compiled for all instances.

The rules that hold here:

- A wrong declaration is refused when the class is created, with the remedy.
- `machine` is an ordinary `transitions.Machine`, created with the class and never changed. It shows people and tools
  that know `transitions` what the functions of `dispatch` do. No instance is ever registered with it.
- A new instance costs nothing but its own attributes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from transitions import Machine

from fsm_conn._util.hints import did_you_mean
from fsm_conn.machine.dispatch import Listener, Steps, source_of
from fsm_conn.machine.errors import DeclarationError, IllegalTriggerError
from fsm_conn.machine.table import ACTIVITY_PREFIX, State, Transition
from fsm_conn.machine.validation import RowLike, StateLike, rows_of, states_of, validate

if TYPE_CHECKING:
    import asyncio

__all__ = ["BoundTable"]

on_bound: list[Callable[[BoundTable], None]] = []
"""Callbacks, called with each table once it is bound. For tools that watch tables run; empty in production."""


class BoundTable:
    """A validated table bound to one class.

    Attributes:
        states: the states by name, in the order of the table.
        transitions: the rows, in the order of the table.
        initial: the name of the initial state.
        activities: the name of the method `while_<state>` for each state that has one.
        machine: the table as a `transitions.Machine`, to be read only: firing its triggers changes no instance.
    """

    def __init__(
        self, owner: type, states: Iterable[StateLike], transitions: Iterable[RowLike], required: Iterable[str] = ()
    ) -> None:
        """Validate and bind.

        Args:
            owner: the class whose methods are the guards, effects and activities; a `StateMachine`.
            states: the states; a plain name is a state without special marks.
            transitions: the rows, each a `Transition`, a dict in the manner of `transitions`, or a list of
                trigger, source, dest.
            required: triggers that the owner fires by itself, so some state must handle each.

        Raises:
            DeclarationError: the table or the class is wrong; the message says where and how to mend it.
        """
        self.owner: Any = owner
        self.states: Mapping[str, State] = states_of(owner, states)
        self.transitions = rows_of(owner, transitions)
        validate(owner, self.states, self.transitions, required)
        self.initial = next(state.name for state in self.states.values() if state.initial)
        self.activities = {
            name: ACTIVITY_PREFIX + name for name in self.states if hasattr(owner, ACTIVITY_PREFIX + name)
        }
        if self.has_work(self.initial) and getattr(owner, "begins_at_rest", False):
            raise DeclarationError(
                f"{owner.__name__}: a machine of this kind begins idle in {str(self.initial)!r}, so that state can "
                "have neither an activity nor a time limit; use another state, or on_state_change()"
            )
        self._places = self._placed()
        self._triggers = frozenset(trigger for _, trigger in self._places)
        self._allowed: dict[str, tuple[str, ...]] = {}
        self.machine = self._read_as_machine()
        self.hears_of_entering = False
        """Whether the class overrides `entered`."""
        self.listeners: tuple[Listener, ...] = ()
        self.steps, self.steps_aloud = Steps(self, aloud=False), Steps(self, aloud=True)
        for tell in tuple(on_bound):
            tell(self)

    def __repr__(self) -> str:
        return f"<table of {self.owner.__name__}: {len(self.states)} states, {len(self.transitions)} rows>"

    @property
    def needs_loop(self) -> bool:
        """Whether its machines need an event loop, because some state has an activity or a time limit."""
        return bool(self.activities) or any(state.timeout is not None for state in self.states.values())

    def has_work(self, state: str) -> bool:
        """Whether entering `state` starts an activity or a time limit."""
        return state in self.activities or self.states[state].timeout is not None

    def rows(self, state: str, trigger: str) -> tuple[Transition, ...]:
        """The rows that are tried, in order, when `trigger` is fired in `state`; empty when it is refused there."""
        return tuple(self.transitions[place] for place in self.places(state, trigger))

    def places(self, state: str, trigger: str) -> tuple[int, ...]:
        """The positions of these rows in the table, counted from 0."""
        return self._places.get((state, trigger), ())

    def handles(self, state: str, trigger: str) -> bool:
        """Whether `state` handles `trigger`."""
        return (state, trigger) in self._places

    def allowed(self, state: str) -> tuple[str, ...]:
        """The triggers that `state` handles, sorted by name."""
        found = self._allowed.get(state)
        if found is None:
            found = tuple(sorted(trigger for source, trigger in self._places if source == state))
            self._allowed[state] = found
        return found

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Call `callback(place, state, taken)` for each row that is tried.

        For tools that watch tables run: it slows down all machines of the class. The callback must not raise.

        Returns:
            a function that ends it, and does not keep the class alive.
        """
        self.listeners = (*self.listeners, callback)
        self._forget_steps()

        known = weakref.ref(self)

        def end() -> None:
            table = known()
            if table is not None:
                table.listeners = tuple(each for each in table.listeners if each is not callback)
                table._forget_steps()

        return end

    def heard(self, place: int, state: str, taken: bool) -> None:
        """Call the callbacks that listen."""
        for listener in self.listeners:
            listener(place, state, taken)

    def source(self, state: str, trigger: str) -> str:
        """The source text of the function that runs when `trigger` is fired in `state`.

        Raises:
            KeyError: the state does not handle the trigger.
        """
        if not self.handles(state, trigger):
            raise KeyError((state, trigger))
        return source_of(self, state, trigger)

    def illegal(self, instance: Any, trigger: str) -> IllegalTriggerError:
        """The error for a trigger that the state of `instance` does not handle."""
        state = instance._state
        if state not in self.states:
            return IllegalTriggerError(
                f"{type(instance).__name__}: {state!r:.60} was assigned to _state, where a machine keeps its state's "
                "name; call an attribute of your own something else, and change the state by fire()",
                trigger=trigger,
            )
        allowed = self.allowed(state)
        triggers = self._triggers
        known = (
            "" if trigger in triggers else f" (no row of its table knows that trigger{did_you_mean(trigger, triggers)})"
        )
        return IllegalTriggerError(
            f"{instance!r}: {str(trigger)!r} cannot happen in state {str(state)!r}{known}; "
            f"what can: {', '.join(allowed) or 'nothing'}",
            state=str(state),
            trigger=trigger,
            allowed=allowed,
        )

    def without_loop(self, instance: Any, own: asyncio.AbstractEventLoop | None) -> RuntimeError:
        """The error when `instance` needs an event loop and none runs; `own` is the loop that it lives in, if any."""
        if own is not None and not own.is_closed():
            return self.in_another_loop(instance)
        what = ", ".join(self.activities.values()) or "a time limit"
        return RuntimeError(
            f"{instance!r} has {what}, which needs an event loop, and none runs here; use it in a coroutine, such as "
            "one that asyncio.run() is given"
        )

    def in_another_loop(self, instance: Any) -> RuntimeError:
        """The error when `instance` is used from another event loop than its own, or from another thread."""
        return RuntimeError(
            f"{instance!r} lives in another event loop: use it there (from a thread, by "
            "asyncio.run_coroutine_threadsafe() or the loop's call_soon_threadsafe()), or end it there first"
        )

    def _forget_steps(self) -> None:
        self.steps.clear()
        self.steps_aloud.clear()

    def _placed(self) -> dict[tuple[str, str], tuple[int, ...]]:
        found: dict[tuple[str, str], tuple[int, ...]] = {}
        for place, row in enumerate(self.transitions):
            for source in row.sources(self.states):
                key = str(source), str(row.trigger)
                found[key] = (*found.get(key, ()), place)
        return found

    def _read_as_machine(self) -> Machine:
        machine = Machine(
            model=None,
            states=[
                {"name": str(name), "on_enter": list(each.entry), "on_exit": list(each.exit), "final": each.final}
                for name, each in self.states.items()
            ],
            initial=str(self.initial),
            auto_transitions=False,
            name=self.owner.__name__,
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

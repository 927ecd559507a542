"""A machine as a reader sees it: states and rows, as values, whatever they were declared with.

Diagrams, checks and the command line read machines through this module alone, so none of them can tell a table apart
from the one that runs. The rules that hold here: a chart is made from what was bound, never from source text; nothing
is called and nothing changed in the making; the same machine gives the same chart, in the order of its table.

All that is known about the inside of `transitions` beside `fsm_conn.machine.binding` stands in `_Plain`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping
from types import MethodType, SimpleNamespace
from typing import Any, Literal, cast, get_args, get_origin

import attrs
from transitions import Machine

from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.table import Fires, Others

__all__ = ["Chart", "ChartError", "ChartRow", "ChartState", "chart_of"]


class ChartError(FsmConnError, TypeError):
    """What was given has no table that could be read."""


@attrs.frozen
class ChartState:
    """A state, as it was declared."""

    name: str
    initial: bool = False
    """Whether life begins here; of a nested state: whether entering its parent leads here."""
    final: bool = False
    """Whether it is in order to stay here for ever."""
    parent: str | None = None
    """The state that it is a part of, in a hierarchical machine."""
    activity: str | None = None
    """The method that runs while the state lasts."""
    fires: tuple[str, ...] | None = None
    """The triggers that the activity returns, as its annotation says; None when it does not say."""
    on_error: str | None = None
    """The trigger that is fired when the activity raises an error of the world outside."""
    marks: tuple[str, ...] = ()
    """What its kind of state says of it beside all this, such as that a link is open throughout it."""
    entry: tuple[str, ...] = ()
    """What is called when it is entered."""
    exit: tuple[str, ...] = ()
    """What is called when it is left."""
    timeout: float | None = None
    """Seconds after which `on_timeout` is called, for a plain machine's state with a time limit."""
    on_timeout: tuple[str, ...] = ()
    inner_name: str | None = None
    """Its name inside `parent`, without what stands before it in `name`."""


@attrs.frozen
class ChartRow:
    """A row, as it was declared: once, however many states it starts from."""

    index: int
    """Where it stands in the table; the first is 0. The same number as in a coverage report."""
    trigger: str
    sources: tuple[str, ...]
    """In the order of the states; last those that there are not, which `transitions` lets pass."""
    dest: str | None
    """None for an internal transition."""
    guards: tuple[str, ...] = ()
    """What must hold; with `not ` before the name of what must not."""
    effects: tuple[str, ...] = ()
    """What is called when it is taken."""
    every_but: tuple[str, ...] | None = None
    """For a row that was declared for all states but these; None for one that names its sources."""
    timer: str | None = None
    """The setting that says after how long the source's own activity fires the trigger."""

    @property
    def internal(self) -> bool:
        """Whether the state is not left."""
        return self.dest is None

    def reflexive(self, source: str) -> bool:
        """Whether `source` is left and entered again."""
        return self.dest == source


@attrs.frozen
class Chart:
    """A machine: its name, its states and its rows."""

    name: str
    states: tuple[ChartState, ...]
    rows: tuple[ChartRow, ...]
    owner: type | None = None
    """The class that lives by it; None for a machine that was given itself."""

    @property
    def initial(self) -> ChartState | None:
        """Where life begins; None for a plain machine without such a state."""
        return next((state for state in self.states if state.initial and state.parent is None), None)

    def state(self, name: str) -> ChartState:
        """The state of that name.

        Raises:
            KeyError: there is none.
        """
        for state in self.states:
            if state.name == name:
                return state
        raise KeyError(name)

    @property
    def alternatives(self) -> Mapping[tuple[str, str], tuple[ChartRow, ...]]:
        """For each trigger and source, the rows in the order in which they are asked."""
        found: dict[tuple[str, str], list[ChartRow]] = {}
        for row in self.rows:
            for source in row.sources:
                found.setdefault((row.trigger, source), []).append(row)
        return {key: tuple(rows) for key, rows in found.items()}

    @property
    def triggers(self) -> tuple[str, ...]:
        """Every trigger, in the order of the table."""
        return tuple(dict.fromkeys(row.trigger for row in self.rows))


def chart_of(machine: Any) -> Chart:
    """Read a machine.

    Args:
        machine: a subclass of `Connection`, of `ConnectionPool` or of anything else that lives by a `BoundTable`; an
            instance of one; or a `transitions.Machine` of any kind.

    Raises:
        ChartError: it is none of these.
    """
    if isinstance(machine, Machine):
        return _Plain(machine).chart()
    lifecycle = getattr(machine, "lifecycle", None)
    if isinstance(lifecycle, BoundTable):
        return _bound(lifecycle)
    raise ChartError(
        f"{machine!r} has no table; give a subclass of Connection, a pool, or a transitions.Machine"
        + (", which must have been made" if isinstance(machine, type) and issubclass(machine, Machine) else "")
    )


def _bound(lifecycle: BoundTable) -> Chart:
    return Chart(
        lifecycle.owner.__name__,
        tuple(_bound_states(lifecycle)),
        tuple(
            ChartRow(
                index,
                str(row.trigger),
                tuple(map(str, row.sources(lifecycle.states))),
                None if row.dest is None else str(row.dest),
                tuple(map(str, row.guards)),
                tuple(map(str, row.effects)),
                tuple(map(str, row.source.names)) if isinstance(row.source, Others) else None,
                row.timer,
            )
            for index, row in enumerate(lifecycle.transitions)
        ),
        lifecycle.owner,
    )


def _bound_states(lifecycle: BoundTable) -> Iterator[ChartState]:
    for name, state in lifecycle.states.items():
        activity = lifecycle.activities.get(name)
        yield ChartState(
            str(name),
            state.initial,
            state.final,
            activity=activity,
            fires=None if activity is None else fired_by(getattr(lifecycle.owner, activity)),
            on_error=None if activity is None else str(state.on_error),
            marks=state.marks,
        )


def fired_by(activity: Any) -> tuple[str, ...] | None:
    """The triggers that an activity returns, by its annotation; None when that does not say.

    What says so is `Literal["opened", "refused"]`, or `Annotated[str, Fires("opened", "refused")]`, with or without
    None; a lone None says that it returns no trigger.
    """
    note = getattr(activity, "__annotations__", {}).get("return", str)
    try:
        hints = typing.get_type_hints(
            cast("Any", SimpleNamespace(__annotations__={"return": note})),
            globalns=getattr(activity, "__globals__", {}),
            include_extras=True,
        )
    except (NameError, TypeError, AttributeError):
        return None  # it names what only type checkers know
    return _triggers_in(hints["return"])


def _triggers_in(hint: Any) -> tuple[str, ...] | None:
    if hint in (None, type(None), typing.Never, typing.NoReturn):
        return ()
    if get_origin(hint) is Literal:
        return tuple(str(value) for value in get_args(hint) if value is not None)
    for each in getattr(hint, "__metadata__", ()):
        if isinstance(each, Fires):
            return tuple(map(str, each.triggers))
    parts = [_triggers_in(part) for part in get_args(hint)] if get_origin(hint) is not None or get_args(hint) else []
    if not parts or None in parts:
        return None
    return tuple(trigger for part in parts for trigger in part or ())


class _Plain:
    """Reads a `transitions.Machine`: flat, asynchronous or hierarchical."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.separator: str = getattr(machine.state_cls, "separator", "_")
        self.named: dict[str, list[Any]] = {}

    def chart(self) -> Chart:
        states = tuple(self.states(self.machine.states, None, self.machine.initial))
        return Chart(self.machine.name.rstrip(": ") or type(self.machine).__name__, states, self.rows(states))

    def states(self, states: Mapping[str, Any], parent: str | None, initial: Any) -> Iterator[ChartState]:
        entered = {str(getattr(each, "name", each)) for each in _listed(initial)}
        for name, state in states.items():
            path = name if parent is None else f"{parent}{self.separator}{name}"
            timeout = getattr(state, "timeout", 0)
            yield ChartState(
                path,
                any(each == name or each.startswith(f"{name}{self.separator}") for each in entered),
                bool(getattr(state, "final", False)),
                parent,
                entry=self.names(state.on_enter),
                exit=self.names(state.on_exit),
                timeout=timeout or None,
                on_timeout=self.names(getattr(state, "on_timeout", ()) or ()) if timeout else (),
                inner_name=None if parent is None else name,
            )
            yield from self.states(getattr(state, "states", {}), path, getattr(state, "initial", None))

    def rows(self, states: tuple[ChartState, ...]) -> tuple[ChartRow, ...]:
        """One for all sources for which a row was declared alike."""
        order = [state.name for state in states]
        found: dict[tuple[Any, ...], list[str]] = {}
        for scope, events in self.events(self.machine.states, "", self.machine.events):
            for trigger, event in events.items():
                if self.is_automatic(trigger, order):
                    continue
                for source, alternatives in event.transitions.items():
                    for place, row in enumerate(alternatives):
                        found.setdefault((trigger, place, *self.row(scope, row)), []).append(scope + source)
        place_of = {name: place for place, name in enumerate(order)}
        # `*` of a hierarchical machine is all outer states, and those inside do as the one around them does.
        whole = sorted(order), sorted(state.name for state in states if state.parent is None)
        return tuple(
            ChartRow(
                index,
                trigger,
                tuple(sorted(sources, key=lambda name: place_of.get(name, len(order)))),
                dest,
                guards,
                effects,
                () if len(sources) > 2 and sorted(sources) in whole else None,
            )
            for index, ((trigger, _, dest, guards, effects), sources) in enumerate(found.items())
        )

    def events(self, states: Mapping[str, Any], scope: str, events: Any) -> Iterator[tuple[str, Any]]:
        """The events of the machine, and those that nested states declare for themselves."""
        yield scope, events
        for name, state in states.items():
            if getattr(state, "events", None):
                yield from self.events(state.states, f"{scope}{name}{self.separator}", state.events)

    def row(self, scope: str, row: Any) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
        guards = tuple(("" if each.target else "not ") + self.name(each.func) for each in row.conditions)
        dest = None if row.dest is None else f"{scope}{getattr(row.dest, 'name', row.dest)}"
        return dest, guards, self.names((*row.prepare, *row.before, *row.after))

    def is_automatic(self, trigger: str, order: list[str]) -> bool:
        """`to_<state>`, which `transitions` adds for every state."""
        return bool(self.machine.auto_transitions) and trigger.startswith("to_") and trigger[3:] in order

    def names(self, callbacks: Iterable[Any]) -> tuple[str, ...]:
        return tuple(map(self.name, callbacks))

    def name(self, callback: Any) -> str:
        """Two callbacks of one name, such as two lambdas, are not the same: the second is called `<lambda> 2`."""
        name, identity = _name(callback), _identity(callback)
        known = self.named.setdefault(name, [])
        if identity not in known:
            known.append(identity)
        number = known.index(identity) + 1
        return name if number == 1 else f"{name} {number}"


def _identity(callback: Any) -> Any:
    """What tells it from others; a bound method is made anew whenever it is looked up."""
    if isinstance(callback, MethodType):
        return id(callback.__func__), id(callback.__self__)
    return callback if isinstance(callback, str) else id(callback)


def _name(callback: Any) -> str:
    if isinstance(callback, str):
        return callback
    return str(getattr(callback, "__name__", None) or getattr(getattr(callback, "func", None), "__name__", "…"))


def _listed(value: Any) -> tuple[Any, ...]:
    return () if value is None else tuple(value) if isinstance(value, (list, tuple)) else (value,)

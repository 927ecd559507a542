"""The values that a chart is made of: states and rows, however they were declared. `chart` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from fsm_conn.machine.errors import FsmConnError

__all__ = ["Chart", "ChartError", "ChartRow", "ChartState"]


class ChartError(FsmConnError, TypeError):
    """The object has no readable table."""


@attrs.frozen
class ChartState:
    """A state, as it was declared."""

    name: str
    initial: bool = False
    """Whether the machine begins here or in a substate; for a substate: whether entering its parent leads here."""
    final: bool = False
    """Whether the machine may stay here for ever."""
    parent: str | None = None
    """The parent state, in a hierarchical machine."""
    activity: str | None = None
    """The method that runs while the state lasts."""
    steps: tuple[str, ...] = ()
    """What the activity does, one after the other, read from its annotation."""
    fires: tuple[str, ...] | None = None
    """The triggers that the activity returns, read from its annotation; None when the annotation names none."""
    on_error: str | None = None
    """The trigger that is fired when the activity raises an expected error."""
    marks: tuple[str, ...] = ()
    """Further marks that the kind of state adds, such as that a link is open throughout it."""
    entry: tuple[str, ...] = ()
    """The methods that are called when it is entered."""
    exit: tuple[str, ...] = ()
    """The methods that are called when it is left."""
    timeout: float | str | None = None
    """The time limit in seconds, or the name of the attribute that holds it."""
    on_timeout: tuple[str, ...] = ()
    """The trigger that is fired at the time limit; for a plain machine, the callbacks."""
    inner_name: str | None = None
    """Its name inside `parent`: `name` without the prefix."""
    begins: tuple[str, ...] = ()
    """The full names of the substates that are entered with it. Several are entered at once."""
    aliases: tuple[Any, ...] = attrs.field(default=(), eq=False, repr=False)
    """Another object that stands for the state, such as the member of an enumeration that declared it."""

    @property
    def is_parallel(self) -> bool:
        """Whether several substates are entered at once."""
        return len(self.begins) > 1


@attrs.frozen
class ChartRow:
    """A row as it was declared: one, however many states it starts from."""

    index: int
    """Its position in the table, counted from 0. Coverage reports use the same number."""
    trigger: str
    sources: tuple[str, ...]
    """In the order of the states. Unknown states, which `transitions` accepts, come last."""
    dest: str | None
    """None for an internal transition."""
    guards: tuple[str, ...] = ()
    """The names of the conditions; one that must not hold has `not ` before its name."""
    effects: tuple[str, ...] = ()
    """The methods that are called when it is taken."""
    prepares: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """The methods that are called before its guards, whether it is taken or not."""
    every_but: tuple[str, ...] | None = None
    """The excluded states of a row that was declared for all others; None for a row that names its sources."""
    timer: str | None = None
    """The setting that holds the delay after which the source's activity fires the trigger."""

    @property
    def internal(self) -> bool:
        """Whether the state is not left."""
        return self.dest is None


@attrs.frozen
class Chart:
    """A machine: its name, its states and its rows."""

    name: str
    states: tuple[ChartState, ...]
    rows: tuple[ChartRow, ...]
    owner: type | None = None
    """The class that has this table; None when a `transitions.Machine` was given."""
    begins: tuple[str, ...] = attrs.field(kw_only=True)
    """The full names of the initial states: several for a machine with parallel states; empty if none is declared."""

    @begins.default
    def _initial_states(self) -> tuple[str, ...]:
        return tuple(state.name for state in self.states if state.initial and state.parent is None)

    def state(self, name: Any) -> ChartState:
        """The state with that name, or declared by that member of an enumeration or that `transitions.State`.

        Raises:
            KeyError: there is none.
        """
        for state in self.states:
            if any(alias is name for alias in state.aliases) or (isinstance(name, str) and state.name == name):
                return state
        raise KeyError(name)

    @property
    def alternatives(self) -> Mapping[tuple[str, str], tuple[ChartRow, ...]]:
        """For each trigger and source, the rows in the order in which they are tried."""
        found: dict[tuple[str, str], list[ChartRow]] = {}
        for row in self.rows:
            for source in row.sources:
                found.setdefault((row.trigger, source), []).append(row)
        return {key: tuple(rows) for key, rows in found.items()}

    @property
    def triggers(self) -> tuple[str, ...]:
        """Every trigger, in the order of the table."""
        return tuple(dict.fromkeys(row.trigger for row in self.rows))

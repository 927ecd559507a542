"""What a machine is to a reader: states and rows, as values, whatever they were declared with. `chart` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from fsm_conn.machine.errors import FsmConnError

__all__ = ["Chart", "ChartError", "ChartRow", "ChartState"]


class ChartError(FsmConnError, TypeError):
    """The object has no table that could be read."""


@attrs.frozen
class ChartState:
    """A state, as it was declared."""

    name: str
    initial: bool = False
    """Whether life begins here, or in a part of it; of a part: whether entering its parent leads here."""
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
    timeout: float | str | None = None
    """The time limit, in seconds, or the name of the attribute that says it."""
    on_timeout: tuple[str, ...] = ()
    """The trigger that is fired then; for a plain machine, what is called."""
    inner_name: str | None = None
    """Its name inside `parent`, without what stands before it in `name`."""
    begins: tuple[str, ...] = ()
    """Of a state with parts: those that are entered with it, by their full names. Several are entered at once."""
    aliases: tuple[Any, ...] = attrs.field(default=(), eq=False, repr=False)
    """What else stands for it beside its name, such as the member of an enumeration that it was declared by."""

    @property
    def is_parallel(self) -> bool:
        """Whether several of its parts are entered at once."""
        return len(self.begins) > 1


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
    prepares: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """What is called before its guards are asked, whether it is taken or not."""
    every_but: tuple[str, ...] | None = None
    """For a row that was declared for all states but these; None for one that names its sources."""
    timer: str | None = None
    """The setting that says after how long the source's own activity fires the trigger."""

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
    """The class that lives by it; None for a machine that was given itself."""
    begins: tuple[str, ...] = attrs.field(kw_only=True)
    """Where life begins, by full names: several for a machine in several states at once; none if it does not say."""

    @begins.default
    def _initial_states(self) -> tuple[str, ...]:
        return tuple(state.name for state in self.states if state.initial and state.parent is None)

    def state(self, name: Any) -> ChartState:
        """The state of that name, or that was declared by that member of an enumeration or that `transitions.State`.

        Raises:
            KeyError: there is none.
        """
        for state in self.states:
            if any(alias is name for alias in state.aliases) or (isinstance(name, str) and state.name == name):
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

"""Reads any machine as a chart: its states and rows as plain values, however they were declared.

Diagrams, checks and the command line read machines through this module alone, so what they show is the table that
runs. The rules that hold here: a chart is made from the bound table, never from source text; making it calls nothing
and changes nothing; the same machine gives the same chart, in the order of its table.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Literal, cast, get_args, get_origin

from transitions import Machine

from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.chart_plain import plain_chart
from fsm_conn.machine.chart_values import Chart, ChartError, ChartRow, ChartState
from fsm_conn.machine.table import Fires, Others

__all__ = ["Chart", "ChartError", "ChartRow", "ChartState", "chart_of", "fired_by", "may_be_silent"]


def chart_of(machine: Any) -> Chart:
    """Read a machine.

    Args:
        machine: a `StateMachine` class, such as `Connection` or `ConnectionPool`; an instance of one; or a
            `transitions.Machine` of any kind.

    Raises:
        ChartError: it is none of these.
    """
    if isinstance(machine, Machine):
        return plain_chart(machine)
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
            steps=() if activity is None else steps_of(getattr(lifecycle.owner, activity)),
            fires=None if activity is None else fired_by(getattr(lifecycle.owner, activity)),
            on_error=None if activity is None else str(state.on_error),
            marks=state.marks,
            entry=tuple(map(str, state.entry)),
            exit=tuple(map(str, state.exit)),
            timeout=state.timeout,
            on_timeout=() if state.on_timeout is None else (str(state.on_timeout),),
        )


def fired_by(activity: Any) -> tuple[str, ...] | None:
    """The triggers that an activity returns, read from its annotation; None when the annotation names none.

    An annotation names them as `Literal["opened", "refused"]` or `Annotated[str, Fires("opened", "refused")]`, with or
    without None. None alone means that the activity returns no trigger.
    """
    return _triggers_in(_returned_hint(activity))


def steps_of(activity: Any) -> tuple[str, ...]:
    """What an activity does, one after the other, as its annotation tells."""
    found = (each.steps for each in getattr(_returned_hint(activity), "__metadata__", ()) if isinstance(each, Fires))
    return tuple(map(str, next(found, ())))


def may_be_silent(activity: Any) -> bool:
    """Whether an activity's annotation allows None, which means no trigger."""
    return _holds_none(_returned_hint(activity))


def _holds_none(hint: Any) -> bool:
    return hint in (None, type(None)) or any(map(_holds_none, get_args(hint)))


def _returned_hint(activity: Any) -> Any:
    note = getattr(activity, "__annotations__", {}).get("return", str)
    try:
        hints = typing.get_type_hints(
            cast("Any", SimpleNamespace(__annotations__={"return": note})),
            globalns=getattr(activity, "__globals__", {}),
            include_extras=True,
        )
    except (NameError, TypeError, AttributeError):
        return str  # it names what only type checkers know
    return hints["return"]


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

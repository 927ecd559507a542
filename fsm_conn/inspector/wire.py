"""The data that is sent to a browser, as JSON values.

The rules that hold here: the data that was given with a trigger is never sent. Of a call only its method and its end
are sent; of an error, its type and the first line of its message. Every text is cut, and characters that are invisible
or change the direction of text are escaped.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from fsm_conn._util.text import named, plain_line
from fsm_conn.machine.chart_values import Chart
from fsm_conn.machine.records import TransitionRecord

__all__ = ["Entry", "Kept", "chart_values", "encoded", "entry_of", "entry_values", "reason_of", "shown"]

LONGEST_NAME = 200
"""Characters of a name that are sent; a longer name is cut."""
LONGEST_REASON = 500
"""Characters of an error's message that are sent."""


class Entry(NamedTuple):
    """One transition, without its trigger's data, and without the exception that caused it."""

    trigger: str
    source: str
    dest: str
    internal: bool
    reason: tuple[str, str] | None
    """The type of the error, and the first line of its message."""
    dwell: float
    at: float
    attempt: int


Kept = Entry | TransitionRecord
"""What is kept of a transition: the record itself only if it has neither an error nor data of its trigger."""


def entry_of(record: TransitionRecord) -> Entry:
    """The part of a record that may be kept: an error's traceback would keep alive everything in its frames."""
    return Entry(
        record.trigger,
        record.source,
        record.dest,
        record.internal,
        None if record.reason is None else reason_of(record.reason),
        record.dwell,
        record.at,
        getattr(record, "attempt", 0),
    )


def entry_values(number: int, entry: Kept) -> list[Any]:
    """One transition, for the page."""
    way = shown(entry.trigger), shown(entry.source), shown(entry.dest), entry.internal
    return [number, *way, entry.reason, entry.dwell, entry.at, getattr(entry, "attempt", 0)]


def reason_of(error: BaseException) -> tuple[str, str]:
    """The type of an error, and the first line of its message."""
    kind = type(error).__name__
    message = named(error).removeprefix(f"{kind}: ")
    return shown(kind), shown(message.partition("\n")[0], LONGEST_REASON)


def shown(text: object, limit: int = LONGEST_NAME) -> str:
    """A text, cut and escaped."""
    found = str(text)
    return plain_line(found) if len(found) <= limit else plain_line(found[:limit]) + "…"


def encoded(value: Any) -> bytes:
    """JSON without whitespace. A number that is not finite becomes null."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value


def chart_values(chart: Chart) -> dict[str, Any]:
    """A table, for the page: its states and rows in order."""
    return {
        "name": shown(chart.name),
        "begins": [shown(name) for name in chart.begins],
        "states": [
            {
                "name": shown(state.name),
                "final": state.final,
                "activity": None if state.activity is None else shown(state.activity),
                "fires": None if state.fires is None else [shown(each) for each in state.fires],
                "on_error": None if state.on_error is None else shown(state.on_error),
                "timeout": None if state.timeout is None else shown(state.timeout),
                "on_timeout": [shown(each) for each in state.on_timeout],
                "entry": [shown(each) for each in state.entry],
                "exit": [shown(each) for each in state.exit],
            }
            for state in chart.states
        ],
        "rows": [
            {
                "trigger": shown(row.trigger),
                "sources": [shown(each) for each in row.sources],
                "dest": None if row.dest is None else shown(row.dest),
                "guards": [shown(each) for each in row.guards],
                "effects": [shown(each) for each in row.effects],
            }
            for row in chart.rows
        ],
    }

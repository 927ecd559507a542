"""A table as plain text: a line for each state and each row, for terminals, reviews and tests that compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fsm_conn.diagrams.drawing import Overlay
from fsm_conn.diagrams.words import seconds, state_marks, visible
from fsm_conn.machine.chart import Chart, ChartRow, ChartState

__all__ = ["to_text"]


def to_text(chart: Chart, overlays: Sequence[Overlay] = (), title: str | None = None) -> str:
    """Write it: `connecting --(1) open_failed [may_retry] / count_attempt--> reconnecting`, and the like of states."""
    lines = [visible(title or chart.name)]
    lines += (f"  {_state(chart, state, overlays)}" for state in chart.states)
    places = {
        (row.index, source): _place(row, rows) for (_, source), rows in chart.alternatives.items() for row in rows
    }
    for row in chart.rows:
        numbers = "/".join(dict.fromkeys(filter(None, (places[row.index, source] for source in row.sources))))
        lines.append(f"  {_row(row, numbers, overlays)}")
    return "\n".join(lines) + "\n"


def _state(chart: Chart, state: ChartState, overlays: Sequence[Overlay]) -> str:
    marks = state_marks(chart, state, any(state.name in overlay.lit for overlay in overlays))
    told = [f"{head} / {_names(names)}" for head, names in _happens(state) if names]
    told += [line.text for overlay in overlays for line in overlay.states.get(state.name, ())]
    return visible(state.name) + (f" ({', '.join(marks)})" if marks else "") + (f": {'; '.join(told)}" if told else "")


def _happens(state: ChartState) -> Iterator[tuple[str, Iterable[str]]]:
    yield "entry", state.entry
    if state.activity is not None:
        yield "do", [state.activity, *state.steps]
        yield "on error", [state.on_error] if state.on_error is not None else []
    if state.timeout is not None:
        limit = state.timeout if isinstance(state.timeout, str) else seconds(state.timeout)
        yield f"after {visible(limit)}", state.on_timeout
    yield "exit", state.exit


def _row(row: ChartRow, numbers: str, overlays: Sequence[Overlay]) -> str:
    source = _names(row.sources)
    if row.every_but is not None:
        source = f"* but {_names(row.every_but)}" if row.every_but else "*"
    words = [f"({numbers}) {visible(row.trigger)}" if numbers else visible(row.trigger)]
    words += [f"[{' and '.join(map(visible, row.guards))}]"] if row.guards else []
    words += [f"after {visible(row.timer)}"] if row.timer is not None else []
    words += [f"prepare / {_names(row.prepares)}"] if row.prepares else []
    words += [f"/ {_names(row.effects)}"] if row.effects else []
    dest = "(stays)" if row.dest is None else visible(row.dest)
    said = [line.text for overlay in overlays for line in overlay.row(row, row.sources)]
    return f"{source} --{' '.join(words)}--> {dest}" + (f"  # {' '.join(said)}" if said else "")


def _place(row: ChartRow, alternatives: Sequence[ChartRow]) -> str:
    return str(1 + alternatives.index(row)) if len(alternatives) > 1 else ""


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(visible, names))

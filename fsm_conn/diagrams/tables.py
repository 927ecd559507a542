"""A chart as two tables, of states and of rows, in Markdown and in reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

from fsm_conn.diagrams.drawing import Overlay
from fsm_conn.diagrams.words import seconds, state_marks, visible
from fsm_conn.machine.chart import Chart, ChartRow, ChartState

__all__ = ["to_markdown", "to_rst"]

_STATES = ("State", "Marks", "Activity", "It fires", "Its errors fire", "Entry", "Exit", "Time limit")
_ROWS = ("#", "From", "Trigger", "Prepare", "Guards", "To", "Effects", "After")
_STAYS = "(stays)"


@attrs.frozen
class _Table:
    """A table before it has a format. Columns in which nothing stands are left out."""

    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def filled(self) -> _Table:
        kept = [n for n in range(len(self.heads)) if any(row[n] for row in self.rows)]
        return _Table(tuple(self.heads[n] for n in kept), [tuple(row[n] for n in kept) for row in self.rows])


def to_markdown(chart: Chart, overlays: Sequence[Overlay] = (), title: str | None = None) -> str:
    """As tables that code hosts render."""
    parts = [f"# {_md_text(visible(title or chart.name))}"]
    parts += [_markdown(table.filled()) for table in _tables(chart, overlays, _md_name, _md_text) if table.rows]
    return "\n\n".join(parts) + "\n"


def to_rst(chart: Chart, overlays: Sequence[Overlay] = (), title: str | None = None) -> str:
    """As `list-table`s, which Sphinx and docutils render."""
    head = _rst_text(visible(title or chart.name))
    parts = [f"{head}\n{'=' * (2 * len(head))}"]
    parts += [_list_table(table.filled()) for table in _tables(chart, overlays, _rst_name, _rst_text) if table.rows]
    return "\n\n".join(parts) + "\n"


def _tables(
    chart: Chart, overlays: Sequence[Overlay], name: Callable[[str], str], text: Callable[[str], str]
) -> Iterator[_Table]:
    def names(values: Iterable[str]) -> str:
        return ", ".join(map(name, values))

    def states() -> Iterator[tuple[str, ...]]:
        for state in chart.states:
            said = [text(line.text.rstrip(",")) for overlay in overlays for line in overlay.states.get(state.name, ())]
            yield (
                name(state.name),
                text(", ".join(state_marks(chart, state, any(state.name in overlay.lit for overlay in overlays)))),
                ": ".join(filter(None, (names(filter(None, (state.activity,))), names(state.steps)))),
                names(state.fires or ()),
                name(state.on_error) if state.on_error is not None else "",
                names(state.entry),
                names(state.exit),
                f"{_limit(state, name, text)}: {names(state.on_timeout)}" if state.timeout is not None else "",
                ", ".join(said),
            )

    def rows() -> Iterator[tuple[str, ...]]:
        for row in chart.rows:
            said = [text(line.text.rstrip(",")) for overlay in overlays for line in overlay.row(row, row.sources)]
            yield (
                str(row.index),
                _sources(row, names),
                name(row.trigger),
                names(row.prepares),
                text(" and ").join(map(name, row.guards)),
                _STAYS if row.dest is None else name(row.dest),
                names(row.effects),
                name(row.timer) if row.timer is not None else "",
                ", ".join(said),
            )

    yield _Table((*_STATES, "Seen"), list(states()))
    yield _Table((*_ROWS, "Seen"), list(rows()))


def _limit(state: ChartState, name: Callable[[str], str], text: Callable[[str], str]) -> str:
    return name(state.timeout) if isinstance(state.timeout, str) else text(seconds(state.timeout or 0.0))


def _sources(row: ChartRow, names: Callable[[Iterable[str]], str]) -> str:
    if row.every_but is None:
        return names(row.sources)
    return f"every state but {names(row.every_but)}" if row.every_but else "every state"


def _markdown(table: _Table) -> str:
    lines = [table.heads, tuple("---" for _ in table.heads), *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _md_name(name: str) -> str:
    """A span of code, fenced by more backticks than stand in it."""
    shown = visible(name).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _md_text(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", text)


def _list_table(table: _Table) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (table.heads, *table.rows):
        lines += [f"   {'  -' if number else '* -'} {cell}".rstrip() for number, cell in enumerate(row)]
    return "\n".join(lines)


def _rst_name(name: str) -> str:
    """A literal where that is possible; else text, in which nothing means anything, not even at its beginning."""
    shown = visible(name)
    return f"``{shown}``" if re.fullmatch(r"[\w.:-]+", shown) else f"\\ {_rst_text(shown)}"


def _rst_text(text: str) -> str:
    return re.sub(r"([^\w\s.,()\u2400-\u2421]|_)", r"\\\1", text)

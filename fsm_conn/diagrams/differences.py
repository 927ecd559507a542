"""What a table adds to another and changes in it, as an overlay: a subclass against its base.

Rows are compared for each of their states and as they are asked: what matters is what happens there on a trigger, not
how rows are grouped. Of the same trigger in the same state, what is in both is left alone; what is left over on both
sides is taken in order for changes; the rest is added, or gone. A row for every state but some that the base has too
is the same, though it holds for more states here. Names say what differs; nothing is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from fsm_conn.diagrams.drawing import Line, Overlay
from fsm_conn.diagrams.themes import Tone
from fsm_conn.diagrams.words import guard_words, visible, wrapped
from fsm_conn.machine.chart import Chart, ChartRow, ChartState

__all__ = ["differences"]

ADDED, CHANGED, GONE = (Line("added", Tone.GOOD), Line("changed", Tone.WARN), Line("gone", Tone.BAD))
_OF_STATES = (
    "initial",
    "final",
    "parent",
    "activity",
    "on_error",
    "marks",
    "entry",
    "exit",
    "timeout",
    "on_timeout",
)


def differences(chart: Chart, base: Chart) -> Overlay:
    """What `chart` has that `base` has not, and the other way round."""
    return _Comparison(chart, base).overlay()


class _Comparison:
    def __init__(self, chart: Chart, base: Chart) -> None:
        self.chart, self.base = chart, base
        self.known = {state.name: state for state in base.states}
        self.whole = {_declared(row) for row in base.rows if row.every_but is not None}
        self.rows: dict[tuple[int, str], tuple[Line, ...]] = {}
        """What there is to say, by the index of a row and a source."""
        self.gone: dict[str, list[ChartRow]] = {}
        """By the state, rows of the base that are not here."""
        self.compare()

    def compare(self) -> None:
        mine, theirs = self.chart.alternatives, self.base.alternatives
        names = {state.name for state in self.chart.states}
        for trigger, source in dict.fromkeys((*mine, *theirs)):
            here, there = mine.get((trigger, source), ()), theirs.get((trigger, source), ())
            same, new, old = _sorted_out(here, there)
            if _ends(same, here) != _ends(same, there):
                self.note(same, source, [Line("asked in another order", Tone.WARN)])
            for row, was in zip(new, old, strict=False):
                self.note([row], source, [CHANGED, *_was(row, was)])
            if source not in self.known:  # in a state that is new, what happens without leaving it is new, too
                new = [row for row in new if _declared(row) not in self.whole and row.dest is not None]
            self.note(new[len(old) :], source, [ADDED])
            if source in names and len(old) > len(new):
                self.gone.setdefault(source, []).extend(old[len(new) :])
            self.note_own_callbacks(same, source)

    def note(self, rows: Sequence[ChartRow], source: str, lines: Sequence[Line]) -> None:
        for row in rows:
            self.rows[row.index, source] = (*self.rows.get((row.index, source), ()), *lines)

    def note_own_callbacks(self, rows: Sequence[ChartRow], source: str) -> None:
        for row in rows:
            own = [name for name in (*row.guards, *row.effects) if self.is_own(name)]
            if own:
                self.note([row], source, _lines("its own", own))

    def is_own(self, method: str) -> bool:
        """Whether the class has a method in the place of the base's."""
        missing = object()
        mine, theirs = (getattr(each.owner, method, missing) for each in (self.chart, self.base))
        return missing not in (mine, theirs) and mine is not theirs

    def overlay(self) -> Overlay:
        told = {state.name: tuple(self.of_state(state)) for state in self.chart.states}
        names = {state.name for state in self.chart.states}
        left = [name for name in self.known if name not in names]
        tones = {line.tone for lines in (*told.values(), *self.rows.values()) for line in lines}
        kinds = [each for each in (ADDED, CHANGED, GONE) if each.tone in tones]
        lines = [*kinds, *(line for name in left for line in _lines("gone: state", [name], Tone.BAD))]
        return Overlay(
            states={name: lines for name, lines in told.items() if lines},
            tones={name: lines[0].tone for name, lines in told.items() if lines and lines[0].tone is not Tone.BAD},
            row=self.of_row,
            legend=(f"against {visible(self.base.name)}", lines or [Line("nothing differs", Tone.MUTED)]),
        )

    def of_state(self, state: ChartState) -> Iterator[Line]:
        was = self.known.get(state.name)
        if was is None:
            yield Line("state added", Tone.GOOD)
        else:
            changed = [name for name in _OF_STATES if getattr(state, name) != getattr(was, name)]
            own = (
                [state.activity]
                if state.activity and state.activity == was.activity and self.is_own(state.activity)
                else []
            )
            if changed or own:
                yield Line("state changed", Tone.WARN)
                yield from _lines("its own", own) if own else ()
                for name in changed:
                    yield from _lines(f"{name} was", [_words(getattr(was, name))])
        for row in self.gone.get(state.name, ()):
            yield from _lines("gone:", [row.trigger, *_end(row)], Tone.BAD)

    def of_row(self, row: ChartRow, sources: Sequence[str]) -> Sequence[Line]:
        """Of a row that is drawn once for many, what holds for all of them, or for which it does."""
        told: dict[tuple[Line, ...], list[str]] = {}
        for source in sources:
            told.setdefault(self.rows.get((row.index, source), ()), []).append(source)
        found: list[Line] = []
        for lines, those in told.items():
            found += lines
            if lines and len(told) > 1:
                found += _lines("for", those, lines[0].tone)
        return found


def _declared(row: ChartRow) -> tuple[object, ...]:
    return (row.trigger, row.every_but, *_content(row))


def _content(row: ChartRow) -> tuple[object, ...]:
    return (row.dest, row.guards, row.effects, row.timer)


def _sorted_out(
    here: Sequence[ChartRow], there: Sequence[ChartRow]
) -> tuple[list[ChartRow], list[ChartRow], list[ChartRow]]:
    """The rows here that are there too; the others here; and the others there."""
    left = Counter(map(_content, there))
    same, new = [], []
    for row in here:
        if left[_content(row)]:
            left[_content(row)] -= 1
            same.append(row)
        else:
            new.append(row)
    old = []
    for row in reversed(there):
        if left[_content(row)]:
            left[_content(row)] -= 1
            old.append(row)
    return same, new, old[::-1]


def _ends(same: Sequence[ChartRow], rows: Sequence[ChartRow]) -> list[tuple[object, ...]]:
    """Those of the rows that are the same on both sides, in their order."""
    kept = set(map(_content, same))
    return [_content(row) for row in rows if _content(row) in kept]


def _was(row: ChartRow, was: ChartRow) -> Iterator[Line]:
    if row.dest != was.dest:
        yield from _lines("was", _end(was))
    if row.guards != was.guards:
        yield from _lines("was", guard_words(was.guards) or ["without guards"])
    if row.effects != was.effects:
        yield from _lines("was /", [f"{name}," for name in was.effects[:-1]] + [*was.effects[-1:]] or ["(nothing)"])
    if row.timer != was.timer:
        yield from _lines("was after", [was.timer or "no timer"])


def _end(row: ChartRow) -> list[str]:
    return ["(stays)"] if row.dest is None else ["→", row.dest]


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _lines(head: str, names: Sequence[str], tone: Tone = Tone.WARN) -> list[Line]:
    return [Line(text, tone) for text in wrapped([head, *map(visible, names)])]

"""Traces of connections in production, checked against the table.

    conn.on_transition(TraceWriter("trace.jsonl", connection=conn.name))      # in production
    conforms(Connection, "trace.jsonl")                                       # later, wherever

The check knows the table, but neither guards nor effects: a row whose guards would have refused passes, and an attempt
may be any number. `tracefile` writes and reads traces.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import attrs

from fsm_conn._util.hints import did_you_mean
from fsm_conn._util.keywords import explained
from fsm_conn._util.reading import Recent
from fsm_conn._util.text import listed, quoted
from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.tracefile import (
    MOST_LIVES,
    ConformanceError,
    TraceLine,
    TraceWriter,
    lines_of,
    read_trace,
    write_record,
)

__all__ = ["ConformanceError", "TraceLine", "TraceWriter", "conforms", "read_trace", "write_record"]

TOLERANCE = 1e-6
"""Seconds by which times may differ, for traces that went through something that rounds."""


@explained()
def conforms(
    connection_class: type[StateMachine],
    trace: str | os.PathLike[str] | Iterable[str] | Iterable[TraceLine] | Iterable[TransitionRecord],
    *,
    strict: bool = False,
) -> None:
    """Check that a trace could have happened to connections of a class.

    Args:
        connection_class: the class whose table is checked.
        trace: a path; or lines, the result of `read_trace`, or records, such as `conn.history`.
        strict: whether each connection must begin in the initial state of the table. A connection without a line while
            10,000 others had some is forgotten, and begins anew.

    Raises:
        ConformanceError: names the first line that could not have happened, and what the table allows there.
        OSError: the file cannot be read.
    """
    lifecycle = connection_class.lifecycle
    lives: Recent[tuple[str | None, str | None], _Past] = Recent(MOST_LIVES, _Past)
    for line in lines_of(trace):
        past = lives[line.connection, line.life]
        problem = _wrong_row(lifecycle, line) or past.contradicts(lifecycle, line, strict)
        if problem:
            raise ConformanceError(line.number, problem)
        past.go_on(line)


def _wrong_row(lifecycle: BoundTable, line: TraceLine) -> str | None:
    """What the table has against a line, whatever was before it."""
    triggers = sorted({str(row.trigger) for row in lifecycle.transitions})
    states = [str(name) for name in lifecycle.states]
    source, dest = quoted(line.source), quoted(line.dest)
    for kind, name, known in (("trigger", line.trigger, triggers), ("state", line.source, states)):
        if name not in known:
            return f"the table has no {kind} {quoted(name)}{did_you_mean(name, known)}; it has: {listed(known)}"
    if line.dest not in states:
        return f"the table has no state {dest}{did_you_mean(line.dest, states)}; {_allowed(lifecycle, line)}"
    dests = _dests(lifecycle, line.trigger, line.source)
    if line.internal and line.dest != line.source:
        return f"internal, and yet it leads from {source} to {dest}; {_allowed(lifecycle, line)}"
    if (None if line.internal else line.dest) in dests:
        return None
    if (line.dest if line.internal else None) in dests and line.source == line.dest:
        flag = "internal" if line.internal else "not internal"
        return f"marked as {flag}, and the row is the opposite; {_allowed(lifecycle, line)}"
    return f"no row leads from {source} to {dest} on {quoted(line.trigger)}; {_allowed(lifecycle, line)}"


def _dests(lifecycle: BoundTable, trigger: str, source: str) -> list[str | None]:
    return [
        None if row.dest is None else str(row.dest)
        for row in lifecycle.transitions
        if row.trigger == trigger and source in row.sources(lifecycle.states)
    ]


def _allowed(lifecycle: BoundTable, line: TraceLine) -> str:
    dests = dict.fromkeys(_dests(lifecycle, line.trigger, line.source))
    if dests:
        shown = listed(["(stays)" if dest is None else f"-> {dest}" for dest in dests])
        return f"the table allows on {quoted(line.trigger)} in {quoted(line.source)}: {shown}"
    return f"the table allows in {quoted(line.source)}: {listed(lifecycle.allowed(line.source))}"


@attrs.define
class _Past:
    """What is known of one connection from the lines before."""

    number: int = 0
    """Of the line before; 0 when there was none."""
    dest: str = ""
    """The state that it ended in."""
    at: float = 0.0
    entered: float | None = None
    """When the present state was entered; None when that was before the trace."""

    def contradicts(self, lifecycle: BoundTable, line: TraceLine, strict: bool) -> str | None:
        if line.attempt < 0:
            return f"attempt {line.attempt} is less than 0"
        if line.dwell < 0:
            return f"a dwell of {line.dwell:g} s is less than 0"
        return self._wrong_beginning(lifecycle, line, strict) or self._wrong_time(line)

    def _wrong_beginning(self, lifecycle: BoundTable, line: TraceLine, strict: bool) -> str | None:
        if not self.number:
            if strict and line.source != lifecycle.initial:
                return f"life begins in {quoted(line.source)}; the table lets it begin in {str(lifecycle.initial)!r}"
            return None
        if line.source == self.dest:
            return None
        return (
            f"begins in {quoted(line.source)}, and line {self.number} ended in {quoted(self.dest)}; "
            f"the table allows there: {listed(lifecycle.allowed(self.dest))}"
        )

    def _wrong_time(self, line: TraceLine) -> str | None:
        if self.number and line.at < self.at - TOLERANCE:
            return f"time runs backwards: {line.at:g} s, and line {self.number} was at {self.at:g} s"
        if self.entered is not None and abs(line.at - self.entered - line.dwell) > TOLERANCE:
            entered = f"{quoted(line.source)} was entered {line.at - self.entered:g} s before"
            return f"a dwell of {line.dwell:g} s, and {entered}"
        return None

    def go_on(self, line: TraceLine) -> None:
        if not line.internal:
            self.entered = line.at
        elif self.entered is None:
            self.entered = line.at - line.dwell
        self.number, self.dest, self.at = line.number, line.dest, line.at

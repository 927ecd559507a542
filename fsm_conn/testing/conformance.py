"""Traces of connections in production, checked against the table.

    conn.on_transition(TraceWriter("trace.jsonl", connection=conn.name))      # in production
    conforms(Connection, "trace.jsonl")                                       # later, wherever

The check knows the table, and neither guards nor effects: a row whose guards would not have agreed passes, and an
attempt may be any number. How a trace is written and read is in `tracefile`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import attrs

from fsm_conn._util.hints import did_you_mean
from fsm_conn.machine.binding import BoundTable
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.testing.tracefile import (
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


def conforms(
    connection_class: type[StateMachine],
    trace: str | os.PathLike[str] | Iterable[str] | Iterable[TraceLine] | Iterable[TransitionRecord],
    *,
    strict: bool = False,
) -> None:
    """Check that a trace could have happened to connections of a class.

    Args:
        connection_class: the class whose table is to be met.
        trace: a path; or lines, or what `read_trace` returned; or records, such as `conn.history`.
        strict: whether each connection must begin in the initial state of the table.

    Raises:
        ConformanceError: names the first line that could not have happened, and what the table allows there.
        OSError: the file cannot be read.
    """
    lifecycle = connection_class.lifecycle
    lives: dict[tuple[str | None, str | None], _Past] = {}
    for line in lines_of(trace):
        past = lives.setdefault((line.connection, line.life), _Past())
        problem = _wrong_row(lifecycle, line) or past.contradicts(lifecycle, line, strict)
        if problem:
            raise ConformanceError(line.number, problem)
        past.go_on(line)


def _wrong_row(lifecycle: BoundTable, line: TraceLine) -> str | None:
    """What the table has against a line, whatever was before it."""
    triggers = sorted({str(row.trigger) for row in lifecycle.transitions})
    states = [str(name) for name in lifecycle.states]
    for kind, name, known in (("trigger", line.trigger, triggers), ("state", line.source, states)):
        if name not in known:
            return f"the table has no {kind} {name!r}{did_you_mean(name, known)}; it has: {', '.join(known)}"
    if line.dest not in states:
        return f"the table has no state {line.dest!r}{did_you_mean(line.dest, states)}; {_allowed(lifecycle, line)}"
    dests = _dests(lifecycle, line.trigger, line.source)
    if line.internal and line.dest != line.source:
        return f"internal, and yet it leads from {line.source!r} to {line.dest!r}; {_allowed(lifecycle, line)}"
    if (None if line.internal else line.dest) in dests:
        return None
    if (line.dest if line.internal else None) in dests and line.source == line.dest:
        flag = "internal" if line.internal else "not internal"
        return f"marked as {flag}, and the row is the opposite; {_allowed(lifecycle, line)}"
    return f"no row leads from {line.source!r} to {line.dest!r} on {line.trigger!r}; {_allowed(lifecycle, line)}"


def _dests(lifecycle: BoundTable, trigger: str, source: str) -> list[str | None]:
    return [
        None if row.dest is None else str(row.dest)
        for row in lifecycle.transitions
        if row.trigger == trigger and source in row.sources(lifecycle.states)
    ]


def _allowed(lifecycle: BoundTable, line: TraceLine) -> str:
    dests = dict.fromkeys(_dests(lifecycle, line.trigger, line.source))
    if dests:
        shown = ", ".join("(stays)" if dest is None else f"-> {dest}" for dest in dests)
        return f"the table allows on {line.trigger!r} in {line.source!r}: {shown}"
    return f"the table allows in {line.source!r}: {', '.join(lifecycle.allowed(line.source)) or 'nothing'}"


@attrs.define
class _Past:
    """What is known of one connection from the lines before."""

    last: TraceLine | None = None
    entered: float | None = None
    """When the present state was entered; None when that was before the trace."""

    def contradicts(self, lifecycle: BoundTable, line: TraceLine, strict: bool) -> str | None:
        if line.attempt < 0:
            return f"attempt {line.attempt} is less than 0"
        if line.dwell < 0:
            return f"a dwell of {line.dwell:g} s is less than 0"
        return self._wrong_beginning(lifecycle, line, strict) or self._wrong_time(line)

    def _wrong_beginning(self, lifecycle: BoundTable, line: TraceLine, strict: bool) -> str | None:
        if self.last is None:
            if strict and line.source != lifecycle.initial:
                return f"life begins in {line.source!r}; the table lets it begin in {str(lifecycle.initial)!r}"
            return None
        if line.source == self.last.dest:
            return None
        allowed = ", ".join(lifecycle.allowed(self.last.dest))
        return (
            f"begins in {line.source!r}, and line {self.last.number} ended in {self.last.dest!r}; "
            f"the table allows there: {allowed}"
        )

    def _wrong_time(self, line: TraceLine) -> str | None:
        if self.last is not None and line.at < self.last.at - TOLERANCE:
            return f"time runs backwards: {line.at:g} s, and line {self.last.number} was at {self.last.at:g} s"
        if self.entered is not None and abs(line.at - self.entered - line.dwell) > TOLERANCE:
            return f"a dwell of {line.dwell:g} s, and {line.source!r} was entered {line.at - self.entered:g} s before"
        return None

    def go_on(self, line: TraceLine) -> None:
        if not line.internal:
            self.entered = line.at
        elif self.entered is None:
            self.entered = line.at - line.dwell
        self.last = line

"""`fsm-conn trace`: shows a recorded trace as a timeline, and whether it could have happened.

A trace is read line by line, however long it is. Each line is shown as soon as it was checked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import attrs
import click
from rich.text import Text

from fsm_conn._util.reading import Recent, lines_within, why_unread
from fsm_conn.cli.drawing import transition_line
from fsm_conn.cli.machines import Machine
from fsm_conn.cli.terminal import Console, output
from fsm_conn.cli.traces import transitions_in
from fsm_conn.machine.machine import StateMachine
from fsm_conn.testing.conformance import conforms
from fsm_conn.testing.tracefile import LONGEST_LINE, MOST_LIVES, ConformanceError, TraceLine, lines_of

__all__ = ["command"]


class _DriverClass(Machine):
    kind = "class with a table of states"

    def fits(self, value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, StateMachine)


@click.command(
    epilog="""\b
Examples:
  fsm-conn trace life.jsonl
  fsm-conn trace --class app.clients:Authenticated --quiet life.jsonl"""
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--class",
    "machine",
    type=_DriverClass(),
    default="fsm_conn:Connection",
    show_default=True,
    metavar="MODULE:CLASS",
    help="The class whose table the trace must conform to.",
)
@click.option("--strict", is_flag=True, help="Each connection must begin in the initial state.")
@click.option("--quiet", "-q", is_flag=True, help="Show only the verdict.")
def command(file: str, machine: type[StateMachine], strict: bool, quiet: bool) -> None:
    """Show a recorded trace as a timeline, and whether it conforms to the table.

    FILE is what a fsm_conn.testing.TraceWriter wrote, or fsm-conn watch --json; - is stdin. Ends with status 1 when
    the trace does not conform, naming the first line that could not have happened.
    """
    timeline = _Timeline(output(), quiet)
    try:
        with _opened(file) as lines:
            conforms(machine, timeline.shown(lines_of(transitions_in(_read(file, lines)))), strict=strict)
    except ConformanceError as error:
        timeline.blame()
        raise click.ClickException(f"{file}: {error}") from None
    timeline.approve(machine)


def _read(file: str, lines: Any) -> Iterator[str]:
    try:
        yield from lines_within(lines, LONGEST_LINE)
    except OSError as error:
        raise click.ClickException(f"cannot read {file!r}: {why_unread(error)}") from None


def _opened(file: str) -> AbstractContextManager[Any]:
    if file != "-":
        return Path(file).open(encoding="utf-8", errors="replace")
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    return nullcontext(sys.stdin)


@attrs.define
class _Begin:
    at: float | None = None
    """The time of the first line of a life; None before that line."""


class _Timeline:
    """Shows each line after it was found to be correct."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._begins: Recent[tuple[str | None, str | None], _Begin] = Recent(MOST_LIVES, _Begin)
        self._count = 0
        self._judged: TraceLine | None = None

    def shown(self, lines: Iterable[TraceLine]) -> Iterator[TraceLine]:
        """Yields the lines. A request for the next one means that the last one was correct."""
        for line in lines:
            begin = self._begins[line.connection, line.life]
            begin.at = line.at if begin.at is None else begin.at
            self._judged = line
            yield line
            self._judged = None
            self._count += 1
            self._show(line)

    def blame(self) -> None:
        """Show the line that could not have happened, if it could be read."""
        if self._judged is not None:
            self._show(self._judged, wrong=True)

    def approve(self, machine: type[StateMachine]) -> None:
        """Say that the trace is correct."""
        whose = _many(self._begins.made, "life", "lives")
        text = f"conforms to {machine.__name__}: {_many(self._count, 'transition', 'transitions')} of {whose}"
        self._console.say(Text(text, "bold green"))

    def _show(self, line: TraceLine, wrong: bool = False) -> None:
        if self._quiet:
            return
        at = line.at - (self._begins[line.connection, line.life].at or 0.0)
        why = "" if line.reason is None else f"{line.reason[0]}: {line.reason[1]}"
        whose = f"  {line.connection}" if line.connection and len(self._begins) > 1 else ""
        dest = "(stays)" if line.internal else line.dest
        when = f"{line.number:>5}  {at:10.3f} s"
        text = transition_line(when, line.source, dest, why, note=f"{line.trigger}{whose}", width=self._console.room)
        if wrong:
            text.stylize("bold red")
        self._console.say(text)


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"

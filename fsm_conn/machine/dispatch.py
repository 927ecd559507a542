"""Compiled dispatch: for each trigger and state, one straight function that decides, acts and writes the record.

For each trigger, `transitions` looks up what is known when the class is created: which rows there are, what each
calls with which arguments, and where it leads. Here this is resolved once, in the source text of a function that is
compiled when its trigger is first fired in its state. It does what a `transitions.Machine` does with the same table,
callback by callback, except for these rules:

- A guard may return anything with a truth value.
- When an effect raises, also one of a state's `entry`, nothing has changed.
- Guards and effects are given the reason and the data that they name; see `signature`.

To see the text of one: `print(Upload.lifecycle.source("sending", "broken"))`.

`transitions` writes a log line for each step to the logger `transitions.core`. Here these lines are written only while
that very logger has a level of INFO or DEBUG, by functions that are compiled for it; otherwise they cost nothing. The
same holds for tools that listen to which rows are tried, such as coverage.
"""

from __future__ import annotations

import linecache
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import attrs

from fsm_conn.machine.errors import MissingDataError
from fsm_conn.machine.observers import begun
from fsm_conn.machine.records import NO_DATA, TransitionRecord
from fsm_conn.machine.signature import Takes, takes
from fsm_conn.machine.table import State, Transition, seconds_of

__all__ = ["CLOSED", "CORE", "Listener", "Step", "Steps", "source_of"]

CORE = logging.getLogger("transitions.core")
"""The logger of `transitions`; its own level decides whether the steps are logged."""

Step = Callable[[Any, BaseException | None, dict[str, Any], float], None]
"""Takes a machine, the reason, the data and the time; decides and acts."""
Listener = Callable[[int, str, bool], None]
"""Called for each row that was tried, with its place in the table, the state, and whether the row was taken."""


class Table(Protocol):
    """The table that is compiled."""

    owner: Any
    states: Mapping[str, State]
    transitions: tuple[Transition, ...]
    listeners: tuple[Listener, ...]
    machine: Any
    hears_of_entering: bool

    @property
    def needs_loop(self) -> bool:
        """Whether any state has an activity or a time limit."""

    def has_work(self, state: str) -> bool:
        """Whether this one has."""

    def handles(self, state: str, trigger: str) -> bool:
        """Whether there are rows."""

    def places(self, state: str, trigger: str) -> tuple[int, ...]:
        """Where they stand."""

    def heard(self, place: int, state: str, taken: bool) -> None:
        """Call those who listen."""

    def illegal(self, instance: Any, trigger: str) -> Exception:
        """The error for a trigger without rows."""


class Steps(dict[tuple[str, str], Step]):
    """The functions of one table by state and trigger, each made when it is first needed.

    Args:
        table: the table that they are compiled from.
        aloud: whether they write the log lines of `transitions`.
    """

    def __init__(self, table: Table, aloud: bool) -> None:
        super().__init__()
        self.table = table
        self.aloud = aloud

    def __missing__(self, key: tuple[str, str]) -> Step:
        state, trigger = key
        if not self.table.handles(state, trigger):
            return _refusal(self.table, trigger)
        step = self[key] = _Compiler(self.table, state, trigger, self.aloud).compiled()
        return step


def source_of(table: Table, state: str, trigger: str) -> str:
    """The source text of the function for `trigger` in `state`, as it runs while nothing listens."""
    return _Compiler(table, state, trigger, aloud=False, listened=False).text()


class _Closed(dict[tuple[str, str], Step]):
    def __missing__(self, key: tuple[str, str]) -> Step:
        return _refuse_closed


def _refuse_closed(machine: Any, reason: BaseException | None, data: Mapping[str, Any], now: float) -> None:
    raise machine.closed_error()


CLOSED: dict[tuple[str, str], Step] = _Closed()
"""The functions of a machine that was closed: it takes no trigger."""


def _refusal(table: Table, trigger: str) -> Step:
    def refuse(machine: Any, reason: BaseException | None, data: Mapping[str, Any], now: float) -> None:
        raise table.illegal(machine, trigger)

    return refuse


@attrs.frozen
class _Call:
    """A guard or an effect, and how to call it."""

    kind: str
    name: str
    takes: Takes

    @property
    def text(self) -> str:
        given = [self.takes.reason] if self.takes.reason else []
        if self.takes.everything:
            given.append("**data")
        else:
            given += [f"{name}=data[{name!r}]" for name in self.takes.needed]
            if self.takes.optional:
                given.append(f"**{{name: data[name] for name in {self.takes.optional!r} if name in data}}")
        return f"self.{self.name}({', '.join(given)})"


class _Compiler:
    """Writes the function for one trigger in one state."""

    def __init__(self, table: Table, state: str, trigger: str, aloud: bool, listened: bool | None = None) -> None:
        self.table = table
        self.listened = bool(table.listeners) if listened is None else listened
        self.state: State = table.states[state]
        self.trigger = trigger
        self.aloud = aloud
        self.kept = table.owner.record_type._fields[len(TransitionRecord._fields) :]
        self.places = table.places(state, trigger)
        self.names: dict[str, Any] = {
            "TRIGGER": self._row(self.places[0]).trigger,
            "SOURCE": self.state.name,
            "RECORD": table.owner.record_type,
            "begun": begun,
            "NO_DATA": NO_DATA,
            "new": tuple.__new__,
            "missing": _missing,
            "seconds_of": seconds_of,
            "log": CORE,
            "heard": table.heard,
        }

    def compiled(self) -> Step:
        """Compile it. Its text can be read in tracebacks and debuggers."""
        text = self.text()
        owner = self.table.owner
        file = f"<{owner.__module__}.{owner.__qualname__}: {self.trigger} in {self.state.name}>"
        exec(compile(text, file, "exec"), self.names)  # noqa: S102
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        step: Step = self.names["step"]
        return step

    def text(self) -> str:
        """Its source."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield "def step(self, reason, data, now):"
        if not self.aloud:
            yield from _indented(self._rows())
            return
        yield f"    {self._log('debug', 'Executed machine preparation callbacks before conditions.')}"
        yield "    try:"
        yield from _indented(self._rows(), 2)
        yield "    finally:"
        yield f"        {self._log('debug', 'Executed machine finalize callbacks')}"

    def _rows(self) -> Iterator[str]:
        for place in self.places:
            row = self._row(place)
            yield from self._said("debug", f"Initiating transition from state {self.state.name} to state {row.dest}...")
            yield from self._said("debug", "Executed callbacks before conditions.")
            yield from self._row_lines(row, place)

    def _row_lines(self, row: Transition, place: int) -> Iterator[str]:
        guards = [self._call("guard", name) for name in row.guards]
        if not guards:
            yield from self._taken(row, place)
        elif not (self.aloud or self.listened or any(guard.takes.needed for guard in guards)):
            yield f"if {' and '.join(guard.text for guard in guards)}:"
            yield from _indented(self._taken(row, place))
        else:
            yield "while True:"
            for guard in guards:
                yield from _indented(self._needed([guard]))
                yield f"    if not {guard.text}:"
                failed = f"Transition condition failed: {guard.name}() does not return True. Transition halted."
                yield from _indented(self._said("debug", failed), 2)
                yield from _indented(self._heard(place, False), 2)
                yield "        break"
            yield from _indented(self._taken(row, place))

    def _taken(self, row: Transition, place: int) -> Iterator[str]:
        effects = [self._call("effect", name) for name in row.effects]
        if row.dest is None:
            yield from self._needed(effects)
            yield from self._called(effects)
            yield from self._said("debug", "Executed callback before transition.")
            yield from self._internal()
        else:
            yield from self._external(self.table.states[row.dest], effects)
        yield from self._said("debug", "Executed callback after transition.")
        yield from self._heard(place, True)
        yield "return"

    def _internal(self) -> Iterator[str]:
        if self.state.initial and self.table.has_work(self.state.name):
            yield "if self._fsm_since is None:"
            yield "    self.start()"
        yield "since = self._fsm_since"
        yield from self._recorded("STAY", self.state, internal=True)
        yield "records.note(record)"
        yield from self._told("STAY")

    def _external(self, dest: State, effects: list[_Call]) -> Iterator[str]:
        leaving = [self._call("exit effect", name) for name in self.state.exit]
        entering = [self._call("entry effect", name) for name in dest.entry]
        yield from self._needed([*effects, *leaving, *entering])
        yield from self._called(effects)
        yield from self._said("debug", "Executed callback before transition.")
        yield from self._said("debug", f"Exiting state {self.state.name}. Processing callbacks...")
        yield from self._called(leaving)
        yield from self._said("info", f"Finished processing state {self.state.name} exit callbacks.")
        if isinstance(dest.timeout, str):
            yield f"limit = seconds_of(self, {dest.timeout!r})"
        number = list(self.table.states).index(dest.name)
        dest_name = self._constant(f"DEST{number}", dest.name)
        yield f"self._state = {dest_name}"
        yield "self._fsm_visit += 1"
        yield from self._said("debug", f"Entering state {dest.name}. Processing callbacks...")
        yield from self._entered(entering)
        yield from self._said("info", f"Finished processing state {dest.name} enter callbacks.")
        yield "since = self._fsm_since"
        yield "self._fsm_since = now"
        move = f"MOVE{number}"
        yield from self._recorded(move, dest, internal=False)
        yield "records.append(record)"
        yield from self._turned(dest)
        yield "if self._fsm_waiters:"
        yield f"    self._fsm_waiters.wake(new(RECORD, {move} + record[1:]))"
        yield from self._told(move)

    def _entered(self, entering: list[_Call]) -> Iterator[str]:
        """Call the `entry` effects in the new state. If one raises, the state was not entered."""
        calls = list(self._called(entering))
        if self.table.hears_of_entering:
            calls.append("self.entered(reason)")
        if calls:
            yield "try:"
            yield from _indented(calls)
            yield "except BaseException:"
            yield "    self._state = SOURCE"
            yield "    self._fsm_visit -= 1"
            yield "    raise"

    def _turned(self, dest: State) -> Iterator[str]:
        """End the activity and the time limit of the state that was left, and start those of the new one."""
        if not self.table.needs_loop:
            return
        if dest.timeout is not None:
            yield (
                "self._fsm_turn(limit)" if isinstance(dest.timeout, str) else f"self._fsm_turn({float(dest.timeout)!r})"
            )
        elif self.table.has_work(dest.name):
            yield "self._fsm_turn()"
        else:
            yield "if self._fsm_run is not None:"
            yield "    self._fsm_turn()"

    def _recorded(self, name: str, dest: State, internal: bool) -> Iterator[str]:
        move = self._constant(name, (self.names["TRIGGER"], self.state.name, dest.name, internal))
        kept = "".join(f", self.{name}" for name in self.kept)
        yield "dwell = self._fsm_elapsed if since is None else now - since"
        yield f"record = {move}, reason, dwell, now, data or NO_DATA{kept}"
        yield "records = self._fsm_records"
        yield "if records is None:"
        yield "    records = self._fsm_records = begun(self)"
        yield "if reason is not None:"
        yield "    self._fsm_reason = reason"

    def _told(self, move: str) -> Iterator[str]:
        ending = "self.is_ending()" if self.table.needs_loop else "False"
        yield "if self._fsm_observers is not None:"
        yield f"    self._fsm_observers.publish(new(RECORD, {move} + record[1:]), {ending})"

    def _needed(self, calls: Iterable[_Call]) -> Iterator[str]:
        for call in calls:
            for name in call.takes.needed:
                yield f"if {name!r} not in data:"
                yield f"    raise missing(self, TRIGGER, {call.kind!r}, {call.name!r}, {name!r})"

    def _called(self, calls: Iterable[_Call]) -> Iterator[str]:
        for call in calls:
            yield call.text
            yield from self._said("info", f"Executed callback '{call.name}'")

    def _said(self, level: str, text: str) -> Iterator[str]:
        if self.aloud:
            yield self._log(level, text)

    def _log(self, level: str, text: str) -> str:
        return f"log.{level}({'%s' + text!r}, {self.table.machine.name!r})"

    def _heard(self, place: int, taken: bool) -> Iterator[str]:
        if self.listened:
            yield f"heard({place}, SOURCE, {taken})"

    def _constant(self, name: str, value: object) -> str:
        self.names[name] = value
        return name

    def _row(self, place: int) -> Transition:
        return self.table.transitions[place]

    def _call(self, kind: str, name: str) -> _Call:
        found = takes(self.table.owner, name)
        assert found is not None  # or the table would have been refused
        return _Call(kind, name, found)


def _indented(lines: Iterable[str], depth: int = 1) -> Iterator[str]:
    for line in lines:
        yield "    " * depth + line


def _missing(machine: object, trigger: str, kind: str, method: str, name: str) -> MissingDataError:
    return MissingDataError(
        f"{machine!r}: {str(trigger)!r} cannot be decided, because the {kind} {method}() needs {name!r}, which was not "
        f"given; fire it as fire({str(trigger)!r}, {name}=...), or give the parameter a default"
        + (". The error behind a trigger is given to a parameter that is called 'reason'" if name == "error" else ""),
        trigger=trigger,
        missing=name,
    )

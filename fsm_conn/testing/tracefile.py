"""Traces of connections in production, as files of JSON lines: one for each `TransitionRecord`.

A trace may hold several connections, and may begin anywhere in their lives. Of an error, the type and the first line of
the message are written: keep secrets out of your errors. Files to read are untrusted: reading is bounded, and an error
shows the beginning of the wrong text.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import attrs

from fsm_conn._util.reading import lines_within
from fsm_conn._util.text import said
from fsm_conn.machine.errors import FsmConnError
from fsm_conn.machine.records import TransitionRecord

__all__ = ["ConformanceError", "TraceLine", "TraceWriter", "lines_of", "read_trace", "write_record"]

VERSION = 1
LONGEST_MESSAGE = 1000
"""Characters of a reason's message that are written."""
LONGEST_LINE = 64 * 1024
"""Characters of one line that are read."""
LONGEST_NAME = 1000
"""Characters of a name, such as that of a state, that are read."""
MOST_ATTEMPTS = 2**63
MOST_LIVES = 10_000
"""Lives that are remembered while a trace is judged: those that went on last."""


class ConformanceError(FsmConnError, AssertionError):
    """A line of a trace that could not have happened.

    Attributes:
        line: its number; the first is 1.
        problem: what is wrong with it, and what the table allows.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}"


@attrs.frozen(kw_only=True)
class TraceLine:
    """One transition, as it was read. The fields are those of a `TransitionRecord`, and whose it was."""

    number: int
    """Where it stands in the trace; the first is 1."""
    trigger: str
    source: str
    dest: str
    internal: bool
    reason: tuple[str, str] | None
    """The type and the first line of the message of the error behind it."""
    attempt: int
    dwell: float
    at: float
    connection: str | None = None
    """The connection's name."""
    connection_class: str | None = None
    life: str | None = None
    """What tells one writer from another, for instance those before and after a restart."""


# --- writing ------------------------------------------------------------------------------------------------


def write_record(
    record: TransitionRecord,
    *,
    connection: str | None = None,
    connection_class: str | None = None,
    life: str | None = None,
) -> str:
    """A record as one line of JSON, without the end of the line.

    Args:
        record: the record.
        connection: the connection's name.
        connection_class: the name of its class.
        life: what tells one writer from another.
    """
    data = {
        "v": VERSION,
        "trigger": str(record.trigger),
        "source": str(record.source),
        "dest": str(record.dest),
        "internal": record.internal,
        "reason": None if record.reason is None else _reason(record.reason),
        "attempt": getattr(record, "attempt", 0),
        "dwell": record.dwell,
        "at": record.at,
    }
    whose = {"connection": connection, "class": connection_class, "life": life}
    return json.dumps(data | {key: value for key, value in whose.items() if value is not None})


def _reason(error: BaseException) -> dict[str, str]:
    message = next(iter(said(error)[: 2 * LONGEST_MESSAGE].splitlines()), "")
    return {"type": type(error).__name__, "message": message[:LONGEST_MESSAGE]}


class _Writable(Protocol):
    def write(self, text: str, /) -> Any: ...
    def flush(self) -> Any: ...


class TraceWriter:
    """Appends every transition of a connection to a file: `conn.on_transition(TraceWriter(path))`.

    It never raises into the connection. Each line is written at once and, for a path, by one system call, so that
    several writers and processes may append to the same file. After a line that a crash or a full disk has cut, the
    next record begins on a new line.

    Args:
        file: a path to append to, or an open text file, which stays open.
        connection: the connection's name, for files that several share.
        connection_class: the name of its class.

    Attributes:
        errors: how many lines could not be written.
        last_error: the last error of writing.

    Raises:
        OSError: the path cannot be opened.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | _Writable,
        *,
        connection: str | None = None,
        connection_class: str | None = None,
    ) -> None:
        self.errors = 0
        self.last_error: Exception | None = None
        self._whose = {"connection": connection, "connection_class": connection_class, "life": secrets.token_hex(4)}
        self._file: _Writable = _Appended(file) if isinstance(file, (str, os.PathLike)) else file

    def __call__(self, record: TransitionRecord) -> None:
        """Write one record."""
        try:
            self._file.write(write_record(record, **self._whose) + "\n")
            self._file.flush()
        except Exception as error:
            self.errors += 1
            self.last_error = error.with_traceback(None)

    def close(self) -> None:
        """Close the file if it was opened here. Later records count as errors."""
        if isinstance(self._file, _Appended):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Appended:
    """A file to which whole lines are appended, each by one system call."""

    _fd: int | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._torn = _ends_torn(self._fd)

    def write(self, text: str) -> None:
        if self._fd is None:
            raise ValueError("the trace is closed")
        data = (("\n" if self._torn else "") + text).encode()
        self._torn = True
        if os.write(self._fd, data) < len(data):
            raise OSError("the line was not written as a whole")
        self._torn = False

    def flush(self) -> None: ...

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def _ends_torn(fd: int) -> bool:
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        return False  # a pipe has no end to look at
    if size == 0:
        return False
    os.lseek(fd, size - 1, os.SEEK_SET)
    return os.read(fd, 1) != b"\n"


# --- reading ------------------------------------------------------------------------------------------------


def read_trace(trace: str | os.PathLike[str] | Iterable[str]) -> list[TraceLine]:
    """Read a whole trace, from a path or lines, into memory. Empty lines are skipped. `lines_of` reads line by line.

    Raises:
        ConformanceError: a line is truncated or garbled.
        OSError: the file cannot be read.
    """
    return list(lines_of(trace))


def lines_of(trace: str | os.PathLike[str] | Iterable[Any]) -> Iterator[TraceLine]:
    """The lines of a trace one by one, so that those in front of a garbled one can be judged before it is found.

    Args:
        trace: a path; or lines, what `read_trace` returned, or records.
    """
    if isinstance(trace, (str, os.PathLike)):
        with Path(trace).open(encoding="utf-8", errors="replace") as file:
            yield from lines_of(lines_within(file, LONGEST_LINE))
        return
    for number, line in enumerate(trace, 1):
        if isinstance(line, TraceLine):
            yield line
        elif isinstance(line, TransitionRecord):
            yield _parse(number, write_record(line))
        elif line.strip():
            yield _parse(number, line)


def _parse(number: int, line: str) -> TraceLine:
    if len(line) > LONGEST_LINE:
        raise ConformanceError(number, f"longer than {LONGEST_LINE} characters: {line[:80]!r}")
    try:
        data = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ConformanceError(number, f"truncated or garbled, {error}: {line.strip()[:80]!r}") from None
    if not isinstance(data, dict):
        raise ConformanceError(number, f"not a transition: {line.strip()[:80]!r}")
    if data.get("v") != VERSION:
        raise ConformanceError(number, f"of version {_shown(data.get('v'))}; this release reads {VERSION}")
    _check_fields(number, data)
    return _line(number, data)


def _check_fields(number: int, data: dict[str, Any]) -> None:
    for name, kinds in _FIELDS.items():
        if name not in data and type(None) not in kinds:
            raise ConformanceError(number, f"{name!r} is missing")
        if type(data.get(name)) not in kinds:
            raise ConformanceError(number, f"{name!r} is {_shown(data[name])}, which is no {kinds[0].__name__}")
        if isinstance(data.get(name), str) and len(data[name]) > LONGEST_NAME:
            raise ConformanceError(number, f"{name!r} is longer than {LONGEST_NAME} characters: {_shown(data[name])}")
    if abs(data["attempt"]) >= MOST_ATTEMPTS:
        raise ConformanceError(number, f"'attempt' is {_shown(data['attempt'])}, which is no number of attempts")


def _shown(value: Any) -> str:
    return f"{reprlib.repr(value):.200}"


def _line(number: int, data: dict[str, Any]) -> TraceLine:
    return TraceLine(
        number=number,
        trigger=data["trigger"],
        source=data["source"],
        dest=data["dest"],
        internal=data["internal"],
        reason=_read_reason(number, data.get("reason")),
        attempt=data["attempt"],
        dwell=_seconds(number, data, "dwell"),
        at=_seconds(number, data, "at"),
        connection=data.get("connection"),
        connection_class=data.get("class"),
        life=data.get("life"),
    )


def _seconds(number: int, data: dict[str, Any], name: str) -> float:
    try:
        value = float(data[name])
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ConformanceError(number, f"{name!r} is no finite number of seconds")
    return value


_FIELDS: dict[str, tuple[type, ...]] = {
    "trigger": (str,),
    "source": (str,),
    "dest": (str,),
    "internal": (bool,),
    "reason": (dict, type(None)),
    "attempt": (int,),
    "dwell": (float, int),
    "at": (float, int),
    "connection": (str, type(None)),
    "class": (str, type(None)),
    "life": (str, type(None)),
}


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no time")


def _read_reason(number: int, reason: dict[str, Any] | None) -> tuple[str, str] | None:
    if reason is None:
        return None
    kind, message = reason.get("type"), reason.get("message")
    if not isinstance(kind, str) or not isinstance(message, str):
        raise ConformanceError(number, f"'reason' is {_shown(reason)}; a type and a message were expected")
    return kind, message

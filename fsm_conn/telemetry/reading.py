"""What records mean to those who count them: pure functions, the same for every backend.

The words that hold here: a connection is *connecting* in every state in which it is neither at rest, nor connected,
nor being closed, so in a state that a subclass adds too; but not in one beside `connected`, where its link is up, for
which `LinkSpan` puts `connected`, nor in `renewing`, where the old link serves and nothing is counted. One stretch of
that is one *connecting*; it consists of *attempts*, each from entering `connecting` or `reconnecting` (whose delay is
part of it) until it is decided.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

from fsm_conn._util.text import said, sanitised
from fsm_conn.connection.calling.records import CallRecord
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.links.errors import ConnectionLostError
from fsm_conn.machine.errors import FsmConnError

__all__ = [
    "ConnectOutcome",
    "KnownMethods",
    "attempt_outcome",
    "begins_connecting",
    "connect_outcome",
    "error_text",
    "error_type",
    "is_connecting",
    "probe_outcome",
    "status_code",
]

METHODS_LIMIT = 1000
"""At most so many methods get a name of their own in metrics, whatever is called."""

_S = ConnectionState
_NOT_CONNECTING = frozenset({_S.DISCONNECTED, _S.CONNECTED, _S.RENEWING, _S.DISCONNECTING, _S.FAILED})
_ATTEMPT_BEGINS = frozenset({_S.CONNECTING, _S.RECONNECTING})
_PROBES: dict[str, str] = {Trigger.PROBE_PASSED: "passed", Trigger.PROBE_FAILED: "failed"}


class ConnectOutcome(StrEnum):
    """How an attempt, or a whole connecting, ended."""

    SUCCEEDED = "succeeded"
    """It is connected."""
    FAILED = "failed"
    """By an error."""
    ABANDONED = "abandoned"
    """Nobody wants it any more, or a fresh link was asked for."""


def is_connecting(state: str) -> bool:
    """Whether a connection in `state` is on its way to be connected."""
    return state not in _NOT_CONNECTING


def begins_connecting(record: ConnectionRecord) -> bool:
    """Whether a connecting begins with this transition: from rest, or by a loss."""
    return is_connecting(record.dest) and not is_connecting(record.source)


def connect_outcome(record: ConnectionRecord) -> ConnectOutcome | None:
    """How the connecting ended that this transition ended; None when it ended none."""
    if is_connecting(record.dest) or not is_connecting(record.source):
        return None
    if record.dest == _S.CONNECTED:
        return ConnectOutcome.SUCCEEDED
    return ConnectOutcome.FAILED if record.dest == _S.FAILED else ConnectOutcome.ABANDONED


def attempt_outcome(record: ConnectionRecord) -> ConnectOutcome | None:
    """How the attempt ended that this transition decided; None when it decided none."""
    if record.internal or not is_connecting(record.source):
        return None
    if is_connecting(record.dest) and record.dest not in _ATTEMPT_BEGINS:
        return None  # the link is open, and a state that a subclass added comes next
    if record.dest == _S.CONNECTED:
        return ConnectOutcome.SUCCEEDED
    return ConnectOutcome.ABANDONED if record.reason is None else ConnectOutcome.FAILED


def probe_outcome(record: ConnectionRecord) -> str | None:
    """`passed` or `failed`; None when the transition is not that of a probe."""
    return _PROBES.get(record.trigger)


def status_code(error: BaseException | None) -> str | None:
    """The name of the gRPC status that an answer had; None for what was not answered by gRPC."""
    return "OK" if error is None else getattr(_told(error, "code"), "name", None)


def error_type(error: BaseException) -> str:
    """The gRPC status, or the class: few and predictable values."""
    kind = type(error)
    return status_code(error) or (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    )


def error_text(error: BaseException) -> str:
    """What an error says, with nothing in it that a terminal would obey; of a gRPC error, what the peer said."""
    details = _told(error, "details")
    return sanitised(said(error) if details is None else str(details))


def _told(error: BaseException, what: str) -> Any:
    """What an error of gRPC tells when it is asked; None for any other, whatever it has under that name."""
    ask = getattr(error, what, None)
    try:
        return ask() if callable(ask) else None
    except Exception:
        return None


class KnownMethods:
    """Which methods get a name of their own: those that exist, so that wrong input cannot make metrics grow.

    A method is known from the first call of it by which one can tell: it was answered, or was sent and broke on a lost
    link. It is not by a name that nobody knows, nor by a call that was refused before its name was looked up, nor by
    one that was cancelled or never sent: its name may not have been looked up yet.
    """

    __slots__ = ("_known", "_other")

    def __init__(self, other: str) -> None:
        self._other = other
        self._known: set[str] = set()

    def named(self, record: CallRecord) -> str:
        """The name under which to count a call: its own, or the one for all others."""
        method = str(record.method)
        if method in self._known:
            return method
        if _proves_nothing(record.error) or len(self._known) >= METHODS_LIMIT:
            return self._other
        self._known.add(method)
        return method


def _proves_nothing(error: BaseException | None) -> bool:
    if isinstance(error, ConnectionLostError):
        return not error.maybe_executed
    if isinstance(error, (FsmConnError, asyncio.CancelledError, GeneratorExit)):
        return True
    return status_code(error) == "UNIMPLEMENTED"

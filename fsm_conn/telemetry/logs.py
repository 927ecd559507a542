"""Transitions and calls as records of the standard `logging`, for people and for machines.

The message is for a terminal. The same facts are in `extra`, as plain strings and numbers under names that begin
with `fsm_conn_`: for a JSON formatter, a filter, or a format string.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from fsm_conn._util.keywords import explained
from fsm_conn._util.validators import check_seconds, shown
from fsm_conn.connection.calling.records import CallOutcome, CallRecord
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.telemetry.reading import error_text, error_type
from fsm_conn.telemetry.watching import Telemetry, Watch

if TYPE_CHECKING:
    from fsm_conn.connection.connection import Connection

__all__ = ["LogObserver"]

_transitions = logging.getLogger("fsm_conn.connection")
_calls = logging.getLogger("fsm_conn.call")
_pools = logging.getLogger("fsm_conn.pool")


class _Watch(Watch):
    def __init__(self, conn: Connection, calls: bool, slow_after: float | None) -> None:
        super().__init__(conn)
        self.hears_calls = calls
        self._slow_after = slow_after

    def told(self, record: ConnectionRecord) -> None:
        super().told(record)
        level = _level(record)
        if _transitions.isEnabledFor(level):
            text = "" if record.reason is None else error_text(record.reason)
            shown = text if level >= logging.ERROR else text.partition("\n")[0]
            extra = {
                "fsm_conn_connection": self.name,
                "fsm_conn_trigger": str(record.trigger),
                "fsm_conn_source": str(record.source),
                "fsm_conn_dest": str(record.dest),
                "fsm_conn_internal": record.internal,
                "fsm_conn_reason": text,
                "fsm_conn_error_type": "" if record.reason is None else error_type(record.reason),
                "fsm_conn_attempt": record.attempt,
                "fsm_conn_dwell_seconds": record.dwell,
            }
            arrow = f"stays {record.source}" if record.internal else f"{record.source} -> {record.dest}"
            what = f"{arrow} on {record.trigger}, {_span(record)}"
            _transitions.log(level, "%s: %s%s", self.name, what, shown and f": {shown}", extra=extra)

    def called(self, record: CallRecord) -> None:
        slow = self._slow_after is not None and record.seconds >= self._slow_after
        level = logging.WARNING if slow or record.outcome is CallOutcome.FAILED else logging.DEBUG
        if _calls.isEnabledFor(level):
            text = "" if record.error is None else error_text(record.error)
            kind = "" if record.error is None else error_type(record.error)
            shown = "" if record.outcome is not CallOutcome.FAILED else f": {text or kind}".partition("\n")[0]
            extra = {
                "fsm_conn_connection": self.name,
                "fsm_conn_method": str(record.method),
                "fsm_conn_outcome": str(record.outcome),
                "fsm_conn_slow": slow,
                "fsm_conn_reason": text,
                "fsm_conn_error_type": kind,
                "fsm_conn_seconds": record.seconds,
            }
            what = f"{record.outcome} after {record.seconds:.3g} s{shown}"
            _calls.log(level, "%s: call of %.100r %s", self.name, record.method, what, extra=extra)


def _level(record: ConnectionRecord) -> int:
    """By what happened, and not by the name of the state, so that it serves the tables of subclasses too."""
    if record.trigger == Trigger.FAULT and record.reason is not None:
        return logging.ERROR
    if record.dest == ConnectionState.FAILED and not record.internal:
        return logging.ERROR
    if record.reason is not None:
        return logging.WARNING
    return logging.DEBUG if record.internal else logging.INFO


def _span(record: ConnectionRecord) -> str:
    """The most useful number for a reader: of an attempt, its number; of anything else, the time."""
    if record.dest in (ConnectionState.CONNECTING, ConnectionState.RECONNECTING):
        return f"attempt {record.attempt}"
    return f"after {record.dwell:.3g} s"


class LogObserver(Telemetry[_Watch]):
    """Writes one record for each transition to the logger `fsm_conn.connection`, and for each call to `fsm_conn.call`.

    Attached to a pool, it does so for all its connections; the pool's own transitions go to `fsm_conn.pool`.

    Levels of transitions: DEBUG for a probe that passed, INFO for requests and successes, WARNING for a transition
    caused by an error (a lost link, a failed attempt or probe), ERROR for giving up and for bugs. Levels of calls:
    WARNING for those that failed or were slow, DEBUG for all others.

    Records hold the text of errors. This package writes no secrets into them, and secrets among the values
    of `env=` are hidden where it quotes a plugin's output. The plugin's own answers, such as the text of a status,
    are passed on unchanged: if one quotes a secret, so does the record.

    Args:
        calls: whether calls are logged too.
        slow_after: seconds after which a call counts as slow. None: no call does.
    """

    @explained()
    def __init__(self, *, calls: bool = True, slow_after: float | None = None) -> None:
        super().__init__()
        if not isinstance(calls, bool):
            raise TypeError(f"LogObserver(calls={shown(calls)}): give True or False")
        if slow_after is not None:
            check_seconds(f"LogObserver(slow_after={shown(slow_after)})", slow_after, otherwise=", or None")
        self._calls = calls
        self._slow_after = slow_after

    def _pool_moved(self, name: str) -> Callable[[TransitionRecord], None]:
        def moved(record: TransitionRecord) -> None:
            level = logging.INFO if record.reason is None else logging.WARNING
            if _pools.isEnabledFor(level):
                text = "" if record.reason is None else error_text(record.reason)
                extra = {
                    "fsm_conn_pool": name,
                    "fsm_conn_trigger": str(record.trigger),
                    "fsm_conn_source": str(record.source),
                    "fsm_conn_dest": str(record.dest),
                    "fsm_conn_reason": text,
                }
                arrow = f"{record.source} -> {record.dest} on {record.trigger}, after {record.dwell:.3g} s"
                shown = text.partition("\n")[0]
                _pools.log(level, "%s: %s%s", name, arrow, shown and f": {shown}", extra=extra)

        return moved

    def _watch(self, conn: Connection) -> _Watch:
        return _Watch(conn, self._calls, self._slow_after)

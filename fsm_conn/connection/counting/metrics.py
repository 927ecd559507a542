"""Counts what happens to a connection, as an observer.

Only observed records are counted, so no caller can forget to count. Values that follow from others are computed, not
kept, so that counts cannot drift apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from fsm_conn._util.validators import shown
from fsm_conn.connection.calling.records import CallOutcome, CallRecord
from fsm_conn.connection.counting.link_span import LinkSpan
from fsm_conn.connection.errors import CallTimeoutError, ConnectAbandonedError, ConnectFailedError, NotConnectedError
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import LOSING, ConnectionState, Trigger

if TYPE_CHECKING:
    from fsm_conn.connection.linked import LinkedMachine

__all__ = ["Metrics"]

SAMPLES = 1024
"""How many latencies of the last successful calls are kept: ten of them lie above the 99th percentile."""

_REFUSED = (NotConnectedError, ConnectFailedError, ConnectAbandonedError, CallTimeoutError)
"""The errors of calls that were not sent."""


def _latencies() -> deque[float]:
    return deque(maxlen=SAMPLES)


@attrs.define(eq=False)
class Metrics:
    """Counts for the connections that it watches, usually one.

        metrics = Metrics()
        metrics.watch(conn)

    It refers to no connection, so keeping it keeps nothing else alive. A call is counted when it has ended.
    """

    succeeded_calls: int = attrs.field(default=0, init=False)
    """Calls that were answered."""
    failed_calls: int = attrs.field(default=0, init=False)
    """Calls that ended with any error."""
    cancelled_calls: int = attrs.field(default=0, init=False)
    """Calls whose caller was cancelled, or stopped reading the stream of answers."""
    refused_calls: int = attrs.field(default=0, init=False)
    """Those of the failed calls that were not sent because there was no connection: refused at once, or after
    connecting failed or the call's timeout passed."""
    last_successful_call: datetime | None = attrs.field(default=None, init=False)
    """When the last call succeeded, in UTC; None: none has."""
    connection_count: int = attrs.field(default=0, init=False)
    """How many links became `connected`. A return from a state beside it, such as `paused`, does not count."""
    disconnection_count: int = attrs.field(default=0, init=False)
    """How often `disconnected` was entered."""
    failed_connection_count: int = attrs.field(default=0, init=False)
    """How often `failed` was entered."""
    reconnect_count: int = attrs.field(default=0, init=False)
    """How many of these links replaced an earlier one without a disconnect in between. Failed attempts do not count."""
    losses: int = attrs.field(default=0, init=False)
    """How many of these links were lost or had an unhealthy peer, in `connected` or in a state beside it."""
    passed_probes: int = attrs.field(default=0, init=False)
    """Health probes that passed."""
    failed_probes: int = attrs.field(default=0, init=False)
    """Health probes that failed, by a bad, late or missing answer."""
    connected_since: float | None = attrs.field(default=None, init=False)
    """When the current link became `connected`, in seconds of the event loop's clock; None when there is none."""
    connected_at: datetime | None = attrs.field(default=None, init=False)
    """When a link last became `connected`, in UTC; None: never."""
    _was_connected: bool = attrs.field(default=False, init=False)
    _latencies: deque[float] = attrs.field(factory=_latencies, init=False, repr=False)

    def watch(self, conn: LinkedMachine) -> Callable[[], None]:
        """Count what happens to `conn` from now on.

        Returns:
            a function that ends it.
        """
        uptime = LinkSpan(conn)
        endings = conn.on_transition(lambda record: self._moved(uptime.read(record))), conn.on_call(self.on_call)

        def unsubscribe() -> None:
            for end in endings:
                end()

        return unsubscribe

    @property
    def total_calls(self) -> int:
        """All ended calls: succeeded, failed and cancelled ones."""
        return self.succeeded_calls + self.failed_calls + self.cancelled_calls

    @property
    def success_rate(self) -> float:
        """The share (0 to 1) of calls that succeeded, among those not cancelled; 0 before the first."""
        judged = self.succeeded_calls + self.failed_calls
        return self.succeeded_calls / judged if judged else 0.0

    def latency(self, percent: int) -> float | None:
        """The given percentile (nearest rank) of the latencies of the last successful calls, in seconds.

        Latencies include waits for a connection and repeats; for a stream, the time to its end. None before the first
        such call.

        Raises:
            TypeError, ValueError: `percent` is not a whole number from 1 to 100.
        """
        if not isinstance(percent, int) or isinstance(percent, bool):
            raise TypeError(f"latency({shown(percent)}): give a whole number of percent")
        if not 1 <= percent <= 100:
            raise ValueError(f"latency({shown(percent)}): give 1 to 100 percent")
        ordered = sorted(self._latencies)
        return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else None

    def on_call(self, call: CallRecord) -> None:
        """Count a call that has ended."""
        if call.outcome is CallOutcome.SUCCEEDED:
            self.succeeded_calls += 1
            self.last_successful_call = datetime.now(UTC)
            self._latencies.append(call.seconds)
        elif call.outcome is CallOutcome.CANCELLED:
            self.cancelled_calls += 1
        else:
            self.failed_calls += 1
            self.refused_calls += isinstance(call.error, _REFUSED)

    def _moved(self, record: ConnectionRecord) -> None:
        self.passed_probes += record.trigger == Trigger.PROBE_PASSED
        self.failed_probes += record.trigger == Trigger.PROBE_FAILED
        if record.source == record.dest:
            return
        if record.source == ConnectionState.CONNECTED:
            self.connected_since = None
            self.losses += record.trigger in LOSING
        if record.dest == ConnectionState.CONNECTED:
            self._note_connected(record.at)
        elif record.dest == ConnectionState.DISCONNECTED:
            self.disconnection_count += 1
            self._was_connected = False
        elif record.dest == ConnectionState.FAILED:
            self.failed_connection_count += 1

    def _note_connected(self, at: float) -> None:
        self.connection_count += 1
        self.reconnect_count += self._was_connected
        self._was_connected = True
        self.connected_since, self.connected_at = at, datetime.now(UTC)

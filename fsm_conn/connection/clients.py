"""The documented clients: connections with fixed policies and with method names of their own.

Each is a `Connection`: it sets policies and adds other names for existing methods. Each takes every argument of
`Connection`, also an explicit policy, and offers `call`, `stream` and everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

import attrs

from fsm_conn._util.text import said
from fsm_conn._util.validators import shown
from fsm_conn.connection.calling.calls import Calls
from fsm_conn.connection.calling.route import ConnectionRoute, RoutedCall
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.counting.metrics import Metrics
from fsm_conn.connection.counting.report import HealthReport
from fsm_conn.connection.errors import NotConnectedError, connect_failed
from fsm_conn.connection.policy import HealthPolicy, Jitter, RetryPolicy
from fsm_conn.connection.table import ConnectionState
from fsm_conn.links.target import Target

__all__ = ["AutoReconnectClient", "HealthMonitoredClient", "ManagedConnection", "StatefulConnection"]

T = TypeVar("T")

_NO_OUTAGE = frozenset({ConnectionState.DISCONNECTING, ConnectionState.DISCONNECTED})


class _ConnectingRoute(ConnectionRoute):
    """A route on which every call waits for the connection, and connects if necessary."""

    __slots__ = ()

    is_patient = True
    _conn: _Client

    def __init__(self, conn: _Client) -> None:
        super().__init__(conn)

    async def next(self, end: float | None) -> RoutedCall:
        """The current link, or the next one.

        A call whose time runs out leaves the attempt that it began to the policy, for the next call. Otherwise
        impatient calls would begin one outage after the other.
        """
        conn = self._conn
        endings = self.endings
        if conn.state not in conn.serving_states and not conn.in_activity():
            await conn._begin_connecting()
        try:
            return await super().next(end)
        except NotConnectedError:
            conn._demand.heed(endings, conn)
            last = conn.last_record
            if last is not None and last.dest == ConnectionState.FAILED:
                raise connect_failed(conn.name, last) from None
            raise

    def _outlives(self, end: float | None) -> bool:
        return end is not None and self._conn._now() >= end


class _Client(Connection):
    """The common base of the clients: their first argument is called `command`."""

    def __init__(self, command: Target, **options: Any) -> None:
        super().__init__(command, **options)
        self.command = command

    @property
    def _retries(self) -> int:
        """How many attempts of the current outage were started after the first."""
        is_over = self._state in _NO_OUTAGE or self._state in self.serving_states
        return 0 if is_over else max(self.attempt - 1, 0)

    async def _connect_and_call(self, method: str, args: tuple[Any, ...], fields: dict[str, Any]) -> Any:
        """A call that connects first if necessary, and waits for a reconnect. Its timeout covers all of this."""
        return await Calls(_ConnectingRoute(self), self._calls).unary(method, args, fields)


class ManagedConnection(_Client):
    """A connection that makes up to three attempts to connect, one and two seconds apart.

        connection = ManagedConnection(["python", "calculator.py"])
        await connection.connect()
        reply = await connection.call_with_connection_check("calculator.Add", a=5, b=3)

    A lost link is replaced by the same rules. An error that the plugin answers is raised to the caller and does not
    affect the connection.

    Args:
        command: what to connect to, as the target of `Connection`.
        options: the other arguments of `Connection`.
    """

    retry = RetryPolicy(max_attempts=3, initial_delay=1.0, multiplier=2.0, jitter=Jitter.NONE)

    @property
    def connection_attempts(self) -> int:
        """How many attempts of this outage have failed, all once it gave up; 0 while connected or disconnected."""
        return self.attempt if self._state == ConnectionState.FAILED else self._retries

    async def call_with_connection_check(self, service_method: str, /, *args: Any, **fields: Any) -> Any:
        """Connect if necessary, and call. Arguments as for `call`.

        The timeout of a `CallOptions` covers connecting too. The request is sent again only where that is safe: when it
        provably never reached the plugin, or the caller marked it idempotent.

        Raises:
            ConnectFailedError: connecting failed; nothing was sent.
            CallTimeoutError: the timeout passed before there was a connection.
            FsmConnError, grpc.aio.AioRpcError: as `call`.
        """
        return await self._connect_and_call(service_method, args, fields)


class _Counted(_Client):
    """A client with metrics of its own."""

    def __init__(self, command: Target, **options: Any) -> None:
        super().__init__(command, **options)
        self._metrics = Metrics()
        self._metrics.watch(self)


class HealthMonitoredClient(_Counted):
    """A connection that probes its peer's health every 30 seconds, and offers a health report.

        client = HealthMonitoredClient(["python", "calculator.py"])
        await client.connect()
        await client.call_with_health_tracking("calculator.Add", a=1, b=2)
        print(client.get_health_report())

    After three failed probes in a row the peer is replaced, as one that is gone. When that fails, one more attempt is
    made about every 30 seconds, until `disconnect()` is called. No probe is made while calls succeed: they prove as
    much.

    Args:
        command: what to connect to, as the target of `Connection`.
        options: the other arguments of `Connection`; `health=HealthPolicy(...)` for other intervals and limits.
    """

    retry = RetryPolicy(recover_after=30.0)
    health = HealthPolicy(interval=30.0)

    async def call_with_health_tracking(self, service_method: str, /, *args: Any, **fields: Any) -> Any:
        """The same as `call`, by the documented name.

        Every call is tracked, whichever method made it, except the calls of compiled stubs, which are gRPC's own.
        """
        return await self.call(service_method, *args, **fields)

    def health_report(self) -> HealthReport:
        """The current state of the connection, and its counts since it was created."""
        counts, connected = self._metrics, self._state in self.serving_states
        since = counts.connected_since if connected else None
        return HealthReport(
            connected=connected,
            connected_duration_seconds=None if since is None or self.loop is None else self.loop.time() - since,
            total_calls=counts.total_calls,
            failed_calls=counts.failed_calls,
            success_rate_percent=round(counts.success_rate * 100, 2),
            reconnect_count=counts.reconnect_count,
            last_successful_call=counts.last_successful_call,
            state=str(self.state),
            health=self.health_status,
            passed_probes=counts.passed_probes,
            failed_probes=counts.failed_probes,
            connected_at=counts.connected_at,
            losses=counts.losses,
            succeeded_calls=counts.succeeded_calls,
            cancelled_calls=counts.cancelled_calls,
            refused_calls=counts.refused_calls,
            latency_p50_ms=_milliseconds(counts.latency(50)),
            latency_p95_ms=_milliseconds(counts.latency(95)),
            latency_p99_ms=_milliseconds(counts.latency(99)),
            last_error=None if self.reason is None else said(self.reason),
        )

    def get_health_report(self) -> dict[str, Any]:
        """`health_report()` as a plain dict: the documented keys first, then the others."""
        return self.health_report().as_dict()


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


class _Setting(Generic[T]):
    """An attribute of a client that is read from and written to its retry policy.

    Args:
        field: the field of the policy.
        read: converts the field's value to the attribute's.
        write: converts the attribute's value, given the field's current one, to the field's.
    """

    def __init__(
        self,
        field: str,
        read: Callable[[Any], T] = lambda kept: kept,
        write: Callable[[T, Any], Any] = lambda value, kept: value,
    ) -> None:
        self._field, self._read, self._write = field, read, write
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Connection, owner: type) -> T: ...
    def __get__(self, client: Connection | None, owner: type) -> Self | T:
        return self if client is None else self._read(getattr(client.retry, self._field))

    def __set__(self, client: Connection, value: T) -> None:
        try:
            new = self._write(value, getattr(client.retry, self._field))
            client.retry = attrs.evolve(client.retry, **{self._field: new})
        except (TypeError, ValueError) as error:
            remedy = str(error).rpartition(": ")[2]
            raise type(error)(f"{type(client).__name__}.{self._name} = {shown(value)}: {remedy}") from None


def _more_than_the_first(value: Any, kept: int | None) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("give a whole number, or None for no limit")
    if value < 0:
        raise ValueError("give 0 or more")
    return value + 1


def _switched(value: Any, kept: Jitter) -> Jitter:
    if not isinstance(value, bool):
        raise TypeError("give True or False")
    return (Jitter.EQUAL if kept is Jitter.NONE else kept) if value else Jitter.NONE


class AutoReconnectClient(_Client):
    """A connection whose calls connect when needed, wait while it reconnects, and are repeated where that is safe.

        client = AutoReconnectClient(["python", "calculator.py"])
        client.max_reconnect_attempts = 8
        reply = await client.call_with_auto_reconnect("calculator.Add", CallOptions(timeout=20), a=1, b=2)

    In an outage one attempt is made at once, then up to `max_reconnect_attempts` more, each after a delay. The settings
    can be read and assigned at any time, and apply from the next decision on. They are views of the policy `retry`.

    Args:
        command: what to connect to, as the target of `Connection`.
        options: the other arguments of `Connection`.
    """

    retry = RetryPolicy(max_attempts=6, initial_delay=1.0, multiplier=2.0, max_delay=60.0, jitter=Jitter.EQUAL)

    max_reconnect_attempts = _Setting[int | None](
        "max_attempts", lambda kept: None if kept is None else kept - 1, _more_than_the_first
    )
    """Attempts of one outage after the immediate one; 5 by default. None: no limit."""
    base_reconnect_delay = _Setting[float]("initial_delay")
    """Seconds before the first of these, without jitter; 1 by default."""
    max_reconnect_delay = _Setting[float]("max_delay")
    """The longest delay, in seconds; 60 by default."""
    reconnect_backoff_factor = _Setting[float]("multiplier")
    """The factor from each delay to the next; 2 by default."""
    jitter_enabled = _Setting[bool]("jitter", lambda kept: kept is not Jitter.NONE, _switched)
    """Whether each delay is drawn at random between its half and its whole; True by default."""

    @property
    def reconnect_attempts(self) -> int:
        """How many attempts of this outage followed the immediate one; 0 while connected or disconnected."""
        return self._retries

    async def close(self) -> None:
        """The same as `disconnect()`, by the documented name."""
        await self.disconnect()

    async def call_with_auto_reconnect(self, service_method: str, /, *args: Any, **fields: Any) -> Any:
        """Call; connect first if necessary, also after giving up. Arguments as for `call`.

        The timeout of a `CallOptions` is a deadline over everything: connecting, waiting for a reconnect, and repeats.
        The request is sent again only where that is safe: when it provably never reached the plugin, or the caller
        marked it idempotent. Otherwise the call fails, and the error says whether it may have been executed.

        Raises:
            ConnectFailedError: all attempts failed; nothing was sent.
            CallTimeoutError: the timeout passed while waiting for a connection.
            ConnectionLostError: the link was lost under the call, which is not safe to repeat.
            FsmConnError, grpc.aio.AioRpcError: as `call`.
        """
        return await self._connect_and_call(service_method, args, fields)


class StatefulConnection(_Counted):
    """A connection that never reconnects on its own.

        connection = StatefulConnection(["python", "calculator.py"])
        connection.on_state_change(ConnectionState.FAILED, lambda old, new: print(old, "->", new))
        await connection.connect()

    One attempt is made. When it fails, or when the link is lost, the state is `failed` until `connect()` or
    `reconnect()` is called. With another `retry` policy it reconnects on its own.

    Args:
        command: what to connect to, as the target of `Connection`.
        options: the other arguments of `Connection`.
    """

    retry = RetryPolicy(max_attempts=1, max_restarts=0)

    async def call_method(self, service_method: str, /, *args: Any, **fields: Any) -> Any:
        """The same as `call`, by the documented name.

        Raises:
            NotConnectedError: not connected; names the state and what to do. It is also a `RuntimeError`.
            FsmConnError, grpc.aio.AioRpcError: as `call`.
        """
        return await self.call(service_method, *args, **fields)

    @property
    def metrics(self) -> dict[str, int]:
        """How often it connected, disconnected and failed, and how many calls were made; a copy.

        A call that was refused because there was no connection does not count. Calls are counted when they have ended.
        """
        counts = self._metrics
        return {
            "connection_count": counts.connection_count,
            "disconnection_count": counts.disconnection_count,
            "failed_connection_count": counts.failed_connection_count,
            "total_calls": counts.total_calls - counts.refused_calls,
        }

    def get_state_info(self) -> dict[str, Any]:
        """The current state and the metrics, as a plain dict."""
        connected = self.is_connected()
        return {
            "current_state": str(self.state),
            "is_connected": connected,
            "can_make_calls": connected,
            "metrics": self.metrics,
        }

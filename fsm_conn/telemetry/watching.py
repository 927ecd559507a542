"""Attaches observers to connections and pools, and detaches them.

The rules that hold here: nothing refers to the connection or the pool, so that it is freed when it is dropped, and what
was known of it goes with it; attaching twice is attaching once; what is known is replaced by each record and never
summed up, so that it is right again after whatever was missed.
"""

from __future__ import annotations

import abc
import contextlib
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from fsm_conn.connection.calling.records import CallRecord
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.counting.link_span import LinkSpan
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.machine.records import TransitionRecord
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.telemetry.reading import (
    ConnectOutcome,
    attempt_outcome,
    begins_connecting,
    connect_outcome,
    probe_outcome,
)

__all__ = ["Measuring", "PoolReading", "Telemetry", "Watch"]


class Watch(abc.ABC):
    """What one observer knows of one connection.

    Attributes:
        name: the connection's.
        label: the name under which it is counted: its own; or, of a pool's, that of the pool, which makes new ones for
            as long as it lives.
    """

    hears_calls = True
    """Whether it wants to be told of calls: telling costs each call a little."""

    def __init__(self, conn: Connection) -> None:
        self.name = self.label = conn.name
        self.states = tuple(str(state) for state in conn.lifecycle.states)
        self.state = str(conn.state)

    def told(self, record: ConnectionRecord) -> None:
        """Of a transition."""
        self.state = str(record.dest)

    @abc.abstractmethod
    def called(self, record: CallRecord) -> None:
        """Of a call that has ended."""

    def detached(self) -> None:  # noqa: B027 - most have nothing to finish
        """Somebody has detached it. Not called for a connection that was dropped.

        For that may happen whenever memory is freed, in the midst of any library, whose locks are then not to be taken.
        """


class Measuring(Watch):
    """A watch that tells a backend what is to be counted and timed."""

    def __init__(self, conn: Connection) -> None:
        super().__init__(conn)
        self._uptime = LinkSpan(conn)
        self._since: float | None = None

    def told(self, record: ConnectionRecord) -> None:
        """Take a record apart."""
        super().told(record)
        self.moved(record)
        read = self._uptime.read(record)
        probe, attempt, end = probe_outcome(read), attempt_outcome(read), connect_outcome(read)
        if probe is not None:
            self.probed(probe)
        if attempt is not None:
            self.attempted(attempt, record)
        if begins_connecting(read):
            self._since = record.at
            self.began(record)
        elif end is not None and self._since is not None:  # otherwise it began before we were attached
            self.ended(end, record.at - self._since, record)

    @abc.abstractmethod
    def moved(self, record: ConnectionRecord) -> None:
        """A row was taken."""

    @abc.abstractmethod
    def probed(self, outcome: str) -> None:
        """A probe was answered."""

    @abc.abstractmethod
    def attempted(self, outcome: ConnectOutcome, record: ConnectionRecord) -> None:
        """An attempt was decided."""

    def began(self, record: ConnectionRecord) -> None:
        """A connecting began."""

    @abc.abstractmethod
    def ended(self, outcome: ConnectOutcome, seconds: float, record: ConnectionRecord) -> None:
        """A connecting ended."""


@attrs.frozen
class PoolReading:
    """How a pool is doing, and what it has done."""

    size: int = 0
    connections: int = 0
    """In service."""
    leased: int = 0
    idle: int = 0
    """Leases available without waiting."""
    waiting: int = 0
    created: int = 0
    timeouts: int = 0
    refused: int = 0
    waits: int = 0
    wait_seconds: float = 0.0

    @classmethod
    def of(cls, stats: Mapping[str, Any]) -> PoolReading:
        """Of what `get_pool_stats` returned."""
        counts = stats["stats"]
        return cls(
            size=stats["pool_size"],
            connections=stats["total_connections"],
            leased=stats["leased"],
            idle=stats["available_in_pool"],
            waiting=stats["waiting"] + stats["calls_waiting"],
            created=counts["connections_created"],
            **{name: counts[name] for name in ("timeouts", "refused", "waits", "wait_seconds")},
        )

    def __add__(self, other: PoolReading) -> PoolReading:
        return PoolReading(*(one + more for one, more in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


WatchT = TypeVar("WatchT", bound=Watch)


class Telemetry(abc.ABC, Generic[WatchT]):
    """The base of observers that many connections can be attached to."""

    def __init__(self) -> None:
        self._watches: dict[int, tuple[WatchT, Callable[[], None]]] = {}
        self._pools: dict[int, tuple[weakref.ref[ConnectionPool], Callable[[], None]]] = {}

    def attach(self, target: Connection | ConnectionPool) -> Callable[[], None]:
        """Observe a connection from now on; or a pool and all its connections, future ones included.

        A dropped connection is forgotten without detaching. The connections of a pool are counted together, under the
        pool's name; log records name each one.

        Returns:
            a function that detaches; calling it twice is harmless. The same function when it is attached already.

        Raises:
            TypeError: the target is neither.
        """
        if isinstance(target, ConnectionPool):
            if id(target) not in self._pools:
                self._pools[id(target)] = self._begin_pool(target)
            return self._pools[id(target)][1]
        if not isinstance(target, Connection):
            raise TypeError(f"{type(self).__name__}.attach({target!r}): give a Connection or a ConnectionPool")
        return self._attached(target, None)

    def _attached(self, conn: Connection, label: str | None) -> Callable[[], None]:
        key = id(conn)
        if key not in self._watches:
            self._watches[key] = self._begin(conn, key, label)
        return self._watches[key][1]

    def _begin(self, conn: Connection, key: int, label: str | None) -> tuple[WatchT, Callable[[], None]]:
        watch, undo = self._watch(conn), contextlib.ExitStack()
        watch.label = watch.name if label is None else label
        undo.callback(self._watches.pop, key, None)
        undo.callback(conn.on_transition(watch.told))
        if watch.hears_calls:
            undo.callback(conn.on_call(watch.called))
        forget = weakref.finalize(conn, undo.close)
        forget.atexit = False

        def detach() -> None:
            forget()
            watch.detached()

        return watch, detach

    def _begin_pool(self, pool: ConnectionPool) -> tuple[weakref.ref[ConnectionPool], Callable[[], None]]:
        key, label, undo = id(pool), pool.name, contextlib.ExitStack()
        detaches: weakref.WeakKeyDictionary[Connection, Callable[[], None]] = weakref.WeakKeyDictionary()

        def made(conn: Connection) -> None:
            if id(conn) not in self._watches:
                detaches[conn] = self._attached(conn, label)

        undo.callback(self._pools.pop, key, None)
        undo.callback(pool.on_connection(made))
        if (moved := self._pool_moved(label)) is not None:
            undo.callback(pool.on_transition(moved))
        forget = weakref.finalize(pool, undo.close)
        forget.atexit = False

        def detach() -> None:
            forget()
            for each in tuple(detaches.values()):
                each()

        return weakref.ref(pool), detach

    def _pool_moved(self, name: str) -> Callable[[TransitionRecord], None] | None:
        """What is told of a pool's own transitions, if anything is."""
        return None

    def _pool_stats(self) -> dict[str, PoolReading]:
        """How the pools that are attached are doing, by their names; those of the same name added up."""
        found: dict[str, PoolReading] = {}
        for reference, _ in tuple(self._pools.values()):
            if (pool := reference()) is not None:
                reading = PoolReading.of(pool.get_pool_stats())
                found[pool.name] = found.get(pool.name, PoolReading()) + reading
        return found

    @abc.abstractmethod
    def _watch(self, conn: Connection) -> WatchT:
        """Begin to know of a connection. What is returned must not refer to it."""

    def _present_watches(self) -> list[WatchT]:
        """Of the connections that are attached; asked from any thread."""
        return [watch for watch, _ in self._watches.copy().values()]

    def _count_by_state(self) -> dict[tuple[str, str], int]:
        """How many connections of each name are in each of their states. Zeros included."""
        counts: dict[tuple[str, str], int] = {}
        for watch in self._present_watches():
            for state in watch.states:
                counts[watch.label, state] = counts.get((watch.label, state), 0) + (state == watch.state)
        return counts

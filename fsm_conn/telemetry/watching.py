"""How observers are attached to connections, and let go of them.

The rules that hold here: nothing refers to the connection, so that it is freed when it is dropped, and what was known
of it goes with it; attaching twice is attaching once; what is known is replaced by each record and never summed up,
so that it is right again after whatever was missed.
"""

from __future__ import annotations

import abc
import contextlib
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from fsm_conn.connection.calling.records import CallRecord
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.counting.link_span import LinkSpan
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.telemetry.reading import (
    ConnectOutcome,
    attempt_outcome,
    begins_connecting,
    connect_outcome,
    probe_outcome,
)

__all__ = ["Measuring", "Telemetry", "Watch"]


class Watch(abc.ABC):
    """What one observer knows of one connection."""

    hears_calls = True
    """Whether it wants to be told of calls: telling costs each call a little."""

    def __init__(self, conn: Connection) -> None:
        self.name = conn.name
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


WatchT = TypeVar("WatchT", bound=Watch)


class Telemetry(abc.ABC, Generic[WatchT]):
    """Something that many connections can be attached to."""

    def __init__(self) -> None:
        self._watches: dict[int, tuple[WatchT, Callable[[], None]]] = {}

    def attach(self, conn: Connection) -> Callable[[], None]:
        """Observe `conn` from now on. It is forgotten when it is dropped, so detaching is not needed for that.

        Returns:
            a function that detaches; calling it twice is harmless. The same one when `conn` is attached already.

        Raises:
            TypeError: `conn` is no connection.
        """
        if not isinstance(conn, Connection):
            raise TypeError(f"{type(self).__name__}.attach(conn={conn!r}): give a Connection")
        key = id(conn)
        if key not in self._watches:
            self._watches[key] = self._begin(conn, key)
        return self._watches[key][1]

    def _begin(self, conn: Connection, key: int) -> tuple[WatchT, Callable[[], None]]:
        watch, undo = self._watch(conn), contextlib.ExitStack()
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
                counts[watch.name, state] = counts.get((watch.name, state), 0) + (state == watch.state)
        return counts

"""The live machines of this process, as subjects.

A subject keeps no machine alive. It learns from the machine's transitions, and reads the machine while that exists. A
machine that lives in the event loop of another thread cannot be read; then the page says so.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs

from fsm_conn.connection.connection import Connection
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.inspector.calls import CallCounts
from fsm_conn.inspector.guards import verdicts
from fsm_conn.inspector.hub import Hub
from fsm_conn.inspector.subject import Subject, Ways
from fsm_conn.inspector.wire import entry_of, reason_of, shown
from fsm_conn.machine.chart import chart_of
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.records import NO_DATA, TransitionRecord
from fsm_conn.pool.pool import ConnectionPool

__all__ = ["LiveMachine", "LivePool", "live", "lives_elsewhere"]

FOLDED = 64
"""Transitions that are processed together while nobody looks."""
_PLAIN = (TransitionRecord, ConnectionRecord)
"""Records that hold nothing but their error and their data. A subclass of these may hold anything."""


class LiveMachine(Subject):
    """A machine of this process. Observes it from the moment in which this is created."""

    def __init__(self, name: str, machine: StateMachine, hub: Hub, depth: int, ways: Ways) -> None:
        super().__init__(name, chart_of(machine), hub, depth, ways)
        self._machine = weakref.ref(machine)
        self._last_state = str(machine.state)
        self._calls: CallCounts | None = None
        self._entries.extend(map(entry_of, machine.history[-depth:]))
        self.count = len(self._entries)
        if machine.reason is not None:
            self.reason = reason_of(machine.reason)
        self._undo = [machine.on_transition(_observer(self, machine.record_type))]
        if isinstance(machine, Connection):
            self.kind, self._calls = "connection", CallCounts()
            self._undo.append(machine.on_call(self._calls))

    @property
    def machine(self) -> StateMachine | None:
        """The machine; None when it was dropped."""
        return self._machine()

    @property
    def state(self) -> str:
        """The current state, or the last one when the machine was dropped."""
        machine = self._machine()
        if machine is not None:
            self._last_state = str(machine.state)
        return self._last_state

    @property
    def since(self) -> float | None:
        """When that state was entered, by its loop's clock."""
        machine = self._machine()
        return None if machine is None else machine.snapshot().since

    @property
    def attempt(self) -> int:
        """The number of the attempt in this outage, for a connection."""
        machine = self._machine()
        return machine.attempt if isinstance(machine, Connection) else 0

    def detach(self) -> None:
        """Stop observing."""
        for undo in self._undo:
            undo()

    def details(self, *, guards: bool) -> dict[str, Any]:
        """The details of every subject, and: where its activity is, its calls, and the results of its guards."""
        found = super().details(guards=guards)
        machine = self._machine()
        if machine is None:
            return found
        with suppress(Exception):  # reading them may run code of the application
            values = attrs.asdict(machine.snapshot()).items()
            found["snapshot"] = {name: shown(each) if isinstance(each, str) else each for name, each in values}
        if self._calls is not None:
            found["calls"] = self._calls.values()
        if guards:
            found["guards"] = None if lives_elsewhere(machine) else verdicts(machine)
        return found


class LivePool(LiveMachine):
    """A pool, and the users of its connections."""

    kind = "pool"

    def details(self, *, guards: bool) -> dict[str, Any]:
        """The details of every machine, and: its slots, leases and waiters."""
        found = super().details(guards=guards)
        pool = self._machine()
        if isinstance(pool, ConnectionPool) and not lives_elsewhere(pool):
            stats = pool.get_pool_stats()
            found["pool"] = {
                "stats": stats,
                "slots": [
                    {
                        "name": shown(slot.conn.name),
                        "kind": str(slot.kind),
                        "state": shown(slot.state),
                        "connection": shown(slot.conn.state),
                        "leases": len(slot.holders),
                        "calls": len(slot.callers),
                        "served": slot.leases,
                        "links": slot.links,
                        "cause": None if slot.cause is None else ": ".join(reason_of(slot.cause)),
                    }
                    for slot in pool.slots
                ],
            }
        return found


def _observer(subject: LiveMachine, record_type: type[TransitionRecord]) -> Callable[[TransitionRecord], None]:
    """Returns an observer of the machine's transitions. It runs inside each transition, so it does little."""
    pending, append, hub = subject._pending, subject._pending.append, subject._hub
    is_plain = record_type in _PLAIN

    def tell(record: TransitionRecord) -> None:
        if is_plain and record[4] is None and record[7] is NO_DATA:
            append(record)
            if hub.windows or len(pending) >= FOLDED:
                subject.fold()
        else:
            subject.note(entry_of(record))

    return tell


def live(name: str, machine: StateMachine, hub: Hub, depth: int, ways: Ways) -> LiveMachine:
    """Make the subject of a machine."""
    kind = LivePool if isinstance(machine, ConnectionPool) else LiveMachine
    return kind(name, machine, hub, depth, ways)


def lives_elsewhere(machine: StateMachine) -> bool:
    """Whether the machine lives in another event loop than the running one."""
    loop = machine.loop
    return loop is not None and loop is not asyncio.get_running_loop()

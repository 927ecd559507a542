"""The inspected subjects, each under a key. A subject disappears with its machine.

The rules that hold here: watching a machine twice has no further effect; nothing keeps a machine alive; the number of
machines, and the data kept of each, are limited.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import weakref
from collections import Counter
from collections.abc import Callable

from fsm_conn.connection.connection import Connection
from fsm_conn.inspector.hub import Hub
from fsm_conn.inspector.live import LiveMachine, live
from fsm_conn.inspector.subject import Subject, Ways
from fsm_conn.machine.machine import StateMachine
from fsm_conn.machine.observers import on_begun
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.pool.slots.slot import Slot

__all__ = ["Registry"]

MOST = 10_000
"""Machines that are watched. Any beyond these are counted but not shown."""
DEPTH = 512
"""Transitions that are kept of each of the first `DEEP` machines."""
DEEP = 100
"""The number of machines with the full `DEPTH`."""
SHALLOW_DEPTH = 64
"""Transitions that are kept of each further machine."""


class Registry:
    """All subjects.

    Attributes:
        subjects: by their keys.
        left_out: how many machines were not watched because there were too many.
    """

    def __init__(self, hub: Hub) -> None:
        self.subjects: dict[str, Subject] = {}
        self.left_out = 0
        self._hub = hub
        self._keys = map(str, itertools.count(1))
        self._known: dict[int, tuple[LiveMachine, Callable[[], None]]] = {}
        self._pools: dict[int, Callable[[], None]] = {}
        self._stop_all: Callable[[], None] | None = None
        self._ways: weakref.WeakKeyDictionary[type, Ways] = weakref.WeakKeyDictionary()

    @property
    def depth(self) -> int:
        """How many transitions to keep of the next machine."""
        return DEPTH if len(self.subjects) < DEEP else SHALLOW_DEPTH

    def watch(self, machine: StateMachine, name: str | None = None, parent: str | None = None) -> Callable[[], None]:
        """Observe a machine, and if it is a pool, all its present and future connections.

        Returns:
            a function that stops watching; calling it twice is harmless.
        """
        known = self._known.get(id(machine))
        if known is not None:
            if known[0].parent is None:
                known[0].parent = parent
            return known[1]
        if len(self.subjects) >= MOST:
            self.left_out += 1
            return _nothing
        subject = live(_named(machine, name), machine, self._hub, self.depth, self._ways_of(type(machine)))
        subject.parent = parent
        undo = contextlib.ExitStack()
        undo.callback(self._known.pop, id(machine), None)
        undo.callback(subject.detach)
        self.add(subject)
        undo.callback(self.remove, subject)
        if isinstance(machine, ConnectionPool):
            self._watch_connections(machine, subject.key, undo)
        forget = weakref.finalize(machine, undo.close)
        forget.atexit = False

        def end() -> None:
            forget()

        self._known[id(machine)] = subject, end
        return end

    def add(self, subject: Subject) -> None:
        """Add a subject to the list."""
        subject.key = next(self._keys)
        self.subjects[subject.key] = subject
        self._hub.added(subject)

    def remove(self, subject: Subject) -> None:
        """Remove a subject from the list."""
        self.subjects.pop(subject.key, None)
        self._hub.removed(subject)
        subject.key = ""

    def all(self) -> tuple[Subject, ...]:
        """All present subjects."""
        return tuple(self.subjects.copy().values())

    def watch_all(self) -> Callable[[], None]:
        """Observe every present machine, and each later one from its start on, except for the slots of pools.

        Returns:
            a function that stops this.
        """
        if self._stop_all is not None:
            return self._stop_all
        for each in gc.get_objects():
            if issubclass(type(each), StateMachine):  # isinstance() would call a proxy, and so wake it
                with contextlib.suppress(Exception):  # it may be only half constructed
                    self._begun(each)
        on_begun.append(self._begun)

        def stop() -> None:
            if self._stop_all is stop:
                self._stop_all = None
                on_begun.remove(self._begun)

        self._stop_all = stop
        return stop

    def close(self) -> None:
        """Stop observing."""
        if self._stop_all is not None:
            self._stop_all()
        for _, end in tuple(self._known.values()):
            end()
        for subject in self.all():
            self.remove(subject)

    def _ways_of(self, kind: type) -> Ways:
        return self._ways.setdefault(kind, Counter())

    def _begun(self, machine: StateMachine) -> None:
        if not isinstance(machine, Slot):  # the pool shows its slots
            self.watch(machine)

    def _watch_connections(self, pool: ConnectionPool, key: str, undo: contextlib.ExitStack) -> None:
        ends: weakref.WeakKeyDictionary[Connection, Callable[[], None]] = weakref.WeakKeyDictionary()

        def made(conn: Connection) -> None:
            ends[conn] = self.watch(conn, parent=key)

        undo.callback(lambda: [end() for end in tuple(ends.values())])
        undo.callback(pool.on_connection(made))


def _named(machine: StateMachine, name: str | None) -> str:
    """The given name, the machine's own name, or one made of its class and a number."""
    if name is None:
        with contextlib.suppress(Exception):  # not by its __dict__: reading that makes an object slower for ever
            own = getattr(machine, "name", None)
            name = own if isinstance(own, str) and own else None
    return f"{type(machine).__name__} {id(machine):x}" if name is None else name


def _nothing() -> None:
    """Does nothing, for a machine that is not watched."""

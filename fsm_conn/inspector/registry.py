"""The inspected subjects, each under a key; a subject vanishes with its machine.

The rules that hold here: watching twice is watching once; nothing refers to a machine; how many are watched, and how
much is kept of each, is bounded.
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
"""Machines that are watched; those beyond are counted and not shown."""
DEPTH = 512
"""Transitions that are kept of each of the first machines."""
DEEP = 100
"""How many these are."""
SHALLOW_DEPTH = 64
"""Transitions that are kept of each machine beyond them."""


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
        """How many transitions are to be kept of the next one."""
        return DEPTH if len(self.subjects) < DEEP else SHALLOW_DEPTH

    def watch(self, machine: StateMachine, name: str | None = None, parent: str | None = None) -> Callable[[], None]:
        """Observe a machine, and if it is a pool all connections that it has and makes.

        Returns:
            a function that ends it; calling it twice is harmless.
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
        """Have it listed."""
        subject.key = next(self._keys)
        self.subjects[subject.key] = subject
        self._hub.added(subject)

    def remove(self, subject: Subject) -> None:
        """List it no longer."""
        self.subjects.pop(subject.key, None)
        self._hub.removed(subject)
        subject.key = ""

    def all(self) -> tuple[Subject, ...]:
        """Those that there are."""
        return tuple(self.subjects.copy().values())

    def watch_all(self) -> Callable[[], None]:
        """Observe every machine that there is, and each that begins from now on, the slots of pools excepted.

        Returns:
            a function that ends it.
        """
        if self._stop_all is not None:
            return self._stop_all
        for each in gc.get_objects():
            if issubclass(type(each), StateMachine):  # a proxy would be asked, and woken, by isinstance()
                with contextlib.suppress(Exception):  # one that is only half made
                    self._begun(each)
        on_begun.append(self._begun)

        def stop() -> None:
            if self._stop_all is stop:
                self._stop_all = None
                on_begun.remove(self._begun)

        self._stop_all = stop
        return stop

    def close(self) -> None:
        """Observe nothing any more."""
        if self._stop_all is not None:
            self._stop_all()
        for _, end in tuple(self._known.values()):
            end()
        for subject in self.all():
            self.remove(subject)

    def _ways_of(self, kind: type) -> Ways:
        return self._ways.setdefault(kind, Counter())

    def _begun(self, machine: StateMachine) -> None:
        if not isinstance(machine, Slot):  # a pool shows them
            self.watch(machine)

    def _watch_connections(self, pool: ConnectionPool, key: str, undo: contextlib.ExitStack) -> None:
        ends: weakref.WeakKeyDictionary[Connection, Callable[[], None]] = weakref.WeakKeyDictionary()

        def made(conn: Connection) -> None:
            ends[conn] = self.watch(conn, parent=key)

        undo.callback(lambda: [end() for end in tuple(ends.values())])
        undo.callback(pool.on_connection(made))


def _named(machine: StateMachine, name: str | None) -> str:
    """What it is called: as it is said, by itself, or by its class and a number."""
    if name is None:
        with contextlib.suppress(Exception):  # not by its __dict__: to ask for that makes an object slower for ever
            own = getattr(machine, "name", None)
            name = own if isinstance(own, str) and own else None
    return f"{type(machine).__name__} {id(machine):x}" if name is None else name


def _nothing() -> None:
    """It was not watched."""

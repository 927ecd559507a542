"""Tells observers, such as metrics, of each connection that a pool makes."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fsm_conn.connection.connection import Connection
from fsm_conn.pool.slots.kind import Kind, SlotOwner
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.pool.targets.target import PoolTarget

__all__ = ["ConnectionCallback", "SlotMaker"]

ConnectionCallback = Callable[[Connection], object]
_log = logging.getLogger("fsm_conn.pool")


class SlotMaker:
    """Makes slots, and tells observers of their connections.

    Args:
        make: makes a slot of a kind, for a target; the slot reports to the given owner.
    """

    def __init__(self, make: Callable[[Kind, SlotOwner, PoolTarget], Slot]) -> None:
        self._make = make
        self._callbacks: dict[object, ConnectionCallback] = {}

    def __call__(self, kind: Kind, owner: SlotOwner, target: PoolTarget) -> Slot:
        """Make a slot."""
        slot = self._make(kind, owner, target)
        for callback in tuple(self._callbacks.values()):
            self._tell(callback, slot.conn)
        return slot

    def add(self, callback: ConnectionCallback) -> Callable[[], None]:
        """Register a callback, and return a function that unregisters it; calling that twice is harmless."""
        key = object()
        self._callbacks[key] = callback

        def unregister() -> None:
            self._callbacks.pop(key, None)

        return unregister

    def _tell(self, callback: ConnectionCallback, conn: Connection) -> None:
        try:
            callback(conn)
        except Exception:  # as with any observer, its errors must not hurt the pool
            _log.exception("%s: an observer of the pool's connections failed", conn.name)

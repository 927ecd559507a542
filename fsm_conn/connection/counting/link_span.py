"""Follows a link from when it is first `connected` until no state owns it, for those who count links, and not states.

A subclass may have states beside `connected`, such as `paused`, which share its link. To go there and back is no loss
and no new link, and whoever counts these is to see a connection that was `connected` all the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn.connection.table import ConnectionState

if TYPE_CHECKING:
    from fsm_conn.connection.linked import LinkedMachine
    from fsm_conn.connection.records import ConnectionRecord

__all__ = ["LinkSpan"]

_CONNECTED = ConnectionState.CONNECTED


class LinkSpan:
    """What one connection's link is doing; it does not refer to the connection.

    Args:
        conn: whose transitions are to be read from now on.
    """

    __slots__ = ("_is_up", "_linked", "_serving")

    def __init__(self, conn: LinkedMachine) -> None:
        self._linked = conn.linked_states
        self._serving = conn.serving_states
        self._is_up = conn._holder.up_since is not None

    def read(self, record: ConnectionRecord) -> ConnectionRecord:
        """The record as it would be without states beside `connected`: with `connected` in their place."""
        source = _CONNECTED if self._is_up else record.source
        self._is_up = record.dest in self._serving or (self._is_up and record.dest in self._linked)
        dest = _CONNECTED if self._is_up else record.dest
        if source == record.source and dest == record.dest:
            return record
        return record._replace(source=source, dest=dest)

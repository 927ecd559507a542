"""Follows a link from when it is first `connected` until no state owns it, for code that counts links, not states.

A subclass may have states beside `connected`, such as `paused`, that share its link. Going there and back is neither a
loss nor a new link: for such counts the connection stays `connected`.
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
    """The life of one connection's link; it does not refer to the connection.

    Args:
        conn: the connection whose transitions are read from now on.
    """

    __slots__ = ("_is_up", "_linked", "_serving")

    def __init__(self, conn: LinkedMachine) -> None:
        self._linked = conn.linked_states
        self._serving = conn.serving_states
        self._is_up = conn._holder.up_since is not None

    def read(self, record: ConnectionRecord) -> ConnectionRecord:
        """The record with `connected` in place of the states beside it."""
        source = _CONNECTED if self._is_up else record.source
        self._is_up = record.dest in self._serving or (self._is_up and record.dest in self._linked)
        dest = _CONNECTED if self._is_up else record.dest
        if source == record.source and dest == record.dest:
            return record
        return record._replace(source=source, dest=dest)

"""Follows a link from when it is first `connected` until no state owns it, for those who count links, and not states.

A subclass may have states beside `connected`, such as `paused`, which share its link. To go there and back is no loss
and no new link, and whoever counts these is to see a connection that was `connected` all the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn.lifecycle import ConnectionState

if TYPE_CHECKING:
    from fsm_conn.keeper import LinkKeeper
    from fsm_conn.record import TransitionRecord

__all__ = ["Uptime"]

_CONNECTED = ConnectionState.CONNECTED


class Uptime:
    """What one connection's link is doing; it does not refer to the connection.

    Args:
        conn: whose transitions are to be read from now on.
    """

    __slots__ = ("_is_up", "_linked", "_serving")

    def __init__(self, conn: LinkKeeper) -> None:
        self._linked = frozenset(name for name, state in conn.lifecycle.states.items() if state.owns_link)
        self._serving = conn.lifecycle.serving
        self._is_up = conn._up_since is not None

    def read(self, record: TransitionRecord) -> TransitionRecord:
        """The record as it would be without states beside `connected`: with `connected` in their place."""
        source = _CONNECTED if self._is_up else record.source
        self._is_up = record.dest in self._serving or (self._is_up and record.dest in self._linked)
        dest = _CONNECTED if self._is_up else record.dest
        if source == record.source and dest == record.dest:
            return record
        return record._replace(source=source, dest=dest)

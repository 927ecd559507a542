"""Tracks who wants a connection: when nobody does, an attempt to connect is abandoned."""

from __future__ import annotations

from fsm_conn.connection.errors import ConnectAbandonedError
from fsm_conn.connection.table import ConnectionState

__all__ = ["AT_REST", "DISCONNECTED", "DISCONNECTING", "ENDED", "FAILED", "RENEWING", "Demand"]

DISCONNECTED, DISCONNECTING, FAILED, RENEWING = (
    ConnectionState.DISCONNECTED,
    ConnectionState.DISCONNECTING,
    ConnectionState.FAILED,
    ConnectionState.RENEWING,
)
ENDED = frozenset({DISCONNECTED, FAILED})
AT_REST = frozenset({*ENDED, DISCONNECTING})
"""The states in which no attempt is under way."""


class Demand:
    """The callers that wait for a connection, and whether it is used.

    Attributes:
        waiting: how many callers wait until it is connected.
        is_used: whether a `connect()` has returned, or a call was made, since it was last at rest: then it does not end
            with the last waiting caller.
        endings: how often `disconnect()` was called; it ends waits and repeats of calls.
    """

    __slots__ = ("endings", "is_used", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.is_used = False
        self.endings = 0

    def ends_with_this_caller(self) -> bool:
        """Whether nobody wants the connection any more once this waiting caller leaves."""
        return self.waiting == 1 and not self.is_used

    def heed(self, endings: int, owner: object) -> None:
        """Raise `ConnectAbandonedError` if `disconnect()` was called since `endings` was read."""
        if endings != self.endings:
            raise ConnectAbandonedError(f"{owner!r}: disconnect() was called while connect() was waiting")

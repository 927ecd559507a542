"""Who wants a connection: as long as nobody does, what is under way for it is abandoned."""

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
"""Where nothing is on its way to be connected."""


class Demand:
    """Those who wait for a connection, and whether anybody uses it.

    Attributes:
        waiting: callers that wait until it is connected.
        is_used: whether somebody was told of success, or has called through it, since it was at rest: then it does not
            end with the last caller that leaves.
        endings: how many times `disconnect()` was called: whoever waits, or repeats a call, heeds that.
    """

    __slots__ = ("endings", "is_used", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.is_used = False
        self.endings = 0

    def ends_with_this_caller(self) -> bool:
        """Whether nobody is left when a caller that waits goes away."""
        return self.waiting == 1 and not self.is_used

    def heed(self, endings: int, owner: object) -> None:
        """Raise `ConnectAbandonedError` if `disconnect()` was called since there were so many endings."""
        if endings != self.endings:
            raise ConnectAbandonedError(f"{owner!r}: disconnect() was called while connect() was waiting")

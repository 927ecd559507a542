"""The life of a pool, as one table."""

from __future__ import annotations

from enum import StrEnum

from fsm_conn.machine.table import State, Transition

__all__ = ["POOL_STATES", "POOL_TRANSITIONS", "PoolState", "PoolTrigger"]


class PoolState(StrEnum):
    """The four states of a pool."""

    CLOSED = "closed"
    """At rest, holding nothing."""
    OPENING = "opening"
    """Its connections are being opened."""
    OPEN = "open"
    """Connections are leased."""
    DRAINING = "draining"
    """No new callers are served; leases are waited for, then all connections are closed."""


class PoolTrigger(StrEnum):
    """Everything that can happen to a pool."""

    OPEN = "open"
    """A caller asks to open it."""
    OPENED = "opened"
    """All its connections are open."""
    OPEN_FAILED = "open_failed"
    """One of them could not be opened."""
    CLOSE = "close"
    """A caller asks to close it."""
    DRAINED = "drained"
    """Everything is closed."""
    FAULT = "fault"
    """An activity broke a rule or raised an unexpected error."""


_S, _T = PoolState, PoolTrigger

POOL_STATES: tuple[State, ...] = (
    State(_S.CLOSED, initial=True, final=True),
    State(_S.OPENING, on_error=_T.OPEN_FAILED),
    State(_S.OPEN),
    State(_S.DRAINING, on_error=_T.DRAINED),
)
"""The states of a `ConnectionPool`."""

POOL_TRANSITIONS: tuple[Transition, ...] = (
    Transition(_T.OPEN, _S.CLOSED, _S.OPENING, effects="make_slots"),
    Transition(_T.OPENED, _S.OPENING, _S.OPEN, effects="begin_service"),
    # Not all connections could be opened: close those that were.
    Transition(_T.OPEN_FAILED, _S.OPENING, _S.DRAINING, effects="end_service"),
    # From here on no new callers are served, and waiting ones are refused at once.
    Transition(_T.CLOSE, (_S.OPENING, _S.OPEN), _S.DRAINING, effects="end_service"),
    Transition(_T.DRAINED, _S.DRAINING, _S.CLOSED, effects="forget_slots"),
    # A bug in an activity: the pool closes, and serves nobody.
    Transition(_T.FAULT, (_S.OPENING, _S.OPEN), _S.DRAINING, effects="end_service"),
    Transition(_T.FAULT, _S.DRAINING, _S.CLOSED, effects="forget_slots"),
    Transition(_T.FAULT, _S.CLOSED, None),
)
"""The transitions of a `ConnectionPool`."""

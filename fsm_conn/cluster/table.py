"""The life of a `ClusterPool`, as one table."""

from __future__ import annotations

from enum import StrEnum

from fsm_conn.machine.table import State, Transition

__all__ = ["CLUSTER_STATES", "CLUSTER_TRANSITIONS", "ClusterState", "ClusterTrigger"]


class ClusterState(StrEnum):
    """The states of a cluster pool."""

    CLOSED = "closed"
    """At rest, holding nothing."""
    OPEN = "open"
    """Members are followed, and calls are sent to them."""
    CLOSING = "closing"
    """No more calls; those under way are answered, then all connections are closed."""


class ClusterTrigger(StrEnum):
    """Everything that can happen to a cluster pool."""

    OPEN = "open"
    """A caller asks to open it."""
    CLOSE = "close"
    """A caller asks to close it."""
    CLOSED = "closed"
    """Everything is closed."""
    FAULT = "fault"
    """An activity broke a rule or raised an unexpected error."""


_S, _T = ClusterState, ClusterTrigger

CLUSTER_STATES: tuple[State, ...] = (
    State(_S.CLOSED, initial=True, final=True),
    State(_S.OPEN, on_error=_T.CLOSE),
    State(_S.CLOSING, on_error=_T.CLOSED),
)
"""The states of a `ClusterPool`."""

CLUSTER_TRANSITIONS: tuple[Transition, ...] = (
    Transition(_T.OPEN, _S.CLOSED, _S.OPEN, effects="make_parts"),
    Transition(_T.OPEN, _S.OPEN, None),
    Transition(_T.CLOSE, _S.OPEN, _S.CLOSING),
    Transition(_T.CLOSE, (_S.CLOSING, _S.CLOSED), None),
    Transition(_T.CLOSED, _S.CLOSING, _S.CLOSED),
    # A bug in an activity: nothing is called on top of it.
    Transition(_T.FAULT, _S.OPEN, _S.CLOSING),
    Transition(_T.FAULT, _S.CLOSING, _S.CLOSED),
    Transition(_T.FAULT, _S.CLOSED, None),
)
"""The transitions of a `ClusterPool`."""

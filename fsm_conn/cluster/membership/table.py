"""The life of one member of a cluster, as one client sees it, as one table."""

from __future__ import annotations

from enum import StrEnum

from fsm_conn.machine.table import State, Transition

__all__ = ["MEMBER_STATES", "MEMBER_TRANSITIONS", "MemberState", "MemberTrigger"]


class MemberState(StrEnum):
    """The states of a member."""

    JOINING = "joining"
    """Its connection is opened for the first time."""
    SERVING = "serving"
    """Calls are sent to it."""
    LOST = "lost"
    """Its connection is lost, or it is sick: left out, and tried again."""
    DRAINING = "draining"
    """It announced that it leaves, or is no longer listed: calls under way are answered, and no more are sent."""
    LEFT = "left"
    """No longer a member."""


class MemberTrigger(StrEnum):
    """Everything that can happen to a member."""

    JOINED = "joined"
    """Its connection is open."""
    FAILED = "failed"
    """Its connection has given up."""
    GONE = "gone"
    """Its connection is lost, or is being replaced."""
    SICKENED = "sickened"
    """Calls have failed, one after another."""
    RETURNED = "returned"
    """Its connection is open again, and the pause of one that was sick is over."""
    DRAIN = "drain"
    """It leaves."""
    DRAINED = "drained"
    """No call is under way, or their time has passed, and its connection is closed."""
    FAULT = "fault"
    """An activity broke a rule or raised an unexpected error."""


_S, _T = MemberState, MemberTrigger

MEMBER_STATES: tuple[State, ...] = (
    State(_S.JOINING, initial=True, on_error=_T.FAILED),
    State(_S.SERVING),
    State(_S.LOST, on_error=_T.FAILED),
    State(_S.DRAINING, on_error=_T.DRAINED),
    State(_S.LEFT, final=True),
)
"""The states of a `Member`."""

MEMBER_TRANSITIONS: tuple[Transition, ...] = (
    # Connected. It may be lost again by now; then it counts as any other loss.
    Transition(_T.JOINED, _S.JOINING, _S.SERVING, guards="is_connected", effects="begin_service"),
    Transition(_T.JOINED, _S.JOINING, _S.LOST),
    Transition(_T.RETURNED, _S.LOST, _S.SERVING, guards="is_connected", effects="begin_service"),
    Transition(_T.RETURNED, _S.LOST, _S.LOST, timer="retry"),
    # Not connected: tried again, after a pause.
    Transition(_T.FAILED, (_S.JOINING, _S.LOST), _S.LOST, effects="note_failure", timer="longest_pause"),
    Transition(_T.GONE, _S.SERVING, _S.LOST, effects="note_loss"),
    Transition(_T.SICKENED, _S.SERVING, _S.LOST, effects="note_sickness"),
    # It leaves for good: a member that comes back under the same name is another one.
    Transition(_T.DRAIN, (_S.JOINING, _S.SERVING, _S.LOST), _S.DRAINING),
    Transition(_T.DRAIN, (_S.DRAINING, _S.LEFT), None),
    Transition(_T.DRAINED, _S.DRAINING, _S.LEFT),
    # A bug in an activity: tried again, after a pause.
    Transition(_T.FAULT, (_S.JOINING, _S.SERVING, _S.LOST), _S.LOST, effects="note_failure"),
    Transition(_T.FAULT, _S.DRAINING, _S.LEFT),
    Transition(_T.FAULT, _S.LEFT, None),
)
"""The transitions of a `Member`."""

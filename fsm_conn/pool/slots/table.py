"""The life of one slot of a pool, as one table: the states of its connection, and when it can be leased."""

from __future__ import annotations

from enum import StrEnum

from fsm_conn.machine.table import State, Transition, others

__all__ = ["IN_SERVICE", "SLOT_STATES", "SLOT_TRANSITIONS", "STARTING", "SlotState", "SlotTrigger"]


class SlotState(StrEnum):
    """The states of a slot."""

    ASLEEP = "asleep"
    """Its connection is closed because nobody needs it."""
    OPENING = "opening"
    """Its connection is being opened."""
    CONFIGURING = "configuring"
    """A link is open, and `on_open` is running."""
    READY = "ready"
    """In service: it can be leased, has leases, or stands by."""
    RESETTING = "resetting"
    """In service; `on_release` is cleaning up after a lease."""
    STALE = "stale"
    """In service; the link is replaced as soon as nobody uses it."""
    BACKING_OFF = "backing_off"
    """The connection has given up; the slot pauses before the next attempt."""
    CLOSING = "closing"
    """Its connection is being closed."""
    CLOSED = "closed"
    """No longer part of the pool."""


class SlotTrigger(StrEnum):
    """Everything that can happen to a slot."""

    WAKE = "wake"
    """The slot is needed."""
    CONNECTED = "connected"
    """The connection is connected."""
    CONFIGURED = "configured"
    """`on_open` has finished with the link."""
    ATTEMPT_FAILED = "attempt_failed"
    """One attempt to connect has failed; the connection continues by its own policy."""
    OPEN_FAILED = "open_failed"
    """The connection has given up, or `on_open` has refused the link."""
    LOST = "lost"
    """The link is gone."""
    WITHDRAWN = "withdrawn"
    """The link is open and serves nobody for a while: it is throttled, say, or its peer closes it in good order."""
    RESET = "reset"
    """A lease is over, and `on_release` is to clean up after it."""
    RESET_DONE = "reset_done"
    """`on_release` has finished."""
    SPOIL = "spoil"
    """The state of the link is unknown, and it must not be leased again."""
    REPLACE = "replace"
    """A link that is to be replaced is unused now."""
    RETRY = "retry"
    """The pause is over, or the connection has recovered on its own."""
    SLEEP = "sleep"
    """The slot is not needed for now."""
    RETIRE = "retire"
    """The slot is not needed any more."""
    DISCONNECTED = "disconnected"
    """The connection is closed."""
    FAULT = "fault"
    """An activity broke a rule or raised an unexpected error."""


_S, _T = SlotState, SlotTrigger

STARTING = frozenset({_S.OPENING, _S.CONFIGURING})
"""The states in which a connection is being opened."""
IN_SERVICE = frozenset({_S.READY, _S.RESETTING, _S.STALE})
"""The states in which a link is open and `on_open` has finished with it."""
_WITH_LINK = (_S.OPENING, _S.CONFIGURING, _S.READY, _S.RESETTING, _S.STALE)
_AWAKE = others(_S.ASLEEP, _S.CLOSING, _S.CLOSED)

SLOT_STATES: tuple[State, ...] = (
    State(_S.ASLEEP, initial=True, final=True),
    State(_S.OPENING, on_error=_T.OPEN_FAILED),
    State(_S.CONFIGURING, on_error=_T.OPEN_FAILED),
    State(_S.READY),
    State(_S.RESETTING, on_error=_T.SPOIL),
    State(_S.STALE),
    State(_S.BACKING_OFF, on_error=_T.RETRY),
    State(_S.CLOSING, on_error=_T.DISCONNECTED),
    State(_S.CLOSED, final=True),
)
"""The states of a `Slot`."""

SLOT_TRANSITIONS: tuple[Transition, ...] = (
    Transition(_T.WAKE, _S.ASLEEP, _S.OPENING, effects="forget_failures"),
    Transition(_T.WAKE, _S.CLOSING, None, effects="wake_again"),
    # Connected. The link may be lost again by now; that counts as any other loss. A link of unknown state keeps that
    # mark, even if the connection was out of service for a while.
    Transition(_T.CONNECTED, _S.OPENING, _S.STALE, guards=("is_connected", "is_condemned"), effects="begin_service"),
    Transition(_T.CONNECTED, _S.OPENING, _S.CONFIGURING, guards=("is_connected", "needs_configuring")),
    Transition(_T.CONNECTED, _S.OPENING, _S.READY, guards="is_connected", effects="begin_service"),
    Transition(_T.CONNECTED, _S.OPENING, _S.BACKING_OFF, guards="must_pause", effects="note_failure"),
    Transition(_T.CONNECTED, _S.OPENING, _S.OPENING),
    Transition(_T.CONFIGURED, _S.CONFIGURING, _S.READY, guards="is_connected", effects="begin_service"),
    Transition(_T.CONFIGURED, _S.CONFIGURING, _S.BACKING_OFF, guards="must_pause", effects="note_failure"),
    Transition(_T.CONFIGURED, _S.CONFIGURING, _S.OPENING),
    # Not connected. A connection that had given up before makes one attempt at a time, with the pool's pauses.
    Transition(_T.ATTEMPT_FAILED, _S.OPENING, _S.BACKING_OFF, guards="is_on_trial", effects="note_failure"),
    Transition(_T.ATTEMPT_FAILED, _S.OPENING, None, effects="note_cause"),
    Transition(_T.OPEN_FAILED, (_S.OPENING, _S.CONFIGURING), _S.BACKING_OFF, effects="note_failure"),
    Transition(_T.RETRY, _S.BACKING_OFF, _S.OPENING, timer="replacement"),
    # The link is lost: the connection opens another by its own policy, unless that has ended.
    Transition(_T.LOST, _WITH_LINK, _S.BACKING_OFF, guards="must_pause", effects=("end_service", "note_failure")),
    Transition(_T.LOST, _S.OPENING, None, effects="end_service"),
    Transition(_T.LOST, _S.RESETTING, _S.OPENING, effects=("condemn_link", "end_service")),
    Transition(_T.LOST, (_S.CONFIGURING, _S.READY, _S.STALE), _S.OPENING, effects="end_service"),
    # The link is out of service, and not lost: that is no failure, and the time for which it has been up goes on.
    Transition(_T.WITHDRAWN, _S.RESETTING, _S.OPENING, effects="condemn_link"),
    Transition(_T.WITHDRAWN, (_S.CONFIGURING, _S.READY, _S.STALE), _S.OPENING),
    # Clean up after a lease; replace a link of unknown state when nobody uses it.
    Transition(_T.RESET, _S.READY, _S.RESETTING),
    Transition(_T.RESET, _S.RESETTING, None),
    Transition(_T.RESET_DONE, _S.RESETTING, _S.READY),
    Transition(_T.SPOIL, (_S.READY, _S.RESETTING), _S.STALE, effects="condemn_link"),
    Transition(_T.SPOIL, _S.OPENING, None, effects="condemn_link"),
    Transition(_T.SPOIL, _S.STALE, None),
    Transition(_T.REPLACE, (_S.READY, _S.STALE), _S.OPENING, effects=("end_service", "ask_for_fresh_link")),
    # Not needed, for now or for good.
    Transition(_T.SLEEP, _AWAKE, _S.CLOSING, effects="end_service"),
    Transition(_T.RETIRE, _AWAKE, _S.CLOSING, effects=("end_service", "cut_off")),
    Transition(_T.RETIRE, _S.CLOSING, None, effects="cut_off"),
    Transition(_T.RETIRE, _S.ASLEEP, _S.CLOSED, effects="cut_off"),
    Transition(_T.DISCONNECTED, _S.CLOSING, _S.CLOSED, guards="was_retired"),
    Transition(_T.DISCONNECTED, _S.CLOSING, _S.OPENING, guards="is_wanted", effects="forget_failures"),
    Transition(_T.DISCONNECTED, _S.CLOSING, _S.ASLEEP),
    # A bug in a hook or a subclass: try again after a pause, so that capacity returns.
    Transition(_T.FAULT, (_S.OPENING, _S.CONFIGURING, _S.BACKING_OFF), _S.BACKING_OFF, effects="note_failure"),
    Transition(_T.FAULT, (_S.READY, _S.RESETTING, _S.STALE), _S.STALE, effects="condemn_link"),
    Transition(_T.FAULT, _S.CLOSING, _S.CLOSED, guards="was_retired"),
    Transition(_T.FAULT, _S.CLOSING, _S.ASLEEP),
    Transition(_T.FAULT, (_S.ASLEEP, _S.CLOSED), None),
)
"""The transitions of a `Slot`."""

"""The life of one slot of a pool, as one table: what becomes of its connection, and when it may be leased."""

from __future__ import annotations

from enum import StrEnum

from fsm_conn.machine.table import State, Transition, others

__all__ = ["IN_SERVICE", "SLOT_STATES", "SLOT_TRANSITIONS", "STARTING", "SlotState", "SlotTrigger"]


class SlotState(StrEnum):
    """The states of a slot."""

    ASLEEP = "asleep"
    """Its connection is closed because nobody needs it."""
    OPENING = "opening"
    """Its connection is on its way."""
    CONFIGURING = "configuring"
    """A link is open, and `on_open` works on it."""
    READY = "ready"
    """In service: it can be leased, has leases, or stands by."""
    RESETTING = "resetting"
    """In service; `on_release` cleans up after a lease."""
    STALE = "stale"
    """In service; its link is replaced as soon as nobody uses it."""
    BACKING_OFF = "backing_off"
    """Its connection has given up; a pause before the next attempt."""
    CLOSING = "closing"
    """Its connection is being closed."""
    CLOSED = "closed"
    """Not a part of the pool any more."""


class SlotTrigger(StrEnum):
    """Everything that can happen to a slot."""

    WAKE = "wake"
    """It is needed."""
    CONNECTED = "connected"
    """Its connection is connected."""
    CONFIGURED = "configured"
    """`on_open` has finished with the link."""
    ATTEMPT_FAILED = "attempt_failed"
    """One attempt to connect has failed, and the connection goes on by its own policy."""
    OPEN_FAILED = "open_failed"
    """The connection has given up, or `on_open` has refused the link."""
    LOST = "lost"
    """The link is gone."""
    RESET = "reset"
    """A lease is over, and `on_release` is to clean up after it."""
    RESET_DONE = "reset_done"
    """It has."""
    SPOIL = "spoil"
    """The link is of unknown state, and must not be leased again."""
    REPLACE = "replace"
    """Nobody uses a link that is to be replaced."""
    RETRY = "retry"
    """The pause is over, or the connection has come back by itself."""
    SLEEP = "sleep"
    """It is not needed for now."""
    RETIRE = "retire"
    """It is not needed any more."""
    DISCONNECTED = "disconnected"
    """Its connection is closed."""
    FAULT = "fault"
    """An activity broke a rule or raised an unexpected error."""


_S, _T = SlotState, SlotTrigger

STARTING = frozenset({_S.OPENING, _S.CONFIGURING})
"""Where a connection is on its way."""
IN_SERVICE = frozenset({_S.READY, _S.RESETTING, _S.STALE})
"""Where a link is open that `on_open` has finished with."""
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
    # Connected. It may be lost again by now: that counts as any other loss. A link of unknown state stays one, though
    # its connection has served nobody for a while.
    Transition(_T.CONNECTED, _S.OPENING, _S.STALE, guards=("is_connected", "is_condemned"), effects="begin_service"),
    Transition(_T.CONNECTED, _S.OPENING, _S.CONFIGURING, guards=("is_connected", "needs_configuring")),
    Transition(_T.CONNECTED, _S.OPENING, _S.READY, guards="is_connected", effects="begin_service"),
    Transition(_T.CONNECTED, _S.OPENING, _S.BACKING_OFF, guards="must_pause", effects="note_failure"),
    Transition(_T.CONNECTED, _S.OPENING, _S.OPENING),
    Transition(_T.CONFIGURED, _S.CONFIGURING, _S.READY, guards="is_connected", effects="begin_service"),
    Transition(_T.CONFIGURED, _S.CONFIGURING, _S.BACKING_OFF, guards="must_pause", effects="note_failure"),
    Transition(_T.CONFIGURED, _S.CONFIGURING, _S.OPENING),
    # Not connected. A connection that had given up before has one attempt at a time, with pauses of the pool's policy.
    Transition(_T.ATTEMPT_FAILED, _S.OPENING, _S.BACKING_OFF, guards="is_on_trial", effects="note_failure"),
    Transition(_T.ATTEMPT_FAILED, _S.OPENING, None, effects="note_cause"),
    Transition(_T.OPEN_FAILED, (_S.OPENING, _S.CONFIGURING), _S.BACKING_OFF, effects="note_failure"),
    Transition(_T.RETRY, _S.BACKING_OFF, _S.OPENING, timer="replacement"),
    # The link is lost: the connection makes another by its own policy, unless that has ended.
    Transition(_T.LOST, _S.CONFIGURING, _S.BACKING_OFF, guards="must_pause", effects=("note_loss", "note_failure")),
    Transition(_T.LOST, _S.CONFIGURING, _S.OPENING, effects="note_loss"),
    Transition(
        _T.LOST,
        (_S.READY, _S.RESETTING, _S.STALE),
        _S.BACKING_OFF,
        guards="must_pause",
        effects=("end_service", "note_loss", "note_failure"),
    ),
    Transition(_T.LOST, _S.RESETTING, _S.OPENING, effects=("condemn_link", "end_service", "note_loss")),
    Transition(_T.LOST, (_S.READY, _S.STALE), _S.OPENING, effects=("end_service", "note_loss")),
    # What a lease has left is cleaned up; a link of unknown state is replaced when nobody uses it.
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
    # A bug in a hook or a subclass: tried again, after a pause; capacity must come back.
    Transition(_T.FAULT, (_S.OPENING, _S.CONFIGURING, _S.BACKING_OFF), _S.BACKING_OFF, effects="note_failure"),
    Transition(_T.FAULT, (_S.READY, _S.RESETTING, _S.STALE), _S.STALE, effects="condemn_link"),
    Transition(_T.FAULT, _S.CLOSING, _S.CLOSED, guards="was_retired"),
    Transition(_T.FAULT, _S.CLOSING, _S.ASLEEP),
    Transition(_T.FAULT, (_S.ASLEEP, _S.CLOSED), None),
)
"""The transitions of a `Slot`."""

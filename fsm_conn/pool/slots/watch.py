"""What a transition of a connection means for its slot."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.pool.slots.table import IN_SERVICE, SlotState, SlotTrigger

if TYPE_CHECKING:
    from fsm_conn.machine.records import TransitionRecord

__all__ = ["meddling", "told_by"]


def told_by(record: TransitionRecord, state: str, serving: Collection[str]) -> SlotTrigger | None:
    """The trigger that the slot is to take, in the state that it is in; None when it means nothing.

    Args:
        record: what the connection did.
        state: the state of the slot.
        serving: the states of the connection in which calls are served.
    """
    if record.internal or record.dest in serving:
        return None
    if state in IN_SERVICE or state == SlotState.CONFIGURING:
        return SlotTrigger.LOST
    if state == SlotState.OPENING and record.trigger == Trigger.OPEN_FAILED:
        return SlotTrigger.ATTEMPT_FAILED
    return None


def meddling(record: TransitionRecord) -> str:
    """What `on_open` has done to the link that it was given; empty when that was lost, or is there still.

    It is not the policy then that makes another link, so the hook is to go on, and is told off afterwards.
    """
    if record.trigger == Trigger.RECONNECT:
        return "its link was replaced by reconnect()"
    return "it was disconnected" if record.dest == ConnectionState.DISCONNECTING else ""

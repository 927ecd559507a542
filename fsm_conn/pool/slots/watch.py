"""What a transition of a connection means for its slot."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from fsm_conn.connection.table import LOSING, ConnectionState, Trigger
from fsm_conn.pool.slots.table import IN_SERVICE, SlotState, SlotTrigger

if TYPE_CHECKING:
    from fsm_conn.machine.records import TransitionRecord

__all__ = ["is_loss", "meddling", "told_by"]


def told_by(
    record: TransitionRecord, state: str, linked: Collection[str], serving: Collection[str]
) -> SlotTrigger | None:
    """The trigger for the slot, in its present state; None when the transition means nothing to it.

    Args:
        record: the transition of the connection.
        state: the state of the slot.
        linked: the states of the connection throughout which a link is open.
        serving: the states of the connection in which calls are served.
    """
    if record.internal or record.dest in serving:
        return None
    if state in IN_SERVICE or state == SlotState.CONFIGURING:
        return SlotTrigger.WITHDRAWN if record.dest in linked else SlotTrigger.LOST
    if state != SlotState.OPENING:
        return None
    if is_loss(record, linked):
        return SlotTrigger.LOST
    return SlotTrigger.ATTEMPT_FAILED if record.trigger == Trigger.OPEN_FAILED else None


def is_loss(record: TransitionRecord, linked: Collection[str]) -> bool:
    """Whether a link was lost, rather than closed on request, renewed, or out of service for a while."""
    return record.trigger in LOSING and record.dest not in linked


def meddling(record: TransitionRecord) -> str:
    """What `on_open` did to the link that it was given; empty when the link was lost, or is still there.

    Such a link was not replaced by the policy, so the hook continues, and its mistake is reported afterwards.
    """
    if record.trigger == Trigger.RECONNECT:
        return "its link was replaced by reconnect()"
    return "it was disconnected" if record.dest == ConnectionState.DISCONNECTING else ""

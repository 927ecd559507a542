"""Calls as values: one `CallRecord` per call. They keep nothing else alive."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["CallOutcome", "CallRecord"]


class CallOutcome(StrEnum):
    """How a call ended."""

    SUCCEEDED = "succeeded"
    """It was answered, and a stream of answers was read to its end."""
    FAILED = "failed"
    """It was refused by this side or by the plugin, or the link was lost during the call."""
    CANCELLED = "cancelled"
    """Its caller was cancelled, or stopped reading the stream of answers."""


class CallRecord(NamedTuple):
    """One call, recorded when it ended. A named tuple for the same reason as `TransitionRecord`."""

    method: str
    """As the caller named it: `service.Method`."""
    outcome: CallOutcome
    """How it ended."""
    error: BaseException | None
    """The error that its caller got; None when it succeeded."""
    seconds: float
    """Seconds from the call to its end, including waits for a connection and repeats, by the event loop's clock."""
    at: float
    """When it ended, in seconds of the event loop's clock (`loop.time()`)."""

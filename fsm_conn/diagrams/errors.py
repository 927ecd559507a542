"""What can be wrong with what is to be drawn."""

from __future__ import annotations

from fsm_conn.machine.errors import FsmConnError

__all__ = ["DiagramError", "DiagramWarning"]


class DiagramError(FsmConnError, ValueError):
    """There is no such format, theme or state, or the history or coverage is of another table."""


class DiagramWarning(UserWarning):
    """A diagram was written that others may not be able to show."""

"""Errors of serving plugins to other machines, and of calling them there."""

from __future__ import annotations

from fsm_conn.machine.errors import FsmConnError

__all__ = ["ClusterClosedError", "ClusterError", "NoMemberError", "ServeError"]


class ServeError(FsmConnError):
    """Plugins could not be served. The message says what was wrong, and what to do."""


class ClusterError(FsmConnError):
    """A `ClusterPool` could not do what was asked."""


class ClusterClosedError(ClusterError):
    """The `ClusterPool` is not open: nothing was sent."""


class NoMemberError(ClusterError, ConnectionError):
    """No member served in time: nothing was sent, or nothing was sent again."""

"""Errors of pools."""

from __future__ import annotations

from collections.abc import Iterable

from fsm_conn.machine.errors import FsmConnError

__all__ = [
    "HookTimeoutError",
    "LeaseError",
    "LeaseLostError",
    "PoolClosed",
    "PoolError",
    "PoolFullError",
    "PoolTimeoutError",
    "PoolUnavailableError",
]


class PoolError(FsmConnError):
    """A pool could not serve, or was used wrongly."""


class PoolClosed(PoolError):  # noqa: N818 - a state that was met, as asyncio's QueueFull is one
    """The pool is closed, or is being closed: nobody is served any more."""


class PoolTimeoutError(PoolError, TimeoutError):
    """No connection became free in time."""


class PoolFullError(PoolError):
    """As many wait for a connection already as the policy allows."""


class PoolUnavailableError(PoolError, ConnectionError):
    """None of the pool's connections can be made at present; the cause is what the last attempt failed with.

    Attributes:
        causes: what each connection that could not be made failed with.
    """

    def __init__(self, message: str, *, causes: Iterable[BaseException] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)


class LeaseError(PoolError, RuntimeError):
    """A lease was used after it had been released, or released twice."""


class LeaseLostError(ConnectionError, LeaseError):
    """The link under a lease was lost. Work done through it may be lost with it: a transaction, a session, what the
    plugin remembered. Everything through this lease raises this until it is released; begin again with another lease.

    The cause is what the link was lost by, as far as it is known.
    """


class HookTimeoutError(PoolError, TimeoutError):
    """A hook of a pool took longer than it may."""

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


class PoolClosed(PoolError):  # noqa: N818 - it names a state, as asyncio's QueueFull does
    """The pool is closed or being closed, and serves no callers."""


class PoolTimeoutError(PoolError, TimeoutError):
    """No connection became free in time."""


class PoolFullError(PoolError):
    """As many callers wait for a connection already as the policy allows."""


class PoolUnavailableError(PoolError, ConnectionError):
    """None of the pool's connections can be opened at present. `__cause__` is the error of the last attempt.

    Attributes:
        causes: the error of each connection that could not be opened.
    """

    def __init__(self, message: str, *, causes: Iterable[BaseException] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)


class LeaseError(PoolError, RuntimeError):
    """A lease was used after it had been released, or released twice."""


class LeaseLostError(ConnectionError, LeaseError):
    """The link under a lease was lost, and perhaps work done through it: a transaction, a session, the plugin's memory.

    Every use of this lease raises this error until the lease is released; start again with another lease.
    `__cause__` is the error that ended the link, if it is known.
    """


class HookTimeoutError(PoolError, TimeoutError):
    """A hook of a pool took longer than its limit."""

"""Errors of connections."""

from __future__ import annotations

from fsm_conn._util.text import said
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.links.errors import CallError, LinkError
from fsm_conn.machine.errors import FsmConnError

__all__ = ["CallTimeoutError", "ConnectAbandonedError", "ConnectFailedError", "HookError", "NotConnectedError"]


class NotConnectedError(FsmConnError, ConnectionError, RuntimeError):
    """The call was made in a state that serves no calls. Nothing was sent; the message says what to do.

    Attributes:
        state: the state the connection was in.
    """

    def __init__(self, message: str, *, state: str = "") -> None:
        super().__init__(message)
        self.state = state


class ConnectFailedError(FsmConnError, ConnectionError):
    """`connect()` ended in `failed`.

    Attributes:
        reason: the error of the last attempt; also the `__cause__`.
        attempts: how many attempts to open a link were made.
    """

    def __init__(self, message: str, *, reason: BaseException | None = None, attempts: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.attempts = attempts


class ConnectAbandonedError(FsmConnError, ConnectionError):
    """`disconnect()` was called while this `connect()` was waiting."""


class HookError(LinkError):
    """`on_open` of a connection failed, and so did the attempt to connect. `__cause__` is what it raised."""


class CallTimeoutError(CallError, TimeoutError):
    """The call's deadline passed while it waited for a connection. The plugin is not executing it.

    When the deadline passes while the plugin works on the request, gRPC raises `AioRpcError`, DEADLINE_EXCEEDED.
    """


def connect_failed(name: str, record: ConnectionRecord) -> ConnectFailedError:
    """The error for the connection `name`, which gave up by this transition."""
    many = f"after {record.attempt} attempts" if record.attempt != 1 else "at the first attempt"
    why = "for no known reason" if record.reason is None else said(record.reason)
    text = f"{name}: could not connect, given up {many}: {why}"
    error = ConnectFailedError(text, reason=record.reason, attempts=record.attempt)
    error.__cause__ = record.reason
    return error

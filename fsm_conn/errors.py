"""Every error of the package, in one tree under `FsmConnError`.

Rules that hold here: a message names what was wrong, where, and what to do about it; blame is in the
type, so that callers can tell "the plugin could not be started" from "this call was wrong"; nothing
secret is ever put into a message. All errors survive pickling, so that test runners and process pools
can carry them.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AmbiguousNameError",
    "BadCookieError",
    "CallError",
    "CallTimeoutError",
    "CommandNotExecutableError",
    "CommandNotFoundError",
    "ConnectAbandonedError",
    "ConnectFailedError",
    "ConnectionLostError",
    "DeclarationError",
    "FsmConnError",
    "HandshakeError",
    "IllegalTriggerError",
    "IncompatibleProtocolError",
    "LeaseError",
    "LinkError",
    "LinkLostError",
    "NotConnectedError",
    "NotServingError",
    "PluginExitedError",
    "PoolClosed",
    "PoolError",
    "PoolFullError",
    "PoolTimeoutError",
    "PoolUnavailableError",
    "ProbeError",
    "ProbeTimeoutError",
    "RequestError",
    "StartTimeoutError",
    "UnknownNameError",
]


class FsmConnError(Exception):
    """The root: catch it to catch everything that this package raises on its own account."""


class DeclarationError(FsmConnError, TypeError):
    """A lifecycle was declared wrongly. Raised when the class is made, before anything can run."""


class IllegalTriggerError(FsmConnError, RuntimeError):
    """A trigger that the current state does not handle. Nothing was changed.

    Attributes:
        state: the state the connection was, and still is, in.
        trigger: the trigger that was refused.
        allowed: the triggers which that state handles.
    """

    def __init__(self, message: str, *, state: str = "", trigger: str = "", allowed: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.state = state
        self.trigger = trigger
        self.allowed = tuple(allowed)


class NotConnectedError(FsmConnError, ConnectionError, RuntimeError):
    """A call in a state that serves none. Nothing was sent; the message says what to do.

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
        attempts: how many times a link was opened, or tried to be, before giving up.
    """

    def __init__(self, message: str, *, reason: BaseException | None = None, attempts: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.attempts = attempts


class ConnectAbandonedError(FsmConnError, ConnectionError):
    """`disconnect()` was called while this `connect()` was waiting: the last word wins."""


class LinkError(FsmConnError, ConnectionError):
    """A link could not be opened, or was lost.

    Attributes:
        permanent: True when trying again cannot help; such an error is never retried.
        evidence: what the peer left behind, such as a plugin's last lines on stderr. May be empty.
    """

    permanent = False

    def __init__(self, message: str, *, evidence: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.evidence = evidence

    def __str__(self) -> str:
        return f"{self.message}\n{self.evidence}" if self.evidence else self.message


class CommandNotFoundError(LinkError):
    """The plugin's command does not exist. Permanent."""

    permanent = True


class CommandNotExecutableError(LinkError):
    """The plugin's command exists and cannot be executed. Permanent."""

    permanent = True


class PluginExitedError(LinkError):
    """The plugin's process ended, before or after its handshake.

    Attributes:
        returncode: its exit status, or minus the signal that ended it; None when unknown.
    """

    def __init__(self, message: str, *, evidence: str = "", returncode: int | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.returncode = returncode


class HandshakeError(LinkError):
    """What the plugin printed first was not a go-plugin handshake line.

    Attributes:
        line: the offending line, shortened.
    """

    def __init__(self, message: str, *, evidence: str = "", line: str = "") -> None:
        super().__init__(message, evidence=evidence)
        self.line = line


class IncompatibleProtocolError(HandshakeError):
    """The plugin speaks a protocol, or a version of one, that this host does not. Permanent."""

    permanent = True


class BadCookieError(LinkError):
    """The plugin refused this host's magic cookie. Permanent."""

    permanent = True


class StartTimeoutError(LinkError, TimeoutError):
    """A link did not open within `start_timeout` seconds."""


class LinkLostError(LinkError):
    """An open link went away: its process ended, or its channel broke."""


class ProbeError(LinkError):
    """A health probe failed: an answer that was bad, late or missing."""


class NotServingError(ProbeError):
    """A health probe was answered, with a status that is not SERVING."""


class ProbeTimeoutError(ProbeError, TimeoutError):
    """A health probe was not answered in time: the peer hangs."""


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


class CallError(FsmConnError):
    """A call that could not be made, or could not be finished, for a reason of this side.

    What the plugin itself answers, an application error included, is not one of these: it arrives as the
    `grpc.aio.AioRpcError` it is.
    """


class ConnectionLostError(CallError, ConnectionError):
    """The link was lost while the call was under way.

    Attributes:
        maybe_executed: whether the plugin may have executed the request. False only when the request
            provably never reached it; then it is always safe to send it again.
    """

    def __init__(self, message: str, *, maybe_executed: bool = True) -> None:
        super().__init__(message)
        self.maybe_executed = maybe_executed


class CallTimeoutError(CallError, TimeoutError):
    """The call's deadline passed while it waited for a connection. The plugin is not executing it.

    A deadline that passes while the plugin works on the request is gRPC's: `AioRpcError`, DEADLINE_EXCEEDED.
    """


class UnknownNameError(CallError, LookupError):
    """No such service or method. The message lists what exists and the nearest match."""


class AmbiguousNameError(CallError, LookupError):
    """A short name that more than one service answers to. The message lists their full names."""


class RequestError(CallError, TypeError):
    """The request does not fit the method: unknown field, wrong type, or the wrong kind of call."""

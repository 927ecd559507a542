"""Errors of links, and of calls through them."""

from __future__ import annotations

from fsm_conn.machine.errors import FsmConnError

__all__ = [
    "AmbiguousNameError",
    "BadCookieError",
    "BrokerError",
    "CallError",
    "ChecksumError",
    "CommandNotExecutableError",
    "CommandNotFoundError",
    "ConnectionLostError",
    "GoingAwayError",
    "HandshakeError",
    "IncompatibleProtocolError",
    "LinkError",
    "LinkLostError",
    "NotServingError",
    "PluginExitedError",
    "ProbeError",
    "ProbeTimeoutError",
    "RequestError",
    "StartTimeoutError",
    "UnknownNameError",
]


class LinkError(FsmConnError, ConnectionError):
    """A link could not be opened, or was lost.

    Attributes:
        permanent: True when trying again cannot help; such an error is never retried.
        evidence: the peer's last output, such as a plugin's last lines on stderr. May be empty.
    """

    permanent = False
    evidence = ""

    def __init__(self, message: str, *, evidence: str = "", permanent: bool | None = None) -> None:
        super().__init__(message)
        if permanent is not None:
            self.permanent = permanent
        if evidence:  # histories keep many errors, and one without attributes of its own has no dictionary
            self.evidence = evidence

    @property
    def message(self) -> str:
        """What happened, without the evidence."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.message}\n{self.evidence}" if self.evidence else self.message


class CommandNotFoundError(LinkError):
    """The plugin's command does not exist. Permanent."""

    permanent = True


class CommandNotExecutableError(LinkError):
    """The plugin's command exists and cannot be executed. Permanent."""

    permanent = True


class ChecksumError(LinkError):
    """The plugin's program is not the one that `sha256=` asks for. Permanent."""

    permanent = True


class PluginExitedError(LinkError):
    """The plugin's process ended, before or after its handshake.

    Permanent when it could not find its program: an interpreter without its script, a shell without its command.

    Attributes:
        returncode: its exit status, or minus the signal that ended it; None when unknown.
    """

    def __init__(self, message: str, *, evidence: str = "", returncode: int | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.returncode = returncode


class HandshakeError(LinkError):
    """The first line that the plugin printed was not a go-plugin handshake.

    Permanent when the plugin would do the same next time: it printed something else, or an impossible address.

    Attributes:
        line: the offending line, shortened.
    """

    def __init__(self, message: str, *, evidence: str = "", line: str = "", permanent: bool | None = None) -> None:
        super().__init__(message, evidence=evidence, permanent=permanent)
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
    """An open link was lost: its process ended, or its channel broke."""


class GoingAwayError(LinkLostError):
    """The peer closes an open link in good order: calls under way are finished.

    Servers do so for an update, or when a connection is old or was idle for long (HTTP/2's GOAWAY).
    """


class ProbeError(LinkError):
    """A health probe failed: the answer was bad, late or missing.

    Attributes:
        conclusive: True when this one failure counts as a lost link, whatever the threshold of the `HealthPolicy`,
            because a call was not answered in time either.
    """

    conclusive = False


class NotServingError(ProbeError):
    """A health probe was answered with a status other than SERVING."""


class ProbeTimeoutError(ProbeError, TimeoutError):
    """A health probe was not answered in time: the peer hangs."""


class BrokerError(FsmConnError, ConnectionError):
    """The broker could not offer a service to its plugin, or could not reach one of the plugin's."""


class CallError(FsmConnError):
    """A call could not be made, or could not be finished, for a reason on this side.

    An error that the plugin itself answers is not one of these, but a `grpc.aio.AioRpcError`.
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


class UnknownNameError(CallError, LookupError):
    """No such service or method. The message lists what exists and the nearest match."""


class AmbiguousNameError(CallError, LookupError):
    """A short name that fits more than one service. The message lists their full names."""


class RequestError(CallError, TypeError):
    """The request does not fit the method: unknown field, wrong type, or the wrong kind of call."""

"""The life of a server of plugins, as one table."""

from __future__ import annotations

from enum import StrEnum

from fsm_conn.machine.table import State, Transition

__all__ = ["SERVER_STATES", "SERVER_TRANSITIONS", "ServerState", "ServerTrigger"]


class ServerState(StrEnum):
    """The states of a server."""

    CLOSED = "closed"
    """At rest, holding nothing."""
    STARTING = "starting"
    """Its plugins are started; then it listens."""
    SERVING = "serving"
    """Clients are connected to plugins."""
    DRAINING = "draining"
    """It has announced its end; calls under way are waited for, then everything is closed."""


class ServerTrigger(StrEnum):
    """Everything that can happen to a server."""

    START = "start"
    """A caller asks to start it."""
    STARTED = "started"
    """All plugins are up, and it listens."""
    START_FAILED = "start_failed"
    """A plugin could not be started, or it cannot listen."""
    STOP = "stop"
    """A caller asks to stop it."""
    STOPPED = "stopped"
    """Everything is closed."""
    FAULT = "fault"
    """An activity broke a rule or raised an unexpected error."""


_S, _T = ServerState, ServerTrigger

SERVER_STATES: tuple[State, ...] = (
    State(_S.CLOSED, initial=True, final=True),
    State(_S.STARTING, on_error=_T.START_FAILED),
    State(_S.SERVING),
    State(_S.DRAINING, on_error=_T.STOPPED),
)
"""The states of a `Server`."""

SERVER_TRANSITIONS: tuple[Transition, ...] = (
    Transition(_T.START, _S.CLOSED, _S.STARTING),
    Transition(_T.STARTED, _S.STARTING, _S.SERVING),
    # Not everything could be started: what was started is ended.
    Transition(_T.START_FAILED, _S.STARTING, _S.DRAINING, effects="hurry"),
    Transition(_T.STOP, _S.STARTING, _S.DRAINING, effects="hurry"),
    Transition(_T.STOP, _S.SERVING, _S.DRAINING),
    Transition(_T.STOP, _S.DRAINING, None, effects="hurry"),
    Transition(_T.STOP, _S.CLOSED, None),
    Transition(_T.STOPPED, _S.DRAINING, _S.CLOSED),
    # A bug in an activity: nothing is served on top of it.
    Transition(_T.FAULT, (_S.STARTING, _S.SERVING), _S.DRAINING, effects="hurry"),
    Transition(_T.FAULT, _S.DRAINING, _S.CLOSED),
    Transition(_T.FAULT, _S.CLOSED, None),
)
"""The transitions of a `Server`."""

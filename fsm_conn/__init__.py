"""Connections to plugins that live by one declarative state machine.

    async with Connection(["python", "calculator.py"]) as conn:
        reply = await conn.call("calculator.Add", a=5, b=3)

Importing this package imports neither grpc nor pyvider: they come with the first link that needs them.
"""

from fsm_conn.connection import Connection
from fsm_conn.errors import (
    AmbiguousNameError,
    BadCookieError,
    CallError,
    CallTimeoutError,
    CommandNotExecutableError,
    CommandNotFoundError,
    ConnectAbandonedError,
    ConnectFailedError,
    ConnectionLostError,
    DeclarationError,
    FsmConnError,
    HandshakeError,
    IllegalTriggerError,
    IncompatibleProtocolError,
    LinkError,
    LinkLostError,
    NotConnectedError,
    PluginExitedError,
    ProbeError,
    RequestError,
    StartTimeoutError,
    UnknownNameError,
)
from fsm_conn.lifecycle import ConnectionState, State, Transition, Trigger, insert_state, others
from fsm_conn.links.base import CallOptions, Link
from fsm_conn.policy import Jitter, RetryPolicy
from fsm_conn.record import TransitionRecord

__all__ = [
    "AmbiguousNameError",
    "BadCookieError",
    "CallError",
    "CallOptions",
    "CallTimeoutError",
    "CommandNotExecutableError",
    "CommandNotFoundError",
    "ConnectAbandonedError",
    "ConnectFailedError",
    "Connection",
    "ConnectionLostError",
    "ConnectionState",
    "DeclarationError",
    "FsmConnError",
    "HandshakeError",
    "IllegalTriggerError",
    "IncompatibleProtocolError",
    "Jitter",
    "Link",
    "LinkError",
    "LinkLostError",
    "NotConnectedError",
    "PluginExitedError",
    "ProbeError",
    "RequestError",
    "RetryPolicy",
    "StartTimeoutError",
    "State",
    "Transition",
    "TransitionRecord",
    "Trigger",
    "UnknownNameError",
    "insert_state",
    "others",
]

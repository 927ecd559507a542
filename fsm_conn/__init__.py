"""Connections to plugins that live by one declarative state machine.

    async with Connection(["python", "calculator.py"]) as conn:
        reply = await conn.call("calculator.Add", a=5, b=3)

Importing this package costs next to nothing: each name is imported when it is first asked for, and grpc and pyvider
come with the first link that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn.lazy import lazily

if TYPE_CHECKING:
    from fsm_conn.budget import RetryBudget
    from fsm_conn.clients import AutoReconnectClient, HealthMonitoredClient, ManagedConnection, StatefulConnection
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
        LeaseError,
        LinkError,
        LinkLostError,
        NotConnectedError,
        NotServingError,
        PluginExitedError,
        PoolClosed,
        PoolError,
        PoolFullError,
        PoolTimeoutError,
        PoolUnavailableError,
        ProbeError,
        ProbeTimeoutError,
        RequestError,
        StartTimeoutError,
        UnknownNameError,
    )
    from fsm_conn.health import HealthStatus
    from fsm_conn.lifecycle import (
        ConnectionState,
        Fires,
        State,
        Transition,
        Trigger,
        add_state,
        insert_state,
        others,
    )
    from fsm_conn.links.base import CallOptions, Link
    from fsm_conn.metrics import Metrics
    from fsm_conn.policy import HealthPolicy, Jitter, RetryPolicy
    from fsm_conn.pool.lease import Lease
    from fsm_conn.pool.lifecycle import PoolState, PoolTrigger
    from fsm_conn.pool.policy import PoolPolicy
    from fsm_conn.pool.pool import ConnectionPool
    from fsm_conn.record import CallOutcome, CallRecord, TransitionRecord
    from fsm_conn.report import HealthReport

__all__ = [
    "AmbiguousNameError",
    "AutoReconnectClient",
    "BadCookieError",
    "CallError",
    "CallOptions",
    "CallOutcome",
    "CallRecord",
    "CallTimeoutError",
    "CommandNotExecutableError",
    "CommandNotFoundError",
    "ConnectAbandonedError",
    "ConnectFailedError",
    "Connection",
    "ConnectionLostError",
    "ConnectionPool",
    "ConnectionState",
    "DeclarationError",
    "Fires",
    "FsmConnError",
    "HandshakeError",
    "HealthMonitoredClient",
    "HealthPolicy",
    "HealthReport",
    "HealthStatus",
    "IllegalTriggerError",
    "IncompatibleProtocolError",
    "Jitter",
    "Lease",
    "LeaseError",
    "Link",
    "LinkError",
    "LinkLostError",
    "ManagedConnection",
    "Metrics",
    "NotConnectedError",
    "NotServingError",
    "PluginExitedError",
    "PoolClosed",
    "PoolError",
    "PoolFullError",
    "PoolPolicy",
    "PoolState",
    "PoolTimeoutError",
    "PoolTrigger",
    "PoolUnavailableError",
    "ProbeError",
    "ProbeTimeoutError",
    "RequestError",
    "RetryBudget",
    "RetryPolicy",
    "StartTimeoutError",
    "State",
    "StatefulConnection",
    "Transition",
    "TransitionRecord",
    "Trigger",
    "UnknownNameError",
    "add_state",
    "insert_state",
    "others",
]

_HOMES = {
    "AmbiguousNameError": "fsm_conn.errors",
    "AutoReconnectClient": "fsm_conn.clients",
    "BadCookieError": "fsm_conn.errors",
    "CallError": "fsm_conn.errors",
    "CallOptions": "fsm_conn.links.base",
    "CallOutcome": "fsm_conn.record",
    "CallRecord": "fsm_conn.record",
    "CallTimeoutError": "fsm_conn.errors",
    "CommandNotExecutableError": "fsm_conn.errors",
    "CommandNotFoundError": "fsm_conn.errors",
    "ConnectAbandonedError": "fsm_conn.errors",
    "ConnectFailedError": "fsm_conn.errors",
    "Connection": "fsm_conn.connection",
    "ConnectionLostError": "fsm_conn.errors",
    "ConnectionPool": "fsm_conn.pool.pool",
    "ConnectionState": "fsm_conn.lifecycle",
    "DeclarationError": "fsm_conn.errors",
    "Fires": "fsm_conn.lifecycle",
    "FsmConnError": "fsm_conn.errors",
    "HandshakeError": "fsm_conn.errors",
    "HealthMonitoredClient": "fsm_conn.clients",
    "HealthPolicy": "fsm_conn.policy",
    "HealthReport": "fsm_conn.report",
    "HealthStatus": "fsm_conn.health",
    "IllegalTriggerError": "fsm_conn.errors",
    "IncompatibleProtocolError": "fsm_conn.errors",
    "Jitter": "fsm_conn.policy",
    "Lease": "fsm_conn.pool.lease",
    "LeaseError": "fsm_conn.errors",
    "Link": "fsm_conn.links.base",
    "LinkError": "fsm_conn.errors",
    "LinkLostError": "fsm_conn.errors",
    "ManagedConnection": "fsm_conn.clients",
    "Metrics": "fsm_conn.metrics",
    "NotConnectedError": "fsm_conn.errors",
    "NotServingError": "fsm_conn.errors",
    "PluginExitedError": "fsm_conn.errors",
    "PoolClosed": "fsm_conn.errors",
    "PoolError": "fsm_conn.errors",
    "PoolFullError": "fsm_conn.errors",
    "PoolPolicy": "fsm_conn.pool.policy",
    "PoolState": "fsm_conn.pool.lifecycle",
    "PoolTimeoutError": "fsm_conn.errors",
    "PoolTrigger": "fsm_conn.pool.lifecycle",
    "PoolUnavailableError": "fsm_conn.errors",
    "ProbeError": "fsm_conn.errors",
    "ProbeTimeoutError": "fsm_conn.errors",
    "RequestError": "fsm_conn.errors",
    "RetryBudget": "fsm_conn.budget",
    "RetryPolicy": "fsm_conn.policy",
    "StartTimeoutError": "fsm_conn.errors",
    "State": "fsm_conn.lifecycle",
    "StatefulConnection": "fsm_conn.clients",
    "Transition": "fsm_conn.lifecycle",
    "TransitionRecord": "fsm_conn.record",
    "Trigger": "fsm_conn.lifecycle",
    "UnknownNameError": "fsm_conn.errors",
    "add_state": "fsm_conn.lifecycle",
    "insert_state": "fsm_conn.lifecycle",
    "others": "fsm_conn.lifecycle",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)

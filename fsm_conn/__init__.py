"""Explicit state machines with async activities, and connections to plugins built on them.

    async with Connection(["python", "calculator.py"]) as conn:
        reply = await conn.call("calculator.Add", a=5, b=3)

Importing this package costs next to nothing: each name is imported at its first use, and grpc and pyvider with the
first link that needs them.
"""

from __future__ import annotations

from fsm_conn._util.lazy import lazily

TYPE_CHECKING = False  # type checkers take the name for true; importing `typing` for it takes ten times all the rest
if TYPE_CHECKING:
    from fsm_conn.connection.budget import RetryBudget as RetryBudget
    from fsm_conn.connection.calling.records import CallOutcome as CallOutcome
    from fsm_conn.connection.calling.records import CallRecord as CallRecord
    from fsm_conn.connection.calling.subscribing import Gap as Gap
    from fsm_conn.connection.clients import AutoReconnectClient as AutoReconnectClient
    from fsm_conn.connection.clients import HealthMonitoredClient as HealthMonitoredClient
    from fsm_conn.connection.clients import ManagedConnection as ManagedConnection
    from fsm_conn.connection.clients import StatefulConnection as StatefulConnection
    from fsm_conn.connection.connection import Connection as Connection
    from fsm_conn.connection.counting.metrics import Metrics as Metrics
    from fsm_conn.connection.counting.report import HealthReport as HealthReport
    from fsm_conn.connection.derive import add_state as add_state
    from fsm_conn.connection.derive import insert_state as insert_state
    from fsm_conn.connection.errors import CallTimeoutError as CallTimeoutError
    from fsm_conn.connection.errors import ConnectAbandonedError as ConnectAbandonedError
    from fsm_conn.connection.errors import ConnectFailedError as ConnectFailedError
    from fsm_conn.connection.errors import HookError as HookError
    from fsm_conn.connection.errors import NotConnectedError as NotConnectedError
    from fsm_conn.connection.policy import HealthPolicy as HealthPolicy
    from fsm_conn.connection.policy import Jitter as Jitter
    from fsm_conn.connection.policy import RetryPolicy as RetryPolicy
    from fsm_conn.connection.prober import HealthStatus as HealthStatus
    from fsm_conn.connection.records import ConnectionRecord as ConnectionRecord
    from fsm_conn.connection.table import ConnectionState as ConnectionState
    from fsm_conn.connection.table import LinkState as LinkState
    from fsm_conn.connection.table import Trigger as Trigger
    from fsm_conn.links.base import CallOptions as CallOptions
    from fsm_conn.links.base import Link as Link
    from fsm_conn.links.base import ReceivedMetadata as ReceivedMetadata
    from fsm_conn.links.broker import Broker as Broker
    from fsm_conn.links.broker import BrokeredService as BrokeredService
    from fsm_conn.links.driver import DriverLink as DriverLink
    from fsm_conn.links.errors import AmbiguousNameError as AmbiguousNameError
    from fsm_conn.links.errors import BadCookieError as BadCookieError
    from fsm_conn.links.errors import BrokerError as BrokerError
    from fsm_conn.links.errors import CallError as CallError
    from fsm_conn.links.errors import ChecksumError as ChecksumError
    from fsm_conn.links.errors import CommandNotExecutableError as CommandNotExecutableError
    from fsm_conn.links.errors import CommandNotFoundError as CommandNotFoundError
    from fsm_conn.links.errors import ConnectionLostError as ConnectionLostError
    from fsm_conn.links.errors import GoingAwayError as GoingAwayError
    from fsm_conn.links.errors import HandshakeError as HandshakeError
    from fsm_conn.links.errors import IncompatibleProtocolError as IncompatibleProtocolError
    from fsm_conn.links.errors import LinkError as LinkError
    from fsm_conn.links.errors import LinkLostError as LinkLostError
    from fsm_conn.links.errors import NotServingError as NotServingError
    from fsm_conn.links.errors import PluginExitedError as PluginExitedError
    from fsm_conn.links.errors import ProbeError as ProbeError
    from fsm_conn.links.errors import ProbeTimeoutError as ProbeTimeoutError
    from fsm_conn.links.errors import RequestError as RequestError
    from fsm_conn.links.errors import StartTimeoutError as StartTimeoutError
    from fsm_conn.links.errors import UnknownNameError as UnknownNameError
    from fsm_conn.links.target import Endpoint as Endpoint
    from fsm_conn.links.target import Plugin as Plugin
    from fsm_conn.links.target import Reattach as Reattach
    from fsm_conn.links.target import Tls as Tls
    from fsm_conn.machine.errors import DeclarationError as DeclarationError
    from fsm_conn.machine.errors import EndlessDispatchError as EndlessDispatchError
    from fsm_conn.machine.errors import FsmConnError as FsmConnError
    from fsm_conn.machine.errors import IllegalTriggerError as IllegalTriggerError
    from fsm_conn.machine.errors import MachineClosedError as MachineClosedError
    from fsm_conn.machine.errors import MissingDataError as MissingDataError
    from fsm_conn.machine.errors import StateTimeoutError as StateTimeoutError
    from fsm_conn.machine.machine import StateMachine as StateMachine
    from fsm_conn.machine.records import Snapshot as Snapshot
    from fsm_conn.machine.records import TransitionRecord as TransitionRecord
    from fsm_conn.machine.table import Fires as Fires
    from fsm_conn.machine.table import State as State
    from fsm_conn.machine.table import Transition as Transition
    from fsm_conn.machine.table import others as others
    from fsm_conn.pool.driver_pool import DriverLease as DriverLease
    from fsm_conn.pool.driver_pool import DriverPool as DriverPool
    from fsm_conn.pool.errors import HookTimeoutError as HookTimeoutError
    from fsm_conn.pool.errors import LeaseError as LeaseError
    from fsm_conn.pool.errors import LeaseLostError as LeaseLostError
    from fsm_conn.pool.errors import PoolClosed as PoolClosed
    from fsm_conn.pool.errors import PoolError as PoolError
    from fsm_conn.pool.errors import PoolFullError as PoolFullError
    from fsm_conn.pool.errors import PoolTimeoutError as PoolTimeoutError
    from fsm_conn.pool.errors import PoolUnavailableError as PoolUnavailableError
    from fsm_conn.pool.leasing.lease import Lease as Lease
    from fsm_conn.pool.policy import PoolPolicy as PoolPolicy
    from fsm_conn.pool.pool import ConnectionPool as ConnectionPool
    from fsm_conn.pool.table import PoolState as PoolState
    from fsm_conn.pool.table import PoolTrigger as PoolTrigger

_HOMES = {
    "fsm_conn.connection.budget": "RetryBudget",
    "fsm_conn.connection.calling.records": "CallOutcome CallRecord",
    "fsm_conn.connection.calling.subscribing": "Gap",
    "fsm_conn.connection.clients": "AutoReconnectClient HealthMonitoredClient ManagedConnection StatefulConnection",
    "fsm_conn.connection.connection": "Connection",
    "fsm_conn.connection.derive": "add_state insert_state",
    "fsm_conn.connection.errors": (
        "CallTimeoutError ConnectAbandonedError ConnectFailedError HookError NotConnectedError"
    ),
    "fsm_conn.connection.counting.metrics": "Metrics",
    "fsm_conn.connection.policy": "HealthPolicy Jitter RetryPolicy",
    "fsm_conn.connection.prober": "HealthStatus",
    "fsm_conn.connection.records": "ConnectionRecord",
    "fsm_conn.connection.counting.report": "HealthReport",
    "fsm_conn.connection.table": "ConnectionState LinkState Trigger",
    "fsm_conn.links.base": "CallOptions Link ReceivedMetadata",
    "fsm_conn.links.broker": "Broker BrokeredService",
    "fsm_conn.links.driver": "DriverLink",
    "fsm_conn.links.errors": (
        "AmbiguousNameError BadCookieError BrokerError CallError ChecksumError CommandNotExecutableError "
        "CommandNotFoundError "
        "ConnectionLostError GoingAwayError HandshakeError IncompatibleProtocolError LinkError LinkLostError "
        "NotServingError PluginExitedError ProbeError ProbeTimeoutError RequestError "
        "StartTimeoutError UnknownNameError"
    ),
    "fsm_conn.links.target": "Endpoint Plugin Reattach Tls",
    "fsm_conn.machine.errors": "DeclarationError EndlessDispatchError FsmConnError IllegalTriggerError MachineClosedError MissingDataError StateTimeoutError",  # noqa: E501
    "fsm_conn.machine.machine": "StateMachine",
    "fsm_conn.machine.records": "Snapshot TransitionRecord",
    "fsm_conn.machine.table": "Fires State Transition others",
    "fsm_conn.pool.errors": (
        "HookTimeoutError LeaseError LeaseLostError PoolClosed PoolError PoolFullError PoolTimeoutError "
        "PoolUnavailableError"
    ),
    "fsm_conn.pool.leasing.lease": "Lease",
    "fsm_conn.pool.policy": "PoolPolicy",
    "fsm_conn.pool.driver_pool": "DriverLease DriverPool",
    "fsm_conn.pool.pool": "ConnectionPool",
    "fsm_conn.pool.table": "PoolState PoolTrigger",
}
"""The public names, by the module that each is imported from at its first use."""

__getattr__, __dir__, __all__ = lazily(__name__, _HOMES)

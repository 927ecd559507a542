"""Tools for tests of state machines, connections and pools: simulated peers, virtual time, and random lives.

    from fsm_conn.testing import lifecycle_test
    TestAuthenticated = lifecycle_test(Authenticated)

Needs the extra `testing`: `pip install 'fsm_conn[testing]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn._util.lazy import lazily

if TYPE_CHECKING:
    from fsm_conn.testing.cases import LivesCase as LivesCase
    from fsm_conn.testing.cases import lifecycle_test as lifecycle_test
    from fsm_conn.testing.cases import machine_test as machine_test
    from fsm_conn.testing.cases import pool_test as pool_test
    from fsm_conn.testing.clock import VirtualTime as VirtualTime
    from fsm_conn.testing.conformance import conforms as conforms
    from fsm_conn.testing.coverage import TransitionCoverage as TransitionCoverage
    from fsm_conn.testing.exploring import Exploration as Exploration
    from fsm_conn.testing.exploring import explore as explore
    from fsm_conn.testing.generating import Lived as Lived
    from fsm_conn.testing.generating import random_lives as random_lives
    from fsm_conn.testing.lives.checks import Invariant as Invariant
    from fsm_conn.testing.lives.checks import ViolationError as ViolationError
    from fsm_conn.testing.lives.checks import invariant as invariant
    from fsm_conn.testing.lives.connections.invariants import INVARIANTS as INVARIANTS
    from fsm_conn.testing.lives.connections.life import Life as Life
    from fsm_conn.testing.lives.evidence import Evidence as Evidence
    from fsm_conn.testing.lives.machines.life import MACHINE_INVARIANTS as MACHINE_INVARIANTS
    from fsm_conn.testing.lives.machines.life import MachineLife as MachineLife
    from fsm_conn.testing.lives.pools.life import PoolLife as PoolLife
    from fsm_conn.testing.lives.replaying import replay as replay
    from fsm_conn.testing.lives.replaying import shortest as shortest
    from fsm_conn.testing.lives.script import Script as Script
    from fsm_conn.testing.lives.script import Step as Step
    from fsm_conn.testing.members import Ledger as Ledger
    from fsm_conn.testing.members import SimulatedMember as SimulatedMember
    from fsm_conn.testing.members import SimulatedMembers as SimulatedMembers
    from fsm_conn.testing.report import Report as Report
    from fsm_conn.testing.simulated import Outcome as Outcome
    from fsm_conn.testing.simulated import SimulatedLink as SimulatedLink
    from fsm_conn.testing.simulated import SimulatedPeer as SimulatedPeer
    from fsm_conn.testing.tracefile import ConformanceError as ConformanceError
    from fsm_conn.testing.tracefile import TraceWriter as TraceWriter
    from fsm_conn.testing.tracefile import read_trace as read_trace
    from fsm_conn.testing.virtual import DeadlockError as DeadlockError
    from fsm_conn.testing.virtual import VirtualLoop as VirtualLoop
    from fsm_conn.testing.virtual import run_virtually as run_virtually

_HOMES = {
    "fsm_conn.testing.cases": "LivesCase lifecycle_test machine_test pool_test",
    "fsm_conn.testing.clock": "VirtualTime",
    "fsm_conn.testing.conformance": "conforms",
    "fsm_conn.testing.coverage": "TransitionCoverage",
    "fsm_conn.testing.exploring": "Exploration explore",
    "fsm_conn.testing.lives.checks": "Invariant ViolationError invariant",
    "fsm_conn.testing.lives.evidence": "Evidence",
    "fsm_conn.testing.lives.connections.invariants": "INVARIANTS",
    "fsm_conn.testing.lives.connections.life": "Life",
    "fsm_conn.testing.lives.machines.life": "MACHINE_INVARIANTS MachineLife",
    "fsm_conn.testing.lives.pools.life": "PoolLife",
    "fsm_conn.testing.lives.replaying": "replay shortest",
    "fsm_conn.testing.lives.script": "Script Step",
    "fsm_conn.testing.generating": "Lived random_lives",
    "fsm_conn.testing.members": "Ledger SimulatedMember SimulatedMembers",
    "fsm_conn.testing.report": "Report",
    "fsm_conn.testing.simulated": "Outcome SimulatedLink SimulatedPeer",
    "fsm_conn.testing.tracefile": "ConformanceError TraceWriter read_trace",
    "fsm_conn.testing.virtual": "DeadlockError VirtualLoop run_virtually",
}

__getattr__, __dir__, __all__ = lazily(__name__, _HOMES)

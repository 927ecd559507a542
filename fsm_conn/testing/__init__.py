"""For tests of connection classes: a simulated peer, virtual time, and lives by the thousand.

    from fsm_conn.testing import lifecycle_test
    TestAuthenticated = lifecycle_test(Authenticated)

Needs the extra `testing`: `pip install 'fsm_conn[testing]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn.lazy import lazily

if TYPE_CHECKING:
    from fsm_conn.testing.clock import VirtualTime
    from fsm_conn.testing.conformance import conforms
    from fsm_conn.testing.coverage import TransitionCoverage
    from fsm_conn.testing.exploring import Exploration, explore
    from fsm_conn.testing.invariants import INVARIANTS, Invariant, ViolationError, invariant
    from fsm_conn.testing.life import Life
    from fsm_conn.testing.pool_stateful import pool_test
    from fsm_conn.testing.replaying import replay, shortest
    from fsm_conn.testing.report import Report
    from fsm_conn.testing.simulated import Outcome, SimulatedLink, SimulatedPeer
    from fsm_conn.testing.stateful import LifecycleMachine, lifecycle_test, policies
    from fsm_conn.testing.trace import Step, Trace
    from fsm_conn.testing.tracefile import ConformanceError, TraceWriter, read_trace
    from fsm_conn.testing.virtual import DeadlockError, VirtualLoop, run_virtually

__all__ = [
    "INVARIANTS",
    "ConformanceError",
    "DeadlockError",
    "Exploration",
    "Invariant",
    "Life",
    "LifecycleMachine",
    "Outcome",
    "Report",
    "SimulatedLink",
    "SimulatedPeer",
    "Step",
    "Trace",
    "TraceWriter",
    "TransitionCoverage",
    "ViolationError",
    "VirtualLoop",
    "VirtualTime",
    "conforms",
    "explore",
    "invariant",
    "lifecycle_test",
    "policies",
    "pool_test",
    "read_trace",
    "replay",
    "run_virtually",
    "shortest",
]

_HOMES = {
    "VirtualTime": "fsm_conn.testing.clock",
    "conforms": "fsm_conn.testing.conformance",
    "TransitionCoverage": "fsm_conn.testing.coverage",
    "Exploration": "fsm_conn.testing.exploring",
    "explore": "fsm_conn.testing.exploring",
    "INVARIANTS": "fsm_conn.testing.invariants",
    "Invariant": "fsm_conn.testing.invariants",
    "ViolationError": "fsm_conn.testing.invariants",
    "invariant": "fsm_conn.testing.invariants",
    "Life": "fsm_conn.testing.life",
    "pool_test": "fsm_conn.testing.pool_stateful",
    "replay": "fsm_conn.testing.replaying",
    "shortest": "fsm_conn.testing.replaying",
    "Report": "fsm_conn.testing.report",
    "Outcome": "fsm_conn.testing.simulated",
    "SimulatedLink": "fsm_conn.testing.simulated",
    "SimulatedPeer": "fsm_conn.testing.simulated",
    "LifecycleMachine": "fsm_conn.testing.stateful",
    "lifecycle_test": "fsm_conn.testing.stateful",
    "policies": "fsm_conn.testing.stateful",
    "Step": "fsm_conn.testing.trace",
    "Trace": "fsm_conn.testing.trace",
    "ConformanceError": "fsm_conn.testing.tracefile",
    "TraceWriter": "fsm_conn.testing.tracefile",
    "read_trace": "fsm_conn.testing.tracefile",
    "DeadlockError": "fsm_conn.testing.virtual",
    "VirtualLoop": "fsm_conn.testing.virtual",
    "run_virtually": "fsm_conn.testing.virtual",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)

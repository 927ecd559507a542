"""The lives of members, pools of clusters and servers: checked, drawn and explored, as every table is."""

from __future__ import annotations

from typing import Any

import pytest

from fsm_conn.checks import check
from fsm_conn.cluster import ClusterPolicy, ClusterPool, Member, MemberInfo, Server
from fsm_conn.connection.connection import Connection
from fsm_conn.diagrams import diagram
from fsm_conn.machine.machine import StateMachine
from fsm_conn.testing import MachineLife, SimulatedLink, explore
from fsm_conn.testing.members import SimulatedMembers


class AnyMember(Member):
    """A member whose connection, once it has failed, is down at the next look, and up at the one after."""

    def __init__(self) -> None:
        peer = SimulatedLink.script()
        super().__init__(MemberInfo("m", target=peer), Connection(peer), ClusterPolicy(), lambda member: None)

    def is_connected(self, reason: BaseException | None) -> bool:
        return self.failures % 2 == 0

    def note_failure(self, reason: BaseException | None) -> None:
        super().note_failure(reason)
        self.failures = (self.failures + 1) % 2


class AnyPool(ClusterPool):
    def __init__(self) -> None:
        super().__init__(SimulatedMembers(0))


class AnyServer(Server):
    def __init__(self) -> None:
        super().__init__(["/nowhere/plugin"])


class BegunLife(MachineLife):
    """A life that is looked at when the activity of its first state runs."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._settle(False)


@pytest.mark.parametrize("kind", [Member, ClusterPool, Server])
def test_nothing_is_found_in_a_table(kind: type[StateMachine]) -> None:
    """Neither a state without a way out, nor a circle that nothing slows down, nor a guard that is never asked."""
    assert check(kind) == ()


@pytest.mark.parametrize("kind", [Member, ClusterPool, Server])
def test_a_table_is_drawn(kind: type[StateMachine]) -> None:
    """Every state is in its picture."""
    shown = str(diagram(kind))
    assert all(str(state) in shown for state in kind.lifecycle.states)


@pytest.mark.parametrize(("kind", "states"), [(AnyMember, 5), (AnyPool, 3), (AnyServer, 4)])
def test_a_table_is_explored(kind: type[StateMachine], states: int) -> None:
    """Every life of five steps, with activities that end in every way: no rule is broken, every state is reached."""
    walked = explore(kind, depth=5, seconds=30, life=BegunLife)
    assert walked.violation is None, walked.violation
    assert len(walked.states) == states

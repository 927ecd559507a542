"""The rules of the retry and health policies, by name. Each rule asks the `PolicyOracle` what was wrong."""

from __future__ import annotations

from collections.abc import Callable

from fsm_conn.connection.table import ConnectionState, Trigger
from fsm_conn.testing.lives.checks import AT_REST, EPSILON, Invariant, OfEvents, invariant
from fsm_conn.testing.lives.connections.evidence import ConnectionEvidence
from fsm_conn.testing.lives.connections.overrides import COUNTING, OPENING
from fsm_conn.testing.lives.connections.policy_oracle import PolicyOracle

__all__ = ["OF_THE_POLICY"]

S = ConnectionState
FAR_TOO_MANY = 3
"""Times the threshold: nothing justifies so many failed probes in a row."""


def _told(life: ConnectionEvidence, name: str) -> str | None:
    problems = life.part(PolicyOracle).up_to_date().problems
    return problems.get(name) if problems else None


def _of_events(check: Callable[[ConnectionEvidence], str | None]) -> Invariant:
    return OfEvents(check.__name__, AT_REST, check)


@_of_events
def attempts_are_counted(life: ConnectionEvidence) -> str | None:
    """No outage has more attempts than the policy allows, each asks for one link, and none is left uncounted."""
    return _told(life, "attempts_are_counted")


@_of_events
def delays_are_kept(life: ConnectionEvidence) -> str | None:
    """The delays between attempts are exactly those of the policy; the first lost link is replaced at once."""
    return _told(life, "delays_are_kept")


@_of_events
def attempts_let_time_pass(life: ConnectionEvidence) -> str | None:
    """Whatever the policy and the class's own guards: a peer that refuses is not called in a tight loop."""
    return _told(life, "attempts_let_time_pass")


@_of_events
def permanent_errors_are_final(life: ConnectionEvidence) -> str | None:
    """After a permanent error there is no further attempt."""
    return _told(life, "permanent_errors_are_final")


@_of_events
def gives_up_only_when_it_must(life: ConnectionEvidence) -> str | None:
    """As long as the policy allows another attempt, it is made."""
    return _told(life, "gives_up_only_when_it_must")


@_of_events
def restarts_are_limited(life: ConnectionEvidence) -> str | None:
    """Within `restart_window` no more lost links are replaced than `max_restarts` allows."""
    return _told(life, "restarts_are_limited")


@_of_events
def recovery_is_careful(life: ConnectionEvidence) -> str | None:
    """After giving up, a connection tries again only if that may help, after the pause, and once."""
    return _told(life, "recovery_is_careful")


@invariant(AT_REST)
def deadlines_are_kept(life: ConnectionEvidence) -> str | None:
    """No attempt begins after the deadline of its outage, and none runs past it."""
    oracle, deadline = life.part(PolicyOracle).up_to_date(), life.conn.retry.deadline
    if deadline is not None and life.conn.state in (S.CONNECTING, S.RECONNECTING) and life.peer.waits_for("open"):
        late = life.loop.time() - oracle.since - deadline
        if late > EPSILON and not life.overrides.has_own(*OPENING, *COUNTING):
            return f"an attempt runs {late:g} s past the deadline of its outage"
    return oracle.problems.get("deadlines_are_kept")


@_of_events
def probes_are_counted(life: ConnectionEvidence) -> str | None:
    """A link ends after `failure_threshold` failed probes in a row, and not before."""
    return _told(life, "probes_are_counted")


@invariant(AT_REST)
def ill_health_has_an_end(life: ConnectionEvidence) -> str | None:
    """Whatever the class's own guards: a link whose probes keep failing is not kept for ever."""
    if not life.overrides.has_own("is_unhealthy") or life.checked == len(life.records):
        return None
    failed = 0
    for record in reversed(life.records):
        if record.trigger != Trigger.PROBE_FAILED or not record.internal:
            break
        failed += 1
    most = FAR_TOO_MANY * life.conn.health.failure_threshold
    return f"{failed} probes in a row have failed, and the link is still kept" if failed > most else None


OF_THE_POLICY: tuple[Invariant, ...] = (
    attempts_are_counted,
    delays_are_kept,
    attempts_let_time_pass,
    permanent_errors_are_final,
    gives_up_only_when_it_must,
    restarts_are_limited,
    recovery_is_careful,
    deadlines_are_kept,
    probes_are_counted,
    ill_health_has_an_end,
)
"""The rules that the oracle checks."""

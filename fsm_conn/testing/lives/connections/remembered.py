"""The part of a connection's memory that can matter later: attempts, times, losses, callers. And when its policy turns.

A time matters as long as the policy may still use it: how long a link has been up, until it counts as stable; how long
an outage has lasted, if there is a deadline; losses, as long as they are in the window.
"""

from __future__ import annotations

from typing import Any

from fsm_conn.connection.policy import Jitter
from fsm_conn.testing.lives.connections.caller_oracle import CallerOracle
from fsm_conn.testing.lives.connections.evidence import ConnectionEvidence
from fsm_conn.testing.lives.evidence import activity_in
from fsm_conn.testing.lives.moments.fingerprint import fingerprint

__all__ = ["fingerprint_of", "turning_points"]


def fingerprint_of(life: ConnectionEvidence) -> tuple[Any, frozenset[str]]:
    """The fingerprint of the moment, and the objects that could not be compared."""
    peer, link = life.peer, life.peer.link
    known = {id(peer): "peer", **{id(each): f"link {index}" for index, each in enumerate(peer.links)}}
    beside = (
        _memory(life),
        (peer.open_now, peer.leaving),
        link is not None and (link.is_lost, link.is_leaving, link.news is not None),
        tuple((user.method, user.cancelled) for user in life.users),
        tuple(sorted((pending.what, pending.link.is_open) for pending in peer.unanswered())),
        tuple(sorted(what for what in peer.asked if peer.attends_to(what))),
    )
    return fingerprint(life, known, beside)


def _memory(life: ConnectionEvidence) -> Any:
    memory, conn = life.conn.memory(life.loop.time()), life.conn
    return (
        _rounded(memory),
        _silent_for(life),
        hash(life.rng.getstate()) if conn.retry.jitter != Jitter.NONE or conn.health.interval else None,
        activity_in(life),
    )


def _rounded(values: tuple[Any, ...]) -> Any:
    return tuple(
        round(each, 6) if type(each) is float else _rounded(each) if type(each) is tuple else each for each in values
    )


def _silent_for(life: ConnectionEvidence) -> tuple[float, ...]:
    """How long ago the peer was heard and asked, as far as that may matter to the next probe."""
    if life.state not in life.conn.linked_states:
        return ()
    now, policy, probed_at = life.loop.time(), life.conn.health, life.part(CallerOracle).probed_at
    horizon = max(policy.interval or 0.0, policy.busy_limit) + policy.timeout
    return tuple(round(min(now - at, horizon), 6) for at in (life.sign_of_life, probed_at))


def turning_points(life: ConnectionEvidence) -> list[float]:
    """Seconds after which the policy would decide differently than now, soonest first."""
    memory, retry = life.conn.memory(life.loop.time()), life.conn.retry
    found = [retry.restart_window - age for age in memory.losses]
    if memory.up_for is not None:
        found.append(retry.stable_after - memory.up_for)
    if memory.time_left is not None and not life.is_serving:
        found.append(memory.time_left)
    return sorted({round(each, 6) for each in found if each > 0})

"""The possible next steps in the life of a pool, with their weights in a random life; and policies of small pools."""

from __future__ import annotations

import random
from typing import Any, Protocol

import attrs

from fsm_conn.connection.connection import Connection
from fsm_conn.connection.policy import RetryPolicy
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.pool.table import PoolState
from fsm_conn.testing.lives.connections.life import POLICY
from fsm_conn.testing.lives.connections.overrides import overrides_of
from fsm_conn.testing.lives.pools.asking import PoolPeer
from fsm_conn.testing.lives.pools.model import PoolUser
from fsm_conn.testing.lives.script import Step
from fsm_conn.testing.lives.stepping import TIMES, Offer
from fsm_conn.testing.simulated import OUTCOMES, SimulatedLink

__all__ = ["IMPATIENT", "TARGETS", "USERS", "also", "offers", "options", "pool_policy"]

USERS = 7
"""The most users at a time: more of them would reveal no more mistakes."""

UNHURRIED = ("block", "call_that_kills", "open", "open_partly")
"""Steps that cannot be rushed."""
IMPATIENT = attrs.evolve(POLICY, max_restarts=1, restart_window=20.0)
"""A policy of connections that give up when they lose a second link within 20 s."""
TARGETS = 3
"""The most targets at a time."""

# The weights of steps; all others have weight one.
WEIGHTS = {"open": 6, "initialize": 1, "acquire": 3, "release": 3, "answer": 2, "lose": 2}
FAVOURED = {
    ("answer", ("open", "ok")): 5,
    ("answer", ("close", "ok")): 4,
    ("close_all", (0.0,)): 1,
    ("call_patiently", (3.0,)): 4,
}


class Pooled(Protocol):
    """A life of a pool, as far as its possible steps depend on it."""

    pool: ConnectionPool
    peer: PoolPeer
    users: list[PoolUser]
    others: list[Any]
    targets: list[Any]

    def open_links(self) -> list[SimulatedLink]:
        """The links that are open and not lost, oldest first."""


def options(life: Pooled) -> list[tuple[str, tuple[Any, ...]]]:
    """The steps that are possible now, each once."""
    steps: list[tuple[str, tuple[Any, ...]]] = []
    if life.pool.state == PoolState.CLOSED:
        steps += [("open", ()), ("initialize", ())]
    else:
        steps += [("close_all", (5.0,)), ("close_all", (0.0,))]
    if len(life.users) < USERS:
        steps += [("acquire", (None,)), ("acquire", (4.0,))]
    if len(life.others) < USERS:
        steps += [("call", ()), ("call_patiently", ())]
    held = sum(user.is_holding for user in life.users)
    steps += [("release", (number,)) for number in range(min(held, 3))]
    steps += [("forget", (0,)), ("release_and_cancel", (0,))] if held else []
    steps += [("cancel", (number,)) for number in range(len(life.users))]
    steps += [("cancel_other", (number,)) for number in range(len(life.others))]
    for what in ("open", "close", "call"):
        if life.peer.waits_for(what):
            steps += [("answer", (what, kind)) for kind in OUTCOMES[what] if kind != "hang"]
    steps += [("lose", (number,)) for number in range(len(life.open_links()))]
    for number, slot in enumerate(life.pool.slots):
        steps += [("fire", (trigger, number)) for trigger in _own_triggers(slot.conn)]
    return steps


def also(life: Pooled) -> list[tuple[str, tuple[Any, ...]]]:
    """Steps that make sense now, but only in random lives: with them, a systematic walk would not get far."""
    pool = life.pool
    held = any(user.is_holding for user in life.users)
    steps: list[tuple[str, tuple[Any, ...]]] = [("acquire_elsewhere", ())]
    steps += [("discard", (0,)), ("release_elsewhere", (0,))] if held else []
    steps += [("acquire", (0.0,))] if len(life.users) < USERS else []
    steps += [("call_that_kills", ()), ("call_patiently", (3.0,))] if len(life.others) < USERS else []
    steps += [("block", (0.5, number)) for number in range(len(life.open_links()))]
    if pool.state == PoolState.CLOSED:
        steps += [("open_partly", ())]
    if pool.state in (PoolState.OPENING, PoolState.OPEN):
        steps += [("expire", ())]
    if pool.state in (PoolState.CLOSED, PoolState.OPEN):
        sizes = range(max(1, pool.policy.min_idle), 4)
        steps += [("resize", (size,)) for size in sizes if size != pool.policy.size]
    if len(life.targets) > 1:
        steps += [("add_target", ())] if len(pool.targets) < TARGETS else []
        steps += [("remove_target", (number,)) for number in range(len(pool.targets)) if len(pool.targets) > 1]
        numbers = [target.number for target in pool.targets if hasattr(target, "number")]
        steps += [("mend" if number in life.peer.sick else "sicken", (number,)) for number in numbers]
    return steps


def _own_triggers(conn: Connection) -> list[str]:
    """Triggers of the class's own that its state handles, except those after which it may rest and serve nobody."""
    lifecycle, state, own = conn.lifecycle, conn.state, overrides_of(type(conn)).own_triggers
    if not own:
        return []
    resting = {name for name, each in lifecycle.states.items() if each.final} - conn.serving_states
    leads = [row for row in lifecycle.transitions if row.trigger in own and state in row.sources(lifecycle.states)]
    for_good = {row.trigger for row in leads if row.dest in resting}
    return sorted({str(row.trigger) for row in leads} - for_good)


def offers(options: list[tuple[str, tuple[Any, ...]]]) -> list[Offer]:
    """The steps to choose from at random. Steps that lead to rare events have a higher weight."""
    found: list[Offer] = []
    for name, arguments in options:
        weight = FAVOURED.get((name, arguments), WEIGHTS.get(name, 1))
        found.append((Step(name, arguments), weight))
        if name not in UNHURRIED:
            found.append((Step(name, arguments, True), 1))
    found += [(Step("advance", (seconds,)), 1) for seconds in TIMES]
    found.append((Step("tick"), 1))
    return found


def pool_policy(rng: random.Random) -> PoolPolicy:
    """A policy of a small pool, with short times."""
    return PoolPolicy(
        size=rng.choice((1, 2, 3)),
        max_overflow=rng.choice((0, 1, 2)),
        standby=rng.choice((0, 0, 1)),
        leases_per_connection=rng.choice((1, 1, 2)),
        acquire_timeout=rng.choice((None, None, 10.0)),
        max_waiters=rng.choice((None, None, 0, 2)),
        max_lifetime=rng.choice((None, 20.0)),
        max_idle=rng.choice((None, 5.0)),
        min_idle=rng.choice((0, 1)),
        overflow_linger=rng.choice((0.0, 2.0)),
        lease_limit=rng.choice((None, 3.0)),
        replacement=RetryPolicy(max_attempts=None, initial_delay=1.0, max_delay=4.0, jitter="equal"),
    )

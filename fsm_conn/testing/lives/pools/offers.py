"""What can be done next in the life of a pool, as often as it is worth in a random life; and small policies."""

from __future__ import annotations

import random
from typing import Any

from fsm_conn.connection.policy import RetryPolicy
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.testing.lives.script import Step
from fsm_conn.testing.lives.stepping import TIMES, Offer

__all__ = ["offers", "pool_policy"]

# How often a step is offered, beside those that are not named here and are offered once.
WEIGHTS = {"open": 6, "initialize": 1, "acquire": 3, "release": 3, "answer": 2, "lose": 2}
FAVOURED = {("answer", ("open", "ok")): 5, ("answer", ("close", "ok")): 4, ("close_all", (0.0,)): 1}


def offers(options: list[tuple[str, tuple[Any, ...]]]) -> list[Offer]:
    """The steps to choose from: what is rare in lives that are left to chance is offered more often."""
    found: list[Offer] = []
    for name, arguments in options:
        weight = FAVOURED.get((name, arguments), WEIGHTS.get(name, 1))
        found.append((Step(name, arguments), weight))
        if name != "open":
            found.append((Step(name, arguments, True), 1))
    found += [(Step("advance", (seconds,)), 1) for seconds in TIMES]
    found.append((Step("tick"), 1))
    return found


def pool_policy(rng: random.Random) -> PoolPolicy:
    """A policy of a small pool, in which everything happens soon."""
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

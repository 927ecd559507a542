"""Ten minutes of a link that flaps, by many seeded schedules, with every invariant checked after every step.

`SEARCH=50` lives a thousand schedules of each kind (see `extent`).
"""

from __future__ import annotations

import random

import pytest
from extent import far

from fsm_conn import Connection, HealthPolicy, RetryPolicy
from fsm_conn.testing import Life

SCHEDULES = far(20)
MINUTES = 10
ANSWERS = {
    "open": ("ok", "ok", "ok", "ok", "refuse", "half"),
    "close": ("ok", "ok", "ok", "fail"),
    "probe": ("ok", "ok", "bad"),
    "call": ("ok", "ok", "lost"),
}

WAYS = {
    "usual": (RetryPolicy(), None),
    "intense": (RetryPolicy(max_restarts=3, restart_window=60, recover_after=20, stable_after=5), None),
    "watched": (
        RetryPolicy(max_attempts=None, jitter="full"),
        HealthPolicy(interval=5, timeout=2, failure_threshold=2),
    ),
    "hurried": (RetryPolicy(deadline=20, jitter="decorrelated", recover_after=5), HealthPolicy(interval=30)),
}


@pytest.mark.parametrize("way", WAYS)
def test_promises_hold_while_a_link_flaps(way: str) -> None:
    """And when the flapping is over, the connection comes to rest, disconnects and leaves nothing."""
    retry, health = WAYS[way]
    lost = 0
    for seed in range(SCHEDULES):
        lost += flap(random.Random(seed), Life(Connection, retry=retry, health=health, seed=seed))
    assert lost > 5 * SCHEDULES, "hardly anything happened"


def flap(rng: random.Random, life: Life) -> int:
    """Live one schedule; how many links were lost."""
    mean = rng.choice([2.0, 7.0, 20.0])
    try:
        life.connect()
        while life.loop.time() < MINUTES * 60:
            asked = [what for what in ANSWERS if life.peer.waits_for(what)]
            if asked:
                life.answer(asked[0], rng.choice(ANSWERS[asked[0]]))
            elif life.peer.link is not None:
                rng.choice((life.call, life.lose))()
            elif life.state in ("failed", "disconnected") and rng.random() < 0.2:
                life.connect()
            life.advance(rng.expovariate(1 / mean))
        lost = sum(record.trigger in ("lost", "probe_failed") and not record.internal for record in life.records)
        life.end()
    finally:
        life.close()
    return lost

"""Random lives of a pool, always the same for a seed: what hunts the mutants, and what code without faults survives."""

from __future__ import annotations

import random
from collections.abc import Callable

from fsm_conn import ConnectionPool, PoolPolicy, RetryPolicy
from fsm_conn.testing import ViolationError
from fsm_conn.testing.lives.connections.life import POLICY
from fsm_conn.testing.lives.pools.hooks import HOOKS
from fsm_conn.testing.lives.pools.life import PoolLife
from fsm_conn.testing.lives.pools.offers import IMPATIENT

__all__ = ["calls_live", "deaf_live", "hanging_live", "hunt", "leases_live", "live", "refusing_live"]


def policy(rng: random.Random) -> PoolPolicy:
    """A policy of a small pool, in which everything happens soon."""
    return PoolPolicy(
        size=rng.choice([1, 2, 3]),
        max_overflow=rng.choice([0, 1, 2]),
        standby=rng.choice([0, 0, 1]),
        leases_per_connection=rng.choice([1, 1, 2]),
        acquire_timeout=rng.choice([None, None, 10.0]),
        max_waiters=rng.choice([None, None, 0, 2]),
        max_lifetime=rng.choice([None, 20.0]),
        max_idle=rng.choice([None, 5.0]),
        min_idle=rng.choice([0, 1]),
        overflow_linger=rng.choice([0.0, 2.0]),
        lease_limit=rng.choice([None, 3.0]),
        replacement=RetryPolicy(max_attempts=None, initial_delay=1.0, max_delay=4.0, jitter="equal"),
    )


CALLS = frozenset({"open", "call_patiently", "answer", "lose", "advance"})


def calls_live(seed: int) -> None:
    """One of calls that wait for a connection, and then for their reply."""
    live(seed, only=CALLS)


LEASES = frozenset({"open", "acquire", "release", "answer", "lose", "expire", "advance"})


def leases_live(seed: int) -> None:
    """One of leases, of a pool that keeps its size and its targets."""
    live(seed, only=LEASES)


def refusing_live(seed: int) -> None:
    """One of leases, of a pool whose hooks fail now and then."""
    live(seed, hooks="failing", only=LEASES - {"lose", "expire"})


def hanging_live(seed: int) -> None:
    """One of a pool with hooks of which some do not end."""
    live(seed, hooks="hanging")


def deaf_live(seed: int) -> None:
    """One of a pool with hooks of which some ignore their cancellation."""
    live(seed, hooks="deaf")


def live(
    seed: int,
    steps: int = 50,
    pool_class: type[ConnectionPool] = ConnectionPool,
    only: frozenset[str] | None = None,
    hooks: str | None = None,
) -> None:
    """One random life of a pool to its end; with `only`, of steps of these names; with `hooks`, with that kind of them.

    Raises:
        ViolationError: a rule does not hold.
    """
    rng = random.Random(seed)
    chosen = policy(rng)
    kind = rng.choice(HOOKS[:-1]) if hooks is None else hooks  # `deaf_live` has the last kind
    life = PoolLife(
        pool_class,
        policy=chosen,
        hooks=kind,
        seed=seed,
        targets=rng.choice([1, 1, 2, 3]),
        retry=IMPATIENT if seed % 3 == 2 else POLICY,
    )
    try:
        for _ in range(steps):
            offers = [offer for offer in life.offers() if only is None or offer[0].name in only]
            offered, weights = zip(*offers, strict=True)
            rng.choices(offered, weights)[0].take(life)
        life.end()
    finally:
        life.close()


def hunt(live: Callable[[int], None], lives: int, first: int) -> ViolationError | None:
    """A violation in that many lives, of which one is lived first, or None."""
    for seed in dict.fromkeys((first, *range(lives))):
        try:
            live(seed)
        except ViolationError as error:
            return error
    return None

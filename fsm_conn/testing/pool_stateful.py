"""`pool_test`: thousands of adversarial lives of a pool class, by Hypothesis.

    from fsm_conn.testing import pool_test
    TestMyPool = pool_test(MyPool)

makes a class that pytest and unittest collect. Each example is a `PoolLife`: leases are acquired, released and
forgotten, users are cancelled at any await, links are refused, lost, slow or hang, time passes, the pool is closed and
opened; and after every step the pool is compared with a model. What Hypothesis finds it shrinks.
"""

from __future__ import annotations

from typing import Any, ClassVar

from fsm_conn.connection.policy import RetryPolicy
from fsm_conn.pool.policy import PoolPolicy
from fsm_conn.pool.pool import ConnectionPool
from fsm_conn.testing._extra import needed
from fsm_conn.testing.cases import case_of
from fsm_conn.testing.lives.pool_life import HOOKS, MakePool, PoolLife
from fsm_conn.testing.stateful import TIMES

hypothesis = needed("hypothesis")
st = needed("hypothesis.strategies")
stateful = needed("hypothesis.stateful")

__all__ = ["PoolMachine", "pool_policies", "pool_test"]

# How often a step is offered, beside those that are not named here and are offered once.
WEIGHTS = {"open": 6, "initialize": 1, "acquire": 3, "release": 3, "answer": 2, "lose": 2}
FAVOURED = {("answer", ("open", "ok")): 5, ("answer", ("close", "ok")): 4, ("close_all", (0.0,)): 1}


def pool_policies() -> Any:
    """A strategy for policies of small pools, in which everything happens soon."""
    return st.builds(
        PoolPolicy,
        size=st.sampled_from([1, 2, 3]),
        max_overflow=st.sampled_from([0, 1, 2]),
        standby=st.sampled_from([0, 0, 1]),
        leases_per_connection=st.sampled_from([1, 1, 2]),
        acquire_timeout=st.sampled_from([None, None, 10.0]),
        max_waiters=st.sampled_from([None, None, 0, 2]),
        max_lifetime=st.sampled_from([None, 20.0]),
        max_idle=st.sampled_from([None, 5.0]),
        min_idle=st.sampled_from([0, 1]),
        overflow_linger=st.sampled_from([0.0, 2.0]),
        lease_limit=st.sampled_from([None, 3.0]),
        replacement=st.just(RetryPolicy(max_attempts=None, initial_delay=1.0, max_delay=4.0, jitter="equal")),
    )


class PoolMachine(stateful.RuleBasedStateMachine):  # type: ignore[misc, name-defined]
    """The state machine behind `pool_test`. Derive from it to add rules of your own; they find the life in `life`."""

    pool_class: ClassVar[type[ConnectionPool]] = ConnectionPool
    make: ClassVar[MakePool | None] = None
    hooks: ClassVar[tuple[str, ...]] = HOOKS

    life: PoolLife | None = None

    @stateful.initialize(data=st.data())
    def begin(self, data: Any) -> None:
        """A new pool."""
        self.life = PoolLife(
            self.pool_class,
            policy=data.draw(pool_policies()),
            hooks=data.draw(st.sampled_from(self.hooks)),
            seed=data.draw(st.integers(0, 3)),
            make=type(self).__dict__.get("make") or type(self).make,
        )

    @stateful.rule(choice=st.integers(0, 9999))
    def step(self, choice: int) -> None:
        """One step out of those that mean something now."""
        assert self.life is not None
        offered = pool_offers(self.life)
        name, arguments, rush = offered[choice % len(offered)]
        getattr(self.life, name)(*arguments, **({"rush": True} if rush else {}))

    def teardown(self) -> None:
        """Whatever was done, the pool is as large as ever, and leaves nothing."""
        if self.life is not None:
            try:
                self.life.end()
            finally:
                self.life.close()


def pool_offers(life: PoolLife) -> list[tuple[str, tuple[Any, ...], bool]]:
    """The steps to choose from: what is rare in lives that are left to chance is offered more often."""
    found: list[tuple[str, tuple[Any, ...], bool]] = []
    for name, arguments in life.options():
        weight = FAVOURED.get((name, arguments), WEIGHTS.get(name, 1))
        found += [(name, arguments, False)] * weight
        if name != "open":
            found.append((name, arguments, True))
    found += [("advance", (seconds,), False) for seconds in TIMES]
    found.append(("tick", (), False))
    return found


def pool_test(
    pool_class: type[ConnectionPool],
    *,
    make: MakePool | None = None,
    max_examples: int = 100,
    steps: int = 50,
    hooks: tuple[str, ...] = HOOKS,
    machine: type[PoolMachine] = PoolMachine,
) -> type[Any]:
    """Make a test case of a pool class.

    Triggers that the class of its connections has added are fired in them, too; but none that leads where nobody is
    served and it is in order to stay, for a pool waits for its connections to come back by themselves.

    Args:
        pool_class: the class to be tested.
        make: how to make a pool of it, for constructors that take more than `ConnectionPool`'s: called with what makes
            links and with the keywords of `ConnectionPool`.
        max_examples: lives per run.
        steps: steps per life, at most.
        hooks: what its hooks may be, of `"", "plain", "async", "failing"`; `("",)` for a class with hooks of its own.
        machine: your own subclass of `PoolMachine`, with rules of your own.

    Returns:
        a `unittest.TestCase`, to be assigned to a name that begins with `Test`.
    """
    if not (isinstance(pool_class, type) and issubclass(pool_class, ConnectionPool)):
        raise TypeError(f"pool_test({pool_class!r}): give a subclass of ConnectionPool")
    if not hooks or not set(hooks) <= set(HOOKS):
        raise ValueError(f"pool_test(hooks={hooks!r}): give some of {HOOKS}")
    members = {
        "pool_class": pool_class,
        "make": staticmethod(make) if make is not None else None,
        "hooks": tuple(hooks),
    }
    case: type[Any] = case_of(machine, pool_class, members, max_examples, steps)
    return case

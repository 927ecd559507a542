"""`lifecycle_test`: thousands of adversarial lives of a connection class, by Hypothesis.

    from fsm_conn.testing import lifecycle_test
    TestAuthenticated = lifecycle_test(Authenticated)

makes a class that pytest and unittest collect. Each example is a `Life`: callers come and are cancelled, the peer
answers well, badly or not at all, time passes, triggers of the class's own are fired; and after every step the
invariants are checked. What Hypothesis finds it shrinks, and the error shows the life as a program and as a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from fsm_conn.connection.connection import Connection
from fsm_conn.connection.policy import HealthPolicy, Jitter, RetryPolicy
from fsm_conn.testing._extra import needed
from fsm_conn.testing.cases import case_of
from fsm_conn.testing.lives.fingerprint import options, refusals
from fsm_conn.testing.lives.invariants import Invariant
from fsm_conn.testing.lives.life import USERS, Life, Make
from fsm_conn.testing.simulated import OUTCOMES

hypothesis = needed("hypothesis")
st = needed("hypothesis.strategies")
stateful = needed("hypothesis.stateful")

__all__ = ["LifecycleMachine", "health_policies", "lifecycle_test", "policies"]

TIMES = (0.001, 0.5, 1.0, 2.5, 6.0, 31.0)
"""Seconds that may pass in a step: shorter and longer than every delay and timeout of the usual policies."""

ENDINGS = ("end", "end", "end", "loop_ends")

# How often a step is offered, beside those that are not named here and are offered once.
WEIGHTS = {"connect": 3, "answer": 3, "lose": 3, "probe": 12, "call": 6, "reconnect": 2}
FAVOURED = {
    ("answer", ("open", "ok")): 4,
    ("answer", ("call", "ok")): 2,
    ("answer", ("probe", "ok")): 8,
    ("answer", ("probe", "bad")): 12,
    ("attend", ("call",)): 2,
    ("attend", ("probe",)): 4,  # without it, hardly a life is connected for longer than an interval
    ("attend", ("probe", "bad")): 2,
    ("attend", ("probe", "bad", "bad")): 3,
    ("attend", ("probe", "hang")): 3,
    ("advance", (6.0,)): 4,
    ("neglect", ("open",)): 6,
    ("neglect", ("close",)): 6,
}


MOODS = (("bad",), ("bad", "bad"), ("hang",))
"""What becomes of the next few probes, of a peer that then is well again."""


def policies() -> Any:
    """A strategy for retry policies that are quick to exhaust."""
    return st.builds(
        RetryPolicy,
        max_attempts=st.sampled_from([1, 2, 3, 4]),
        initial_delay=st.sampled_from([0.0, 1.0]),
        multiplier=st.sampled_from([1.0, 2.0]),
        max_delay=st.sampled_from([4.0]),
        jitter=st.sampled_from(Jitter),
        deadline=st.sampled_from([None, None, 3.0, 12.0]),
        stable_after=st.sampled_from([0.0, 5.0, 30.0]),
        max_restarts=st.sampled_from([None, None, 1]),
        restart_window=st.sampled_from([3.0, 60.0]),
        recover_after=st.sampled_from([None, None, 2.0]),
    )


def health_policies() -> Any:
    """A strategy for health policies that are quick to lose patience; or None, for the class's own."""
    quick = st.builds(
        HealthPolicy,
        interval=st.sampled_from([2.0, 6.0]),
        timeout=st.sampled_from([1.0]),
        failure_threshold=st.sampled_from([1, 2]),
        jitter=st.sampled_from([0.0, 0.5]),
        skip_when_busy=st.booleans(),
    )
    return st.one_of(st.none(), quick)


class LifecycleMachine(stateful.RuleBasedStateMachine):  # type: ignore[misc, name-defined]
    """The state machine behind `lifecycle_test`. Derive from it to add rules of your own; they find the life in `life`.

    Attributes:
        shares: how many steps were begun in each state, over all examples so far.
    """

    connection_class: ClassVar[type[Connection]] = Connection
    make: ClassVar[Make | None] = None
    ignore: ClassVar[dict[str, str]] = {}
    invariants_added: ClassVar[tuple[Invariant, ...]] = ()
    shares: ClassVar[Counter[str]]

    life: Life | None = None
    ending: str = "end"
    """How the life ends: the name of a method of `Life`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.shares = Counter()

    @stateful.initialize(
        retry=policies(), health=health_policies(), seed=st.integers(0, 3), ending=st.sampled_from(ENDINGS)
    )
    def begin(self, retry: RetryPolicy, health: HealthPolicy | None, seed: int, ending: str) -> None:
        """A new connection."""
        self.ending = ending
        make = type(self).__dict__.get("make") or type(self).make
        self.life = Life(
            self.connection_class,
            retry=retry,
            health=health,
            seed=seed,
            make=make,
            ignore=self.ignore,
            invariants=self.invariants_added,
        )

    @stateful.rule(choice=st.integers(0, 9999))
    def step(self, choice: int) -> None:
        """One step out of those that mean something now."""
        assert self.life is not None
        offered = offers(self.life)
        name, arguments, rush = offered[choice % len(offered)]
        if rush:
            getattr(self.life, name)(*arguments, rush=True)
        else:
            getattr(self.life, name)(*arguments)

    def teardown(self) -> None:
        """Whatever was done, the connection comes to rest, disconnects, and leaves nothing; or its loop ends."""
        if self.life is not None:
            try:
                getattr(self.life, self.ending)()
            finally:
                self.life.close()
                type(self).shares.update(self.life.steps_in)


def offers(life: Life) -> list[tuple[str, tuple[Any, ...], bool]]:
    """The steps to choose from: what is rare in lives that are left to chance is offered more often."""
    found: list[tuple[str, tuple[Any, ...], bool]] = []
    for name, arguments in options(life, USERS):
        weight = FAVOURED.get((name, arguments), WEIGHTS.get(name, 1))
        found += [(name, arguments, False)] * weight
        found.append((name, arguments, True))
    refused = refusals(life)
    if refused:
        found.append(("misfire", (refused[len(found) % len(refused)],), False))
    for name, arguments in _manners(life):
        found += [(name, arguments, False)] * FAVOURED.get((name, arguments), 1)
    for seconds in TIMES:
        found += [("advance", (seconds,), False)] * FAVOURED.get(("advance", (seconds,)), 1)
    found.append(("tick", (), False))
    return found


def _manners(life: Life) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The ways in which the peer could go on: to be told what to do, to do it, or to do it badly at first."""
    for what in OUTCOMES:
        yield ("neglect" if life.peer.attends_to(what) else "attend"), (what,)
    if life.is_serving:
        for kinds in MOODS:
            yield "attend", ("probe", *kinds)


def lifecycle_test(
    connection_class: type[Connection],
    *,
    make: Make | None = None,
    max_examples: int = 100,
    steps: int = 50,
    ignore: dict[str, str] | None = None,
    invariants: Iterable[Invariant] = (),
    machine: type[LifecycleMachine] = LifecycleMachine,
) -> type[Any]:
    """Make a test case of a connection class.

    Args:
        connection_class: the class to be tested.
        make: how to make a connection of it, for constructors that take more than `Connection`'s: called with what
            makes links and with the keywords of `Connection`.
        max_examples: lives per run.
        steps: steps per life, at most.
        ignore: names of invariants that need not hold, each with the reason why.
        invariants: invariants of your own, made with `@invariant`.
        machine: your own subclass of `LifecycleMachine`, with rules of your own.

    Returns:
        a `unittest.TestCase`, to be assigned to a name that begins with `Test`.
    """
    if not (isinstance(connection_class, type) and issubclass(connection_class, Connection)):
        raise TypeError(f"lifecycle_test({connection_class!r}): give a subclass of Connection")
    members = {
        "connection_class": connection_class,
        "make": staticmethod(make) if make is not None else None,
        "ignore": dict(ignore or {}),
        "invariants_added": tuple(invariants),
    }
    case: type[Any] = case_of(machine, connection_class, members, max_examples, steps)
    return case

"""What `explore` merges in a pool it may merge: compared with walking every life of small pools, merging none.

Random pools cover much, and depend on little: leaving anything out of the moments changed nothing in most of them. So
for each part of what a moment remembers there is a pool that depends on it, and the test is run without that part, too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from extent import far

from fsm_conn import Connection, ConnectionPool, PoolPolicy, RetryPolicy
from fsm_conn.pool.leasing.lease import Lease
from fsm_conn.testing import Evidence, PoolLife, Step, ViolationError, explore, invariant
from fsm_conn.testing.exploring import AT_FIRST
from fsm_conn.testing.lives.pools import remembered

from .hunting import policy

DEPTH = 3
ALWAYS = (("acquire", (None,)), ("release", (0,)), ("answer", ("open", "ok")))
SOME = (
    *(("acquire", (4.0,)), ("release", (1,)), ("cancel", (0,)), ("forget", (0,)), ("lose", (0,)), ("lose", (1,))),
    *(("call_patiently", ()), ("answer", ("call", "ok")), ("answer", ("call", "lost")), ("answer", ("open", "refuse"))),
)
"""Steps, of which each pool has all of the former and three of the latter: with all of them few lives would be walked."""


class Counted(Connection):
    """Has a counter, which only hooks change."""

    uses = 0


class Box:
    """An object of the user's own, in which counters are hidden."""

    def __init__(self) -> None:
        self.count = 0
        self.inner: dict[str, list[int]] = {"x": [0]}


EFFECTS: tuple[Callable[[Any, Any, int], object], ...] = (
    lambda pool, conn, step: setattr(pool, "number", (pool.number + step) % 3),
    lambda pool, conn, step: pool.names.append(pool.number) if len(pool.names) < 3 else pool.names.clear(),
    lambda pool, conn, step: setattr(conn, "uses", (conn.uses + step) % 3),
    lambda pool, conn, step: setattr(pool.box, "count", (pool.box.count + step) % 4),
    lambda pool, conn, step: pool.box.inner["x"].__setitem__(0, pool.box.inner["x"][0] ^ 1),
    lambda pool, conn, step: setattr(pool, "last", conn),
    lambda pool, conn, step: asyncio.get_running_loop().call_later(step, pool.use, conn),
    lambda pool, conn, step: asyncio.get_running_loop().call_later(step, pool.box.inner["x"].append, 1),
    lambda pool, conn, step: pool.tasks.add(asyncio.ensure_future(pool.use_soon(conn, step))),
)
"""What a hook may do. `step` is 1 or 2."""
CONDITIONS: tuple[Callable[[Any, Any, int], bool], ...] = (
    lambda pool, conn, limit: pool.number == limit,
    lambda pool, conn, limit: len(pool.names) == limit,
    lambda pool, conn, limit: conn.uses == limit,
    lambda pool, conn, limit: pool.box.count == limit + 1,
    lambda pool, conn, limit: len(pool.box.inner["x"]) % 3 == limit,
    lambda pool, conn, limit: pool.last is conn,
)
"""On what it may depend whether a hook refuses, or is slow. `limit` is 0, 1 or 2."""


class Counting(ConnectionPool):
    """Has counters of its own."""

    def __init__(self, target: Any, **options: Any) -> None:
        self.number, self.box = 0, Box()
        self.names: list[int] = []
        self.last: Connection | None = None
        self.tasks: set[Any] = set()
        super().__init__(target, connection_class=Counted, **options)

    def use(self, conn: Any) -> None:
        """Count a use, by a timer."""
        self.number, conn.uses = (self.number + 1) % 3, (conn.uses + 1) % 3

    async def use_soon(self, conn: Any, seconds: float) -> None:
        """Count a use after a while, by a task."""
        await asyncio.sleep(seconds + self.number)
        self.use(conn)


class Own(Counting):
    """Has hooks that read and change them, by chance."""

    seed = 0

    def __init__(self, target: Any, **options: Any) -> None:
        rng = random.Random(self.seed)
        hooks = {name: self.hook(rng, name) for name in ("on_open", "on_acquire", "on_release") if rng.random() < 0.7}
        super().__init__(target, **{**options, **hooks})

    def hook(self, rng: random.Random, name: str) -> Callable[[Any], Any]:
        """A hook that counts, and perhaps refuses or is slow."""
        effects, condition = rng.sample(EFFECTS, rng.choice((1, 1, 2))), rng.choice(CONDITIONS)
        step, limit, kind = (
            rng.choice((1, 2)),
            rng.choice((0, 1, 2)),
            rng.choice(("plain", "plain", "refusing", "slow")),
        )

        def act(conn: Any) -> bool:
            is_met = condition(self, conn, limit)
            for effect in effects:
                effect(self, conn, step)
            if kind == "refusing" and name != "on_open" and is_met:
                raise OSError("not this one")
            return is_met

        async def act_slowly(conn: Any) -> None:
            await asyncio.sleep(2.0 if act(conn) else 0.5)
            effects[0](self, conn, step)

        return act_slowly if kind == "slow" else lambda conn: act(conn) and None


class Narrow(PoolLife):
    """Begins when the pool has been opened, and offers few steps."""

    chosen: tuple[Any, ...] = ()

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.peer.attend("close")
        self.open()
        self.script.steps.clear()
        self.steps_in.clear()

    def options(self, everything: bool = False) -> list[Step]:
        """Few of them."""
        steps = super().options(everything)
        return [step for step in steps if step.name == "advance" or (step.name, step.arguments) in self.chosen]

    def try_refusals(self) -> None:
        """What walking everything does not do, either."""

    def end(self) -> None:
        """The same."""


def pool_of(seed: int) -> tuple[type[Own], type[Narrow], dict[str, Any]]:
    """A small pool, its kind of lives, and their options."""
    rng = random.Random(seed)
    steps = (*ALWAYS, *rng.sample(SOME, 3))
    small = {"size": rng.choice((1, 2)), "max_overflow": rng.choice((0, 0, 1)), "max_lifetime": None}
    chosen = policy(rng)
    kept = {name: getattr(chosen, name) for name in ("standby", "leases_per_connection", "acquire_timeout")}
    kept |= {name: getattr(chosen, name) for name in ("max_idle", "min_idle", "overflow_linger", "lease_limit")}
    replacement = RetryPolicy(max_attempts=None, initial_delay=1.0, max_delay=4.0, jitter="none")
    return (
        type(f"Own{seed}", (Own,), {"seed": seed}),
        type(f"Narrow{seed}", (Narrow,), {"chosen": steps}),
        {
            "policy": PoolPolicy(**{**kept, **small, "replacement": replacement}),
            "retry": RetryPolicy(max_attempts=2, initial_delay=1.0, jitter="none"),
        },
    )


def configuration(life: Any) -> str:
    """All that a user may see of a pool, but for what only counts."""
    pool, places = life.pool, {id(slot): number for number, slot in enumerate(life.pool.slots)}
    own = pool.number, pool.names, vars(pool.box), len(pool.tasks)
    slots = [
        (slot.state, slot.is_overflow, len(slot.holders), slot.conn.state, slot.conn.uses, pool.last is slot.conn)
        for slot in pool.slots
    ]
    users = [(each.timeout, each.lease and each.lease.is_held and places[id(each.lease._slot)]) for each in life.users]
    told = pool.get_pool_stats()
    del told["stats"], told["targets"], told["wait_ms"]
    others = [name for name, _ in life.others]
    return repr((pool.state, own, slots, users, others, told, round(life.loop.time(), 6), life.next_timer()))


def walked_through(
    pool_class: type[Any], life_class: type[Narrow], options: dict[str, Any], most: int = DEPTH
) -> tuple[dict[str, int], dict[str, int]]:
    """Every configuration that any life reaches, and every rule that one breaks, with the fewest steps."""
    found: dict[str, int] = {}
    broken: dict[str, int] = {}
    lives: list[tuple[Step, ...]] = [()]
    for depth in range(most + 1):
        longer: list[tuple[Step, ...]] = []
        for steps in lives:
            life = life_class(pool_class, **options)
            try:
                for step in steps:
                    step.take(life)
                if steps:
                    found.setdefault(configuration(life), depth)
                first = () if steps else (AT_FIRST,)
                longer += [(*steps, step) for step in (*first, *life.options())]
            except ViolationError as error:
                broken.setdefault(error.invariant, depth)
            finally:
                life.close()
        lives = longer
    return found, broken


def explored(
    pool_class: type[Any], life_class: type[Narrow], options: dict[str, Any], most: int = DEPTH
) -> tuple[dict[str, int], dict[str, int]]:
    """The same by `explore`, which ends at the first violation."""
    found: dict[str, int] = {}

    @invariant()
    def noted(life: Any) -> str | None:
        """What is reached is noted."""
        if not life.ended:
            found.setdefault(configuration(life), len(life.script.steps))
        return None

    walk = explore(pool_class, depth=most, life=life_class, invariants=[noted], **options)
    assert walk.blind == ()
    if walk.violation is None:
        return found, {}
    assert walk.violation.script is not None
    return found, {walk.violation.invariant: len(walk.violation.script.steps)}


@pytest.mark.parametrize("first", range(0, far(6), 2))
def test_exploring_a_pool_finds_exactly_what_walking_everything_finds(first: int) -> None:
    """Of pools with hooks, timers and tasks of their own: the same configurations, by as few steps."""
    for seed in range(first, first + 2):
        pool = pool_of(seed)
        found, broken = walked_through(*pool)
        assert (found, broken) == explored(*pool), seed


@pytest.mark.parametrize("seed", [4, 11])
def test_what_takes_the_most_steps_is_found_with_as_few(seed: int) -> None:
    """Of a rule that the remotest configuration breaks, and of one that none does."""
    pool_class, life_class, options = pool_of(seed)
    found, _ = walked_through(pool_class, life_class, options)
    last = max(found.values())
    goal = random.Random(seed).choice(sorted(each for each, depth in found.items() if depth == last))

    @invariant()
    def not_there(life: Evidence) -> str | None:
        """It is not there."""
        return "there" if not life.ended and configuration(life) == goal else None

    walk = explore(pool_class, depth=DEPTH, life=life_class, invariants=[not_there], **options)
    assert walk.violation is not None
    assert walk.violation.script is not None
    assert (walk.violation.invariant, len(walk.violation.script.steps)) == ("not_there", last)


@attrs.frozen
class Memory:
    """A part of what a moment remembers, and a small pool in which something depends on nothing but that part."""

    name: str
    lost: Callable[[pytest.MonkeyPatch], object]
    """Leaves that part out of the moments."""
    on_acquire: Callable[[Any, Any], object] = lambda pool, conn: None
    on_release: Callable[[Any, Any], object] = lambda pool, conn: None
    steps: tuple[Step, ...] = ()
    """Steps besides `acquire` and `release`."""
    depth: int = 4
    size: int = 1
    shared: int = 1
    fault: Callable[[pytest.MonkeyPatch], object] = lambda patch: None
    """A mistake of the pool's that only this part remembers."""


def leaving_out(*names: str) -> Callable[[pytest.MonkeyPatch], object]:
    """Leaves attributes out."""
    return lambda patch: patch.setattr(remembered, "_LEFT_OUT", remembered._LEFT_OUT | {*names})


def replacing(name: str, change: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], object]:
    """Changes what one of the functions says."""
    usual: Callable[..., Any] = getattr(remembered, name)
    return lambda patch: patch.setattr(remembered, name, lambda *given: change(usual(*given)))


def count(pool: Any, conn: Any) -> None:
    """One more of two."""
    pool.number ^= 1


def add_later(pool: Any, conn: Any) -> None:
    """The first release starts a task, which knows the number of that moment, and counts the leases of a later one."""

    async def add(amount: int) -> None:
        await asyncio.sleep(5)
        pool.box.count = (1 + amount) * sum(len(slot.holders) for slot in pool.slots)

    if not pool.names:
        pool.names.append(1)
        asyncio.ensure_future(add(pool.number))  # noqa: RUF006 -- an attribute would be compared with the pool's others


def drop_leases(patch: pytest.MonkeyPatch) -> None:
    """Who holds which slot: users know it, and so do slots."""
    leaving_out("holders")(patch)
    replacing("_of_users", lambda told: ([user[:-1] for user in told[0]], told[1]))(patch)


MEMORIES = (
    Memory("uses", leaving_out("uses"), lambda pool, conn: setattr(conn, "uses", conn.uses + 1)),
    Memory("own counters", leaving_out("number"), on_release=lambda pool, conn: EFFECTS[0](pool, conn, 1)),
    Memory("own objects", leaving_out("box"), on_release=lambda pool, conn: EFFECTS[3](pool, conn, 1)),
    Memory("timers", replacing("pending_work", lambda told: told[1]), lambda pool, conn: EFFECTS[6](pool, conn, 2)),
    Memory("tasks", replacing("pending_work", lambda told: told[0]), count, add_later, depth=5, shared=2),
    Memory("pending work", replacing("pending_work", lambda told: None), count, add_later, depth=5, shared=2),
    Memory(
        "leases",
        drop_leases,
        lambda pool, conn: setattr(pool, "last", None),
        lambda pool, conn: setattr(pool, "last", conn),
        depth=6,
        size=2,
    ),
    Memory(
        "model",
        replacing("_of_model", lambda told: None),
        steps=(Step("discard", (0,)),),
        fault=lambda patch: patch.setattr(Lease, "discard", Lease.release),
    ),
)


ALONE = PoolPolicy(size=1, max_overflow=0, max_waiters=0, max_lifetime=None)
"""Of a pool in which nobody waits: who was served after a wait would have come to the same moment on another way."""


def directed(memory: Memory) -> tuple[type[Any], type[Narrow], dict[str, Any], int]:
    """The pool, its kind of lives, their options and their length."""

    class Directed(Counting):
        def __init__(self, target: Any, **options: Any) -> None:
            hooks = {
                "on_acquire": lambda conn: memory.on_acquire(self, conn) and None,
                "on_release": lambda conn: memory.on_release(self, conn) and None,
            }
            super().__init__(target, **options, **hooks)

    class Short(Narrow):
        chosen = (("acquire", (None,)), ("release", (0,)))

        def options(self, everything: bool = False) -> list[Step]:
            return [*super().options(everything), *memory.steps]

    sizes = attrs.evolve(ALONE, size=memory.size, leases_per_connection=memory.shared)
    return Directed, Short, {"policy": sizes}, memory.depth


@pytest.mark.parametrize("memory", MEMORIES, ids=lambda memory: str(memory.name))
def test_whatever_a_moment_forgot_would_be_noticed(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, exploration finds what walking everything finds; without that part, it does not."""
    memory.fault(monkeypatch)
    pool = directed(memory)
    everything = walked_through(*pool)
    assert explored(*pool) == everything
    memory.lost(monkeypatch)
    assert explored(*pool) != everything


def test_many_lives_of_a_pool_lead_to_one_moment() -> None:
    """Who came and went is forgotten, and so is what only counts."""

    class Usual(Narrow):
        chosen = (*ALWAYS, ("cancel", (0,)), ("lose", (0,)))

    walk = explore(ConnectionPool, depth=5, life=Usual)
    assert walk.violation is None
    assert walk.blind == ()
    assert walk.moments < 0.75 * walk.edges, str(walk)

"""`explore` says "no violation" of nothing that it has not seen: compared with walking everything and merging nothing."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator
from random import uniform
from typing import Any

import pytest
from extent import far

from fsm_conn import Connection, HealthPolicy, RetryPolicy, State, StateMachine, Transition
from fsm_conn.testing import Evidence, Life, explore, exploring, invariant

DEPTH = 4
TRIGGERS = ("a", "b", "c")


class Box:
    """An object of the user's own, in which a counter is hidden."""

    def __init__(self) -> None:
        self.count = 0
        self.inner: dict[str, list[int]] = {"x": [0]}


def machine_of(seed: int) -> type[StateMachine]:
    """A small machine with counters of its own, and guards and effects that read and change them."""
    rng = random.Random(seed)

    def __init__(self: Any) -> None:
        self.number = 0
        self.names = []
        self.marks = {}
        self.seen = set()
        self.box = Box()

    effects: list[Callable[[Any], None]] = [
        lambda self: setattr(self, "number", (self.number + rng_step) % 3),
        lambda self: self.names.append(self.number) if len(self.names) < 3 else self.names.clear(),
        lambda self: self.marks.update({self.state: self.marks.get(self.state, 0) + 1}),
        lambda self: self.seen.add(self.state),
        lambda self: setattr(self.box, "count", self.box.count + 1),
        lambda self: self.box.inner["x"].__setitem__(0, self.box.inner["x"][0] ^ 1),
    ]
    guards: list[Callable[[Any], bool]] = [
        lambda self: self.number == limit,
        lambda self: len(self.names) % 2 == 0,
        lambda self: self.marks.get(self.state, 0) > limit,
        lambda self: len(self.seen) > 1,
        lambda self: self.box.count % 3 == limit,
        lambda self: self.box.inner["x"][0] == 1,
    ]
    rng_step, limit = rng.choice((1, 2)), rng.choice((0, 1, 2))
    methods: dict[str, Any] = {"__init__": __init__}
    for number, effect in enumerate(rng.sample(effects, 2)):
        methods[f"effect_{number}"] = method(effect)
    for number, guard in enumerate(rng.sample(guards, 2)):
        methods[f"guard_{number}"] = method(guard)
    states = ("s", "t", "u")[: rng.choice((2, 3))]
    rows = []
    for source, trigger in itertools.product(states, TRIGGERS):
        if rng.random() < 0.7:
            some = rng.sample(("effect_0", "effect_1"), rng.choice((0, 1, 2)))
            if rng.random() < 0.6:
                rows.append(
                    Transition(trigger, source, rng.choice((*states, None)), guards=f"guard_{rng.randrange(2)}")
                )
            rows.append(Transition(trigger, source, rng.choice((*states, None)), effects=tuple(some)))
    rows.append(Transition("z", states[0], states[-1]))
    methods |= {"states": (State("s", initial=True), *states[1:]), "transitions": tuple(rows)}
    return type(f"Machine{seed}", (StateMachine,), methods)


def method(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same, as a guard or an effect that takes nothing."""
    return lambda self: function(self)


def configuration(machine: Any) -> str:
    """All that there is to a machine."""
    own = (machine.number, machine.names, sorted(machine.marks.items()), sorted(machine.seen), vars(machine.box))
    return f"{machine.state} {own}"


def reached(machine_class: type[StateMachine]) -> dict[str, int]:
    """Every configuration that any sequence of triggers leads to, with the length of the shortest."""
    found: dict[str, int] = {}
    for depth in range(DEPTH + 1):
        for way in sequences(machine_class, depth):
            machine = machine_class()
            for trigger in way:
                machine.fire(trigger)
            found.setdefault(configuration(machine), depth)
    return found


def sequences(machine_class: type[StateMachine], depth: int) -> Iterator[tuple[str, ...]]:
    """All sequences of so many triggers that none refuses."""
    if depth == 0:
        yield ()
        return
    for way in sequences(machine_class, depth - 1):
        machine = machine_class()
        for trigger in way:
            machine.fire(trigger)
        for trigger in machine_class.lifecycle.allowed(machine.state):
            yield (*way, trigger)


@pytest.mark.parametrize("first", range(0, far(170), 50))
def test_exploring_finds_exactly_what_walking_everything_finds(first: int) -> None:
    """Of many machines, 500 of them for a release: a configuration that is reached is found by as few steps, one that is not is not found."""
    for seed in range(first, first + 50):
        machine_class = machine_of(seed)
        known = reached(machine_class)
        last = max(known.values())
        farthest = sorted(each for each, depth in known.items() if depth == last)
        target = random.Random(seed).choice(farthest)
        for goal, depth in ((target, last), ("nowhere", None)):

            @invariant()
            def not_there(life: Evidence, goal: str = goal) -> str | None:
                """It is not there."""
                return "there" if configuration(life.machine) == goal else None

            walk = explore(machine_class, depth=DEPTH, invariants=[not_there])
            assert walk.blind == (), seed
            if depth is None:
                assert walk.proven, (seed, str(walk))
            else:
                assert walk.violation is not None, (seed, goal)
                assert walk.violation.script is not None
                assert len(walk.violation.script.steps) == max(depth, 0), (seed, str(walk.violation))


class Lock(StateMachine):
    """Opens for who has waited for ten seconds; what it keeps can be compared, or not."""

    states = (State("locked", initial=True), State("open"))
    transitions = (
        Transition("try", "locked", "open", guards="is_late", effects="break_down"),
        Transition("try", "locked", None),
    )

    def is_late(self) -> bool:
        """Ten seconds have passed."""
        return asyncio.get_running_loop().time() >= 10

    def break_down(self) -> None:
        """The fault."""
        raise ArithmeticError("too late")


def test_the_hour_matters_where_user_code_reads_the_clock() -> None:
    """Time passes without a timer, by as many seconds as the code names."""
    walk = explore(Lock, depth=3)
    assert walk.violation is not None
    assert walk.violation.script is not None
    assert [str(step) for step in walk.violation.script.steps] == ["life.advance(10.0)", "life.fire('try')"]


class Waits(StateMachine):
    """The hour is asked by an object, not by the machine."""

    states = (State("on", initial=True), State("off"))
    transitions = (Transition("switch", "on", "off", guards="is_due"), Transition("switch", "on", None))

    def __init__(self) -> None:
        self.alarm = Alarm()

    def is_due(self) -> bool:
        """As the alarm says."""
        return self.alarm.is_due()


class Alarm:
    def is_due(self) -> bool:
        """Once a second has passed."""
        return asyncio.get_running_loop().time() > 1


def test_the_hour_matters_where_any_code_reads_the_clock() -> None:
    """It turns out on the way, and the walk begins anew."""
    assert explore(Waits, depth=3).moments > 1


class Counts(StateMachine):
    """Keeps what cannot be compared."""

    states = (State("on", initial=True), State("off"))
    transitions = (Transition("switch", "on", None, effects="count"), Transition("end", "on", "off"))

    def __init__(self) -> None:
        self.numbers = (number for number in itertools.count())

    def count(self) -> None:
        """Take the next number."""
        next(self.numbers)


def test_what_cannot_be_compared_is_named_and_nothing_is_promised() -> None:
    """Neither "all of them" nor "no violation"."""
    walk = explore(Counts, depth=3)
    assert walk.blind == ("numbers (generator)",)
    assert not walk.proven
    text = str(walk)
    assert "merged by state alone: numbers (generator)" in text
    assert text.endswith("no violation found")
    assert "all of them" not in text


class Recalls(Counts):
    """Reads what has ever been."""

    def __init__(self) -> None:
        """Nothing is kept."""

    def count(self) -> None:
        """Look at the last ten."""
        self.last = len(self.history) > 10


def test_where_the_history_is_read_moments_with_another_one_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as there are not too many: then that is told."""
    assert explore(Recalls, depth=2).proven
    monkeypatch.setattr(exploring, "APART", 1)
    assert explore(Recalls, depth=2).blind == ("the past, which Recalls reads",)


class Safe(StateMachine):
    """Opens for one of many numbers."""

    states = (State("shut", initial=True), State("open", final=True))
    transitions = (
        Transition("turn", "shut", "open", guards="is_right"),
        Transition("turn", "shut", None),
    )

    def is_right(self, number: int) -> bool:
        """Of many values a few are tried."""
        return number == 4711


class Switch(Safe):
    """Opens for one of two."""

    def is_right(self, number: bool) -> bool:
        """Both are tried."""
        return number


def test_data_with_more_values_than_can_be_tried_prove_nothing() -> None:
    """Neither "all of them" nor "no violation", and the values that were tried are shown."""
    walk = explore(Safe, depth=2)
    assert walk.complete
    assert not walk.proven
    assert [each.partition("(")[0] for each in walk.sampled] == ["'turn' with number "]
    text = str(walk)
    assert "only some values tried: 'turn' with number (0, " in text
    assert "all of them" not in text
    assert text.endswith("no violation found")


def test_data_of_few_values_are_all_tried() -> None:
    """Those of a short type, and those of a list that the user gave, however long."""
    assert explore(Switch, depth=2).proven
    numbers = [*range(10), 4711]
    walk = explore(Safe, depth=2, data={"turn": {"number": numbers}})
    assert walk.proven, str(walk)
    assert walk.states == {"shut": 1, "open": 1}


class Late(Safe):
    """Asks the clock of the machine that runs it."""

    def is_right(self) -> bool:
        """Whether it is late in the day."""
        return time.localtime().tm_hour > 22


class Lucky(Safe):
    """Asks chance."""

    def is_right(self) -> bool:
        """Whether it is lucky."""
        return uniform(0, 1) > 2


@pytest.mark.parametrize(
    ("owner", "named"),
    [(Late, "the wall clock (time in is_right)"), (Lucky, "chance without a seed (random in is_right)")],
)
def test_who_asks_the_world_outside_is_told_that_it_cannot_be_walked(owner: type, named: str) -> None:
    """Virtual time does not move the wall clock, and no second life finds chance the same."""
    walk = explore(owner, depth=2)
    assert walk.sampled == (named,)
    assert not walk.proven


def test_how_long_a_link_has_been_up_tells_moments_apart() -> None:
    """A loss at once is the second attempt of an outage, one after it was stable the first of another."""
    seen: list[int] = []

    @invariant()
    def note(life: Life) -> str | None:
        """The attempts after a loss."""
        if life.records and life.records[-1].trigger == "lost":
            seen.append(life.records[-1].attempt)
        return None

    walk = explore(Connection, depth=4, invariants=[note], retry=RetryPolicy(stable_after=30.0, jitter="none"))
    assert walk.proven, str(walk)
    assert {1, 2} <= set(seen)


def test_policies_are_part_of_the_walk() -> None:
    """Deadlines, windows and probes, each within reach of the steps."""
    retry = RetryPolicy(max_attempts=None, deadline=8, max_restarts=1, restart_window=20, jitter="none")
    assert explore(Connection, depth=4, retry=retry).proven
    assert explore(Connection, depth=4, health=HealthPolicy(interval=5, timeout=1)).proven


def test_what_was_given_is_not_left_out_of_a_life_again_and_again() -> None:
    """A policy that is given for all lives is an option of each shorter one, too: that makes none of them shorter."""
    lived: list[int] = []

    class Counted(Life):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            lived.append(1)

    @invariant()
    def never_opens(life: Any) -> str | None:
        """No link is open."""
        return "one is open" if life.peer.open_now else None

    walk = explore(Connection, depth=3, life=Counted, invariants=[never_opens], retry=RetryPolicy(max_attempts=1))
    assert walk.violation is not None
    assert walk.violation.script is not None
    assert len(walk.violation.script.steps) == 2
    assert len(lived) < 200


def test_what_happens_long_after_it_came_to_rest_is_waited_for() -> None:
    """A life that ends well ends no sooner than all that was set to happen."""
    seen = explore(Late, depth=3).violation
    assert seen is not None
    assert "five minutes" in seen.message


class Late(Connection):
    """Has a bug that shows five minutes after it was connected."""

    async def while_connected(self) -> str:
        """Wait, and go wrong."""
        link = asyncio.ensure_future(super().while_connected())
        done, _ = await asyncio.wait({link}, timeout=300)
        if not done:
            raise RuntimeError("after five minutes")
        return str(await link)

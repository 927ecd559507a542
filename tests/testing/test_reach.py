"""A default run goes everywhere: all rows, and both outcomes of all guards, of tables that differ in kind."""

from __future__ import annotations

import asyncio
from typing import Annotated

import pytest

from fsm_conn import Fires, State, StateMachine, Transition
from fsm_conn.testing import explore, random_lives


def steps(trigger: str, first: int, last: int, guard: str, effect: str) -> list[Transition]:
    """From each state to the next one if the guard says so; otherwise it stays."""
    onward = [Transition(trigger, f"s{n}", f"s{n + 1}", guards=guard, effects=effect) for n in range(first, last)]
    return [*onward, *(Transition(trigger, f"s{n}", None, effects="miss") for n in range(first, last))]


def twelve(**options: str) -> tuple[State, ...]:
    """Twelve states, the first of which is the initial one."""
    return (State("s0", initial=True), *(State(f"s{n}") for n in range(1, 12)))


class Counting(StateMachine):
    """Each level wants more to have been counted than the one before, and less than too much."""

    states = twelve()
    transitions = (
        *steps("next", 0, 4, "is_even", "count"),
        *steps("next", 4, 8, "is_high", "count"),
        *steps("next", 8, 11, "is_exact", "count"),
        Transition("add", "*", None, effects="count"),
        Transition("reset", "s11", "s0", effects="reset"),
    )
    number = 0

    def is_even(self) -> bool:
        return self.number % 2 == 0

    def is_high(self) -> bool:
        return self.number % 7 > 3

    def is_exact(self) -> bool:
        return self.number % 5 == 3

    def count(self) -> None:
        self.number += 1

    def miss(self) -> None:
        self.number += 1

    def reset(self) -> None:
        self.number = 0


class Data(StateMachine):
    """What a trigger brings decides, and what earlier ones have brought."""

    states = twelve()
    transitions = (
        *steps("give", 0, 4, "is_known", "note"),
        *steps("give", 4, 8, "is_another", "note"),
        *steps("give", 8, 11, "is_the_first", "note"),
        Transition("back", "s11", "s0", effects="forget"),
    )

    def __init__(self) -> None:
        self.given: list[str] = []

    def is_known(self, word: str) -> bool:
        return word in ("a", "b", "c")

    def is_another(self, word: str) -> bool:
        return word != self.given[-1]

    def is_the_first(self, word: str) -> bool:
        return word == self.given[0]

    def note(self, word: str) -> None:
        self.given.append(word)

    def miss(self, word: str) -> None:
        self.missed = word

    def forget(self) -> None:
        self.given = []


class Timed(StateMachine):
    """How long it was in a state decides, and each third state has a limit."""

    states = (
        State("s0", initial=True),
        *(State(f"s{n}", **({"timeout": 10, "on_timeout": "late"} if n % 3 == 0 else {})) for n in range(1, 12)),
    )
    transitions = (
        *steps("next", 0, 4, "has_waited", "count"),
        *steps("next", 4, 8, "is_quick", "count"),
        *steps("next", 8, 11, "is_neither", "count"),
        Transition("late", tuple(f"s{n}" for n in range(3, 12, 3)), "s1"),
        Transition("back", "s11", "s0"),
    )
    number = 0

    def has_waited(self) -> bool:
        return self.snapshot().elapsed >= 1

    def is_quick(self) -> bool:
        return self.snapshot().elapsed < 1

    def is_neither(self) -> bool:
        return 1 < self.snapshot().elapsed < 5

    def count(self) -> None:
        self.number += 1

    def miss(self) -> None:
        self.number += 1


class Working(StateMachine):
    """Activities that fail and are tried again, more often at each level."""

    states = (
        State("s0", initial=True),
        *(State(f"s{n}", on_error="broken", timeout=30, on_timeout="expired") for n in range(1, 10)),
        State("s10"),
        State("s11"),
    )
    transitions = (
        Transition("go", ("s0", "s10"), "s1"),
        *(Transition("done", f"s{n}", f"s{n + 1}", guards=f"level_{n % 3}", effects="forget") for n in range(1, 10)),
        *(Transition("done", f"s{n}", "s11") for n in range(1, 10)),
        *(Transition("broken", f"s{n}", f"s{n}", guards="may_retry", effects="count") for n in range(1, 10)),
        *(Transition("broken", f"s{n}", "s11") for n in range(1, 10)),
        Transition("expired", tuple(f"s{n}" for n in range(1, 10)), "s11"),
        Transition("fault", "*", "s11"),
        Transition("again", "s11", "s0", effects="forget"),
    )
    failures = 0

    def level_0(self) -> bool:
        return self.failures > 1

    def level_1(self) -> bool:
        return self.failures < 2

    def level_2(self) -> bool:
        return self.failures == 1

    def may_retry(self) -> bool:
        return self.failures < 3

    def count(self) -> None:
        self.failures += 1

    def forget(self) -> None:
        self.failures = 0

    async def work(self) -> Annotated[str, Fires("done")]:
        """Work."""
        await asyncio.sleep(1)
        return "done"


for number in range(1, 10):

    async def activity(self: Working) -> Annotated[str, Fires("done")]:
        """Work."""
        return await self.work()

    setattr(Working, f"while_s{number}", activity)


class Nested(StateMachine):
    """Three floors of three rooms, each floor with a key that is found on the one below, and a lift between all."""

    states = (
        State("hall", initial=True),
        *(State(f"{floor}_{room}") for floor in ("low", "mid", "top") for room in ("a", "b", "c")),
        State("roof"),
        State("out", final=True),
    )
    transitions = (
        Transition("enter", "hall", "low_a"),
        *(
            Transition("walk", f"{floor}_{one}", f"{floor}_{other}")
            for floor in ("low", "mid", "top")
            for one, other in ("ab", "bc", "ca")
        ),
        *(
            Transition("take", f"{floor}_c", None, guards="lacks_key", effects="take")
            for floor in ("low", "mid", "top")
        ),
        *(Transition("take", f"{floor}_c", None) for floor in ("low", "mid", "top")),
        *(
            Transition("climb", f"{one}_b", dest, guards="has_key", effects="use")
            for one, dest in (("low", "mid_a"), ("mid", "top_a"), ("top", "roof"))
        ),
        *(Transition("climb", f"{floor}_b", None) for floor in ("low", "mid", "top")),
        Transition("jump", "roof", "out", guards="is_rich"),
        Transition("jump", "roof", "hall"),
    )

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.taken = 0

    def _floor(self) -> str:
        return str(self.state)[:3]

    def lacks_key(self) -> bool:
        return self._floor() not in self.keys

    def has_key(self) -> bool:
        return self._floor() in self.keys

    def is_rich(self) -> bool:
        return self.taken > 3

    def take(self) -> None:
        self.keys.add(self._floor())
        self.taken += 1

    def use(self) -> None:
        self.keys.discard(self._floor())


DATA = {"give": {"word": ["a", "b", "c", "x"]}}


@pytest.mark.parametrize("subject", [Counting, Data, Timed, Working, Nested], ids=lambda each: str(each.__name__))
def test_default_runs_reach_everything(subject: type[StateMachine]) -> None:
    """Every row, and both outcomes of every guard, in a hundred lives; all but one or two of them by any seed."""
    options = {"data": DATA} if subject is Data else {}
    runs = [random_lives(subject, seed=seed, **options) for seed in range(3)]
    for run in runs:
        assert run.violation is None, str(run)
        assert len(run.unreached) <= 3, str(run)
    assert any(not run.unreached for run in runs)


class Twins(StateMachine):
    """Two rows that lead to the same state, the first of which has a guard."""

    states = (State("a", initial=True), State("b"))
    transitions = (
        Transition("take", "a", None, guards="is_new", effects="take"),
        Transition("take", "a", None),
        Transition("go", "a", "b"),
        Transition("back", "b", "a"),
    )
    taken = 0

    def is_new(self) -> bool:
        return not self.taken

    def take(self) -> None:
        self.taken += 1


def test_rows_that_lead_to_the_same_state_are_told_apart() -> None:
    """By the table itself, where a record says no more than where it led."""
    others = Twins.lifecycle.listeners
    assert random_lives(Twins, lives=10).unreached == ()
    assert explore(Twins, depth=4).unreached == ()
    assert Twins.lifecycle.listeners == others

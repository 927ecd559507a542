"""Random lives of a class, by a seed: the same seed gives the same lives, and finds the same.

The steps are chosen where little was seen so far: a step that was often taken in a state is offered less, and every
third life begins as an earlier one that had shown something new. What fails is made as short as it can be.
"""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import attrs

from fsm_conn.testing.lives.checks import ViolationError
from fsm_conn.testing.lives.kinds import life_of
from fsm_conn.testing.lives.living import Living
from fsm_conn.testing.lives.reach import Reach
from fsm_conn.testing.lives.replaying import shortest
from fsm_conn.testing.lives.script import Step
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["Lived", "check_make", "random_lives"]

LIVES, STEPS = 100, 50
RETURNS = 1 / 3
"""The share of lives that begin as an earlier one which had shown something new."""
ARCHIVED = 200
"""So many beginnings are kept."""


@attrs.frozen
class Lived:
    """What was lived.

    Attributes:
        lives: how many there were; when one failed, it was the last of them.
        steps: how many steps they had.
        seed: what they were chosen by.
        complete: whether it was all of them; False when time was up first, or one failed.
        violation: of the life that failed, made as short as it can be; None when there was none.
        shares: how many steps were begun in each state.
        unreached: rows that were never taken, and guards that never refused.
        unjudged: rules that were not applied to the class, each with the reason.
    """

    lives: int
    steps: int
    seed: int
    complete: bool
    violation: ViolationError | None
    shares: Mapping[str, int]
    unreached: tuple[str, ...]
    unjudged: Mapping[str, str]

    def __str__(self) -> str:
        limited = "" if self.complete else ", as far as the limit allowed"
        end = ", the last of which failed" if self.violation else limited
        lines = [f"{self.lives} random lives with seed {self.seed}{end}"]
        lines += [f"not reached: {each}" for each in self.unreached]
        lines += [f"not judged: {name}, for {reason}" for name, reason in self.unjudged.items()]
        return "\n".join(lines)


def random_lives(
    subject: type,
    *,
    lives: int = LIVES,
    steps: int = STEPS,
    seed: int = 0,
    until: float | None = None,
    progress: Callable[[int], None] | None = None,
    life: type[Any] | None = None,
    **options: Any,
) -> Lived:
    """Live at random.

    Args:
        subject: the class under test: a subclass of `StateMachine`, `Connection` or `ConnectionPool`.
        lives: how many.
        steps: of each of them, at most.
        seed: the same seed gives the same lives.
        until: when to stop, by `time.monotonic()`; None: no limit.
        progress: called with the number of lives so far.
        life: the kind of life; by default `Life`, `PoolLife` or `MachineLife`, by the class.
        options: keywords of the life. What is not given of its policies is chosen at random.
    """
    kind = life or life_of(subject, who="random_lives")
    return _Lives(kind, subject, steps, seed, options).run(lives, until, progress or (lambda number: None))


def check_make(subject: type, *, life: type[Any] | None = None, **options: Any) -> None:
    """Make one life, and throw it away: whatever is wrong with making a machine of that class is raised."""
    loop = VirtualLoop()
    try:
        (life or life_of(subject, who="check_make"))(subject, loop=loop, **options).close()
    finally:
        loop.close()


class _Lives:
    def __init__(self, life: type[Any], subject: type, steps: int, seed: int, options: dict[str, Any]) -> None:
        self.life = life
        self.subject = subject
        self.most_steps = steps
        self.seed = seed
        self.options = options
        self.rng = random.Random(seed)  # noqa: S311 - no secret
        self.reach = Reach(subject)
        self.tried: Counter[tuple[str, Step]] = Counter()
        self.shares: Counter[str] = Counter()
        self.unjudged: dict[str, str] = {}
        self.beginnings: list[_Beginning] = []
        self.loop = VirtualLoop()

    def run(self, lives: int, until: float | None, progress: Callable[[int], None]) -> Lived:
        lived, violation = 0, None
        try:
            while lived < lives and violation is None and not (until is not None and time.monotonic() > until):
                violation = self.live()
                lived += 1
                progress(lived)
        finally:
            self.loop.close()
        if violation is not None:
            violation = shortest(violation, **self.options)
        return Lived(
            lived,
            sum(self.shares.values()),
            self.seed,
            violation is None and lived == lives,
            violation,
            dict(self.shares),
            self.reach.unreached() if violation is None and lived else (),
            self.unjudged,
        )

    def live(self) -> ViolationError | None:
        """One life; the violation in it, if there is one."""
        beginning = self._beginning()
        chosen = self.life.random_options(self.rng) if beginning is None else beginning.options
        life: Living = self.life(self.subject, **{"loop": self._fresh_loop(), **chosen, **self.options})
        try:
            self._live(life, beginning)
        except ViolationError as error:
            return error
        finally:
            life.close()
            self.shares.update(life.steps_in)
            self._remember(life, chosen)
        self.unjudged = self.unjudged or life.unjudged()
        return None

    def _live(self, life: Living, beginning: _Beginning | None) -> None:
        for step in () if beginning is None else beginning.steps:
            step.take(life)
        for _ in range(self.most_steps - len(life.script.steps)):
            self._choose(life).take(life)
        getattr(life, self.rng.choice(life.endings))()

    def _choose(self, life: Living) -> Step:
        """A step that is offered: the less often, the more often it was taken in that state."""
        state, tried, offers = life.state, self.tried, life.offers()
        weights = list(accumulate(weight / (4 + tried[state, step]) for step, weight in offers))
        step = offers[min(bisect_right(weights, self.rng.random() * weights[-1]), len(offers) - 1)][0]
        tried[state, step] += 1
        return step

    def _beginning(self) -> _Beginning | None:
        """Where to begin: now and then as a life that had shown something new, the one that was used least."""
        if not self.beginnings or self.rng.random() > RETURNS:
            return None
        found = min(self.beginnings, key=lambda each: each.used)
        found.used += 1
        return found

    def _remember(self, life: Living, chosen: dict[str, Any]) -> None:
        if self.reach.note(life.records) and len(self.beginnings) < ARCHIVED:
            steps = [step for step in life.script.steps if step.name not in life.endings]
            self.beginnings.append(_Beginning(chosen, tuple(steps[: self.most_steps * 2 // 3])))

    def _fresh_loop(self) -> VirtualLoop:
        if self.loop.is_closed():
            self.loop = VirtualLoop()
        self.loop.begin_again()
        return self.loop


@attrs.define
class _Beginning:
    """How a life began that had shown something new."""

    options: dict[str, Any]
    steps: tuple[Step, ...]
    used: int = 0

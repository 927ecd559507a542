"""Random lives of a class, by a seed: the same seed gives the same lives, and finds the same.

Most lives are steered to where little was seen so far, see `archive`; the others are left to chance. What fails is made
as short as it can be.
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

from fsm_conn.testing.archive import MOST, Archive
from fsm_conn.testing.lives.checks import ViolationError
from fsm_conn.testing.lives.collecting import rarely_collected
from fsm_conn.testing.lives.kinds import life_for
from fsm_conn.testing.lives.living import Living
from fsm_conn.testing.lives.machines.surroundings import surrounded
from fsm_conn.testing.lives.reach import Reach
from fsm_conn.testing.lives.replaying import shortest
from fsm_conn.testing.lives.script import Step
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["Lived", "check_make", "random_lives"]

LIVES, STEPS = 100, 50
FEW = 4
"""Steps that are taken in a state that nothing leads out of, before a life ends."""
STEERED = 0.7
"""The share of lives that are steered to where little was seen; the others are left to chance."""


@attrs.frozen
class Lived:
    """The result of `random_lives`.

    Attributes:
        lives: how many lives there were; one that failed was the last.
        steps: how many steps they had altogether.
        seed: their seed.
        complete: whether all lives were run; False when the time limit came first, or one failed.
        violation: that of the failed life, shortened as far as possible; None when there was none.
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
    """Run random lives of a class.

    Args:
        subject: the class under test: a subclass of `StateMachine`, `Connection` or `ConnectionPool`.
        lives: how many lives.
        steps: the largest number of steps of each.
        seed: the same seed gives the same lives.
        until: when to stop, by `time.monotonic()`; None: no limit.
        progress: called with the number of lives so far.
        life: the kind of life; by default `Life`, `PoolLife` or `MachineLife`, by the class.
        options: keywords of the life. Policies that are not given are chosen at random.
    """
    kind = life_for(random_lives, subject, life, options)
    return _Lives(kind, subject, steps, seed, options).run(lives, until, progress or (lambda number: None))


def check_make(subject: type, *, life: type[Any] | None = None, **options: Any) -> None:
    """Make one life, and throw it away: whatever is wrong with making a machine of that class is raised."""
    loop = VirtualLoop()
    try:
        life_for(check_make, subject, life, options)(subject, loop=loop, **options).close()
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
        self.archive = Archive(steps)
        self.shares: Counter[str] = Counter()
        self.unjudged: dict[str, str] = {}
        self.wanted: dict[str, set[str]] = {}
        self.loop = VirtualLoop()

    def run(self, lives: int, until: float | None, progress: Callable[[int], None]) -> Lived:
        lived, violation = 0, None
        try:
            with self.reach.watching(), rarely_collected:
                while lived < lives and violation is None and not (until is not None and time.monotonic() > until):
                    with surrounded:
                        violation = self.live()
                    lived += 1
                    rarely_collected.lived()
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
        steered = self.rng.random() < STEERED
        self.wanted = self.reach.wanted() if steered else {}
        beginning = self.archive.beginning(self.rng, self.wanted) if steered else None
        chosen = self.life.random_options(self.rng) if beginning is None else beginning.options
        life: Living = self.life(self.subject, **{"loop": self._fresh_loop(), **chosen, **self.options})
        try:
            self._live(life, () if beginning is None else beginning.steps, steered, chosen)
        except ViolationError as error:
            return error
        finally:
            life.close()
            self.shares.update(life.steps_in)
            self.reach.note(life.records)
        self.unjudged = self.unjudged or life.unjudged()
        return None

    def _live(self, life: Living, begun: tuple[Step, ...], steered: bool, chosen: dict[str, Any]) -> None:
        for step in begun:
            step.take(life)
        ended = 0
        for _ in range(max(self.most_steps - len(begun), self.most_steps // 2)):
            state = life.state
            ended = ended + 1 if state in self.reach.dead_ends else 0
            if ended > FEW:
                break
            step = self._choose(life, state, steered)
            step.take(life)
            self.archive.note(state, step, life, chosen)
        getattr(life, self.rng.choice(life.endings))()

    def _choose(self, life: Living, state: str, steered: bool) -> Step:
        """A step that is offered: where it is steered, rather one that was seldom taken, or leads to rare states."""
        offers = life.offers()
        if steered:
            worth = self.archive.worth(state)
            chances = [weight * worth.get(step, MOST) for step, weight in offers]
            wanted = self.wanted.get(state)
            if wanted:
                for index, (step, _) in enumerate(offers):
                    if step.arguments and step.arguments[0] in wanted:
                        chances[index] *= MOST
            weights = list(accumulate(chances))
        else:
            weights = list(accumulate([weight for _, weight in offers]))
        return offers[min(bisect_right(weights, self.rng.random() * weights[-1]), len(offers) - 1)][0]

    def _fresh_loop(self) -> VirtualLoop:
        if self.loop.is_closed():
            self.loop = VirtualLoop()
        self.loop.begin_again()
        return self.loop

"""`explore`: every life up to a depth, instead of many at random.

Walks every interleaving of what callers, the peer and time can do, breadth first, so that the first violation found is
also the shortest. Moments that are alike as far as what can follow is concerned are visited once. A life cannot be
copied, so each path is lived from its beginning.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import attrs

from fsm_conn.connection.connection import Connection
from fsm_conn.testing.lives.fingerprint import fingerprint, options, refusals
from fsm_conn.testing.lives.invariants import ViolationError
from fsm_conn.testing.lives.life import Life
from fsm_conn.testing.lives.replaying import take
from fsm_conn.testing.lives.script import Step
from fsm_conn.testing.virtual import VirtualLoop

__all__ = ["Exploration", "explore"]

USERS = 2
"""CallerOracle at a time: two can coalesce, cancel one another's wait and have the last word."""


@attrs.frozen
class Exploration:
    """What was walked.

    Attributes:
        depth: how many steps the longest path had.
        moments: distinct moments that were reached.
        edges: steps that were taken between them.
        steps: steps that were lived, those of the way to each moment included.
        states: how many of the moments are in each state.
        seconds: how long it took.
        complete: whether everything up to the depth was walked; False when a limit was reached first.
        violation: the first one, by a shortest life; None when there was none.
    """

    depth: int
    moments: int
    edges: int
    steps: int
    states: dict[str, int]
    seconds: float
    complete: bool
    violation: ViolationError | None

    def __str__(self) -> str:
        share = ", ".join(f"{state} {count}" for state, count in sorted(self.states.items()))
        end = "all of them" if self.complete else "as far as the limit allowed"
        outcome = "no violation" if self.violation is None else str(self.violation)
        return (
            f"{self.moments} moments and {self.edges} edges up to depth {self.depth}, {end}, in {self.seconds:.1f} s "
            f"({self.steps / max(self.seconds, 1e-9):,.0f} steps/s); moments by state: {share}\n{outcome}"
        )


def explore(
    connection_class: type[Connection],
    *,
    depth: int = 6,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Exploration:
    """Walk every life of `connection_class` up to `depth` steps.

    Args:
        connection_class: the class under test.
        depth: steps of the longest life.
        seconds: of real time, after which to stop; None: no limit.
        progress: called now and then with the depth that is being walked and the moments reached.
        options: keywords of `Life`: the policy, how to make a connection, invariants of your own, ...

    Returns:
        what was walked; with the first violation, if there was one, by a shortest life.
    """
    return _Walk(connection_class, depth, seconds, progress, options).run()


class _Walk:
    def __init__(
        self,
        connection_class: type[Connection],
        depth: int,
        seconds: float | None,
        progress: Callable[[int, int], None] | None,
        options: dict[str, Any],
    ) -> None:
        if depth < 1:
            raise ValueError(f"explore(depth={depth}): give 1 or more")
        self.connection_class = connection_class
        self.depth = depth
        self.limit = None if seconds is None else time.monotonic() + seconds
        self.progress = progress
        self.options = options
        self.known: set[Any] = set()
        self.states: Counter[str] = Counter()
        self.edges = self.steps = 0
        self.complete = True
        self.violation: ViolationError | None = None
        self.loop = VirtualLoop()

    def run(self) -> Exploration:
        try:
            return self._walked()
        finally:
            self.loop.close()

    def _walked(self) -> Exploration:
        began = time.monotonic()
        frontier: deque[tuple[Step, ...]] = deque([()])
        while frontier and self.violation is None and not self._is_over():
            path = frontier.popleft()
            if self.progress is not None and len(frontier) % 100 == 0:
                self.progress(len(path), len(self.known))
            frontier.extend(self._grown(path))
        return Exploration(
            self.depth,
            len(self.known),
            self.edges,
            self.steps,
            dict(self.states),
            time.monotonic() - began,
            self.complete,
            self.violation,
        )

    def _is_over(self) -> bool:
        over = self.limit is not None and time.monotonic() > self.limit
        self.complete = self.complete and not over
        return over

    def _grown(self, path: tuple[Step, ...]) -> list[tuple[Step, ...]]:
        """Live a path to its end, and return those that are longer by one step, if its end is new."""
        try:
            life = self._lived(path)
        except ViolationError as error:
            self.violation = error
            return []
        try:
            return self._onward(life, path)
        finally:
            life.close()
            self.steps += sum(life.steps_in.values())

    def _lived(self, path: tuple[Step, ...]) -> Life:
        life = Life(self.connection_class, **{"loop": self._fresh_loop(), **self.options})
        for index, step in enumerate(path, start=1):
            life.checking = index == len(path)  # what comes before has been checked on the way to other moments
            take(life, step)
        life.checking = True
        self.edges += bool(path)
        return life

    def _fresh_loop(self) -> VirtualLoop:
        """One loop for all lives, as long as none leaves anything behind in it."""
        if self.loop.is_closed():
            self.loop = VirtualLoop()
        self.loop.begin_again()
        return self.loop

    def _onward(self, life: Life, path: tuple[Step, ...]) -> list[tuple[Step, ...]]:
        if life.ended:
            return []
        moment = fingerprint(life)
        if moment in self.known:
            return []
        self.known.add(moment)
        self.states[life.state] += 1
        following = [] if len(path) >= self.depth else [(*path, step) for step in _steps(life)]
        self._end(life)
        return following

    def _end(self, life: Life) -> None:
        """In every moment what cannot happen is refused; and from there the life comes to rest, and leaves nothing."""
        try:
            for trigger in refusals(life):
                life.misfire(trigger, rush=True)
                life.script.steps.pop()  # it has changed nothing, and need not be shown
            life.end()
        except ViolationError as error:
            self.violation = error


def _steps(life: Life) -> list[Step]:
    found = [Step(name, arguments) for name, arguments in options(life, USERS)]
    found.append(Step("loop_ends"))
    timer = life.next_timer()
    return found if timer is None else [*found, Step("advance", (timer,))]

"""`explore`: every life up to a depth, instead of many at random.

Walks every interleaving of what callers, the world and time can do, breadth first, so that the first violation found is
also the shortest. Moments that cannot be told apart by anything that matters later are visited once; what cannot be
compared is named, and so is what has more values than can be tried; then nothing is promised. A life cannot be copied,
so each path is lived from its beginning. Each life serves for one edge: where it leads to a new moment, the life is
brought to its end there. To go on from known moments with edges left would spare a tenth of the steps, and no more.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import attrs

from fsm_conn.testing.lives.checks import ViolationError
from fsm_conn.testing.lives.collecting import rarely_collected
from fsm_conn.testing.lives.kinds import life_for
from fsm_conn.testing.lives.living import Living
from fsm_conn.testing.lives.machines.surroundings import surrounded
from fsm_conn.testing.lives.moments.elsewhere import Elsewhere
from fsm_conn.testing.lives.moments.reading import past_read
from fsm_conn.testing.lives.reach import Reach
from fsm_conn.testing.lives.replaying import shortest
from fsm_conn.testing.lives.script import Step
from fsm_conn.testing.virtual import WatchedLoop

__all__ = ["Exploration", "explore"]


AT_FIRST = Step("advance", (0.0,))
"""Lets what begins by itself begin, before anything else happens: without it, the first moment is not judged."""


APART = 100_000
"""Steps after which moments are one although they have another past, and somebody reads it: some ten seconds."""


@attrs.frozen
class Exploration:
    """The result of `explore`.

    Attributes:
        depth: the length of the longest path, in steps.
        moments: how many distinct moments were reached.
        edges: how many steps between them were taken.
        steps: how many steps were executed, including the way to each moment.
        states: how many of the moments are in each state.
        seconds: how long it took.
        complete: whether every step that was offered was walked up to the depth; False when a limit was reached first.
        violation: the first violation, with a shortest life; None when there was none.
        blind: values that could not be compared: moments that differ only in these were merged.
        sampled: what has more values than were tried: the data of triggers, and the hour where the class reads a clock.
        unreached: rows that were never taken, and guards that never refused.
        unjudged: rules that were not applied to the class, each with the reason.
    """

    depth: int
    moments: int
    edges: int
    steps: int
    states: dict[str, int]
    seconds: float
    complete: bool
    violation: ViolationError | None
    blind: tuple[str, ...] = ()
    sampled: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()
    unjudged: dict[str, str] = attrs.field(factory=dict)

    @property
    def proven(self) -> bool:
        """Whether no life up to the depth can violate an invariant: all were walked, with all data, and none did."""
        return self.complete and not self.blind and not self.sampled and self.violation is None

    def __str__(self) -> str:
        share = ", ".join(f"{state} {count}" for state, count in sorted(self.states.items()))
        end = (
            "as far as the limit allowed" if not self.complete else "" if self.blind or self.sampled else "all of them"
        )
        speed = f"{self.steps / max(self.seconds, 1e-9):,.0f} steps/s"
        reached = f"{self.moments} moments and {self.edges} edges up to depth {self.depth}, {end + ', ' if end else ''}"
        lines = [f"{reached}in {self.seconds:.1f} s ({speed}); moments by state: {share}"]
        lines += [f"merged by state alone: {each}" for each in self.blind]
        lines += [f"only some values tried: {each}" for each in self.sampled]
        lines += [f"not reached: {each}" for each in self.unreached]
        lines += [f"not judged: {name}, for {reason}" for name, reason in self.unjudged.items()]
        if self.violation is not None:
            lines.append(str(self.violation))
        else:
            lines.append("no violation" if self.proven else "no violation found")
        return "\n".join(lines)


def explore(
    subject: type,
    *,
    depth: int = 6,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    life: type[Any] | None = None,
    **options: Any,
) -> Exploration:
    """Walk every life of a class up to `depth` steps.

    Args:
        subject: the class under test: a subclass of `StateMachine`, `Connection` or `ConnectionPool`.
        depth: steps of the longest life.
        seconds: the limit of real time, in seconds; None: no limit.
        progress: called now and then with the current depth and the number of moments.
        life: the kind of life; by default `Life`, `PoolLife` or `MachineLife`, by the class.
        options: keywords of the life: the policy, how to make a machine, invariants of your own, ...

    Returns:
        the result, with the first violation, if any, by a shortest life.
    """
    if depth < 1:
        raise ValueError(f"explore(depth={depth}): give 1 or more")
    kind = life_for(explore, subject, life, options)
    limit = None if seconds is None else time.monotonic() + seconds
    return _Walk(kind, subject, depth, limit, progress, options).run()


@attrs.frozen
class _Path:
    """Steps, and where all but the last of them led when they were lived before."""

    steps: tuple[Step, ...] = ()
    led_to: tuple[str, int] | None = None


class _Walk:
    def __init__(
        self,
        life: type[Any],
        subject: type,
        depth: int,
        limit: float | None,
        progress: Callable[[int, int], None] | None,
        options: dict[str, Any],
    ) -> None:
        self.life = life
        self.subject = subject
        self.depth = depth
        self.limit = limit
        self.progress = progress
        self.options = options
        self.known: set[Any] = set()
        self.blind: set[str] = set()
        self.sampled: set[str] = set()
        self.states: Counter[str] = Counter()
        self.edges = self.steps = 0
        self.complete = True
        self.violation: ViolationError | None = None
        self.unjudged: dict[str, str] = {}
        self.loop = WatchedLoop()
        self.reach = Reach(subject)
        self.elsewhere: Elsewhere | None = None
        self.past: tuple[str, ...] = ()

    def run(self) -> Exploration:
        """Walk; once more from the beginning, when it turns out on the way that the hour matters."""
        began = time.monotonic()
        try:
            while True:
                hour_mattered = self.loop.clock_was_read
                with self.reach.watching(), rarely_collected:
                    self.walk()
                if self.loop.clock_was_read == hour_mattered or self.violation is not None:
                    break
                self.known.clear()
                self.states.clear()
        finally:
            self.loop.close()
        return Exploration(
            self.depth,
            len(self.known),
            self.edges,
            self.steps,
            dict(self.states),
            time.monotonic() - began,
            self.complete,
            self.violation,
            tuple(sorted(self.blind)),
            tuple(sorted(self.sampled)),
            self.reach.unreached() if self.complete else (),
            self.unjudged,
        )

    def walk(self) -> None:
        frontier: deque[_Path] = deque([_Path()])
        while frontier and self.violation is None and not self._is_over():
            path = frontier.popleft()
            if self.progress is not None and len(frontier) % 100 == 0:
                self.progress(len(path.steps), len(self.known))
            with surrounded:
                frontier.extend(self._grown(path))

    def _is_over(self) -> bool:
        over = self.limit is not None and time.monotonic() > self.limit
        self.complete = self.complete and not over
        return over

    def _grown(self, path: _Path) -> list[_Path]:
        """Live a path to its end, and return those that are longer by one step, if its end is new."""
        try:
            life = self._lived(path)
        except ViolationError as error:
            self._found(error)
            return []
        try:
            return self._onward(life, path)
        finally:
            life.close()
            rarely_collected.lived()
            self.steps += sum(life.steps_in.values())

    def _lived(self, path: _Path) -> Living:
        life: Living = self.life(self.subject, **{"loop": self._fresh_loop(), **self.options})
        if self.elsewhere is None:
            self.elsewhere = Elsewhere(life.owners())
            self.past = past_read(life.owners(), self.options.get("invariants", ()))
        self.blind |= self.elsewhere.begin()
        life.checking = self.loop.watches = False  # what comes before was checked on the way to other moments
        for step in path.steps[:-1]:
            step.take(life)
        life.checking = self.loop.watches = True
        if path.steps:
            self._check_that_it_repeats(life, path)
            path.steps[-1].take(life)
            self.edges += 1
        return life

    @staticmethod
    def _check_that_it_repeats(life: Living, path: _Path) -> None:
        here = life.state, len(life.records)
        if path.led_to not in (None, here):
            life.close()
            raise ViolationError(
                "lives_can_be_repeated",
                f"the same steps led to {path.led_to} before, and now to {here} (the state, and transitions so far): "
                "draw chance from a random.Random with a seed, and keep what changes in the object, not in its class",
                life.script,
                tuple(life.records),
            )

    def _fresh_loop(self) -> WatchedLoop:
        """One loop for all lives, as long as none leaves anything behind in it."""
        if self.loop.is_closed():
            read, self.loop = self.loop.clock_was_read, WatchedLoop()
            self.loop.clock_was_read = read
        self.loop.begin_again()
        self.loop.watches = True
        return self.loop

    def _onward(self, life: Living, path: _Path) -> list[_Path]:
        self.reach.note(life.records[path.led_to[1] if path.led_to else 0 :])
        if life.ended:
            return []
        moment, blind = life.fingerprint()
        assert self.elsewhere is not None
        kept, unknown = self.elsewhere.frozen(life.machine)
        moment = (moment, kept, self._past(life), round(self.loop.time(), 6) if self.loop.clock_was_read else None)
        self.blind |= blind | unknown
        if moment in self.known:
            return []
        self.known.add(moment)
        self.states[life.state] += 1
        if not path.steps:
            self.unjudged = life.unjudged()
        here = life.state, len(life.records)
        longer = len(path.steps) < self.depth
        first = [] if path.steps else [AT_FIRST]
        following = [_Path((*path.steps, step), here) for step in (*first, *life.options())] if longer else []
        self.sampled |= life.sampled
        self._end(life)
        return following

    def _past(self, life: Living) -> Any:
        """How it came to this moment, where somebody reads that; as long as there are not too many ways to it."""
        if not self.past:
            return None
        if self.steps > APART:
            self.blind |= {f"the past, which {each} reads" for each in self.past}
            return None
        now = self.loop.time()
        return tuple((each.trigger, each.source, each.dest, round(now - each.at, 6)) for each in life.records)

    def _end(self, life: Living) -> None:
        """In every moment what cannot happen is refused; and from there the life comes to rest, and leaves nothing."""
        try:
            life.try_refusals()
            life.end()
        except ViolationError as error:
            self._found(error)

    def _found(self, error: ViolationError) -> None:
        usual = {key: value for key, value in self.options.items() if key != "loop"}
        self.violation = shortest(error, **usual) if error.invariant != "lives_can_be_repeated" else error

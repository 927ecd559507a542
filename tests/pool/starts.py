"""Random lives of the gate that all starts of plugins pass: some that are well, and many of one that hangs in its start.

The model knows who came when, who was let in and when, and who left. A pool's connections start through this gate,
beside those of all other pools in the process.
"""

from __future__ import annotations

import asyncio
import random

import attrs

from fsm_conn.links.process.start_limiter import QUARTERS, StartLimiter
from fsm_conn.testing import ViolationError, VirtualLoop
from fsm_conn.testing.lives.script import Script

__all__ = ["live"]

PATIENCE = 20.0
QUARTER = PATIENCE / QUARTERS
START = 0.5
"""Seconds that a start takes of what is well."""
WELL, HANGS = ("well", "good"), "hangs"
MOST = 6
"""Starts of what is well, at most, that are under way or wait at a time."""
SLACK = MOST * START + 0.1
BEFORE_IT_IS_KNOWN = 2 * PATIENCE + SLACK
ONCE_IT_IS_KNOWN = 2 * QUARTER + SLACK


@attrs.define(eq=False)
class Start:
    """One start."""

    what: str
    came: float
    """By the loop's clock."""
    hangs: bool
    knew: bool
    """Whether the gate had seen one hang when this one came, and has not forgotten it since."""
    task: asyncio.Task[None] = attrs.field(init=False)
    let_in: float | None = None

    @property
    def waits(self) -> bool:
        """Whether it is still outside."""
        return self.let_in is None and not self.task.done()

    @property
    def is_inside(self) -> bool:
        """Whether it was let in and has not ended."""
        return self.let_in is not None and not self.task.done()


class StartsLife:
    """The gate, and those who pass it."""

    endings = ("end",)

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.loop = VirtualLoop()
        self.capacity = self.rng.choice([1, 2])
        self.gate = StartLimiter(self.capacity, PATIENCE)
        self.starts: list[Start] = []
        self.script = Script(type(self), StartLimiter, {"seed": seed})

    async def _start(self, start: Start) -> None:
        async with self.gate.slot(start.what):
            start.let_in = self.loop.time()
            if start.hangs:
                await self.loop.create_future()
            await asyncio.sleep(START)

    def come(self, what: str, hangs: bool = False) -> Start:
        """Somebody wants to start something."""
        start = Start(what, self.loop.time(), hangs, self._is_known())
        start.task = self.loop.create_task(self._start(start))
        self.starts.append(start)
        return start

    def _is_known(self) -> bool:
        """More are inside than there are slots: a slot was taken back, and what is well does not last so long."""
        return sum(each.is_inside for each in self.starts) > self.capacity

    def take_a_step(self) -> None:
        """At random."""
        rng = self.rng
        step = rng.choice(["well", "well", "well", "hangs", "many", "cancel", "time", "time"])
        if step == "well" and sum(not each.hangs for each in self.starts) < MOST:
            self.come(rng.choice(WELL))
        elif step in ("hangs", "many") and len(self.starts) < 20:
            for _ in range(1 if step == "hangs" else 6):
                self.come(HANGS, hangs=True)
        elif step == "cancel" and self.starts and rng.random() < 0.4:
            rng.choice(self.starts).task.cancel()
        self.advance(rng.choice([0.0, 0.0, 0.3, 2.0, 7.0]))

    def advance(self, seconds: float) -> None:
        """Let time pass, and look."""
        self.loop.advance(seconds)
        self.loop.run_until_blocked()
        for start in self.starts:
            start.knew = start.knew and self._is_known()
        self._judge()
        self.starts = [each for each in self.starts if not each.task.done()]

    # --- the rules ------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        now = self.loop.time()
        inside = [each for each in self.starts if each.is_inside]
        waiting = [each for each in self.starts if each.waits]
        fresh = [each for each in inside if each.let_in is not None and now - each.let_in < QUARTER - 0.01]
        if len(fresh) > self.capacity:
            self._fail("starts_are_limited", f"{len(fresh)} were let in just now, through {self.capacity} slots")
        if waiting and len(inside) < self.capacity:
            self._fail("no_slot_is_lost", f"{len(waiting)} wait, and {len(inside)} are in, of {self.capacity}")
        first = {each.what: each for each in reversed(waiting)}
        passed = [each for each in inside if each.what in first and each.came > first[each.what].came]
        if passed:
            self._fail("starts_are_in_order", f"one of {passed[0].what!r} was let in before one that had come earlier")
        for each in waiting:
            most = ONCE_IT_IS_KNOWN if each.knew else BEFORE_IT_IS_KNOWN
            if not each.hangs and now - each.came > most:
                self._fail("the_gate_is_fair", f"{each.what!r} waits for {now - each.came:g} s beside one that hangs")

    def _fail(self, rule: str, message: str) -> None:
        raise ViolationError(rule, message, self.script)

    def end(self) -> None:
        """What hung is mended: it has its turns as all else. Then all slots are there."""
        for each in self.starts:
            each.task.cancel()
        self.advance(0.0)
        crowd = [self.come("well") for _ in range(2 * self.capacity)]
        mended = self.come(HANGS)
        for _ in range(4 * self.capacity):
            crowd.append(self.come("good"))
        self.loop.advance(4 * START)
        if mended.let_in is None:
            self._fail("the_gate_forgets", "what hung, and was mended, comes after all else")
        self.loop.advance(len(crowd) * START)
        self.loop.run_until_blocked()
        if not all(each.task.done() for each in crowd) or "0 waiting" not in repr(self.gate):
            self._fail("no_slot_is_lost", f"{self.gate} when nothing hangs any more")

    def close(self) -> None:
        """Leave nothing."""
        self.loop.cancel_everything()
        self.loop.close()


def live(seed: int, steps: int = 60) -> None:
    """One random life to its end.

    Raises:
        ViolationError: a rule does not hold.
    """
    life = StartsLife(seed)
    try:
        for _ in range(steps):
            life.take_a_step()
        life.end()
    finally:
        life.close()

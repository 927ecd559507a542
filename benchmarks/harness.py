"""What a step of the test harness costs, and an hour of flapping.

Random lives are those of `lifecycle_test`; `explore` walks the base class. Both check every invariant. Each is compared
with the same lives of a bare connection, in the same run: the same steps, peer and loop, without the harness. The hour
is one of virtual time, in which the link is lost every ten seconds. Times are of this process's CPU.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import attrs

from benchmarks.core import Progress, Row, row_of
from fsm_conn import Connection
from fsm_conn.machine.errors import IllegalTriggerError
from fsm_conn.testing import Life, SimulatedPeer, VirtualLoop, explore, random_lives, run_virtually
from fsm_conn.testing.lives.collecting import rarely_collected
from fsm_conn.testing.lives.connections.life import A_WHILE, PATIENTLY, POLICY, START_TIMEOUT, USERS
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.lives.silenced import silenced

STEPS = 50
HOUR = 3600.0
FLAP = 10.0
CLOCK = (
    "This is no ratio, but the time of a processor whose speed differs by a half from one quarter of an hour to the "
    "next, with what its neighbours do. "
)
LIFE = (
    f"{CLOCK}Three tenths of it are the connection itself with its callers, its peer and the loop, as the next row "
    "measures. A fifth are the rules, of which there are forty; a tenth is the choice of the step, a twelfth the end "
    "of each life, a twentieth an async observer, which takes two tasks for each transition. The rest notes the "
    "steps, drives the loop and judges what each caller is told. A step makes some 540 calls of functions, of which "
    "the costliest takes a thirtieth of the time."
)
WALK = (
    f"{CLOCK}Two fifths of it are the connection itself with its callers, its peer and the loop, as the next row "
    "measures. A third is the way to each moment, relived for every step that leaves it, because a life cannot be "
    "copied, with no rule checked. A fifth makes lives, closes them and collects what they leave; an eighth brings "
    "each new moment to its end; a ninth are the rules, a twelfth each the steps that are new and the comparison of "
    "moments. To go on from moments that are known already would spare a ninth of the lives, and so a seventeenth of "
    "the time."
)


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    rounds = 3 if quick else 15
    lives: list[_Cost] = []
    walks: list[_Cost] = []
    hours = []
    for done in range(rounds):
        progress.at(done, rounds)
        lives.append(_cost(partial(_random_lives, seed=done)))
        walks.append(_cost(_walk))
        hours.append(_hour())
    return [
        row_of(
            [each.step for each in lives],
            name="step of a random life",
            work=f"lives of {STEPS} steps, all invariants checked",
            unit="us",
            goal=80.0,
            why=LIFE,
        ),
        row_of(
            [each.bare for each in lives],
            name="bare step of a random life",
            work="the same lives without the harness: connection, callers, simulated peer, loop",
            unit="% of it",
        ),
        row_of(
            [each.step for each in walks],
            name="step of explore",
            work="the base class, to a depth of 6, all invariants checked",
            unit="us",
            goal=60.0,
            detail="the steps of the way to each moment are counted, too",
            why=WALK,
        ),
        row_of(
            [each.bare for each in walks],
            name="bare step of explore",
            work="the same lives without the harness: connection, callers, simulated peer, loop",
            unit="% of it",
        ),
        row_of(hours, name="an hour of flapping", work=f"a link lost every {FLAP:g} s", unit="s", goal=0.5),
    ]


class _Kept(Life):
    """A life that keeps its script."""

    scripts: ClassVar[list[Script]] = []

    def close(self) -> None:
        if not self._closed:
            self.scripts.append(self.script)
        super().close()


@attrs.frozen
class _Cost:
    step: float
    """Microseconds of a step."""
    bare: float
    """Per cent of it that the same steps take without the harness."""


def _cost(live: Callable[..., Any]) -> _Cost:
    began = time.process_time()
    steps = live(life=Life)
    took = time.process_time() - began
    _Kept.scripts.clear()
    live(life=_Kept)
    began = time.process_time()
    _live_barely(_Kept.scripts)
    return _Cost(took / steps * 1e6, (time.process_time() - began) / took * 100)


def _random_lives(life: type[Life], seed: int) -> int:
    lived = random_lives(Connection, lives=20, steps=STEPS, seed=seed, life=life)
    assert lived.violation is None
    return lived.steps


def _walk(life: type[Life]) -> int:
    return explore(Connection, depth=6, life=life).steps


def _live_barely(scripts: list[Script]) -> None:
    loop = VirtualLoop()
    with silenced, rarely_collected:
        for script in scripts:
            bare = _Bare(script.options, loop)
            for step in script.steps:
                bare.take(step)
            bare.close()
            rarely_collected.lived()
    loop.close()


class _Bare:
    """A connection that takes the steps of a life, and that nobody watches."""

    def __init__(self, options: dict[str, Any], loop: VirtualLoop) -> None:
        loop.begin_again()
        self.loop, self.peer = loop, SimulatedPeer()
        given = {"retry": POLICY, "start_timeout": START_TIMEOUT, **options}
        rng = random.Random(given.pop("seed", 0))
        self.conn = Connection(self.peer, name="life", history=1_000_000, rng=rng, **given)
        self.callers: list[asyncio.Task[Any]] = []

    def take(self, step: Step) -> None:
        """Take a step."""
        self._act(step.name, *step.arguments)
        if not step.rush and step.name != "tick":
            self.loop.run_until_blocked()
        for caller in self.callers:
            if caller.done() and not caller.cancelled():
                caller.exception()
        self.callers = [each for each in self.callers if not each.done()]

    def close(self) -> None:
        """Leave the loop empty."""
        self.peer.attend("close")
        self.loop.cancel_everything()

    def _act(self, name: str, *arguments: Any) -> None:
        if name in ("advance", "tick"):
            getattr(self.loop, name)(*arguments)
        elif name in ("answer", "attend", "neglect", "lose", "go_away"):
            getattr(self.peer, name)(*arguments)
        elif hasattr(self, f"_{name}"):
            getattr(self, f"_{name}")(*arguments)
        elif len(self.callers) < USERS:
            self._begin(self._asked(name))

    def _announce(self, well: bool) -> None:
        self.loop.inside(lambda: self.peer.announce(well))

    def _misfire(self, trigger: str) -> None:
        with suppress(IllegalTriggerError):
            self.loop.inside(lambda: self.conn.fire(trigger))

    def _cancel(self, number: int) -> None:
        for caller in self.callers[number : number + 1]:
            caller.cancel()

    def _loop_ends(self) -> None:
        for task in self.loop.tasks():
            task.cancel()

    def _end(self) -> None:
        self.peer.heal()
        self.loop.advance(A_WHILE)
        self._begin(self.conn.disconnect())
        self.loop.advance(A_WHILE)

    def _asked(self, name: str) -> Coroutine[Any, Any, Any]:
        if name == "call_patiently":
            return self.conn.call("simulated.Call", PATIENTLY, n=1)
        return self.conn.call("simulated.Call", n=1) if name == "call" else getattr(self.conn, name)()

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        self.callers.append(self.loop.create_task(work))


def _hour() -> float:
    began = time.process_time()
    lost = run_virtually(_flapping())
    assert lost == HOUR / FLAP, "a link was not replaced"
    return time.process_time() - began


async def _flapping() -> int:
    peer, loop = SimulatedPeer(), asyncio.get_running_loop()
    peer.script("open", ())
    for what in ("close", "probe", "call"):
        peer.script(what, ())
    async with Connection(peer) as conn:
        end, lost = loop.time() + HOUR, 0
        while loop.time() < end:
            await asyncio.sleep(FLAP)
            await conn.ensure_connected()
            peer.lose()
            lost += 1
    return lost

"""What a step of the test harness costs, and an hour of flapping.

Random lives are those of `lifecycle_test`; `explore` walks the base class. Both check every invariant. The hour is one
of virtual time, in which the link is lost every ten seconds. Times are of this process's CPU.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.core import Progress, Row, row_of
from fsm_conn import Connection
from fsm_conn.testing import SimulatedPeer, explore, random_lives, run_virtually

STEPS = 50
HOUR = 3600.0
FLAP = 10.0
CLOCK = (
    "This is no ratio, but the time of a processor whose speed differs by a half from one quarter of an hour to the "
    "next, with what its neighbours do. "
)
LIFE = (
    f"{CLOCK}Of a step, 45 % is the code under test with its callers, peer and loop; 23 % are the rules, of which "
    "there are forty and none takes a fifth of that; 10 % is the choice of the step. The rest is bookkeeping, and the "
    "end."
)
WALK = (
    f"{CLOCK}A third is the way to each moment, relived for every step that leaves it, because a life cannot be "
    "copied, with no rule checked: six tenths of that are the connection, its peer and the loop. A fifth are the steps "
    "that are new, a seventh brings each new moment to its end, a seventh makes and closes lives, a twelfth compares "
    "moments. The rules are a seventh of it all."
)


def rows(quick: bool, progress: Progress) -> list[Row]:
    """Measure."""
    rounds = 3 if quick else 15
    lives, walks, hours = [], [], []
    for done in range(rounds):
        progress.at(done, rounds)
        lives.append(_random_lives(seed=done))
        walks.append(_walk())
        hours.append(_hour())
    return [
        row_of(
            lives,
            name="step of a random life",
            work=f"lives of {STEPS} steps, all invariants checked",
            unit="us",
            goal=80.0,
            why=LIFE,
        ),
        row_of(
            walks,
            name="step of explore",
            work="the base class, to a depth of 6, all invariants checked",
            unit="us",
            goal=60.0,
            detail="the steps of the way to each moment are counted, too",
            why=WALK,
        ),
        row_of(hours, name="an hour of flapping", work=f"a link lost every {FLAP:g} s", unit="s", goal=0.5),
    ]


def _random_lives(seed: int) -> float:
    began = time.process_time()
    lived = random_lives(Connection, lives=20, steps=STEPS, seed=seed)
    assert lived.violation is None
    return (time.process_time() - began) / lived.steps * 1e6


def _walk() -> float:
    began = time.process_time()
    walked = explore(Connection, depth=6)
    return (time.process_time() - began) / walked.steps * 1e6


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

"""Five minutes of chaos in a cluster of Dask's: plugins, workers and nannies are killed, and at the end the scheduler.

    python -m benchmarks.cluster_chaos [--seconds SECONDS] [--seed N]

Each call has a number of its own, and the plugins write what they execute into a ledger. What callers were told is held
against it: what is not idempotent is executed at most once, "not executed" is said only of what was not, and what is
idempotent is answered, as is all else that no fault has hit. `python -m tests.real.cluster_chaos --seconds SECONDS` is
the same with servers, `fsm-conn serve`, that are killed and ended.

Exit status: 0 when every promise was kept, 1 when one was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import distributed

from fsm_conn import Plugin
from fsm_conn.cluster import ClusterPolicy, ClusterPool, Recipe, ServeLimits
from fsm_conn.cluster.dask import DaskMembers
from tests.real.chaos import ALLOWED, _sent, _Told

NANNIES = 3
PLUGINS = 2
CALLERS = 12
INTERVAL = 1.0
"""Seconds between two faults."""
AFTERWARDS = 10.0
"""Seconds for which calls go on after the scheduler was killed."""
PATIENT = 120.0
Client: Any = distributed.Client
DIARY = Path(__file__).parents[1] / "tests" / "real" / "plugins" / "diary.py"


class Programs:
    """A scheduler, and workers with nannies, each a program of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "scheduler.json"
        self._made = 0
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        self.nannies: list[subprocess.Popen[bytes]] = []

    def _start(self, kind: str, *arguments: str) -> subprocess.Popen[bytes]:
        self._made += 1
        with (self._directory / f"{kind}{self._made}.log").open("wb") as log:
            return subprocess.Popen(
                (
                    *(sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard"),
                    *("--scheduler-file", str(self._file), *arguments),
                ),
                stdout=log,
                stderr=log,
            )

    async def open(self) -> Any:
        """Start all, and return a client."""
        async with asyncio.timeout(PATIENT):
            while not (self._file.exists() and self._file.read_text()):
                await asyncio.sleep(0.1)
            for _ in range(NANNIES):
                self.add_nanny()
            client = await Client(scheduler_file=str(self._file), asynchronous=True)
            await client.wait_for_workers(NANNIES)
            return client

    def add_nanny(self) -> None:
        where = str(self._directory / f"w{self._made}")
        self.nannies.append(self._start("worker", "--nthreads", "1", "--local-directory", where))

    def close(self) -> None:
        for each in (*self.nannies, self.scheduler):
            if each.poll() is None:
                each.kill()
            each.wait()


def _children(pid: int, *, plugins: bool) -> list[int]:
    """The plugins, or the workers, of a nanny."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_bytes()
            if (DIARY.name.encode() in words) if plugins else (b"spawn_main" in words):
                found.append(int(child))
    return found


async def strike(programs: Programs, cluster: ClusterPool, rng: random.Random, done: Counter[str]) -> None:
    """One thing after the other is killed; a nanny only while two others serve, and another takes its place."""
    deck: list[str] = []
    while True:
        await asyncio.sleep(INTERVAL)
        deck = deck or rng.sample(["plugin", "plugin", "worker", "nanny"], 4)
        fault, victim = deck.pop(), rng.choice(programs.nannies)
        if fault == "nanny":
            if cluster.stats()["serving"] < NANNIES * PLUGINS:
                continue
            programs.nannies.remove(victim)
            victim.kill()
            victim.wait()
            done[fault] += 1
            programs.add_nanny()
        elif pids := _children(victim.pid, plugins=fault == "plugin"):
            done[fault] += _sent(rng.choice(pids), signal.SIGKILL)


async def run(directory: Path, seconds: float, seed: int) -> tuple[Counter[str], list[str], list[str]]:
    """Let callers call; return the faults, what callers were told, and the broken promises."""
    diary = directory / "diary"
    diary.touch()
    programs, told, done = Programs(directory), _Told(), Counter[str]()
    plugin = Plugin((sys.executable, str(DIARY)), env={"DIARY": str(diary)})
    recipe = Recipe(plugin=plugin, limits=ServeLimits(announce=0.05))
    is_over = False
    try:
        client = await programs.open()
        members = DaskMembers(client, recipe, per_worker=PLUGINS, interval=1.0)
        policy = ClusterPolicy(slow_start=0.0, wait_timeout=PATIENT)
        async with ClusterPool(members, recipe, policy=policy) as cluster:
            anybody: Any = cluster
            weather = asyncio.create_task(strike(programs, cluster, random.Random(seed), done))
            callers = [asyncio.create_task(told.go_on(anybody, lambda: is_over)) for _ in range(CALLERS)]
            await asyncio.wait((*callers, weather), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            weather.cancel()
            await asyncio.wait((weather,))
            before = len(told._outcomes)
            programs.scheduler.kill()
            done["scheduler"] += 1
            await asyncio.wait(callers, timeout=AFTERWARDS, return_when=asyncio.FIRST_COMPLETED)
            after = len(told._outcomes) - before
            is_over = True
            await asyncio.gather(*callers)
            if not weather.cancelled():
                weather.result()
        await _closed(client)
    finally:
        programs.close()
    executed = Counter(map(int, diary.read_text().split()))
    lines, problems = [f"{after:7} calls ended after the scheduler was killed"], []
    for (kind, answer, times), count in sorted(told.held_against(executed).items()):
        lines.append(f"{count:7} calls, {kind}: told {answer!r}, executed {times} times")
        if times not in ALLOWED[kind].get(answer, ()):
            problems.append(lines[-1].strip())
    if unknown := told.unknown_to(executed):
        problems.append(f"{unknown} executions of what nobody called")
    if missing := {"plugin", "worker", "nanny", "scheduler"} - {*+done}:
        problems.append(f"too short for: {', '.join(sorted(missing))}")
    if after < CALLERS:
        problems.append("calls ended with the scheduler")
    return done, lines, problems


async def _closed(client: Any) -> None:
    """Its scheduler has gone, so it may not find its end by itself."""
    closing = asyncio.ensure_future(client.close(timeout=2))
    await asyncio.wait((closing,), timeout=10)


def main() -> int:
    """Make a run, and show what came of it."""
    parser = argparse.ArgumentParser(description="A cluster of Dask's under kills of everything.")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        done, lines, problems = asyncio.run(run(Path(directory), given.seconds, given.seed))
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, count in sorted(done.items()):
        print(f"{count:7} x killed a {name}")
    print(*lines, *(problems or ["every promise was kept"]), sep="\n")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

"""Five minutes of chaos in a cluster of Dask's: plugins, workers, nannies and the scheduler are killed.

    python -m benchmarks.cluster_chaos [--seconds SECONDS] [--seed N] [--write [FILE]]

It goes in rounds of a minute, each with a cluster of its own. In the last ten seconds of each the scheduler is dead;
nobody can take its place, but calls and kills of plugins go on. Each call has a number of its own, and the plugins
write what they execute into a ledger. What callers were told is held against it: what is not idempotent is executed at
most once, "not executed" is said only of what was not, and what is idempotent is answered, as is all else that no fault
has hit. `python -m tests.real.cluster_chaos --seconds SECONDS` is the same with servers, `fsm-conn serve`, that are
killed and ended.

Exit status: 0 when every promise was kept, 1 when one was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import distributed

from benchmarks.table import machine
from fsm_conn import Plugin
from fsm_conn.cluster import ClusterPolicy, ClusterPool, Recipe, ServeLimits
from fsm_conn.cluster.dask import DaskMembers
from tests.real.ledger import Told, broken_promises, sent

NANNIES = 3
PLUGINS = 2
CALLERS = 12
INTERVAL = 1.0
"""Seconds between two faults."""
ROUND, AFTERWARDS = 60.0, 10.0
"""Seconds of a round, and how many of them are those after the scheduler was killed."""
ENOUGH = 3
"""Connections that serve while one more plugin is killed."""
PATIENT = 120.0
Client: Any = distributed.Client
DIARY = Path(__file__).parents[1] / "tests" / "real" / "plugins" / "diary.py"
PAGE = Path(__file__).with_name("CLUSTER_CHAOS.md")
HEAD = """# Chaos in a cluster

Written by `python -m benchmarks.cluster_chaos`, which the [README](README.md) describes: what the callers of a cluster
of Dask's were told while its plugins, workers, nannies and schedulers were killed, and what the plugins' own ledger
says that they executed.
"""


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


@attrs.define
class Account:
    """What came of all rounds."""

    faults: Counter[str] = attrs.field(factory=Counter)
    calls: Counter[tuple[str, str, int]] = attrs.field(factory=Counter)
    """How many of a kind were told what, and were executed how often."""
    afterwards: Counter[int] = attrs.field(factory=Counter)
    """Calls that ended after the scheduler was killed, of each round."""
    unknown: int = 0
    """Executions of what nobody called."""

    def problems(self) -> Iterator[str]:
        """The promises that were broken."""
        missing = {"plugin", "worker", "nanny", "scheduler"} - {*+self.faults}
        yield from broken_promises(self.calls, self.unknown, missing)
        if min(self.afterwards.values(), default=0) < CALLERS:
            yield "calls ended with the scheduler"

    def page(self, described: Mapping[str, str], run: str) -> str:
        """All of it, as Markdown."""
        problems = [*self.problems()]
        lines = [HEAD, *(f"- {name}: {value}" for name, value in described.items()), f"- run: {run}", ""]
        lines += ["| killed | times |", "|---|--:|", *(f"| {name} | {n} |" for name, n in sorted(self.faults.items()))]
        lines += ["", "| calls | its caller was told | executed | calls of these |", "|---|---|--:|--:|"]
        lines += [f"| {kind} | {told} | {times} x | {n} |" for (kind, told, times), n in sorted(self.calls.items())]
        lines += ["", f"{self.afterwards.total()} of these calls ended while the scheduler was dead.", ""]
        lines += [
            "Every promise was kept." if not problems else "Broken promises:",
            *(f"- {each}" for each in problems),
        ]
        return "\n".join(lines) + "\n"


async def strike(programs: Programs, cluster: ClusterPool, rng: random.Random, done: Counter[str]) -> None:
    """One thing after the other is killed; a nanny only while all serve, and another takes its place.

    All else is killed only while enough serve: on a busy machine plugins would be killed faster than they start. Once
    the scheduler is dead only plugins are killed.
    """
    deck: list[str] = []
    while True:
        await asyncio.sleep(INTERVAL)
        has_scheduler = programs.scheduler.poll() is None
        deck = deck or rng.sample(["plugin", "plugin", "worker", "nanny"], 4)
        fault, victim = deck.pop() if has_scheduler else "plugin", rng.choice(programs.nannies)
        if cluster.stats()["serving"] < (NANNIES * PLUGINS if fault == "nanny" else ENOUGH):
            continue
        if fault == "nanny":
            programs.nannies.remove(victim)
            victim.kill()
            victim.wait()
            done[fault] += 1
            programs.add_nanny()
        elif pids := _children(victim.pid, plugins=fault == "plugin"):
            done[fault] += sent(rng.choice(pids), signal.SIGKILL)


async def run(directory: Path, seconds: float, rng: random.Random, account: Account) -> None:
    """Make one round, and add what came of it to the account."""
    diary = directory / "diary"
    diary.touch()
    programs, told, done = Programs(directory), Told(), account.faults
    plugin = Plugin((sys.executable, str(DIARY)), env={"DIARY": str(diary)})
    recipe = Recipe(plugin=plugin, limits=ServeLimits(announce=0.05))
    is_over = False
    try:
        client = await programs.open()
        members = DaskMembers(client, recipe, per_worker=PLUGINS, interval=1.0)
        policy = ClusterPolicy(slow_start=0.0, wait_timeout=PATIENT)
        async with ClusterPool(members, recipe, policy=policy) as cluster:
            weather = asyncio.create_task(strike(programs, cluster, rng, done))
            callers = [asyncio.create_task(told.go_on(cluster, lambda: is_over)) for _ in range(CALLERS)]
            working = (*callers, weather)
            await asyncio.wait(working, timeout=seconds - AFTERWARDS, return_when=asyncio.FIRST_COMPLETED)
            before = len(told)
            programs.scheduler.kill()
            done["scheduler"] += 1
            await asyncio.wait(working, timeout=AFTERWARDS, return_when=asyncio.FIRST_COMPLETED)
            account.afterwards[len(account.afterwards)] = len(told) - before
            weather.cancel()
            await asyncio.wait((weather,))
            is_over = True
            await asyncio.gather(*callers)
            if not weather.cancelled():
                weather.result()
        await _closed(client)
    finally:
        programs.close()
    executed = Counter(map(int, diary.read_text().split()))
    account.calls += told.held_against(executed)
    account.unknown += told.unknown_to(executed)


async def _closed(client: Any) -> None:
    """Its scheduler has gone, so it may not find its end by itself."""
    closing = asyncio.ensure_future(client.close(timeout=2))
    await asyncio.wait((closing,), timeout=10)


def main() -> int:
    """Make the rounds, and show what came of them."""
    parser = argparse.ArgumentParser(description="A cluster of Dask's under kills of everything.")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE)
    given = parser.parse_args()
    rng, account = random.Random(given.seed), Account()
    described = {name: value for name, value in machine().items() if name != "peers"}
    rounds = max(1, round(given.seconds / ROUND))
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            asyncio.run(run(Path(directory), given.seconds / rounds, rng, account))
    page = account.page(described, f"{rounds} x {given.seconds / rounds:g} s, seed {given.seed}")
    print(page, end="")
    if given.write:
        given.write.write_text(page)
    return bool([*account.problems()])


if __name__ == "__main__":
    sys.exit(main())

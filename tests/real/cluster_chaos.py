"""A cluster of real servers under faults of every kind, and what its callers were told of it, beside the plugins' ledger.

Each server is a program, `fsm-conn serve`, with two plugins. Plugins are killed, servers are killed, and servers are
told to end while calls are under way; whoever is gone is replaced by another one, at another address. A run gives an
`Account`; its `problems()` are the broken promises. The test makes a short run, `python -m tests.real.cluster_chaos
--seconds 300` a long one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path

import attrs

from fsm_conn.cluster import ClusterPolicy, ClusterPool, MemberInfo

from .ledger import Told, broken_promises, sent

__all__ = ["FAULTS", "Account", "run"]

SERVERS = 3
PLUGINS = 2
CALLERS = 12
INTERVAL = 0.5
"""Seconds between two faults."""
LIMIT = 200.0
FAULTS = ("kill a plugin", "kill a server", "end a server")
DIARY = Path(__file__).parent / "plugins" / "diary.py"


@attrs.frozen
class Account:
    """What came of a run."""

    faults: Counter[str]
    calls: Counter[tuple[str, str, int]]
    """How many of a kind were told what, and were executed how often."""
    unknown: int
    """Executions of what nobody called."""

    def problems(self) -> Iterator[str]:
        """The promises that were broken."""
        return broken_promises(self.calls, self.unknown, {*FAULTS} - self.faults.keys())


class Server:
    """One `fsm-conn serve`."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address
        self.is_ending = False

    @classmethod
    async def started(cls, diary: Path) -> Server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fsm_conn", "serve", "--plugins", str(PLUGINS), "--", sys.executable, str(DIARY)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "DIARY": str(diary)},
        )
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), LIMIT)
        except BaseException:  # nobody waits for it any more
            process.kill()
            await process.wait()
            raise
        return cls(process, line.decode().split()[-1])

    @property
    def plugins(self) -> list[int]:
        """The processes of its plugins: those of its children that run them."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*"):
            for pid in (task / "children").read_text().split():
                if DIARY.name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
        return found


class Servers:
    """All of them: a source of members, as a user would write it."""

    def __init__(self, diary: Path) -> None:
        self._diary = diary
        self._all: list[Server] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    async def open(self) -> None:
        await asyncio.gather(*(self._start() for _ in range(SERVERS)))

    async def _start(self) -> None:
        self._all.append(await Server.started(self._diary))
        self._news.set()

    async def watch(self) -> AsyncIterator[Collection[MemberInfo]]:
        """Those that serve; one that is told to end stays until it has hung up by itself."""
        while True:
            self._news.clear()
            yield [MemberInfo(each.address, target=each.address, connections=PLUGINS) for each in self._all]
            await self._news.wait()

    async def strike(self, rng: random.Random, done: Counter[str]) -> None:
        """One thing after the other is done to them; never to the last one that serves."""
        deck: list[str] = []
        while True:
            await asyncio.sleep(INTERVAL)
            serving = [each for each in self._all if not each.is_ending]
            if len(serving) < 2:
                continue
            deck = deck or rng.sample(FAULTS, len(FAULTS))
            fault, victim = deck.pop(), rng.choice(serving)
            if fault == "kill a plugin":
                plugins = victim.plugins
                done[fault] += bool(plugins) and sent(rng.choice(plugins), signal.SIGKILL)
                continue
            victim.is_ending = True
            done[fault] += sent(victim.process.pid, signal.SIGKILL if fault == "kill a server" else signal.SIGTERM)
            replacing = asyncio.create_task(self._replace(victim))
            self._starting.add(replacing)
            replacing.add_done_callback(self._starting.discard)

    async def _replace(self, victim: Server) -> None:
        await victim.process.wait()
        self._all.remove(victim)
        self._news.set()
        await self._start()

    async def close(self) -> None:
        for starting in tuple(self._starting):
            starting.cancel()
        if self._starting:
            await asyncio.wait(tuple(self._starting))
        for each in self._all:
            sent(each.process.pid, signal.SIGTERM)
        await asyncio.gather(*(each.process.wait() for each in self._all))


async def run(directory: Path, seconds: float, seed: int) -> Account:
    """Let callers call for `seconds`, and until every fault has struck; hold what they were told against the ledger."""
    diary = directory / "diary"
    diary.touch()
    servers, told, done = Servers(diary), Told(), Counter[str]()
    loop = asyncio.get_running_loop()
    try:
        await servers.open()
        async with ClusterPool(servers, policy=ClusterPolicy(slow_start=0.0, wait_timeout=LIMIT)) as cluster:
            weather = asyncio.create_task(servers.strike(random.Random(seed), done))
            end = loop.time() + seconds

            def is_over() -> bool:
                return weather.done() or (loop.time() > end and {*FAULTS} <= {*+done})

            await asyncio.gather(*(told.go_on(cluster, is_over) for _ in range(CALLERS)))
            weather.cancel()
            await asyncio.wait((weather,))
            if not weather.cancelled():
                weather.result()
    finally:
        await servers.close()
    executed = Counter(map(int, diary.read_text().split()))
    return Account(done, told.held_against(executed), told.unknown_to(executed))


def main() -> int:
    """Make a long run, and show what came of it."""
    parser = argparse.ArgumentParser(description="A cluster of real servers under faults of every kind.")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        account = asyncio.run(run(Path(directory), given.seconds, given.seed))
    for name, count in sorted(account.faults.items()):
        print(f"{count:6} x {name}")
    for (kind, told, times), count in sorted(account.calls.items()):
        print(f"{count:6} calls, {kind}: told {told!r}, executed {times} times")
    problems = [*account.problems()]
    print(*(problems or ["every promise was kept"]), sep="\n")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

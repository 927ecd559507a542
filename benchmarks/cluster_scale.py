"""A cluster of a thousand members and ten thousand clients, simulated in virtual time.

    python benchmarks/cluster_scale.py [--members N] [--clients N] [--seconds S] [SCENARIO ...]

What runs is the package's own: the table and the counting of members (`MemberLife`), the balancer, the choice of
subsets and the delays of the retry policy. What is simulated is the rest: servers, the network, and connections, which
take as long as is said here. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import random
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from fsm_conn.cluster.calling.balancer import Balancer
from fsm_conn.cluster.membership.info import MemberInfo
from fsm_conn.cluster.membership.member import MemberLife
from fsm_conn.cluster.membership.subset import ranked
from fsm_conn.cluster.membership.table import MEMBER_STATES, MEMBER_TRANSITIONS, MemberState, MemberTrigger
from fsm_conn.cluster.policy import ClusterPolicy
from fsm_conn.machine.table import State
from fsm_conn.testing import run_virtually

NETWORK = 0.0005
"""Seconds from a client to a member, or back."""
CONNECTING = 0.003
"""Seconds for a connection with TLS."""
SERVICE = 0.5
"""Seconds that a plugin works on a call, on average."""
PLUGINS = 2
"""Plugins of a member, each of which works on one call at a time."""
LOAD = 0.6
"""The share of all plugins' time that clients ask for."""
SUBSET = 20
MOST_REPEATS = 3
DEADLINE = 10.0
POLICY = ClusterPolicy(subset=SUBSET)


class Call:
    """One idempotent call of a client."""

    __slots__ = ("began", "client", "is_over", "repeats", "tried", "view")

    def __init__(self, client: Client, began: float) -> None:
        self.client = client
        self.began = began
        self.repeats = 0
        self.tried: list[View] = []
        self.view: View | None = None
        self.is_over = False


class Server:
    """One member, as it is."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.info = MemberInfo(name, target="unix:/simulated")
        self.is_up = True
        self.is_draining = False
        self.slowness = 1.0
        self.views: set[View] = set()
        self.queue: deque[Call] = deque()
        self.working: set[Call] = set()
        self.done = 0

    def take(self, call: Call) -> None:
        if not self.is_up:
            self.world.later(NETWORK, call.client.lost, call)
            return
        self.queue.append(call)
        self._work()

    def _work(self) -> None:
        while self.queue and len(self.working) < PLUGINS:
            call = self.queue.popleft()
            self.working.add(call)
            self.world.later(self.world.rng.expovariate(1 / (SERVICE * self.slowness)), self._finish, call)

    def _finish(self, call: Call) -> None:
        if call in self.working:
            self.working.discard(call)
            self.done += 1
            self.world.later(NETWORK, call.client.answered, call)
            self._work()

    def kill(self) -> None:
        """Die: what is under way is lost."""
        self.is_up = False
        lost = [*self.queue, *self.working]
        self.queue.clear()
        self.working.clear()
        for view in tuple(self.views):
            self.world.later(NETWORK, view.gone)
        for call in lost:
            self.world.later(NETWORK, call.client.lost, call)
        self.views.clear()

    def start(self) -> None:
        self.is_up, self.is_draining = True, False

    def drain(self) -> None:
        """Say that it goes, finish what is under way, and be gone."""
        self.is_draining = True
        for view in tuple(self.views):
            self.world.later(NETWORK, view.gone)
        self.views.clear()


class View(MemberLife):
    """A member as one client sees it: the table of `Member`, without a connection of its own."""

    states: ClassVar[Sequence[State | str]] = MEMBER_STATES
    transitions: ClassVar[Sequence[Any]] = MEMBER_TRANSITIONS

    def __init__(self, client: Client, server: Server) -> None:
        super().__init__(server.info, POLICY, client.moved)
        self.client = client
        self.server = server
        self.attempts = 0
        self.wait = 0.0

    def is_connected(self, reason: BaseException | None) -> bool:
        return True

    def connect(self) -> None:
        world = self.server.world
        world.attempts[int(world.now())] += 1
        world.later(CONNECTING, self._tried)

    def _tried(self) -> None:
        if self._state not in (MemberState.JOINING, MemberState.LOST):
            return
        if self.server.is_up and not self.server.is_draining:
            self.attempts, self.wait = 0, 0.0
            self.server.views.add(self)
            self.fire(MemberTrigger.JOINED if self._state == MemberState.JOINING else MemberTrigger.RETURNED)
            return
        self.attempts += 1
        if self._state == MemberState.JOINING:
            self.fire(MemberTrigger.FAILED)
        self.wait = POLICY.retry.delay(self.attempts, self.wait, self.server.world.rng)
        self.server.world.later(self.wait, self.connect)

    def gone(self) -> None:
        if self._state == MemberState.SERVING:
            self.fire(MemberTrigger.GONE)
            self.server.world.later(self._pause, self.connect)


@functools.cache
def ranking(client: str, members: int) -> list[str]:
    """The members that a client likes best; the same in each scenario."""
    return ranked(client, [f"m{number}" for number in range(members)])[: 4 * SUBSET]


class Client:
    """One client: its subset, its balancer, and its calls."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.ranking = ranking(name, len(world.servers))
        self.views: dict[str, View] = {}
        self.balancer: Balancer[View] = Balancer(POLICY.local_slack, world.rng)
        self.waiting: deque[Call] = deque()
        self.second, self.left = -1, 0

    def begin(self) -> None:
        self.choose()
        self.world.later(self.world.pause(), self.next_call)

    def choose(self) -> None:
        """The first of its ranking, until enough serve; at most a subset of new ones a second, as in `Roster`."""
        serving = 0
        if int(self.world.now()) != self.second:
            self.second, self.left = int(self.world.now()), SUBSET
        for name in self.ranking:
            if serving >= SUBSET:
                break
            view = self.views.get(name)
            if view is None:
                self.left -= 1
                if self.left == -1:
                    self.world.later(1.0, self.choose)
                if self.left < 0:
                    break
                view = self.views[name] = View(self, self.world.servers[name])
                view.connect()
            serving += view.state != MemberState.LOST

    def moved(self, view: View) -> None:
        if view.is_serving:
            self.balancer.add(view, is_local=False)
            while self.waiting:
                self.send(self.waiting.popleft())
        else:
            self.balancer.remove(view)
            self.choose()

    def next_call(self) -> None:
        self.world.offered += 1
        call = Call(self, self.world.now())
        self.world.later(DEADLINE, self.expired, call)
        self.send(call)
        self.world.later(self.world.pause(), self.next_call)

    def send(self, call: Call) -> None:
        if call.is_over:
            return
        view = self.balancer.choose(self.world.now(), call.tried)
        if view is None:
            self.waiting.append(call)
            return
        view.begin()
        call.view = view
        call.tried.append(view)
        self.world.later(NETWORK, view.server.take, call)

    def answered(self, call: Call) -> None:
        if call.view is not None and not call.is_over:
            call.is_over = True
            call.view.end()
            call.view.went_well()
            self.world.answered(call)

    def lost(self, call: Call) -> None:
        if call.is_over or call.view is None:
            return
        call.view.end()
        call.view.went_wrong(ConnectionError())
        call.repeats += 1
        self.world.repeats[int(self.world.now())] += 1
        if call.repeats > MOST_REPEATS:
            call.is_over = True
            self.world.failed[int(self.world.now())] += 1
            return
        self.send(call)

    def expired(self, call: Call) -> None:
        if not call.is_over:
            call.is_over = True
            if call.view is not None:
                call.view.end()
                call.view.went_wrong(TimeoutError())
            self.world.failed[int(self.world.now())] += 1


class World:
    """All of it."""

    def __init__(self, members: int, clients: int, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self.later: Callable[..., object] = self._loop.call_later
        self.now = self._loop.time
        self.servers = {f"m{number}": Server(self, f"m{number}") for number in range(members)}
        self.rate = LOAD * members * PLUGINS / SERVICE / clients
        self.offered = 0
        self.repeats: Counter[int] = Counter()
        self.failed: Counter[int] = Counter()
        self.served: Counter[int] = Counter()
        self.attempts: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.clients = [Client(self, f"c{number}") for number in range(clients)]

    def pause(self) -> float:
        return self.rng.expovariate(self.rate)

    def answered(self, call: Call) -> None:
        self.served[int(self.now())] += 1
        self.latencies.append(self.now() - call.began)


BEGIN = 10.0
"""Seconds at which what a scenario is about begins; by then the slow start is over."""


def outage(world: World) -> None:
    """A third of all members, a zone, is gone for 15 seconds."""
    servers = [*world.servers.values()][::3]
    for server in servers:
        world.later(BEGIN, server.kill)
        world.later(BEGIN + 15, server.start)


def rolling(world: World) -> None:
    """Every member is drained and started again within 25 seconds, and is away for 3 seconds."""
    for number, server in enumerate(world.servers.values()):
        at = BEGIN + 25 * number / len(world.servers)
        world.later(at, server.drain)
        world.later(at + 3, server.start)


def slow(world: World) -> None:
    """A tenth of all members works five times as slowly."""
    for server in [*world.servers.values()][::10]:
        world.later(BEGIN, setattr, server, "slowness", 5.0)


def flapping(world: World) -> None:
    """A tenth of all members dies and is back, every 2 to 6 seconds."""

    def flap(server: Server) -> None:
        server.kill() if server.is_up else server.start()
        world.later(world.rng.uniform(1, 3), flap, server)

    for server in [*world.servers.values()][::10]:
        world.later(BEGIN + world.rng.uniform(0, 3), flap, server)


def herd(world: World) -> None:
    """All members are gone for 10 seconds, and are back in the same moment."""
    for server in world.servers.values():
        world.later(BEGIN, server.kill)
        world.later(BEGIN + 10, server.start)


def steady(world: World) -> None:
    """Nothing happens."""


SCENARIOS = {each.__name__: each for each in (steady, outage, rolling, slow, flapping, herd)}


async def lived(name: str, members: int, clients: int, seconds: int) -> str:
    """A row of the table."""
    started = time.process_time()
    world = World(members, clients)
    for client in world.clients:
        client.begin()
    SCENARIOS[name](world)
    await asyncio.sleep(BEGIN)
    before = {server: server.done for server in world.servers.values()}
    world.latencies.clear()
    await asyncio.sleep(seconds)
    begin, end = int(BEGIN), int(BEGIN) + seconds
    rate = world.rate * clients
    worst = min(range(begin, end), key=lambda second: world.served[second])
    done = sorted(server.done - before[server] for server in world.servers.values() if server.is_up)
    percentiles = statistics.quantiles(world.latencies, n=1000)
    cells = [
        name,
        f"{rate:,.0f}",
        f"{min(world.served[worst] / rate, 1.0):.0%}",
        _recovered(world, begin, end, rate),
        f"{max((world.repeats[second] for second in range(begin, end)), default=0):,}",
        f"{sum(world.failed[second] for second in range(begin, end)) / (rate * seconds):.2%}",
        f"{percentiles[499] * 1000:.0f} / {percentiles[989] * 1000:.0f} ms",
        f"{done[-1] / statistics.fmean(done):.2f}",
        f"{max(world.attempts[second] for second in range(begin, end)):,}",
        f"{time.process_time() - started:.0f} s",
    ]
    return "| " + " | ".join(cells) + " |"


def _recovered(world: World, begin: int, end: int, rate: float) -> str:
    """Seconds from the worst second until as much is answered as is asked for, and goes on to be."""
    low = [second for second in range(begin, end) if world.served[second] < 0.95 * rate]
    return "-" if not low else "not" if low[-1] == end - 1 else f"{low[-1] + 1 - low[0]} s"


HEAD = (
    "scenario | calls/s asked for | answered in the worst second | seconds below 95 % | repeats/s, most | failed "
    "| latency p50 / p99 | busiest member / mean | connects/s, most | CPU"
)


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; by default all")
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=35)
    given = parser.parse_args()
    print(f"| {HEAD} |\n|{'---|' * len(HEAD.split('|'))}", flush=True)
    for name in given.scenarios or SCENARIOS:
        print(run_virtually(lived(name, given.members, given.clients, given.seconds)), flush=True)


if __name__ == "__main__":
    main()

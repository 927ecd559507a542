"""Random lives of a `DriverPool` over a simulated driver, which does one thing at a time, as most drivers do.

The driver and its users write down what happens to them; the rules are compared with that after every step. What holds
for every pool is judged by `PoolLife`; here stands only what a driver adds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from fsm_conn import (
    Connection,
    DriverLink,
    DriverPool,
    FsmConnError,
    HealthPolicy,
    PoolPolicy,
    PoolTimeoutError,
    RetryPolicy,
)
from fsm_conn.connection.table import Trigger
from fsm_conn.testing import ViolationError, VirtualLoop
from fsm_conn.testing.lives.script import Script
from fsm_conn.testing.lives.silenced import SilencedLogs

__all__ = ["live"]

HEALTH = HealthPolicy(interval=5.0, timeout=1.0, failure_threshold=2)
RETRY = RetryPolicy(max_attempts=3, initial_delay=1.0, max_delay=4.0)
POLL = 0.5
SLACK = 0.01
"""Seconds by which a deadline may be missed, because timers are no finer."""
USERS = 5
HEALED = 60.0
"""Seconds in which a database that is well again is connected to everywhere."""

_silenced = SilencedLogs("fsm_conn", "fsm_conn.status", "fsm_conn.pool", "asyncio")


class DriverError(Exception):
    """Raised by the driver for everything. It is neither an `OSError` nor known to anybody else."""


class Driver:
    """A driver's connection to the database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.doing = ""
        self.closes = 0
        self.is_dirty = self.is_torn = self.is_mute = self.is_sick = False
        self.lost_at: float | None = None
        self.tell: Callable[[], None] = lambda: None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.free_at = now()
        """When it ended what it did last."""

    def lose(self) -> None:
        """From now on it is of no use, and says so."""
        self.lost_at = now() if self.lost_at is None else self.lost_at
        self.end()
        self.tell()

    def end(self) -> None:
        """What it does now fails."""
        if not self.gone.done():
            self.gone.set_result(None)

    async def query(self, seconds: float) -> None:
        """Leave something behind that must be cleaned up."""
        self.is_dirty = True
        await self.do("a query", seconds)

    async def do(self, what: str, seconds: float) -> None:
        """One exchange with the database."""
        if self.doing:
            self.database.note("one_thing_at_a_time", f"{what} began during {self.doing}")
        if self.is_torn:
            self.database.note("what_was_cut_off_is_not_used", f"{what} began after an exchange that was cut off")
        self.doing = what
        try:
            await asyncio.wait((self.gone,), timeout=None if self.is_mute else seconds)
        except asyncio.CancelledError:
            self.is_torn = True
            raise
        finally:
            self.doing, self.free_at = "", now()
        if self.gone.done():
            raise DriverError("the connection has gone")

    async def close(self) -> None:
        """End it, whatever it does."""
        is_well = self.lost_at is None and not self.is_mute and not self.is_torn
        if self.doing == "a query" and is_well and not self.database.is_ending:
            self.database.note("queries_are_not_cut", "a connection was closed during a query")
        self.closes += 1
        self.end()


class Database:
    """What the drivers connect to, and the judge's notes."""

    def __init__(self) -> None:
        self.is_well = True
        self.is_ending = False
        self.drivers: list[Driver] = []
        self.wrong: list[tuple[str, str]] = []

    def note(self, rule: str, message: str) -> None:
        """Something must not have happened."""
        self.wrong.append((rule, message))

    async def connect(self) -> Driver:
        """A new connection."""
        await asyncio.sleep(0.2)
        if not self.is_well:
            raise DriverError("the database is down")
        self.drivers.append(Driver(self))
        return self.drivers[-1]


class Told(DriverLink[Driver]):
    """A link whose driver calls back when its connection is lost."""

    database: Database

    async def connect(self) -> Driver:
        driver = await self.database.connect()
        driver.tell = self.mark_lost
        return driver

    async def ping(self, driver: Driver) -> None:
        await driver.do("a ping", 0.3)
        if driver.is_sick:
            raise DriverError("the database is read only")


class Polled(Told):
    """A link whose driver must be asked whether its connection is lost."""

    poll_interval = POLL

    async def connect(self) -> Driver:
        return await self.database.connect()

    def is_lost(self, driver: Driver) -> bool:
        return driver.lost_at is not None


async def clean(link: Any, driver: Driver) -> None:
    """The `reset` of links whose drivers can be cleaned up."""
    driver.is_torn = False
    await driver.do("a reset", 0.1)
    driver.is_dirty = False


async def check(conn: Connection) -> None:
    """The `on_acquire` of pools that have one."""
    link: Any = conn.link
    await link.driver.do("a check", 0.1)


class DriverLife:
    """A pool of one to three drivers, and its users."""

    endings = ("end",)

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.loop = VirtualLoop()
        self.database = Database()
        self.cleans = self.rng.random() < 0.5
        own = {"database": self.database, **({"reset": clean} if self.cleans else {})}
        link: Any = type("Link", (self.rng.choice([Told, Polled]),), own)
        policy = PoolPolicy(size=self.rng.choice([1, 2, 3]), replacement=RetryPolicy(max_attempts=None, max_delay=4.0))
        self.script = Script(type(self), DriverPool, {"seed": seed})
        self.checks = self.rng.random() < 0.3
        options: dict[str, Any] = {"on_acquire": check} if self.checks else {}
        options |= {"retry": RETRY, "health": HEALTH, "rng": random.Random(seed), "name": "pool"}
        self.pool: DriverPool[Driver] = self.loop.inside(lambda: DriverPool(link, policy=policy, **options))
        self.pool.on_connection(self._watch)
        self.users: list[asyncio.Task[Any]] = []
        self.cancelled: set[asyncio.Task[Any]] = set()
        self.leased: list[Driver] = []

    def _watch(self, conn: Connection) -> None:
        def see(record: Any) -> None:
            if record.trigger == Trigger.FAULT:
                self.database.note("errors_of_a_driver_are_outages", f"a connection has a bug: {record.reason!r}")

        conn.on_transition(see)

    # --- what users do ----------------------------------------------------------------------------------------

    async def use(self, seconds: float, then: str, timeout: float = 30.0) -> None:
        """Lease a driver for a query, and end the lease in one of several ways."""
        until = now() + timeout
        try:
            async with (lease := self.pool.acquire(timeout)) as driver:
                self._in_time(until, timeout)
                self._leased(driver)
                try:
                    await driver.query(seconds)
                    if then == "mark":
                        await self._marked(driver, lease)
                finally:
                    self.leased.remove(driver)
                if then == "discard":
                    driver.lost_at = now() if driver.lost_at is None else driver.lost_at
                    lease.discard()
        except PoolTimeoutError:
            self._in_time(until, timeout)
            raise

    def _in_time(self, until: float, timeout: float) -> None:
        if now() > until + SLACK and (timeout or not self.checks):  # only `on_acquire` takes its time
            self.database.note("deadlines_are_kept", f"an acquire ended {now() - until:g} s beyond its deadline")

    def _leased(self, driver: Driver) -> None:
        self.leased.append(driver)
        if driver.is_dirty and self.cleans:
            self.database.note("leases_begin_clean", "a driver was leased that was not reset")
        if driver.lost_at is not None and now() > driver.lost_at + 2 * POLL:
            self.database.note("what_is_lost_is_not_leased", "a driver was leased long after it had been lost")

    async def _marked(self, driver: Driver, lease: Any) -> None:
        """The user has seen that the connection is of no use, and says so."""
        driver.lost_at = now()
        driver.end()
        lease.lease.connection.link.mark_lost()
        await asyncio.sleep(1.0)
        if lease.is_held:
            self.database.note("what_is_marked_lost_is_lost", "the lease of a link that was marked lost is held")

    def take_a_step(self) -> None:
        """At random."""
        rng, drivers = self.rng, [each for each in self.database.drivers if not each.closes]
        step = rng.choice(["use", "use", "call", "advance", "advance", "advance", "lose", "mute", "down", "cancel"])
        if step == "use" and len(self.users) < USERS:
            seconds, then = rng.choice([0.0, 0.5, 3.0, 20.0]), rng.choice(["", "", "", "mark", "discard"])
            self._begin(self.use(seconds, then, rng.choice([0.0, 0.2, 30.0, 30.0, 30.0])))
        elif step == "call" and len(self.users) < USERS:
            self._begin(self.pool.call("do", what="a query", seconds=rng.choice([0.1, 8.0])))
        elif step == "lose" and drivers:
            self.loop.inside(rng.choice(drivers).lose)
        elif step == "mute" and drivers and rng.random() < 0.5:
            setattr(rng.choice(drivers), rng.choice(["is_mute", "is_sick"]), True)
        elif step == "cancel" and self.users:
            self.cancelled.add(task := rng.choice(self.users))
            task.cancel()
        elif step == "down":
            self.database.is_well = not self.database.is_well
        self._advance(rng.choice([0.0, 0.1, 0.5, 2.0, 6.0]))

    def _begin(self, work: Any) -> None:
        self.users.append(self.loop.create_task(work))

    # --- how it is judged ----------------------------------------------------------------------------------------

    def _advance(self, seconds: float) -> None:
        with _silenced:
            self.loop.advance(seconds)
            self.loop.run_until_blocked()
        for task in [each for each in self.users if each.done()]:
            self.users.remove(task)
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            known = (DriverError, FsmConnError, *((asyncio.CancelledError,) if task in self.cancelled else ()))
            if error is not None and not isinstance(error, known):
                self.database.note("errors_are_ours", f"a user was told {error!r}")
        self._judge()

    def _judge(self) -> None:
        for driver in [each for each in self.database.drivers if not each.closes]:
            since = self.loop.time() - driver.free_at
            if driver not in self.leased and not driver.doing and since > HEALTH.interval + HEALTH.timeout:  # type: ignore[operator]
                self.database.note("who_is_idle_is_probed", f"a driver was not asked for {since:g} s")
            if driver.lost_at is not None and self.loop.time() > driver.lost_at + 2 * POLL and not driver.doing:
                self.database.note("what_is_lost_is_closed", "a driver is open long after it was lost")
        if any(driver.closes > 1 for driver in self.database.drivers):
            self.database.note("each_is_closed_once", "a driver was closed twice")
        if self.database.wrong:
            raise ViolationError(*self.database.wrong[0], self.script)

    def open(self) -> None:
        """Have the pool opened."""
        self._begin(self.pool.initialize())
        self._advance(5.0)

    def end(self) -> None:
        """The database is well again: so is the pool. Then it is closed."""
        self.database.is_well = True
        for driver in self.database.drivers:
            if driver.is_mute and not driver.closes:
                self.loop.inside(driver.lose)
        self._advance(HEALED)
        if len([slot for slot in self.pool.slots if slot.in_service]) < self.pool.policy.size:
            self.database.note("all_come_back", f"{self.pool.slots}, long after the database was well again")
        for _ in self.pool.slots:
            self._begin(self.use(0.5, ""))
        self._advance(30.0)
        if self.users:
            self.database.note("nobody_waits_in_vain", f"{len(self.users)} users wait, and the database is well")
        self.database.is_ending = True
        self._begin(self.pool.close_all())
        self._advance(60.0)
        if any(not driver.closes for driver in self.database.drivers):
            self.database.note("all_are_closed", "a driver is open, and the pool is closed")
        self._judge()

    def close(self) -> None:
        """Leave nothing."""
        with _silenced:
            self.loop.cancel_everything()
            self.loop.close()


def now() -> float:
    return asyncio.get_running_loop().time()


def live(seed: int, steps: int = 40) -> None:
    """One random life to its end.

    Raises:
        ViolationError: a rule does not hold.
    """
    life = DriverLife(seed)
    try:
        life.open()
        for _ in range(steps):
            life.take_a_step()
        life.end()
    finally:
        life.close()

"""Pools of drivers' own objects: a driver may know of a loss before the pool does."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fsm_conn import (
    ConnectFailedError,
    Connection,
    ConnectionLostError,
    ConnectionPool,
    DriverLink,
    DriverPool,
    HealthPolicy,
    LinkError,
    PoolPolicy,
    PoolTimeoutError,
)

from .conftest import PLAIN, now, settled


class Database:
    """As a driver's connection: when the server ends it, calls fail at once, and its listener is told turns later."""

    def __init__(self, link: DriverLink[Any]) -> None:
        self.link = link
        self.is_dead = False
        self.ran: list[str] = []

    async def run(self, statement: str) -> str:
        await asyncio.sleep(0)
        if self.is_dead:
            raise ValueError("connection is closed")
        self.ran.append(statement)
        return statement

    def die(self) -> None:
        """The server ends it."""
        self.is_dead = True

        def turn(left: int) -> None:
            if left:
                asyncio.get_running_loop().call_soon(turn, left - 1)
            else:
                self.link.mark_lost()

        turn(4)

    async def close(self) -> None:
        self.is_dead = True


made: list[Database] = []


class DatabaseLink(DriverLink[Database]):
    async def connect(self) -> Database:
        made.append(Database(self))
        return made[-1]

    async def ping(self, driver: Database, /) -> None:
        await driver.run("ping")


class CleanLink(DatabaseLink):
    async def reset(self, driver: Database, /) -> None:
        await driver.run("reset")


@pytest.fixture(autouse=True)
def none_made() -> None:
    made.clear()


@pytest.mark.parametrize("link", [DatabaseLink, CleanLink])
@pytest.mark.parametrize("how", ["block", "release"])
async def test_who_comes_after_a_lost_lease_gets_another_link(link: Any, how: str, caplog: Any) -> None:
    """At once, too: the error of the driver comes before the news that its connection is lost. One log line tells it."""
    async with DriverPool(link, 1, 0, name="pool", retry=PLAIN) as pool:
        with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="connection is closed"):
            if how == "block":
                async with pool.acquire() as db:
                    db.die()
                    await db.run("UPDATE")
            else:
                lease = pool.acquire()
                db = await lease
                try:
                    db.die()
                    await db.run("UPDATE")
                finally:
                    lease.release()
        async with pool.acquire(timeout=60) as db:
            assert db is made[1]
            assert await db.run("SELECT") == "SELECT"
        (line,) = caplog.messages
        assert "lost after" in line


async def test_a_call_is_told_of_the_loss_that_broke_it() -> None:
    """Rather than of what the driver says to that; and who calls after it has another link."""
    async with ConnectionPool(DatabaseLink, 1, 0, name="pool", retry=PLAIN) as pool:
        with pytest.raises(ConnectionLostError, match="run: the link was lost: ValueError: connection is closed"):
            async with pool.acquire() as lease:
                made[0].die()
                await lease.call("run", "UPDATE")
        async with pool.acquire(timeout=60) as lease:
            assert await lease.call("run", "SELECT") == "SELECT"


async def test_a_call_after_the_loss_was_not_sent() -> None:
    """Nothing has executed it, and it says so."""
    async with Connection(DatabaseLink, retry=PLAIN) as conn:
        link: Any = conn.link
        link.mark_lost()
        with pytest.raises(ConnectionLostError, match="DatabaseLink is lost") as caught:
            await conn.call("run", "UPDATE")
        assert not caught.value.maybe_executed
        assert made[0].ran == []


async def test_a_method_that_the_driver_does_not_have_is_no_use_of_it() -> None:
    """The driver is still probed afterwards."""
    async with Connection(DatabaseLink, retry=PLAIN) as conn:
        link: Any = conn.link
        with pytest.raises(AttributeError):
            await conn.call("missing")
        assert link.users == 0
        assert await link.probe()


async def test_a_check_of_a_link_that_was_lost_is_no_failure_of_the_check(caplog: Any) -> None:
    """The log tells of the loss only."""

    async def check(conn: Connection) -> None:
        link: Any = conn.link
        await link.driver.run("SELECT 1")

    async with DriverPool(DatabaseLink, 1, 0, name="pool", retry=PLAIN, on_acquire=check) as pool:
        await settled()
        made[0].die()
        with caplog.at_level(logging.WARNING):
            async with pool.acquire(timeout=60) as db:
                assert db is made[1]
        (line,) = caplog.messages
        assert "lost after" in line


async def test_a_clean_up_that_fails_a_moment_before_the_loss_is_no_failure(caplog: Any) -> None:
    """The last words of a server arrive before the end of its connection does."""

    class Dying(CleanLink):
        async def reset(self, driver: Database, /) -> None:
            asyncio.get_running_loop().call_later(0.01, driver.link.mark_lost)
            raise ValueError("terminating connection due to administrator command")

    async with DriverPool(Dying, 1, 0, name="pool", retry=PLAIN) as pool:
        with caplog.at_level(logging.WARNING):
            lease = pool.acquire()
            await lease
            lease.release()
            async with pool.acquire(timeout=60) as db:
                assert db is made[1]
        assert [text for text in caplog.messages if "failed" in text] == []


@pytest.mark.parametrize("timeout", [None, 5.0])
async def test_links_that_are_lost_as_they_are_leased_do_not_move_the_deadline(timeout: float | None) -> None:
    """Neither the caller's nor the policy's."""

    class Dying(DatabaseLink):
        async def begin_use(self) -> Database:
            self.mark_lost()
            return await super().begin_use()

    policy = PoolPolicy(size=1, max_overflow=0, acquire_timeout=5.0)
    async with DriverPool(Dying, name="pool", policy=policy, retry=PLAIN) as pool:
        began = now()
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout)
        assert now() - began == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("timeout", [None, 2.0])
async def test_a_probe_that_hangs_does_not_move_the_deadline(timeout: float | None) -> None:
    """A driver does one thing at a time, so whoever leases it waits until a probe has ended, but not for longer."""

    class Mute(DatabaseLink):
        async def ping(self, driver: Database, /) -> None:
            await asyncio.sleep(1000)

    policy = PoolPolicy(size=1, max_overflow=0, acquire_timeout=2.0)
    health = HealthPolicy(interval=1.0, timeout=30.0)
    async with DriverPool(Mute, name="pool", policy=policy, retry=PLAIN, health=health) as pool:
        await asyncio.sleep(5)
        began = now()
        with pytest.raises(PoolTimeoutError, match="within 2 s"):
            await pool.acquire(timeout)
        assert now() - began == pytest.approx(2, abs=0.1)
        stats = pool.get_pool_stats()
        assert (stats["stats"]["timeouts"], stats["leased"], stats["available_in_pool"]) == (1, 0, 0)


class Muted(DatabaseLink):
    """The ping of the first one hangs."""

    async def ping(self, driver: Database, /) -> None:
        if driver is made[0]:
            await asyncio.sleep(1000)


PROBED = HealthPolicy(interval=1.0, timeout=30.0, failure_threshold=1)


@pytest.mark.parametrize("timeout", [0.0, 0.01])
async def test_a_small_timeout_does_not_wait_for_a_probe(timeout: float) -> None:
    """Who does not wait is told at once, and when the probe is over everything is as before."""
    policy = PoolPolicy(size=1, max_overflow=0)
    async with DriverPool(Muted, name="pool", policy=policy, retry=PLAIN, health=PROBED) as pool:
        await asyncio.sleep(5)
        began = now()
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout)
        assert now() - began == pytest.approx(timeout, abs=0.001)
        stats = pool.get_pool_stats()
        assert (stats["stats"]["timeouts"], stats["leased"]) == (1, 0)
        await asyncio.sleep(40)
        async with pool.acquire(timeout=0) as db:
            assert db is made[1]


@pytest.mark.parametrize("timeout", [0.0, 5.0, None])
@pytest.mark.parametrize("rounds", range(3))
async def test_a_free_driver_comes_before_one_that_is_probed(timeout: float | None, rounds: int) -> None:
    """Whichever of them would have been the next; a call without a lease takes the free one, too."""
    async with DriverPool(Muted, 2, 0, name="pool", retry=PLAIN, health=PROBED) as pool:
        for _ in range(rounds):
            async with pool.acquire():
                pass
        await asyncio.sleep(5)
        began = now()
        assert await pool.call("run", "SELECT 1") == "SELECT 1"
        async with pool.acquire(timeout) as db:
            assert db is made[1]
        assert now() - began < 0.1


async def test_who_waits_for_the_end_of_a_probe_gets_the_driver_that_is_free_first() -> None:
    """A lease that is given back, or the one whose probe has ended."""
    async with DriverPool(Muted, 2, 0, name="pool", retry=PLAIN, health=PROBED) as pool:
        first = pool.acquire()
        while await first is not made[1]:
            first.release()
            await asyncio.sleep(0.7)
            first = pool.acquire()
        await asyncio.sleep(5)
        waiting = asyncio.create_task(pool.acquire().__aenter__())
        await asyncio.sleep(1)
        assert not waiting.done()
        first.release()
        await settled()
        assert waiting.done()


async def test_a_probe_that_takes_long_is_no_capacity() -> None:
    """Overflow is opened beside it, but not for a probe that is answered soon."""
    for seconds, opened in ((0.5, 1), (20.0, 2)):
        made.clear()

        class Slow(DatabaseLink):
            async def ping(self, driver: Database, /, seconds: float = seconds) -> None:
                await asyncio.sleep(seconds)

        async with DriverPool(Slow, 1, 1, name="pool", retry=PLAIN, health=PROBED) as pool:
            await asyncio.sleep(1.2)
            began = now()
            async with pool.acquire():
                assert now() - began < 1.5
            assert len(made) == opened


def busy(seconds: float) -> type[DatabaseLink]:
    """Links of a driver that does one thing at a time, each of which takes so many seconds."""

    class Busy(Database):
        running = 0

        async def run(self, statement: str) -> str:
            assert not self.running, "another operation is in progress"
            self.running += 1
            await asyncio.sleep(seconds)
            self.running -= 1
            return statement

    class BusyLink(DatabaseLink):
        async def connect(self) -> Database:
            made.append(Busy(self))
            return made[-1]

    return BusyLink


async def test_a_driver_is_not_probed_while_on_acquire_checks_it() -> None:
    """It does one thing at a time."""

    async def check(conn: Connection) -> None:
        link: Any = conn.link
        await link.driver.run("SELECT 1")

    health = HealthPolicy(interval=1.0, timeout=30.0)
    async with DriverPool(busy(3.0), 1, 0, name="pool", retry=PLAIN, health=health, on_acquire=check) as pool:
        for pause in (0.5, 1.5, 0.1, 4.5):
            await asyncio.sleep(pause)
            async with pool.acquire():
                pass
        assert len(made) == 1


async def test_a_check_that_fails_is_told(caplog: Any) -> None:
    """Of a link that is not lost."""
    fails = [True]

    async def check(conn: Connection) -> None:
        if fails.pop() if fails else False:
            raise ValueError("read only")

    policy = PoolPolicy(size=1, max_overflow=0)
    async with DriverPool(DatabaseLink, name="pool", policy=policy, retry=PLAIN, on_acquire=check) as pool:
        with caplog.at_level(logging.WARNING):
            async with pool.acquire(timeout=60):
                pass
        assert "on_acquire failed, so its link is replaced" in caplog.text


async def test_calls_through_a_driver_do_not_share_it() -> None:
    """Each has a connection of its own: a free one, one beyond the size, or it waits."""
    async with ConnectionPool(busy(0.1), 2, 1, name="pool", retry=PLAIN) as pool:
        replies = await asyncio.gather(*(pool.call("run", str(number)) for number in range(9)))
        assert replies == [str(number) for number in range(9)]
        assert len(made) == 3


@pytest.mark.parametrize("how", ["method", "attribute"])
async def test_what_the_driver_says_of_itself_counts(how: str) -> None:
    """When it is leased and when it is given back: nobody has to define anything for that."""

    class Method(DatabaseLink):
        async def connect(self) -> Any:
            db = await super().connect()
            vars(db)["is_closed"] = (lambda: db.is_dead) if how == "method" else False
            return db

    async with DriverPool(Method, 2, 0, name="pool", retry=PLAIN) as pool:
        for db in made:
            vars(db)["is_closed" if how == "attribute" else "is_dead"] = True
        async with pool.acquire(timeout=60) as db:
            assert db not in made[:2]
            vars(db)["is_closed" if how == "attribute" else "is_dead"] = True
        async with pool.acquire() as other:
            assert other is not db


async def test_a_lease_that_finds_no_driver_that_lives_keeps_its_deadline() -> None:
    """All connections are lost, and no other is to be had."""

    class Dying(DatabaseLink):
        async def connect(self) -> Any:
            db = await super().connect()
            if len(made) > 2:
                await asyncio.sleep(1000)
            return db

    async with DriverPool(Dying, 2, 0, name="pool", retry=PLAIN) as pool:
        for db in made:
            vars(db)["is_closed"] = True
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout=5)
        assert pool.get_pool_stats()["leased"] == 0


async def test_a_driver_that_cannot_connect_for_good() -> None:
    """Its link says so with a keyword; any other error is retried, and a note of it names the keyword."""

    class Refused(DatabaseLink):
        async def connect(self) -> Database:
            raise LinkError("wrong password", permanent=True)

    class Unknown(DatabaseLink):
        async def connect(self) -> Database:
            raise KeyError("database")

    with pytest.raises(ConnectFailedError, match="wrong password") as caught:
        await Connection(Refused, retry=PLAIN).connect()
    assert caught.value.attempts == 1
    with pytest.raises(ConnectFailedError, match="could not connect: KeyError") as caught:
        await Connection(Unknown, retry=PLAIN).connect()
    assert caught.value.attempts == 2
    assert "permanent=True" in "".join(caught.value.reason.__notes__)  # type: ignore[union-attr]


async def test_the_lease_of_a_driver_is_as_clear_as_any() -> None:
    """In its words, and when it is used wrongly."""
    async with DriverPool(DatabaseLink, 1, 0, name="pool") as pool:
        lease = pool.acquire()
        assert repr(lease) == "<lease of 'pool', not acquired yet>"
        with pytest.raises(TypeError, match="use 'async with pool"), lease:  # type: ignore[attr-defined]
            pass
        with pytest.raises(ValueError, match="timeout=-1"):
            pool.acquire(timeout=-1)

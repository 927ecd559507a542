"""Pools that lease their connections to themselves, later than asked, or not to everybody: no false alarm, no free pass."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fsm_conn import Connection, ConnectionPool
from fsm_conn.testing import PoolLife, random_lives
from fsm_conn.testing.lives.pools.stage import SMALL

LIVES = 12
BY_LEASES = {"unsent_calls_are_repeated": "a call through a lease never is"}


class CallsThroughLeases(ConnectionPool):
    """Nobody else uses a connection while a call goes through it."""

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call, with a lease."""
        async with self.acquire(timeout=3.0) as client:
            return await client.call(method, *args, **fields)


class TriesFirst(ConnectionPool):
    """Has had a lease before anybody is told that it is open."""

    async def initialize(self, *args: Any, **options: Any) -> None:
        """Open it, and try a connection."""
        await super().initialize(*args, **options)
        async with self.acquire(timeout=1.0):
            await asyncio.sleep(0.5)


class KeepsOne(ConnectionPool):
    """Keeps a lease for its own use, as long as it is of use."""

    kept: Any = None

    async def initialize(self, *args: Any, **options: Any) -> None:
        """Open it, and take one."""
        await super().initialize(*args, **options)
        if self.kept is None or not self.kept.is_held:
            old, self.kept = self.kept, await self.acquire(timeout=1.0)
            if old is not None:
                old.release()


class Throttled(ConnectionPool):
    """Lets a caller wait before it asks for a connection."""

    async def acquire(self, timeout: float | None = None) -> Any:  # type: ignore[override]
        """After a while."""
        await asyncio.sleep(0.5)
        return await super().acquire(timeout)


class AsksTwice(ConnectionPool):
    """Tries a connection before it leases one."""

    async def acquire(self, timeout: float | None = None) -> Any:  # type: ignore[override]
        """The second one."""
        async with super().acquire(timeout):
            await asyncio.sleep(0)
        return await super().acquire(timeout)


class ChecksSlowly(ConnectionPool):
    """Has a hook of its own, which takes its time."""

    def __init__(self, target: Any, **options: Any) -> None:
        super().__init__(target, **{**options, "on_acquire": self.check})

    async def check(self, conn: Connection) -> None:
        """Look at it for a while."""
        await asyncio.sleep(0.5)


class Refuses(ConnectionPool):
    """Has a hook of its own, which refuses now and then."""

    asked = 0

    def __init__(self, target: Any, **options: Any) -> None:
        super().__init__(target, **{**options, "on_acquire": self.check})

    def check(self, conn: Connection) -> None:
        """Refuse every third."""
        self.asked += 1
        if self.asked % 3 == 0:
            raise OSError("not this one")


@pytest.mark.parametrize(
    "own",
    [CallsThroughLeases, TriesFirst, KeepsOne, Throttled, AsksTwice, ChecksSlowly, Refuses],
    ids=lambda own: own.__name__,
)
def test_who_uses_its_own_leases_raises_no_alarm(own: type[ConnectionPool]) -> None:
    """The model counts all leases, whoever asks for them."""
    lived = random_lives(own, lives=LIVES, hooks="", targets=1, policy=SMALL, ignore=BY_LEASES)
    assert lived.violation is None, lived.violation


class Forgets(ConnectionPool):
    """Drops a lease, as a hook that was meant to look at a connection may."""

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """Call, with a lease that nobody releases."""
        client = await self.acquire(timeout=3.0)
        return await client.call(method, *args, **fields)


class Mistrusts(ChecksSlowly):
    """Leases what its hook has refused."""

    async def check(self, conn: Connection) -> None:
        """Have a bug."""
        raise KeyError("user")


@pytest.mark.parametrize(("own", "rule"), [(Forgets, "counts_are_equal"), (Mistrusts, "errors_are_ours")])
def test_a_lease_that_a_class_forgets_and_a_bug_of_its_hook_are_found(own: type[ConnectionPool], rule: str) -> None:
    """Its own leases are judged as those of others are."""
    lived = random_lives(own, lives=LIVES, hooks="", targets=1, policy=SMALL, ignore=BY_LEASES)
    assert lived.violation is not None
    assert lived.violation.invariant == rule


def test_a_user_holds_the_lease_that_it_was_given() -> None:
    """And not the one that the class had taken and given back before."""
    life = PoolLife(AsksTwice)
    try:
        life.open()
        life.acquire()
        life.advance(0.5)
        assert [user.is_holding for user in life.users] == [True]
        assert life.pool.get_pool_stats()["leased"] == 1
        life.release()
        assert life.pool.get_pool_stats()["leased"] == 0
        life.end()
    finally:
        life.close()

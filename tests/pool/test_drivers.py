"""A driver does one thing at a time: what is called through it, and what becomes of it when something is cut off."""

from __future__ import annotations

import asyncio

import pytest

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionPool,
    DriverLink,
    DriverPool,
    FsmConnError,
    HealthPolicy,
    LinkLostError,
    PoolPolicy,
)

PATIENT = CallOptions(timeout=10, wait_for_ready=True)


class Wire:
    """A driver that answers each question after a while; what was not read of an answer is read by the next one."""

    def __init__(self) -> None:
        self.unread: list[str] = []
        self.delay = 1.0
        self.asking = 0
        self.is_closed = False

    async def ask(self, question: str) -> str:
        self.unread.append(question)
        self.asking += 1
        assert self.asking == 1, "two questions at a time"
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.asking -= 1
        return self.unread.pop(0)

    def close(self) -> None:
        self.is_closed = True


class WireLink(DriverLink[Wire]):
    """A link to such a one."""

    async def connect(self) -> Wire:
        return Wire()

    async def ping(self, wire: Wire) -> None:
        await wire.ask("ping")


class Cleaned(WireLink):
    """It can be cleaned up."""

    async def reset(self, wire: Wire) -> None:
        wire.unread.clear()


class Busy(WireLink):
    """Its driver does several things at once, and can forget one of them."""

    one_at_a_time = False

    async def connect(self) -> Wire:
        wire = Wire()
        wire.ask = self.ask  # type: ignore[method-assign]
        return wire

    async def ask(self, question: str) -> str:
        await asyncio.sleep(1.0)
        return question


async def test_calls_take_turns() -> None:
    """Two calls through one driver do not cross."""
    async with DriverPool(WireLink, 1) as pool:
        assert await asyncio.gather(pool.call("ask", "one"), pool.call("ask", "two")) == ["one", "two"]
    async with Connection(WireLink) as conn:
        assert await asyncio.gather(conn.call("ask", "one"), conn.call("ask", "two")) == ["one", "two"]


async def test_a_call_waits_for_its_turn_no_longer_than_it_may() -> None:
    """The time of a call is for that, too; and who only waited has cut off nothing."""
    async with DriverPool(WireLink, 1) as pool:
        first = asyncio.ensure_future(pool.call("ask", "one"))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await pool.call("ask", CallOptions(timeout=0.5), "two")
        assert await first == "one"
        assert await pool.call("ask", "three") == "three"


async def test_what_is_cut_off_by_its_time_limit_is_not_read_by_the_next() -> None:
    """The caller is told that its time is up, and the link is replaced."""
    async with Connection(WireLink) as conn:
        before = conn.link
        with pytest.raises(TimeoutError):
            await conn.call("ask", CallOptions(timeout=0.5), "one")
        assert await conn.call("ask", PATIENT, "two") == "two"
        assert conn.link is not before


async def test_nor_what_is_cut_off_because_its_caller_was_cancelled() -> None:
    """Whoever it was."""
    async with Connection(WireLink) as conn:
        first = asyncio.ensure_future(conn.call("ask", "one"))
        await asyncio.sleep(0.5)
        first.cancel()
        assert await conn.call("ask", PATIENT, "two") == "two"


async def test_a_ping_that_is_cut_off_ends_the_link() -> None:
    """Its answer would be that of the next question."""
    health = HealthPolicy(interval=5.0, timeout=0.5, failure_threshold=3)
    async with DriverPool(WireLink, 1, health=health) as pool:
        async with pool.acquire() as slow:
            pass
        await asyncio.sleep(7)
        assert slow.is_closed
        async with pool.acquire(10) as wire:
            assert wire is not slow
            assert await wire.ask("one") == "one"


async def test_who_waits_for_a_ping_that_is_cut_off_is_told() -> None:
    """He gets no driver of unknown state; a call is sent through the next one."""
    link = WireLink()
    await link.open()
    link.driver.delay = 3600
    ping = asyncio.ensure_future(link.probe())
    await asyncio.sleep(0)
    use = asyncio.ensure_future(link.begin_use())
    await asyncio.sleep(0)
    ping.cancel()
    with pytest.raises(LinkLostError, match="WireLink is lost"):
        await use
    assert link.users == 0
    assert "a ping was cut off" in str(await link.lost())
    await link.close()


@pytest.mark.parametrize("kind", [WireLink, Cleaned])
async def test_who_is_cancelled_in_a_lease_leaves_nothing_to_the_next(kind: type[WireLink]) -> None:
    """Either the driver is cleaned up, or it is replaced."""
    async with DriverPool(kind, 1, 0) as pool:
        used: list[Wire] = []

        async def use() -> None:
            async with pool.acquire() as wire:
                used.append(wire)
                await wire.ask("one")

        user = asyncio.ensure_future(use())
        await asyncio.sleep(0.5)
        user.cancel()
        async with pool.acquire(10) as wire:
            assert await wire.ask("two") == "two"
        assert (wire is used[0]) == (kind is Cleaned)


async def test_who_raises_in_a_lease_gives_it_back() -> None:
    """An error of the user is none of the driver."""
    async with DriverPool(WireLink, 1) as pool:
        with pytest.raises(ZeroDivisionError):
            async with pool.acquire() as first:
                raise ZeroDivisionError
        async with pool.acquire() as second:
            assert second is first


async def test_a_driver_that_does_several_things_at_once() -> None:
    """Its calls do not wait for one another, and it survives that one is cut off."""
    async with Connection(Busy) as conn:
        before, clock = conn.link, asyncio.get_running_loop().time
        begun = clock()
        assert await asyncio.gather(conn.call("ask", "one"), conn.call("ask", "two")) == ["one", "two"]
        assert clock() - begun < 1.5
        with pytest.raises(TimeoutError):
            await conn.call("ask", CallOptions(timeout=0.5), "three")
        await asyncio.sleep(1)
        assert conn.link is before


async def test_a_lost_link_is_not_called() -> None:
    """The error says that nothing was executed."""
    link = WireLink()
    await link.open()
    link.mark_lost()
    with pytest.raises(FsmConnError) as told:
        await link.call("ask", "one", {}, None)
    assert told.value.maybe_executed is False  # type: ignore[attr-defined]
    await link.close()


class Counted(DriverLink[list[str]]):
    """A link whose driver remembers what was done, and that is reset."""

    async def connect(self) -> list[str]:
        return []

    async def disconnect(self, driver: list[str], /) -> None: ...

    async def reset(self, driver: list[str], /) -> None:
        await asyncio.sleep(1)
        driver.append("reset")


class Uncleaned(Counted):
    """The same, without a reset."""

    reset = DriverLink.reset


async def test_every_pool_resets_a_driver_after_a_lease_and_before_the_next() -> None:
    """Also one that leases connections; first the link's own `reset`, then the pool's `on_release`."""

    def on_release(conn: Connection) -> None:
        conn.link.driver.append("on_release")  # type: ignore[union-attr]

    async with ConnectionPool(Counted, 1, 0, on_release=on_release) as pool:
        for number in range(3):
            async with pool.acquire() as client:
                assert client.connection.link.driver == ["reset", "on_release"] * number  # type: ignore[union-attr]


async def test_a_target_that_is_added_later_is_reset_too() -> None:
    """Each link says for itself whether it is."""
    async with DriverPool(Uncleaned, 2, 0) as pool:
        pool.add_target(Counted)
        async with pool.acquire() as one, pool.acquire() as other:
            assert one == other == []  # and both are given back, so that one of them may leave
        while not any(type(slot.conn.link) is Counted and slot.in_service for slot in pool.slots):
            await asyncio.sleep(1)
        for number in range(4):
            async with pool.acquire() as one, pool.acquire() as other:
                assert sorted([one, other]) == [[], ["reset"] * number]


async def test_a_reset_that_fails_or_hangs_has_its_link_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """And the log says that it was the reset."""

    class Broken(Counted):
        hangs = False

        async def reset(self, driver: list[str], /) -> None:
            if self.hangs:
                await asyncio.get_running_loop().create_future()
            raise ValueError("cannot be reset")

    class Hanging(Broken):
        hangs = True

    for kind, said in ((Broken, "reset failed"), (Hanging, "reset did not end within 3 s")):
        caplog.clear()
        async with ConnectionPool(kind, 1, 0, policy=PoolPolicy(hook_timeout=3), name="pool") as pool:
            async with pool.acquire() as client:
                before = client.connection.link
            async with pool.acquire(timeout=60) as client:
                assert client.connection.link is not before
        assert any(said in message and "on_release" not in message for message in caplog.messages), caplog.messages

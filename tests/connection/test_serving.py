"""States beside `connected` that serve: what is true of `connected` for callers and for pools is true of them."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest
from extent import far
from peer import Peer
from shown_examples import example

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionPool,
    HealthPolicy,
    Metrics,
    PoolPolicy,
    RetryPolicy,
    State,
    add_state,
    insert_state,
)
from fsm_conn.checks import check
from fsm_conn.connection.clients import HealthMonitoredClient
from fsm_conn.connection.table import LinkState
from fsm_conn.diagrams import diagram
from fsm_conn.links.errors import GoingAwayError
from fsm_conn.pool.slots.slot import Slot
from fsm_conn.testing import Life, explore, lifecycle_test, pool_test
from fsm_conn.testing.lives.pools.life import PoolLife

Degradable = example("degraded").Degradable


class Probed(Degradable):  # type: ignore[misc, valid-type]
    health = HealthPolicy(interval=5, timeout=2, failure_threshold=2, jitter=0)


class Throttled(Connection):
    """Serves nobody for a while; for pools to do without it."""

    states, transitions = add_state(
        Connection, "throttled", beside="connected", trigger="throttle", back="eased", back_effects="forget_probes"
    )

    async def while_throttled(self) -> str:
        """Watch the link."""
        try:
            async with asyncio.timeout(2) as limit:
                return await self.while_connected()
        except TimeoutError:
            if not limit.expired():
                raise
            return "eased"


TestDegradable = lifecycle_test(Degradable, max_examples=far(30))
TestProbed = lifecycle_test(Probed, max_examples=far(30))


@pytest.mark.parametrize("owner", [Degradable, Probed])
def test_every_short_life_is_in_order(owner: type[Connection]) -> None:
    """And there are some in the state that was added."""
    walked = explore(owner, depth=4)
    assert walked.violation is None, walked
    assert walked.states["degraded"] > 0
    assert check(owner) == ()


def pool_of(owner: type[Connection]) -> Any:
    """How to make a pool of them."""
    return lambda link, options: ConnectionPool(link, connection_class=owner, **options)


TestPoolOfDegradable = pool_test(ConnectionPool, make=pool_of(Degradable), max_examples=far(20))
TestPoolOfThrottled = pool_test(ConnectionPool, make=pool_of(Throttled), max_examples=far(20))


def test_a_pool_is_not_expected_to_serve_by_what_is_paused_for_good() -> None:
    """Its lives pause nothing that only the application resumes; what comes back by itself, they do."""
    for owner, fired in ((example("paused").Pausable, set()), (Throttled, {"throttle"}), (Degradable, {"degrade"})):
        life = PoolLife(make=pool_of(owner))
        life.open()
        assert {step.arguments[0] for step in life.options() if step.name == "fire"} == fired
        life.end()


# --- declaring it -----------------------------------------------------------------------------------------------


def test_only_connected_serves_by_itself() -> None:
    """Of the base table; others say so."""
    assert Connection.serving_states == {"connected"}
    assert not LinkState("paused").serves
    assert Degradable.serving_states == {"connected", "degraded"}


def test_only_a_state_with_a_link_can_serve() -> None:
    """There is no other way to say it."""
    with pytest.raises(
        TypeError, match=r"^State\(serves=\.\.\.\): that is LinkState\(serves=\.\.\.\); it takes name, "
    ):
        State("idle", serves=True)  # type: ignore[call-arg]


# --- for callers ------------------------------------------------------------------------------------------------


def degraded(owner: type[Connection] = Degradable) -> Life:
    life = Life(owner)
    life.connect()
    life.answer("open")
    life.fire("degrade")
    assert (life.state, life.conn.is_connected()) == ("degraded", True)
    return life


def test_connecting_is_done_there() -> None:
    """Whoever asks for a connection is told at once, and no attempt is made."""
    life = degraded()
    life.connect()
    life.ensure_connected()
    assert (life.users, life.peer.opened, life.state) == ([], 1, "degraded")
    life.end()


async def test_calls_are_served_there_however_they_are_made() -> None:
    """By name, by attribute, as a stream; those that may wait need not. A probe is answered, too."""
    conn = Degradable(Peer())
    async with conn:
        conn.fire("degrade")
        assert await conn.call("a.B") == "reply"
        assert await conn.a.B() == "reply"
        assert await conn.call("a.B", CallOptions(wait_for_ready=True, timeout=1)) == "reply"
        assert [reply async for reply in conn.stream("a.B")] == [1, 2, 3]
        await conn.probe()
        assert (conn.state, conn.health_status) == ("degraded", "serving")


def test_a_fresh_link_is_connected() -> None:
    """As after any loss."""
    life = degraded()
    life.reconnect()
    life.answer("close")
    life.answer("open")
    assert (life.state, life.peer.opened, life.users) == ("connected", 2, [])
    life.end()


def test_a_call_that_broke_waits_for_another_link_and_not_for_another_state() -> None:
    """To be degraded under it is no loss."""
    life = Life(Degradable)
    life.connect()
    life.answer("open")
    life.call_patiently()
    life.answer("call", "unsent")
    life.fire("degrade")
    assert (life.state, len(life.users), life.peer.waits_for("call")) == ("degraded", 1, False)
    life.lose()
    life.answer("close")
    life.answer("open")
    assert life.state == "connected"
    life.answer("call")
    assert life.users == []
    life.end()


async def test_a_client_reports_it_as_connected() -> None:
    """And counts one connection."""

    class Client(HealthMonitoredClient):
        states, transitions = Degradable.states, Degradable.transitions
        while_degraded = Degradable.while_degraded
        pause = 1.0

    client, metrics = Client(Peer()), Metrics()
    metrics.watch(client)
    async with client:
        client.fire("degrade")
        await asyncio.sleep(0.5)
        report = client.health_report()
        assert (report.connected, report.connected_duration_seconds) == (True, 0.5)
        await client.wait_for_state("connected")
    assert (metrics.connection_count, metrics.losses, metrics.disconnection_count) == (1, 0, 1)


class Warming(Connection):
    """Serves before it is `connected`."""

    states, transitions = insert_state(
        Connection,
        LinkState("warming", on_error="lost", serves=True, final=True),
        trigger="opened",
        before="connected",
        then="warmed",
        like="connecting",
    )
    transitions = tuple(
        attrs.evolve(row, source=(*row.source, "warming")) if row.trigger == "lost" else row for row in transitions
    )

    async def while_warming(self) -> str:
        """Watch the link."""
        return await self.while_connected()


def test_a_link_is_up_from_when_it_first_serves() -> None:
    """So a loss after some time there is a new outage, and what is counted are links."""
    life, metrics = Life(Warming, retry=RetryPolicy(max_attempts=2, deadline=20, stable_after=10)), Metrics()
    metrics.watch(life.conn)
    life.connect()
    life.answer("open")
    assert (life.state, metrics.connection_count) == ("warming", 1)
    life.advance(100)
    life.lose()
    assert (life.state, life.conn.attempt, metrics.losses) == ("reconnecting", 1, 1)
    life.close()


# --- in a pool --------------------------------------------------------------------------------------------------


async def test_it_stays_in_service() -> None:
    """Leased, and free; and out of service once its link is lost."""
    peer = Peer()
    async with ConnectionPool(peer, 1, 0, connection_class=Degradable) as pool:
        async with pool.acquire() as lease:
            lease.connection.fire("degrade")
            assert await lease.call("a.B") == "reply"
            assert lease.is_connected()
        assert pool.get_pool_stats()["available_in_pool"] == 1
        async with pool.acquire(timeout=0.1) as lease:
            assert lease.connection.state == "degraded"
            peer.lose()
            await lease.connection.wait_for_state("reconnecting")
            assert pool.get_pool_stats()["available_in_pool"] == 0
        async with pool.acquire(timeout=10) as lease:
            assert (lease.connection.state, peer.open_now) == ("connected", 1)


def test_to_serve_nobody_for_a_while_is_no_loss() -> None:
    """However often it does so: the link is the same, so a pool of them keeps the rule of pauses after losses."""
    life = PoolLife(
        make=pool_of(Throttled),
        retry=RetryPolicy(initial_delay=1, jitter="none", stable_after=30, max_restarts=1, restart_window=20),
    )
    life.open()
    life.answer("open")
    for _ in range(3):
        life.fire("throttle")
        life.fire("eased")
    life.end()


async def _goes_away(peer: Peer, conn: Connection) -> None:
    """Closed in good order, and renewed."""
    peer.lose(GoingAwayError("an update"))
    await conn.wait_for_state("renewing")
    await conn.wait_for_state("connected")


async def _is_throttled(peer: Peer, conn: Connection) -> None:
    """Serves nobody, and then serves again."""
    conn.fire("throttle")
    await conn.wait_for_state("connected")


async def _is_replaced(peer: Peer, conn: Connection) -> None:
    """By whoever leases it."""
    await conn.reconnect()


def _strict(restart_window: float = 1000, stable_after: float = 100) -> dict[str, Any]:
    """The options of a pool of one, that waits long after two losses in a row, and a second after each failure."""
    retry = RetryPolicy(max_attempts=1, max_restarts=1, restart_window=restart_window, stable_after=stable_after)
    pauses = RetryPolicy(max_attempts=None, initial_delay=1, max_delay=1, jitter="none")
    policy = PoolPolicy(size=1, max_overflow=0, replacement=pauses)
    return {"connection_class": Throttled, "retry": retry, "policy": policy}


@pytest.mark.parametrize("happens", [_goes_away, _is_throttled, _is_replaced])
async def test_only_losses_count_as_losses(happens: Any) -> None:
    """After all else, a connection that gives up is opened again after the pool's pause, not that of lost links."""
    peer = Peer()
    async with ConnectionPool(peer, **_strict()) as pool:
        (slot,) = pool.slots
        for _ in range(3):
            await happens(peer, slot.conn)
            await slot.wait_for_state("ready")
        began = asyncio.get_running_loop().time()
        peer.lose()
        await slot.wait_for_state("backing_off")
        await slot.wait_for_state("ready")
        assert asyncio.get_running_loop().time() - began == pytest.approx(1, abs=0.1)


async def test_a_link_lost_while_it_serves_nobody_is_lost() -> None:
    """It counts as any other: the second within the window is followed by the pause that the policy asks for."""
    peer = Peer()
    async with ConnectionPool(peer, **_strict(restart_window=50)) as pool:
        (slot,) = pool.slots
        began = asyncio.get_running_loop().time()
        for _ in range(2):
            slot.conn.fire("throttle")
            peer.lose()
            await slot.conn.wait_for_state("failed")
            await slot.wait_for_state("ready")
        assert asyncio.get_running_loop().time() - began == pytest.approx(50, abs=2)


async def _on_trial(peer: Peer, pool: ConnectionPool) -> Slot:
    """The only slot, after its connection gave up once."""
    (slot,) = pool.slots
    peer.lose()
    await slot.wait_for_state("backing_off")
    await slot.wait_for_state("ready")
    assert slot.backoff.failures == 1
    return slot


async def test_a_link_on_trial_that_serves_nobody_for_a_while_goes_on() -> None:
    """That is no failed attempt: the link is kept, and has been up since it was opened."""
    peer = Peer()
    async with ConnectionPool(peer, **_strict(stable_after=3)) as pool:
        slot = await _on_trial(peer, pool)
        await asyncio.sleep(2)
        await _is_throttled(peer, slot.conn)
        await slot.wait_for_state("ready")
        assert (peer.opened, slot.backoff.failures) == (2, 1)
        assert not slot.is_on_trial(None)


async def test_a_link_on_trial_that_is_lost_while_it_serves_nobody_has_failed() -> None:
    """The pool makes the next attempt, after its pause."""
    peer = Peer()
    async with ConnectionPool(peer, **_strict()) as pool:
        slot = await _on_trial(peer, pool)
        slot.conn.fire("throttle")
        assert slot.state == "opening"
        peer.lose()
        await slot.wait_for_state("backing_off")
        assert slot.backoff.failures == 2


class _Silent(Degradable):  # type: ignore[misc, valid-type]
    """The same, but that nobody is served."""

    states = tuple(
        LinkState("degraded", on_error="lost") if state.name == "degraded" else state for state in Degradable.states
    )


def test_tables_and_differences_tell_it() -> None:
    """Beside the link that it has."""
    assert "| `degraded` | link open, serves calls |" in diagram(Degradable, "markdown")
    assert "degraded : marks was link open" in diagram(Degradable, "mermaid", base=_Silent)

"""Who has the last word: `disconnect()` over calls, deadlines over repeats, policies over callers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from peer import HANG, TRANSIENT, Peer, PeerLink

from fsm_conn import (
    AutoReconnectClient,
    CallOptions,
    CallTimeoutError,
    ConnectFailedError,
    Connection,
    ConnectionLostError,
    ConnectionState,
    HealthMonitoredClient,
    ManagedConnection,
    RetryBudget,
)

S = ConnectionState
CONNECTING = [(AutoReconnectClient, "call_with_auto_reconnect"), (ManagedConnection, "call_with_connection_check")]


def now() -> float:
    return asyncio.get_running_loop().time()


class Making(Peer):
    """A peer whose links are of another class."""

    def __init__(self, link_class: type[PeerLink], **options: Any) -> None:
        super().__init__(**options)
        self.link_class = link_class

    def __call__(self) -> PeerLink:
        link = self.link_class(self)
        self.made.append(link)
        return link


class Busy(PeerLink):
    """Its calls take until it is closed, as those of a plugin that computes; on later links they are answered."""

    maybe_executed = True

    async def call(self, method: str, request: Any, fields: Any, options: CallOptions | None) -> Any:
        self.peer.calls.append((method, request, dict(fields)))
        if self is self.peer.made[0]:
            self.cut: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await self.cut
        return "executed"

    async def close(self) -> None:
        if hasattr(self, "cut"):
            self.cut.set_exception(ConnectionLostError("closed under it", maybe_executed=self.maybe_executed))
        await super().close()


class Looking(Busy):
    """They are cut off before they were sent, as while their method is looked up."""

    maybe_executed = False


@pytest.mark.parametrize(("client", "method"), [*CONNECTING, (Connection, "call")])
@pytest.mark.parametrize(("link", "idempotent"), [(Busy, True), (Looking, False)])
async def test_a_call_in_flight_does_not_connect_anew_after_disconnect(
    client: Any, method: str, link: Any, idempotent: bool
) -> None:
    """It fails, says whether it may have been executed, and nothing comes back to life."""
    peer = Making(link, close_delay=0.1)
    conn = client(peer)
    await conn.connect()
    options = CallOptions(idempotent=idempotent, wait_for_ready=True)
    call = asyncio.ensure_future(getattr(conn, method)("a.B", options))
    await asyncio.sleep(1)
    await conn.disconnect()
    await asyncio.sleep(100)
    assert (conn.state, peer.open_now, len(peer.calls)) == (S.DISCONNECTED, 0, 1)
    error = call.exception()
    assert isinstance(error, ConnectionError)
    assert not isinstance(error, ConnectionLostError) or error.maybe_executed is idempotent
    assert len(asyncio.all_tasks()) == 1


async def test_a_block_that_was_not_entered_leaves_nothing_that_goes_on() -> None:
    """Though the policy would try again after a while: nobody is left to end it."""
    peer = Peer(*[TRANSIENT] * 5)
    with pytest.raises(ConnectFailedError):
        async with HealthMonitoredClient(peer):
            pass
    await asyncio.sleep(600)
    assert (peer.opened, len(asyncio.all_tasks())) == (0, 1)


async def test_a_slow_observer_does_not_eat_the_time_of_a_call() -> None:
    """The call goes out when there is a link."""
    conn = AutoReconnectClient(Peer())

    async def slow(old: Any, new: Any) -> None:
        await asyncio.sleep(4)

    conn.on_state_change(S.CONNECTED, slow)
    assert await conn.call_with_auto_reconnect("a.B", CallOptions(timeout=1)) == "reply"
    assert conn.state is S.CONNECTED
    await conn.disconnect()


async def test_impatient_calls_do_not_defeat_backoff_and_budget() -> None:
    """A call that runs out of time leaves its attempt to the policy; the next one joins it."""
    peer = Peer(then=TRANSIENT)
    conn = AutoReconnectClient(peer, budget=RetryBudget(0.1))
    for _ in range(120):
        with pytest.raises((CallTimeoutError, ConnectFailedError)):
            await conn.call_with_auto_reconnect("a.B", CallOptions(timeout=0.5))
    assert peer.tried < 20
    await conn.disconnect()


async def test_impatient_calls_let_a_slow_start_come_to_its_end() -> None:
    """Instead of starting and killing a plugin each."""
    peer = Peer(delay=1.5)
    conn = AutoReconnectClient(peer)
    with pytest.raises(CallTimeoutError):
        await conn.call_with_auto_reconnect("a.B", CallOptions(timeout=1))
    assert await conn.call_with_auto_reconnect("a.B", CallOptions(timeout=1)) == "reply"
    assert peer.tried == 1
    await conn.close()


async def test_a_call_that_is_cancelled_abandons_what_it_has_begun() -> None:
    """As a cancelled `connect()` does, when nobody else waits."""
    peer = Peer(delay=5)
    conn = AutoReconnectClient(peer)
    call = asyncio.ensure_future(conn.call_with_auto_reconnect("a.B", CallOptions(timeout=20)))
    await asyncio.sleep(1)
    call.cancel()
    await asyncio.wait({call})
    assert (conn.state, peer.opened) == (S.DISCONNECTED, 0)
    assert len(asyncio.all_tasks()) == 1


async def test_who_waits_with_a_call_keeps_the_attempt_alive() -> None:
    """When the caller of `connect()` leaves; and when the call leaves too, the attempt is abandoned."""
    for patience, state in ((20, S.CONNECTED), (2, S.DISCONNECTED)):
        peer = Peer(delay=5)
        conn = Connection(peer)
        connecting = asyncio.ensure_future(conn.connect())
        await asyncio.sleep(1)
        call = asyncio.ensure_future(conn.call("a.B", CallOptions(wait_for_ready=True, timeout=patience)))
        await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait({call})
        assert conn.state is state
        assert isinstance(call.exception(), CallTimeoutError) or call.result() == "reply"
        await conn.disconnect()


async def test_a_caller_that_leaves_does_not_end_the_recovery() -> None:
    """What the policy has come back by itself goes on coming back, whoever asked for it sooner and left."""
    peer = Peer(None, *[TRANSIENT] * 5, HANG)
    conn = HealthMonitoredClient(peer)
    await conn.connect()
    peer.lose()
    await conn.wait_for_state(S.FAILED)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await conn.ensure_connected()
    await asyncio.sleep(600)
    assert conn.state is S.CONNECTED
    await conn.disconnect()


async def test_a_deadline_holds_after_a_call_broke() -> None:
    """Nothing is sent when the time is up, and nobody waits longer for the loss to be noticed."""
    peer = Peer()
    peer.call_outcomes = ["unsent"]
    conn = Connection(peer)
    await conn.connect()
    since = now()
    with pytest.raises(CallTimeoutError, match=r"0\.2 s for a connection"):
        await conn.call("a.B", CallOptions(timeout=0.2, idempotent=True))
    assert now() - since == pytest.approx(0.2)
    assert len(peer.calls) == 1
    await conn.disconnect()


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, ValueError])
async def test_an_observer_of_calls_cannot_cancel_them(error: type[BaseException]) -> None:
    """Whatever it raises: the call was executed, and its caller gets the reply."""
    conn = Connection(Peer())

    def bad(record: Any) -> None:
        raise error

    conn.on_call(bad)
    async with conn:
        assert await conn.call("a.B") == "reply"
    assert conn.observer_errors == 1


async def test_an_observer_of_calls_that_was_unsubscribed_meanwhile_is_not_told() -> None:
    """By one before it."""
    conn, told = Connection(Peer()), []
    conn.on_call(lambda record: stop())
    stop = conn.on_call(told.append)
    async with conn:
        await conn.call("a.B")
    assert told == []


class Streaming(PeerLink):
    """Its streams take a moment to end."""

    ended = False

    async def stream(self, method: str, request: Any, fields: Any, options: CallOptions | None) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.01)
            type(self).ended = True


@pytest.mark.parametrize("options", [(), (CallOptions(wait_for_ready=True),)])
async def test_a_stream_that_is_closed_has_ended(options: Any) -> None:
    """Also when calls are watched, and when it waited for the connection."""
    Streaming.ended = False
    conn = Connection(Making(Streaming))
    conn.on_call(lambda record: None)
    async with conn:
        replies: Any = conn.stream("a.B", *options)
        await anext(replies)
        await replies.aclose()
        assert Streaming.ended


@pytest.mark.parametrize(
    ("wrong", "error"), [(True, TypeError), ("5", TypeError), (0, ValueError), (1e999, ValueError)]
)
async def test_a_probe_s_timeout_is_a_number_of_seconds(wrong: Any, error: type[Exception]) -> None:
    """And one that ends."""
    async with Connection(Peer()) as conn:
        with pytest.raises(error, match=r"probe\(timeout="):
            await conn.probe(timeout=wrong)

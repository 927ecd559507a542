"""Peers that close a link in good order: the next one is opened beside it, and nothing is counted. In virtual time."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from peer import HANG, TRANSIENT, Peer, PeerLink

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionLostError,
    ConnectionState,
    Fires,
    GoingAwayError,
    LinkLostError,
    LinkState,
    Metrics,
    NotConnectedError,
    RetryPolicy,
    Trigger,
    add_state,
    insert_state,
)

S, T = ConnectionState, Trigger
RETRY = RetryPolicy(jitter="none")


def now() -> float:
    return asyncio.get_running_loop().time()


class Link(PeerLink):
    """Its calls take as many seconds as they say, and end with the link."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self.calls: set[asyncio.Future[str]] = set()

    async def call(self, method: str, request: Any, fields: Any, options: CallOptions | None) -> Any:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        self.calls.add(answer)
        try:
            loop.call_later(fields.get("takes", 0), lambda: answer.done() or answer.set_result("reply"))
            return await answer, self.peer.made.index(self)
        finally:
            self.calls.discard(answer)

    async def drained(self) -> None:
        while self.calls:
            await asyncio.wait(self.calls)
            await asyncio.sleep(0)

    async def close(self) -> None:
        for answer in self.calls:
            if not answer.done():
                answer.set_exception(ConnectionLostError("closed"))
        await super().close()


class LinkPeer(Peer):
    def __call__(self) -> PeerLink:
        link = Link(self)
        self.made.append(link)
        return link

    def go_away(self) -> None:
        self.lose(GoingAwayError("the peer is updated"))


def taken(conn: Connection) -> list[tuple[str, str]]:
    return [(str(record.trigger), str(record.dest)) for record in conn.history]


async def test_calls_under_way_finish_and_later_ones_go_by_the_next_link() -> None:
    """The old link is closed when its last call has ended, and nothing is counted."""
    peer = LinkPeer(delay=0.5)
    metrics = Metrics()
    async with Connection(peer, retry=RETRY) as conn:
        metrics.watch(conn)
        await asyncio.sleep(5)
        under_way = [asyncio.create_task(conn.call("a.B", takes=takes)) for takes in (1, 10)]
        await asyncio.sleep(0)
        peer.go_away()
        await conn.wait_for_state(S.RENEWING)
        assert await conn.call("a.B") == ("reply", 1)
        assert await asyncio.gather(*under_way) == [("reply", 0)] * 2
        await asyncio.sleep(0.01)
        assert (conn.state, peer.open_now, peer.made[0].closes, conn.attempt) == (S.CONNECTED, 1, 1, 1)
        assert taken(conn)[-2:] == [("going_away", "renewing"), ("opened", "connected")]
        assert (metrics.losses, metrics.reconnect_count, metrics.failed_calls) == (0, 0, 0)
    assert peer.open_now == 0


async def test_calls_on_the_old_link_have_a_limit() -> None:
    """Then they are broken, and the link is closed."""
    peer = LinkPeer()
    conn = Connection(peer, retry=RETRY)
    conn.drain_timeout = 3
    async with conn:
        call = asyncio.create_task(conn.call("a.B", takes=100))
        await asyncio.sleep(2)
        since = now()
        peer.go_away()
        with pytest.raises(ConnectionLostError):
            await call
        assert now() - since == pytest.approx(3)
        assert peer.open_now == 1


@pytest.mark.once
async def test_servers_that_close_idle_links_do_not_wear_a_connection_out() -> None:
    """A day of it, a link every two seconds: connected, and not one attempt, loss or restart."""
    peer = LinkPeer()
    policy = RetryPolicy(max_attempts=2, max_restarts=1, restart_window=3600)
    async with Connection(peer, retry=policy) as conn:
        for _ in range(24 * 60 * 30):
            await asyncio.sleep(2)
            peer.go_away()
        await asyncio.sleep(1)
        assert (conn.state, conn.attempt, peer.open_now) == (S.CONNECTED, 1, 1)
        assert await conn.call("a.B") == ("reply", len(peer.made) - 1)


async def test_a_peer_that_sends_each_link_away_is_renewed_with_pauses() -> None:
    """Not as fast as the processor can."""
    peer = LinkPeer()
    async with Connection(peer, retry=RETRY) as conn:
        for _ in range(200):
            if not peer.link.gone.done():
                peer.go_away()
            await asyncio.sleep(0.05)
        assert len(peer.made) <= 12
        await conn.wait_for_state(S.CONNECTED)


async def test_what_was_really_broken_is_still_an_outage() -> None:
    """No next link can be opened: that counts, and the calls of the old one finish nevertheless."""
    peer = LinkPeer()
    async with Connection(peer, retry=RetryPolicy(initial_delay=1, jitter="none")) as conn:
        call = asyncio.create_task(conn.call("a.B", takes=10))
        await asyncio.sleep(5)
        peer.script = [TRANSIENT, TRANSIENT]
        peer.go_away()
        await conn.wait_for_state(S.RECONNECTING)
        with pytest.raises(NotConnectedError):
            await conn.call("a.B")
        await conn.ensure_connected()
        assert conn.attempt == 3
        assert await call == ("reply", 0)
        await asyncio.sleep(0.01)
        assert peer.open_now == 1


@pytest.mark.parametrize("close_delay", [0.0, 1.0])
@pytest.mark.parametrize("at", [0.0, 0.5, 2.0, 4.0])
async def test_a_disconnect_ends_all_links(at: float, close_delay: float) -> None:
    """While the next one is opened, and while the old one finishes its calls."""
    peer = LinkPeer(delay=1.5, close_delay=close_delay)
    conn = Connection(peer, retry=RETRY)
    await conn.connect()
    call = asyncio.create_task(conn.call("a.B", takes=100))
    await asyncio.sleep(2)
    peer.go_away()
    await asyncio.sleep(at)
    await conn.disconnect()
    assert peer.open_now == 0
    assert (await asyncio.gather(call, return_exceptions=True))[0].__class__ is ConnectionLostError
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_the_end_of_the_loop_ends_all_links() -> None:
    """As a disconnect does."""
    peer = LinkPeer()

    async def life() -> None:
        conn = Connection(peer, retry=RETRY)
        await conn.connect()
        asyncio.create_task(conn.call("a.B", takes=100))  # noqa: RUF006 - it goes with the loop
        await asyncio.sleep(0.01)
        conn._holder.traffic.opened_at -= 10
        peer.go_away()
        await conn.wait_for_state(S.RENEWING)
        await conn.wait_for_state(S.CONNECTED)
        assert peer.open_now == 2

    asyncio.run(life())
    assert peer.open_now == 0


async def test_a_reconnect_need_not_wait_for_the_next_link() -> None:
    """It hangs: a fresh one is opened, and the old one is closed as by any reconnect."""
    peer = LinkPeer(None, HANG)
    async with Connection(peer, retry=RETRY) as conn:
        await asyncio.sleep(2)
        peer.go_away()
        await conn.wait_for_state(S.RENEWING)
        await conn.reconnect()
        assert (conn.state, peer.open_now) == (S.CONNECTED, 1)


class Authenticated(Connection):
    states, transitions = insert_state(
        Connection, "authenticating", trigger=T.OPENED, before=S.CONNECTED, then="authenticated", like=S.CONNECTING
    )

    async def while_authenticating(self) -> Annotated[str, Fires("authenticated")]:
        await self.call("auth.Login", takes=0.1)
        return "authenticated"


async def test_the_next_link_goes_through_what_a_class_has_inserted() -> None:
    """It is a new link: it authenticates before anybody else may use it."""
    peer = LinkPeer()
    async with Authenticated(peer, retry=RETRY) as conn:
        await asyncio.sleep(5)
        peer.go_away()
        await conn.wait_for_state(S.RENEWING)
        await conn.wait_for_state(S.CONNECTED)
        assert [dest for _, dest in taken(conn)[-3:]] == ["renewing", "authenticating", "connected"]


class Throttled(Connection):
    states, transitions = add_state(
        Connection,
        LinkState("throttled", on_error="lost", final=True, serves=True),
        beside="connected",
        trigger="throttle",
        back="eased",
        back_effects="forget_probes",
    )

    async def while_throttled(self) -> str:
        return await self.while_connected()


async def test_a_link_that_goes_away_beside_connected_is_renewed_too() -> None:
    """From there it leads to `connected`, as after a loss; nothing is counted."""
    peer = LinkPeer()
    async with Throttled(peer, retry=RETRY) as conn:
        await asyncio.sleep(5)
        conn.fire("throttle")
        await asyncio.sleep(1)
        peer.go_away()
        await conn.wait_for_state(S.CONNECTED)
        assert taken(conn)[-2:] == [("going_away", "renewing"), ("opened", "connected")]


class Greeting(Connection):
    """Every link, the renewed ones included, goes through a greeting that can fail."""

    states, transitions = insert_state(
        Connection,
        LinkState("greeting", on_error=T.OPEN_FAILED),
        trigger=T.OPENED,
        before=S.CONNECTED,
        then="greeted",
        like=S.CONNECTING,
    )
    is_well = True

    async def while_greeting(self) -> Annotated[str, Fires("greeted")]:
        if not self.is_well:
            raise LinkLostError("the peer does not greet")
        return "greeted"


async def test_a_renewed_link_that_fails_on_its_way_begins_a_new_outage() -> None:
    """The one before was up for long, so attempts are counted from the first, whichever state the new one has come to."""
    peer = LinkPeer()
    async with Greeting(peer, retry=RetryPolicy(max_attempts=2, stable_after=10.0, jitter="none")) as conn:
        await asyncio.sleep(60)
        conn.is_well = False
        peer.go_away()
        await conn.wait_for_state(S.FAILED)
        assert [record.attempt for record in conn.history if record.dest == S.RECONNECTING] == [1, 2]


class Stubborn(Link):
    """Its calls never end, nor does its closing."""

    async def drained(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        await super().close()
        await asyncio.get_running_loop().create_future()


class StubbornPeer(LinkPeer):
    def __call__(self) -> PeerLink:
        link = Stubborn(self)
        self.made.append(link)
        return link


async def test_when_the_next_link_does_not_open_the_old_one_has_its_time_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """For its calls, and for closing; and who it was is said."""
    peer = StubbornPeer(None, TRANSIENT)
    conn = Connection(peer, retry=RETRY, name="plug")
    conn.drain_timeout, conn.close_timeout = 7, 3
    await conn.connect()
    await asyncio.sleep(2)
    peer.go_away()
    await asyncio.sleep(6.9)
    assert (len(conn._holder.retired or ()), peer.made[0].closes) == (1, 0)
    await asyncio.sleep(0.2)
    assert (conn._holder.retired, peer.made[0].closes, conn.state) == ({}, 1, S.CONNECTED)
    await asyncio.sleep(3)
    assert caplog.messages[-2:] == [
        f"{conn!r}: calls on a retired link took more than 7 s and are broken off",
        f"{conn!r}: closing the link did not end within 3 s; it was cancelled",
    ]
    await conn.disconnect()


async def test_a_link_that_was_opened_in_vain_is_closed_before_the_next_one() -> None:
    """Nobody has used it, so nothing is waited for but its closing."""
    prepared: list[int] = []

    async def prepare(conn: Connection) -> None:
        prepared.append(len(peer.made))
        if len(peer.made) == 2:
            raise TRANSIENT

    peer = StubbornPeer()
    conn = Connection(peer, retry=RETRY, on_open=prepare)
    conn.drain_timeout, conn.close_timeout = 50, 3
    await conn.connect()
    await asyncio.sleep(2)
    peer.go_away()
    await asyncio.sleep(4)
    assert prepared == [1, 2, 3]
    assert list(conn._holder.retired or ()) == peer.made[:1]
    assert [link.closes for link in peer.made] == [0, 1, 0]
    await conn.disconnect()
    assert peer.open_now == 0

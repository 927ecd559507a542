"""`on_open`: what is done on each new link before it serves, as a part of the attempt that opens it. In virtual time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import TRANSIENT, Peer, PeerLink

from fsm_conn import (
    CallOptions,
    ConnectFailedError,
    Connection,
    ConnectionState,
    GoingAwayError,
    HookError,
    LinkError,
    NotConnectedError,
    RetryPolicy,
    StartTimeoutError,
)
from fsm_conn.testing import VirtualLoop

S = ConnectionState
RETRY = RetryPolicy(max_attempts=3, initial_delay=1, jitter="none")


def now() -> float:
    return asyncio.get_running_loop().time()


class NumberedLink(PeerLink):
    """Its calls are answered with the number of the link, after as many seconds as they say."""

    async def call(self, method: str, request: Any, fields: Any, options: CallOptions | None) -> Any:
        await super().call(method, request, fields, options)
        await asyncio.sleep(fields.get("takes", 0))
        return self.peer.made.index(self)


class NumberedPeer(Peer):
    def __call__(self) -> PeerLink:
        link = NumberedLink(self)
        self.made.append(link)
        return link


async def test_it_runs_on_each_link_before_anybody_else_may_use_it() -> None:
    """The first and each later one; callers wait, or are refused, until it has ended."""
    peer, logins = NumberedPeer(), []

    async def log_in(conn: Connection) -> None:
        logins.append((conn.state, await conn.call("auth.Login", takes=2)))

    async with Connection(peer, retry=RETRY, on_open=log_in) as conn:
        assert logins == [("connecting", 0)]
        assert now() == pytest.approx(2)
        peer.lose()
        await conn.wait_for_state(S.RECONNECTING)
        await asyncio.sleep(1)
        with pytest.raises(NotConnectedError):
            await conn.call("a.B")
        assert await conn.call("a.B", CallOptions(wait_for_ready=True)) == 1
        assert logins == [("connecting", 0), ("reconnecting", 1)]
        await conn.reconnect()
        assert logins[-1] == ("reconnecting", 2)
    assert (peer.opened, peer.open_now) == (3, 0)


async def test_a_method_of_a_subclass_and_a_plain_function_do_as_well() -> None:
    """The method may call the function that was given."""
    done: list[str] = []

    class Configured(Connection):
        async def on_open(self) -> None:
            done.append(f"configured {await self.call('a.Configure')}")
            await super().on_open()

    async with Configured(NumberedPeer(), on_open=lambda conn: done.append(conn.state)):
        assert done == ["configured 0", "connecting"]


async def test_its_failure_is_a_failed_attempt() -> None:
    """Counted and repeated by the policy, each link closed; with the error as the reason."""
    peer = NumberedPeer()

    def refuse(conn: Connection) -> None:
        raise ValueError("no licence")

    conn = Connection(peer, retry=RETRY, on_open=refuse)
    with pytest.raises(ConnectFailedError, match="after 3 attempts: on_open failed: ValueError: no licence") as caught:
        await conn.connect()
    assert isinstance(caught.value.reason, HookError)
    assert (peer.opened, peer.open_now, now()) == (3, 0, pytest.approx(3))
    assert [str(record.trigger) for record in conn.history] == ["connect", *["open_failed"] * 3]


async def test_an_error_of_the_world_passes_as_it_is_and_may_be_permanent() -> None:
    """Then nothing is tried again, as after an `open` that failed for good."""

    class NoLicenceError(LinkError):
        permanent = True

    def refuse(conn: Connection) -> None:
        raise NoLicenceError("no licence")

    peer = NumberedPeer()
    conn = Connection(peer, retry=RETRY, on_open=refuse)
    with pytest.raises(ConnectFailedError) as caught:
        await conn.connect()
    assert (type(caught.value.reason), peer.opened, peer.open_now) == (NoLicenceError, 1, 0)


@pytest.mark.parametrize(("limit", "deadline", "took"), [(5.0, None, 5), (5.0, 2.0, 2)])
async def test_it_has_a_limit(limit: float, deadline: float | None, took: float) -> None:
    """Its own, and what is left of the policy's deadline."""
    ended: list[float] = []

    async def hang(conn: Connection) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(now())

    peer = NumberedPeer()
    conn = Connection(peer, retry=RetryPolicy(max_attempts=1, deadline=deadline), on_open=hang)
    conn.hook_timeout = limit
    with pytest.raises(ConnectFailedError, match="on_open did not end within") as caught:
        await conn.connect()
    assert isinstance(caught.value.reason, StartTimeoutError)
    assert (ended, peer.open_now) == ([pytest.approx(took)], 0)


async def test_the_loss_of_the_link_ends_it() -> None:
    """At once, whatever it waits for."""
    peer = NumberedPeer()
    tries: list[float] = []

    async def wait(conn: Connection) -> None:
        tries.append(now())
        if len(tries) == 1:
            await asyncio.sleep(20)

    conn = Connection(peer, retry=RETRY, on_open=wait)
    connecting = asyncio.create_task(conn.connect())
    await asyncio.sleep(3)
    peer.lose()
    await connecting
    assert tries == [0, pytest.approx(4)]
    await conn.disconnect()
    assert (peer.opened, peer.open_now) == (2, 0)


async def test_a_disconnect_ends_it() -> None:
    """And closes its link."""
    peer = NumberedPeer()
    ended: list[str] = []

    async def wait(conn: Connection) -> None:
        try:
            await asyncio.sleep(20)
        finally:
            ended.append(conn.state)

    conn = Connection(peer, on_open=wait)
    connecting = asyncio.create_task(conn.connect())
    await asyncio.sleep(3)
    await conn.disconnect()
    assert (ended, peer.open_now, conn.state) == (["disconnecting"], 0, S.DISCONNECTED)
    await asyncio.gather(connecting, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_old_link_serves_while_the_next_one_is_prepared() -> None:
    """In `renewing`: nobody gets hold of a link that is not prepared, however long that takes."""
    peer = NumberedPeer()

    async def log_in(conn: Connection) -> None:
        own = await conn.call("auth.Login", takes=4)
        assert conn.link is peer.made[own]

    async with Connection(peer, retry=RETRY, on_open=log_in) as conn:
        await asyncio.sleep(2)
        peer.lose(GoingAwayError("the peer is updated"))
        await conn.wait_for_state(S.RENEWING)
        assert await conn.call("a.B") == 0
        assert conn.link is peer.made[0]
        await conn.wait_for_state(S.CONNECTED)
        assert await conn.call("a.B") == 1
        await asyncio.sleep(0.1)
        assert (peer.open_now, conn.attempt) == (1, 1)


@pytest.mark.parametrize("end", ["fails", "disconnect", "reconnect", "lost"])
async def test_whatever_becomes_of_it_in_renewing_each_link_is_closed_once(end: str) -> None:
    """And the connection goes on as the table says."""
    peer = NumberedPeer()

    async def log_in(conn: Connection) -> None:
        if conn.state == S.RENEWING:
            await asyncio.sleep(5)
            raise ValueError("no")

    conn = Connection(peer, retry=RETRY, on_open=log_in)
    await conn.connect()
    await asyncio.sleep(2)
    peer.lose(GoingAwayError("the peer is updated"))
    await conn.wait_for_state(S.RENEWING)
    await asyncio.sleep(2)
    if end == "lost":
        peer.lose()
    if end in ("disconnect", "reconnect"):
        await getattr(conn, end)()
    else:
        await conn.wait_for_state(S.RECONNECTING)
        await conn.wait_for_state(S.CONNECTED)
    await asyncio.sleep(1)
    assert peer.open_now == (0 if end == "disconnect" else 1)
    await conn.disconnect()
    assert peer.open_now == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_the_end_of_the_loop_in_it_closes_the_link() -> None:
    """As anywhere else."""
    peer = NumberedPeer()

    async def life() -> None:
        conn = Connection(peer, on_open=lambda conn: asyncio.sleep(100))
        asyncio.create_task(conn.connect())  # noqa: RUF006 - it goes with the loop
        await asyncio.sleep(0.05)
        assert peer.open_now == 1

    asyncio.run(life())
    assert peer.open_now == 0


@pytest.mark.parametrize("hook", ["log_in", 5])
def test_what_is_no_function_is_refused(hook: Any) -> None:
    """With what to give."""
    with pytest.raises(TypeError, match=r"on_open=.*: give a function that takes the connection"):
        Connection(["x"], on_open=hook)


class Preparing(Connection):
    """Its `on_open` goes well or not, as it is told, and notes which links were prepared."""

    hook_timeout = 3.0

    def __init__(self, peer: NumberedPeer, kinds: list[str]) -> None:
        super().__init__(peer, retry=RetryPolicy(max_attempts=4, initial_delay=1, jitter="none"))
        self.peer = peer
        self.kinds = kinds
        self.prepared: set[int] = set()

    async def on_open(self) -> None:
        number = await self.call("auth.Login", takes=0.5)
        kind = self.kinds.pop(0) if self.kinds else "ok"
        if kind == "fail":
            raise ValueError("no")
        if kind == "lose":
            self.peer.lose()
        if kind != "ok":
            await asyncio.sleep(1000)
        self.prepared.add(number)

    async def ask(self, is_over: asyncio.Event) -> None:
        """Again and again, whoever answers."""
        while not is_over.is_set():
            with suppress(NotConnectedError):
                assert await self.call("a.B") in self.prepared
            await asyncio.sleep(0.25)


@given(
    opens=st.lists(st.sampled_from([None, None, TRANSIENT]), max_size=4),
    hooks=st.lists(st.sampled_from(["ok", "fail", "hang", "lose"]), max_size=5),
    losses=st.lists(st.sampled_from(["lost", "away"]), max_size=4),
)
def test_nobody_ever_gets_hold_of_a_link_that_was_not_prepared(
    opens: list[Any], hooks: list[str], losses: list[str]
) -> None:
    """Whatever opens, hooks and links do: each call that is answered went by a link whose `on_open` had ended well."""
    peer = NumberedPeer(*opens)

    async def life() -> None:
        conn, is_over = Preparing(peer, hooks), asyncio.Event()
        await asyncio.gather(conn.connect(), return_exceptions=True)
        asking = asyncio.create_task(conn.ask(is_over))
        for loss in losses:
            await asyncio.sleep(2.5)
            if conn.state == S.CONNECTED:
                peer.lose(GoingAwayError("updated") if loss == "away" else None)
        await asyncio.sleep(60)
        await conn.disconnect()
        is_over.set()
        await asking
        assert peer.open_now == 0

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(life())

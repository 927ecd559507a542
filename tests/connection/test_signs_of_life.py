"""What shows that a peer is there, and what that it is gone: deadlines, answers, calls under way. In virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from peer import HANG, Peer, PeerLink

from fsm_conn import (
    CallOptions,
    Connection,
    ConnectionLostError,
    ConnectionPool,
    ConnectionState,
    FsmConnError,
    HealthPolicy,
    HealthStatus,
    LinkLostError,
    NotConnectedError,
    ProbeError,
    ProbeTimeoutError,
    RetryPolicy,
)

S = ConnectionState
SECOND = CallOptions(timeout=1)
RETRY = RetryPolicy(jitter="none")


def now() -> float:
    return asyncio.get_running_loop().time()


class Refusal(Exception):
    """What a peer answers."""


class Link(PeerLink):
    """Its calls take as many seconds as they say, for ever without, or are answered by a refusal."""

    def is_answer(self, error: BaseException) -> bool:
        return isinstance(error, Refusal)

    async def call(self, method: str, request: Any, fields: Any, options: CallOptions | None) -> Any:
        if self.gone.done():
            raise ConnectionLostError("gone", maybe_executed=False)
        limit = None if options is None else options.timeout
        async with asyncio.timeout(limit):
            await asyncio.sleep(fields.get("takes", 1e5))
        if fields.get("refused"):
            raise Refusal
        return "reply"

    async def stream(self, method: str, request: Any, fields: Any, options: CallOptions | None) -> AsyncIterator[Any]:
        yield await self.call(method, request, fields, options)


class LinkPeer(Peer):
    def __call__(self) -> PeerLink:
        link = Link(self)
        self.made.append(link)
        return link


# --- a call that ran into its deadline --------------------------------------------------------------------------


async def test_a_deadline_that_passed_has_the_peer_asked_at_once_and_silence_is_a_loss() -> None:
    """By default, without any health policy; within the probe's timeout, at the first failure."""
    peer = LinkPeer()
    peer.probe_outcomes = [HANG]
    async with Connection(peer, retry=RETRY) as conn:
        with pytest.raises(TimeoutError):
            await conn.call("a.B", SECOND)
        assert [at for at, _ in peer.probes] == []
        await asyncio.sleep(0.001)
        since = now()
        assert [at for at, _ in peer.probes] == [pytest.approx(since, abs=0.01)]
        await conn.wait_for_state(S.RECONNECTING)
        assert now() - since == pytest.approx(5, abs=0.01)
        assert isinstance(conn.reason, ProbeTimeoutError)
        assert peer.condemned == 1
        await conn.ensure_connected()
        assert conn.attempt == 2


@pytest.mark.parametrize("answer", [None, "not serving", ProbeError("cannot tell")])
async def test_whatever_is_answered_after_a_deadline_is_a_sign_of_life(answer: Any) -> None:
    """A peer that is slow stays connected."""
    peer = LinkPeer()
    peer.probe_outcomes = [answer] * 10
    async with Connection(peer, retry=RETRY) as conn:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await conn.call("a.B", SECOND)
        await asyncio.sleep(10)
        assert (conn.state, len(peer.made)) == (S.CONNECTED, 1)


async def test_many_deadlines_make_few_probes() -> None:
    """One at a time, one a second at most, and none when another call was answered meanwhile."""
    peer = LinkPeer()
    async with Connection(peer, retry=RETRY) as conn:
        calls = [conn.call("a.B", CallOptions(timeout=0.1 + n / 1000)) for n in range(500)]
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(5)
        assert 1 <= len(peer.probes) <= 2
        peer.probes.clear()
        slow = asyncio.create_task(conn.call("a.B", SECOND))
        await asyncio.sleep(0.5)
        await conn.call("a.B", takes=0.1)
        await asyncio.wait((slow,))
        await asyncio.sleep(5)
        assert peer.probes == []


async def test_a_caller_that_gives_up_by_itself_says_nothing_about_the_peer() -> None:
    """Cancelled, be it by a timeout of its own: that may be any time."""
    peer = LinkPeer()
    async with Connection(peer) as conn:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await conn.call("a.B")
        await asyncio.sleep(10)
        assert peer.probes == []


async def test_nothing_is_left_of_a_suspicion() -> None:
    """Neither when the connection is closed meanwhile, nor when the link is replaced."""
    peer = LinkPeer()
    peer.probe_outcomes = [HANG, HANG]
    conn = Connection(peer, retry=RETRY)
    await conn.connect()
    for end in (conn.reconnect, conn.disconnect):
        with pytest.raises(TimeoutError):
            await conn.call("a.B", SECOND)
        await asyncio.sleep(0.5)
        await end()
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if "_verify" in repr(task)]
        await asyncio.sleep(10)
    assert [str(record.trigger) for record in conn.history if record.reason is not None] == []


# --- calls under way, and answers ---------------------------------------------------------------------------------

PROBED = HealthPolicy(interval=1, timeout=1, failure_threshold=1, jitter=0, busy_limit=30)


async def test_a_busy_peer_lives_for_a_limited_time() -> None:
    """It works at our call, and answers no probe: until `busy_limit` after its last sign of life."""
    peer = LinkPeer()
    peer.probe_outcomes = [HANG] * 100
    async with Connection(peer, retry=RETRY, health=PROBED) as conn:
        assert await conn.call("a.B", takes=20) == "reply"
        assert len(peer.made) == 1
        since = now()
        call = asyncio.create_task(conn.call("a.B"))
        await conn.wait_for_state(S.RECONNECTING)
        assert 30 <= now() - since <= 33
        call.cancel()


async def test_a_call_that_began_after_the_probe_is_no_excuse() -> None:
    """Else a peer that is gone would never be given up, as long as somebody calls it."""
    peer = LinkPeer()
    peer.probe_outcomes = [HANG] * 100
    async with Connection(peer, retry=RETRY, health=PROBED) as conn:
        await asyncio.sleep(1.5)
        call = asyncio.create_task(conn.call("a.B"))
        await conn.wait_for_state(S.RECONNECTING)
        assert now() == pytest.approx(2, abs=0.01)
        call.cancel()


async def test_a_busy_peer_is_not_given_up_for_a_deadline_either() -> None:
    """One call keeps it busy, another runs into its deadline: it is asked until it answers."""
    peer = LinkPeer()
    peer.probe_outcomes = [HANG, HANG]
    async with Connection(peer, retry=RETRY) as conn:
        long = asyncio.create_task(conn.call("a.B", takes=14))
        with pytest.raises(TimeoutError):
            await conn.call("a.B", SECOND)
        assert await long == "reply"
        await asyncio.sleep(20)
        assert (conn.state, len(peer.made), len(peer.probes)) == (S.CONNECTED, 1, 3)


async def test_a_refusal_is_a_sign_of_life_as_a_reply_is() -> None:
    """No probe is made while calls are answered, whatever the answer is."""
    peer = LinkPeer()
    async with Connection(peer, retry=RETRY, health=PROBED) as conn:
        for refused in (False, True):
            peer.probes.clear()
            for _ in range(20):
                await asyncio.gather(conn.call("a.B", takes=0.5, refused=refused), return_exceptions=True)
            assert peer.probes == []
        await asyncio.sleep(3)
        assert conn.health_status is HealthStatus.SERVING


def test_a_loop_that_was_blocked_looks_again_before_it_blames_the_peer() -> None:
    """The answer had come, and nobody had read it."""

    async def life() -> None:
        peer = LinkPeer()
        policy = HealthPolicy(interval=0.05, timeout=0.05, failure_threshold=1, jitter=0)
        async with Connection(peer, retry=RETRY, health=policy) as conn:
            for _ in range(8):
                answers = PatientProbes(peer)
                await answers.asked.wait()
                time.sleep(0.15)
                await asyncio.sleep(0.01)
            assert (conn.state, len(peer.made)) == (S.CONNECTED, 1)

    class PatientProbes:
        """Its answer to the next probe needs a turn of the loop after the deadline."""

        def __init__(self, peer: Peer) -> None:
            self.asked = asyncio.Event()
            link, right = peer.link, type(peer.link).probe

            async def probe(service: str = "") -> bool:
                del link.probe  # type: ignore[method-assign]
                self.asked.set()
                await asyncio.sleep(0.06)
                return await right(link, service)

            link.probe = probe  # type: ignore[method-assign]

    asyncio.run(life())


# --- callers in a tight loop ---------------------------------------------------------------------------------------

Attempt = Callable[[Connection], Awaitable[Any]]


async def _streamed(conn: Any, *options: CallOptions) -> None:
    async for _ in conn.stream("a.B", *options, takes=0):
        pass


async def _ensured(conn: Connection) -> None:
    await conn.ensure_connected()
    await conn.call("a.B", takes=0)


KINDS: dict[str, Attempt] = {
    "call": lambda conn: conn.call("a.B", takes=0),
    "with a timeout": lambda conn: conn.call("a.B", SECOND, takes=0),
    "ensured": _ensured,
    "stream": _streamed,
    "patient stream": lambda conn: _streamed(conn, CallOptions(wait_for_ready=True)),
    "by attribute": lambda conn: conn.a.B(takes=0),
    "probe": lambda conn: conn.probe(),
}


class Abrupt(Link):
    """Nothing in it waits once it is gone."""

    async def call(self, method: str, request: Any, fields: Any, options: CallOptions | None) -> Any:
        if self.gone.done():
            raise ConnectionLostError("gone", maybe_executed=False)
        return "reply"

    async def probe(self, service: str = "") -> bool:
        if self.gone.done():
            raise ProbeError("gone")
        return True


class AbruptPeer(Peer):
    def __call__(self) -> PeerLink:
        link = Abrupt(self)
        self.made.append(link)
        return link


def spun(make: Callable[[AbruptPeer], Any], attempt: Callable[[Any], Awaitable[Any]]) -> tuple[int, set[str]]:
    """Call again and again at once while the peer goes, and after: the turns that others had, and what was told."""

    async def life() -> tuple[int, set[str]]:
        peer, told, turns = AbruptPeer(), set[str](), 0
        async with make(peer) as conn:

            async def spin() -> None:
                tries = 0
                while turns < 30:
                    tries += 1
                    assert tries < 20_000, "nobody else had a turn"
                    try:
                        await attempt(conn)
                        await asyncio.sleep(0)
                    except FsmConnError as error:
                        told.add(type(error).__name__)

            spinning = asyncio.create_task(spin())
            await asyncio.sleep(0.01)
            peer.script = [LinkLostError("not back yet")] * 2
            peer.lose()
            while turns < 30 and not spinning.done():
                await asyncio.sleep(0)
                turns += 1
            await spinning
        return turns, told

    return asyncio.run(life())


@pytest.mark.parametrize("kind", KINDS)
def test_who_calls_in_a_tight_loop_leaves_the_others_their_turns(kind: str) -> None:
    """The loss is known before the first caller is told of it."""
    policy = RetryPolicy(initial_delay=0.002, jitter="none")
    turns, told = spun(lambda peer: Connection(peer, retry=policy), KINDS[kind])
    assert turns == 30
    assert told <= {"ConnectionLostError", "NotConnectedError", "ConnectFailedError", "ProbeError"}


async def _leased(pool: ConnectionPool) -> None:
    async with pool.acquire(timeout=1) as client:
        await client.call("a.B", takes=0)


@pytest.mark.parametrize("attempt", [lambda pool: pool.call("a.B", takes=0), _leased], ids=["call", "lease"])
def test_who_calls_a_pool_in_a_tight_loop_does_so_too(attempt: Any) -> None:
    """With a lease and without."""
    policy = RetryPolicy(initial_delay=0.002, jitter="none")
    turns, _ = spun(lambda peer: ConnectionPool(peer, pool_size=1, max_overflow=0, retry=policy), attempt)
    assert turns == 30


async def test_the_loss_is_known_before_a_caller_is_told_of_it() -> None:
    """So that what it does next, it does in the state that is."""
    peer = AbruptPeer()
    conn = Connection(peer, retry=RetryPolicy(max_attempts=1))
    await conn.connect()
    peer.lose()
    with pytest.raises(ConnectionLostError):
        await conn.call("a.B")
    assert conn.state == S.FAILED
    with pytest.raises(NotConnectedError):
        await conn.call("a.B")

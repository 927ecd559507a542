"""How often a call is sent again: on other links, and to a peer that cannot serve at present. In virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from peer import Peer, PeerLink

from fsm_conn import CallOptions, Connection, ConnectionLostError, RetryPolicy

IDEMPOTENT = CallOptions(idempotent=True)
AGAIN = CallOptions(idempotent=True, retry_unavailable=True)
RETRY = RetryPolicy(max_attempts=None, initial_delay=0.1)


def now() -> float:
    return asyncio.get_running_loop().time()


class Unavailable(Exception):
    """What a proxy answers."""


class Link(PeerLink):
    def is_unavailable(self, error: BaseException) -> bool:
        return isinstance(error, Unavailable)


class LinkPeer(Peer):
    def __call__(self) -> PeerLink:
        link = Link(self)
        self.made.append(link)
        return link


async def test_a_call_that_ends_its_peer_each_time_is_told_so() -> None:
    """It is sent four times, and no more."""
    peer = LinkPeer()
    peer.call_outcomes = ["lost"] * 10
    async with Connection(peer, retry=RETRY) as conn:
        with pytest.raises(ConnectionLostError, match="repeated 3 times, and the link was lost each time"):
            await conn.call("a.B", IDEMPOTENT)
        assert len(peer.calls) == 4
        peer.call_outcomes = ["lost"] * 3
        assert await conn.call("a.B", IDEMPOTENT) == "reply"


async def test_a_peer_that_cannot_serve_at_present_is_asked_again_on_request() -> None:
    """With pauses that grow, for some seconds."""
    peer = LinkPeer()
    async with Connection(peer) as conn:
        peer.call_outcomes = [Unavailable()] * 4
        assert await conn.call("a.B", AGAIN) == "reply"
        assert 0.75 <= now() <= 1.5
        assert (len(peer.calls), len(peer.made), peer.probes) == (5, 1, [])
        peer.call_outcomes = [Unavailable()] * 100
        with pytest.raises(Unavailable):
            await conn.call("a.B", AGAIN)
        assert len(peer.calls) == 5 + 7


async def test_the_deadline_holds_over_repeats_and_their_pauses() -> None:
    """The last answer is told as soon as there is no time for another pause."""
    peer = LinkPeer()
    async with Connection(peer) as conn:
        peer.call_outcomes = [Unavailable()] * 100
        with pytest.raises(Unavailable):
            await conn.call("a.B", CallOptions(idempotent=True, retry_unavailable=True, timeout=0.5))
        assert now() <= 0.5


@pytest.mark.parametrize("options", [(), (IDEMPOTENT,), (CallOptions(wait_for_ready=True),)])
async def test_nobody_is_asked_again_without_being_told_to(options: Any) -> None:
    """By default the answer is the caller's."""
    peer = LinkPeer()
    async with Connection(peer) as conn:
        peer.call_outcomes = [Unavailable()]
        with pytest.raises(Unavailable):
            await conn.call("a.B", *options)
        assert (len(peer.calls), now()) == (1, 0)


def test_only_what_is_idempotent_may_be_sent_again() -> None:
    """The error says what to give."""
    with pytest.raises(ValueError, match="idempotent=True"):
        CallOptions(retry_unavailable=True)

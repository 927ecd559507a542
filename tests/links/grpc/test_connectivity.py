"""How an orderly close is told from a break, whatever comes first: the end of a call, or the channel's change of state."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from fsm_conn.links.errors import GoingAwayError, LinkLostError
from fsm_conn.links.grpc.connectivity import Connectivity
from fsm_conn.links.grpc.loss import Loss

READY, IDLE = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.IDLE


class Channel:
    """A channel of which nothing but its state is known. A question to its peer is never answered."""

    def __init__(self) -> None:
        self.state = READY
        self.changed = asyncio.Event()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.state

    async def wait_for_state_change(self, last: grpc.ChannelConnectivity) -> None:
        await self.changed.wait()

    def unary_unary(self, *method: Any, **kinds: Any) -> Any:
        async def never(*request: Any, **options: Any) -> Any:
            await self.changed.wait()
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing)

        return never

    def leave(self) -> None:
        self.state = IDLE
        self.changed.set()


async def ended(connectivity: Connectivity) -> None:
    connectivity.stop()
    await connectivity.stopped()


@pytest.mark.parametrize("reconnects", [True, False])
async def test_a_call_that_breaks_before_the_channel_changes(*, reconnects: bool) -> None:
    """Nobody awaits it any more when the channel says that it is not ready: it has been harmed all the same."""
    channel, loss = Channel(), Loss()
    connectivity = Connectivity(channel, loss, reconnects=reconnects)
    await asyncio.sleep(0)
    connectivity.begin()
    connectivity.end_broken("Socket closed")
    await asyncio.sleep(0)
    assert connectivity.under_way == 1
    channel.leave()
    assert type(await asyncio.wait_for(loss.wait(), 200)) is LinkLostError
    await asyncio.wait_for(connectivity.drained(), 200)
    await ended(connectivity)
    assert connectivity.under_way == 0


async def test_a_call_that_breaks_after_the_channel_changed() -> None:
    channel, loss = Channel(), Loss()
    connectivity = Connectivity(channel, loss, reconnects=True)
    connectivity.begin()
    channel.leave()
    connectivity.end_broken("Socket closed")
    assert connectivity.under_way == 0
    assert type(await asyncio.wait_for(loss.wait(), 200)) is LinkLostError
    await ended(connectivity)


async def test_a_call_that_breaks_when_the_channel_has_connected_again() -> None:
    """Which gRPC may have done at once: the call tells of the connection that broke."""
    channel, loss = Channel(), Loss()
    connectivity = Connectivity(channel, loss, reconnects=True)
    await asyncio.sleep(0)
    connectivity.begin()
    channel.leave()
    async with asyncio.timeout(200):
        while not connectivity.partings:
            await asyncio.sleep(0)
    channel.state = READY
    connectivity.end_broken("Socket closed")
    assert type(await asyncio.wait_for(loss.wait(), 200)) is LinkLostError
    await ended(connectivity)


async def test_a_call_that_is_looked_into_when_the_channel_has_connected_again() -> None:
    """The question itself may have made it connect."""
    channel, loss = Channel(), Loss()
    connectivity = Connectivity(channel, loss, reconnects=True)
    await asyncio.sleep(0)
    connectivity.begin()
    connectivity.end_broken("Socket closed")
    await asyncio.sleep(0)
    channel.changed.set()
    assert type(await asyncio.wait_for(loss.wait(), 200)) is LinkLostError
    await ended(connectivity)


async def test_a_call_that_ends_well_before_the_channel_changes() -> None:
    channel, loss = Channel(), Loss()
    connectivity = Connectivity(channel, loss, reconnects=True)
    await asyncio.sleep(0)
    connectivity.begin()
    connectivity.end()
    channel.leave()
    assert type(await asyncio.wait_for(loss.wait(), 200)) is GoingAwayError
    await ended(connectivity)


async def test_closing_while_a_broken_call_is_looked_into() -> None:
    channel, loss = Channel(), Loss()
    connectivity = Connectivity(channel, loss, reconnects=True)
    connectivity.begin()
    connectivity.end_broken("Socket closed")
    await asyncio.sleep(0)
    await asyncio.wait_for(ended(connectivity), 200)
    assert connectivity.under_way == 0


async def test_a_call_that_could_not_be_sent_breaks_no_other() -> None:
    """No new connection was to be had; those on the old one may still be answered."""
    channel, loss = Channel(), Loss()
    connectivity = Connectivity(channel, loss, reconnects=True)
    await asyncio.sleep(0)
    for _ in range(2):
        connectivity.begin()
    channel.leave()
    connectivity.end_broken("failed to connect to all addresses; last error: ...")
    assert loss.reason is None
    assert type(await asyncio.wait_for(loss.wait(), 200)) is GoingAwayError
    connectivity.end()
    await asyncio.wait_for(connectivity.drained(), 200)
    await ended(connectivity)


async def test_a_call_that_begins_while_the_connection_is_closed() -> None:
    """It waits: for the next connection, or for the loss of the link, and then it was certainly not sent."""
    channel, loss = Channel(), Loss()
    connectivity = Connectivity(channel, loss, reconnects=False, resumes=True)
    assert not connectivity.is_parted()
    channel.state = IDLE
    assert connectivity.is_parted()
    waiting = asyncio.create_task(connectivity.is_back())
    await asyncio.sleep(0)
    channel.state = READY
    assert await waiting
    channel.state = IDLE
    waiting = asyncio.create_task(connectivity.is_back())
    await asyncio.sleep(0)
    loss.declare(LinkLostError("the process ended"))
    assert not await waiting
    await ended(connectivity)


async def test_a_call_that_waits_for_no_answer_is_sent_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither comes, gRPC says what becomes of it."""
    monkeypatch.setattr("fsm_conn.links.grpc.connectivity.RESUMED", 0.0)
    channel, loss = Channel(), Loss()
    connectivity = Connectivity(channel, loss, reconnects=False, resumes=True)
    channel.state = IDLE
    assert await connectivity.is_back()
    await ended(connectivity)

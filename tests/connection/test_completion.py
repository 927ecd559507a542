"""Completion: `dir` of a connection and of a service shows what the peer offers, public names first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from peer import Peer, PeerLink

from fsm_conn import Connection
from fsm_conn.connection.calling.catalog import attributes, methods

OFFERS = {
    "shop.v1.Orders": ("Place", "Cancel"),
    "shop.v1.Items": ("List",),
    "calculator.Calculator": ("Add",),
    "other.Items": ("List",),
    "Bare": ("Do",),
    "a.connect": ("Do",),
}


class OfferingLink(PeerLink):
    async def offers(self) -> Mapping[str, tuple[str, ...]]:
        self.peer.calls.append(("offers", None, {}))
        if self.peer.call_outcomes:
            raise self.peer.call_outcomes.pop()
        return OFFERS


class OfferingPeer(Peer):
    def __call__(self) -> PeerLink:
        link = OfferingLink(self)
        self.made.append(link)
        return link


def test_the_names_that_services_go_by() -> None:
    """Short names, and packages with one service, where they are attributes and mean one service."""
    found = attributes(OFFERS)
    assert found["Orders"] == "shop.v1.Orders"
    assert found["calculator"] == found["Calculator"] == "calculator.Calculator"
    assert found.keys() == {"Orders", "calculator", "Calculator", "other", "Bare", "a", "connect"}
    assert methods(OFFERS, "Orders") == methods(OFFERS, "shop.v1.Orders") == ("Place", "Cancel")
    assert methods(OFFERS, "Items") == ()


async def test_the_second_look_in_the_loop_shows_them() -> None:
    """The first has the peer asked, once for each link; what is known is known while there is no link, too."""
    peer = OfferingPeer()
    conn = Connection(peer)
    assert "Orders" not in dir(conn)
    await conn.connect()
    assert "Orders" not in dir(conn)
    await asyncio.sleep(0)
    names = dir(conn)
    assert {"Orders", "calculator", "connect"} < set(names)
    first_private = next(number for number, name in enumerate(names) if name.startswith("_"))
    assert all(name.startswith("_") for name in names[first_private:])
    assert {"Place", "Cancel"} < set(dir(conn.Orders))
    assert {"Place", "Cancel"} < set(dir(conn.services["shop.v1.Orders"]))
    assert [method for method, _, _ in peer.calls] == ["offers"]
    await conn.disconnect()
    assert "Orders" in dir(conn)


async def test_a_peer_that_does_not_tell_hurts_nobody() -> None:
    """It is asked once for each link."""
    peer = OfferingPeer()
    peer.call_outcomes = [ConnectionError("no reflection")]
    async with Connection(peer) as conn:
        for _ in range(3):
            assert "Orders" not in dir(conn)
            await asyncio.sleep(0.1)
        await conn.reconnect()
        dir(conn)
        await asyncio.sleep(0)
        assert "Orders" in dir(conn)
    assert len(peer.calls) == 2


async def test_a_link_without_names_offers_none() -> None:
    """By default a link tells nothing."""
    async with Connection(Peer()) as conn:
        dir(conn)
        await asyncio.sleep(0)
        assert dir(conn.anything)
        assert methods({}, "anything") == ()

"""What a server offers, for completion: by reflection and as declared, without gRPC's own services."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_reflection.v1alpha import reflection

from fsm_conn import Connection
from fsm_conn.links.errors import UnknownNameError
from fsm_conn.links.grpc import link as link_module
from fsm_conn.links.grpc.endpoint import EndpointLink

from .server import SERVICES, serving

METHODS = ("Accumulate", "Add", "Count", "Divide", "Multiply", "Subtract", "Sum")


def reflecting(server: Any) -> None:
    reflection.enable_server_reflection(("calculator.Calculator", reflection.SERVICE_NAME), server)


@pytest.mark.parametrize("declared", [False, True])
async def test_services_and_their_methods(declared: bool) -> None:
    """From the server itself, or from what was declared of one that does not tell."""
    async with serving(services=None if declared else reflecting) as served:
        link = EndpointLink(served.address, services=SERVICES if declared else ())
        await link.open()
        offers = await link.offers()
        await link.close()
    assert {name: tuple(sorted(methods)) for name, methods in offers.items()} == {"calculator.Calculator": METHODS}


async def test_a_server_that_does_not_tell() -> None:
    """Says so; and a look at the connection shows nothing of it."""
    async with serving() as served:
        link = EndpointLink(served.address)
        await link.open()
        with pytest.raises(UnknownNameError):
            await link.offers()
        await link.close()


async def test_no_more_are_looked_up_than_a_person_would_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may list thousands."""
    monkeypatch.setattr(link_module, "MOST_OFFERED", 0)
    async with serving(services=reflecting) as served:
        link = EndpointLink(served.address)
        await link.open()
        assert await link.offers() == {}
        await link.close()


async def test_a_look_from_another_thread_waits_for_the_answer() -> None:
    """As the REPL of `python -m asyncio` does: the first Tab shows the services, and the methods of each."""
    async with serving(services=reflecting) as served, Connection(served.address) as conn:
        names = await asyncio.to_thread(dir, conn)
        assert {"calculator", "Calculator", "connect"} < set(names)
        assert set(METHODS) < set(await asyncio.to_thread(dir, conn.calculator))
        assert set(METHODS) < set(dir(conn.Calculator))

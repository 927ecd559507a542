"""What a plugin says of its services, when it says something else the next time it is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click
import grpc.aio
import pytest

from fsm_conn.cli.calling import Caller
from fsm_conn.cli.terminal import output


class Fickle:
    """Lists a service, and does not describe it."""

    async def names(self) -> tuple[str, ...]:
        return ("shop.Till",)

    async def service(self, name: str) -> Any:
        metadata = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, metadata, metadata, details="gone fishing")


async def test_a_service_that_is_listed_and_not_described_is_named() -> None:
    """In one line, as all that goes wrong; and not as a traceback."""
    conn: Any = SimpleNamespace(link=SimpleNamespace(directory=Fickle()))
    with pytest.raises(click.ClickException, match=r"^description of shop\.Till: UNAVAILABLE: gone fishing$"):
        await Caller(conn, output(), None).list_services()

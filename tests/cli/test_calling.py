"""What a plugin says of its services, when some of it cannot be read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn.cli.calling import LONGEST_DETAILS, SHOWN_FAULTS, Caller
from fsm_conn.cli.terminal import output
from fsm_conn.demo import calculator_pb2
from fsm_conn.links.errors import CallError, ConnectionLostError

GOOD = calculator_pb2.DESCRIPTOR.services_by_name["Calculator"]


def refused(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="gone fishing")


class Directory:
    """Lists services, and describes those for which it has no error."""

    def __init__(self, **services: Exception | None) -> None:
        self._services = services
        self.asked: list[str] = []

    async def names(self) -> tuple[str, ...]:
        return ("grpc.health.v1.Health", *self._services)

    async def service(self, name: str) -> Any:
        self.asked.append(name)
        if (error := self._services[name]) is not None:
            raise error
        return SimpleNamespace(full_name=name, methods=GOOD.methods)


async def listing(directory: Directory, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What is shown, and what the command ends with."""
    conn: Any = SimpleNamespace(link=SimpleNamespace(resolver=directory))
    with pytest.raises((click.ClickException, CallError)) as caught:
        await Caller(conn, output(), None).list_services()
    return capsys.readouterr().out, str(caught.value)


async def test_a_service_that_is_listed_and_not_described_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, as all that goes wrong; and not as a traceback."""
    directory = Directory(Till=refused(grpc.StatusCode.UNAVAILABLE))
    assert await listing(directory, capsys) == ("", "description of Till: UNAVAILABLE: gone fishing")


async def test_one_that_cannot_be_described_leaves_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """Those before it and after it are shown, and the error names it and says why."""
    directory = Directory(
        Alms=None, Bank=CallError("the service 'Bank' cannot be read: it is shut"), Coin=None,
        Till=refused(grpc.StatusCode.INTERNAL),
    )  # fmt: skip
    shown, said = await listing(directory, capsys)
    assert [line for line in shown.splitlines() if not line.startswith(" ")] == ["Alms", "Coin"]
    assert said == (
        "2 of 4 services cannot be shown: the service 'Bank' cannot be read: it is shut; "
        "description of Till: INTERNAL: gone fishing"
    )


@pytest.mark.parametrize(
    "error",
    [refused(grpc.StatusCode.DEADLINE_EXCEEDED), ConnectionLostError("the link was closed", maybe_executed=False)],
)
async def test_a_peer_that_hangs_or_is_gone_is_not_asked_on(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """There may be thousands of names, and each would take as long."""
    directory = Directory(Alms=None, Bank=error, Coin=None)
    shown, _ = await listing(directory, capsys)
    assert shown.startswith("Alms\n")
    assert directory.asked == ["Alms", "Bank"]


@given(are_bad=st.lists(st.booleans(), min_size=1, max_size=60))
async def test_every_service_is_shown_or_counted(are_bad: list[bool]) -> None:
    """Whichever are bad: none is lost, and the error stays short."""
    services = {f"s{number}": CallError("bad") if bad else None for number, bad in enumerate(are_bad)}
    lines: list[str] = []
    console: Any = SimpleNamespace(say=lines.append)
    conn: Any = SimpleNamespace(link=SimpleNamespace(resolver=Directory(**services)))
    said = ""
    try:
        await Caller(conn, console, None).list_services()
    except click.ClickException as error:
        said = error.message
    assert [line for line in lines if not line.startswith(" ")] == [name for name, bad in services.items() if not bad]
    assert bool(said) == any(are_bad)
    assert said.count("bad") <= SHOWN_FAULTS
    if len(are_bad) > 1 and any(are_bad):
        assert said.startswith(f"{sum(are_bad)} of {len(are_bad)} services cannot be shown: ")


async def test_what_a_peer_says_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Of an error's details there may be kilobytes, with as many lines."""
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details="a\x1b[2J\n" * 1000
    )
    _, said = await listing(Directory(Till=error), capsys)
    assert said.startswith("description of Till: INTERNAL: a a a ")
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < LONGEST_DETAILS + 100

"""One call to a connected plugin: the request comes from words, the reply is shown as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click
import grpc.aio
from google.protobuf import json_format
from google.protobuf.message import Message
from rich.highlighter import JSONHighlighter
from rich.text import Text

from fsm_conn._util.reading import read_within, why_unread
from fsm_conn._util.text import brief, named, plain_json, plain_line, said
from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.cli.messages import described, listed, message_of, message_of_json
from fsm_conn.cli.own_words import in_options
from fsm_conn.cli.terminal import Console
from fsm_conn.connection.connection import Connection
from fsm_conn.links.errors import CallError, ConnectionLostError, RequestError
from fsm_conn.links.grpc.methods import Method
from fsm_conn.links.grpc.names import is_infrastructure
from fsm_conn.links.grpc.services import ServiceResolver

__all__ = ["Caller", "as_json"]

USUAL = 30.0
"""Seconds allowed for an answer by default."""
LARGEST_REQUEST = 64 * 1024 * 1024
"""Characters of the largest request that is read from a file."""
LONGEST_DETAILS = 300
"""Characters of a peer's error details that are shown."""
SHOWN_FAULTS = 20
"""Unreadable services that are explained; a peer may list thousands."""


class Caller:
    """The operations of `fsm-conn call` on a connection.

    Args:
        conn: the connection, which is connected.
        console: the console for replies.
        timeout: seconds; None: `USUAL`, and no limit for a stream of replies.
    """

    def __init__(self, conn: Connection, console: Console, timeout: float | None) -> None:
        self._conn = conn
        self._console = console
        self._timeout = timeout

    @property
    def _directory(self) -> ServiceResolver:
        link: Any = self._conn.link
        directory: ServiceResolver = link.resolver
        return directory

    async def list_services(self) -> None:
        """Show all services."""
        everything = await self._in_time(self._directory.names(), "list of services")
        names = [name for name in everything if not is_infrastructure(name)]
        faults = [fault for name in names if (fault := await self._listed(name))]
        if not names:
            self._lines(["(no services but gRPC's own)"])
        if faults:
            raise click.ClickException(_together(faults, len(names)))

    async def _listed(self, name: str) -> str:
        """Show a service; return why it cannot be shown, or an empty text. One bad service must not hide the others.

        Raises:
            NoAnswerError: the peer hangs, so further questions are useless.
            ConnectionLostError: the peer is gone.
        """
        try:
            self._lines(listed([await self._service(name)]))
        except (NoAnswerError, ConnectionLostError):
            raise
        except (click.ClickException, CallError) as error:
            return in_options(said(error))
        return ""

    async def describe(self, name: str) -> None:
        """Show one service in full."""
        self._lines(described(await self._service(name)))

    async def _service(self, name: str) -> Any:
        return await self._in_time(self._directory.service(name), f"description of {name}")

    async def call(self, name: str, fields: tuple[str, ...], data: str | None) -> None:
        """Call a method, and show its answer."""
        method = await self._in_time(self._directory.method(name), "description of its services")
        request = _request(method, fields, data)
        if method.server_streaming:
            await within_limit(self._timeout, self._show_stream(method, request), method.name)
        else:
            reply = await self._in_time(self._conn.call(method.name, request), method.name)
            self._show(as_json(method.name, reply, indent=2 if self._console.is_terminal else None))

    async def _show_stream(self, method: Method, request: Any) -> None:
        async for reply in self._conn.stream(method.name, request):
            self._show(as_json(method.name, reply))

    async def _in_time(self, work: Any, what: str) -> Any:
        return await within_limit(USUAL if self._timeout is None else self._timeout, work, what)

    def _show(self, reply: str) -> None:
        text = Text(reply)
        if self._console.is_terminal:
            JSONHighlighter().highlight(text)
        self._console.print(text, soft_wrap=True)

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._console.say(plain_line(line))


class NoAnswerError(click.ClickException):
    """The peer did not answer in time."""


def _together(faults: list[str], services: int) -> str:
    if len(faults) == 1 == services:
        return faults[0]
    more = f"; and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
    return f"{len(faults)} of {services} services cannot be shown: {'; '.join(faults[:SHOWN_FAULTS])}{more}"


async def within_limit(seconds: float | None, work: Any, what: str) -> Any:
    """Await an answer of the peer, and turn its errors into messages."""
    try:
        return await within(seconds, work)
    except ExpiredError:
        raise NoAnswerError(f"{what}: no answer within {seconds:g} s") from None
    except grpc.aio.AioRpcError as error:
        kind = NoAnswerError if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else click.ClickException
        raise kind(
            f"{what}: {error.code().name}: {brief(error.details() or '', LONGEST_DETAILS) or 'no details'}"
        ) from None


def as_json(name: str, reply: Any, indent: int | None = None) -> str:
    """A reply as JSON. Some replies have no JSON form, such as a time out of range or an infinite value."""
    try:
        data = json_format.MessageToDict(
            reply,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            descriptor_pool=reply.DESCRIPTOR.file.pool,
        )
        return plain_json(json.dumps(data, ensure_ascii=False, indent=indent))
    except Exception as error:  # the library raises errors of many kinds
        raise click.ClickException(f"{name}: the reply has no form in JSON: {brief(named(error))}") from None


def _request(method: Method, fields: tuple[str, ...], data: str | None) -> Any:
    if method.client_streaming:
        return _stream(method, fields, data)
    if data is None:
        return message_of(method.request_class, fields)
    documents = list(_documents(data))
    if len(documents) != 1:
        raise RequestError(f"{method.name} takes one request, and --json has {len(documents)}")
    return message_of_json(method.request_class, documents[0])


def _stream(method: Method, fields: tuple[str, ...], data: str | None) -> list[Message]:
    if data is None:
        if fields:
            return [message_of(method.request_class, fields)]
        raise RequestError(f"{method.name} takes a stream: give --json an array of requests, or one a line")
    documents = list(_documents(data))
    if len(documents) == 1 and isinstance(documents[0], list):
        documents = documents[0]
    return [message_of_json(method.request_class, each) for each in documents]


def _documents(data: str) -> Iterator[Any]:
    """The JSON values of a text, separated only by whitespace."""
    text, decoder, at = _read(data), json.JSONDecoder(), 0
    while rest := text[at:].lstrip():
        at = len(text) - len(rest)
        try:
            document, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"--json is not valid: {error}") from None
        yield document


def _read(data: str) -> str:
    if data == "-":
        return sys.stdin.read(LARGEST_REQUEST)
    if not data.startswith("@"):
        return data
    try:
        return read_within(data[1:], LARGEST_REQUEST)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot read {data[1:]!r}: {why_unread(error)}") from None

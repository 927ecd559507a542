"""`fsm-conn call`: starts a plugin, makes one call, and ends the plugin; or calls a running server."""

from __future__ import annotations

from typing import Any

import click

from fsm_conn._util.text import said
from fsm_conn.cli.ending import run_to_end
from fsm_conn.cli.options import pb2_modules, seconds
from fsm_conn.cli.peer import Peer, PeerCommand, peer_options, show_plugin_output
from fsm_conn.cli.terminal import output
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.errors import ConnectFailedError
from fsm_conn.connection.policy import RetryPolicy

__all__ = ["command"]

ONE_ATTEMPT = RetryPolicy(max_attempts=1)


@click.command(
    cls=PeerCommand,
    epilog="""\b
Examples:
  fsm-conn call calculator.Add a=5 b=3 -- python -m fsm_conn.demo.calculator
  fsm-conn call calculator.Count --json '{"limit": 3}' -- python -m fsm_conn.demo.calculator
  fsm-conn call --list -- ./plugin --verbose
  fsm-conn call --list --cacert ca.pem --metadata authorization=token -- etcd:2379""",
)
@click.argument("method", required=False, metavar="[SERVICE.METHOD]")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option(
    "--json",
    "data",
    metavar="DATA",
    help="The request as JSON; @FILE reads it from a file, - from stdin. "
    "For a method that takes a stream: an array, or one request a line.",
)
@click.option("--list", "lists", is_flag=True, help="List the services, and their methods with their types.")
@click.option("--describe", metavar="SERVICE", help="Show a service as in a .proto file, with its messages.")
@seconds("--timeout", "Seconds for the answer. By default 30, and no limit for a stream of replies.")
@click.option(
    "--services",
    multiple=True,
    callback=pb2_modules,
    metavar="MODULE",
    help="The generated _pb2 module of a peer without server reflection.",
)
@peer_options
def command(
    method: str | None,
    fields: tuple[str, ...],
    data: str | None,
    lists: bool,
    describe: str | None,
    timeout: float | None,
    services: tuple[Any, ...],
    peer: Peer,
) -> None:
    """Call a method of a plugin, which is started and ended, or of a server, and print the reply as JSON.

    FIELD=VALUE is read as the type of the field: numbers, true and false, names of enum values, bytes in base64,
    messages as JSON. A repeated field is given once for each item; a.b=1 is the field b of the message a. Names in
    replies are those of the .proto file; a stream of replies is one line of JSON each.
    """
    _check(method, fields, data, lists, describe)
    if peer.verbose:
        show_plugin_output()
    conn = Connection(peer.target(), retry=ONE_ATTEMPT, start_timeout=peer.start_timeout, services=services)
    run_to_end(_run(conn, method or "", fields, data, lists, describe, timeout))


def _check(method: str | None, fields: tuple[str, ...], data: str | None, lists: bool, describe: str | None) -> None:
    if (method is not None) + lists + (describe is not None) != 1:
        raise click.UsageError("Give a method, such as calculator.Add, or --list, or --describe SERVICE.")
    if fields and data is not None:
        raise click.UsageError("Give fields or --json, not both.")
    if data is not None and method is None:
        raise click.UsageError("--json goes with a method.")


async def _run(
    conn: Connection,
    method: str,
    fields: tuple[str, ...],
    data: str | None,
    lists: bool,
    describe: str | None,
    timeout: float | None,
) -> None:
    try:
        async with conn:
            # This imports grpc. The link has imported it by now, while the plugin started.
            from fsm_conn.cli.calling import Caller

            caller = Caller(conn, output(), timeout)
            if lists:
                await caller.list_services()
            elif describe is not None:
                await caller.describe(describe)
            else:
                await caller.call(method, fields, data)
    except ConnectFailedError as error:
        raise click.ClickException(said(error.reason or error)) from None

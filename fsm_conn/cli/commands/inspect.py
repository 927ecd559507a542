"""`fsm-conn inspect`: shows a machine in the browser: a plugin's or server's connection, a trace, or a class.

The arguments decide what is shown: a peer after `--` is connected to and supervised, `module:Class` is a table to walk
by hand, and anything else is a trace to replay.
"""

from __future__ import annotations

import asyncio
import html
import tempfile
import webbrowser
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import click

from fsm_conn._util.reading import lines_within
from fsm_conn._util.text import plain_line
from fsm_conn.cli.ending import run_to_end
from fsm_conn.cli.machines import Machine, is_machine
from fsm_conn.cli.options import number, seconds
from fsm_conn.cli.peer import Peer, PeerCommand, peer_options, show_plugin_output
from fsm_conn.cli.traces import transitions_in
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.errors import ConnectFailedError
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy
from fsm_conn.machine.chart import ChartError
from fsm_conn.machine.machine import StateMachine
from fsm_conn.testing.tracefile import LONGEST_LINE, ConformanceError, TraceLine, lines_of

__all__ = ["command"]

MOST_LINES = 500_000
"""The most transitions of a trace that are kept."""

Opened = Callable[[Any], Coroutine[Any, Any, None]]


class _Table(Machine):
    """An argument that names an object with a table: a class, or a `transitions.Machine`."""

    def fits(self, value: Any) -> bool:
        return is_machine(value)


class _Class(Machine):
    kind = "class with a table of states"

    def fits(self, value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, StateMachine)


@click.command(
    cls=PeerCommand,
    epilog="""\b
Examples:
  fsm-conn inspect -- python -m fsm_conn.demo.calculator
  fsm-conn inspect --speed 10 life.jsonl
  fsm-conn inspect app.orders:Order""",
)
@click.argument("what", required=False, metavar="[TRACE | MODULE:CLASS]")
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="The port of the page; 0: a free one.",
)
@click.option("--open/--no-open", "opens", default=False, help="Open the page in the browser.")
@click.option("--allow", "allows", is_flag=True, help="Peer: show buttons on the page that act on the connection.")
@seconds("--interval", "Peer: seconds between two health probes.", default=2.0, least=0.01)
@number("--attempts", "Peer: attempts in one outage, the first one included.", default=5)
@seconds("--recover-after", "Peer: seconds after giving up before another attempt.", default=10.0)
@click.option(
    "--class",
    "machine",
    type=_Class(),
    default="fsm_conn:Connection",
    show_default=True,
    metavar="MODULE:CLASS",
    help="Trace: the class that it is of.",
)
@click.option(
    "--speed",
    metavar="FACTOR",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=1.0,
    show_default=True,
    help="Trace: the speed of the replay.",
)
@peer_options
def command(
    what: str | None,
    port: int,
    opens: bool,
    allows: bool,
    interval: float,
    attempts: int,
    recover_after: float,
    machine: type[StateMachine],
    speed: float,
    peer: Peer,
) -> None:
    """Show a state machine in the browser, until Ctrl-C.

    Give one of three. A plugin's command, or an address, after --: the peer is connected to and supervised. TRACE, a
    file that fsm_conn.testing.TraceWriter wrote: the recorded life is replayed. MODULE:CLASS: you walk the table by
    hand, and no code of the class runs. Only this machine can open the page, by the address that is printed, and the
    page loads nothing from elsewhere.
    """
    if (what is None) == (not peer.words):
        raise click.UsageError("Give a trace, a module:Class, or a peer after '--'; one of them.")
    acts = ("connect", "disconnect", "fire", "reconnect") if allows else ()
    if what is None:
        opened = _supervising(peer, interval, attempts, recover_after)
    elif ":" in what and not Path(what).exists():
        opened = _walking(_Table().convert(what, None, None))
    else:
        opened = _replaying(what, machine, speed)
    run_to_end(_inspect(opened, port, opens, acts))


async def _inspect(opened: Opened, port: int, opens: bool, allow: tuple[str, ...]) -> None:
    """Serve the page, and run what it shows."""
    from fsm_conn.inspector import Inspector  # it needs an extra

    inspector = Inspector(port=port, allow=allow)
    try:
        await inspector.start()
    except OSError as error:
        raise click.ClickException(f"cannot listen on port {port}: {error.strerror}; give another --port") from None
    try:
        click.echo(f"Look at {inspector.url}  (Ctrl-C ends it)")
        with tempfile.TemporaryDirectory(prefix="fsm-conn-") as private:
            if opens:
                await asyncio.to_thread(webbrowser.open, _leading_to(inspector.url, Path(private)))
            await opened(inspector)
    finally:
        await inspector.aclose()


def _leading_to(url: str, private: Path) -> str:
    """The address of a file that redirects to `url`: every user of the system can see a browser's command line."""
    file = private / "inspect.html"
    file.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(url)}">', "utf-8")
    return file.as_uri()


def _supervising(peer: Peer, interval: float, attempts: int, recover_after: float) -> Opened:
    if peer.verbose:
        show_plugin_output()
    target = peer.target()

    async def supervise(inspector: Any) -> None:
        conn = Connection(
            target,
            retry=RetryPolicy(max_attempts=attempts, recover_after=recover_after),
            health=HealthPolicy(interval=interval),
            start_timeout=peer.start_timeout,
        )
        inspector.watch(conn)
        try:
            with suppress(ConnectFailedError):  # the page shows it, and the connection tries again later
                await conn.connect()
            await asyncio.Event().wait()
        finally:
            await conn.disconnect()

    return supervise


def _walking(machine: Any) -> Opened:
    async def walk(inspector: Any) -> None:
        try:
            inspector.walk(machine)
        except ChartError as error:
            raise click.ClickException(str(error)) from None
        await asyncio.Event().wait()

    return walk


def _replaying(path: str, machine: type[StateMachine], speed: float) -> Opened:
    lines = _lines(path)

    async def replay(inspector: Any) -> None:
        await inspector.replay(lines, machine, speed=speed).run()

    return replay


def _lines(path: str) -> list[TraceLine]:
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            lines = list(islice(lines_of(transitions_in(lines_within(file, LONGEST_LINE))), MOST_LINES + 1))
    except OSError as error:
        raise click.ClickException(f"cannot read {plain_line(path)!r}: {error.strerror}") from None
    except ConformanceError as error:
        raise click.ClickException(f"{plain_line(path)}: {error}") from None
    if not lines:
        raise click.ClickException(f"{plain_line(path)}: it has no transition")
    if len(lines) > MOST_LINES:
        raise click.ClickException(f"{plain_line(path)}: more than {MOST_LINES:,} transitions; give a part of it")
    return lines

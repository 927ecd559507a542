"""`fsm-conn watch`: starts a plugin, watches it, and starts it again when it is lost, until the user stops it.

The output comes from an ordinary `Connection`: its transitions, its health, its counts. Transitions wait in a queue
until they are shown, because an observer must neither write nor fail.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import click

from fsm_conn._util.timing import ExpiredError, within
from fsm_conn.cli.drawing import first_line
from fsm_conn.cli.ending import run_to_end
from fsm_conn.cli.options import number, seconds
from fsm_conn.cli.peer import Peer, PeerCommand, peer_options, show_plugin_output
from fsm_conn.cli.terminal import drawing, output
from fsm_conn.cli.timed import TimedFactory
from fsm_conn.cli.views import Facts, JsonView, LineView, LiveView, View, now
from fsm_conn.connection.connection import Connection
from fsm_conn.connection.counting.metrics import Metrics
from fsm_conn.connection.errors import ConnectFailedError
from fsm_conn.connection.policy import HealthPolicy, RetryPolicy
from fsm_conn.connection.prober import HealthStatus
from fsm_conn.connection.records import ConnectionRecord
from fsm_conn.connection.table import ConnectionState

__all__ = ["command"]

REFRESH = 0.25
"""Seconds after which the drawing is refreshed when nothing happens."""
KEPT = 60
"""The number of latencies that are kept."""


@click.command(
    cls=PeerCommand,
    epilog="""\b
Examples:
  fsm-conn watch -- python -m fsm_conn.demo.calculator
  fsm-conn watch --interval 1 --attempts 10 -- ./plugin --verbose
  fsm-conn watch -- 127.0.0.1:50051
  fsm-conn watch --json -- ./plugin > life.jsonl; fsm-conn trace life.jsonl""",
)
@seconds("--interval", "Seconds between two health probes.", default=2.0, least=0.01)
@seconds("--probe-timeout", "Seconds for the answer to a probe.", default=2.0)
@number("--threshold", "Failed probes in a row that count as a lost link.", default=3)
@number("--attempts", "Attempts in one outage, the first one included.", default=5)
@seconds("--recover-after", "Seconds after giving up before another attempt. By default the command ends then.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a line of JSON for each transition and each change of health."
)
@peer_options
def command(
    interval: float,
    probe_timeout: float,
    threshold: int,
    attempts: int,
    recover_after: float | None,
    as_json: bool,
    peer: Peer,
) -> None:
    """Supervise a plugin: start it, probe its health, start it again when it is lost, and show all of it as it happens.
    A server at an address is watched in the same way, and reached again when it is lost.

    Ends with status 1 when the policy gives up. Ctrl-C ends the command, with status 130, and the plugin with it.
    """
    if peer.verbose:
        show_plugin_output()
    target = peer.target()
    latencies: deque[float] = deque(maxlen=KEPT)
    conn = Connection(
        TimedFactory(target.maker(None, target.name), latencies.append),
        name=target.name,
        retry=RetryPolicy(max_attempts=attempts, recover_after=recover_after),
        health=HealthPolicy(interval=interval, timeout=probe_timeout, failure_threshold=threshold),
        start_timeout=peer.start_timeout,
    )
    console = output()
    if as_json:
        run_to_end(_Watch(conn, latencies, JsonView(console, type(conn).__name__)).run(), while_read=True)
    elif not console.is_terminal:
        run_to_end(_Watch(conn, latencies, LineView(console)).run(), while_read=True)
    else:
        with drawing(console) as live:
            run_to_end(_Watch(conn, latencies, LiveView(console, live, " ".join(peer.words))).run())


class _Watch:
    """One connection, from its first attempt to its end, and the view that shows it."""

    def __init__(self, conn: Connection, latencies: deque[float], view: View) -> None:
        self._conn = conn
        self._latencies = latencies
        self._view = view
        self._metrics = Metrics()
        self._news: asyncio.Queue[tuple[ConnectionRecord, Facts]] = asyncio.Queue()
        self._health = conn.health_status

    async def run(self) -> None:
        """Run until the policy gives up for good, or the user stops it.

        Raises:
            click.ClickException: the connection has given up.
        """
        self._clock = asyncio.get_running_loop().time
        self._began, self._began_at = now(), self._clock()
        self._metrics.watch(self._conn)
        self._conn.on_transition(lambda record: self._news.put_nowait((record, self._facts(record))))
        life = asyncio.ensure_future(self._live())
        try:
            while not (life.done() and self._news.empty()):
                await self._show_next()
            reason = life.result()
        finally:
            life.cancel()
            await self._conn.disconnect()
            self._show_rest()
        attempts = self._conn.attempt
        when = "at the first attempt" if attempts == 1 else f"after {attempts} attempts"
        raise click.ClickException(f"given up {when}: {first_line(reason)}")

    async def _live(self) -> BaseException | None:
        """Connect, and return the reason once the connection has given up."""
        with suppress(ConnectFailedError):  # the transitions show it
            await self._conn.connect()
        await self._conn.wait_for_state(ConnectionState.FAILED)
        if self._conn.retry.recover_after is not None:
            await asyncio.Event().wait()  # the connection keeps trying until the user stops it
        return self._conn.reason

    async def _show_next(self) -> None:
        try:
            self._show(*await within(REFRESH, self._news.get()))
        except ExpiredError:
            self._view.refresh(self._facts())

    def _show_rest(self) -> None:
        while not self._news.empty():
            self._show(*self._news.get_nowait())

    def _show(self, record: ConnectionRecord, facts: Facts) -> None:
        moment = self._moment(record)
        self._view.moved(moment, record, facts)
        if facts.health != self._health:
            self._health = facts.health
            self._view.health(moment, facts)

    def _moment(self, record: ConnectionRecord) -> datetime:
        return self._began + timedelta(seconds=record.at - self._began_at)

    def _facts(self, record: ConnectionRecord | None = None) -> Facts:
        # No probe can have tested a state that was entered just now.
        health = self._conn.health_status if record is None or record.internal else HealthStatus.UNKNOWN
        link: Any = self._conn.link
        since, most = self._metrics.connected_since, self._conn.retry.max_attempts
        return Facts(
            name=self._conn.name,
            pid=getattr(link, "pid", None),
            state=self._conn.state,
            health=health,
            attempt=self._conn.attempt,
            attempts=str(most),
            losses=self._metrics.losses,
            uptime=None if since is None else self._clock() - since,
            latencies=tuple(self._latencies),
        )

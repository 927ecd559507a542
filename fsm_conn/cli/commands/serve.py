"""`fsm-conn serve`: serves plugins of this machine to other machines."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import click

from fsm_conn._util.text import plain_line
from fsm_conn.cli.ending import run_to_end
from fsm_conn.cli.options import number, seconds
from fsm_conn.cli.terminal import output
from fsm_conn.cluster.errors import ServeError
from fsm_conn.cluster.recipe import Recipe, ServeLimits, TlsFiles, Token
from fsm_conn.cluster.serving.readiness import notify
from fsm_conn.cluster.serving.server import Server
from fsm_conn.links.target import Plugin

__all__ = ["command"]

_DEFAULTS = ServeLimits()
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _ServeCommand(click.Command):
    """A command with a plugin after `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Separate the words after the first `--`."""
        at = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:at])
        ctx.params["words"] = tuple(args[at + 1 :])
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The options, and the plugin."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND..."]


@click.command(
    cls=_ServeCommand,
    epilog="""\b
Examples:
  fsm-conn serve -- python -m fsm_conn.demo.calculator
  fsm-conn serve --listen 0.0.0.0:7000 --cert c.pem --key k.pem --cacert ca.pem -n 2 -- ./plugin
  fsm-conn serve --listen 0.0.0.0:7000 --cert c.pem --key k.pem --token-env TOKEN -- ./plugin

SIGTERM announces the end, has clients hang up when their calls are answered, and exits with 0; a second one does not
wait. systemd is told by sd_notify when it is ready (Type=notify).""",
)
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    metavar="HOST:PORT",
    help="The address to listen at; port 0: any free port.",
)
@click.option("--health", metavar="HOST:PORT", help="The address of the health service of this server.")
@click.option(
    "--plugins",
    "-n",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="How many plugin processes to start.",
)
@click.option("--cert", type=_FILE, help="The server's certificate, PEM.")
@click.option("--key", type=_FILE, help="The key of the certificate, PEM.")
@click.option(
    "--cacert", type=_FILE, help="The authorities of clients' certificates, PEM; clients then need a certificate."
)
@click.option("--token-env", metavar="NAME", help="The environment variable with a token that clients must show.")
@click.option("--token-file", type=_FILE, help="The same, from a file.")
@number("--max-connections", "Simultaneous connections of clients.", default=_DEFAULTS.max_connections)
@seconds("--drain-timeout", "Seconds for calls under way at the end.", default=_DEFAULTS.drain_timeout)
@seconds("--start-timeout", "Seconds for the start of a plugin.", default=60.0)
def command(words: tuple[str, ...], listen: str, health: str | None, **options: Any) -> None:
    """Serve plugins of this machine to other machines. Each connection is joined to the plugin with the fewest.

    Prints a line with the address when all plugins are up. Beyond loopback it needs --cert, --key and --cacert, so that
    clients need a certificate; or --cert, --key and a token.
    """
    if not words:
        raise click.UsageError("Give the plugin's command after '--', such as '-- python plugin.py'.")
    try:
        server = Server(_recipe(words, **options), listen, health=health)
    except (ValueError, TypeError, ServeError) as error:
        raise click.UsageError(f"{error}.") from None
    run_to_end(_run(server))


def _recipe(
    words: tuple[str, ...],
    *,
    plugins: int,
    cert: Path | None,
    key: Path | None,
    cacert: Path | None,
    token_env: str | None,
    token_file: Path | None,
    max_connections: int,
    drain_timeout: float,
    start_timeout: float,
) -> Recipe:
    if (cert is None) != (key is None):
        raise click.UsageError("Give both --cert and --key, or neither.")
    if cacert is not None and cert is None:
        raise click.UsageError("--cacert goes with --cert and --key.")
    if token_env is not None and token_file is not None:
        raise click.UsageError("Give --token-env or --token-file, not both.")
    has_token = token_env is not None or token_file is not None
    return Recipe(
        plugin=Plugin(words),
        plugins=plugins,
        tls=None if cert is None else TlsFiles(certificate=cert, key=key, authorities=cacert),
        token=Token(env=token_env, file=None if token_file is None else str(token_file)) if has_token else None,
        start_timeout=start_timeout,
        limits=ServeLimits(max_connections=max_connections, drain_timeout=drain_timeout),
    )


async def _run(server: Server) -> None:
    """Serve until told to stop."""
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        notify("STOPPING=1", "STATUS=draining")
        stopping.append(asyncio.create_task(server.stop()))  # the second time, it does not wait

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)
    try:
        await server.start_serving()
        notify("READY=1", f"STATUS=serving at {server.address}")
        where = f", health at {server.health_address}" if server.health_address else ""
        output().say(plain_line(f"serving {server.recipe.plugin.name} at {server.address}{where}"))
        await server.wait_closed()
    except ServeError:
        if not stopping:  # otherwise it was stopped while it started
            raise
    finally:
        await server.stop()
        await asyncio.gather(*stopping)
